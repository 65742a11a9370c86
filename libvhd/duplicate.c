/* duplicate.c - vhd_copy: a new image with the same data
 *
 * What the leaf has is copied, sector by sector, no more: block after block, each placed behind
 * the one before, its bitmap beside its data.  Workers move the data; the owner does the rest.
 * Metadata comes last, and of that the footers, after a sync of their own: where the copy is
 * written in place (a device, an empty file) a crash leaves no image rather than half of one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "atomic.h"
#include "base/bits.h"
#include "base/number.h"
#include "bitmap.h"
#include "convert-dynamic.h"
#include "copy.h"
#include "create.h"
#include "duplicate.h"
#include "error.h"

#define EXTENTS	      64
#define JOBS	      6u
#define JOB_BYTES     (1u << 20)
#define GRAIN_SECTORS 128u /* zeros in runs of these stay holes */

struct copying {
	struct duplicate d;
	const struct vhd_copy_options *o;
	struct vhd_copy_result *result;
	struct vhd_error *err;
	struct vhd_io *io; /* the target's; borrowed */
	bool in_place;	   /* it has its name already */
	struct convert_dynamic dynamic;
	struct copier *copier;
	unsigned flying;
	/* the block under way: its bitmap is d.page; no data is no block */
	uint64_t block, data;
	uint8_t *full; /* owned: which blocks are */
	uint64_t device_bytes;
};

static int failed(struct copying *c, int rc)
{
	return rc < 0 ? error_system(c->err, rc, "write", c->io->name) : 0;
}

/* ── moving ── */

static int collect(struct copying *c)
{
	struct copy_job *job = copy_collect(c->copier);
	int rc = job->err ? copy_job_error(job, c->io, c->err) : 0;

	c->flying--;
	c->result->data_bytes += job->written;
	copy_put(c->copier, job);
	return rc;
}

static int drain(struct copying *c)
{
	int rc = 0;

	while (c->flying) {
		int one = collect(c);

		if (!rc)
			rc = one;
	}
	return rc;
}

static int submit(struct copying *c, struct copy_job **job)
{
	if (!*job)
		return 0;
	(*job)->push = true;
	copy_submit(c->copier, *job);
	c->flying++;
	*job = NULL;
	return 0;
}

static int add(struct copying *c, struct copy_job **job, const struct copy_segment *s)
{
	if (*job && ((*job)->bytes >= JOB_BYTES || !copy_add(*job, s))) {
		int rc = submit(c, job);

		if (rc < 0)
			return rc;
	} else if (*job) {
		return 0;
	}
	while (!(*job = copy_take(c->copier))) {
		int rc = collect(c);

		if (rc < 0)
			return rc;
	}
	(*job)->skip_zeros = !c->d.encrypt; /* what is not written is zero */
	return copy_add(*job, s) ? 0 : -EINVAL;
}

/* ── blocks ── */

/* The block under way is complete: its bitmap goes before its data. */
static int end_block(struct copying *c)
{
	struct convert_dynamic *d = &c->dynamic;
	const uint8_t *bits = d->page + d->page_bytes - bitmap_sectors(d->sectors) * VHD_SECTOR;

	if (!c->data)
		return 0;
	if (c->full && bits_all_set(bits, 0, d->sectors))
		bits_set(c->full, c->block);
	return failed(c, io_write(c->io, d->page, d->page_bytes, c->data - d->page_bytes));
}

static int begin_block(struct copying *c, uint64_t block)
{
	struct convert_dynamic *d = &c->dynamic;
	uint64_t bytes = c->d.plan.header.block_size;
	uint32_t entry;
	int rc = end_block(c);

	if (rc < 0)
		return rc;
	convert_dynamic_place(d, (uint32_t)block, &entry);
	memset(d->page, 0, d->page_bytes);
	c->block = block;
	c->data = convert_dynamic_data(d, entry);
	if (!c->io->device)
		return 0;
	/* old contents of a device must not show through what is absent */
	if (c->data + bytes + VHD_FOOTER_BYTES > c->device_bytes)
		return failed(c, -ENOSPC);
	return failed(c, io_zero(c->io, c->data, bytes));
}

static int add_run(struct copying *c, struct copy_job **job, const struct map_ext *e)
{
	struct convert_dynamic *d = &c->dynamic;
	uint64_t sector = e->sector, left = e->count;

	while (left) {
		uint64_t first = sector % d->sectors;
		uint64_t n = number_min(number_min(left, d->sectors - first),
					GRAIN_SECTORS - first % GRAIN_SECTORS);
		struct copy_segment s = {
			.from = c->d.chain->images[0]->io,
			.from_offset = (e->file_sector + (sector - e->sector)) * VHD_SECTOR,
			.to = c->io,
			.length = (uint32_t)(n * VHD_SECTOR),
			.decrypt = c->d.decrypt,
			.encrypt = c->d.encrypt,
			.sector = sector,
		};
		int rc = 0;

		if (!c->data || c->block != sector / d->sectors)
			rc = begin_block(c, sector / d->sectors);
		s.to_offset = c->data + first * VHD_SECTOR;
		bits_set_range(d->page + d->page_bytes - bitmap_sectors(d->sectors) * VHD_SECTOR,
			       first, n);
		if (!rc)
			rc = add(c, job, &s);
		if (rc < 0)
			return rc;
		sector += n;
		left -= n;
	}
	return 0;
}

static int step(const struct copying *c, uint64_t sector)
{
	const struct vhd_progress *p = &c->o->progress;

	if (!p->step || !p->step(p->arg, sector * VHD_SECTOR, c->result->size))
		return 0;
	return error_set(c->err, -VHD_E_CANCELLED, "copying to '%s' was interrupted", c->io->name);
}

static int move(struct copying *c)
{
	struct vhd_image *img = c->d.chain->images[0];
	uint64_t end = img->size / VHD_SECTOR;
	struct copy_job *job = NULL;
	int rc = 0;

	for (uint64_t at = 0; at < end && !rc;) {
		struct map_ext ext[EXTENTS];
		int n = image_lookup(img, at, end - at, ext, EXTENTS, c->err);

		rc = n < 0 ? n : 0;
		for (int i = 0; i < n && !rc; i++) {
			if (ext[i].kind == EXT_HERE)
				rc = add_run(c, &job, &ext[i]);
			at = ext[i].sector + ext[i].count;
		}
		if (!rc)
			rc = step(c, at);
	}
	if (!rc)
		rc = submit(c, &job);
	if (!rc)
		rc = drain(c);
	if (rc < 0) {
		struct vhd_error *kept = c->err; /* the first error is the one to tell */

		c->err = NULL;
		if (job)
			copy_put(c->copier, job);
		(void)drain(c);
		c->err = kept;
		return rc;
	}
	return end_block(c);
}

/* ── metadata ── */

static int write_metadata(struct copying *c)
{
	const struct plan *p = &c->d.plan;
	uint64_t end = convert_dynamic_end(&c->dynamic);
	uint8_t footer[VHD_FOOTER_BYTES];
	int rc;

	if (c->io->device)
		end = number_round_down(c->device_bytes, VHD_SECTOR) - VHD_FOOTER_BYTES;
	c->dynamic.full = c->full;
	rc = convert_dynamic_metadata(&c->dynamic, p, convert_dynamic_put, c->io);
	if (!rc && p->locators_at)
		rc = io_write(c->io, p->locators, sizeof(p->locators), p->locators_at);
	footer_encode(&p->footer, footer);
	if (!rc)
		rc = convert_dynamic_footers(c->io, footer, end, c->in_place);
	c->result->file_bytes = end + VHD_FOOTER_BYTES;
	return failed(c, rc);
}

/* A device may hold an image that is to go: its footers first. */
static int clear_device(struct copying *c)
{
	static const uint8_t none[VHD_FOOTER_BYTES];
	uint64_t metadata = c->d.plan.metadata_end, end;
	int rc;

	if (!c->io->device)
		return 0;
	if (c->device_bytes < metadata + VHD_FOOTER_BYTES)
		return failed(c, -ENOSPC);
	end = number_round_down(c->device_bytes, VHD_SECTOR) - VHD_FOOTER_BYTES;
	rc = io_write(c->io, none, sizeof(none), end);
	if (!rc)
		rc = io_zero(c->io, 0, metadata);
	if (!rc)
		rc = io_sync(c->io);
	return failed(c, rc);
}

static int copy_sparse(struct copying *c)
{
	int rc = copy_start(copy_threads(c->io), JOBS, &c->copier);

	if (!rc)
		rc = convert_dynamic_init(&c->dynamic, &c->d.plan, c->d.plan.metadata_end);
	if (!rc && c->d.plan.batmap) {
		c->full = calloc(1, c->d.plan.batmap_bytes);
		rc = c->full ? 0 : -ENOMEM;
	}
	if (!rc)
		rc = io_size(c->io, &c->device_bytes);
	if (rc < 0)
		error_system(c->err, rc, "copy to", c->io->name);
	if (!rc)
		rc = clear_device(c);
	if (!rc)
		rc = move(c);
	if (!rc)
		rc = write_metadata(c);
	copy_stop(c->copier);
	convert_dynamic_release(&c->dynamic);
	free(c->full);
	return rc;
}

/* ── the whole ── */

static int copy_flat(const char *source, const char *destination, const struct vhd_copy_options *o,
		     struct vhd_copy_result *result, struct vhd_error *err)
{
	struct vhd_convert_options convert = {
		.from = VHD_FORMAT_FIXED,
		.to = VHD_FORMAT_FIXED,
		.force = o->force,
		.parents = o->parents,
		.progress = o->progress,
	};
	struct vhd_convert_result made;
	int rc = vhd_convert(source, destination, &convert, &made, err);

	if (!rc) {
		result->data_bytes = made.data_bytes;
		result->file_bytes = made.file_bytes;
	}
	return rc;
}

int vhd_copy(const char *source, const char *destination, const struct vhd_copy_options *o,
	     struct vhd_copy_result *result, struct vhd_error *err)
{
	struct vhd_copy_result unused;
	struct copying c = { .o = o, .result = result ? result : &unused, .err = err };
	struct atomic a = { 0 };
	bool flat;
	int rc;

	memset(c.result, 0, sizeof(*c.result));
	rc = duplicate_plan(&c.d, source, destination, o, err);
	flat = !rc && !c.d.plan.footer.type;
	if (!rc) {
		chain_warn(c.d.chain, &o->progress);
		c.result->size = vhd_size(c.d.chain);
		c.result->encrypted = c.d.plan.keyhash;
	}
	if (!rc && o->dry_run)
		rc = atomic_check(destination, o->force, err);
	else if (!rc && flat)
		rc = copy_flat(source, destination, o, c.result, err);
	else if (!rc)
		rc = atomic_begin(destination, o->force ? ATOMIC_FORCE : 0, &a, err);
	if (!rc && a.io) {
		c.io = a.io;
		c.in_place = !a.temp;
		rc = copy_sparse(&c);
		if (!rc)
			rc = atomic_commit(&a, true, err);
		else
			atomic_abort(&a);
	}
	duplicate_release(&c.d);
	return rc;
}
