/* relink-parent.h - the image that is to become a parent: opened, locked, and judged */
#ifndef VHD_RELINK_PARENT_H
#define VHD_RELINK_PARENT_H

#include <limits.h>

#include "chain.h"
#include "path.h"
#include "relink.h"

enum adopt_flags {
	ADOPT_RAW = 1 << 0,   /* a raw disk */
	ADOPT_ALONE = 1 << 1, /* its own parents need not be there */
};

struct adopted {
	struct vhd_chain *chain; /* owned: of the parent, a raw one too */
	struct relink_parent link;
	char path[PATH_MAX]; /* absolute */
	char relative[PATH_TEXT_MAX];
};

/* Open @parent as the new parent of @child, an image at @path: nobody writes to it until
 * adopt_release.  Errors, beside those of opening: VHD_E_CYCLE (the child is among its parents),
 * VHD_E_TOO_DEEP, VHD_E_PARENT_ID (its id is zero, which means raw). */
VHD_MUST int adopt_open(const char *path, const struct vhd_image *child, const char *parent,
			unsigned flags, const struct vhd_parents *parents, struct adopted *out,
			struct vhd_error *err);
void adopt_release(struct adopted *a);

#endif
