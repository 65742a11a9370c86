/* atomic.h - a file that appears whole or not at all
 *
 *   target absent, or to be replaced:  .NAME.XXXXXX beside it ──► synced ──► renamed
 *   target an empty file or a device:  written in place
 *
 * A crash leaves at most the temporary file.
 */
#ifndef VHD_ATOMIC_H
#define VHD_ATOMIC_H

#include "io.h"

struct atomic {
	struct vhd_io *io; /* owned; write the new content here.  Named as the target */
	char *path;	   /* owned */
	char *temp;	   /* owned; NULL: in place */
	bool replace;
};

/* @force: an existing file is replaced at commit; else it is -EEXIST, and so is one that
 * appears before the commit. */
VHD_MUST int atomic_begin(const char *path, bool force, struct atomic *out, struct vhd_error *err);

/* Everything written is durable (@sync) and the target has its name.  Closes; on failure
 * nothing is left behind. */
VHD_MUST int atomic_commit(struct atomic *a, bool sync, struct vhd_error *err);

/* Removes what was made.  Harmless after atomic_commit and on a zeroed object. */
void atomic_abort(struct atomic *a);

#endif
