/* parent.h - where the parent of a differencing image is
 *
 * An image names its parent several times: in up to eight locators and in its header.
 * Each name that can mean a file here is a candidate, in this order:
 *   1. relative texts, from the child's directory: W2ru, MacX, Wi2r, W2ku, Wi2k
 *   2. absolute POSIX paths: W2ku, MacX, Wi2k, W2ru, Wi2r
 *   3. the last part of the header's name, in the child's directory
 *   4. the last part of each of these names, directly in each root that the user gave (not
 *      for raw parents)
 * Windows paths with a drive or a server mean no file here and are passed over.
 * The first candidate with the right id wins; a raw parent (zero id) is the
 * first that is there.
 */
#ifndef VHD_PARENT_H
#define VHD_PARENT_H

#include "image.h"

enum parent_flags {
	PARENT_WRITE = 1 << 0,	/* something will be written to it: confinement is strict */
	PARENT_DIRECT = 1 << 1, /* O_DIRECT where the file can */
};

/* Contract as chain_find_parent().  A poisoned parent is found: see its problems. */
VHD_MUST int parent_find(struct vhd_image *image, const char *leaf_directory,
			 const struct vhd_parents *parents, unsigned flags, struct vhd_image **out,
			 struct vhd_error *err);

/* Does one of the files that @image's names lead to fit, whatever its id?  They are shown to @fits
 * in their order until one does; nothing is locked.  1, 0 (a raw parent has no id: never), -ENOMEM. */
typedef bool parent_fits_fn(void *arg, const struct vhd_image *found);
VHD_MUST int parent_named(struct vhd_image *image, const struct vhd_parents *parents,
			  parent_fits_fn *fits, void *arg);

/* Call @look for each parent of @image, down to where one is missing; nothing is locked.  What it
 * returns, if that is not 0, ends it.  0, that, or -errno. */
VHD_MUST int parent_each(struct vhd_image *image, const struct vhd_parents *parents,
			 int (*look)(void *arg, struct vhd_image *parent), void *arg);
/* Is the file one of its parents?  1: yes, as far as they are found. */
VHD_MUST int parent_among(struct vhd_image *image, const struct vhd_parents *parents,
			  uint64_t device_id, uint64_t inode);

/* Contract as chain_stored_parent(). */
VHD_MUST int parent_stored(struct vhd_image *image, char *out, size_t room, struct vhd_error *err);
/* The same without reading anything, as long as the header has a name: its last part. */
VHD_MUST int parent_brief(struct vhd_image *image, char *out, size_t room, struct vhd_error *err);

#endif
