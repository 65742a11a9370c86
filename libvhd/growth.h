/* growth.h - two footers that differ in the disk's size only: what a growth of a disk in use leaves
 * that stopped between its two writes (ORDER 13)
 *
 * The new size is written when the disk is the same at both: behind the smaller one the table
 * names no block but such that hold only zeros, and what the last block holds there is zero.  Where
 * that is so the change did nothing yet, and either size is right.
 */
#ifndef VHD_GROWTH_H
#define VHD_GROWTH_H

#include "io.h"

struct growth {
	uint64_t smaller; /* bytes: of the two sizes */
	uint32_t block_sectors;
	bool by_bits;	  /* under a parent: sectors whose bit is not set do not count */
	int rc;		  /* of remembering what is named behind it */
	uint32_t *beyond; /* owned: entries */
	size_t count, room;
	uint32_t
		last; /* entry of the block that it ends in; VHD_BAT_UNUSED: none, or it ends with it */
};

/* To be ended. */
void growth_begin(struct growth *g, uint64_t size, uint64_t other, uint32_t block_sectors,
		  bool by_bits);
/* Pieces of the table, as bat_scan_feed. */
void growth_feed(struct growth *g, uint32_t first, const uint8_t *raw, uint32_t count);
/* After the whole table.  1: the disk is the same at both sizes; 0: it is not; negative: some
 * block could not be read. */
int growth_is_same(const struct growth *g, struct vhd_io *io);
void growth_end(struct growth *g);

#endif
