/* convert-file.c - a disk into a file, with many requests in flight
 *
 * The disk is cut into pieces of at most 1 MiB.  A worker reads a piece and looks
 * through it for zeros; for a dynamic target it then, in its turn, gives the
 * blocks that have data their places, so that equal disks become equal files;
 * then it writes.  The target is private until the caller names it, so its metadata
 * is written last, in any order.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "bitmap.h"
#include "convert-dynamic.h"
#include "convert-source.h"
#include "convert.h"
#include "copy.h"
#include "error.h"

#define ZERO_GRAIN (64u << 10) /* zeros shorter than this are written */
#define JOBS	   6u
#ifndef PIECE_BYTES /* smaller in tests */
#define PIECE_BYTES (1ull << 20)
#endif

struct converter {
	struct convert_source source;
	struct vhd_io *io;
	struct convert_target *target;
	const struct vhd_progress *progress;
	struct vhd_convert_result *result;
	struct copier *copier;
	struct vhd_error *err;
	uint64_t source_size, done;
	unsigned flying;
	struct convert_dynamic dynamic;
	uint64_t device_bytes;
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

/* ── placing ── */

/* Old contents of a device must not show through what is skipped. */
static int clear_block(struct converter *c, uint64_t data)
{
	if (!c->io->device)
		return 0;
	if (data + c->target->plan.header.block_size + VHD_FOOTER_BYTES > c->device_bytes)
		return -ENOSPC;
	return io_zero(c->io, data, c->target->plan.header.block_size);
}

/* The bitmap of a block that has just got its place: with the first data of the job where it
 * lies right before it, so that they are one write. */
static int put_bitmap(struct converter *c, struct copy_job *job, uint32_t block, uint64_t data,
		      bool joined)
{
	struct convert_dynamic *d = &c->dynamic;

	convert_dynamic_page(d, block, c->target->size);
	if (!joined)
		return io_write(c->io, d->page, d->page_bytes, data - d->page_bytes);
	memcpy(job->buffer - d->page_bytes, d->page, d->page_bytes);
	job->head = d->page_bytes;
	return 0;
}

/* Turn disk offsets into file offsets, for segments that are not zero.  In a worker, but
 * in one at a time. */
static int place_job(struct copy_job *job, void *arg)
{
	struct converter *c = arg;
	uint64_t block_size = c->target->plan.header.block_size;
	bool first = true;

	for (unsigned i = 0; i < job->count; i++) {
		struct copy_segment *s = &job->segment[i];
		uint32_t block = (uint32_t)(s->to_offset / block_size), entry;
		uint64_t in = s->to_offset % block_size, data;
		int rc = 0;

		if (s->skip)
			continue;
		if (convert_dynamic_place(&c->dynamic, block, &entry)) {
			data = convert_dynamic_data(&c->dynamic, entry);
			rc = clear_block(c, data);
			if (!rc)
				rc = put_bitmap(c, job, block, data, first && !in && !i);
		}
		if (rc < 0)
			return rc;
		s->to_offset = convert_dynamic_data(&c->dynamic, entry) + in;
		first = false;
	}
	return 0;
}

/* ── moving ── */

static int collect(struct converter *c)
{
	struct copy_job *job = copy_collect(c->copier);
	int rc = 0;

	c->flying--;
	if (job->err) {
		rc = copy_job_error(job, c->io, c->err);
	} else {
		c->result->data_bytes += job->written - job->head;
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
		rc = convert_source_fill(&c->source, job, c->io, &at, stop, c->err);
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
		job->grain = c->source.grain;
		job->place = is_dynamic(c) ? place_job : NULL;
		job->place_arg = c;
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
	int rc = convert_dynamic_init(&c->dynamic, p, p->metadata_end);

	c->source.grain = (uint32_t)number_min(c->source.grain, p->header.block_size);
	if (!rc)
		rc = io_size(c->io, &c->device_bytes);
	return rc < 0 ? error_system(c->err, rc, "convert to", c->io->name) : 0;
}

static int end_dynamic(struct converter *c)
{
	uint64_t end = convert_dynamic_end(&c->dynamic);
	uint8_t footer[VHD_FOOTER_BYTES];
	int rc = 0;

	if (c->io->device && c->device_bytes < end + VHD_FOOTER_BYTES)
		rc = -ENOSPC;
	if (c->io->device)
		end = number_round_down(c->device_bytes, VHD_SECTOR) - VHD_FOOTER_BYTES;
	footer_encode(&c->target->plan.footer, footer);
	if (!rc)
		rc = convert_dynamic_metadata(&c->dynamic, &c->target->plan, convert_dynamic_put,
					      c->io);
	if (!rc)
		rc = convert_dynamic_footers(c->io, footer, end, c->target->in_place);
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

int convert_forget_footer(struct vhd_io *io, uint64_t size)
{
	static const uint8_t none[VHD_FOOTER_BYTES];
	uint8_t old[VHD_FOOTER_BYTES];
	uint64_t at;
	int rc = io->device ? io_size(io, &at) : 0;

	if (rc < 0 || !io->device)
		return rc;
	at = number_round_down(at, VHD_SECTOR) - VHD_FOOTER_BYTES;
	if (at < size)
		return 0;
	rc = io_read(io, old, sizeof(old), at);
	if (rc < 0 || (memcmp(old, VHD_COOKIE, 8) != 0 && memcmp(old, VHD_COOKIE_POISON, 8) != 0))
		return rc;
	return io_write(io, none, sizeof(none), at);
}

static int end_flat(struct converter *c)
{
	uint8_t footer[VHD_FOOTER_BYTES];
	uint64_t at = c->target->size;
	int rc;

	c->result->file_bytes = at;
	if (c->target->format != VHD_FORMAT_FIXED) {
		rc = convert_forget_footer(c->io, at);
		return rc < 0 ? error_system(c->err, rc, "write", c->io->name) : 0;
	}
	if (c->io->device) {
		rc = io_size(c->io, &at);
		if (rc < 0)
			return error_system(c->err, rc, "write", c->io->name);
		at = number_round_down(at, VHD_SECTOR) - VHD_FOOTER_BYTES;
	}
	footer_encode(&c->target->plan.footer, footer);
	rc = c->target->in_place ? io_sync(c->io) : 0;
	if (!rc)
		rc = io_write(c->io, footer, sizeof(footer), at);
	c->result->file_bytes = at + VHD_FOOTER_BYTES;
	return rc < 0 ? error_system(c->err, rc, "write", c->io->name) : 0;
}

int convert_to_file(struct vhd_chain *chain, struct vhd_io *io, struct convert_target *target,
		    const struct vhd_progress *progress, struct vhd_convert_result *result,
		    struct vhd_error *err)
{
	struct converter c = { .source = { .chain = chain, .grain = ZERO_GRAIN },
			       .io = io,
			       .target = target,
			       .progress = progress,
			       .result = result,
			       .err = err,
			       .source_size = vhd_size(chain) };
	int rc = copy_start(copy_threads(io), JOBS, &c.copier);

	if (rc < 0)
		return error_system(err, rc, "convert to", io->name);
	rc = is_dynamic(&c) ? begin_dynamic(&c) : begin_flat(&c);
	if (!rc)
		rc = copy_pieces(&c);
	if (!rc)
		rc = is_dynamic(&c) ? end_dynamic(&c) : end_flat(&c);
	copy_stop(c.copier);
	convert_dynamic_release(&c.dynamic);
	return rc;
}
