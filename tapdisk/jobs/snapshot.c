/* snapshot.c - a snapshot of a running VBD's image, without closing it
 *
 *	snapshot_start ── prepare (thread) ── commit ── vbd_hold ── commit ── switch (thread)
 *	                      │                 │           │          │           │
 *	                      ▼                 ▼           ▼          ▼           ▼
 *	                    fails: what was made is removed, requests go on with the old leaf
 *
 *	... switch ── apply ── new name ── vbd_release ── free (thread) ── done
 *
 * The first commit runs while requests are served and takes what is dirty by then; so the second
 * one, under hold, is tiny and requests are held for milliseconds only (ORDER 17).  Files in memory
 * are switched in the loop: that waits for nothing.
 */
#include "snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "libvhd/error.h"

/* ── the end: free in a thread, tell the caller ── */

static void over(struct snapshot_job *job)
{
	vbd_job_end(job->vbd);
	job->done(job);
}

static void free_done(struct loop_work *work)
{
	over(work->owner);
}

static void free_work(struct loop_work *work)
{
	struct snapshot_job *job = work->owner;

	vhd_snapshot_free(&job->snapshot);
}

static void finish(struct snapshot_job *job)
{
	if (job->held) {
		job->held = false;
		job->stall_ns = loop_now_ns(job->loop) - job->held_ns;
		vbd_release(job->vbd);
	}
	if (job->err.code && job->snapshot.private)
		vhd_snapshot_drop(&job->snapshot);
	job->work = (struct loop_work){ .work = free_work, .done = free_done, .owner = job };
	if (loop_work_start(job->loop, &job->work) < 0) {
		/* closing files here stalls the loop a moment; leaving them open would be worse */
		free_work(&job->work);
		over(job);
	}
}

static void fail(struct snapshot_job *job, int code, const char *what)
{
	if (!job->err.code)
		error_set(&job->err, code, "snapshot: %s: %s", what, vhd_strerror(code));
	finish(job);
}

/* ── switch ── */

static void switch_done(struct loop_work *work)
{
	struct snapshot_job *job = work->owner;
	char spec[PATH_MAX + 8];
	const char *leaf;

	if (job->err.code) {
		finish(job);
		return;
	}
	vhd_snapshot_apply(&job->snapshot, &leaf);
	snprintf(job->leaf, sizeof(job->leaf), "%s", leaf);
	snprintf(spec, sizeof(spec), "vhd:%s", leaf);
	vbd_set_spec(job->vbd, spec);
	vbd_event(job->vbd, "snapshot", job->base ? job->base : job->leaf);
	finish(job);
}

static void switch_work(struct loop_work *work)
{
	struct snapshot_job *job = work->owner;
	int rc = vhd_snapshot_switch(&job->snapshot, &job->err);

	if (rc < 0 && !job->err.code)
		job->err.code = rc;
}

static void switch_now(struct loop_task *task)
{
	struct snapshot_job *job = list_entry(task, struct snapshot_job, task);

	switch_work(&job->work);
	switch_done(&job->work);
}

/* ORDER 17: what was acknowledged is durable in the old leaf before names change. */
static void second_commit_done(void *arg, int err)
{
	struct snapshot_job *job = arg;

	if (err) {
		fail(job, err, "cannot commit the old leaf");
		return;
	}
	job->work = (struct loop_work){ .work = switch_work, .done = switch_done, .owner = job };
	job->task = (struct loop_task){ .run = switch_now };
	/* requests are held: a thread that waits for its turn on a processor, and the loop then for
	 * its own, would make that longer than all the rest */
	if (vhd_snapshot_is_quick(&job->snapshot))
		loop_defer(job->loop, &job->task);
	else if (loop_work_start(job->loop, &job->work) < 0)
		fail(job, -ENOMEM, "no thread for the switch");
}

static void hold_done(struct vbd_op *op)
{
	struct snapshot_job *job = op->owner;

	if (op->err.code) {
		job->err = op->err;
		finish(job);
		return;
	}
	job->held = true;
	if (vbd_disk(job->vbd) != job->disk) {
		fail(job, -EBUSY, "the image was exchanged meanwhile");
		return;
	}
	vhd_snapshot_commit(&job->snapshot, second_commit_done, job);
}

static void first_commit_done(void *arg, int err)
{
	struct snapshot_job *job = arg;

	if (err) {
		fail(job, err, "cannot commit the old leaf");
		return;
	}
	job->held_ns = loop_now_ns(job->loop);
	job->hold = (struct vbd_op){ .done = hold_done, .owner = job };
	vbd_hold(job->vbd, job->timeout_ns, &job->hold);
}

/* ── prepare ── */

static void prepare_done(struct loop_work *work)
{
	struct snapshot_job *job = work->owner;

	if (job->err.code)
		over(job); /* nothing was made, nothing is to be freed */
	else if (vbd_disk(job->vbd) != job->disk)
		fail(job, -EBUSY, "the image was exchanged meanwhile");
	else
		vhd_snapshot_commit(&job->snapshot, first_commit_done, job);
}

static void prepare_work(struct loop_work *work)
{
	struct snapshot_job *job = work->owner;
	int rc = vhd_snapshot_prepare(&job->snapshot, &job->err);

	if (rc < 0 && !job->err.code)
		job->err.code = rc;
}

static void refused(struct loop_work *work)
{
	over(work->owner);
}

static void nothing(struct loop_work *work)
{
	(void)work;
}

void snapshot_start(struct snapshot_job *job)
{
	job->err = (struct vhd_error){ 0 };
	job->held = false;
	job->stall_ns = 0;
	job->disk = vbd_disk(job->vbd);
	job->work = (struct loop_work){ .work = prepare_work, .done = prepare_done, .owner = job };
	if (!job->disk || vbd_state(job->vbd) & (VBD_PAUSED | VBD_PAUSE_REQUESTED))
		error_set(&job->err, -EINVAL, "snapshot: minor %u is not running",
			  vbd_minor(job->vbd));
	else if (!vhd_disk_is(job->disk))
		error_set(&job->err, -EOPNOTSUPP,
			  "snapshot: '%s' is no VHD image; only those can be snapshotted",
			  vbd_spec(job->vbd));
	else if (job->disk->read_only)
		error_set(&job->err, -EROFS, "snapshot: minor %u is read-only",
			  vbd_minor(job->vbd));
	if (job->err.code)
		job->work = (struct loop_work){ .work = nothing, .done = refused, .owner = job };
	else
		job->snapshot = (struct vhd_snapshot){ .disk = job->disk,
						       .base = job->base,
						       .new_leaf = job->new_leaf };
	vbd_job_begin(job->vbd);
	if (loop_work_start(job->loop, &job->work) < 0) {
		error_set(&job->err, -ENOMEM, "out of memory");
		over(job);
	}
}
