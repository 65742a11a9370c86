/* sys.c - system calls that can fail and are written down
 *
 * Names as the C library's headers redirect them where file offsets are 64-bit, and as
 * _FORTIFY_SOURCE does.  Locks always work on real files, and are not written down.
 */
#include "sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "power.h"

#define SECTOR 512u
#define WRAP(type, name, ...)            \
	type __real_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__)

_Thread_local bool sys_inside;

static atomic_long countdown = LONG_MAX;
static atomic_bool failed, for_ever, paused, sync_failed;

void sys_fail(long nth, bool ever)
{
	atomic_store(&failed, false);
	atomic_store(&sync_failed, false);
	atomic_store(&for_ever, ever);
	atomic_store(&countdown, nth);
}

void sys_pause(bool pause)
{
	atomic_store(&paused, pause);
}

bool sys_fail_end(void)
{
	atomic_store(&countdown, LONG_MAX);
	return atomic_load(&failed);
}

bool sys_sync_failed(void)
{
	return atomic_load(&sync_failed);
}

static bool fails(void)
{
	long n;

	if (atomic_load(&countdown) == LONG_MAX || atomic_load(&paused) || sys_inside)
		return false;
	n = atomic_fetch_sub(&countdown, 1);
	if (n > 0 || (n < 0 && !atomic_load(&for_ever)))
		return false;
	atomic_store(&failed, true);
	errno = EIO;
	return true;
}

int sys_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	if (!dir)
		abort();
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* ── opening ── */

static int opened(int fd, int flags)
{
	int saved = errno;

	power_opened(fd, flags);
	errno = saved;
	return fd;
}

WRAP(int, open64, const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;

	if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {
		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	return fails() ? -1 : opened(__real_open64(path, flags, mode), flags);
}

WRAP(int, __open64_2, const char *path, int flags)
{
	return fails() ? -1 : opened(__real___open64_2(path, flags), flags);
}

WRAP(int, openat64, int directory, const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;

	if (flags & O_CREAT) { /* in directories that power.c does not watch: check_import.c does */
		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	return fails() ? -1 : opened(__real_openat64(directory, path, flags, mode), flags);
}

WRAP(int, mkostemp64, char *path, int flags)
{
	return fails() ? -1 : opened(__real_mkostemp64(path, flags), flags | O_CREAT);
}

/* Only openat2() is called this way. */
WRAP(long, syscall, long number, ...)
{
	long a[4];
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (number != SYS_openat2)
		abort();
	return fails() ? -1 : opened((int)__real_syscall(number, a[0], a[1], a[2], a[3]), 0);
}

WRAP(int, dup, int fd)
{
	int copy = fails() ? -1 : __real_dup(fd);

	power_duplicated(fd, copy);
	return copy;
}

WRAP(int, close, int fd)
{
	power_closing(fd);
	return __real_close(fd);
}

/* ── looking ── */

WRAP(int, fstat64, int fd, struct stat64 *st)
{
	return fails() ? -1 : __real_fstat64(fd, st);
}

WRAP(int, stat64, const char *path, struct stat64 *st)
{
	return fails() ? -1 : __real_stat64(path, st);
}

WRAP(ssize_t, pread64, int fd, void *buf, size_t length, off64_t offset)
{
	return fails() ? -1 : __real_pread64(fd, buf, length, offset);
}

WRAP(off64_t, lseek64, int fd, off64_t offset, int whence)
{
	return fails() ? -1 : __real_lseek64(fd, offset, whence);
}

WRAP(int, fcntl64, int fd, int command, ...)
{
	va_list args;
	long argument;

	va_start(args, command);
	argument = va_arg(args, long);
	va_end(args);
	return fails() ? -1 : __real_fcntl64(fd, command, argument);
}

/* ── changing ── */

WRAP(ssize_t, pwrite64, int fd, const void *buf, size_t length, off64_t offset)
{
	bool half = fails();
	ssize_t n = half && length / 2 < SECTOR ?
			    0 :
			    __real_pwrite64(fd, buf, half ? length / 2 / SECTOR * SECTOR : length,
					    offset);

	if (n > 0)
		power_wrote(fd, buf, (size_t)n, (uint64_t)offset);
	if (!half)
		return n;
	errno = EIO;
	return -1;
}

/* Streams: at the descriptor's place, if it has one. */
WRAP(ssize_t, write, int fd, const void *buf, size_t length)
{
	off64_t at = __real_lseek64(fd, 0, SEEK_CUR);
	bool half = fails();
	ssize_t n = half && length / 2 < SECTOR ?
			    0 :
			    __real_write(fd, buf, half ? length / 2 / SECTOR * SECTOR : length);

	if (n > 0 && at >= 0)
		power_wrote(fd, buf, (size_t)n, (uint64_t)at);
	if (!half)
		return n;
	errno = EIO;
	return -1;
}

WRAP(int, ftruncate64, int fd, off64_t size)
{
	int rc = fails() ? -1 : __real_ftruncate64(fd, size);

	if (!rc)
		power_resized(fd);
	return rc;
}

WRAP(int, fallocate64, int fd, int mode, off64_t offset, off64_t length)
{
	int rc = fails() ? -1 : __real_fallocate64(fd, mode, offset, length);

	if (!rc && mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		power_zeroed(fd, (uint64_t)offset, (uint64_t)length);
	else if (!rc)
		power_resized(fd);
	return rc;
}

static int synced(int fd, int (*sync)(int fd))
{
	bool fail = fails();
	int rc = fail ? -1 : sync(fd);

	power_synced(fd, rc < 0);
	if (fail) {
		atomic_store(&sync_failed, true);
		errno = EIO;
	}
	return rc;
}

WRAP(int, fsync, int fd)
{
	return synced(fd, __real_fsync);
}

WRAP(int, fdatasync, int fd)
{
	return synced(fd, __real_fdatasync);
}

/* ── names ── */

WRAP(int, unlink, const char *path)
{
	int rc = fails() ? -1 : __real_unlink(path);

	if (!rc)
		power_renamed(path, NULL, -1);
	return rc;
}

WRAP(int, rename, const char *from, const char *to)
{
	int rc = fails() ? -1 : __real_rename(from, to);

	if (!rc)
		power_renamed(from, to, -1);
	return rc;
}

WRAP(int, renameat2, int fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	int rc = fails() ? -1 : __real_renameat2(fd, from, to_fd, to, flags);

	if (!rc)
		power_renamed(from, to, -1);
	return rc;
}

/* From /proc/self/fd/N only: an unnamed file gets its name. */
WRAP(int, linkat, int fd, const char *from, int to_fd, const char *to, int flags)
{
	int rc = fails() ? -1 : __real_linkat(fd, from, to_fd, to, flags), unnamed = -1;

	if (rc < 0)
		return rc;
	if (sscanf(from, "/proc/self/fd/%d", &unnamed) != 1)
		abort();
	power_renamed(NULL, to, unnamed);
	return 0;
}
