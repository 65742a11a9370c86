/* convert-pipe.c - what comes through a pipe into a file, in one pass
 *
 * How long it is shows only at its end.  Raw and fixed targets do not mind.  A
 * dynamic one has its blocks from where the metadata of the largest disk would
 * end; the table and batmap go right before the first block once the size is known:
 *
 *   | copy | header |  hole  | BAT | batmap | first block … | footer |
 *
 * The last 512 bytes are held back: they may be the footer of a fixed VHD.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "convert-dynamic.h"
#include "convert.h"
#include "error.h"
#include "zeros.h"

#define PIECE_BYTES (1u << 20)
#define GRAIN	    (64u << 10)

struct receiver {
	struct vhd_io *io;
	struct stream *out; /* instead of io; raw or fixed */
	const char *name;   /* of the target, for messages */
	const struct vhd_progress *progress;
	struct vhd_error *err;
	bool dynamic;
	struct convert_target *target; /* dynamic: while receiving, of the largest disk */
	struct convert_dynamic blocks;
	uint32_t grain;
	uint64_t at; /* of the disk: bytes received */
};

/* ── where it goes ── */

/* The file's offset of disk offset @at, whose block gets its place if it has none. */
static int place(struct receiver *r, uint64_t at, uint64_t *offset)
{
	uint64_t block_size = r->target->plan.header.block_size;
	struct convert_dynamic *d = &r->blocks;
	uint32_t block = (uint32_t)(at / block_size), entry;
	int rc = convert_dynamic_reach(d, block);

	if (!rc && convert_dynamic_place(d, block, &entry)) {
		convert_dynamic_page(d, block, r->target->size);
		rc = io_write(r->io, d->page, d->page_bytes,
			      convert_dynamic_data(d, entry) - d->page_bytes);
		/* on a device what is skipped would keep its old contents */
		if (!rc && r->io->device)
			rc = io_zero(r->io, convert_dynamic_data(d, entry), block_size);
	}
	if (!rc)
		*offset = convert_dynamic_data(d, entry) + at % block_size;
	return rc;
}

/* One grain, or a part of it. */
static int put_grain(struct receiver *r, const uint8_t *data, size_t length)
{
	uint64_t offset = r->at;
	int rc = 0;

	if (zeros_are(data, length) && (r->dynamic || !r->io->device))
		return 0;
	if (r->dynamic)
		rc = place(r, r->at, &offset);
	return rc < 0 ? rc : io_write(r->io, data, length, offset);
}

static int put(struct receiver *r, const uint8_t *data, size_t length)
{
	if (length > r->target->size - r->at)
		return error_set(r->err, -VHD_E_TOO_BIG,
				 "cannot convert to '%s': what comes is larger than the %llu "
				 "bytes that such an image can hold; use larger blocks, or "
				 "convert to raw",
				 r->name, (unsigned long long)r->target->size);
	if (r->out) {
		r->at += length;
		return stream_write(r->out, data, length, r->err);
	}
	while (length) {
		size_t n = number_min(length, r->grain - r->at % r->grain);
		int rc = put_grain(r, data, n);

		if (rc < 0)
			return error_system(r->err, rc, "write", r->name);
		data += n;
		r->at += n;
		length -= n;
	}
	return 0;
}

/* ── where it comes from ── */

/* How much of the last @have bytes, at @tail, is the disk's: all but the footer of a fixed VHD
 * that says just as much came before it.  Negative: the footer is another one. */
static int strip_footer(struct receiver *r, const uint8_t *tail, size_t have)
{
	for (size_t length = VHD_FOOTER_BYTES; length >= VHD_FOOTER_BYTES - 1; length--) {
		uint8_t raw[VHD_FOOTER_BYTES] = { 0 };
		struct vhd_footer f;

		if (have < length)
			continue;
		memcpy(raw, tail + have - length, length);
		if (footer_decode(raw, &f, NULL) < 0)
			continue;
		if (footer_is_sparse(&f))
			return error_set(r->err, -VHD_E_FOOTER_MISSING,
					 "cannot convert it in one pass: it is a VHD whose first "
					 "footer is missing; save it as a file and convert that");
		if (f.current_size == r->at + have - length)
			return (int)(have - length);
	}
	return (int)have;
}

static int receive(struct receiver *r, struct stream *in, const struct convert_head *head, bool raw)
{
	CLEANUP_FREE uint8_t *buf = malloc(VHD_FOOTER_BYTES + PIECE_BYTES);
	size_t held = head->length;
	int n;

	if (!buf)
		return error_system(r->err, -ENOMEM, "write", r->name);
	memcpy(buf, head->bytes, held);
	do {
		size_t have, write;
		int rc;

		n = stream_read(in, buf + held, PIECE_BYTES, r->err);
		if (n < 0)
			return n;
		have = held + (size_t)n;
		write = have > VHD_FOOTER_BYTES ? have - VHD_FOOTER_BYTES : 0;
		if (!n) {
			rc = raw ? (int)have : strip_footer(r, buf, have);
			if (rc < 0)
				return rc;
			write = (size_t)rc;
		}
		rc = put(r, buf, write);
		if (rc < 0)
			return rc;
		held = have - write;
		memmove(buf, buf + write, held);
		if (r->progress->step && r->progress->step(r->progress->arg, r->at, 0))
			return error_set(r->err, -VHD_E_CANCELLED,
					 "conversion to '%s' was interrupted", r->name);
	} while (n);
	return 0;
}

static int refuse_empty(struct receiver *r)
{
	return error_set(r->err, -VHD_E_ARGUMENT, "cannot convert to '%s': what comes is empty",
			 r->name);
}

/* ── the target ── */

/* The largest disk there can be. */
static int begin_dynamic(struct receiver *r, const struct convert_maker *maker)
{
	uint64_t most = VHD_SIZE_MAX;
	int rc;

	do
		rc = maker->make(maker->arg, most, r->target, r->err);
	while (rc == -VHD_E_TOO_BIG && (most /= 2) > VHD_BLOCK_MAX);
	if (rc < 0)
		return rc;
	r->grain = (uint32_t)number_min(GRAIN, r->target->plan.header.block_size);
	rc = convert_dynamic_init_growing(&r->blocks, &r->target->plan,
					  r->target->plan.metadata_end);
	return rc < 0 ? error_system(r->err, rc, "convert to", r->name) : 0;
}

/* The last block's bitmap knows now where the disk ends. */
static int close_last_block(struct receiver *r)
{
	uint64_t block_size = r->target->plan.header.block_size;
	uint32_t block = (uint32_t)(r->target->size / block_size), entry;
	struct convert_dynamic *d = &r->blocks;

	if (r->target->size % block_size == 0)
		return 0;
	entry = convert_dynamic_last(d, block);
	if (entry == VHD_BAT_UNUSED)
		return 0;
	convert_dynamic_page(d, block, r->target->size);
	return io_write(r->io, d->page, d->page_bytes,
			convert_dynamic_data(d, entry) - d->page_bytes);
}

static int put_metadata(void *arg, const void *data, size_t length, uint64_t offset)
{
	return io_write(arg, data, length, offset);
}

/* @first: where the first block may be, at the earliest. */
static int end_dynamic(struct receiver *r, uint64_t first)
{
	struct plan *p = &r->target->plan;
	uint64_t shift = number_round_down(first - p->metadata_end, VHD_ALIGN);
	uint64_t end = convert_dynamic_end(&r->blocks), device = 0;
	uint8_t footer[VHD_FOOTER_BYTES];
	int rc;

	p->header.table_offset += shift;
	p->batmap_at += shift;
	rc = close_last_block(r);
	if (!rc && r->io->device)
		rc = io_size(r->io, &device);
	if (!rc && r->io->device) {
		if (device < end + VHD_FOOTER_BYTES)
			return -ENOSPC;
		end = number_round_down(device, VHD_SECTOR) - VHD_FOOTER_BYTES;
		/* old contents of the device have no business in the image */
		rc = io_zero(r->io, VHD_FOOTER_BYTES, p->metadata_end + shift - VHD_FOOTER_BYTES);
	}
	if (!rc)
		rc = convert_dynamic_metadata(&r->blocks, p, put_metadata, r->io);
	footer_encode(&p->footer, footer);
	return rc ? rc : io_write(r->io, footer, sizeof(footer), end);
}

static int end_flat(struct receiver *r)
{
	uint8_t footer[VHD_FOOTER_BYTES];
	uint64_t device, at = r->target->size;
	int rc = r->io->device ? io_size(r->io, &device) : io_truncate(r->io, at);

	if (!rc && r->target->format != VHD_FORMAT_FIXED)
		rc = convert_forget_footer(r->io, at);
	if (rc < 0 || r->target->format != VHD_FORMAT_FIXED)
		return rc;
	if (r->io->device)
		at = number_round_down(device, VHD_SECTOR) - VHD_FOOTER_BYTES;
	footer_encode(&r->target->plan.footer, footer);
	return io_write(r->io, footer, sizeof(footer), at);
}

int convert_from_pipe(struct stream *in, const struct convert_head *head, bool raw,
		      struct vhd_io *io, bool dynamic, const struct convert_maker *maker,
		      const struct vhd_progress *progress, struct vhd_convert_result *result,
		      struct vhd_error *err)
{
	struct convert_target target = { .size = INT64_MAX }; /* nothing is known yet */
	struct receiver r = { .io = io,
			      .name = io->name,
			      .progress = progress,
			      .err = err,
			      .dynamic = dynamic,
			      .target = &target,
			      .grain = GRAIN };
	uint64_t first = 0;
	int rc = dynamic ? begin_dynamic(&r, maker) : 0;

	if (!rc) {
		first = target.plan.metadata_end;
		rc = receive(&r, in, head, raw);
	}
	if (!rc && !r.at)
		rc = refuse_empty(&r);
	if (!rc)
		rc = maker->make(maker->arg, r.at, &target, err);
	if (!rc) {
		rc = dynamic ? end_dynamic(&r, first) : end_flat(&r);
		if (rc < 0)
			error_system(err, rc, "write", io->name);
	}
	convert_dynamic_release(&r.blocks);
	result->data_bytes = r.at;
	if (!rc && (rc = io_size(io, &result->file_bytes)) < 0)
		error_system(err, rc, "examine", io->name);
	return rc;
}

int convert_pipe_through(struct stream *in, const struct convert_head *head, bool raw,
			 struct stream *out, const char *name, const struct convert_maker *maker,
			 const struct vhd_progress *progress, struct vhd_convert_result *result,
			 struct vhd_error *err)
{
	struct convert_target target = { .size = INT64_MAX };
	struct receiver r = {
		.out = out, .name = name, .progress = progress, .err = err, .target = &target
	};
	uint8_t footer[VHD_FOOTER_BYTES];
	int rc = receive(&r, in, head, raw);

	if (!rc && !r.at)
		rc = refuse_empty(&r);
	if (!rc)
		rc = maker->make(maker->arg, r.at, &target, err);
	if (!rc)
		rc = stream_zeros(out, target.size - r.at, err);
	result->data_bytes = r.at;
	result->file_bytes = target.size;
	if (rc || target.format != VHD_FORMAT_FIXED)
		return rc;
	footer_encode(&target.plan.footer, footer);
	result->file_bytes += sizeof(footer);
	return stream_write(out, footer, sizeof(footer), err);
}

int convert_to_temp(struct stream *in, const struct convert_head *head, struct vhd_io *io,
		    const struct vhd_progress *progress, struct vhd_error *err)
{
	struct convert_target target = { .size = INT64_MAX };
	struct receiver r = { .io = io,
			      .name = io->name,
			      .progress = progress,
			      .err = err,
			      .target = &target,
			      .grain = GRAIN };
	int rc = receive(&r, in, head, true);

	if (rc < 0)
		return rc;
	rc = io_truncate(io, r.at);
	return rc < 0 ? error_system(err, rc, "write", io->name) : 0;
}
