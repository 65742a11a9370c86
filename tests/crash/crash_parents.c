/* crash_parents.c - power cuts while an image gets another parent, or loses its data
 *
 * At every instant the image is right on the old parent or on the new one, and what is left is
 * mended by the next writer; parents are never touched.  With a writer beside (D held) as without.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/io-file.h"
#include "libvhd/lock.h"
#include "scene.h"
#include "sys.h"

#define CHILD  "c.vhd"
#define OTHER  "o.vhd"
#define LONGER "a-name-that-is-a-good-deal-longer-than-those-before-it-and-needs-more-room.vhd"

struct job {
	const char *name;
	int (*run)(const struct job *job, struct vhd_error *err);
	const char *parent; /* the new one */
	const char *creator;
	bool beside;
};

static struct scene s;
static const struct job *job;
static const char *parent; /* the new one, this time */
static bool done;
static uint8_t on_old[SCENE_BYTES], on_new[SCENE_BYTES], other[SCENE_BYTES], buf[SCENE_BYTES];
static uint8_t own[SCENE_BYTES]; /* 1: a sector that the child has itself */
static unsigned long as_before, as_after, between;

/* The buffers of scene_path() are used again while the operation runs. */
static const char *keep(char out[256], const char *name)
{
	snprintf(out, 256, "%s", scene_path(s.now, name));
	return out;
}

static int reparent(const struct job *j, struct vhd_error *err)
{
	char child[256], new[256];
	struct vhd_modify_options o = { .parent = keep(new, parent) };

	(void)j;
	return vhd_modify(keep(child, CHILD), &o, err);
}

static int empty(const struct job *j, struct vhd_error *err)
{
	struct vhd_modify_options o = { .zero = true };
	char child[256];

	(void)j;
	return vhd_modify(keep(child, CHILD), &o, err);
}

static int resize_file(const struct job *j, struct vhd_error *err)
{
	struct vhd_modify_options o = { .physical_size = 2u << 20 };
	char child[256];
	int rc = vhd_modify(keep(child, CHILD), &o, err);

	(void)j;
	o.physical_size = 1u << 20;
	return rc ? rc : vhd_modify(child, &o, err);
}

static int rebase(const struct job *j, struct vhd_error *err)
{
	char child[256], new[256];
	struct vhd_rebase_options o = { .parent = keep(new, parent) };

	(void)j;
	return vhd_rebase(keep(child, CHILD), &o, NULL, err);
}

static const struct job jobs[] = {
	{ "another parent", reparent, OTHER, .creator = NULL },
	{ "a longer path", reparent, LONGER, .creator = NULL },
	{ "another parent beside a writer", reparent, OTHER, .beside = true },
	{ "a longer path beside a writer", reparent, LONGER, .beside = true },
	{ "the same contents on another parent", rebase, OTHER, .creator = NULL },
	{ "no data", empty, NULL, .creator = NULL },
	{ "another length", resize_file, NULL, .creator = NULL },
};

/* ── the world ── */

static void make_other(const char *name)
{
	struct vhd_create_options o = {
		.type = VHD_TYPE_DYNAMIC, .size = s.size, .block_size = 4096, .force = true
	};
	struct vhd_open_options write = { .flags = VHD_OPEN_WRITE };
	const char *path = scene_path(s.now, name);
	struct vhd_chain *chain;
	struct vhd_error err;

	memset(other, 0, sizeof(other));
	scene_must(&s, vhd_create(path, &o, &err), &err, "create");
	scene_must(&s, vhd_open(path, &write, &chain, &err), &err, "open");
	for (int i = 0; i < 6; i++)
		scene_scribble(&s, chain, other);
	scene_must(&s, vhd_close(chain, &err), &err, "close");
}

/* The child of the chain's top, with sectors of its own. */
static void make_child(void)
{
	struct vhd_snapshot_options o = { .raw_parent = s.depth == 1 && s.raw_base,
					  .link_empty = true,
					  .block_size = 4096 };
	struct vhd_open_options write = { .flags = VHD_OPEN_WRITE };
	const char *path = scene_path(s.now, CHILD);
	struct vhd_chain *chain;
	struct vhd_error err;

	scene_must(&s, vhd_snapshot(path, scene_level(s.now, s.depth - 1), &o, &err), &err,
		   "snapshot");
	memset(own, 0, sizeof(own));
	memcpy(on_old, s.data[s.depth - 1], s.size);
	scene_must(&s, vhd_open(path, &write, &chain, &err), &err, "open");
	for (uint64_t i = scene_below(&s, 6); i; i--) {
		uint64_t sector = scene_below(&s, s.size / 512);

		memset(on_old + sector * 512, (int)i, 512);
		own[sector] = 1;
		scene_must(&s, vhd_write(chain, on_old + sector * 512, 512, sector * 512, &err),
			   &err, "write");
	}
	scene_must(&s, vhd_close(chain, &err), &err, "close");
}

static void expect_new(void)
{
	const uint8_t *base = parent ? other : s.data[s.depth - 1];

	memcpy(on_new, job->run == rebase ? on_old : base, s.size);
	for (uint64_t i = 0; i < s.size / 512 && job->run != empty; i++)
		if (own[i])
			memcpy(on_new + i * 512, on_old + i * 512, 512);
}

/* ── what a cut leaves ── */

/* Each sector is the one or the other. */
static bool is_between(void)
{
	for (uint64_t i = 0; i < s.size; i += 512)
		if (memcmp(buf + i, on_old + i, 512) != 0 && memcmp(buf + i, on_new + i, 512) != 0)
			return false;
	return true;
}

/* A writer opens it, and what was half done is mended: then all is clean. */
static void look_mended(const char *path)
{
	static uint8_t after[SCENE_BYTES];
	struct vhd_open_options write = { .flags = VHD_OPEN_WRITE };
	struct vhd_chain *chain;
	struct vhd_error err;

	scene_must(&s, vhd_open(path, &write, &chain, &err), &err, "open for writing");
	scene_must(&s, vhd_close(chain, &err), &err, "close");
	scene_must(&s, scene_read(&s, path, false, after, &err), &err, "read when mended");
	if (memcmp(after, buf, s.size) != 0)
		scene_die(&s, NULL, "%s: mending changed the contents", job->name);
	scene_check(&s, path, SCENE_MENDED, job->name);
}

static void look(struct scene *unused)
{
	struct vhd_error err;
	char path[256];

	(void)unused;
	snprintf(path, sizeof(path), "%s", scene_path(s.cut, CHILD));
	scene_must(&s, scene_read(&s, path, false, buf, &err), &err, job->name);
	if (!done && !memcmp(buf, on_old, s.size))
		as_before++;
	else if (!memcmp(buf, on_new, s.size))
		as_after++;
	else if (job->run == empty && !done && is_between())
		between++;
	else
		scene_die(&s, NULL, "%s: neither old nor new", job->name);
	/* a longer file has room behind its data, where the old footer was */
	scene_check(&s, path,
		    !done		    ? SCENE_CUT :
		    job->run == resize_file ? SCENE_MENDED :
					      SCENE_CLEAN,
		    job->name);
	for (unsigned i = 0; i < s.depth; i++)
		scene_expect(&s, scene_level(s.cut, i), !i && s.raw_base, s.data[i], "a parent");
	if (parent)
		scene_expect(&s, scene_path(s.cut, parent), false, other, "the new parent");
	if (!done)
		look_mended(path);
}

static void operation(struct scene *unused)
{
	struct vhd_error err;

	(void)unused;
	scene_must(&s, job->run(job, &err), &err, job->name);
}

static void play(unsigned long long seed)
{
	struct vhd_io *writer = NULL;
	struct vhd_error err;

	scene_begin(&s, seed);
	scene_chain(&s, 1 + (unsigned)scene_below(&s, 3), true);
	make_child();
	done = false;
	if (job->beside) {
		scene_must(&s, io_file_open(scene_path(s.now, CHILD), IO_FILE_WRITE, &writer, &err),
			   &err, "open");
		scene_must(&s, lock_take(writer, LOCK_WRITE, NULL, 0, NULL, &err), &err, "lock");
	}
	/* twice, so that it is done from every place that the header may have */
	for (int round = 0; round < 2; round++) {
		char name[128];

		snprintf(name, sizeof(name), "%d%s", round, job->parent ? job->parent : "");
		parent = job->parent ? name : NULL;
		if (parent)
			make_other(parent);
		expect_new();
		scene_play(&s, operation, look);
		done = true;
		look(&s);
		done = false;
		memcpy(on_old, on_new, s.size);
	}
	io_close(writer);
	scene_end(&s);
}

int main(void)
{
	unsigned long long first, count;

	scene_seeds(3, &first, &count);
	for (unsigned long long i = 0; i < count; i++)
		for (job = jobs; job < jobs + sizeof(jobs) / sizeof(jobs[0]); job++)
			play(first + i);
	scene_finish(&s);
	printf("%llu rounds, %lu cuts: as before %lu times, as after %lu, between %lu\n", count,
	       s.cuts, as_before, as_after, between);
	return !as_before || !as_after;
}
