/* view.h - the frozen layers of a chain as one disk: which layer has a sector
 *
 * Immutable: the layers below the leaf never change while a view exists.  The
 * virtual disk is cut into cells of 2 MiB; the extents of a cell (layer, file
 * sector) are resolved once, top layer first, and kept as a sorted array of 8
 * bytes each; so a lookup costs a binary search whatever the depth.  Cells
 * live in a cache of bounded size, the layers' own metadata in small ones.
 * No I/O: what a cell needs is offered as its layers' map operations.
 */
#ifndef VHD_VIEW_H
#define VHD_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "map.h"

#define VIEW_CELL_SECTORS 4096u

struct view_layer {
	struct vhd_map *map;   /* borrowed; NULL: flat, sector n at file sector n */
	uint64_t size_sectors; /* beyond: zero */
};

enum view_kind { VIEW_ZERO, VIEW_DATA };
struct view_ext {
	enum view_kind kind;
	unsigned layer; /* index into the layers given */
	uint64_t sector, count;
	uint64_t file_sector;
};

struct vhd_view;

/* @layers: top first, copied; at most VHD_CHAIN_MAX - 1.  A view of none is
 * all zero. */
VHD_MUST int view_open(const struct view_layer *layers, unsigned count, uint64_t cache_bytes,
		       struct vhd_view **out);
void view_close(struct vhd_view *view);

/* As map_lookup; sectors past all layers' ends are VIEW_ZERO.  MAP_WAIT: the
 * cell of @sector is not built: view_want. */
int view_lookup(struct vhd_view *view, uint64_t sector, uint64_t count, struct view_ext *out,
		int max);

/* Build the cell of req->sector; ready() with the result. */
void view_want(struct vhd_view *view, struct map_req *req);
/* All that wait are answered @err by the next view_next, whatever was read for them. */
void view_cancel(struct vhd_view *view, int err);

/* The next operation, and on which layer.  Operations of different layers may
 * be performed at the same time. */
bool view_next(struct vhd_view *view, unsigned *layer, struct map_io *io);
/* @err -ECANCELED: it was given up, for requests that were cancelled; who waits asks again. */
void view_done(struct vhd_view *view, unsigned layer, uint32_t tag, int err);

/* Several views may share maps, in one thread.  A view that waits for a map offers that map's
 * operations, so one of them may be what another view waits for; it is reported to the view that
 * offered it.  Where it failed there, others ask again themselves: whose patience it was is not
 * theirs.  @kick is called when a request of this view can go on and none of its own functions is
 * running: note it, and call view_next when those of the other view have returned.  After each
 * view_done of one call the view_next of all the others: what the map had no room for can be
 * offered now, and only by who waits for it. */
void view_set_kick(struct vhd_view *view, void (*kick)(void *arg), void *arg);

/* The layers were changed by somebody else (and their maps told so, map_forget): nothing that
 * was resolved counts any more; what is being resolved is begun anew. */
void view_forget(struct vhd_view *view);

/* Which layer's map failed a lookup last (for messages: map_fault). */
unsigned view_fault_layer(const struct vhd_view *view);
uint64_t view_memory(const struct vhd_view *view);

#endif
