/* siblings.h - who else has this image as parent
 *
 * What counts as another child (doc/format.md "Chains"): a regular file in the parent's
 * or the child's directory with a VHD footer of type 4 whose header names the
 * parent's id.  Children of a raw parent carry no id: their stored parent path
 * is followed instead.  Reads 512 + 1024 bytes a file; nothing else is opened.
 */
#ifndef VHD_SIBLINGS_H
#define VHD_SIBLINGS_H

#include <limits.h>

#include "image.h"

/* More files than this in a directory are not looked at. */
#define SIBLINGS_FILES_MAX 100000u

struct sibling {
	char path[PATH_MAX];
};

/* Is there a child of @parent besides @child, in the directory of either?  1: yes, *out
 * names the first found; 0: none; negative: a directory could not be read, or is too large.
 * Files that cannot be opened or are no VHDs are passed over.  Names of both images'
 * io are absolute or relative to the working directory. */
VHD_MUST int siblings_find(const struct vhd_image *parent, const struct vhd_image *child,
			   struct sibling *out, struct vhd_error *err);

/* Is there a child of @parent, in its directory, with data of its own that is not encrypted?  As above. */
VHD_MUST int siblings_find_clear(const struct vhd_image *parent, struct sibling *out,
				 struct vhd_error *err);

/* The footer in force of the file of @bytes behind @fd, as far as its id and its parent go: at the
 * end, else the copy.  False: no VHD. */
bool siblings_read_footer(int fd, uint64_t bytes, struct vhd_footer *footer);

#endif
