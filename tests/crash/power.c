/* power.c - the journal of a directory's files and names */
#include "power.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys.h"
#include "tests/lib/rng.h"

#define FDS	  4096
#define FILES	  256
#define NAMES	  96
#define NAME_ROOM 80

struct file {
	ino_t inode;
	struct mem_disk *disk; /* owned */
	struct vhd_io *io;     /* owned */
};
struct names {
	struct {
		char name[NAME_ROOM];
		struct file *file;
	} list[NAMES];
	unsigned count;
};
struct change {
	char from[NAME_ROOM], to[NAME_ROOM]; /* empty: none */
	struct file *file;		     /* of to */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char directory[256];
static struct file files[FILES], directory_itself;
static unsigned file_count;
static struct names now, durable;
static struct change log_[NAMES];
static unsigned changes;
static void (*watch)(void);
/* What a descriptor is open on; NULL: nothing of ours. */
static _Atomic(struct file *) by_fd[FDS];

static void need(bool truth, const char *what)
{
	if (truth)
		return;
	fprintf(stderr, "power: %s\n", what);
	abort();
}

/* ── names ── */

static struct file *name_find(const struct names *n, const char *name)
{
	for (unsigned i = 0; i < n->count; i++)
		if (!strcmp(n->list[i].name, name))
			return n->list[i].file;
	return NULL;
}

static void name_remove(struct names *n, const char *name)
{
	for (unsigned i = 0; i < n->count; i++)
		if (!strcmp(n->list[i].name, name)) {
			n->list[i] = n->list[--n->count];
			return;
		}
}

static void name_apply(struct names *n, const struct change *c)
{
	if (c->from[0])
		name_remove(n, c->from);
	if (!c->to[0])
		return;
	name_remove(n, c->to);
	need(n->count < NAMES, "too many names");
	snprintf(n->list[n->count].name, NAME_ROOM, "%s", c->to);
	n->list[n->count++].file = c->file;
}

static void name_change(const char *from, const char *to, struct file *file)
{
	struct change *c = &log_[changes++];

	need(changes < NAMES, "too many changes of names");
	snprintf(c->from, sizeof(c->from), "%s", from ? from : "");
	snprintf(c->to, sizeof(c->to), "%s", to ? to : "");
	c->file = file;
	name_apply(&now, c);
}

/* The name of @path below our directory; NULL: not ours. */
static const char *name_of(const char *path)
{
	size_t n = strlen(directory);

	if (!path || !n || strncmp(path, directory, n) != 0 || path[n] != '/' ||
	    strchr(path + n + 1, '/'))
		return NULL;
	return path + n + 1;
}

/* ── files ── */

static struct file *file_new(ino_t inode, const char *name)
{
	struct file *f = &files[file_count++];

	need(file_count < FILES, "too many files");
	f->inode = inode;
	f->disk = mem_disk_new(0, false);
	f->io = mem_disk_open(f->disk, name, true);
	return f;
}

/* The latest with that number: a number may be used again. */
static struct file *file_find(ino_t inode)
{
	for (unsigned i = file_count; i-- > 0;)
		if (files[i].inode == inode)
			return &files[i];
	return NULL;
}

static struct file *file_of(int fd)
{
	return fd >= 0 && fd < FDS ? atomic_load(&by_fd[fd]) : NULL;
}

static void load_file(const char *parent, const char *name)
{
	static uint8_t buf[65536];
	char path[400];
	struct stat st;
	struct change c = { 0 };
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", parent, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	need(fd >= 0 && fstat(fd, &st) == 0, "cannot read a file");
	c.file = file_new(st.st_ino, name);
	need(!io_truncate(c.file->io, (uint64_t)st.st_size), "truncate");
	for (uint64_t at = 0; (n = pread(fd, buf, sizeof(buf), (off_t)at)) > 0; at += (uint64_t)n)
		mem_disk_poke(c.file->disk, buf, (size_t)n, at);
	close(fd);
	need(!io_sync(c.file->io), "sync");
	snprintf(c.to, sizeof(c.to), "%s", name);
	name_apply(&now, &c);
}

void power_begin(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;

	need(dir != NULL && !directory[0], "cannot begin");
	memset(&now, 0, sizeof(now));
	changes = 0;
	while ((e = readdir(dir)))
		if (e->d_name[0] != '.')
			load_file(path, e->d_name);
	closedir(dir);
	durable = now;
	snprintf(directory, sizeof(directory), "%s", path);
}

void power_end(void)
{
	for (int i = 0; i < FDS; i++)
		atomic_store(&by_fd[i], NULL);
	for (unsigned i = 0; i < file_count; i++) {
		io_close(files[i].io);
		mem_disk_free(files[i].disk);
	}
	file_count = 0;
	directory[0] = '\0';
	watch = NULL;
}

void power_watch(void (*fn)(void))
{
	watch = fn;
}

bool power_pending(void)
{
	for (unsigned i = 0; i < file_count; i++)
		if (mem_disk_pending(files[i].disk))
			return true;
	return changes;
}

/* ── what happens ── */

static void leave(bool changed)
{
	if (changed && watch)
		watch();
	pthread_mutex_unlock(&mutex);
}

static bool look_at(int fd, struct stat *st)
{
	int rc;

	sys_inside = true;
	rc = fstat(fd, st);
	sys_inside = false;
	return !rc;
}

void power_opened(int fd, int flags)
{
	char self[64], path[512];
	struct stat st;
	struct file *f;
	ssize_t n;

	if (!directory[0] || fd < 0 || fd >= FDS)
		return;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	n = readlink(self, path, sizeof(path) - 1);
	path[n < 0 ? 0 : n] = '\0';
	if (!strcmp(path, directory)) {
		atomic_store(&by_fd[fd], &directory_itself);
		return;
	}
	if (!name_of(path) || !look_at(fd, &st) || !S_ISREG(st.st_mode))
		return;
	pthread_mutex_lock(&mutex);
	if ((flags & O_TMPFILE) == O_TMPFILE) {
		f = file_new(st.st_ino, "unnamed");
	} else if (flags & O_CREAT && !name_find(&now, name_of(path))) {
		f = file_new(st.st_ino, name_of(path));
		name_change(NULL, name_of(path), f);
	} else {
		f = file_find(st.st_ino);
	}
	need(f != NULL, "a file that nobody made");
	atomic_store(&by_fd[fd], f);
	leave(flags & O_CREAT);
}

void power_duplicated(int fd, int copy)
{
	if (copy >= 0 && copy < FDS)
		atomic_store(&by_fd[copy], file_of(fd));
}

void power_closing(int fd)
{
	if (fd >= 0 && fd < FDS)
		atomic_store(&by_fd[fd], NULL);
}

void power_wrote(int fd, const void *data, size_t length, uint64_t offset)
{
	struct file *f = file_of(fd);

	if (!f || !length)
		return;
	pthread_mutex_lock(&mutex);
	need(!io_write(f->io, data, length, offset), "write");
	leave(true);
}

void power_zeroed(int fd, uint64_t offset, uint64_t length)
{
	struct file *f = file_of(fd);

	if (!f)
		return;
	pthread_mutex_lock(&mutex);
	need(!io_zero(f->io, offset, length), "zero");
	leave(true);
}

void power_resized(int fd)
{
	struct file *f = file_of(fd);
	struct stat st;

	if (!f || !look_at(fd, &st) || (uint64_t)st.st_size == mem_disk_size(f->disk))
		return;
	pthread_mutex_lock(&mutex);
	need(!io_truncate(f->io, (uint64_t)st.st_size), "truncate");
	leave(true);
}

void power_synced(int fd, bool failed)
{
	struct file *f = file_of(fd);

	if (!f)
		return;
	pthread_mutex_lock(&mutex);
	if (f != &directory_itself) {
		mem_disk_fail(f->disk, 0, failed, -EIO);
		need(!io_sync(f->io) != failed, "sync");
	} else if (!failed) {
		durable = now;
		changes = 0;
	}
	leave(true);
}

void power_renamed(const char *from, const char *to, int fd)
{
	const char *old = name_of(from), *new = name_of(to);
	struct file *f;

	if (!old && !new)
		return;
	pthread_mutex_lock(&mutex);
	f = old ? name_find(&now, old) : file_of(fd);
	need(f != NULL, "a name of nothing");
	name_change(old, new, f);
	leave(true);
}

/* ── cutting ── */

static void clear(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;

	need(dir != NULL, "no directory for a cut");
	while ((e = readdir(dir)))
		unlinkat(dirfd(dir), e->d_name, 0);
	closedir(dir);
}

static void store_file(struct mem_disk *disk, const char *into, const char *name)
{
	static uint8_t buf[65536];
	struct vhd_io *io = mem_disk_open(disk, name, false);
	uint64_t size = mem_disk_size(disk), start, end = 0;
	char path[400];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", into, name);
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
	need(fd >= 0 && ftruncate(fd, (off_t)size) == 0, "cannot write a cut");
	while (end < size && !io_data(io, end, &start, &end) && start < end)
		for (uint64_t at = start; at < end;) {
			size_t n = end - at < sizeof(buf) ? end - at : sizeof(buf);

			mem_disk_peek(disk, buf, n, at);
			need(pwrite(fd, buf, n, (off_t)at) == (ssize_t)n, "cannot write a cut");
			at += n;
		}
	io_close(io);
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	if (!stat(path, &st)) {
		struct timespec times[2] = { st.st_atim, st.st_mtim };

		futimens(fd, times);
	}
	close(fd);
}

void power_cut(enum mem_cut how, uint64_t seed, const char *into)
{
	struct rng rng = { seed };
	struct names kept = durable;
	uint64_t some = rng_below(&rng, changes + 1);
	uint64_t keep = how == MEM_CUT_NONE ? 0 : how == MEM_CUT_ALL ? changes : some;

	for (uint64_t i = 0; i < keep; i++)
		name_apply(&kept, &log_[i]);
	clear(into);
	for (unsigned i = 0; i < kept.count; i++) {
		struct mem_disk *disk = mem_disk_cut(kept.list[i].file->disk, how, rng_next(&rng));

		store_file(disk, into, kept.list[i].name);
		mem_disk_free(disk);
	}
}
