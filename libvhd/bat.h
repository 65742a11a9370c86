/* bat.h - block allocation table: reading it, and finding what is wrong in it
 *
 * Entry i is the sector of block i's bitmap, or VHD_BAT_UNUSED.
 *  I1  no two blocks share a sector
 *  I2  every block lies in [first sector after the metadata, end footer)
 * Scanning is pure: the caller feeds the table in order, in pieces.  Overlaps
 * are found by sorting positions into cells one stride wide: two blocks that
 * overlap meet in one cell or in neighbours.  Cost O(entries), memory bounded
 * by VHD_BAT_SCAN_BYTES; tables too large for that are fed several times.
 */
#ifndef VHD_BAT_H
#define VHD_BAT_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"
#include "vhd.h"

#define VHD_BAT_SCAN_BYTES (8u << 20)

struct bat_shape {
	uint32_t entries; /* to look at: max_entries of the header */
	uint32_t blocks;  /* of them in use by the virtual size; the rest must be unused */
	uint32_t block_sectors;
	uint64_t first_sector; /* where the data area begins; > 0: the footer copy is at 0 */
	uint64_t
		end_sector; /* where it ends: sector of the end footer, or of the end of the file */
};

enum bat_fault { BAT_OUTSIDE, BAT_IN_METADATA, BAT_OVERLAP, BAT_BEYOND_DISK, BAT_TORN };

/* Totals of a scan. */
struct bat_totals {
	uint64_t allocated; /* entries that are not VHD_BAT_UNUSED */
	uint64_t faults;
	uint64_t end_sector;	/* end of the last sound block; first_sector if none */
	uint64_t lowest_sector; /* start of the first sound block; UINT64_MAX if none */
};

struct bat_scan;

/* @fault is called for each entry in fault (both of an overlapping pair, the
 * second with @other = the block it meets, or UINT32_MAX).
 * BAT_TORN: the bitmap is inside, the data runs past end_sector by less than a stride. */
typedef void bat_fault_fn(void *arg, enum bat_fault fault, uint32_t block, uint32_t entry,
			  uint32_t other);

int bat_scan_begin(const struct bat_shape *shape, bool overlaps, bat_fault_fn *fault, void *arg,
		   struct bat_scan **out);
/* @raw: @count big-endian entries from entry @first on, in order. */
void bat_scan_feed(struct bat_scan *scan, uint32_t first, const uint8_t *raw, uint32_t count);
/* End of one pass.  True: feed the whole table once more. */
bool bat_scan_again(struct bat_scan *scan);
void bat_scan_end(struct bat_scan *scan, struct bat_totals *totals); /* frees */

/* Does one of the @count big-endian entries at @raw place its block at @offset bytes? */
bool bat_names(const uint8_t *raw, uint32_t count, uint64_t offset);

#endif
