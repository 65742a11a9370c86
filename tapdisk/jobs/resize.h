/* resize.h - growing the image of a running VBD inside its metadata's room */
#ifndef TAPDISK_RESIZE_H
#define TAPDISK_RESIZE_H

#include "tapdisk/core/vbd.h"
#include "tapdisk/drivers/vhd.h"

struct resize_job {
	/* the caller's; borrowed until done() */
	struct vbd *vbd; /* running; nobody else changes its life until done() */
	uint64_t bytes;	 /* the new size */
	uint64_t timeout_ns;
	void (*done)(struct resize_job *job);
	void *owner;
	/* the answer */
	struct vhd_error err; /* code 0, or why not: the size is as it was */
	/* the job's */
	struct vbd_op hold;
};

/* done() is called once, maybe before this returns. */
void resize_start(struct resize_job *job);

#endif
