/* relink-search.h - an image by its id, somewhere beneath directories
 *
 * Directories may be anybody's: links are not followed, other file systems not entered, only
 * regular files are opened, and of them two sectors read; depth and number are bounded.
 */
#ifndef VHD_RELINK_SEARCH_H
#define VHD_RELINK_SEARCH_H

#include <limits.h>

#include "vhd.h"

#define SEARCH_DEPTH 32u
#define SEARCH_FILES 1000000u /* entries looked at, in all */

struct search_found {
	unsigned count;		/* different files; 2: no more were sought */
	char path[2][PATH_MAX]; /* real ones */
};

/* Files whose footer has @id, beneath the @directories (NULL-terminated).  The same file by two
 * names counts once.  Directories below that cannot be read are passed over; one that was
 * given is an error, and so is a file that cannot be read when none is found.  VHD_E_LIMIT: too many files. */
VHD_MUST int search_id(const char *const *directories, const uint8_t id[16],
		       struct search_found *out, struct vhd_error *err);

#endif
