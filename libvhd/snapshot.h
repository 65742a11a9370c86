/* snapshot.h - planning a child of an image that is open */
#ifndef VHD_SNAPSHOT_H
#define VHD_SNAPSHOT_H

#include "image.h"
#include "plan.h"

/* The plan of a differencing child at @child of @img, whose path will be @parent (absolute) by
 * the time the child is used.  As large as @img, its block size and its room to grow, a random id; the parent's
 * time as of opening it.  @child need not exist, its directory must. */
VHD_MUST int snapshot_plan(const char *child, const char *parent, struct vhd_image *img,
			   struct plan *out, struct vhd_error *err);

/* Path of @parent (absolute, without links) from the directory of @child.  A child that is there
 * already may be a symbolic link itself. */
VHD_MUST int snapshot_relative_path(const char *child, const char *parent, char *out, size_t room,
				    struct vhd_error *err);

#endif
