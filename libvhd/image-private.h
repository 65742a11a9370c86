/* image-private.h - what the files of the image room share
 *
 *   image.c         opening: footers, header, batmap, places
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

/* Open image->map anew, for reading or writing. */
int image_open_map(struct vhd_image *image, bool writable, uint64_t cache_bytes);

/* Pump until @req is answered (its ready is wait_over); its error. */
void image_wait_over(struct map_req *req);
int image_wait(struct vhd_image *image, struct map_req *req);

/* The error object for a failed operation on the map. */
int image_map_error(struct vhd_image *image, int rc, const char *verb, struct vhd_error *err);

#endif
