/* atomic.h - a file that appears whole or not at all
 *
 *   target absent, or to be replaced:  .NAME.XXXXXX beside it ──► synced ──► renamed
 *   target an empty file or a device:  written in place
 *
 * A symbolic link is followed: what it points to is replaced.  A target that somebody else
 * uses, by the locks of lock.h, is refused; it stays locked until the end.
 * A crash leaves at most the temporary file.
 */
#ifndef VHD_ATOMIC_H
#define VHD_ATOMIC_H

#include "io.h"

struct atomic {
	struct vhd_io *io;  /* owned; write the new content here.  Named as the target */
	char *path;	    /* owned */
	char *temp;	    /* owned; NULL: in place */
	struct vhd_io *old; /* owned; what is to be replaced, locked; may be NULL */
	bool replace;
	unsigned io_flags; /* enum io_file_flags */
};

/* Could atomic_begin take @path?  Changes nothing. */
VHD_MUST int atomic_check(const char *path, bool force, struct vhd_error *err);

enum atomic_flags {
	ATOMIC_FORCE = 1 << 0,	/* an existing file is replaced at commit */
	ATOMIC_DIRECT = 1 << 1, /* O_DIRECT where the storage takes it */
};

/* Without ATOMIC_FORCE an existing file is -EEXIST, and so is one that appears before the
 * commit.  -VHD_E_NOT_FILE, -VHD_E_BUSY. */
VHD_MUST int atomic_begin(const char *path, unsigned flags, struct atomic *out,
			  struct vhd_error *err);

/* As atomic_begin for a file, with @temp (passes to @out, whatever is returned) as the temporary
 * one: it may be there already, and is opened as it is, locked.  -VHD_E_NOT_FILE for devices. */
VHD_MUST int atomic_begin_named(const char *path, char *temp, unsigned flags, struct atomic *out,
				struct vhd_error *err);
/* What was written so far is durable, and the temporary file is called @temp (passes to @a, whatever
 * is returned), durably: what had that name is gone.  On failure it has one of the two names. */
VHD_MUST int atomic_rename(struct atomic *a, char *temp, struct vhd_error *err);
/* As atomic_abort, but the temporary file stays. */
void atomic_keep(struct atomic *a);

/* Everything written is durable (@sync) and the target has its name.  Closes; on failure
 * nothing is left behind, unless only the sync of the directory failed. */
VHD_MUST int atomic_commit(struct atomic *a, bool sync, struct vhd_error *err);

/* Removes what was made.  Harmless after atomic_commit and on a zeroed object. */
void atomic_abort(struct atomic *a);

/* A new empty file ".NAME.XXXXXX" beside @path: its descriptor; *@temp, its path, is the
 * caller's.  -errno. */
VHD_MUST int atomic_temp(const char *path, char **temp);

#endif
