/* judge.h - is the bitmap of a block the one that its writers left?
 *
 * Bitmaps have no checksum.  What can be held against one: data under clear bits, where space that
 * nobody wrote is zero; the batmap, which has a checksum and calls only complete blocks
 * complete; the custom of some creators to set all bits at once; and bits that look like
 * noise.  Two witnesses against a bitmap prove it wrong, one is a doubt.
 */
#ifndef VHD_JUDGE_H
#define VHD_JUDGE_H

#include "check.h"

enum judge_verdict {
	JUDGE_SOUND,
	JUDGE_FILL,	/* proven wrong: all sectors are here */
	JUDGE_UNMARKED, /* no parent: there is data under clear bits, the first at ->sector */
	JUDGE_STALE,	/* it is right, the batmap that calls the block complete is not */
	JUDGE_WIPED,	/* with a parent: no bit is set, but there is data */
	JUDGE_NOISE,	/* with a parent: bits without any order */
};

struct judge {
	struct check *c; /* borrowed */
	uint32_t bitmap_bytes;
	uint8_t *bitmap;	       /* owned; of the block asked about last */
	uint32_t sectors;	       /* of that block, on the disk */
	uint8_t *data;		       /* owned */
	uint64_t storage, storage_end; /* where the file has some, asked last */
};

VHD_MUST int judge_begin(struct judge *j, struct check *c);
void judge_end(struct judge *j);

/* Reads the bitmap of the block at @entry into j->bitmap and judges it.  @complete: the batmap says
 * so.  @sector: see the verdicts.  An enum judge_verdict, or negative. */
VHD_MUST int judge_block(struct judge *j, uint32_t block, uint32_t entry, bool complete,
			 uint32_t *sector);

/* The first sector of [from, from + count) of the block's data that is not zero; count: none. */
VHD_MUST int judge_first_data(struct judge *j, uint32_t entry, uint32_t from, uint32_t count,
			      uint32_t *found);

/* Could a block begin at @entry: is there a bitmap with bits set, in some order, and
 * nothing but zeros under its clear bits?  1, 0, negative. */
VHD_MUST int judge_begins(struct judge *j, uint32_t block, uint32_t entry);

#endif
