/* rundir.c - the run directory */
#include "rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/base/cleanup.h"
#include "libvhd/base/number.h"
#include "libvhd/error.h"

#define NAME	"blktap-control"
#define MARKERS "tapdisk"

static int join(char *out, const char *dir, const char *name, struct vhd_error *err)
{
	int length = snprintf(out, PATH_MAX, "%s/%s", dir, name);

	if (length < 0 || length >= PATH_MAX)
		return error_set(err, -ENAMETOOLONG, "run directory: the path is too long");
	return 0;
}

int rundir_find(const char *given, char *out, struct vhd_error *err)
{
	const char *base;

	if (!given)
		given = getenv("TAPDISK_RUN_DIR");
	if (given && *given) {
		if (strlen(given) >= PATH_MAX - NAME_MAX)
			return error_set(err, -ENAMETOOLONG, "run directory: the path is too long");
		strcpy(out, given);
		return 0;
	}
	base = geteuid() ? getenv("XDG_RUNTIME_DIR") : "/run";
	if (!base || *base != '/')
		return error_set(err, -ENOENT,
				 "no run directory: set TAPDISK_RUN_DIR (or XDG_RUNTIME_DIR)");
	return join(out, base, NAME, err);
}

static int make_private(const char *dir, struct vhd_error *err)
{
	struct stat st;

	if (mkdir(dir, 0700) && errno != EEXIST)
		return error_system(err, -errno, "make the run directory", dir);
	if (stat(dir, &st))
		return error_system(err, -errno, "examine the run directory", dir);
	if (!S_ISDIR(st.st_mode))
		return error_set(err, -ENOTDIR, "'%s' is no directory", dir);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return error_set(err, -EPERM,
				 "run directory '%s' belongs to somebody else: choose another",
				 dir);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return error_set(err, -EPERM,
				 "run directory '%s' can be written by others: chmod 0700 it", dir);
	return 0;
}

int rundir_make(const char *dir, struct vhd_error *err)
{
	char markers[PATH_MAX];
	int rc = make_private(dir, err);

	if (rc >= 0)
		rc = join(markers, dir, MARKERS, err);
	return rc < 0 ? rc : make_private(markers, err);
}

int rundir_lock(const char *dir, struct vhd_error *err)
{
	CLEANUP_FD int fd = -1;
	char path[PATH_MAX];
	int rc = join(path, dir, ".lock", err);

	if (rc < 0)
		return rc;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_system(err, -errno, "open", path);
	while (flock(fd, LOCK_EX))
		if (errno != EINTR)
			return error_system(err, -errno, "lock", path);
	return steal_fd(&fd);
}

void rundir_control_path(const char *dir, int pid, char *out)
{
	snprintf(out, PATH_MAX, "%s/ctl%d", dir, pid);
}

void rundir_nbd_path(const char *dir, int pid, unsigned minor, char *out)
{
	snprintf(out, PATH_MAX, "%s/nbd%d.%u", dir, pid, minor);
}

void rundir_marker_path(const char *dir, unsigned minor, char *out)
{
	snprintf(out, PATH_MAX, "%s/" MARKERS "/tapdisk-%u", dir, minor);
}

int rundir_address(const char *path, struct sockaddr_un *out, struct vhd_error *err)
{
	if (strlen(path) >= sizeof(out->sun_path))
		return error_set(err, -ENAMETOOLONG,
				 "'%s': longer than the %zu bytes that a socket's name may have",
				 path, sizeof(out->sun_path) - 1);
	memset(out, 0, sizeof(*out));
	out->sun_family = AF_UNIX;
	strcpy(out->sun_path, path);
	return 0;
}

/* ── minors ── */

int rundir_allocate(const char *dir, unsigned *minor, struct vhd_error *err)
{
	CLEANUP_FD int lock = rundir_lock(dir, err);
	char path[PATH_MAX];

	if (lock < 0)
		return lock;
	for (unsigned k = 0; k < RUNDIR_MINORS; k++) {
		CLEANUP_FD int fd = -1;

		rundir_marker_path(dir, k, path);
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd >= 0) {
			*minor = k;
			return 0;
		}
		if (errno != EEXIST)
			return error_system(err, -errno, "make", path);
	}
	return error_set(err, -ENOSPC, "all %u minors are taken; see tap-ctl list", RUNDIR_MINORS);
}

int rundir_free(const char *dir, unsigned minor, struct vhd_error *err)
{
	CLEANUP_FD int lock = rundir_lock(dir, err);
	CLEANUP_FD int fd = -1;
	char path[PATH_MAX];

	if (lock < 0)
		return lock;
	rundir_marker_path(dir, minor, path);
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return error_set(err, -ENOENT, "minor %u is not allocated", minor);
	if (fd < 0)
		return error_system(err, -errno, "open", path);
	if (flock(fd, LOCK_EX | LOCK_NB))
		return error_set(err, -EBUSY, "minor %u is attached to a tapdisk: detach it first",
				 minor);
	if (unlink(path))
		return error_system(err, -errno, "remove", path);
	return 0;
}

int rundir_hold(const char *dir, unsigned minor, struct vhd_error *err)
{
	CLEANUP_FD int lock = rundir_lock(dir, err);
	CLEANUP_FD int fd = -1;
	char path[PATH_MAX];

	if (lock < 0)
		return lock;
	rundir_marker_path(dir, minor, path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_system(err, -errno, "open", path);
	if (flock(fd, LOCK_EX | LOCK_NB))
		return error_set(err, -EBUSY, "minor %u is attached to another tapdisk", minor);
	return steal_fd(&fd);
}

/* ── who is there ── */

/* Decimal digits without sign or leading zeros behind @prefix, and nothing else. */
static bool parse_name(const char *name, const char *prefix, uint64_t most, uint64_t *out)
{
	size_t length = strlen(prefix);
	char again[32];

	if (strncmp(name, prefix, length) || !number_parse(name + length, out) || *out > most)
		return false;
	snprintf(again, sizeof(again), "%llu", (unsigned long long)*out);
	return !strcmp(again, name + length);
}

static int compare_numbers(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return x < y ? -1 : x > y;
}

/* The numbers N of all names PREFIX<N> in @dir, ascending. */
static int list_numbers(const char *dir, const char *prefix, uint64_t most, unsigned **out,
			size_t *count, struct vhd_error *err)
{
	CLEANUP_FREE unsigned *numbers = NULL;
	size_t used = 0, room = 0;
	struct dirent *entry;
	uint64_t number;
	DIR *d = opendir(dir);

	if (!d)
		return errno == ENOENT ? 0 : error_system(err, -errno, "list", dir);
	while ((entry = readdir(d))) {
		unsigned *more;

		if (!parse_name(entry->d_name, prefix, most, &number))
			continue;
		if (used == room) {
			room = room * 2 + 16;
			more = realloc(numbers, room * sizeof(*numbers));
			if (!more) {
				closedir(d);
				return error_set(err, -ENOMEM, "out of memory");
			}
			numbers = more;
		}
		numbers[used++] = (unsigned)number;
	}
	closedir(d);
	if (used)
		qsort(numbers, used, sizeof(*numbers), compare_numbers);
	*out = steal_ptr(&numbers);
	*count = used;
	return 0;
}

int rundir_list(const char *dir, struct rundir_list *out, struct vhd_error *err)
{
	struct rundir_list list = { 0 };
	char markers[PATH_MAX];
	unsigned *pids = NULL;
	int rc = join(markers, dir, MARKERS, err);

	if (rc >= 0)
		rc = list_numbers(dir, "ctl", INT_MAX, &pids, &list.pid_count, err);
	list.pids = (int *)pids; /* none is larger than INT_MAX */
	if (rc >= 0)
		rc = list_numbers(markers, "tapdisk-", RUNDIR_MINORS - 1, &list.minors,
				  &list.minor_count, err);
	if (rc < 0) {
		rundir_list_release(&list);
		return rc;
	}
	*out = list;
	return 0;
}

void rundir_list_release(struct rundir_list *list)
{
	free(list->pids);
	free(list->minors);
	*list = (struct rundir_list){ 0 };
}

/* Does nobody listen there? */
static bool is_dead(const char *path)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address;

	return fd >= 0 && rundir_address(path, &address, NULL) >= 0 &&
	       connect(fd, (struct sockaddr *)&address, sizeof(address)) && errno == ECONNREFUSED;
}

void rundir_remove_dead(const char *dir, int pid)
{
	CLEANUP_FD int lock = rundir_lock(dir, NULL);
	char path[PATH_MAX], prefix[32];
	struct dirent *entry;
	DIR *d;

	rundir_control_path(dir, pid, path);
	/* a server puts its name there under the lock, and listens before */
	if (lock < 0 || !is_dead(path))
		return;
	unlink(path);
	d = opendir(dir);
	snprintf(prefix, sizeof(prefix), "nbd%d.", pid);
	while (d && (entry = readdir(d)))
		if (!strncmp(entry->d_name, prefix, strlen(prefix)))
			unlinkat(dirfd(d), entry->d_name, 0);
	if (d)
		closedir(d);
}
