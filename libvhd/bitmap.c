/* bitmap.c - sizes and places of sector bitmaps */
#include "bitmap.h"

#include "base/number.h"
#include "layout.h"

#define ALIGN_SECTORS (VHD_ALIGN / VHD_SECTOR)

uint32_t bitmap_sectors(uint32_t block_sectors)
{
	uint32_t bytes = (uint32_t)number_div_up(block_sectors, 8);

	return bytes ? (uint32_t)number_div_up(bytes, VHD_SECTOR) : 1;
}

uint64_t bitmap_align(uint64_t end, uint32_t block_sectors)
{
	uint32_t bitmap = bitmap_sectors(block_sectors);
	uint64_t pages = number_round_up(end, ALIGN_SECTORS);

	/* the bitmap ends where the data's first page begins, so whole pages
	 * from @pages on are this block's */
	return pages + number_round_up(bitmap, ALIGN_SECTORS) - bitmap;
}
