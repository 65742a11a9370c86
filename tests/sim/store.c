/* store.c - names, descriptors that are none, and the calls that are wrapped */
#include "store.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/atomic.h"
#include "libvhd/create.h"
#include "libvhd/error.h"
#include "libvhd/io-file.h"

#define NAMES	64u
#define EVENTS	64u
#define DISKS	64u
#define IOS	4096u
#define FD_IO	1000000 /* descriptors of ios from here on, */
#define FD_FILE 2000000 /* and of files that have no io yet: real calls find them closed */

#define WRAP(type, name, ...)            \
	type __wrap_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__)

struct name {
	char text[STORE_NAME];
	struct mem_disk *disk; /* NULL: no such name any more */
};

struct names {
	struct name at[NAMES];
	unsigned count;
};

struct store {
	struct names now, durable;
	struct name events[EVENTS]; /* since the last sync: names become that */
	bool renamed[EVENTS];	    /* the name of the event before vanishes at the same instant */
	unsigned event_count;
	struct mem_disk *disks[DISKS]; /* owned: all that ever had a name */
	unsigned disk_count;
};

static struct store *used;
static struct rng *rng;
static unsigned per_mille;
static struct vhd_io *ios[IOS];
static unsigned io_count;

/* ── names ── */

static struct name *find(struct names *names, const char *text)
{
	for (unsigned i = 0; i < names->count; i++)
		if (!strcmp(names->at[i].text, text))
			return &names->at[i];
	return NULL;
}

static void set(struct names *names, const char *text, struct mem_disk *disk)
{
	struct name *n = find(names, text);

	assert(strlen(text) < STORE_NAME);
	if (!n && disk) {
		assert(names->count < NAMES);
		n = &names->at[names->count++];
		strcpy(n->text, text);
	}
	if (n && disk)
		n->disk = disk;
	else if (n)
		*n = names->at[--names->count];
}

static void event(struct store *s, const char *text, struct mem_disk *disk, bool renamed)
{
	struct name *e = &s->events[s->event_count];

	assert(s->event_count < EVENTS);
	strcpy(e->text, text);
	e->disk = disk;
	s->renamed[s->event_count++] = renamed;
	set(&s->now, text, disk);
}

static void own(struct store *s, struct mem_disk *disk)
{
	assert(s->disk_count < DISKS);
	s->disks[s->disk_count++] = disk;
}

struct store *store_new(void)
{
	struct store *s = calloc(1, sizeof(*s));

	if (!s)
		abort();
	return s;
}

void store_free(struct store *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->disk_count; i++)
		mem_disk_free(s->disks[i]);
	free(s);
}

void store_use(struct store *s, struct rng *r)
{
	used = s;
	rng = r;
	io_count = 0;
}

static void sync_names(struct store *s)
{
	s->durable = s->now;
	s->event_count = 0;
}

void store_put(struct store *s, const char *name, struct mem_disk *disk)
{
	own(s, disk);
	set(&s->now, name, disk);
	sync_names(s);
}

void store_remove(struct store *s, const char *name)
{
	set(&s->now, name, NULL);
	sync_names(s);
}

struct mem_disk *store_find(const struct store *s, const char *name)
{
	for (unsigned i = 0; i < s->now.count; i++)
		if (!strcmp(s->now.at[i].text, name))
			return s->now.at[i].disk;
	return NULL;
}

unsigned store_count(const struct store *s)
{
	return s->now.count;
}

const char *store_name(const struct store *s, unsigned i)
{
	return s->now.at[i].text;
}

struct store *store_cut(const struct store *s, struct rng *r)
{
	struct store *cut = store_new();
	unsigned kept = (unsigned)rng_below(r, s->event_count + 1);

	if (kept && kept < s->event_count && s->renamed[kept])
		kept++; /* both halves of a rename */
	cut->now = s->durable;
	for (unsigned i = 0; i < kept; i++)
		set(&cut->now, s->events[i].text, s->events[i].disk);
	for (unsigned i = 0; i < cut->now.count; i++) {
		struct name *n = &cut->now.at[i];
		struct mem_disk *left = NULL;

		for (unsigned k = 0; k < i && !left; k++) /* a second name of the same file */
			if (mem_disk_inode(cut->now.at[k].disk) == mem_disk_inode(n->disk))
				left = cut->now.at[k].disk;
		if (!left) {
			left = mem_disk_cut(n->disk, (enum mem_cut)rng_below(r, MEM_CUTS),
					    rng_next(r));
			own(cut, left);
		}
		n->disk = left;
	}
	cut->durable = cut->now;
	return cut;
}

/* ── failures ── */

void store_faults(unsigned n)
{
	per_mille = n;
}

static bool fails(void)
{
	if (!per_mille || rng_below(rng, 1000) >= per_mille)
		return false;
	errno = rng_chance(rng, 50) ? EIO : ENOSPC;
	return true;
}

/* ── descriptors ── */

struct vhd_io *store_io(int fd)
{
	assert(fd >= FD_IO && (unsigned)(fd - FD_IO) < io_count);
	return ios[fd - FD_IO];
}

/* One that was closed may have left its place in memory, and its number, to another. */
static int number(struct vhd_io *io)
{
	for (unsigned i = 0; i < io_count; i++)
		if (ios[i] == io)
			return FD_IO + (int)i;
	assert(io_count < IOS);
	ios[io_count] = io;
	return FD_IO + (int)io_count++;
}

WRAP(int, io_file_fd, const struct vhd_io *io)
{
	return used ? number((struct vhd_io *)io) : -1;
}

int __real_stat64(const char *path, struct stat *out);
WRAP(int, stat64, const char *path, struct stat *out)
{
	/* worlds without a store have files of their own */
	struct mem_disk *disk = used ? store_find(used, path) : NULL;

	if (!disk)
		return __real_stat64(path, out);
	if (fails())
		return -1;
	memset(out, 0, sizeof(*out));
	out->st_dev = 1;
	out->st_ino = mem_disk_inode(disk);
	return 0;
}

WRAP(int, fstat64, int fd, struct stat *out)
{
	(void)fd;
	if (fails())
		return -1;
	memset(out, 0, sizeof(*out));
	out->st_mode = S_IFREG | 0600;
	out->st_mtime = 1700000000;
	return 0;
}

WRAP(int, fchmod, int fd, mode_t mode)
{
	(void)fd;
	(void)mode;
	return fails() ? -1 : 0;
}

WRAP(int, fchown, int fd, uid_t owner, gid_t group)
{
	(void)fd;
	(void)owner;
	(void)group;
	return fails() ? -1 : 0;
}

/* ── files ── */

WRAP(int, atomic_temp, const char *path, char **temp)
{
	struct mem_disk *disk;

	if (fails())
		return -errno;
	if (asprintf(temp, "/.%s.tmp", path + 1) < 0)
		abort();
	disk = mem_disk_new(0, false);
	if (per_mille && rng_chance(rng, 30))
		mem_disk_fail(disk, rng_below(rng, 20), 1 + rng_below(rng, 3), -EIO);
	own(used, disk);
	event(used, *temp, disk, false);
	return FD_FILE + (int)used->disk_count - 1;
}

WRAP(int, io_file_from_fd, int fd, const char *name, unsigned flags, struct vhd_io **out,
     struct vhd_error *err)
{
	if (fails())
		return error_system(err, -errno, "open", name);
	*out = mem_disk_open(used->disks[fd - FD_FILE], name, flags & IO_FILE_WRITE);
	return 0;
}

WRAP(int, io_file_open, const char *path, unsigned flags, struct vhd_io **out,
     struct vhd_error *err)
{
	struct mem_disk *disk = store_find(used, path);

	if (!disk)
		return error_system(err, -ENOENT, "open", path);
	if (fails())
		return error_system(err, -errno, "open", path);
	*out = mem_disk_open(disk, path, flags & IO_FILE_WRITE);
	return 0;
}

/* Whole or not at all, and durable. */
WRAP(int, create_sparse_file, const char *path, const struct plan *plan, bool force,
     struct vhd_error *err)
{
	struct mem_disk *disk;
	struct vhd_io *io;
	int rc;

	(void)force;
	if (fails())
		return error_system(err, -errno, "create", path);
	disk = mem_disk_new(0, false);
	io = mem_disk_open(disk, path, true);
	rc = create_sparse(io, plan, plan->metadata_end, err);
	io_close(io);
	store_put(used, path, disk);
	return rc;
}

WRAP(void, io_file_set_name, struct vhd_io *io, char *name)
{
	mem_io_set_name(io, name);
}

WRAP(int, io_file_replace, struct vhd_io *io, struct vhd_io *fresh)
{
	(void)io;
	io_close(fresh);
	return fails() ? -errno : 0;
}

WRAP(int, io_file_sync_directory, const char *path)
{
	(void)path;
	if (fails())
		return -errno;
	sync_names(used);
	return 0;
}

WRAP(int, link, const char *from, const char *to)
{
	struct mem_disk *disk = store_find(used, from);

	if (!disk || store_find(used, to)) {
		errno = disk ? EEXIST : ENOENT;
		return -1;
	}
	if (fails())
		return -1;
	event(used, to, disk, false);
	return 0;
}

WRAP(int, rename, const char *from, const char *to)
{
	struct mem_disk *disk = store_find(used, from);

	if (!disk) {
		errno = ENOENT;
		return -1;
	}
	if (fails())
		return -1;
	if (disk == store_find(used, to))
		return 0; /* two names of one file: nothing happens */
	event(used, to, disk, false);
	event(used, from, NULL, true);
	return 0;
}

WRAP(int, unlink, const char *path)
{
	if (!store_find(used, path)) {
		errno = ENOENT;
		return -1;
	}
	if (fails())
		return -1;
	event(used, path, NULL, false);
	return 0;
}

/* ── what would be different each time ── */

WRAP(void, create_id, uint8_t id[VHD_UUID_BYTES])
{
	for (unsigned i = 0; i < VHD_UUID_BYTES; i++)
		id[i] = (uint8_t)rng_below(rng, 256);
}

WRAP(uint32_t, create_now, void)
{
	return 753600000;
}
