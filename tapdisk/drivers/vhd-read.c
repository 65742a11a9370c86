/* vhd-read.c - reading from a chain, and telling its extents
 *
 * Leaf first; what it does not have is asked of the view of the frozen layers;
 * what nobody has is zero.
 */
#include <string.h>

#include "libvhd/base/number.h"
#include "vhd-private.h"

#define EXTENTS 16

/* The request's memory for its sectors from v->sector on. */
static uint8_t *place(const struct vhd_req *v)
{
	return (uint8_t *)v->req->buf + (v->sector * VHD_SECTOR - v->req->offset);
}

static void advance(struct vhd_req *v, uint64_t sectors)
{
	v->sector += sectors;
	v->left -= sectors;
}

static void zeros(struct vhd_req *v, uint64_t sectors)
{
	struct request *req = v->req;

	if (v->left * VHD_SECTOR == req->length && sectors == v->left &&
	    (req->flags & REQUEST_SPARSE))
		req->all_zero = true;
	else
		memset(place(v), 0, sectors * VHD_SECTOR);
	advance(v, sectors);
}

/* False: no operation free; the step comes again. */
static bool data(struct vhd_req *v, struct vhd_layer *layer, uint64_t file_sector, uint64_t sectors)
{
	if (!pump_issue(v, layer, ENGINE_READ, v->sector, file_sector, sectors, place(v)))
		return false;
	advance(v, sectors);
	return true;
}

/* Sectors that the leaf does not have.  False: waits, or failed. */
static bool below(struct vhd_req *v, uint64_t count)
{
	struct vhd_disk *d = v->disk;
	uint64_t end = v->sector + count;
	struct view_ext ext[EXTENTS];

	while (v->sector < end) {
		int n = view_lookup(d->view, v->sector, end - v->sector, ext, EXTENTS);

		if (n == MAP_WAIT) {
			vhd_want(v, true);
			return false;
		}
		if (n < 0) {
			v->err = n;
			pump_unref(v);
			return false;
		}
		for (int i = 0; i < n; i++) {
			if (ext[i].kind == VIEW_ZERO)
				zeros(v, ext[i].count);
			else if (!data(v, d->layers[ext[i].layer + 1], ext[i].file_sector,
				       ext[i].count))
				return false;
		}
	}
	return true;
}

void vhd_read_step(struct vhd_req *v)
{
	struct vhd_disk *d = v->disk;
	struct map_ext ext[EXTENTS];

	while (v->left) {
		int n = vhd_lookup_leaf(d, v->sector, v->left, ext, EXTENTS);

		if (n == MAP_WAIT) {
			vhd_want(v, false);
			return;
		}
		if (n < 0) {
			v->err = n;
			break;
		}
		for (int i = 0; i < n; i++) {
			if (ext[i].kind == EXT_ZERO)
				zeros(v, ext[i].count);
			else if (ext[i].kind == EXT_BELOW ?
					 !below(v, ext[i].count) :
					 !data(v, vhd_leaf(d), ext[i].file_sector, ext[i].count))
				return;
		}
	}
	pump_unref(v);
}

/* ── extents ── */

/* Append, joined where alike.  False: no room. */
static bool tell(struct vhd_req *v, uint64_t sectors, unsigned flags, unsigned depth)
{
	struct request *req = v->req;
	struct request_extent *last = req->extent_count ? &req->extents[req->extent_count - 1] :
							  NULL;

	if (last && last->flags == flags && last->depth == depth) {
		last->length += sectors * VHD_SECTOR;
	} else {
		if (req->extent_count == req->extent_max)
			return false;
		req->extents[req->extent_count++] = (struct request_extent){ sectors * VHD_SECTOR,
									     flags, depth };
	}
	advance(v, sectors);
	return true;
}

/* 0 all told, 1 enough was told, MAP_WAIT is -1 here; or a negative error. */
enum told { TOLD_ALL, TOLD_ENOUGH, TOLD_WAIT, TOLD_FAILED };

static enum told tell_below(struct vhd_req *v, uint64_t count)
{
	uint64_t end = v->sector + count;
	struct view_ext ext[EXTENTS];

	while (v->sector < end) {
		int n = view_lookup(v->disk->view, v->sector, end - v->sector, ext, EXTENTS);

		if (n == MAP_WAIT)
			return TOLD_WAIT;
		if (n < 0) {
			v->err = n;
			return TOLD_FAILED;
		}
		for (int i = 0; i < n; i++) {
			bool zero = ext[i].kind == VIEW_ZERO;

			if (!tell(v, ext[i].count, zero ? EXTENT_HOLE | EXTENT_ZERO : 0,
				  zero ? 0 : ext[i].layer + 2))
				return TOLD_ENOUGH;
		}
	}
	return TOLD_ALL;
}

static enum told tell_leaf(struct vhd_req *v, bool *of_view)
{
	struct map_ext ext[EXTENTS];
	int n = vhd_lookup_leaf(v->disk, v->sector, v->left, ext, EXTENTS);

	*of_view = false;
	if (n == MAP_WAIT)
		return TOLD_WAIT;
	if (n < 0) {
		v->err = n;
		return TOLD_FAILED;
	}
	for (int i = 0; i < n; i++) {
		enum told rc = TOLD_ALL;

		if (ext[i].kind == EXT_BELOW) {
			*of_view = true;
			rc = tell_below(v, ext[i].count);
		} else if (!tell(v, ext[i].count,
				 ext[i].kind == EXT_ZERO ? EXTENT_HOLE | EXTENT_ZERO : 0,
				 ext[i].kind == EXT_HERE)) {
			rc = TOLD_ENOUGH;
		}
		if (rc != TOLD_ALL)
			return rc;
	}
	return TOLD_ALL;
}

void vhd_status_step(struct vhd_req *v)
{
	bool of_view = false;
	enum told rc = TOLD_ALL;

	while (v->left && rc == TOLD_ALL)
		rc = tell_leaf(v, &of_view);
	if (rc == TOLD_WAIT && !v->req->extent_count) {
		vhd_want(v, of_view);
		return;
	}
	/* a short answer is an answer: the client asks on from there */
	if (rc == TOLD_FAILED && v->req->extent_count)
		v->err = 0;
	pump_unref(v);
}
