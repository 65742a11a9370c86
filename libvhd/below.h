/* below.h - the parents of an image that somebody rearranges, as one disk
 *
 * Read-only, with locks of their own.  Behind the end of the topmost parent all is zero.
 */
#ifndef VHD_BELOW_H
#define VHD_BELOW_H

#include "image.h"

struct below;

/* Find and open the parents of differencing @image.  Data of those that are encrypted cannot be read
 * before below_unlock. */
VHD_MUST int below_open(struct vhd_image *image, const struct vhd_parents *parents,
			struct below **out, struct vhd_error *err);
void below_close(struct below *below); /* NULL is fine */
/* The key of those that are encrypted; before anything is read. */
void below_unlock(struct below *below, struct vhd_key *key);

/* Bytes; behind it: zero. */
uint64_t below_size(const struct below *below);

/* Of [at, at + *length): is its beginning known to be zero without a look at data?  *length becomes
 * what the answer covers. */
VHD_MUST int below_zero(struct below *below, uint64_t at, uint64_t *length, bool *zero,
			struct vhd_error *err);
VHD_MUST int below_read(struct below *below, void *buf, uint64_t length, uint64_t at,
			struct vhd_error *err);

#endif
