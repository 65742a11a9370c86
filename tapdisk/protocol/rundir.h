/* rundir.h - the run directory: where servers and those who manage them meet
 *
 *	DIR/.lock			flock: names in DIR come and go under it
 *	DIR/ctl<pid>			control socket of a tapdisk
 *	DIR/nbd<pid>.<minor>		NBD socket of one of its disks
 *	DIR/tapdisk/tapdisk-<minor>	marker: the minor is taken; held under flock by the
 *					tapdisk it is attached to
 *
 * DIR belongs to its user: made 0700, refused if others may write in it.
 */
#ifndef TAPDISK_RUNDIR_H
#define TAPDISK_RUNDIR_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>

#include "libvhd/vhd.h"

#define RUNDIR_MINORS 4096u /* minors are below */

/* Its path into @out (PATH_MAX bytes): @given, else TAPDISK_RUN_DIR, else /run/blktap-control, for
 * others than root $XDG_RUNTIME_DIR/blktap-control. */
VHD_MUST int rundir_find(const char *given, char *out, struct vhd_error *err);
/* Make it where it is missing. */
VHD_MUST int rundir_make(const char *dir, struct vhd_error *err);
/* Take the lock; close the descriptor to let it go. */
VHD_MUST int rundir_lock(const char *dir, struct vhd_error *err);

/* Into @out of PATH_MAX bytes. */
void rundir_control_path(const char *dir, int pid, char *out);
void rundir_nbd_path(const char *dir, int pid, unsigned minor, char *out);
void rundir_marker_path(const char *dir, unsigned minor, char *out);

/* -ENAMETOOLONG with a sentence: sockets have short names. */
VHD_MUST int rundir_address(const char *path, struct sockaddr_un *out, struct vhd_error *err);

/* ── minors ── */

/* Take the lowest free one. */
VHD_MUST int rundir_allocate(const char *dir, unsigned *minor, struct vhd_error *err);
/* Give it back.  -EBUSY: attached; -ENOENT: it is free. */
VHD_MUST int rundir_free(const char *dir, unsigned minor, struct vhd_error *err);
/* Hold the marker of @minor, made if missing: a descriptor, or -EBUSY. */
VHD_MUST int rundir_hold(const char *dir, unsigned minor, struct vhd_error *err);

/* ── who is there ── */

struct rundir_list {
	int *pids; /* of control sockets, ascending; owned, and so are the minors */
	size_t pid_count;
	unsigned *minors; /* taken, ascending */
	size_t minor_count;
};
/* A missing directory is an empty one. */
VHD_MUST int rundir_list(const char *dir, struct rundir_list *out, struct vhd_error *err);
void rundir_list_release(struct rundir_list *list);
/* Nobody listens at ctl<pid>: remove the names that a killed process left. */
void rundir_remove_dead(const char *dir, int pid);

#endif
