/* convert-file.c - a disk into a file, with many requests in flight
 *
 * The disk is cut into pieces of at most 2 MiB, none across a block border of
 * a dynamic target.  A piece is read and looked through for zeros by a worker;
 * the owner, in order, gives the blocks that have data their places; a worker
 * writes it.  Raw and fixed targets need no places: one step does it.
 * The target is private until the caller names it, so its metadata is written
 * last, in any order.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "batmap.h"
#include "bitmap.h"
#include "convert.h"
#include "copy.h"
#include "error.h"

#define PIECE_BYTES (2ull << 20)
#define ZERO_GRAIN  (64u << 10) /* zeros shorter than this are written */
#define EXTENTS	    64
#define JOBS	    4u

struct converter {
	struct vhd_chain *chain;
	struct vhd_io *io;
	struct convert_target *target;
	const struct vhd_progress *progress;
	struct vhd_convert_result *result;
	struct copier *copier;
	struct vhd_error *err;
	uint64_t source_size, done;
	uint64_t grain; /* bytes: no segment crosses a multiple of it, nor of the block size */
	unsigned flying;
	/* dynamic */
	uint8_t *bat; /* big-endian, as written */
	uint64_t device_bytes;
	uint64_t next;	 /* sector from which the next block is placed */
	uint8_t *bitmap; /* a page whose end is a bitmap of ones */
	uint32_t page_bytes;
	/* the last known stretch of data of a flat leaf's file */
	uint64_t data_start, data_end;
};

static bool is_dynamic(const struct converter *c)
{
	return c->target->format == VHD_FORMAT_DYNAMIC;
}

static int cancelled(struct converter *c)
{
	if (c->progress->step && c->progress->step(c->progress->arg, c->done, c->source_size))
		return error_set(c->err, -VHD_E_CANCELLED, "conversion to '%s' was interrupted",
				 c->io->name);
	return 0;
}

/* ── reading ── */

/* Take what of [*offset, *offset + *length) of a flat leaf's file may hold data;
 * false: none of it. */
static bool skip_hole(struct converter *c, struct vhd_io *io, uint64_t *offset, uint64_t *length)
{
	uint64_t end = *offset + *length;

	if (*offset >= c->data_end || end <= c->data_start || *offset < c->data_start) {
		if (io_data(io, *offset, &c->data_start, &c->data_end) < 0) {
			c->data_start = *offset; /* cannot tell: all data */
			c->data_end = UINT64_MAX;
		}
	}
	if (c->data_start >= end || c->data_start == c->data_end)
		return false;
	if (c->data_start > *offset)
		*offset = c->data_start;
	/* data may begin again behind data_end: then the rest is read as well */
	*length = end - *offset;
	return true;
}

/* Add the segments of one extent; only the first @length bytes of a raw file's
 * last sector are there. */
static bool add_extent(struct converter *c, struct copy_job *job, const struct chain_ext *e)
{
	struct vhd_image *img = c->chain->images[e->layer];
	uint64_t from = e->file_sector * VHD_SECTOR, to = e->sector * VHD_SECTOR;
	uint64_t length = e->count * VHD_SECTOR, start = from;
	bool flat = img->type == VHD_TYPE_RAW || img->type == VHD_TYPE_FIXED;

	if (img->type == VHD_TYPE_RAW)
		length = number_min(length, img->file_bytes - from);
	if (flat && e->layer == 0 && !skip_hole(c, img->io, &from, &length))
		return true;
	to += from - start;
	while (length) {
		uint64_t n = number_min(length, c->grain - to % c->grain);
		struct copy_segment s = { .from = img->io,
					  .from_offset = from,
					  .to = c->io,
					  .to_offset = to,
					  .length = (uint32_t)n };

		if (!copy_add(job, &s))
			return false;
		from += n;
		to += n;
		length -= n;
	}
	return true;
}

/* Fill @job with data of [at, end); where it ended.  Negative: an error. */
static int fill_job(struct converter *c, struct copy_job *job, uint64_t *at, uint64_t end)
{
	while (*at < end) {
		struct chain_ext ext[EXTENTS];
		int n = chain_lookup(c->chain, *at / VHD_SECTOR, (end - *at) / VHD_SECTOR, ext,
				     EXTENTS, c->err);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			if (job->count + (ext[i].count * VHD_SECTOR) / c->grain + 2 > COPY_SEGMENTS)
				return 0;
			if (!ext[i].zero && !add_extent(c, job, &ext[i]))
				return error_set(c->err, -EINVAL, "a piece is too large to copy");
			*at = (ext[i].sector + ext[i].count) * VHD_SECTOR;
		}
	}
	return 0;
}

/* ── placing and writing ── */

static uint64_t place_next(struct converter *c)
{
	uint32_t sectors = c->target->plan.header.block_size / VHD_SECTOR;
	uint64_t at = c->target->plan.align ? bitmap_align(c->next, sectors) : c->next;

	c->next = at + bitmap_stride(sectors);
	return at;
}

/* The bitmap of a block that has just got its place: all ones (ORDER 9). */
static int write_bitmap(struct converter *c, uint64_t entry, uint64_t present)
{
	uint32_t sectors = c->target->plan.header.block_size / VHD_SECTOR;
	uint64_t end = (entry + bitmap_sectors(sectors)) * VHD_SECTOR;
	uint32_t bytes = c->target->plan.align ? c->page_bytes :
						 bitmap_sectors(sectors) * VHD_SECTOR;
	CLEANUP_FREE uint8_t *partial = NULL;

	if (present == sectors)
		return io_write(c->io, c->bitmap + c->page_bytes - bytes, bytes, end - bytes);
	partial = calloc(1, bytes);
	if (!partial)
		return -ENOMEM;
	bits_set_range(partial + bytes - bitmap_sectors(sectors) * VHD_SECTOR, 0, present);
	return io_write(c->io, partial, bytes, end - bytes);
}

/* Old contents of a device must not show through what is skipped. */
static int clear_block(struct converter *c, uint64_t entry)
{
	uint32_t sectors = c->target->plan.header.block_size / VHD_SECTOR;

	if (!c->io->device)
		return 0;
	return io_zero(c->io, (entry + bitmap_sectors(sectors)) * VHD_SECTOR,
		       (uint64_t)sectors * VHD_SECTOR);
}

static int place_block(struct converter *c, uint32_t block, uint64_t *entry)
{
	uint64_t block_size = c->target->plan.header.block_size;
	uint64_t left = c->target->size - block * block_size;
	uint8_t *slot = c->bat + block * 4ull;
	int rc;

	if (be32_load(slot) != VHD_BAT_UNUSED) {
		*entry = be32_load(slot);
		return 0;
	}
	*entry = place_next(c);
	if (c->io->device && c->next * VHD_SECTOR + VHD_FOOTER_BYTES > c->device_bytes)
		return -ENOSPC;
	be32_store(slot, (uint32_t)*entry);
	rc = clear_block(c, *entry);
	if (!rc)
		rc = write_bitmap(c, *entry, number_min(block_size, left) / VHD_SECTOR);
	return rc;
}

/* Turn disk offsets into file offsets, for segments that are not zero. */
static int place_job(struct converter *c, struct copy_job *job)
{
	uint64_t block_size = c->target->plan.header.block_size;
	uint32_t bitmap = bitmap_sectors((uint32_t)(block_size / VHD_SECTOR));

	for (unsigned i = 0; i < job->count; i++) {
		struct copy_segment *s = &job->segment[i];
		uint64_t entry, in = s->to_offset % block_size;
		int rc;

		if (s->skip)
			continue;
		rc = place_block(c, (uint32_t)(s->to_offset / block_size), &entry);
		if (rc < 0)
			return error_system(c->err, rc, "write", c->io->name);
		s->to_offset = (entry + bitmap) * VHD_SECTOR + in;
	}
	return 0;
}

static int job_error(struct converter *c, const struct copy_job *job)
{
	const struct copy_segment *s = &job->segment[job->failed];
	bool reading = job->step != COPY_WRITE && job->read < job->bytes;

	if (job->err == -VHD_E_TRUNCATED)
		return error_at(
			c->err, job->err, s->from_offset,
			"cannot read '%s': the file ends before the data at offset %llu that "
			"its block table names",
			s->from->name, (unsigned long long)s->from_offset);
	return error_system(c->err, job->err, reading ? "read" : "write",
			    reading && s->from ? s->from->name : c->io->name);
}

/* Collect one job; what was read goes on to be written. */
static int collect(struct converter *c)
{
	struct copy_job *job = copy_collect(c->copier);
	int rc = 0;

	c->flying--;
	if (job->err) {
		rc = job_error(c, job);
	} else if (job->step == COPY_READ) {
		rc = place_job(c, job);
		if (!rc) {
			job->step = COPY_WRITE;
			copy_submit(c->copier, job);
			c->flying++;
			return 0;
		}
	} else {
		c->result->data_bytes += job->written;
		c->done = number_max(c->done, job->cookie);
		rc = cancelled(c);
	}
	copy_put(c->copier, job);
	return rc;
}

static int drain(struct converter *c)
{
	int rc = 0;

	while (c->flying) {
		int one = collect(c);

		if (!rc)
			rc = one;
	}
	return rc;
}

static int take_job(struct converter *c, struct copy_job **out)
{
	while (!(*out = copy_take(c->copier))) {
		int rc = collect(c);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static int copy_pieces(struct converter *c)
{
	uint64_t at = 0, end = number_round_up(c->source_size, VHD_SECTOR);
	int rc = 0;

	while (at < end && !rc) {
		uint64_t stop = number_min(number_round_down(at, PIECE_BYTES) + PIECE_BYTES, end);
		struct copy_job *job;

		rc = take_job(c, &job);
		if (rc < 0)
			break;
		rc = fill_job(c, job, &at, stop);
		if (rc < 0 || !job->count) {
			copy_put(c->copier, job);
			c->done = number_max(c->done, at);
			if (!rc && at % (64 * PIECE_BYTES) == 0)
				rc = cancelled(c);
			continue;
		}
		job->cookie = at;
		/* on a device what is skipped would keep its old contents */
		job->skip_zeros = is_dynamic(c) || !c->io->device;
		job->step = is_dynamic(c) ? COPY_READ : COPY_BOTH;
		copy_submit(c->copier, job);
		c->flying++;
	}
	if (rc < 0) {
		struct vhd_error *kept = c->err; /* the first error is the one to tell */

		c->err = NULL;
		(void)drain(c);
		c->err = kept;
		return rc;
	}
	return drain(c);
}

/* ── metadata of a dynamic target ── */

static int begin_dynamic(struct converter *c)
{
	const struct plan *p = &c->target->plan;
	uint32_t sectors = p->header.block_size / VHD_SECTOR;
	uint32_t bytes = bitmap_sectors(sectors) * VHD_SECTOR;

	c->grain = number_min(c->grain, p->header.block_size);
	c->bat = malloc(p->bat_bytes);
	c->page_bytes = (uint32_t)number_round_up(bytes, VHD_ALIGN);
	c->bitmap = calloc(1, c->page_bytes);
	if (!c->bat || !c->bitmap)
		return error_system(c->err, -ENOMEM, "convert to", c->io->name);
	memset(c->bat, 0xff, p->bat_bytes);
	bits_set_range(c->bitmap + c->page_bytes - bytes, 0, sectors);
	c->next = p->metadata_end / VHD_SECTOR;
	return io_size(c->io, &c->device_bytes);
}

/* Bits of all allocated blocks, but of a partial last one. */
static int write_batmap(struct converter *c)
{
	const struct plan *p = &c->target->plan;
	uint8_t raw[VHD_BATMAP_HEADER_BYTES];
	CLEANUP_FREE uint8_t *map = calloc(1, 2 * p->batmap_bytes);
	uint64_t covered = batmap_covered_bytes(c->target->size, p->header.block_size,
						p->batmap_bytes);
	int rc;

	if (!map)
		return -ENOMEM;
	for (uint32_t b = 0; b < c->target->size / p->header.block_size; b++)
		if (be32_load(c->bat + b * 4ull) != VHD_BAT_UNUSED)
			bits_set(map, b);
	plan_batmap_header(p, raw);
	be32_store(raw + BATMAP_CHECKSUM,
		   batmap_checksum(map, covered, be32_load(raw + BATMAP_VERSION)));
	rc = io_write(c->io, raw, sizeof(raw), p->batmap_at);
	return rc < 0 ? rc : io_write(c->io, map, 2 * p->batmap_bytes, p->batmap_at + sizeof(raw));
}

static int write_metadata(struct converter *c)
{
	const struct plan *p = &c->target->plan;
	uint8_t footer[VHD_FOOTER_BYTES], header[VHD_HEADER_BYTES];
	uint64_t end = number_max(c->next * VHD_SECTOR, p->metadata_end), device;
	int rc = 0;

	if (c->io->device) {
		rc = io_size(c->io, &device);
		if (!rc && device < end + VHD_FOOTER_BYTES)
			rc = -ENOSPC;
		end = number_round_down(device, VHD_SECTOR) - VHD_FOOTER_BYTES;
	}
	footer_encode(&p->footer, footer);
	header_encode(&p->header, header);
	if (!rc)
		rc = io_write(c->io, header, sizeof(header), p->footer.data_offset);
	if (!rc)
		rc = io_write(c->io, c->bat, p->bat_bytes, p->header.table_offset);
	if (!rc && p->batmap)
		rc = write_batmap(c);
	if (!rc)
		rc = io_write(c->io, footer, sizeof(footer), end);
	if (!rc)
		rc = io_write(c->io, footer, sizeof(footer), 0);
	c->result->file_bytes = end + VHD_FOOTER_BYTES;
	return rc < 0 ? error_system(c->err, rc, "write", c->io->name) : 0;
}

/* ── raw and fixed ── */

static int begin_flat(struct converter *c)
{
	uint64_t need = c->target->size, device = 0;
	int rc = 0;

	if (c->target->format == VHD_FORMAT_FIXED)
		need += VHD_FOOTER_BYTES;
	if (c->io->device) {
		rc = io_size(c->io, &device);
		if (!rc && device < need)
			return error_value(
				c->err, -ENOSPC, 0, need, device,
				"cannot convert to '%s': the device has %llu bytes, %llu "
				"are needed",
				c->io->name, (unsigned long long)device, (unsigned long long)need);
		if (!rc)
			rc = io_zero(c->io, 0, c->target->size);
	} else {
		rc = io_truncate(c->io, c->target->size);
	}
	return rc < 0 ? error_system(c->err, rc, "write", c->io->name) : 0;
}

static int end_flat(struct converter *c)
{
	uint8_t footer[VHD_FOOTER_BYTES];
	uint64_t at = c->target->size;
	int rc;

	c->result->file_bytes = at;
	if (c->target->format != VHD_FORMAT_FIXED)
		return 0;
	if (c->io->device) {
		rc = io_size(c->io, &at);
		if (rc < 0)
			return error_system(c->err, rc, "write", c->io->name);
		at = number_round_down(at, VHD_SECTOR) - VHD_FOOTER_BYTES;
	}
	footer_encode(&c->target->plan.footer, footer);
	rc = io_write(c->io, footer, sizeof(footer), at);
	c->result->file_bytes = at + VHD_FOOTER_BYTES;
	return rc < 0 ? error_system(c->err, rc, "write", c->io->name) : 0;
}

int convert_to_file(struct vhd_chain *chain, struct vhd_io *io, struct convert_target *target,
		    const struct vhd_progress *progress, struct vhd_convert_result *result,
		    struct vhd_error *err)
{
	struct converter c = { .chain = chain,
			       .io = io,
			       .target = target,
			       .progress = progress,
			       .result = result,
			       .err = err,
			       .source_size = vhd_size(chain),
			       .grain = ZERO_GRAIN };
	int rc = copy_start(COPY_THREADS, JOBS, &c.copier);

	if (rc < 0)
		return error_system(err, rc, "convert to", io->name);
	rc = is_dynamic(&c) ? begin_dynamic(&c) : begin_flat(&c);
	if (!rc)
		rc = copy_pieces(&c);
	if (!rc)
		rc = is_dynamic(&c) ? write_metadata(&c) : end_flat(&c);
	copy_stop(c.copier);
	free(c.bat);
	free(c.bitmap);
	return rc;
}
