/* member.h - one disk of the group that is snapshotted at one point
 *
 *   found ─► paused ─► prepared ─► held ─► switched ─► let go ─► resumed
 *               │          │         │         │          │         │
 *               └──────────┴─────────┴─────────┴──────────┴─────────┴─► undone
 *
 *   prepared  BASE is a second name of the leaf, TEMP is its child, both durable
 *   held      what a server needs to run on the leaf or on the child (LOCK_WRITE) is ours, and the
 *             pause is still the one that was asked for.  Whatever runs out or is resumed by others
 *             from here on: no server gets on before the names are right
 *   switched  the leaf's name is the child's
 *   undone    the leaf has its name, what was made is gone, and it goes on.  What was written to
 *             the child after it was let go is merged into the leaf first
 */
#ifndef XMSNAP_MEMBER_H
#define XMSNAP_MEMBER_H

#include "libvhd/io.h"
#include "served.h"
#include "tapdisk/protocol/remote.h"

struct member {
	const struct domain_disk *disk;	   /* borrowed */
	const struct vhd_parents *parents; /* borrowed */
	unsigned timeout_ms;
	struct served_match at;
	char base[PATH_MAX];	/* what the frozen node will be called */
	char temp[PATH_MAX];	/* the child until it has its name */
	struct remote remote;	/* valid while connected; the pause ends with it */
	uint64_t pauses;	/* number of the pause, while paused */
	struct vhd_io *held[2]; /* owned: the leaf and its child, locked */
	struct vhd_error problem;
	bool asked; /* to pause, and has not answered */
	bool connected, paused, linked, made, switched, let_go;
};

/* Names, and what can be known before anything is done.  -EEXIST: the frozen node's is taken. */
VHD_MUST int member_name(struct member *m, const char *name, struct vhd_error *err);
VHD_MUST int member_connect(struct member *m, struct vhd_error *err);
/* Pausing and resuming in two steps, so that all disks do it at once: ask, await the answer. */
VHD_MUST int member_ask_pause(struct member *m, struct vhd_error *err);
VHD_MUST int member_await_pause(struct member *m, struct vhd_error *err);
VHD_MUST int member_prepare(struct member *m, struct vhd_error *err);
/* -ETIMEDOUT: the pause is over, the storage was too slow for the lease. */
VHD_MUST int member_hold(struct member *m, struct vhd_error *err);
VHD_MUST int member_switch(struct member *m, struct vhd_error *err);
/* Names are durable. */
VHD_MUST int member_sync(struct member *m, struct vhd_error *err);
void member_let_go(struct member *m);
VHD_MUST int member_ask_resume(struct member *m, struct vhd_error *err);
VHD_MUST int member_await_resume(struct member *m, struct vhd_error *err);

/* undo.c: from wherever it is back to the old leaf.  *err: what could not be undone; code 0 if
 * all was. */
void member_undo(struct member *m, struct vhd_error *err);
/* Then, for one that was asked to pause and has not answered: it goes on too, awaited for a
 * moment.  By itself it does in any case, as soon as it is paused. */
void member_settle(struct member *m);

/* What its tapdisk says of it, for undo.c. */
struct member_state {
	bool there, paused, running; /* there: it has an image */
	uint64_t pauses;
};
VHD_MUST int member_ask_state(struct member *m, struct member_state *out, struct vhd_error *err);
/* Is it still in the pause that was asked for?  -ETIMEDOUT: no. */
VHD_MUST int member_still_paused(struct member *m, struct vhd_error *err);

/* The connection too: a disk that is still paused by it goes on. */
void member_close(struct member *m);

#endif
