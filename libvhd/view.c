/* view.c - the frozen layers of a chain as one disk
 *
 * A lookup reads cells that are in memory (view-cells.c).  One that is not is
 * built on demand (view-build.c).
 *
 *   want -> queue -> build: RUNNABLE <-> waiting for a layer's map
 *                      |  all sectors resolved, or an error
 *                      v
 *                    cell in the cache (not after an error) -> ready() of all its requests
 *
 *  V1  at most one build a cell, at most VIEW_BUILDS builds; a request is in the
 *      queue, or on one build, or in the done list, until ready()
 *  V2  ready() is called from view_next and view_done only, when nothing else of
 *      the view is half done: it may call back into the view
 *  V3  a build becomes runnable inside these two, or the owner is kicked: then the
 *      map's operation was done through another view
 *  V4  operations of a map are offered while a build waits for it, and not otherwise: with maps
 *      that are shared, a view that nobody waits in has nothing in flight for others
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/number.h"
#include "view-private.h"

int view_open(const struct view_layer *layers, unsigned count, uint64_t cache_bytes,
	      struct vhd_view **out)
{
	struct vhd_view *view;
	int rc;

	assert(count < VHD_CHAIN_MAX);
	view = calloc(1, sizeof(*view) + count * sizeof(struct layer));
	if (!view)
		return -ENOMEM;
	list_init(&view->active);
	view->count = count;
	for (unsigned i = 0; i < count; i++) {
		view->layers[i].map = layers[i].map;
		view->layers[i].size_sectors = layers[i].size_sectors;
		list_init(&view->layers[i].active);
	}
	view->size_sectors = count ? layers[0].size_sectors : 0;
	rc = cells_init(&view->cells, view->size_sectors, cache_bytes);
	if (rc < 0) {
		free(view);
		return rc;
	}
	*out = view;
	return 0;
}

void view_close(struct vhd_view *view)
{
	if (!view)
		return;
	assert(!view->queue && !view->done);
	for (unsigned i = 0; i < VIEW_BUILDS; i++) {
		assert(!view->builds[i] || view->builds[i]->state == BUILD_FREE);
		free(view->builds[i]);
	}
	cells_release(&view->cells);
	free(view);
}

void view_append_req(struct map_req **list, struct map_req *req)
{
	while (*list)
		list = &(*list)->next;
	req->next = NULL;
	*list = req;
}

/* ── looking up ── */

/* Put an extent behind the @n in @out, joined to the last if it continues it.  Returns the new
 * number, or -1 when there is no room. */
static int emit(struct view_ext *out, int n, int max, const struct view_ext *e)
{
	struct view_ext *last = n ? &out[n - 1] : NULL;

	if (last && last->kind == e->kind &&
	    (e->kind == VIEW_ZERO ||
	     (last->layer == e->layer && last->file_sector + last->count == e->file_sector))) {
		last->count += e->count;
		return n;
	}
	if (n == max)
		return -1;
	out[n] = *e;
	return n + 1;
}

/* Emit what @cell has of [sector, end); *@reached tells how far that came. */
static int emit_cell(const struct cell *cell, uint64_t *reached, uint64_t end, struct view_ext *out,
		     int n, int max)
{
	uint64_t base = (uint64_t)cell->index * VIEW_CELL_SECTORS;
	uint64_t stop = number_min(end, base + VIEW_CELL_SECTORS);

	for (uint32_t i = cell_search(cell, (uint32_t)(*reached - base)); *reached < stop; i++) {
		const struct cell_ext *p = &cell->ext[i];
		uint64_t ext_end = number_min(stop, base + cell_ext_end(cell, i));
		struct view_ext e = { .sector = *reached, .count = ext_end - *reached };
		int rc;

		if (p->layer == VIEW_LAYER_ZERO) {
			e.kind = VIEW_ZERO;
		} else {
			e.kind = VIEW_DATA;
			e.layer = p->layer;
			e.file_sector = p->file_sector + (*reached - base - p->start);
		}
		rc = emit(out, n, max, &e);
		if (rc < 0)
			break;
		n = rc;
		*reached = ext_end;
	}
	return n;
}

int view_lookup(struct vhd_view *view, uint64_t sector, uint64_t count, struct view_ext *out,
		int max)
{
	uint64_t end, limit, reached = sector;
	int n = 0;

	if (!count || max <= 0 || !number_add(sector, count, &end) || end > VIEW_SECTORS_MAX)
		return -VHD_E_RANGE;
	limit = number_min(end, view->size_sectors);
	while (reached < limit) {
		struct cell *cell = cells_find(&view->cells,
					       (uint32_t)(reached / VIEW_CELL_SECTORS));
		uint64_t before = reached;

		if (!cell)
			return n; /* MAP_WAIT when nothing came before it */
		n = emit_cell(cell, &reached, limit, out, n, max);
		if (reached == before || (n == max && reached % VIEW_CELL_SECTORS))
			return n;
	}
	if (reached < end) {
		struct view_ext e = { VIEW_ZERO, 0, reached, end - reached, 0 };
		int rc = emit(out, n, max, &e);

		n = rc < 0 ? n : rc;
	}
	return n;
}

/* ── requests ── */

static struct build *find_build(struct vhd_view *view, uint32_t index)
{
	for (unsigned i = 0; i < VIEW_BUILDS; i++) {
		struct build *b = view->builds[i];

		if (b && b->state != BUILD_FREE && b->index == index)
			return b;
	}
	return NULL;
}

/* Start to build cell @index, or NULL: all are busy (*@err 0), or no memory. */
static struct build *start_build(struct vhd_view *view, uint32_t index, int *err)
{
	unsigned i;

	*err = 0;
	for (i = 0; i < VIEW_BUILDS; i++)
		if (!view->builds[i] || view->builds[i]->state == BUILD_FREE)
			break;
	if (i == VIEW_BUILDS)
		return NULL;
	if (!view->builds[i]) {
		view->builds[i] = malloc(sizeof(struct build));
		if (!view->builds[i]) {
			*err = -ENOMEM;
			return NULL;
		}
	}
	build_begin(view->builds[i], view, index);
	return view->builds[i];
}

/* Find each request of the queue a build, as far as there are any. */
static void start_queued(struct vhd_view *view)
{
	struct map_req *waiting = view->queue;

	view->queue = NULL;
	while (waiting) {
		struct map_req *req = waiting;
		uint32_t index = (uint32_t)(req->sector / VIEW_CELL_SECTORS);
		struct build *b;
		int err = 0;

		waiting = req->next;
		if (req->sector >= view->size_sectors || cells_find(&view->cells, index)) {
			req->err = 0;
			view_append_req(&view->done, req);
			continue;
		}
		b = find_build(view, index);
		if (!b)
			b = start_build(view, index, &err);
		if (b) {
			view_append_req(&b->owners, req);
		} else if (err) {
			req->err = err;
			view_append_req(&view->done, req);
		} else {
			view_append_req(&view->queue, req);
		}
	}
}

void view_want(struct vhd_view *view, struct map_req *req)
{
	if (req->sector >= VIEW_SECTORS_MAX) {
		req->err = -VHD_E_RANGE;
		view_append_req(&view->done, req);
		return;
	}
	view_append_req(&view->queue, req);
}

void view_cancel(struct vhd_view *view, int err)
{
	struct map_req *req;

	for (unsigned i = 0; i < VIEW_BUILDS; i++)
		if (view->builds[i] && view->builds[i]->state != BUILD_FREE)
			build_cancel(view->builds[i], err);
	while ((req = view->queue)) {
		view->queue = req->next;
		req->err = err;
		view_append_req(&view->done, req);
	}
}

/* Let all builds go as far as they can, then answer who is to be answered. */
static void advance(struct vhd_view *view)
{
	bool ran;

	do {
		start_queued(view);
		ran = false;
		for (unsigned i = 0; i < VIEW_BUILDS; i++) {
			struct build *b = view->builds[i];

			if (b && b->state == BUILD_RUNNABLE) {
				build_run(b);
				ran = true;
			}
		}
		while (view->done) {
			struct map_req *req = view->done;

			view->done = req->next;
			req->next = NULL;
			req->ready(req);
			ran = true;
		}
	} while (ran);
}

static bool any_runnable(const struct vhd_view *view)
{
	for (unsigned i = 0; i < VIEW_BUILDS; i++)
		if (view->builds[i] && view->builds[i]->state == BUILD_RUNNABLE)
			return true;
	return false;
}

static bool next(struct vhd_view *view, unsigned *layer, struct map_io *io)
{
	do {
		struct list *link, *after;

		advance(view);
		for (link = view->active.next; link != &view->active; link = after) {
			struct layer *l = list_entry(link, struct layer, active);

			after = link->next;
			if (!l->waiting) {
				/* what others wait for is theirs to issue: V4 */
				list_remove(link);
				continue;
			}
			if (map_next(l->map, io)) {
				/* the other layers' turn first: storage may differ */
				list_remove(link);
				list_append(&view->active, link);
				*layer = (unsigned)(l - view->layers);
				return true;
			}
		}
		/* map_next may have called layer_ready() */
	} while (any_runnable(view));
	return false;
}

bool view_next(struct vhd_view *view, unsigned *layer, struct map_io *io)
{
	bool found;

	view->inside++;
	found = next(view, layer, io);
	view->inside--;
	return found;
}

void view_done(struct vhd_view *view, unsigned layer, uint32_t tag, int err)
{
	struct layer *l = &view->layers[layer];

	view->inside++;
	map_done(l->map, tag, err);
	advance(view);
	view->inside--;
}

void view_set_kick(struct vhd_view *view, void (*kick)(void *arg), void *arg)
{
	view->kick = kick;
	view->kick_arg = arg;
}

void view_forget(struct vhd_view *view)
{
	cells_forget(&view->cells);
	for (unsigned i = 0; i < VIEW_BUILDS; i++)
		if (view->builds[i] && view->builds[i]->state != BUILD_FREE)
			view->builds[i]->again = true;
}

unsigned view_fault_layer(const struct vhd_view *view)
{
	return view->fault_layer;
}

uint64_t view_memory(const struct vhd_view *view)
{
	uint64_t bytes = sizeof(*view) + view->count * sizeof(struct layer) + view->cells.memory;

	for (unsigned i = 0; i < VIEW_BUILDS; i++)
		if (view->builds[i])
			bytes += sizeof(struct build);
	return bytes;
}
