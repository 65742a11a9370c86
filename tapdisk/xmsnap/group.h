/* group.h - all disks of a virtual machine, snapshotted at one point
 *
 *   find all ─► pause all ─► prepare all ─► hold all ─► switch all ─► resume all
 *
 * Between the last pause and the first resume no disk answers a write: what is frozen is one
 * point in time.  A failure before all have resumed takes everything back; a pause ends with this
 * process's connection, or with its lease, so nothing stays paused whatever happens here.
 */
#ifndef XMSNAP_GROUP_H
#define XMSNAP_GROUP_H

#include <signal.h>

#include "member.h"

#define GROUP_NAME_BYTES 128

struct group {
	/* the caller's */
	const char *name;	 /* part of the frozen nodes' names */
	const char *const *dirs; /* run directories; NULL-terminated */
	unsigned timeout_ms;	 /* of pausing and preparing all */
	struct vhd_parents parents;
	const volatile sig_atomic_t *interrupted; /* set by signal handlers */
	struct domain domain;
	/* the answer */
	struct member *members; /* owned: the disks that are to be snapshotted */
	unsigned count;
	uint64_t paused_us; /* from the first pause to the last resume */
	/* the group's */
	struct served served;
};

/* Find every disk of the domain but the read-only ones.  The first disk's failure is returned;
 * each has its own in its `problem`. */
VHD_MUST int group_find(struct group *g, struct vhd_error *err);
/* 0, or everything is as it was, or told what is not: @tell is called with each such error. */
VHD_MUST int group_snapshot(struct group *g, void (*tell)(const struct vhd_error *err),
			    struct vhd_error *err);
void group_release(struct group *g);

#endif
