/* confine.h - opening files that an image names, beneath allowed directories only
 *
 * A path inside an image is somebody else's wish.  Confined opening grants it only
 * beneath the leaf's directory and the roots the user gave, after symbolic links
 * are followed; a path that does not even read as beneath them is refused
 * without being looked up, so that no automounter or dead server is touched.
 *  I1  what is opened lies beneath an allowed directory, whoever renames or
 *      links meanwhile: the resolved path is opened by openat2 without links
 *  I2  links of logical volumes (/dev/VG/NAME -> ../dm-3) are followed when the
 *      link is in an allowed directory below /dev and its target a block device
 *  I3  "/" and "/dev" as the leaf's directory allow nothing: everything is in them
 */
#ifndef VHD_CONFINE_H
#define VHD_CONFINE_H

#include <limits.h>

#include "vhd.h"

struct confine {
	const char *leaf_directory; /* borrowed; absolute */
	const char *const *roots;   /* borrowed; NULL-terminated, or NULL */
	bool strict;		    /* without roots: beneath the leaf's directory only */
};

/* The name by which an image is known: of a file the path with no symbolic
 * links in it; of anything else its own name in such a directory (names of logical volumes
 * are links).  @out has PATH_MAX bytes.  0 or -errno. */
VHD_MUST int confine_real_name(const char *path, char *out);

/* The directory of absolute @path, into @out of PATH_MAX bytes. */
void confine_directory(const char *path, char *out);

/* Open absolute @path for reading, or for reading and writing: a descriptor with
 * O_CLOEXEC and O_NONBLOCK, and its real name in @name (PATH_MAX bytes).
 * -VHD_E_PARENT_DENIED, -VHD_E_NOT_FILE, or -errno. */
VHD_MUST int confine_open(const struct confine *confine, const char *path, bool writable,
			  char *name);

#endif
