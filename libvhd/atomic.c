/* atomic.c - temporary file, sync, rename */
#include "atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "error.h"
#include "io-file.h"
#include "lock.h"

#define TRIES	     100
#define NAME_KEPT    200 /* bytes of the target's name; what is added must fit too */
#define LOCK_WAIT_MS 5000

int atomic_temp(const char *path, char **temp)
{
	const char *slash = strrchr(path, '/');
	int directory = slash ? (int)(slash - path + 1) : 0, rc = -EEXIST;

	for (int i = 0; i < TRIES && rc == -EEXIST; i++) {
		uint32_t random = 0;
		int fd;

		if (getrandom(&random, sizeof(random), 0) < 0)
			return -errno;
		if (asprintf(temp, "%.*s.%.*s.%06x", directory, path, NAME_KEPT, path + directory,
			     random & 0xffffff) < 0) {
			*temp = NULL;
			return -ENOMEM;
		}
		fd = open(*temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd >= 0)
			return fd;
		rc = -errno;
		free(steal_ptr(temp));
	}
	return rc;
}

enum target { TARGET_ABSENT, TARGET_IN_PLACE, TARGET_REPLACED };

/* What is there, and may it be taken?  An empty file and a block device are written where
 * they are.  An enum target, or negative. */
static int look_at_target(const char *path, bool force, struct vhd_error *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return errno == ENOENT ? TARGET_ABSENT : error_system(err, -errno, "create", path);
	if (S_ISBLK(st.st_mode) || (S_ISREG(st.st_mode) && st.st_size == 0))
		return TARGET_IN_PLACE;
	if (!S_ISREG(st.st_mode))
		return error_set(
			err, -VHD_E_NOT_FILE,
			"cannot create '%s': it exists and is neither a regular file nor a "
			"block device",
			path);
	if (!force)
		return error_set(err, -EEXIST,
				 "cannot create '%s': it exists; remove it first, or use --force",
				 path);
	return TARGET_REPLACED;
}

/* Nobody may use what is about to go.  A file we may not open for writing can be replaced
 * all the same; its locks cannot be asked for then. */
static int hold_old(struct atomic *a, struct vhd_error *err)
{
	int rc = io_file_open(a->path, IO_FILE_WRITE, &a->old, NULL);

	if (rc == -EACCES || rc == -EPERM || rc == -ENOENT)
		return 0;
	if (rc < 0)
		return error_system(err, rc, "replace", a->path);
	return lock_take(a->old, LOCK_MOVE, NULL, LOCK_WAIT_MS, NULL, err);
}

static int open_in_place(struct atomic *a, struct vhd_error *err)
{
	int rc = io_file_open(a->path, a->io_flags, &a->io, err);
	uint64_t bytes;

	if (!rc)
		rc = lock_take(a->io, LOCK_MOVE, NULL, LOCK_WAIT_MS, NULL, err);
	if (rc < 0 || a->io->device)
		return rc;
	rc = io_size(a->io, &bytes);
	if (rc < 0)
		return error_system(err, rc, "create", a->path);
	if (!bytes)
		return 0;
	/* somebody was faster; what they wrote is not ours to truncate */
	io_close(steal_ptr(&a->io));
	return error_set(err, -EEXIST,
			 "cannot create '%s': it has just been written by another "
			 "process",
			 a->path);
}

static int open_temp(struct atomic *a, struct vhd_error *err)
{
	int fd = atomic_temp(a->path, &a->temp), rc;

	if (fd < 0)
		return error_system(err, fd, "create", a->path);
	rc = io_file_from_fd(fd, a->path, a->io_flags, &a->io, err);
	if (rc < 0)
		close(fd);
	return rc;
}

/* Could a temporary file be made there, and be renamed? */
static int check_directory(const struct atomic *a, struct vhd_error *err)
{
	const char *slash = strrchr(a->path, '/');
	CLEANUP_FREE char *directory = slash ? strndup(a->path, (size_t)(slash - a->path) + 1) :
					       strdup(".");

	if (!directory)
		return error_system(err, -ENOMEM, "create", a->path);
	if (faccessat(AT_FDCWD, directory, W_OK | X_OK, AT_EACCESS) < 0)
		return error_system(err, -errno, "create", a->path);
	return 0;
}

/* @dry_run: ask all the same questions, but make nothing. */
static int begin(const char *path, unsigned flags, bool dry_run, struct atomic *a,
		 struct vhd_error *err)
{
	bool force = flags & ATOMIC_FORCE;
	int target = look_at_target(path, force, err), rc = 0;

	*a = (struct atomic){ .replace = force, .io_flags = IO_FILE_WRITE };
	if (target < 0)
		return target;
	if (flags & ATOMIC_DIRECT)
		a->io_flags |= IO_FILE_DIRECT;
	/* a link stays: the file behind it gets the new content */
	a->path = target == TARGET_REPLACED ? realpath(path, NULL) : strdup(path);
	if (!a->path)
		return error_system(err, -errno, "create", path);
	if (target == TARGET_REPLACED)
		rc = hold_old(a, err);
	if (rc < 0)
		return rc;
	if (target == TARGET_IN_PLACE)
		return open_in_place(a, err);
	return dry_run ? check_directory(a, err) : open_temp(a, err);
}

int atomic_check(const char *path, bool force, struct vhd_error *err)
{
	struct atomic a;
	int rc = begin(path, force ? ATOMIC_FORCE : 0, true, &a, err);

	io_close(steal_ptr(&a.io)); /* nothing was written: nothing to undo */
	atomic_abort(&a);
	return rc;
}

int atomic_begin(const char *path, unsigned flags, struct atomic *out, struct vhd_error *err)
{
	struct atomic a;
	int rc = begin(path, flags, false, &a, err);

	if (rc < 0) {
		if (!a.temp)
			io_close(steal_ptr(&a.io)); /* nothing was written: nothing to undo */
		atomic_abort(&a);
		return rc;
	}
	*out = a;
	return 0;
}

/* Somebody else's link or device is not taken for ours. */
static int open_named(struct atomic *a, struct vhd_error *err)
{
	int fd = open(a->temp, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666), rc;

	if (fd < 0)
		return error_system(err, -errno, "open", a->temp);
	rc = io_file_from_fd(fd, a->path, a->io_flags, &a->io, err);
	if (rc < 0)
		close(fd);
	else
		rc = lock_take(a->io, LOCK_MOVE, NULL, LOCK_WAIT_MS, NULL, err);
	return rc;
}

int atomic_begin_named(const char *path, char *temp, unsigned flags, struct atomic *out,
		       struct vhd_error *err)
{
	struct atomic a = { .temp = temp, .io_flags = IO_FILE_WRITE };
	int target = look_at_target(path, flags & ATOMIC_FORCE, err), rc = 0;
	struct stat st;

	if (target == TARGET_IN_PLACE && (stat(path, &st) < 0 || S_ISBLK(st.st_mode)))
		target = error_set(err, -VHD_E_NOT_FILE,
				   "cannot create '%s': it is a device; name a file", path);
	if (target < 0) {
		free(temp);
		return target;
	}
	a.replace = target != TARGET_ABSENT;
	a.path = a.replace ? realpath(path, NULL) : strdup(path);
	if (!a.path)
		rc = error_system(err, -errno, "create", path);
	if (!rc && a.replace)
		rc = hold_old(&a, err);
	if (!rc)
		rc = open_named(&a, err);
	if (rc < 0)
		atomic_keep(&a);
	else
		*out = a;
	return rc;
}

int atomic_rename(struct atomic *a, char *temp, struct vhd_error *err)
{
	int rc = io_sync(a->io);

	if (!rc && rename(a->temp, temp) < 0)
		rc = -errno;
	if (rc < 0) {
		free(temp);
		return error_system(err, rc, "create", a->path);
	}
	free(a->temp);
	a->temp = temp;
	rc = io_file_sync_directory(temp);
	return rc < 0 ? error_system(err, rc, "sync the directory of", a->path) : 0;
}

void atomic_keep(struct atomic *a)
{
	io_close(steal_ptr(&a->io));
	io_close(steal_ptr(&a->old));
	free(steal_ptr(&a->temp));
	free(steal_ptr(&a->path));
}

static int give_name(struct atomic *a)
{
	if (a->replace)
		return rename(a->temp, a->path) < 0 ? -errno : 0;
	if (!renameat2(AT_FDCWD, a->temp, AT_FDCWD, a->path, RENAME_NOREPLACE))
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (link(a->temp, a->path) < 0) /* a file system without that flag */
		return -errno;
	unlink(a->temp);
	return 0;
}

int atomic_commit(struct atomic *a, bool sync, struct vhd_error *err)
{
	int rc = sync ? io_sync(a->io) : 0;

	if (!rc && a->temp)
		rc = give_name(a);
	if (rc < 0) {
		rc = error_system(err, rc, "create", a->path);
		atomic_abort(a);
		return rc;
	}
	/* from here on the content is good under its name, and stays */
	free(steal_ptr(&a->temp));
	if (sync && !a->io->device && (rc = io_file_sync_directory(a->path)) < 0)
		error_system(err, rc, "sync the directory of", a->path);
	io_close(steal_ptr(&a->io));
	io_close(steal_ptr(&a->old));
	free(steal_ptr(&a->path));
	return rc;
}

void atomic_abort(struct atomic *a)
{
	if (a->temp)
		unlink(a->temp);
	else if (a->io && !a->io->device)
		(void)!io_truncate(a->io, 0); /* it was empty */
	io_close(steal_ptr(&a->io));
	io_close(steal_ptr(&a->old));
	free(steal_ptr(&a->temp));
	free(steal_ptr(&a->path));
}
