/* compact-scan.h - which blocks an image could do without, and which parts of them are zero
 *
 * Every block is read once, in the order of the file.  A block is given up if what is below reads
 * the same: all of its present sectors are zero, and so is what a parent has there.
 */
#ifndef VHD_COMPACT_SCAN_H
#define VHD_COMPACT_SCAN_H

#include "below.h"
#include "mover.h"

struct compact_block {
	uint32_t block;
	uint32_t at; /* sector of its bitmap */
	bool drop;
};

struct compact_scan {
	struct mover *m;
	struct below *below; /* borrowed; NULL: no parent */
	bool punch;	     /* give the storage of zeros back at once */
	/* results */
	struct compact_block *list; /* owned; by position */
	size_t count;
	uint64_t dropped; /* blocks */
	uint64_t zeros;	  /* bytes of storage that is zeros, or a dropped block's */
};

/* Fill the list from the block table.  Needs a loaded image. */
VHD_MUST int compact_list(struct compact_scan *scan);
/* Read all blocks. */
VHD_MUST int compact_look(struct compact_scan *scan);
void compact_scan_release(struct compact_scan *scan);

#endif
