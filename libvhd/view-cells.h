/* view-cells.h - the cells of a view in memory: table, cache, packed extents
 *
 * Private to the view.  A cell is VIEW_CELL_SECTORS sectors of the virtual
 * disk, resolved: an array of extents sorted by start, the first at 0, each
 * reaching to the start of the next (the last to the end of the cell).
 *
 *   directory -> page of 512 pointers -> cell { extents }
 *
 *  C1  a cell in the table is in the cache's list exactly once
 *  C2  a page exists only while it holds a cell
 *  C3  memory stays below the bound, but VIEW_CELLS_MIN cells are always kept: those
 *      that were just built can be looked up before they are evicted
 */
#ifndef VHD_VIEW_CELLS_H
#define VHD_VIEW_CELLS_H

#include <stdint.h>

#include "base/list.h"
#include "view.h"

#define VIEW_CELLS_MIN	 64u
#define VIEW_PAGE_CELLS	 512u
#define VIEW_LAYER_ZERO	 255u
#define VIEW_SECTORS_MAX (1ull << 32) /* as far as 32-bit file sectors reach */

struct cell_ext {
	uint16_t start; /* sector in the cell */
	uint8_t layer;	/* VIEW_LAYER_ZERO: reads as zero */
	uint32_t file_sector;
};

struct cell {
	struct list lru;
	uint32_t index;
	uint32_t count;
	struct cell_ext ext[]; /* count */
};

struct cells {
	struct list lru;	      /* of cells, least recently used first */
	struct cell_page **directory; /* owned */
	uint32_t pages;		      /* in directory */
	uint64_t kept, memory, bound;
};

/* Room for the cells of @sectors. */
VHD_MUST int cells_init(struct cells *cells, uint64_t sectors, uint64_t bound);
void cells_release(struct cells *cells);
/* Drop all cells. */
void cells_forget(struct cells *cells);

/* The cell, now the most recently used; NULL when not in memory. */
struct cell *cells_find(struct cells *cells, uint32_t index);

/* Put a cell with a copy of @ext in; evicts others as needed.  There is none with
 * that index yet.  -ENOMEM. */
VHD_MUST int cells_add(struct cells *cells, uint32_t index, const struct cell_ext *ext,
		       uint32_t count);

/* Index of the extent of @cell that covers sector @start (< VIEW_CELL_SECTORS) of it. */
uint32_t cell_search(const struct cell *cell, uint32_t start);

/* Where extent @i of @cell ends: a sector in the cell, exclusive. */
static inline uint32_t cell_ext_end(const struct cell *cell, uint32_t i)
{
	return i + 1 < cell->count ? cell->ext[i + 1].start : VIEW_CELL_SECTORS;
}

#endif
