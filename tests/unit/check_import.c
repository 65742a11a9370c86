/* check_import.c - what an import makes durable, and when
 *
 * The linker sends the calls of libvhd that change files here (--wrap, part.mk).  A journal
 * knows of each file and directory what a power cut could take away:
 *   I1  when the directory gets its name nothing in it, names included, could be lost
 *   I2  when the import says that it is done that name could not be lost either
 *   I3  nothing in it changes after it got its name
 * With these every cut leaves no directory of that name, or all of it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/vhd.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"

#define NODES_MAX 64

struct node { /* a file or directory */
	dev_t dev;
	ino_t ino;
	bool contents; /* or names: not durable */
	bool times;
};

static struct node nodes[NODES_MAX];
static unsigned node_count, writes, syncs;
static bool watching, renamed;

static struct node *node_of(const struct stat *st)
{
	for (unsigned i = 0; i < node_count; i++)
		if (nodes[i].dev == st->st_dev && nodes[i].ino == st->st_ino)
			return &nodes[i];
	ck_assert_uint_lt(node_count, NODES_MAX);
	nodes[node_count] = (struct node){ .dev = st->st_dev, .ino = st->st_ino };
	return &nodes[node_count++];
}

static struct node *node_at(int directory, const char *path)
{
	struct stat st;

	ck_assert_int_eq(fstatat(directory, path, &st, *path ? 0 : AT_EMPTY_PATH), 0);
	return node_of(&st);
}

static void changed(int fd)
{
	if (!watching)
		return;
	ck_assert_msg(!renamed, "something changes behind the rename"); /* I3 */
	node_at(fd, "")->contents = true;
	writes++;
}

static void synced(int fd, bool times)
{
	struct node *n = node_at(fd, "");

	n->contents = false;
	n->times = n->times && !times;
	syncs++;
}

/* The directory in which @path is. */
static struct node *directory_of(const char *path)
{
	char parent[4096];

	snprintf(parent, sizeof(parent), "%s", path);
	ck_assert_ptr_nonnull(strrchr(parent, '/'));
	*strrchr(parent, '/') = '\0';
	return node_at(AT_FDCWD, parent);
}

static void assert_durable(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;

	ck_assert_ptr_nonnull(dir);
	ck_assert_msg(!node_at(dirfd(dir), "")->contents, "names in it could be lost");
	while ((e = readdir(dir))) {
		struct node *n = node_at(dirfd(dir), e->d_name);

		if (!strcmp(e->d_name, "."))
			continue;
		ck_assert_msg(!strcmp(e->d_name, "..") || !n->contents, "%s could be lost",
			      e->d_name);
		ck_assert_msg(!n->times, "the time of %s could be lost", e->d_name);
	}
	closedir(dir);
}

/* ── calls ── */

#define WRAP(type, name, ...)            \
	type __real_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__)

WRAP(ssize_t, pwrite64, int fd, const void *buf, size_t length, off64_t offset)
{
	changed(fd);
	return __real_pwrite64(fd, buf, length, offset);
}

WRAP(int, ftruncate64, int fd, off64_t size)
{
	changed(fd);
	return __real_ftruncate64(fd, size);
}

WRAP(int, fallocate64, int fd, int mode, off64_t offset, off64_t length)
{
	changed(fd);
	return __real_fallocate64(fd, mode, offset, length);
}

WRAP(int, futimens, int fd, const struct timespec times[2])
{
	if (watching)
		node_at(fd, "")->times = true;
	return __real_futimens(fd, times);
}

WRAP(int, fsync, int fd)
{
	int rc = __real_fsync(fd);

	if (!rc && watching)
		synced(fd, true);
	return rc;
}

WRAP(int, fdatasync, int fd)
{
	int rc = __real_fdatasync(fd);

	if (!rc && watching)
		synced(fd, false);
	return rc;
}

WRAP(int, openat64, int directory, const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;
	int fd;

	if (flags & O_CREAT) {
		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	fd = __real_openat64(directory, path, flags, mode);
	if (watching && fd >= 0 && flags & O_CREAT) {
		changed(directory);
		changed(fd);
	}
	return fd;
}

WRAP(int, mkdir, const char *path, mode_t mode)
{
	int rc = __real_mkdir(path, mode);

	if (watching && !rc)
		directory_of(path)->contents = true;
	return rc;
}

WRAP(int, rename, const char *from, const char *to)
{
	int rc;

	if (!watching)
		return __real_rename(from, to);
	assert_durable(from); /* I1 */
	rc = __real_rename(from, to);
	ck_assert_int_eq(rc, 0);
	directory_of(to)->contents = true;
	renamed = true;
	return rc;
}

/* ── chains ── */

static char here[] = "/tmp/check-import.XXXXXX";

static const char *path_of(const char *name)
{
	static char paths[4][256];
	static unsigned turn;
	char *p = paths[turn++ % 4];

	snprintf(p, sizeof(paths[0]), "%s/%s", here, name);
	return p;
}

static void must(int rc, const struct vhd_error *err)
{
	ck_assert_msg(!rc, "%s", err->text);
}

static void write_some(struct rng *rng, const char *path)
{
	const struct vhd_open_options o = { .flags = VHD_OPEN_WRITE };
	static uint8_t buf[100000];
	struct vhd_chain *chain;
	struct vhd_error err;

	must(vhd_open(path, &o, &chain, &err), &err);
	for (int i = 0; i < 4; i++) {
		uint64_t n = 1 + rng_below(rng, sizeof(buf));

		memset(buf, (int)(1 + rng_below(rng, 255)), n);
		must(vhd_write(chain, buf, n, rng_below(rng, (8u << 20) - n), &err), &err);
	}
	must(vhd_close(chain, &err), &err);
}

/* 0.vhd ← 1.vhd ← 2.vhd; @apart: each in a directory of its own, so that links change. */
static const char *make_chain(struct rng *rng, bool apart)
{
	struct vhd_create_options create = { .type = VHD_TYPE_DYNAMIC,
					     .size = 8u << 20,
					     .block_size = 65536 };
	struct vhd_snapshot_options snapshot = { .link_empty = true, .block_size = 65536 };
	static char leaf[256];
	char parent[256];
	struct vhd_error err;

	for (int i = 0; i < 3; i++) {
		char name[32];

		strcpy(parent, leaf);
		snprintf(name, sizeof(name), apart ? "%d/%d.vhd" : "%d.vhd", i, i);
		if (apart) {
			snprintf(name, sizeof(name), "%d", i);
			ck_assert(!mkdir(path_of(name), 0700) || errno == EEXIST);
			snprintf(name, sizeof(name), "%d/%d.vhd", i, i);
		}
		strcpy(leaf, path_of(name));
		unlink(leaf);
		must(i ? vhd_snapshot(leaf, parent, &snapshot, &err) :
			 vhd_create(leaf, &create, &err),
		     &err);
		write_some(rng, leaf);
	}
	return leaf;
}

static void import_once(struct rng *rng, bool apart, bool over_empty)
{
	const char *leaf = make_chain(rng, apart), *archive = path_of("a.tar");
	const struct vhd_export_options export = { .force = true };
	const struct vhd_import_options import = { 0 };
	char directory[256], imported[8192];
	struct vhd_import_result r;
	struct vhd_error err;
	struct dirent *e;
	DIR *dir;

	snprintf(directory, sizeof(directory), "%s", path_of("there"));
	must(vhd_export(leaf, archive, &export, NULL, &err), &err);
	if (over_empty)
		ck_assert_int_eq(mkdir(directory, 0700), 0);
	node_count = writes = syncs = 0;
	renamed = false;
	watching = true;
	must(vhd_import(archive, directory, &import, &r, &err), &err);
	watching = false;
	ck_assert(renamed);
	ck_assert_msg(!directory_of(directory)->contents, "its name could be lost"); /* I2 */
	ck_assert_uint_gt(writes, 6); /* it did see them */
	ck_assert_uint_gt(syncs, 4);
	snprintf(imported, sizeof(imported), "%s/%s", directory, r.leaf);
	must(vhd_compare(imported, leaf, &(struct vhd_compare_options){ 0 }, NULL, &err), &err);
	dir = opendir(directory);
	while ((e = readdir(dir)))
		if (e->d_name[0] != '.')
			ck_assert_int_eq(unlinkat(dirfd(dir), e->d_name, 0), 0);
	closedir(dir);
	ck_assert_int_eq(rmdir(directory), 0);
}

START_TEST(nothing_of_it_can_be_lost)
{
	struct rng rng = { suite_seed(1) };

	ck_assert_ptr_nonnull(mkdtemp(here));
	for (int i = 0; i < 20; i++)
		import_once(&rng, i % 2, i / 2 % 2);
	for (int i = 0; i < 3; i++) {
		char name[32];

		snprintf(name, sizeof(name), "%d.vhd", i);
		unlink(path_of(name));
		snprintf(name, sizeof(name), "%d/%d.vhd", i, i);
		unlink(path_of(name));
		snprintf(name, sizeof(name), "%d", i);
		rmdir(path_of(name));
	}
	unlink(path_of("a.tar"));
	ck_assert_int_eq(rmdir(here), 0);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { nothing_of_it_can_be_lost, NULL };

	return suite_run("import", tests);
}
