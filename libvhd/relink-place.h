/* relink-place.h - free places among the metadata of an image
 *
 *   0      512      1536                  room for parents      last block's end
 *   | copy | header | BAT | batmap, other | (plan.h) 7168 bytes | blocks … | footer
 *            ~~~~~~                         ~~~~~~~~~~~~~~~~~~~              ~~~~~~~~~~ …
 *
 * In these three, what neither a structure nor a locator of any code claims.  The last one only
 * for who holds off all other writers.
 */
#ifndef VHD_RELINK_PLACE_H
#define VHD_RELINK_PLACE_H

#include "image-private.h"

#define PLACES_MAX (IMAGE_REGIONS_MAX + 3 * VHD_LOCATORS)

struct places {
	const struct vhd_image *img;
	bool behind;   /* behind the last block, too */
	uint64_t end;  /* behind all that was placed; at least the end footer's offset */
	uint64_t room; /* of the storage: a device's end footer, else no bound */
	struct image_region used[PLACES_MAX];
	unsigned count;
};

void places_begin(struct places *p, const struct vhd_image *img, bool behind);
/* @length free bytes, a multiple of 512; taken.  0: there are none. */
uint64_t places_take(struct places *p, uint64_t length);

#endif
