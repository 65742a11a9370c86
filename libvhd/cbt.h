/* cbt.h - changed-block logs: which 64 KiB of a disk were written since somebody began to watch
 *
 *   0        16       32            36    40           48
 *   +--------+--------+-------------+-----+------------+- - - - - - - - - - - - - -+
 *   | parent | child  | consistent  | pad | size       | bitmap: a bit for 64 KiB, |
 *   | id     | id     | le32: 0, 1  |     | le64 bytes | least significant first   |
 *   +--------+--------+-------------+-----+------------+- - - - - - - - - - - - - -+
 *
 *  I1  consistent = 1: every change of the disk since the log began is in the bitmap (ORDER 20)
 *  I2  while a server logs, consistent is 0 on the disk, and D is held on the log
 *  I3  the header is changed under H only, as a whole: it lies in one sector
 *
 * Ids name other logs, or nothing (zeros): bookkeeping of who uses logs.
 */
#ifndef VHD_CBT_H
#define VHD_CBT_H

#include "io.h"

#define CBT_HEADER_BYTES 48u
#define CBT_BLOCK_BYTES	 (64u << 10)

struct cbt_header {
	uint8_t parent[16], child[16];
	bool consistent;
	uint64_t size; /* of the disk, bytes */
};

/* Bytes of the bitmap for a disk of @size bytes. */
uint64_t cbt_bitmap_bytes(uint64_t size);

void cbt_encode(const struct cbt_header *header, uint8_t raw[CBT_HEADER_BYTES]);
/* -VHD_E_HEADER_FIELD. */
int cbt_decode(const uint8_t raw[CBT_HEADER_BYTES], struct cbt_header *out, struct vhd_error *err);

/* ── logs as files; devices too ── */

struct cbt {
	struct vhd_io *io; /* owned */
	struct cbt_header header;
	uint64_t file_bytes;
	bool was_consistent; /* before cbt_begin */
};

/* A log without a change, not consistent, ids zero. */
VHD_MUST int cbt_create(const char *path, uint64_t size, bool force, bool dry_run,
			struct vhd_error *err);

/* Opens and reads the header; no locks.  The bitmap may be cut off: cbt_whole. */
VHD_MUST int cbt_open(const char *path, bool write, struct cbt *out, struct vhd_error *err);
/* NULL io is fine. */
void cbt_close(struct cbt *cbt);
/* Is all of the bitmap there?  -VHD_E_TRUNCATED. */
VHD_MUST int cbt_whole(const struct cbt *cbt, struct vhd_error *err);
/* Bytes of the bitmap; bits past the end of the disk are read as 0. */
VHD_MUST int cbt_read(struct cbt *cbt, uint8_t *bits, size_t length, uint64_t at,
		      struct vhd_error *err);

struct cbt_change { /* NULL: stays as it is */
	const uint8_t *parent, *child;
	const bool *consistent;
	const uint64_t *size;
};
/* Durable on return; a crash leaves the old header or the new one.  Saying "consistent", and making
 * the log smaller, are refused while a server logs to it (-VHD_E_BUSY). */
VHD_MUST int cbt_set(const char *path, const struct cbt_change *change, bool dry_run,
		     struct vhd_error *err);

/* Or the bits of @parent into @child.  If @parent is not consistent @child is not after.
 * A crash leaves some of the bits: @child tells the truth, and the same again finishes it.
 * -VHD_E_ARGUMENT: @parent is that of a larger disk, or both are the same. */
VHD_MUST int cbt_coalesce(const char *parent, const char *child, bool dry_run,
			  struct vhd_error *err);

/* ── for servers; all block ── */

/* Begin to log the changes of a disk of @size bytes: D is taken, a smaller log grows, and the
 * flag is cleared, durably (ORDER 20).  -VHD_E_ARGUMENT: the log is that of a larger disk. */
VHD_MUST int cbt_begin(struct cbt *cbt, uint64_t size, struct vhd_error *err);
/* The disk has grown to @size.  The bits of what is new are the caller's: on a device it has written
 * them before, all of them; a file that ends before has zeros there. */
VHD_MUST int cbt_grow(struct cbt *cbt, uint64_t size, struct vhd_error *err);
/* The bitmap has been written: make it durable, then the flag what it was, unless changes got lost
 * (!@sound).  D is let go by cbt_close. */
VHD_MUST int cbt_end(struct cbt *cbt, bool sound, struct vhd_error *err);

#endif
