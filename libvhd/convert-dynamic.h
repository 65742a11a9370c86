/* convert-dynamic.h - a dynamic image that is made whole: places of its blocks, its metadata
 *
 * Nobody sees the image before it is complete, so nothing here is ordered.  Blocks
 * are placed in ascending order and follow each other behind the metadata: so one bit
 * a block says the whole table, which is made from them when it is written.
 */
#ifndef VHD_CONVERT_DYNAMIC_H
#define VHD_CONVERT_DYNAMIC_H

#include "io.h"
#include "plan.h"

struct convert_dynamic {
	const struct plan *plan; /* borrowed */
	uint8_t *used;		 /* owned; bits of blocks, most significant first */
	uint64_t used_bytes;
	uint64_t first;	     /* sector from which the first block is placed */
	uint64_t next;	     /* and the next one */
	uint32_t last;	     /* block placed last; its */
	uint32_t last_entry; /* entry; VHD_BAT_UNUSED: none yet */
	uint32_t sectors;    /* of a block */
	uint32_t page_bytes; /* of what is written before a block's data: the bitmap at its
				 * end, zeros to a boundary of 4 KiB before it */
	uint8_t *page;	     /* owned */
	uint64_t present;    /* bits set in page */
	const uint8_t *full; /* borrowed: blocks that are complete, a batmap of the plan's size;
			      * NULL: all that are used */
};

/* The first block is placed at or after @first bytes, which is at least the end of the
 * plan's metadata.  -ENOMEM.  Release whatever is returned. */
VHD_MUST int convert_dynamic_init(struct convert_dynamic *d, const struct plan *plan,
				  uint64_t first);
/* The same for a disk whose size is not known: @plan is the largest, what is known of blocks grows
 * by convert_dynamic_reach, to be called before a block is placed. */
VHD_MUST int convert_dynamic_init_growing(struct convert_dynamic *d, const struct plan *plan,
					  uint64_t first);
/* There is room for all blocks up to @block.  -ENOMEM. */
VHD_MUST int convert_dynamic_reach(struct convert_dynamic *d, uint32_t block);
void convert_dynamic_release(struct convert_dynamic *d);

/* The table's entry of @block, which is the block placed last, or lies behind it and is given its
 * place: true then. */
bool convert_dynamic_place(struct convert_dynamic *d, uint32_t block, uint32_t *entry);
/* The next place, for a block that gets no entry here. */
uint32_t convert_dynamic_next(struct convert_dynamic *d);
/* Entry of @block if it is the one placed last, else VHD_BAT_UNUSED. */
uint32_t convert_dynamic_last(const struct convert_dynamic *d, uint32_t block);

/* All entries in order, from that of block 0 on; begins zeroed. */
struct convert_dynamic_walk {
	uint64_t block; /* whose entry comes next */
	uint64_t next;	/* sector; 0: at the beginning */
};
uint32_t convert_dynamic_step(const struct convert_dynamic *d, struct convert_dynamic_walk *walk);

/* Where the data of the block at @entry begins, bytes; page_bytes go before it. */
uint64_t convert_dynamic_data(const struct convert_dynamic *d, uint32_t entry);

/* Make d->page that of @block of a disk of @size bytes: all that is on the disk is present
 * (ORDER 9). */
void convert_dynamic_page(struct convert_dynamic *d, uint32_t block, uint64_t size);

/* Bytes: where the end footer goes. */
uint64_t convert_dynamic_end(const struct convert_dynamic *d);

/* The block table alone, in pieces in ascending order. */
VHD_MUST int convert_dynamic_table(const struct convert_dynamic *d, const struct plan *plan,
				   int (*put)(void *arg, const void *data, size_t length,
					      uint64_t offset),
				   void *arg);
/* All metadata before the blocks, the footer's copy first, to @put in ascending order.
 * @plan may be another than that of init, for a disk of another size.  0, or what @put or memory
 * says. */
VHD_MUST int convert_dynamic_metadata(const struct convert_dynamic *d, const struct plan *plan,
				      int (*put)(void *arg, const void *data, size_t length,
						 uint64_t offset),
				      void *arg);

/* A @put for it that writes to @io (a struct vhd_io) all but the copy of the footer. */
int convert_dynamic_put(void *io, const void *data, size_t length, uint64_t offset);

/* The footers, which make an image of all that.  @in_place: it has its name already (a device, an
 * empty file): each after a sync, the end first, so that a crash leaves no image rather than
 * half of one. */
VHD_MUST int convert_dynamic_footers(struct vhd_io *io, const uint8_t footer[VHD_FOOTER_BYTES],
				     uint64_t end, bool in_place);

#endif
