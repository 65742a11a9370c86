/* vhd.h - what jobs can do to a running VHD chain, beyond driver.h */
#ifndef TAPDISK_DRIVER_VHD_H
#define TAPDISK_DRIVER_VHD_H

#include "driver.h"

/* Is @disk a VHD chain (not raw, not a filter)? */
bool vhd_disk_is(const struct disk *disk);

/* ── live snapshot (ORDER 17).  The caller's steps, in this order ── */

struct vhd_snapshot {
	struct disk *disk;
	const char *base;     /* name for the frozen node, or NULL */
	const char *new_leaf; /* or: name for the new leaf, the old one then hidden */
	void *private;
};
/* Blocking, in a thread while the disk serves requests: make the child under a temporary name, synced,
 * and open it.  Fails: nothing has changed. */
int vhd_snapshot_prepare(struct vhd_snapshot *s, struct vhd_error *err);
/* Loop: commit what is written until now; done.  First without, then again under vbd_hold. */
void vhd_snapshot_commit(struct vhd_snapshot *s, void (*done)(void *arg, int err), void *arg);
/* Loop, under hold: do all files live in memory, so that vhd_snapshot_switch waits for no device? */
bool vhd_snapshot_is_quick(const struct vhd_snapshot *s);
/* Blocking, under hold: names and locks change.  Fails: the old leaf is as it was. */
int vhd_snapshot_switch(struct vhd_snapshot *s, struct vhd_error *err);
/* Loop, under hold, cannot fail: the new leaf serves.  The path that is the leaf now is in *leaf
 * (valid until freed). */
void vhd_snapshot_apply(struct vhd_snapshot *s, const char **leaf);
/* Loop, first thing after a failure of commit or switch: it is given up. */
void vhd_snapshot_drop(struct vhd_snapshot *s);
/* Then, or after apply: undo what was made, free.  Blocking, any thread.  Not after a failed
 * prepare, which has undone itself. */
void vhd_snapshot_free(struct vhd_snapshot *s);

/* ── live growth inside the metadata's room ── */

/* Loop, under hold or not.  -VHD_E_TOO_BIG: no room for the block table of that size. */
void vhd_disk_resize(struct disk *disk, uint64_t bytes,
		     void (*done)(void *arg, const struct vhd_error *err), void *arg);

#endif
