/* io-file.c - files and block devices as storage of images: opening, shape, locks
 *
 * How bytes are moved is in io-file-data.c.
 */
#include "io-file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "error.h"
#include "holder.h"
#include "io-file-private.h"
#include "layout.h"

static const struct vhd_io_ops file_ops;

/* ── shape ───────────────────────────────────────────────────────────────── */

int io_file_size(struct vhd_io *io, uint64_t *bytes)
{
	struct io_file *f = io_file_of(io);
	struct stat st;

	if (io->device)
		return ioctl(f->fd, BLKGETSIZE64, bytes) < 0 ? -errno : 0;
	if (fstat(f->fd, &st) < 0)
		return -errno;
	*bytes = (uint64_t)st.st_size;
	return 0;
}

static int file_sync(struct vhd_io *io)
{
	struct io_file *f = io_file_of(io);
	bool cut = atomic_exchange(&f->cut, false);

	/* fdatasync covers a size that grew; that it covers one that shrank is not promised */
	if ((cut || io->device ? fsync(f->fd) : fdatasync(f->fd)) == 0)
		return 0;
	if (cut)
		atomic_store(&f->cut, true);
	return -errno;
}

static int file_truncate(struct vhd_io *io, uint64_t bytes)
{
	struct io_file *f = io_file_of(io);
	uint64_t size;
	int rc;

	if (io->device) {
		rc = io_file_size(io, &size);
		if (rc < 0)
			return rc;
		return bytes <= size ? 0 : -ENOSPC;
	}
	atomic_store(&f->cut, true);
	do
		rc = ftruncate(f->fd, (off_t)bytes);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

static void file_push(struct vhd_io *io, uint64_t offset, uint64_t length)
{
	if (!io->direct)
		(void)!sync_file_range(io_file_of(io)->fd, (off_t)offset, (off_t)length,
				       SYNC_FILE_RANGE_WRITE);
}

/* ── locks ───────────────────────────────────────────────────────────────── */

static int file_lock(struct vhd_io *io, enum io_lock_mode mode, uint64_t start, uint64_t length)
{
	static const short types[] = { F_UNLCK, F_RDLCK, F_WRLCK };
	struct flock lock = {
		.l_type = types[mode],
		.l_whence = SEEK_SET,
		.l_start = (off_t)start,
		.l_len = (off_t)length,
	};

	if (fcntl(io_file_of(io)->fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

static void file_holder(struct vhd_io *io, enum io_lock_mode mode, uint64_t start, uint64_t length,
			char *buf, size_t room)
{
	holder_find(io_file_of(io)->fd, mode == IO_LOCK_EXCLUSIVE, start, length, buf, room);
}

/* ── opening and closing ─────────────────────────────────────────────────── */

static void file_free(struct io_file *f)
{
	if (!f)
		return;
	if (f->fd >= 0)
		close(f->fd);
	pthread_rwlock_destroy(&f->direct_lock);
	free(f->name);
	free(f);
}

static void file_close(struct vhd_io *io)
{
	file_free(io_file_of(io));
}

static int file_attribute(struct vhd_io *io, const char *name, void *buf, size_t room)
{
	ssize_t n = fgetxattr(io_file_of(io)->fd, name, buf, room);

	return n < 0 ? -errno : (int)n;
}

static const struct vhd_io_ops file_ops = {
	.size = io_file_size,
	.read = io_file_read,
	.write = io_file_write,
	.sync = file_sync,
	.truncate = file_truncate,
	.punch = io_file_punch,
	.zero = io_file_zero,
	.data = io_file_data,
	.push = file_push,
	.attribute = file_attribute,
	.lock = file_lock,
	.holder = file_holder,
	.close = file_close,
};

/* The kernel's own node of the block device @fd, if @fd is another one: a new
 * descriptor, or -1.  Locks lie on the node, not on the device. */
static int open_canonical_node(int fd, const struct stat *st, int oflags)
{
	char path[64], line[256], node[280] = "";
	struct stat other;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/uevent", major(st->st_rdev),
		 minor(st->st_rdev));
	f = fopen(path, "re");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, "DEVNAME=", 8))
			snprintf(node, sizeof(node), "/dev/%.*s", (int)strcspn(line + 8, "\n"),
				 line + 8);
	fclose(f);
	if (!node[0] || stat(node, &other) < 0 || !S_ISBLK(other.st_mode) ||
	    other.st_rdev != st->st_rdev ||
	    (other.st_dev == st->st_dev && other.st_ino == st->st_ino))
		return -1;
	CLEANUP_FD int canonical = open(node, oflags);
	if (canonical < 0 || fstat(canonical, &other) < 0 || !S_ISBLK(other.st_mode) ||
	    other.st_rdev != st->st_rdev)
		return -1;
	close(fd);
	return steal_fd(&canonical);
}

/* Alignment of direct I/O where statx does not tell (kernels before 6.1, NFS): does reading a
 * sector of 512 bytes work?  A change beside a running server must not touch its neighbours. */
static uint32_t probe_align(const struct io_file *f)
{
	_Alignas(IO_FILE_ALIGN) uint8_t buf[IO_FILE_ALIGN];

	if (f->io.device)
		return f->io.sector_bytes;
	/* at the end of a file nothing is read, and nothing learnt */
	return pread(f->fd, buf + VHD_SECTOR, VHD_SECTOR, VHD_SECTOR) == VHD_SECTOR ? VHD_SECTOR :
										      IO_FILE_ALIGN;
}

/* Turn O_DIRECT on where the file takes it, and learn its alignment. */
static void enable_direct(struct io_file *f)
{
	int flags = fcntl(f->fd, F_GETFL);
	struct statfs fs;

	if (flags < 0 || fcntl(f->fd, F_SETFL, flags | O_DIRECT) < 0)
		return;
	f->align = 0;
#ifdef STATX_DIOALIGN
	struct statx stx;

	if (statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
	    (stx.stx_mask & STATX_DIOALIGN) && stx.stx_dio_offset_align)
		f->align = (uint32_t)number_max(stx.stx_dio_offset_align, stx.stx_dio_mem_align);
#endif
	if (!f->align)
		f->align = probe_align(f);
	if (f->align < VHD_SECTOR || f->align > 65536 || !number_is_power_of_two(f->align))
		f->align = IO_FILE_ALIGN;
	f->unit = f->align;
	f->io.sector_bytes = f->align;
	/* tmpfs takes the flag and ignores it */
	f->io.direct = fstatfs(f->fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC;
}

/* Fill in what the descriptor f->fd tells. */
static int examine(struct io_file *f, unsigned flags, struct vhd_error *err)
{
	int oflags = (flags & IO_FILE_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY;
	struct stat st;
	int sector = 0, canonical, status;

	if (fstat(f->fd, &st) < 0)
		return error_system(err, -errno, "examine", f->name);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return error_set(err, -VHD_E_NOT_FILE,
				 "cannot open '%s': it is neither a regular file nor a block "
				 "device; name an image",
				 f->name);
	/* asynchronous engines take O_NONBLOCK for a wish to hear EAGAIN */
	status = fcntl(f->fd, F_GETFL);
	if (status < 0 || fcntl(f->fd, F_SETFL, status & ~O_NONBLOCK) < 0)
		return error_system(err, -errno, "open", f->name);
	f->io.device = S_ISBLK(st.st_mode);
	f->io.mtime = st.st_mtime;
	f->io.device_id = st.st_dev;
	f->io.inode = st.st_ino;
	if (f->io.device) {
		canonical = open_canonical_node(f->fd, &st, oflags);
		if (canonical >= 0)
			f->fd = canonical;
		/* no file has inode 0: cannot be mistaken for one */
		f->io.device_id = st.st_rdev;
		f->io.inode = 0;
		if (ioctl(f->fd, BLKSSZGET, &sector) == 0 && sector > 0)
			f->io.sector_bytes = (uint32_t)sector;
	}
	if (flags & IO_FILE_DIRECT)
		enable_direct(f);
	/* A buffered write of part of a page reads the rest of it from the device, and old bytes would
	 * return if that very rest were cleared meanwhile.  Whether a kernel lets that happen
	 * does not matter where what a device clears shares no page with anything else. */
	if (f->io.device)
		f->unit = (uint32_t)number_max(f->io.sector_bytes, IO_FILE_ALIGN);
	return 0;
}

int io_file_from_fd(int fd, const char *name, unsigned flags, struct vhd_io **out,
		    struct vhd_error *err)
{
	struct io_file *f = calloc(1, sizeof(*f));
	int rc = -ENOMEM;

	if (!f)
		return error_system(err, rc, "open", name);
	f->io.ops = &file_ops;
	f->io.writable = flags & IO_FILE_WRITE;
	f->io.sector_bytes = VHD_SECTOR;
	f->align = f->unit = 1;
	f->fd = fd;
	pthread_rwlock_init(&f->direct_lock, NULL);
	f->name = strdup(name);
	f->io.name = f->name;
	if (f->name)
		rc = examine(f, flags, err);
	else
		error_system(err, rc, "open", name);
	if (rc < 0) {
		f->fd = -1; /* remains the caller's */
		file_free(f);
		return rc;
	}
	*out = &f->io;
	return 0;
}

int io_file_open(const char *path, unsigned flags, struct vhd_io **out, struct vhd_error *err)
{
	int oflags = (flags & IO_FILE_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY, rc;

	if (flags & IO_FILE_CREATE)
		oflags |= O_CREAT | O_EXCL;
	/* not to wait for the other end of a FIFO */
	CLEANUP_FD int fd = open(path, oflags | O_NONBLOCK, 0666);
	if (fd < 0 && errno == EISDIR)
		return error_set(err, -VHD_E_NOT_FILE,
				 "cannot open '%s': it is a directory; name an image", path);
	/* a socket, or a FIFO without a reader */
	if (fd < 0 && errno == ENXIO)
		return error_set(err, -VHD_E_NOT_FILE,
				 "cannot open '%s': it is neither a regular file nor a block "
				 "device; name an image",
				 path);
	if (fd < 0)
		return error_system(err, -errno, flags & IO_FILE_CREATE ? "create" : "open", path);
	rc = io_file_from_fd(fd, path, flags, out, err);
	if (rc == 0)
		fd = -1; /* passed on */
	return rc;
}

int io_file_again(const struct vhd_io *io, unsigned flags, struct vhd_io **out)
{
	char path[64];
	int rc, fd = io_file_fd(io);

	if (fd < 0)
		return -EBADF;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, (flags & IO_FILE_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	rc = io_file_from_fd(fd, io->name, flags, out, NULL);
	if (rc < 0)
		close(fd);
	return rc;
}

int io_file_fd(const struct vhd_io *io)
{
	return io->ops == &file_ops ? ((const struct io_file *)io)->fd : -1;
}

void io_file_set_name(struct vhd_io *io, char *name)
{
	struct io_file *f = io_file_of(io);

	free(f->name);
	f->name = name;
	io->name = name;
}

int io_file_replace(struct vhd_io *io, struct vhd_io *fresh)
{
	int rc = dup3(io_file_fd(fresh), io_file_fd(io), O_CLOEXEC) < 0 ? -errno : 0;

	io_close(fresh);
	return rc;
}

int io_file_disown(struct vhd_io *io)
{
	int nothing = open("/dev/null", O_PATH | O_CLOEXEC);
	int rc = nothing < 0 || dup3(nothing, io_file_fd(io), O_CLOEXEC) < 0 ? -errno : 0;

	if (nothing >= 0)
		close(nothing);
	return rc;
}

static char *directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return !slash ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

int io_file_may_create(const char *path)
{
	CLEANUP_FREE char *directory = directory_of(path);
	struct stat st;

	if (!directory)
		return -ENOMEM;
	if (!lstat(path, &st))
		return -EEXIST;
	if (errno != ENOENT)
		return -errno;
	return access(directory, W_OK | X_OK) < 0 ? -errno : 0;
}

int io_file_sync_directory(const char *path)
{
	CLEANUP_FREE char *directory = directory_of(path);

	if (!directory)
		return -ENOMEM;
	CLEANUP_FD int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* some file systems have no sync of directories; they write them at once */
	return fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
}
