/* view-private.h - what the files of the view share
 *
 *   view.c        the interface: look up, want, and the pump
 *   view-build.c  resolves one cell, layer by layer
 *   view-cells.c  cells in memory: table, cache, packed extents
 */
#ifndef VHD_VIEW_PRIVATE_H
#define VHD_VIEW_PRIVATE_H

#include "base/list.h"
#include "layout.h"
#include "view-cells.h"
#include "view.h"

#define VIEW_BUILDS	 8u
#define VIEW_CELL_BITMAP (VIEW_CELL_SECTORS / 8)

enum build_state { BUILD_FREE, BUILD_RUNNABLE, BUILD_WAITING };

struct build {
	struct map_req req; /* first: found from the map's ready() */
	enum build_state state;
	bool again;		/* from the top layer: something was forgotten */
	struct vhd_view *view;	/* borrowed */
	struct map_req *owners; /* requests for this cell */
	uint32_t index;		/* cell */
	unsigned layer;		/* being asked */
	uint32_t cursor;	/* in the cell: sectors before it were put to this layer */
	uint8_t resolved[VIEW_CELL_BITMAP];
	uint8_t starts[VIEW_CELL_BITMAP];	/* sectors at which an extent of ext starts */
	struct cell_ext ext[VIEW_CELL_SECTORS]; /* by start sector; packed when finished */
};

struct layer {
	struct vhd_map *map; /* borrowed; NULL: flat */
	uint64_t size_sectors;
	unsigned waiting;   /* builds that sleep on this map */
	struct list active; /* in view->active while the map may have operations */
};

struct vhd_view {
	struct cells cells;
	struct build *builds[VIEW_BUILDS]; /* owned; made when first needed */
	struct map_req *queue;		   /* no build free yet */
	struct map_req *done;
	struct list active;
	uint64_t size_sectors; /* of the top layer: beyond, all is zero */
	unsigned inside;       /* calls of view_next and view_done */
	void (*kick)(void *arg);
	void *kick_arg;
	unsigned fault_layer;
	unsigned count;
	struct layer layers[]; /* count, top first */
};

void view_append_req(struct map_req **list, struct map_req *req);

/* Begin to resolve cell @index; @b is free. */
void build_begin(struct build *b, struct vhd_view *view, uint32_t index);

/* Go on with a runnable build until it sleeps on a layer's map, or is over: then the cell is
 * in the cache or the error in its requests, these are in view->done, and @b is free. */
void build_run(struct build *b);

/* Not free, and answered: its requests with @err into view->done. */
void build_cancel(struct build *b, int err);

#endif
