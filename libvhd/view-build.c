/* view-build.c - resolves one cell of a view
 *
 * Layer by layer from the top, each is asked for the sectors that none above
 * it has; where a layer's own metadata is not in memory the build sleeps
 * until its map has loaded it.
 *
 *  B1  a sector past a layer's end is zero, whatever lies deeper
 *  B2  a sector that the last layer leaves to a parent is an error, never zero
 *  B3  ext[s] is meaningful where bit s of starts is set
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/number.h"
#include "error.h"
#include "view-private.h"

#define LOOKUP_EXT 32

void build_begin(struct build *b, struct vhd_view *view, uint32_t index)
{
	/* all but ext, which is written before it is read */
	memset(b, 0, offsetof(struct build, ext));
	b->view = view;
	b->index = index;
	b->state = BUILD_RUNNABLE;
}

/* Sectors [start, start + count) of the cell are settled. */
static void settle(struct build *b, uint32_t start, uint32_t count, unsigned layer,
		   uint32_t file_sector)
{
	bits_set(b->starts, start);
	bits_set_range(b->resolved, start, count);
	b->ext[start] = (struct cell_ext){ (uint16_t)start, (uint8_t)layer, file_sector };
}

static void settle_rest_as_zero(struct build *b, uint32_t from)
{
	while (from < VIEW_CELL_SECTORS) {
		uint32_t run = (uint32_t)bits_run(b->resolved, from, VIEW_CELL_SECTORS);

		if (!bits_test(b->resolved, from))
			settle(b, from, run, VIEW_LAYER_ZERO, 0);
		from += run;
	}
}

/* Take over what a layer's map said about sectors that were not resolved. */
static int take_extents(struct build *b, uint64_t base, const struct map_ext *e, int n)
{
	for (; n > 0; n--, e++) {
		uint32_t start = (uint32_t)(e->sector - base), count = (uint32_t)e->count;

		if (e->kind == EXT_HERE) {
			if (!number_within(e->file_sector, e->count, VIEW_SECTORS_MAX))
				return -VHD_E_BAT_ENTRY;
			settle(b, start, count, b->layer, (uint32_t)e->file_sector);
		} else if (e->kind == EXT_ZERO) {
			settle(b, start, count, VIEW_LAYER_ZERO, 0);
		}
		b->cursor = start + count;
	}
	return 0;
}

/* Called by a layer's map; the build goes on when the map has returned.  A read that failed under
 * somebody else's patience, or was begun for requests that have been cancelled since, says
 * nothing: it is asked for again. */
static void layer_ready(struct map_req *req)
{
	struct build *b = (struct build *)req;

	assert(b->state == BUILD_WAITING);
	b->state = BUILD_RUNNABLE;
	b->view->layers[b->layer].waiting--;
	if (req->err == -ECANCELED || (!b->view->inside && !error_is_vhd(req->err)))
		req->err = 0;
	if (!b->view->inside && b->view->kick)
		b->view->kick(b->view->kick_arg);
}

static void sleep_on_layer(struct build *b, uint64_t sector, uint64_t count)
{
	struct layer *layer = &b->view->layers[b->layer];

	b->req = (struct map_req){ .sector = sector, .count = count, .ready = layer_ready };
	b->state = BUILD_WAITING;
	layer->waiting++;
	if (!list_linked(&layer->active))
		list_append(&b->view->active, &layer->active);
	map_want(layer->map, &b->req);
}

/* Put the unresolved sectors to layer b->layer from b->cursor on.  1: all were
 * answered; 0: asleep; negative. */
static int ask_layer(struct build *b)
{
	const struct layer *layer = &b->view->layers[b->layer];
	uint64_t base = (uint64_t)b->index * VIEW_CELL_SECTORS;
	uint32_t end = VIEW_CELL_SECTORS;

	if (layer->size_sectors < base + end) {
		/* clipped: beyond an ancestor's end is zero, not the business of its parents */
		end = layer->size_sectors > base ? (uint32_t)(layer->size_sectors - base) : 0;
		settle_rest_as_zero(b, end);
	}
	while (b->cursor < end) {
		uint32_t run = (uint32_t)bits_run(b->resolved, b->cursor, end);
		struct map_ext ext[LOOKUP_EXT];
		int n;

		if (bits_test(b->resolved, b->cursor)) {
			b->cursor += run;
			continue;
		}
		if (!layer->map) {
			settle(b, b->cursor, run, b->layer, (uint32_t)(base + b->cursor));
			b->cursor += run;
			continue;
		}
		n = map_lookup(layer->map, base + b->cursor, run, ext, LOOKUP_EXT);
		if (n == MAP_WAIT) {
			sleep_on_layer(b, base + b->cursor, run);
			return 0;
		}
		if (n > 0)
			n = take_extents(b, base, ext, n);
		if (n < 0)
			return n;
	}
	return 1;
}

/* The extents, in order and joined, become a cell. */
static int finish(struct build *b)
{
	uint32_t from = 0, n = 0;

	while (from < VIEW_CELL_SECTORS) {
		struct cell_ext *e, *last = n ? &b->ext[n - 1] : NULL;

		if (!bits_test(b->starts, from)) {
			from += (uint32_t)bits_run(b->starts, from, VIEW_CELL_SECTORS);
			continue;
		}
		e = &b->ext[from];
		if (!last || last->layer != e->layer ||
		    (e->layer != VIEW_LAYER_ZERO &&
		     e->file_sector - last->file_sector != (uint32_t)(e->start - last->start)))
			b->ext[n++] = *e; /* n <= from: nothing unread is overwritten */
		from++;
	}
	return cells_add(&b->view->cells, b->index, b->ext, n);
}

static void end_build(struct build *b, int err)
{
	b->state = BUILD_FREE;
	while (b->owners) {
		struct map_req *req = b->owners;

		b->owners = req->next;
		req->err = err;
		view_append_req(&b->view->done, req);
	}
}

void build_cancel(struct build *b, int err)
{
	struct layer *layer = &b->view->layers[b->layer];

	if (b->state == BUILD_WAITING) {
		map_unwant(layer->map, &b->req);
		layer->waiting--;
	}
	end_build(b, err);
}

void build_run(struct build *b)
{
	int rc = b->req.err;

	if (b->again) {
		struct map_req *owners = b->owners;

		build_begin(b, b->view, b->index);
		b->owners = owners;
		rc = 0;
	}
	while (rc >= 0) {
		rc = ask_layer(b);
		if (rc == 0)
			return; /* asleep */
		if (rc < 0)
			break;
		if (bits_all_set(b->resolved, 0, VIEW_CELL_SECTORS)) {
			rc = finish(b);
			break;
		}
		if (b->layer + 1 == b->view->count) {
			rc = -VHD_E_PARENT_MISSING;
			break;
		}
		b->layer++;
		b->cursor = 0;
	}
	if (rc < 0)
		b->view->fault_layer = b->layer;
	end_build(b, rc);
}
