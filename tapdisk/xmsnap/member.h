/* member.h - one disk of the group that is snapshotted at one point
 *
 *   found ─► paused ─► prepared ─► switched ─► resumed
 *                │         │           │
 *                └─────────┴───────────┴── undone: the old leaf has its name, what was made is
 *                                           gone, and it goes on
 */
#ifndef XMSNAP_MEMBER_H
#define XMSNAP_MEMBER_H

#include <limits.h>

#include "domain.h"
#include "tapdisk/ctl/remote.h"

struct member {
	const struct domain_disk *disk; /* borrowed */
	int pid;
	unsigned minor;
	char leaf[PATH_MAX]; /* of the image; absolute */
	char base[PATH_MAX]; /* what the frozen node will be called */
	char temp[PATH_MAX]; /* the child until it has its name */
	struct remote remote;
	bool connected, paused, linked, made, switched;
};

/* Which tapdisk of the run directories serves @disk?  -ENODEV: none; -VHD_E_UNSUPPORTED: not as a
 * VHD; -EBUSY: not running. */
VHD_MUST int member_find(const struct domain_disk *disk, const char *const *dirs,
			 struct member *out, struct vhd_error *err);
/* DISK.NAME.vhd beside DISK.vhd.  -EEXIST: it is there. */
VHD_MUST int member_name(struct member *m, const char *name, struct vhd_error *err);
VHD_MUST int member_pause(struct member *m, unsigned timeout_ms, unsigned lease_ms,
			  struct vhd_error *err);
/* Is it still paused?  A lease may have run out. */
VHD_MUST int member_still_paused(struct member *m, struct vhd_error *err);
/* Frozen name and child, durable. */
VHD_MUST int member_prepare(struct member *m, struct vhd_error *err);
VHD_MUST int member_switch(struct member *m, struct vhd_error *err);
VHD_MUST int member_resume(struct member *m, struct vhd_error *err);
/* Back to the old leaf, running.  What cannot be undone is told in @err (code not 0). */
void member_undo(struct member *m, struct vhd_error *err);
void member_close(struct member *m);

#endif
