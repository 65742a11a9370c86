/* io.h - the storage underneath an image
 *
 * A table of functions: files and devices in io-file.c, memory and power cuts
 * in tests/lib.  read, write, punch and zero may be called from several threads at once
 * on ranges that do not overlap.  All return 0 or -errno; reading past the
 * end of the storage is -VHD_E_TRUNCATED.  Nothing is retried here but EINTR
 * and short transfers.
 */
#ifndef VHD_IO_H
#define VHD_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vhd.h"

struct vhd_io;

enum io_lock_mode { IO_UNLOCK, IO_LOCK_SHARED, IO_LOCK_EXCLUSIVE };

struct vhd_io_ops {
	int (*size)(struct vhd_io *io, uint64_t *bytes);
	int (*read)(struct vhd_io *io, void *buf, size_t length, uint64_t offset);
	/* Extends the storage when it ends behind the present end. */
	int (*write)(struct vhd_io *io, const void *buf, size_t length, uint64_t offset);
	/* All writes, zeroes, punches and truncates completed before are durable. */
	int (*sync)(struct vhd_io *io);
	int (*truncate)(struct vhd_io *io, uint64_t bytes);
	/* Afterwards the range reads as zeros; punch gives the space back where
	 * the storage can, zero need not.  Neither changes the size. */
	int (*punch)(struct vhd_io *io, uint64_t offset, uint64_t length);
	int (*zero)(struct vhd_io *io, uint64_t offset, uint64_t length);
	/* Next range at or after @offset that may hold data, [*start, *end);
	 * *start = *end = size when there is none.  May be coarse. */
	int (*data)(struct vhd_io *io, uint64_t offset, uint64_t *start, uint64_t *end);
	/* A hint: what was written in the range is wanted on the storage soon, so that a later
	 * sync has little to do.  May be NULL. */
	void (*push)(struct vhd_io *io, uint64_t offset, uint64_t length);
	/* An extended attribute: its length, or negative where there is none.  May be NULL. */
	int (*attribute)(struct vhd_io *io, const char *name, void *buf, size_t room);
	/* OFD byte-range lock.  -EAGAIN when somebody else holds it. */
	int (*lock)(struct vhd_io *io, enum io_lock_mode mode, uint64_t start, uint64_t length);
	/* Which living process holds a lock on the range that conflicts with @mode: a phrase
	 * for messages ("tapdisk (pid 12)") in @buf of @room bytes; empty when none is found:
	 * another host, another user's process, or one that just ended. */
	void (*holder)(struct vhd_io *io, enum io_lock_mode mode, uint64_t start, uint64_t length,
		       char *buf, size_t room);
	void (*close)(struct vhd_io *io);
};

struct vhd_io {
	const struct vhd_io_ops *ops;
	const char *name; /* for messages and for finding parents; owned by the io */
	bool writable;
	bool device;		   /* a block device: fixed size, old contents */
	bool direct;		   /* no cache between: large requests, several at a time, pay */
	uint32_t sector_bytes;	   /* logical sector of the storage: 512 or 4096 */
	uint64_t device_id, inode; /* identity, for cycles; 0, 0: unknown */
	int64_t mtime;		   /* Unix seconds, when opened */
};

static inline int io_size(struct vhd_io *io, uint64_t *bytes)
{
	return io->ops->size(io, bytes);
}
static inline int io_read(struct vhd_io *io, void *buf, size_t length, uint64_t offset)
{
	return io->ops->read(io, buf, length, offset);
}
static inline int io_write(struct vhd_io *io, const void *buf, size_t length, uint64_t offset)
{
	return io->ops->write(io, buf, length, offset);
}
static inline int io_sync(struct vhd_io *io)
{
	return io->ops->sync(io);
}
static inline int io_truncate(struct vhd_io *io, uint64_t bytes)
{
	return io->ops->truncate(io, bytes);
}
static inline int io_punch(struct vhd_io *io, uint64_t offset, uint64_t length)
{
	return io->ops->punch(io, offset, length);
}
static inline int io_zero(struct vhd_io *io, uint64_t offset, uint64_t length)
{
	return io->ops->zero(io, offset, length);
}
static inline int io_data(struct vhd_io *io, uint64_t offset, uint64_t *start, uint64_t *end)
{
	return io->ops->data(io, offset, start, end);
}
static inline void io_push(struct vhd_io *io, uint64_t offset, uint64_t length)
{
	if (io->ops->push)
		io->ops->push(io, offset, length);
}
static inline int io_attribute(struct vhd_io *io, const char *name, void *buf, size_t room)
{
	return io->ops->attribute ? io->ops->attribute(io, name, buf, room) : -1;
}
/* Closes and frees.  NULL is fine. */
static inline void io_close(struct vhd_io *io)
{
	if (io)
		io->ops->close(io);
}

#endif
