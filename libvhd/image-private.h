/* image-private.h - what the files of the image room share
 *
 *   image.c         opening: footers, header, batmap
 *   image-places.c  what lies where, what is free
 *   image-survey.c  the BAT in one pass: totals only
 *   image-load.c    the BAT: faults, the read-only map
 *   image-write.c   making fit for writing; reserve, flush, final shape
 *   image-move.c    blocks given other places or given back
 */
#ifndef VHD_IMAGE_PRIVATE_H
#define VHD_IMAGE_PRIVATE_H

#include "image.h"

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
