/* vhd-resize.c - live growth of the leaf inside its metadata's room
 *
 * The map does the work (map_resize): footer at the end, sync, copy at the front, sync.  Layers
 * below keep their size; what lies beyond them is zero.  What would have to be made zero first
 * (ORDER 24) is left to vhd-util resize.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/number.h"
#include "libvhd/error.h"
#include "libvhd/geometry.h"
#include "libvhd/lock.h"
#include "libvhd/plan.h"
#include "vhd-private.h"

struct resize {
	uint64_t bytes;
	struct vhd_footer footer;
	void (*done)(void *arg, const struct vhd_error *err);
	void *arg;
};

static void report_spare(const struct vhd_disk *d, struct vhd_error *err)
{
	uint64_t table = vhd_leaf(d)->img->header.table_offset;
	uint32_t block, entry;

	map_fault(d->map, &block, &entry);
	error_value(
		err, -VHD_E_BAT_ENTRY, table + block * 4ull, VHD_BAT_UNUSED, entry,
		"cannot resize '%s' while it runs: its table has a block %u already, behind the "
		"end of the disk; if an interrupted resize left it, vhd-util resize gives it "
		"back when the disk is closed; see vhd-util check",
		d->path, block);
}

static void resized(struct map_req *req)
{
	struct vhd_disk *d = list_entry(req, struct vhd_disk, job);
	struct resize *r = d->job_owner;
	struct vhd_image *img = vhd_leaf(d)->img;
	struct vhd_error err = { .code = 0 };

	if (req->err == -VHD_E_BAT_ENTRY) {
		report_spare(d, &err);
	} else if (req->err) {
		error_system(&err, req->err, "resize", d->path);
	} else {
		img->footer = r->footer;
		img->size = r->bytes;
		img->blocks = (uint32_t)number_div_up(r->bytes, img->header.block_size);
		vhd_leaf(d)->size_sectors = r->bytes / VHD_SECTOR;
		d->disk.size = r->bytes;
	}
	d->job_owner = NULL;
	lock_drop(img->io, LOCK_HEADER, NULL);
	r->done(r->arg, &err);
	free(r);
}

/* What is new reads as zero: the parent's data behind the old end does not, nor what the map clears
 * in a block that is encrypted. */
static int refuse_to_show(const struct vhd_disk *d, struct vhd_error *err)
{
	const struct vhd_layer *parent = d->depth > 1 ? d->layers[1] : NULL;

	if (parent && parent->size_sectors > d->disk.size / VHD_SECTOR)
		return error_set(
			err, -VHD_E_UNSUPPORTED,
			"cannot resize '%s' while it runs: its parent is larger, and what "
			"that has behind the end of the disk would come to light; vhd-util "
			"resize hides it, when the disk is closed",
			d->path);
	if (vhd_leaf(d)->crypt && d->disk.size % vhd_leaf(d)->img->header.block_size)
		return error_set(err, -VHD_E_ENCRYPTED,
				 "cannot resize '%s': it is encrypted, and its last block is not "
				 "whole; copy it to a larger image",
				 d->path);
	return 0;
}

static int refuse(const struct vhd_disk *d, uint64_t bytes, struct vhd_error *err)
{
	const struct vhd_image *img = vhd_leaf(d)->img;

	if (d->job_owner)
		return error_set(err, -EBUSY, "cannot resize '%s': another job is under way",
				 d->path);
	if (d->misnamed)
		return error_set(err, -ESTALE,
				 "cannot resize '%s': a snapshot failed half way, another file has "
				 "that name; pause and resume the disk first",
				 d->path);
	if (d->params.read_only)
		return error_set(err, -EROFS, "cannot resize '%s': it is open read-only", d->path);
	if (!d->map)
		return error_set(err, -VHD_E_UNSUPPORTED,
				 "cannot resize '%s' while it runs: only dynamic and differencing "
				 "images grow live",
				 d->path);
	if (bytes % VHD_SECTOR)
		return error_set(err, -VHD_E_ARGUMENT,
				 "cannot resize '%s': %llu bytes are not a multiple of 512",
				 d->path, (unsigned long long)bytes);
	if (bytes < d->disk.size)
		return error_set(
			err, -VHD_E_ARGUMENT,
			"cannot resize '%s': a running disk does not shrink (%llu bytes now)",
			d->path, (unsigned long long)d->disk.size);
	if (bytes > VHD_SIZE_MAX) {
		plan_too_big(bytes, err);
		error_prefix(err, "cannot resize '%s'", d->path);
		return -VHD_E_TOO_BIG;
	}
	if (number_div_up(bytes, img->header.block_size) > img->header.max_entries)
		return error_set(
			err, -VHD_E_TOO_BIG,
			"cannot resize '%s': its block table has room for %llu bytes; make "
			"room offline with vhd-util resize",
			d->path,
			(unsigned long long)img->header.max_entries * img->header.block_size);
	return bytes > d->disk.size ? refuse_to_show(d, err) : 0;
}

void vhd_disk_resize(struct disk *disk, uint64_t bytes,
		     void (*done)(void *arg, const struct vhd_error *err), void *arg)
{
	struct vhd_disk *d = vhd_disk_of(disk);
	struct vhd_error err = { .code = 0 };
	struct vhd_geometry g = geometry_for(bytes / VHD_SECTOR);
	uint8_t raw[VHD_FOOTER_BYTES];
	struct resize *r = NULL;
	int rc = refuse(d, bytes, &err);

	/* the copy of the footer is written, which a change of parent needs for itself */
	if (!rc)
		rc = lock_take(vhd_leaf(d)->img->io, LOCK_HEADER, NULL, 0, NULL, &err);
	if (!rc) {
		r = calloc(1, sizeof(*r));
		rc = r ? 0 : error_system(&err, -ENOMEM, "resize", d->path);
		if (rc)
			lock_drop(vhd_leaf(d)->img->io, LOCK_HEADER, NULL);
	}
	if (rc < 0) {
		done(arg, &err);
		return;
	}
	*r = (struct resize){ bytes, vhd_leaf(d)->img->footer, done, arg };
	r->footer.current_size = bytes;
	r->footer.cylinders = g.cylinders;
	r->footer.heads = g.heads;
	r->footer.sectors_per_track = g.sectors_per_track;
	footer_encode(&r->footer, raw);
	d->job_owner = r;
	d->job = (struct map_req){ .ready = resized };
	rc = map_resize(d->map, &d->job, bytes / VHD_SECTOR, raw);
	if (rc < 0) {
		d->job.err = rc;
		resized(&d->job);
		return;
	}
	pump_soon(d);
}
