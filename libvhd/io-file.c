/* io-file.c - files and block devices as storage of images
 *
 * Everything is positioned I/O on one descriptor, so calls on ranges that do
 * not overlap need no lock.  The exception is O_DIRECT, which moves whole
 * sectors of `align` bytes only:
 *
 *      |<-align->|
 *      +----+----+---------+---------+----+----+
 *      |    |head|       middle      |tail|    |      head, tail: partial sectors
 *      +----+----+---------+---------+----+----+
 *
 * The middle is written directly (bounced when the memory is not aligned).  A
 * partial sector is written through the page cache, which then knows how to
 * merge it and, at the end of the file, how to extend by exactly these bytes;
 * it is written back before anything else may be written: `direct_lock` is
 * held exclusively by it and shared by direct writes.  So no dirty page exists
 * beside a direct write that could later undo it.
 */
#include "io-file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "error.h"
#include "holder.h"
#include "layout.h"

#define BOUNCE_BYTES   (1u << 20)
#define ZEROS_BYTES    (64u << 10)
#define ALIGN_FALLBACK 4096u

struct io_file {
	struct vhd_io io;
	int fd;		 /* owned */
	char *name;	 /* owned; io.name */
	uint32_t align;	 /* of direct I/O, offset and memory; 1: buffered */
	uint32_t unit;	 /* of fallocate: align, or the device's sector */
	atomic_bool cut; /* truncated since the last sync */
	pthread_rwlock_t direct_lock;
};

static const struct vhd_io_ops file_ops;

static struct io_file *to_file(struct vhd_io *io)
{
	return (struct io_file *)io;
}

/* ── whole transfers ─────────────────────────────────────────────────────── */

static int file_size(struct vhd_io *io, uint64_t *bytes)
{
	struct io_file *f = to_file(io);
	struct stat st;

	if (io->device)
		return ioctl(f->fd, BLKGETSIZE64, bytes) < 0 ? -errno : 0;
	if (fstat(f->fd, &st) < 0)
		return -errno;
	*bytes = (uint64_t)st.st_size;
	return 0;
}

/* Read until at least @need of @length bytes are there. */
static int read_fully(struct io_file *f, uint8_t *buf, size_t need, size_t length, uint64_t offset)
{
	size_t done = 0;

	while (done < need) {
		ssize_t n = pread(f->fd, buf + done, length - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
		/* direct I/O stops within a sector at the end of the file only */
		if (done < need && (n == 0 || done % f->align))
			return -VHD_E_TRUNCATED;
	}
	return 0;
}

static int write_fully(struct io_file *f, const uint8_t *buf, size_t length, uint64_t offset)
{
	while (length) {
		ssize_t n = pwrite(f->fd, buf, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENOSPC; /* the end of a device */
		buf += n;
		offset += (uint64_t)n;
		length -= (size_t)n;
	}
	return 0;
}

static bool is_aligned(const struct io_file *f, const void *buf, size_t length, uint64_t offset)
{
	return !((uintptr_t)buf % f->align || length % f->align || offset % f->align);
}

static uint8_t *bounce_alloc(const struct io_file *f, uint64_t length)
{
	uint64_t room = number_round_up(length, f->align) + f->align;

	return aligned_alloc(f->align, number_min(room, BOUNCE_BYTES));
}

static int file_read(struct vhd_io *io, void *buf, size_t length, uint64_t offset)
{
	struct io_file *f = to_file(io);
	uint8_t *to = buf;

	if (is_aligned(f, buf, length, offset))
		return read_fully(f, buf, length, length, offset);

	CLEANUP_FREE uint8_t *bounce = bounce_alloc(f, length + offset % f->align);
	if (!bounce)
		return -ENOMEM;
	while (length) {
		size_t skip = offset % f->align;
		size_t part = number_min(length, BOUNCE_BYTES - skip);
		int rc = read_fully(f, bounce, skip + part, number_round_up(skip + part, f->align),
				    offset - skip);

		if (rc < 0)
			return rc;
		memcpy(to, bounce + skip, part);
		to += part;
		offset += part;
		length -= part;
	}
	return 0;
}

/* ── direct writes of any alignment ──────────────────────────────────────── */

/* Part of one sector, through the page cache and out of it again. */
static int write_partial(struct io_file *f, const uint8_t *buf, size_t length, uint64_t offset)
{
	int flags = fcntl(f->fd, F_GETFL), rc;

	if (flags < 0)
		return -errno;
	pthread_rwlock_wrlock(&f->direct_lock);
	/* a read beside this one is at worst buffered, which is as good */
	if (fcntl(f->fd, F_SETFL, flags & ~O_DIRECT) < 0) {
		rc = -errno;
		goto out;
	}
	rc = write_fully(f, buf, length, offset);
	if (rc == 0 &&
	    sync_file_range(f->fd, (off_t)number_round_down(offset, f->align), f->align,
			    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
				    SYNC_FILE_RANGE_WAIT_AFTER) < 0 &&
	    fdatasync(f->fd) < 0)
		rc = -errno;
	if (fcntl(f->fd, F_SETFL, flags) < 0 && rc == 0)
		rc = -errno;
out:
	pthread_rwlock_unlock(&f->direct_lock);
	return rc;
}

/* Whole sectors, from memory of any alignment. */
static int write_sectors(struct io_file *f, const uint8_t *buf, size_t length, uint64_t offset)
{
	CLEANUP_FREE uint8_t *bounce = NULL;
	int rc = 0;

	if ((uintptr_t)buf % f->align) {
		bounce = bounce_alloc(f, length);
		if (!bounce)
			return -ENOMEM;
	}
	pthread_rwlock_rdlock(&f->direct_lock);
	if (!bounce)
		rc = write_fully(f, buf, length, offset);
	for (size_t done = 0, part; bounce && rc == 0 && done < length; done += part) {
		part = number_min(length - done, BOUNCE_BYTES);
		memcpy(bounce, buf + done, part);
		rc = write_fully(f, bounce, part, offset + done);
	}
	pthread_rwlock_unlock(&f->direct_lock);
	return rc;
}

static int file_write(struct vhd_io *io, const void *buf, size_t length, uint64_t offset)
{
	struct io_file *f = to_file(io);
	const uint8_t *from = buf;
	size_t part;
	int rc;

	if (f->align == 1)
		return write_fully(f, from, length, offset);
	if (offset % f->align && length) {
		part = number_min(length, f->align - offset % f->align);
		rc = write_partial(f, from, part, offset);
		if (rc < 0)
			return rc;
		from += part;
		offset += part;
		length -= part;
	}
	part = number_round_down(length, f->align);
	if (part) {
		rc = write_sectors(f, from, part, offset);
		if (rc < 0)
			return rc;
	}
	return length > part ? write_partial(f, from + part, length - part, offset + part) : 0;
}

/* ── shape ───────────────────────────────────────────────────────────────── */

static int file_sync(struct vhd_io *io)
{
	struct io_file *f = to_file(io);
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
	struct io_file *f = to_file(io);
	uint64_t size;
	int rc;

	if (io->device) {
		rc = file_size(io, &size);
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

static int write_zeros(struct vhd_io *io, uint64_t offset, uint64_t length)
{
	CLEANUP_FREE uint8_t *zeros = aligned_alloc(ALIGN_FALLBACK, ZEROS_BYTES);
	uint64_t part;

	if (!zeros)
		return -ENOMEM;
	memset(zeros, 0, ZEROS_BYTES);
	for (; length; offset += part, length -= part) {
		int rc;

		part = number_min(length, ZEROS_BYTES - offset % ALIGN_FALLBACK);
		rc = file_write(io, zeros, part, offset);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static bool is_unsupported(int rc)
{
	return rc == -EOPNOTSUPP || rc == -ENOSYS || rc == -EINVAL || rc == -ENODEV ||
	       rc == -ENOTTY;
}

static int try_fallocate(struct io_file *f, int mode, uint64_t offset, uint64_t length)
{
	int rc;

	do
		rc = fallocate(f->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

/* Zeros in whole units, by the first means that the storage has.  On devices the
 * kernel lets a hole be punched only where a discard promises zeros. */
static int clear_units(struct io_file *f, bool punch, uint64_t offset, uint64_t length)
{
	static const int order[2][2] = {
		{ FALLOC_FL_ZERO_RANGE, FALLOC_FL_PUNCH_HOLE },
		{ FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE },
	};
	uint64_t range[2] = { offset, length };
	int rc = 0;

	for (int i = 0; i < 2; i++) {
		rc = try_fallocate(f, order[punch][i], offset, length);
		if (!is_unsupported(rc))
			return rc;
	}
	if (f->io.device) {
		rc = ioctl(f->fd, BLKZEROOUT, range) < 0 ? -errno : 0;
		if (!is_unsupported(rc))
			return rc;
	}
	return write_zeros(&f->io, offset, length);
}

static int clear_range(struct vhd_io *io, bool punch, uint64_t offset, uint64_t length)
{
	struct io_file *f = to_file(io);
	uint64_t size, start, end;
	int rc = file_size(io, &size);

	if (rc < 0)
		return rc;
	if (offset >= size)
		return 0;
	length = number_min(length, size - offset);
	start = number_round_up(offset, f->unit);
	end = number_round_down(offset + length, f->unit);
	if (start >= end)
		return write_zeros(io, offset, length);
	rc = write_zeros(io, offset, start - offset);
	if (rc == 0)
		rc = clear_units(f, punch, start, end - start);
	if (rc == 0)
		rc = write_zeros(io, end, offset + length - end);
	return rc;
}

static int file_punch(struct vhd_io *io, uint64_t offset, uint64_t length)
{
	return clear_range(io, true, offset, length);
}

static int file_zero(struct vhd_io *io, uint64_t offset, uint64_t length)
{
	return clear_range(io, false, offset, length);
}

static int file_data(struct vhd_io *io, uint64_t offset, uint64_t *start, uint64_t *end)
{
	struct io_file *f = to_file(io);
	uint64_t size;
	off_t data, hole;
	int rc = file_size(io, &size);

	if (rc < 0)
		return rc;
	*start = *end = size;
	if (offset >= size)
		return 0;
	*start = offset;
	if (io->device)
		return 0;
	data = lseek(f->fd, (off_t)offset, SEEK_DATA);
	if (data < 0 && errno == ENXIO) {
		*start = size;
		return 0;
	}
	if (data < 0)
		return is_unsupported(-errno) ? 0 : -errno;
	hole = lseek(f->fd, data, SEEK_HOLE);
	*start = number_min((uint64_t)data, size);
	if (hole > data)
		*end = number_min((uint64_t)hole, size);
	return 0;
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

	if (fcntl(to_file(io)->fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

static void file_holder(struct vhd_io *io, enum io_lock_mode mode, uint64_t start, uint64_t length,
			char *buf, size_t room)
{
	holder_find(to_file(io)->fd, mode == IO_LOCK_EXCLUSIVE, start, length, buf, room);
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
	file_free(to_file(io));
}

static const struct vhd_io_ops file_ops = {
	.size = file_size,
	.read = file_read,
	.write = file_write,
	.sync = file_sync,
	.truncate = file_truncate,
	.punch = file_punch,
	.zero = file_zero,
	.data = file_data,
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

/* Turn O_DIRECT on where the file takes it, and learn its alignment. */
static void enable_direct(struct io_file *f)
{
	int flags = fcntl(f->fd, F_GETFL);

	if (flags < 0 || fcntl(f->fd, F_SETFL, flags | O_DIRECT) < 0)
		return;
	f->align = f->io.device ? f->io.sector_bytes : ALIGN_FALLBACK;
#ifdef STATX_DIOALIGN
	struct statx stx;

	if (statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
	    (stx.stx_mask & STATX_DIOALIGN) && stx.stx_dio_offset_align)
		f->align = (uint32_t)number_max(stx.stx_dio_offset_align, stx.stx_dio_mem_align);
#endif
	if (f->align < VHD_SECTOR || f->align > 65536 || !number_is_power_of_two(f->align))
		f->align = ALIGN_FALLBACK;
	f->unit = f->align;
	f->io.sector_bytes = f->align;
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
		f->unit = f->io.sector_bytes;
	}
	if (flags & IO_FILE_DIRECT)
		enable_direct(f);
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

int io_file_fd(const struct vhd_io *io)
{
	return io->ops == &file_ops ? ((const struct io_file *)io)->fd : -1;
}

int io_file_sync_directory(const char *path)
{
	CLEANUP_FREE char *directory = strdup(path);
	char *slash;

	if (!directory)
		return -ENOMEM;
	slash = strrchr(directory, '/');
	if (slash == directory)
		slash[1] = '\0';
	else if (slash)
		*slash = '\0';
	CLEANUP_FD int fd = open(slash ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* some file systems have no sync of directories; they write them at once */
	return fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
}
