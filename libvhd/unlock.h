/* unlock.h - which images of a chain are encrypted, and whether a key is theirs
 *
 * In a chain encrypted images lie over clear ones, never under: a clear child would store what
 * its parents keep secret.  All of them have one key.
 */
#ifndef VHD_UNLOCK_H
#define VHD_UNLOCK_H

#include "crypt.h"
#include "image.h"

enum unlock_flags {
	UNLOCK_CLEAR_TOO = 1 << 0, /* a key, and a leaf that is not encrypted: that is fine */
};

/* @images: leaf first.  Those encrypted get their cipher, so that their data can be read and
 * written.  @key NULL: there may be none (-VHD_E_ENCRYPTED).  -VHD_E_KEY. */
VHD_MUST int unlock_chain(struct vhd_image *const *images, unsigned count,
			  const struct vhd_key *key, unsigned flags, struct vhd_error *err);

/* Is @key that of @image, which is encrypted?  0 or -VHD_E_KEY, with a text. */
VHD_MUST int unlock_check(const struct vhd_image *image, const struct vhd_key *key,
			  struct vhd_error *err);

/* Do their headers say that both are clear, or encrypted with one key?  @key may be NULL: then
 * only equal hashes with equal nonces show it. */
VHD_MUST int unlock_same(const struct vhd_image *a, const struct vhd_image *b,
			 const struct vhd_key *key, struct vhd_error *err);

#endif
