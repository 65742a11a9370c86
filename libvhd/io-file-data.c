/* io-file-data.c - moving and clearing the bytes of a file
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
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "io-file-private.h"

#define BOUNCE_BYTES (1u << 20)
#define ZEROS_BYTES  (64u << 10)

/* ── whole transfers ─────────────────────────────────────────────────────── */

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

int io_file_read(struct vhd_io *io, void *buf, size_t length, uint64_t offset)
{
	struct io_file *f = io_file_of(io);
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

int io_file_write(struct vhd_io *io, const void *buf, size_t length, uint64_t offset)
{
	struct io_file *f = io_file_of(io);
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

/* ── zeros and holes ─────────────────────────────────────────────────────── */

static int write_zeros(struct vhd_io *io, uint64_t offset, uint64_t length)
{
	CLEANUP_FREE uint8_t *zeros = aligned_alloc(IO_FILE_ALIGN, ZEROS_BYTES);
	uint64_t part;

	if (!zeros)
		return -ENOMEM;
	memset(zeros, 0, ZEROS_BYTES);
	for (; length; offset += part, length -= part) {
		int rc;

		part = number_min(length, ZEROS_BYTES - offset % IO_FILE_ALIGN);
		rc = io_file_write(io, zeros, part, offset);
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
	struct io_file *f = io_file_of(io);
	uint64_t size, start, end;
	int rc = io_file_size(io, &size);

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

int io_file_punch(struct vhd_io *io, uint64_t offset, uint64_t length)
{
	return clear_range(io, true, offset, length);
}

int io_file_zero(struct vhd_io *io, uint64_t offset, uint64_t length)
{
	return clear_range(io, false, offset, length);
}

int io_file_data(struct vhd_io *io, uint64_t offset, uint64_t *start, uint64_t *end)
{
	struct io_file *f = io_file_of(io);
	uint64_t size;
	off_t data, hole;
	int rc = io_file_size(io, &size);

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
