/* resize-cut.h - what a disk would lose that becomes smaller */
#ifndef VHD_RESIZE_CUT_H
#define VHD_RESIZE_CUT_H

#include "mover.h"

/* Is anything but zero at or behind byte @size of the disk, as its readers see it (what a parent
 * has there counts)?  Refuses then (-VHD_E_RANGE), naming the first byte.  Loads the image.  @key: of
 * parents that are encrypted, or NULL. */
VHD_MUST int cut_check(struct mover *m, uint64_t size, const struct vhd_parents *parents,
		       struct vhd_key *key);

/* What the image itself has behind @size becomes zero, durably; what shows through from a parent
 * stays.  @m has begun. */
VHD_MUST int cut_zero(struct mover *m, uint64_t size);

/* Free the blocks that lie wholly behind @size.  @m has begun.  Adds to *freed. */
VHD_MUST int cut_free(struct mover *m, uint64_t size, uint64_t *freed);

#endif
