/* vhd-zero.c - zeroes and trim
 *
 * What is done with a range, by where its sectors are:
 *
 *                     image without parent        with parent
 *   whole block       freed (ORDER 10)            -
 *   in the leaf       punched                     punched, bits kept (ORDER 11)
 *   below             -                           trim: nothing; zero: nothing if all below is
 *                                                 zero, else reserved and zeroed (ORDER 11)
 *   nowhere           nothing                     nothing
 *
 * Encrypted images: what would be punched or zeroed is written, what would be trimmed stays.
 * NO_HOLE: what would be freed or punched keeps its space.  Fixed images keep theirs always.
 */
#include <errno.h>

#include "libvhd/base/number.h"
#include "vhd-private.h"

#define STEPS_A_TURN 128u

enum action { ACT_FAILED, ACT_WAITS, ACT_SKIP, ACT_CLEAR };

static enum action failed(struct vhd_req *v, int err)
{
	v->err = err;
	return ACT_FAILED;
}

static enum action below(struct vhd_req *v, uint64_t *count)
{
	struct view_ext ext;
	int n;

	if (v->req->op == REQUEST_TRIM)
		return ACT_SKIP;
	n = view_lookup(v->disk->view, v->sector, *count, &ext, 1);
	if (n == MAP_WAIT) {
		vhd_want(v, true);
		return ACT_WAITS;
	}
	if (n < 0)
		return failed(v, n);
	*count = ext.count;
	return ext.kind == VIEW_ZERO ? ACT_SKIP : ACT_CLEAR;
}

/* The whole blocks at the start of what is left, in an image without parent. */
static enum action free_blocks(struct vhd_req *v, uint64_t *count)
{
	struct vhd_disk *d = v->disk;
	uint64_t block = vhd_leaf(d)->img->block_sectors, end = v->sector + v->left;
	int n;

	if (end < vhd_leaf(d)->size_sectors)
		end = number_round_down(end, block);
	*count = end - v->sector;
	v->wait.sector = v->sector;
	v->wait.count = *count;
	v->wait.ready = vhd_step_again;
	n = map_free(d->map, &v->wait);
	if (n == -EAGAIN) {
		pump_soon(d);
		return ACT_WAITS;
	}
	if (n < 0)
		return failed(v, n);
	vhd_touched(d);
	return ACT_SKIP;
}

static bool whole_block(const struct vhd_req *v)
{
	uint64_t block = vhd_leaf(v->disk)->img->block_sectors;

	return !(v->sector % block) &&
	       (v->left >= block || v->sector + v->left == vhd_leaf(v->disk)->size_sectors);
}

/* What to do with the next *@count sectors. */
static enum action next(struct vhd_req *v, uint64_t *count)
{
	struct vhd_disk *d = v->disk;
	bool keep = v->req->flags & REQUEST_NO_HOLE;
	struct map_ext ext;
	int n;

	if (!d->map) {
		*count = v->left;
		return v->req->op == REQUEST_TRIM ? ACT_SKIP : ACT_CLEAR;
	}
	*count = v->left;
	if (!d->has_parent && v->req->op == REQUEST_ZERO &&
	    map_has_remains(d->map, v->sector, count))
		return ACT_CLEAR;
	if (!d->has_parent && !keep && whole_block(v))
		return free_blocks(v, count);
	n = vhd_lookup_leaf(d, v->sector, v->left, &ext, 1);
	if (n == MAP_WAIT) {
		vhd_want(v, false);
		return ACT_WAITS;
	}
	if (n < 0)
		return failed(v, n);
	*count = ext.count;
	if (ext.kind == EXT_BELOW)
		return below(v, count);
	if (d->buffers && v->req->op == REQUEST_TRIM)
		return ACT_SKIP;
	return ext.kind == EXT_HERE || keep ? ACT_CLEAR : ACT_SKIP;
}

void vhd_zero_step(struct vhd_req *v)
{
	bool keep = (v->req->flags & REQUEST_NO_HOLE) || !v->disk->map;

	if (v->disk->buffers && (v->req->flags & REQUEST_FAST_ZERO)) {
		v->err = -ENOTSUP;
		pump_unref(v);
		return;
	}
	for (unsigned i = 0; v->left; i++) {
		uint64_t count = 0;

		if (i == STEPS_A_TURN) {
			pump_yield(v);
			return;
		}
		switch (next(v, &count)) {
		case ACT_WAITS:
			return;
		case ACT_FAILED:
			pump_unref(v);
			return;
		case ACT_SKIP:
			v->sector += count;
			v->left -= count;
			break;
		case ACT_CLEAR:
			vhd_write_piece(v, count, keep ? ENGINE_ZERO : ENGINE_PUNCH, NULL);
			return;
		}
	}
	pump_unref(v);
}
