/* bat.c - scanning a block allocation table for faults
 *
 *   cell of a block = entry / stride
 *
 *   | cell n-1 | cell n | cell n+1 |     blocks that overlap have entries less
 *        └──────┴───┘                     than a stride apart: in one cell, or
 *                                         in neighbours
 *
 * A cell holds the lowest and the highest entry in it.  Two in one cell always
 * overlap; so a third need not be kept: all of them are told already, and a
 * block next door meets the nearer of the two.  Cells cover a window of the
 * file, and the first cell behind it; a table whose blocks reach further is fed
 * again for the next window, which begins where the next block is.
 *
 * Small blocks have many windows, and sound images need none of them:
 *
 *   first pass ── entries ascend, each a stride behind the last ──────► no overlaps
 *       ├─ all are multiples of a step of at least a stride apart ──► one bit a step:
 *       │                         two on one bit? ── no ────────────► no overlaps
 *       └──────────────────────────────────┴─ yes ──────────────────► cells
 */
#include "bat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "bitmap.h"

#define SCAN_BITS (VHD_BAT_SCAN_BYTES * 8ull)

struct cell {
	uint32_t low, high; /* entries; 0: empty */
	uint32_t low_block, high_block;
};

enum stage {
	STAGE_FIRST, /* cells as well, when one window has all */
	STAGE_BITS,
	STAGE_CELLS
};

struct bat_scan {
	struct bat_shape shape;
	uint32_t stride;
	bool overlaps, first;
	enum stage stage;
	/* more than one window: what the first pass saw of the order */
	bool many, ascending;
	uint32_t previous, apart; /* the last entry, and how far it was from the one before */
	uint32_t grid;		  /* divides all distances; 0: none yet */
	/* bits: of steps of the grid from the lowest entry on */
	uint64_t bits_first; /* number of the first of this pass */
	bool doubled;
	bat_fault_fn *fault;
	void *arg;
	struct bat_totals totals;
	struct cell *cells;  /* of the window, and one more; or bits, in the same memory */
	uint64_t cell_count; /* without that */
	uint64_t window;     /* first cell number of the window */
	uint64_t next;	     /* lowest cell number seen behind the window; UINT64_MAX: none */
};

int bat_scan_begin(const struct bat_shape *shape, bool overlaps, bat_fault_fn *fault, void *arg,
		   struct bat_scan **out)
{
	struct bat_scan *s = calloc(1, sizeof(*s));
	uint64_t span;

	if (!s)
		return -ENOMEM;
	s->shape = *shape;
	s->stride = bitmap_stride(shape->block_sectors);
	s->overlaps = overlaps;
	s->first = true;
	s->fault = fault;
	s->arg = arg;
	s->totals.end_sector = shape->first_sector;
	s->totals.lowest_sector = UINT64_MAX;
	s->next = UINT64_MAX;
	span = number_min(shape->end_sector, UINT32_MAX) / s->stride + 1;
	s->cell_count = number_min(span, VHD_BAT_SCAN_BYTES / sizeof(struct cell) - 1);
	s->many = span > s->cell_count;
	s->ascending = true;
	if (overlaps) {
		s->cells = calloc(1, s->many ? VHD_BAT_SCAN_BYTES :
					       (s->cell_count + 1) * sizeof(struct cell));
		if (!s->cells) {
			free(s);
			return -ENOMEM;
		}
	}
	*out = s;
	return 0;
}

static void report(struct bat_scan *s, enum bat_fault fault, uint32_t block, uint32_t entry,
		   uint32_t other)
{
	s->totals.faults++;
	if (s->fault)
		s->fault(s->arg, fault, block, entry, other);
}

/* Is the entry's place in the file all right?  Faults are told in the first
 * pass only. */
static bool placed(struct bat_scan *s, uint32_t block, uint32_t entry)
{
	uint64_t end = (uint64_t)entry + s->stride;
	uint32_t bitmap = s->stride - s->shape.block_sectors;
	enum bat_fault fault;

	if (entry < s->shape.first_sector)
		fault = BAT_IN_METADATA;
	else if (end > s->shape.end_sector)
		fault = entry + (uint64_t)bitmap <= s->shape.end_sector ? BAT_TORN : BAT_OUTSIDE;
	else
		return true;
	if (s->first)
		report(s, fault, block, entry, UINT32_MAX);
	return false;
}

static void meet(struct bat_scan *s, uint32_t entry, uint32_t block, uint32_t other,
		 uint32_t other_block)
{
	if (!other || (entry > other ? entry - other : other - entry) >= s->stride)
		return;
	report(s, BAT_OVERLAP, other_block, other, block);
	report(s, BAT_OVERLAP, block, entry, other_block);
}

static void place_in_cell(struct bat_scan *s, uint32_t block, uint32_t entry)
{
	uint64_t number = entry / s->stride, index = number - s->window;
	struct cell *c;

	if (number < s->window)
		return;
	if (index >= s->cell_count)
		s->next = number_min(s->next, number);
	if (index > s->cell_count)
		return;
	c = &s->cells[index];
	if (index)
		meet(s, entry, block, c[-1].high, c[-1].high_block);
	if (index < s->cell_count) {
		meet(s, entry, block, c->low, c->low_block);
		meet(s, entry, block, c[1].low, c[1].low_block);
	}
	if (!c->low || entry < c->low) {
		c->low = entry;
		c->low_block = block;
	}
	if (entry >= c->high) {
		c->high = entry;
		c->high_block = block;
	}
}

static uint32_t gcd(uint32_t a, uint32_t b)
{
	while (b) {
		uint32_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

static void note_order(struct bat_scan *s, uint32_t entry)
{
	uint32_t apart = entry > s->previous ? entry - s->previous : s->previous - entry;

	if (s->previous && apart != s->apart && s->grid != 1)
		s->grid = gcd(apart, s->grid);
	if (s->previous && (entry < s->previous || apart < s->stride))
		s->ascending = false;
	s->apart = apart;
	s->previous = entry; /* never 0: the data area begins behind the footer */
}

static void place_on_grid(struct bat_scan *s, uint32_t entry)
{
	uint8_t *bits = (uint8_t *)s->cells;
	uint64_t number = (entry - s->totals.lowest_sector) / s->grid - s->bits_first;

	if (number >= SCAN_BITS)
		return;
	s->doubled = s->doubled || bits_test(bits, number);
	bits_set(bits, number);
}

/* Entries of blocks of the disk that are only to be counted: a pass without a branch.  False,
 * and nothing is counted, when one of them is out of place. */
static bool feed_sound(struct bat_scan *s, const uint8_t *raw, uint32_t count)
{
	uint32_t low = VHD_BAT_UNUSED, high = 0, allocated = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t entry = be32_load(raw + (size_t)i * 4);
		uint32_t used = entry == VHD_BAT_UNUSED ? 0 : entry;

		allocated += entry != VHD_BAT_UNUSED;
		low = entry < low ? entry : low;
		high = used > high ? used : high;
	}
	if (!allocated)
		return true;
	if (low < s->shape.first_sector || (uint64_t)high + s->stride > s->shape.end_sector)
		return false;
	s->totals.allocated += allocated;
	s->totals.lowest_sector = number_min(s->totals.lowest_sector, low);
	s->totals.end_sector = number_max(s->totals.end_sector, (uint64_t)high + s->stride);
	return true;
}

void bat_scan_feed(struct bat_scan *s, uint32_t first, const uint8_t *raw, uint32_t count)
{
	if (!s->overlaps && number_within(first, count, s->shape.blocks) &&
	    feed_sound(s, raw, count))
		return;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t entry = be32_load(raw + (size_t)i * 4), block = first + i;

		if (entry == VHD_BAT_UNUSED || block >= s->shape.entries)
			continue;
		if (s->first) {
			s->totals.allocated++;
			if (block >= s->shape.blocks)
				report(s, BAT_BEYOND_DISK, block, entry, UINT32_MAX);
		}
		if (!placed(s, block, entry))
			continue;
		if (s->first) {
			s->totals.end_sector = number_max(s->totals.end_sector,
							  (uint64_t)entry + s->stride);
			s->totals.lowest_sector = number_min(s->totals.lowest_sector, entry);
		}
		if (!s->overlaps)
			continue;
		if (s->stage == STAGE_BITS)
			place_on_grid(s, entry);
		else if (s->stage == STAGE_FIRST && s->many)
			note_order(s, entry);
		else
			place_in_cell(s, block, entry);
	}
}

static bool begin_cells(struct bat_scan *s)
{
	s->stage = STAGE_CELLS;
	s->window = s->totals.lowest_sector / s->stride;
	memset(s->cells, 0, (s->cell_count + 1) * sizeof(struct cell));
	return true;
}

static bool begin_bits(struct bat_scan *s, uint64_t first)
{
	s->stage = STAGE_BITS;
	s->bits_first = first;
	memset(s->cells, 0, VHD_BAT_SCAN_BYTES);
	return true;
}

/* After a pass of bits. */
static bool bits_again(struct bat_scan *s)
{
	uint64_t last = (s->totals.end_sector - s->totals.lowest_sector) / s->grid;

	if (s->doubled)
		return begin_cells(s);
	return s->bits_first + SCAN_BITS <= last && begin_bits(s, s->bits_first + SCAN_BITS);
}

bool bat_scan_again(struct bat_scan *s)
{
	bool first = s->first;

	s->first = false;
	if (!s->overlaps)
		return false;
	if (first && s->many) {
		if (s->ascending)
			return false;
		return s->grid >= s->stride ? begin_bits(s, 0) : begin_cells(s);
	}
	if (s->stage == STAGE_BITS)
		return bits_again(s);
	if (s->next == UINT64_MAX)
		return false;
	s->window = s->next; /* whatever is in the cell before it was in this window, too */
	s->next = UINT64_MAX;
	memset(s->cells, 0, (s->cell_count + 1) * sizeof(struct cell));
	return true;
}

void bat_scan_end(struct bat_scan *s, struct bat_totals *totals)
{
	*totals = s->totals;
	free(s->cells);
	free(s);
}

bool bat_names(const uint8_t *raw, uint32_t count, uint64_t offset)
{
	for (uint32_t i = 0; i < count; i++)
		if ((uint64_t)be32_load(raw + 4ull * i) * VHD_SECTOR == offset)
			return true;
	return false;
}
