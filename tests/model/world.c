/* world.c - the disks of a chain, their names, and the end of a world */
#include "world.h"

#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void world_die(const struct world *w, const struct vhd_error *err, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "seed %llu: ", w->seed);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "%s%s\nrepeat with SEED=%llu; images are in %s\n", err ? ": " : "",
		err ? err->text : "", w->seed, w->dir);
	exit(1);
}

void world_begin(struct world *w, unsigned long long seed, bool plain)
{
	w->seed = seed;
	w->rng.state = seed * 0x2545f4914f6cdd1dull + 1;
	w->depth = 0;
	w->odd = w->stray = false;
	w->plain = plain;
	w->names = 0;
	snprintf(w->dir, sizeof(w->dir), "%s/w%u", w->base, ++w->dirs);
	if (mkdir(w->dir, 0700) < 0 || mkdir(world_path(w, "sub"), 0700) < 0)
		world_die(w, NULL, "cannot make a directory");
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void world_end(struct world *w)
{
	while (w->depth)
		free(w->chain[--w->depth].data);
	if (nftw(w->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS))
		world_die(w, NULL, "cannot remove the directory");
}

const char *world_path(const struct world *w, const char *name)
{
	static char paths[4][256];
	static unsigned turn;
	char *p = paths[turn++ % 4];

	snprintf(p, sizeof(paths[0]), "%s/%s", w->dir, name);
	return p;
}

struct vhd_parents world_parents(const struct world *w)
{
	static const char *list[2];

	list[0] = w->dir;
	return (struct vhd_parents){ .roots = list };
}

void world_add(struct world *w, const char *name, uint64_t size, bool raw)
{
	struct disk *d = &w->chain[w->depth++];

	memset(d, 0, sizeof(*d));
	snprintf(d->name, sizeof(d->name), "%s", name);
	d->size = size;
	d->raw = raw;
	d->data = calloc(1, WORLD_BYTES);
	if (!d->data)
		world_die(w, NULL, "no memory");
	if (w->depth > 1)
		memcpy(d->data, d[-1].data, d[-1].size < size ? d[-1].size : size);
	if (w->depth > w->counts.deepest)
		w->counts.deepest = w->depth;
}

void world_drop(struct world *w, unsigned index, bool remove_file)
{
	struct disk *d = &w->chain[index];

	if (!remove_file)
		w->stray = true;
	else if (unlink(world_path(w, d->name)) < 0)
		world_die(w, NULL, "cannot remove %s", d->name);
	free(d->data);
	memmove(d, d + 1, (w->depth - index - 1) * sizeof(*d));
	w->depth--;
}

void world_new_name(struct world *w, char name[64])
{
	const char *directory = w->plain || world_below(w, 4) ? "" : "sub/";
	const char *rest = world_below(w, 8) ? ".vhd" : " \303\274 \347\243\201.vhd";

	snprintf(name, 64, "%sd%u%s", directory, w->names++, rest);
}

uint32_t world_block_size(struct world *w)
{
	static const uint32_t sizes[] = { 4096, 4096, 8192, 16384, 65536, 524288, 2097152 };

	return sizes[world_below(w, sizeof(sizes) / sizeof(sizes[0]))];
}
