/* peek.h - looking at one image: no locks, nothing changed, its parents left alone
 *
 * What query, read and info have in common.  An image in use is looked at
 * as it is; metadata caught half written is read again.
 */
#ifndef VHD_UTIL_PEEK_H
#define VHD_UTIL_PEEK_H

#include "libvhd/image.h"

/* What is odd about an image, in words. */
struct peek_problem {
	int code; /* negative, as in vhd_error */
	enum vhd_severity severity;
	const char *text; /* static */
};
#define PEEK_PROBLEMS_MAX 12

/* Open @path for looking; @flags: more of enum image_open_flags.  The image's io->name is
 * absolute, so that parents are found from it. */
VHD_MUST int peek_open(const char *path, unsigned flags, struct vhd_image **out,
		       struct vhd_error *err);
/* For CLEANUP(). */
void peek_close(struct vhd_image **image);

/* Directory of the image's absolute name, for chain_find_parent().  Owned by the caller; NULL
 * without memory. */
char *peek_directory(const struct vhd_image *image);

/* The image's problems, worst first; their number.  Includes those of the BAT after
 * image_load(). */
unsigned peek_problems(const struct vhd_image *image, struct peek_problem out[PEEK_PROBLEMS_MAX]);
/* Print the worst of them that is more than a note as a warning; false: there was none. */
bool peek_warn(const struct vhd_image *image);

/* "fixed", "dynamic", "differencing", "raw". */
const char *peek_type_name(enum vhd_type type);

#endif
