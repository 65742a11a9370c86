/* scene.c - making chains, interrupting, comparing */
#include "scene.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/copy.h"
#include "sys.h"

static char base[64];
static unsigned threads;
static struct scene *playing;
static void (*looking)(struct scene *s);

/* Without threads the order of things depends on the seed alone. */
int __real_copy_start(unsigned count, unsigned jobs, struct copier **out);
int __wrap_copy_start(unsigned count, unsigned jobs, struct copier **out);
int __wrap_copy_start(unsigned count, unsigned jobs, struct copier **out)
{
	return __real_copy_start(threads ? count : 0, jobs, out);
}

void scene_die(const struct scene *s, const struct vhd_error *err, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "seed %llu: ", s->seed);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "%s%s\nrepeat with SEED=%llu; images are in %s and %s\n", err ? ": " : "",
		err ? err->text : "", s->seed, s->now, s->cut);
	exit(1);
}

void scene_must(const struct scene *s, int rc, const struct vhd_error *err, const char *what)
{
	if (rc)
		scene_die(s, err, "%s", what);
}

static void empty(const char *directory)
{
	DIR *dir = opendir(directory);
	struct dirent *e;

	if (!dir)
		return;
	while ((e = readdir(dir)))
		unlinkat(dirfd(dir), e->d_name, 0);
	closedir(dir);
}

void scene_begin(struct scene *s, unsigned long long seed)
{
	s->seed = seed;
	s->rng.state = seed * 0x2545f4914f6cdd1dull + 1;
	threads = seed % 4 == 3; /* every fourth with them */
	if (!base[0]) {
		snprintf(base, sizeof(base), "%s/vhd-crash.XXXXXX",
			 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
		if (!mkdtemp(base))
			abort();
		snprintf(s->now, sizeof(s->now), "%s/now", base);
		snprintf(s->cut, sizeof(s->cut), "%s/cut", base);
		snprintf(s->next, sizeof(s->next), "%s/next", base);
		mkdir(s->now, 0700);
		mkdir(s->cut, 0700);
		mkdir(s->next, 0700);
	}
	empty(s->now);
	empty(s->next);
	s->depth = 0;
	s->raw_base = false;
	s->shrunk = false;
}

void scene_end(struct scene *s)
{
	while (s->depth)
		free(s->data[--s->depth]);
}

void scene_finish(struct scene *s)
{
	empty(s->now);
	empty(s->cut);
	empty(s->next);
	rmdir(s->now);
	rmdir(s->cut);
	rmdir(s->next);
	rmdir(base);
}

const char *scene_path(const char *directory, const char *name)
{
	static char paths[4][512];
	static unsigned turn;
	char *p = paths[turn++ % 4];

	snprintf(p, sizeof(paths[0]), "%s/%s", directory, name);
	return p;
}

const char *scene_level(const char *directory, unsigned level)
{
	char name[16];

	snprintf(name, sizeof(name), "%u.vhd", level);
	return scene_path(directory, name);
}

void scene_scribble(struct scene *s, struct vhd_chain *chain, uint8_t *data)
{
	static uint8_t buf[32768];
	uint64_t at = scene_below(s, s->size);
	uint64_t n = 1 + scene_below(s, scene_below(s, 4) ? 3000 : sizeof(buf) - 512);
	uint8_t value = (uint8_t)scene_below(s, 256);
	struct vhd_error err;

	if (scene_below(s, 4)) {
		at &= ~511ull;
		n = (n + 511) & ~511ull;
	}
	n = n < s->size - at ? n : s->size - at;
	for (uint64_t i = 0; i < n; i++)
		buf[i] = value ? (uint8_t)(value + i / 512 + i % 512 * 3) : 0;
	scene_must(s, vhd_write(chain, buf, n, at, &err), &err, "write");
	memcpy(data + at, buf, n);
}

static uint32_t block_size(struct scene *s)
{
	static const uint32_t sizes[] = { 4096, 4096, 8192, 16384, 65536 };

	return sizes[scene_below(s, sizeof(sizes) / sizeof(sizes[0]))];
}

static void make_base(struct scene *s, unsigned kind)
{
	struct vhd_create_options o = { .type = kind == 1 ? VHD_TYPE_FIXED : VHD_TYPE_DYNAMIC,
					.size = s->size,
					.block_size = kind == 1 ? 0 : block_size(s),
					.creator = scene_below(s, 3) ? NULL : "win " };
	struct vhd_error err;
	int fd;

	s->raw_base = kind == 0;
	if (!s->raw_base) {
		scene_must(s, vhd_create(scene_level(s->now, 0), &o, &err), &err, "create");
		return;
	}
	fd = open(scene_level(s->now, 0), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, (off_t)s->size) < 0)
		scene_die(s, NULL, "cannot make a raw disk");
	close(fd);
}

static void make_child(struct scene *s, unsigned level)
{
	struct vhd_snapshot_options o = { .link_empty = true,
					  .raw_parent = level == 1 && s->raw_base,
					  .block_size = block_size(s) };
	struct vhd_error err;

	scene_must(s,
		   vhd_snapshot(scene_level(s->now, level), scene_level(s->now, level - 1), &o,
				&err),
		   &err, "snapshot");
}

void scene_chain(struct scene *s, unsigned depth, bool fixed)
{
	struct vhd_open_options o = { .flags = VHD_OPEN_WRITE };
	struct vhd_chain *chain;
	struct vhd_error err;

	s->size = 512 * (8 + scene_below(s, 300));
	for (unsigned i = 0; i < depth; i++) {
		if (i)
			make_child(s, i);
		else
			make_base(s, fixed ? (unsigned)scene_below(s, 5) : 2);
		s->data[i] = calloc(1, SCENE_BYTES);
		if (i)
			memcpy(s->data[i], s->data[i - 1], s->size);
		s->depth = i + 1;
		o.flags = VHD_OPEN_WRITE | (!i && s->raw_base ? VHD_OPEN_RAW : 0);
		scene_must(s, vhd_open(scene_level(s->now, i), &o, &chain, &err), &err, "open");
		for (uint64_t n = scene_below(s, 10); n > 0; n--)
			scene_scribble(s, chain, s->data[i]);
		scene_must(s, vhd_close(chain, &err), &err, "close");
	}
}

bool scene_is_sparse(const struct scene *s, unsigned level)
{
	struct vhd_open_options o = { .flags = VHD_OPEN_NO_PARENTS };
	struct vhd_chain *chain;
	struct vhd_info info;
	bool sparse;

	if (vhd_open(scene_level(s->now, level), &o, &chain, NULL) < 0)
		return false;
	sparse = vhd_layer_info(chain, 0, &info, NULL) == 0 && info.block_size;
	vhd_close(chain, NULL);
	return sparse;
}

int scene_read(const struct scene *s, const char *path, bool raw, uint8_t *out,
	       struct vhd_error *err)
{
	struct vhd_open_options o = { .flags = raw ? VHD_OPEN_RAW : 0 };
	struct vhd_chain *chain;
	int rc = vhd_open(path, &o, &chain, err);

	if (rc < 0)
		return rc;
	if (vhd_size(chain) != s->size)
		scene_die(s, NULL, "%s: %llu bytes", path, (unsigned long long)vhd_size(chain));
	rc = vhd_read(chain, out, s->size, 0, err);
	vhd_close(chain, NULL);
	return rc;
}

void scene_expect(const struct scene *s, const char *path, bool raw, const uint8_t *data,
		  const char *when)
{
	static uint8_t out[SCENE_BYTES];
	struct vhd_error err;
	uint64_t i = 0;

	scene_must(s, scene_read(s, path, raw, out, &err), &err, when);
	if (!memcmp(out, data, s->size))
		return;
	while (out[i] == data[i])
		i++;
	scene_die(s, NULL, "%s: %s: byte %llu is %02x instead of %02x", when, path,
		  (unsigned long long)i, out[i], data[i]);
}

struct findings {
	enum scene_state state;
	bool shrunk;
	bool wrong;
};

static void on_finding(void *arg, const struct vhd_finding *f)
{
	struct findings *all = arg;

	if (f->code == -VHD_E_LEAKED ? all->state != SCENE_CLEAN : f->severity == VHD_NOTE)
		return;
	if (all->shrunk && f->code == -VHD_E_HEADER_FIELD && f->severity == VHD_WARNING)
		return;
	/* a growth whose size was kept, but not its footer */
	if (all->state == SCENE_RESIZED && f->code == -VHD_E_FOOTERS_DIFFER)
		return;
	/* and zeros behind the end that hide what is below */
	if ((all->state == SCENE_RESIZED || all->state == SCENE_REVERTED) &&
	    f->code == -VHD_E_BAT_ENTRY && f->severity == VHD_WARNING)
		return;
	if (all->state >= SCENE_CUT &&
	    (f->code == -VHD_E_FOOTER_MISSING || f->code == -VHD_E_TRAILING))
		return;
	if (all->state >= SCENE_CUT && f->severity == VHD_WARNING &&
	    (f->code == -VHD_E_FOOTERS_DIFFER || f->code == -VHD_E_BATMAP))
		return;
	fprintf(stderr, "%s: severity %d, %s: %s\n", f->file, f->severity, vhd_error_name(f->code),
		f->text);
	all->wrong = true;
}

void scene_check(const struct scene *s, const char *path, enum scene_state state, const char *when)
{
	struct findings found = { .state = state, .shrunk = s->shrunk };
	struct vhd_check_options o = { .parents_too = true,
				       .bitmaps = true,
				       .ignore_timestamps = true,
				       .finding = on_finding,
				       .arg = &found };
	struct vhd_check_result r;
	struct vhd_error err;

	scene_must(s, vhd_check(path, &o, &r, &err), &err, when);
	if (found.wrong)
		scene_die(s, NULL, "%s: check of %s", when, path);
}

void scene_remove(const char *directory)
{
	empty(directory);
	rmdir(directory);
}

unsigned scene_count(const char *directory, const char *prefix)
{
	DIR *dir = opendir(directory);
	struct dirent *e;
	unsigned n = 0;

	while (dir && (e = readdir(dir)))
		n += !strncmp(e->d_name, prefix, strlen(prefix));
	if (dir)
		closedir(dir);
	return n;
}

void scene_copy(const char *from, const char *to)
{
	DIR *dir = opendir(from);
	static uint8_t buf[65536];
	struct dirent *e;
	struct stat st;
	ssize_t n;

	empty(to);
	while (dir && (e = readdir(dir))) {
		int in = open(scene_path(from, e->d_name), O_RDONLY | O_CLOEXEC), out;

		if (in < 0 || fstat(in, &st) < 0 || !S_ISREG(st.st_mode)) {
			close(in);
			continue;
		}
		out = open(scene_path(to, e->d_name), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC,
			   0644);
		while ((n = read(in, buf, sizeof(buf))) > 0)
			if (write(out, buf, (size_t)n) != n)
				abort();
		futimens(out, (struct timespec[]){ st.st_atim, st.st_mtim });
		close(in);
		close(out);
	}
	closedir(dir);
}

static void on_change(void)
{
	struct scene *s = playing;
	int kinds = power_pending() ? MEM_CUTS : 1;

	sys_pause(true);
	for (int how = 0; how < kinds; how++) {
		power_cut((enum mem_cut)how, rng_next(&s->rng), s->cut);
		s->cuts++;
		looking(s);
	}
	sys_pause(false);
}

void scene_play(struct scene *s, void (*operation)(struct scene *s), void (*look)(struct scene *s))
{
	playing = s;
	looking = look;
	power_begin(s->now);
	power_watch(on_change);
	operation(s);
	power_watch(NULL);
	/* what it said is done must be durable now */
	power_cut(MEM_CUT_NONE, 0, s->cut);
	power_end();
	playing = NULL;
}

void scene_seeds(unsigned few, unsigned long long *first, unsigned long long *count)
{
	const char *seed = getenv("SEED"), *number = getenv("COUNT");

	*first = seed ? strtoull(seed, NULL, 0) : 1;
	*count = number ? strtoull(number, NULL, 0) : seed ? 1 : getenv("SOAK") ? few * 20ull : few;
	printf("seeds %llu to %llu; repeat one with SEED=n\n", *first, *first + *count - 1);
	fflush(stdout);
}
