/* snapshot.h - a snapshot of a running VBD's image, without closing it (ORDER 17) */
#ifndef TAPDISK_SNAPSHOT_H
#define TAPDISK_SNAPSHOT_H

#include <limits.h>

#include "tapdisk/core/vbd.h"
#include "tapdisk/drivers/vhd.h"

struct snapshot_job {
	/* the caller's; borrowed until done() */
	struct vbd *vbd; /* running; nobody else changes its life until done() */
	struct loop *loop;
	const char *base;     /* as in struct vhd_snapshot: name for the frozen node */
	const char *new_leaf; /* or name for the new leaf */
	uint64_t timeout_ns;  /* of the drain; 0: none */
	void (*done)(struct snapshot_job *job);
	void *owner;
	/* the answer */
	struct vhd_error err; /* code 0, or why not: the VBD runs on the old leaf */
	char leaf[PATH_MAX];  /* the path that is the leaf now */
	uint64_t stall_ns;    /* how long requests were held */
	/* the job's */
	struct vhd_snapshot snapshot;
	struct loop_work work;
	struct loop_task task;
	struct vbd_op hold;
	struct disk *disk;
	uint64_t held_ns;
	bool held;
};

/* done() is called once, maybe before this returns. */
void snapshot_start(struct snapshot_job *job);

#endif
