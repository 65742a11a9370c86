/* cbt.c - changed-block logs as files: made, read, changed, merged, begun and ended
 *
 * There is nothing in a log by which it could be known as one: what its header says is
 * compared with the file, and nothing is allocated by its word.
 */
#include "cbt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "atomic.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "error.h"
#include "io-file.h"
#include "lock.h"

#define AT_PARENT     0
#define AT_CHILD      16
#define AT_CONSISTENT 32
#define AT_SIZE	      40

#define PIECE_BYTES  65536u
#define LOCK_WAIT_MS 5000
#define HEADER_TRIES 40 /* of 50 ms: who changes a header is done in a moment */

uint64_t cbt_bitmap_bytes(uint64_t size)
{
	return number_div_up(number_div_up(size, CBT_BLOCK_BYTES), 8);
}

void cbt_encode(const struct cbt_header *header, uint8_t raw[CBT_HEADER_BYTES])
{
	memset(raw, 0, CBT_HEADER_BYTES);
	memcpy(raw + AT_PARENT, header->parent, sizeof(header->parent));
	memcpy(raw + AT_CHILD, header->child, sizeof(header->child));
	le32_store(raw + AT_CONSISTENT, header->consistent);
	le64_store(raw + AT_SIZE, header->size);
}

int cbt_decode(const uint8_t raw[CBT_HEADER_BYTES], struct cbt_header *out, struct vhd_error *err)
{
	uint32_t consistent = le32_load(raw + AT_CONSISTENT);

	if (consistent > 1)
		return error_value(err, -VHD_E_HEADER_FIELD, AT_CONSISTENT, 1, consistent,
				   "no changed-block log: its flag is %u instead of 0 or 1",
				   consistent);
	memcpy(out->parent, raw + AT_PARENT, sizeof(out->parent));
	memcpy(out->child, raw + AT_CHILD, sizeof(out->child));
	out->consistent = consistent;
	out->size = le64_load(raw + AT_SIZE);
	return 0;
}

/* ── headers ── */

static int read_header(struct cbt *c, struct vhd_error *err)
{
	uint8_t raw[CBT_HEADER_BYTES];
	int rc = io_size(c->io, &c->file_bytes);

	if (!rc && c->file_bytes < sizeof(raw))
		return error_value(err, -VHD_E_TRUNCATED, 0, sizeof(raw), c->file_bytes,
				   "cannot open '%s': no changed-block log: it has %llu bytes, the "
				   "header alone has %u",
				   c->io->name, (unsigned long long)c->file_bytes,
				   CBT_HEADER_BYTES);
	if (!rc)
		rc = io_read(c->io, raw, sizeof(raw), 0);
	if (rc < 0)
		return error_system(err, rc, "read", c->io->name);
	rc = cbt_decode(raw, &c->header, err);
	return rc < 0 ? error_place(err, rc, c->io->name, 0) : 0;
}

/* One sector, written whole; durable when this returns. */
static int write_header(struct cbt *c, struct vhd_error *err)
{
	uint8_t raw[CBT_HEADER_BYTES];
	int rc;

	cbt_encode(&c->header, raw);
	rc = io_write(c->io, raw, sizeof(raw), 0);
	if (!rc)
		rc = io_sync(c->io);
	return rc < 0 ? error_system(err, rc, "write", c->io->name) : 0;
}

/* Read the header again with nobody else changing it, until unlock_header.  @role: LOCK_HEADER, or
 * LOCK_SET, which nobody may log meanwhile either. */
static int lock_header(struct cbt *c, enum lock_role role, struct vhd_error *err)
{
	const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };
	int rc = lock_take(c->io, role, NULL, LOCK_WAIT_MS, NULL, err);

	for (int i = 0; role == LOCK_HEADER && rc == -VHD_E_BUSY && i < HEADER_TRIES; i++) {
		nanosleep(&pause, NULL);
		rc = lock_take(c->io, role, NULL, LOCK_WAIT_MS, NULL, err);
	}
	if (rc < 0)
		return rc;
	rc = read_header(c, err);
	if (rc < 0)
		lock_drop(c->io, role, NULL);
	return rc;
}

static void unlock_header(struct cbt *c)
{
	lock_drop(c->io, LOCK_HEADER, NULL);
}

int cbt_open(const char *path, bool write, struct cbt *out, struct vhd_error *err)
{
	struct cbt c = { 0 };
	int rc = io_file_open(path, write ? IO_FILE_WRITE : 0, &c.io, err);

	if (rc < 0)
		return rc;
	rc = read_header(&c, err);
	if (rc < 0) {
		io_close(c.io);
		return rc;
	}
	*out = c;
	return 0;
}

void cbt_close(struct cbt *c)
{
	io_close(c->io);
	c->io = NULL;
}

int cbt_whole(const struct cbt *c, struct vhd_error *err)
{
	uint64_t need = CBT_HEADER_BYTES + cbt_bitmap_bytes(c->header.size);

	if (need <= c->file_bytes)
		return 0;
	return error_value(
		err, -VHD_E_TRUNCATED, 0, need, c->file_bytes,
		"the changed-block log '%s' is cut off: it has %llu bytes, for a disk of "
		"%llu bytes it needs %llu",
		c->io->name, (unsigned long long)c->file_bytes, (unsigned long long)c->header.size,
		(unsigned long long)need);
}

/* ── bits ── */

/* Which bits of the last byte of the bitmap stand for something. */
static uint8_t last_mask(uint64_t size)
{
	uint64_t blocks = number_div_up(size, CBT_BLOCK_BYTES);

	return blocks % 8 ? (uint8_t)((1u << (blocks % 8)) - 1) : 0xff;
}

int cbt_read(struct cbt *c, uint8_t *bits, size_t length, uint64_t at, struct vhd_error *err)
{
	uint64_t bytes = cbt_bitmap_bytes(c->header.size);
	int rc;

	if (!number_within(at, length, bytes))
		return error_set(err, -VHD_E_RANGE,
				 "cannot read '%s': beyond the end of its bitmap", c->io->name);
	if (!length)
		return 0;
	rc = io_read(c->io, bits, length, CBT_HEADER_BYTES + at);
	if (rc < 0)
		return error_system(err, rc, "read", c->io->name);
	if (at + length == bytes)
		bits[length - 1] &= last_mask(c->header.size);
	return 0;
}

/* ── making one ── */

/* A bitmap of zeros in [from, from + length) of the file, which ends there if it can. */
static int zero_bits(struct vhd_io *io, uint64_t from, uint64_t length)
{
	uint64_t start = CBT_HEADER_BYTES + from;
	int rc;

	if (io->device) {
		uint64_t bytes;

		rc = io_size(io, &bytes);
		if (rc < 0)
			return rc;
		if (!number_within(start, length, bytes))
			return -ENOSPC;
		return length ? io_zero(io, start, length) : 0;
	}
	/* whatever stood behind the old end goes */
	rc = io_truncate(io, start);
	return rc < 0 ? rc : io_truncate(io, start + length);
}

int cbt_create(const char *path, uint64_t size, bool force, bool dry_run, struct vhd_error *err)
{
	struct cbt c = { .header.size = size };
	struct atomic a;
	int rc;

	if (!size || size > INT64_MAX)
		return error_set(err, -VHD_E_ARGUMENT, "cannot create '%s': no disk has %llu bytes",
				 path, (unsigned long long)size);
	if (dry_run)
		return atomic_check(path, force, err);
	rc = atomic_begin(path, force ? ATOMIC_FORCE : 0, &a, err);
	if (rc < 0)
		return rc;
	c.io = a.io;
	/* on a device a crash must not leave a header over old bits */
	rc = zero_bits(c.io, 0, cbt_bitmap_bytes(size));
	if (!rc && c.io->device)
		rc = io_sync(c.io);
	rc = rc < 0 ? error_system(err, rc, "create", path) : write_header(&c, err);
	if (!rc)
		return atomic_commit(&a, true, err);
	atomic_abort(&a);
	return rc;
}

/* ── changing one ── */

/* Nothing behind the end of the bitmap, neither bits of its last byte nor bytes of a file: a larger
 * disk would take them for its own. */
static int tidy(struct cbt *c, struct vhd_error *err)
{
	uint64_t end = CBT_HEADER_BYTES + cbt_bitmap_bytes(c->header.size);
	uint8_t mask = last_mask(c->header.size), last;
	int rc = 0;

	if (mask != 0xff && end > CBT_HEADER_BYTES) {
		rc = io_read(c->io, &last, 1, end - 1);
		if (!rc && (last & ~mask)) {
			last &= mask;
			rc = io_write(c->io, &last, 1, end - 1);
		}
	}
	if (!rc && !c->io->device && c->file_bytes > end) {
		rc = io_truncate(c->io, end);
		c->file_bytes = rc ? c->file_bytes : end;
	}
	return rc < 0 ? error_system(err, rc, "write", c->io->name) : 0;
}

/* Room for a larger disk: zeros, durable before a header names them. */
static int make_room(struct cbt *c, uint64_t size, struct vhd_error *err)
{
	uint64_t old = cbt_bitmap_bytes(c->header.size), new = cbt_bitmap_bytes(size);
	int rc = cbt_whole(c, err);

	if (!rc)
		rc = tidy(c, err);
	if (rc < 0)
		return rc;
	rc = zero_bits(c->io, old, new - old);
	if (!rc)
		rc = io_sync(c->io);
	return rc < 0 ? error_system(err, rc, "enlarge", c->io->name) : 0;
}

/* Write the bits anew, durably, before somebody vouches for them: of a log that could not be written at
 * some time, what reads well may be nowhere but in memory. */
static int renew_bits(struct cbt *c, struct vhd_error *err)
{
	CLEANUP_FREE uint8_t *piece = malloc(PIECE_BYTES);
	uint64_t have = c->file_bytes - CBT_HEADER_BYTES;
	uint64_t bytes = number_min(cbt_bitmap_bytes(c->header.size), have);
	int rc = piece ? 0 : -ENOMEM;

	for (uint64_t at = 0; at < bytes && !rc; at += PIECE_BYTES) {
		size_t n = (size_t)number_min(bytes - at, PIECE_BYTES);

		rc = io_read(c->io, piece, n, CBT_HEADER_BYTES + at);
		if (!rc)
			rc = io_write(c->io, piece, n, CBT_HEADER_BYTES + at);
	}
	if (!rc)
		rc = io_sync(c->io);
	return rc < 0 ? error_system(err, rc, "write", c->io->name) : 0;
}

static int change(struct cbt *c, const struct cbt_change *ch, struct vhd_error *err)
{
	uint64_t size = ch->size ? *ch->size : c->header.size;
	bool shrink = size < c->header.size;
	int rc = size > c->header.size ? make_room(c, size, err) : 0;

	if (!rc && ch->consistent && *ch->consistent && !c->header.consistent)
		rc = renew_bits(c, err);
	if (rc < 0)
		return rc;
	if (ch->parent)
		memcpy(c->header.parent, ch->parent, sizeof(c->header.parent));
	if (ch->child)
		memcpy(c->header.child, ch->child, sizeof(c->header.child));
	if (ch->consistent)
		c->header.consistent = *ch->consistent;
	c->header.size = size;
	rc = write_header(c, err);
	if (!rc && shrink && !c->io->device) {
		rc = io_truncate(c->io, CBT_HEADER_BYTES + cbt_bitmap_bytes(size));
		if (!rc)
			rc = io_sync(c->io);
		if (rc < 0)
			error_system(err, rc, "cut", c->io->name);
	}
	return rc;
}

int cbt_set(const char *path, const struct cbt_change *ch, bool dry_run, struct vhd_error *err)
{
	struct cbt c;
	bool alone;
	int rc;

	if (ch->size && (!*ch->size || *ch->size > INT64_MAX))
		return error_set(err, -VHD_E_ARGUMENT, "cannot change '%s': no disk has %llu bytes",
				 path, (unsigned long long)*ch->size);
	rc = cbt_open(path, !dry_run, &c, err);
	if (rc < 0)
		return rc;
	alone = (ch->consistent && *ch->consistent) || (ch->size && *ch->size < c.header.size);
	if (!dry_run)
		rc = lock_header(&c, alone ? LOCK_SET : LOCK_HEADER, err);
	/* it may have been made larger just now */
	if (!rc && !dry_run && !alone && ch->size && *ch->size < c.header.size)
		rc = lock_header(&c, LOCK_SET, err);
	if (!rc && !dry_run)
		rc = change(&c, ch, err);
	cbt_close(&c);
	return rc;
}

/* ── merging ── */

static int merge_piece(struct cbt *parent, struct cbt *child, uint8_t *from, uint8_t *to,
		       size_t length, uint64_t at, struct vhd_error *err)
{
	bool changed = false;
	int rc = cbt_read(parent, from, length, at, err);

	if (!rc)
		rc = cbt_read(child, to, length, at, err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < length; i++) {
		changed |= (from[i] & ~to[i]) != 0;
		to[i] |= from[i];
	}
	if (!changed)
		return 0;
	rc = io_write(child->io, to, length, CBT_HEADER_BYTES + at);
	return rc < 0 ? error_system(err, rc, "write", child->io->name) : 0;
}

static int merge(struct cbt *parent, struct cbt *child, struct vhd_error *err)
{
	uint64_t bytes = cbt_bitmap_bytes(parent->header.size);
	CLEANUP_FREE uint8_t *from = malloc(PIECE_BYTES), *to = malloc(PIECE_BYTES);
	int rc = from && to ? 0 : error_system(err, -ENOMEM, "merge", parent->io->name);

	/* what the parent missed the child would miss, too */
	if (!rc && child->header.consistent && !parent->header.consistent) {
		child->header.consistent = false;
		rc = write_header(child, err);
	}
	for (uint64_t at = 0; !rc && at < bytes; at += PIECE_BYTES)
		rc = merge_piece(parent, child, from, to, number_min(bytes - at, PIECE_BYTES), at,
				 err);
	if (rc < 0)
		return rc;
	rc = io_sync(child->io);
	return rc < 0 ? error_system(err, rc, "write", child->io->name) : 0;
}

static int check_pair(const struct cbt *parent, const struct cbt *child, struct vhd_error *err)
{
	int rc = cbt_whole(parent, err);

	if (!rc)
		rc = cbt_whole(child, err);
	if (rc < 0)
		return rc;
	if (parent->header.size > child->header.size)
		return error_value(err, -VHD_E_ARGUMENT, AT_SIZE, child->header.size,
				   parent->header.size,
				   "cannot merge '%s' into '%s': it is the log of a larger disk "
				   "(%llu bytes, not %llu); set the size of the child first",
				   parent->io->name, child->io->name,
				   (unsigned long long)parent->header.size,
				   (unsigned long long)child->header.size);
	return 0;
}

int cbt_coalesce(const char *parent, const char *child, bool dry_run, struct vhd_error *err)
{
	struct cbt p = { 0 }, c = { 0 };
	int rc = cbt_open(parent, false, &p, err);

	if (!rc)
		rc = cbt_open(child, !dry_run, &c, err);
	if (!rc && p.io->device_id == c.io->device_id && p.io->inode == c.io->inode)
		rc = error_set(err, -VHD_E_ARGUMENT, "cannot merge '%s' into itself", parent);
	/* nobody logs to either of them */
	if (!rc && !dry_run)
		rc = lock_take(p.io, LOCK_COALESCE_SOURCE, NULL, LOCK_WAIT_MS, NULL, err);
	if (!rc && !dry_run)
		rc = lock_header(&c, LOCK_SET, err);
	if (!rc)
		rc = read_header(&p, err);
	if (!rc)
		rc = check_pair(&p, &c, err);
	if (!rc && !dry_run)
		rc = merge(&p, &c, err);
	cbt_close(&p);
	cbt_close(&c);
	return rc;
}

/* ── servers ── */

int cbt_begin(struct cbt *c, uint64_t size, struct vhd_error *err)
{
	int rc = lock_take(c->io, LOCK_WRITE, NULL, LOCK_WAIT_MS, NULL, err);

	if (!rc)
		rc = lock_header(c, LOCK_HEADER, err);
	if (rc < 0)
		return rc;
	rc = cbt_whole(c, err);
	if (!rc &&
	    number_div_up(c->header.size, CBT_BLOCK_BYTES) > number_div_up(size, CBT_BLOCK_BYTES))
		rc = error_value(err, -VHD_E_ARGUMENT, AT_SIZE, size, c->header.size,
				 "cannot log to '%s': it is the log of a larger disk (%llu bytes, "
				 "not %llu)",
				 c->io->name, (unsigned long long)c->header.size,
				 (unsigned long long)size);
	c->was_consistent = c->header.consistent;
	/* ORDER 20: from here on a crash loses changes */
	c->header.consistent = false;
	if (!rc)
		rc = size > c->header.size ? make_room(c, size, err) : tidy(c, err);
	if (!rc) {
		c->header.size = number_max(c->header.size, size);
		rc = write_header(c, err);
	}
	unlock_header(c);
	return rc;
}

/* What the file has of the new bits is the server's: nothing of it is touched. */
static int reach(struct cbt *c, uint64_t size)
{
	uint64_t end = CBT_HEADER_BYTES + cbt_bitmap_bytes(size), bytes;
	int rc = io_size(c->io, &bytes);

	if (!rc && bytes < end)
		rc = c->io->device ? -ENOSPC : io_truncate(c->io, end);
	return rc < 0 ? rc : io_sync(c->io);
}

int cbt_grow(struct cbt *c, uint64_t size, struct vhd_error *err)
{
	int rc = lock_header(c, LOCK_HEADER, err);

	if (rc < 0)
		return rc;
	if (size > c->header.size) {
		rc = reach(c, size);
		if (rc < 0)
			error_system(err, rc, "enlarge", c->io->name);
		c->header.size = size;
		if (!rc)
			rc = write_header(c, err);
	}
	unlock_header(c);
	return rc;
}

int cbt_end(struct cbt *c, bool sound, struct vhd_error *err)
{
	int rc = io_sync(c->io); /* ORDER 20: the bitmap before the flag that vouches for it */

	if (rc < 0)
		return error_system(err, rc, "write", c->io->name);
	if (!sound || !c->was_consistent)
		return 0;
	rc = lock_header(c, LOCK_HEADER, err);
	if (rc < 0)
		return rc;
	c->header.consistent = true;
	rc = write_header(c, err);
	unlock_header(c);
	return rc;
}
