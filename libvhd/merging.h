/* merging.h - images whose data is half merged into what is below them (ORDER 14)
 *
 * The note of coalesce-state.h is beside the image merged into.  Until that is finished, those above
 * it have to stay what they are: only from them can it be finished.
 */
#ifndef VHD_MERGING_H
#define VHD_MERGING_H

#include "image.h"

/* Refuse to @verb @img if a parent of it, down to where one is missing, is half merged.  Nothing is
 * locked.  -VHD_E_COALESCING, naming the command that finishes it. */
VHD_MUST int merging_refuse(struct vhd_image *img, const struct vhd_parents *parents,
			    const char *verb, struct vhd_error *err);

#endif
