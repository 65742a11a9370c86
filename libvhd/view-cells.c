/* view-cells.c - see view-cells.h */
#include "view-cells.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

#define MALLOC_BYTES 16u /* what the allocator adds to each piece, about */
#define SEARCH_STEP  8u	 /* extents in a line of memory */

struct cell_page {
	uint32_t used; /* cells not NULL */
	struct cell *cells[VIEW_PAGE_CELLS];
};

int cells_init(struct cells *cells, uint64_t sectors, uint64_t bound)
{
	uint64_t count = number_div_up(number_min(sectors, VIEW_SECTORS_MAX), VIEW_CELL_SECTORS);

	memset(cells, 0, sizeof(*cells));
	list_init(&cells->lru);
	cells->bound = bound;
	cells->pages = (uint32_t)number_div_up(count, VIEW_PAGE_CELLS);
	if (!cells->pages)
		return 0;
	cells->directory = calloc(cells->pages, sizeof(struct cell_page *));
	if (!cells->directory)
		return -ENOMEM;
	cells->memory = cells->pages * sizeof(struct cell_page *);
	return 0;
}

static uint64_t cell_bytes(uint32_t count)
{
	return sizeof(struct cell) + count * sizeof(struct cell_ext) + MALLOC_BYTES;
}

static void drop(struct cells *cells, struct cell *cell)
{
	struct cell_page **page = &cells->directory[cell->index / VIEW_PAGE_CELLS];

	assert((*page)->cells[cell->index % VIEW_PAGE_CELLS] == cell);
	(*page)->cells[cell->index % VIEW_PAGE_CELLS] = NULL;
	if (!--(*page)->used) {
		free(*page);
		*page = NULL;
		cells->memory -= sizeof(struct cell_page) + MALLOC_BYTES;
	}
	list_remove(&cell->lru);
	cells->memory -= cell_bytes(cell->count);
	cells->kept--;
	free(cell);
}

void cells_forget(struct cells *cells)
{
	while (!list_empty(&cells->lru))
		drop(cells, list_entry(cells->lru.next, struct cell, lru));
}

void cells_release(struct cells *cells)
{
	if (!cells->directory)
		return;
	cells_forget(cells);
	free(cells->directory);
	cells->directory = NULL;
}

struct cell *cells_find(struct cells *cells, uint32_t index)
{
	struct cell_page *page = cells->directory[index / VIEW_PAGE_CELLS];
	struct cell *cell = page ? page->cells[index % VIEW_PAGE_CELLS] : NULL;

	/* who was used last matters when something must go soon; until then it would cost more
	 * lines of memory than the lookup */
	if (cell && cells->memory > cells->bound / 4 * 3) {
		list_remove(&cell->lru);
		list_append(&cells->lru, &cell->lru);
	}
	return cell;
}

int cells_add(struct cells *cells, uint32_t index, const struct cell_ext *ext, uint32_t count)
{
	struct cell_page **page = &cells->directory[index / VIEW_PAGE_CELLS];
	struct cell *cell = malloc(sizeof(*cell) + count * sizeof(*ext));

	if (!cell)
		return -ENOMEM;
	if (!*page) {
		*page = calloc(1, sizeof(**page));
		if (!*page) {
			free(cell);
			return -ENOMEM;
		}
		cells->memory += sizeof(**page) + MALLOC_BYTES;
	}
	assert(!(*page)->cells[index % VIEW_PAGE_CELLS]);
	cell->index = index;
	cell->count = count;
	memcpy(cell->ext, ext, count * sizeof(*ext));
	(*page)->cells[index % VIEW_PAGE_CELLS] = cell;
	(*page)->used++;
	list_append(&cells->lru, &cell->lru);
	cells->memory += cell_bytes(count);
	cells->kept++;
	while (cells->memory > cells->bound && cells->kept > VIEW_CELLS_MIN)
		drop(cells, list_entry(cells->lru.next, struct cell, lru));
	return 0;
}

/* Cells of many small extents are those of scattered writes, with extents all over: where the
 * sector is among the sectors tells nearly where its extent is among the extents.  From there in
 * growing steps, then halving: few lines of memory are touched, which is what a search costs. */
uint32_t cell_search(const struct cell *cell, uint32_t start)
{
	uint32_t low = start * cell->count / VIEW_CELL_SECTORS, high = low + 1;
	uint32_t step = SEARCH_STEP;

	/* until the answer is in [low, high) */
	while (high < cell->count && cell->ext[high].start <= start) {
		low = high;
		high = number_min(high + step, cell->count);
		step *= 2;
	}
	while (cell->ext[low].start > start) { /* the first is at 0 */
		high = low;
		low -= number_min(step, low);
		step *= 2;
	}
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (cell->ext[middle].start <= start)
			low = middle;
		else
			high = middle;
	}
	return low;
}
