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

#define TRIES 100

/* ".NAME.XXXXXX" in the target's directory, exclusively made. */
static int make_temp(struct atomic *a)
{
	const char *slash = strrchr(a->path, '/');
	int directory = slash ? (int)(slash - a->path + 1) : 0;

	for (int i = 0; i < TRIES; i++) {
		uint32_t random = 0;
		int fd;

		if (getrandom(&random, sizeof(random), 0) < 0)
			return -errno;
		free(a->temp);
		a->temp = NULL;
		if (asprintf(&a->temp, "%.*s.%s.%06x", directory, a->path, a->path + directory,
			     random & 0xffffff) < 0) {
			a->temp = NULL;
			return -ENOMEM;
		}
		fd = open(a->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd >= 0)
			return fd;
		if (errno != EEXIST)
			break;
	}
	free(a->temp);
	a->temp = NULL;
	return -errno;
}

/* May the target be written where it is: an empty file, or a block device? */
static int look_at_target(const char *path, bool force, bool *in_place, struct vhd_error *err)
{
	struct stat st;

	*in_place = false;
	if (stat(path, &st) < 0)
		return errno == ENOENT ? 0 : error_system(err, -errno, "create", path);
	if (S_ISBLK(st.st_mode) || (S_ISREG(st.st_mode) && st.st_size == 0)) {
		*in_place = true;
		return 0;
	}
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
	return 0;
}

int atomic_begin(const char *path, bool force, struct atomic *out, struct vhd_error *err)
{
	struct atomic a = { .replace = force };
	bool in_place = false;
	int rc = look_at_target(path, force, &in_place, err), fd;

	if (rc < 0)
		return rc;
	a.path = strdup(path);
	if (!a.path)
		return error_system(err, -ENOMEM, "create", path);
	fd = in_place ? open(path, O_RDWR | O_CLOEXEC) : make_temp(&a);
	if (fd < 0)
		rc = error_system(err, in_place ? -errno : fd, "create", path);
	else
		rc = io_file_from_fd(fd, path, IO_FILE_WRITE, &a.io, err);
	if (rc < 0) {
		if (fd >= 0)
			close(fd);
		atomic_abort(&a);
		return rc;
	}
	*out = a;
	return 0;
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
	if (!rc) {
		free(a->temp);
		a->temp = NULL;
		if (sync && !a->io->device)
			rc = io_file_sync_directory(a->path);
	}
	if (rc < 0) {
		rc = error_system(err, rc, "create", a->path);
		atomic_abort(a);
		return rc;
	}
	io_close(steal_ptr(&a->io));
	free(steal_ptr(&a->path));
	return 0;
}

void atomic_abort(struct atomic *a)
{
	if (a->temp)
		unlink(a->temp);
	else if (a->io && !a->io->device)
		(void)!io_truncate(a->io, 0); /* it was empty */
	io_close(steal_ptr(&a->io));
	free(steal_ptr(&a->temp));
	free(steal_ptr(&a->path));
}
