/* image-private.h - what the files of the image room share
 *
 *   image.c         opening: footers, header, batmap, places
 *   image-survey.c  the BAT in one pass: totals only
 *   image-load.c    the BAT: faults, the read-only map
 *   image-write.c   making fit for writing; reserve, flush, final shape
 */
#ifndef VHD_IMAGE_PRIVATE_H
#define VHD_IMAGE_PRIVATE_H

#include "image.h"

struct image_region {
	uint64_t offset, length;
};
#define IMAGE_REGIONS_MAX (5 + VHD_LOCATORS)

/* All metadata structures of a sparse image; returns their number.  Of locators their texts, or
 * with @rooms what is reserved for them: a claim, not to be held against blocks. */
unsigned image_regions(const struct vhd_image *image, bool rooms, struct image_region *out);

/* The whole table in order, @count entries from @first on at a time, until one says stop. */
#define IMAGE_WALK_STOP 1
typedef int image_piece_fn(void *arg, uint32_t first, const uint8_t *raw, uint32_t count);
VHD_MUST int image_walk_table(struct vhd_image *image, image_piece_fn *piece, void *arg,
			      struct vhd_error *err);
struct bat_shape image_bat_shape(const struct vhd_image *image);
/* Bytes behind the real footer hide it from the end of the file: look for it where the last
 * block ends, by the totals. */
void image_find_trailing(struct vhd_image *image);

/* Open image->map anew, for reading or writing. */
int image_open_map(struct vhd_image *image, bool writable, uint64_t cache_bytes);

/* Pump until @req is answered (its ready is wait_over); its error. */
void image_wait_over(struct map_req *req);
int image_wait(struct vhd_image *image, struct map_req *req);

/* The error object for a failed operation on the map. */
int image_map_error(struct vhd_image *image, int rc, const char *verb, struct vhd_error *err);

#endif
