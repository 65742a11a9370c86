/* bitmap.h - sizes of blocks and of the sector bitmaps before them
 *
 *   position                 + bitmap_sectors
 *   +--------------------------+---------------------------+
 *   | bitmap, padded to 512    | block_sectors of data     |
 *   +--------------------------+---------------------------+
 */
#ifndef VHD_BITMAP_H
#define VHD_BITMAP_H

#include <stdint.h>

/* Sectors of the bitmap of a block of @block_sectors: at least 1. */
uint32_t bitmap_sectors(uint32_t block_sectors);

/* Bitmap and data together, sectors. */
static inline uint32_t bitmap_stride(uint32_t block_sectors)
{
	return bitmap_sectors(block_sectors) + block_sectors;
}

/* First sector >= @end where a new block may start so that its data is
 * 4 KiB-aligned and the 4 KiB page that holds the start of its bitmap belongs to it alone. */
uint64_t bitmap_align(uint64_t end, uint32_t block_sectors);

#endif
