/* convert-dynamic.h - a dynamic image that is made whole: places of its blocks, its metadata
 *
 * Nobody sees the image before it is complete, so nothing here is ordered.
 * Blocks follow each other behind the metadata in the order they are placed.
 */
#ifndef VHD_CONVERT_DYNAMIC_H
#define VHD_CONVERT_DYNAMIC_H

#include "io.h"
#include "plan.h"

struct convert_dynamic {
	const struct plan *plan; /* borrowed */
	uint8_t *bat;		 /* owned; big-endian, as written */
	uint64_t bat_bytes;	 /* of bat, whole sectors */
	uint64_t next;		 /* sector from which the next block is placed */
	uint32_t sectors;	 /* of a block */
	uint32_t page_bytes;	 /* of what is written before a block's data: the bitmap at its
				  * end, zeros to a boundary of 4 KiB before it */
	uint8_t *page;		 /* owned */
	uint64_t present;	 /* bits set in page */
	const uint8_t *full;	 /* borrowed: blocks that are complete; NULL: all there are */
};

/* The first block is placed at or after @first bytes, which is at least the end of the
 * plan's metadata.  -ENOMEM.  Release whatever is returned. */
VHD_MUST int convert_dynamic_init(struct convert_dynamic *d, const struct plan *plan,
				  uint64_t first);
/* The same for a disk whose size is not known: @plan is the largest, the table grows by
 * convert_dynamic_reach, to be called before a block is placed. */
VHD_MUST int convert_dynamic_init_growing(struct convert_dynamic *d, const struct plan *plan,
					  uint64_t first);
/* The table has entries up to @block.  -ENOMEM. */
VHD_MUST int convert_dynamic_reach(struct convert_dynamic *d, uint32_t block);
void convert_dynamic_release(struct convert_dynamic *d);

/* The table's entry of @block; the block is given its place if it has none: true then. */
bool convert_dynamic_place(struct convert_dynamic *d, uint32_t block, uint32_t *entry);
/* The next place, for a block that gets no entry here. */
uint32_t convert_dynamic_next(struct convert_dynamic *d);
/* Entry of @block, or VHD_BAT_UNUSED. */
uint32_t convert_dynamic_entry(const struct convert_dynamic *d, uint32_t block);

/* Where the data of the block at @entry begins, bytes; page_bytes go before it. */
uint64_t convert_dynamic_data(const struct convert_dynamic *d, uint32_t entry);

/* Make d->page that of @block of a disk of @size bytes: all that is on the disk is present
 * (ORDER 9). */
void convert_dynamic_page(struct convert_dynamic *d, uint32_t block, uint64_t size);

/* Bytes: where the end footer goes. */
uint64_t convert_dynamic_end(const struct convert_dynamic *d);

/* All metadata before the blocks, the footer's copy first, to @put in ascending order.
 * @plan may be another than that of init, for a disk of another size; the table
 * must reach its last entry.  0, or what @put or memory says. */
VHD_MUST int convert_dynamic_metadata(const struct convert_dynamic *d, const struct plan *plan,
				      int (*put)(void *arg, const void *data, size_t length,
						 uint64_t offset),
				      void *arg);

/* The footers, which make an image of all that.  @in_place: it has its name already (a device, an
 * empty file): each after a sync, the end first, so that a crash leaves no image rather than
 * half of one. */
VHD_MUST int convert_dynamic_footers(struct vhd_io *io, const uint8_t footer[VHD_FOOTER_BYTES],
				     uint64_t end, bool in_place);

#endif
