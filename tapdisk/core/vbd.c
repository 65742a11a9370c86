/* vbd.c - the life of a virtual block device
 *
 *               open: thread opens, start
 *   CLOSED ─► OPENING ─────────────────► RUNNING ◄──────────────────────────────────┐
 *      ▲          │ failed                │ │ │ ▲                                   │
 *      ├──────────┘          hold: drain  │ │ │ │ release                           │
 *      │                 HOLDING ◄────────┘ │ │ │                                   │
 *      │                    └─────────► HELD ─│─┘                                   │
 *      │        close:                      │ │ pause: drain, quiesce, stop,        │
 *      │        drain, quiesce,             │ │ thread parks                        │
 *      │        watchers told,              │ └─► PAUSING ─────────► PAUSED         │
 *      │        held ones fail,             ▼        │                │ ▲ │         │
 *      ├─────── stop, thread closes ◄── CLOSING ◄────│────────────────┘ │ │ unpause:│
 *      │                                             │ park failed      │ ▼ thread  │
 *      │                                             └──────────► RESUMING unparks, │
 *      │                                                 failed ──┘   │   or opens; │
 *      │                                                              └─ start ─────┘
 *
 * A time-out, or a failing commit, of hold, pause or close leads back to RUNNING as long as the
 * disk is not stopped: with the disk still quiescing the VBD is "backing out", and goes
 * on when the disk answers.  A close by force goes on instead, once the disk has answered.
 *
 * Everything here is called from the task of vbd-ops.c or at the end of a thread's work, so that
 * life is never changed from inside a driver's or a front-end's call.
 *
 * Draining aborts what waits in the retry: it comes back -ECANCELED and is held (request.c).
 * Committing may wait for the storage again, until the time-out.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vbd-private.h"

static void resume(struct vbd *vbd, const char *spec, const char *log);

static void refuse(struct vbd *vbd, int code, const char *verb)
{
	vbd_op_error(vbd->op, code, "cannot %s '%s': it is %s", verb, vbd_name(vbd),
		     vbd_state_text(vbd));
	vbd_finish(vbd);
}

/* ── work in a thread ── */

static void step_done(struct loop_work *work)
{
	struct vbd *vbd = work->owner;

	vbd->phase = PHASE_IDLE;
	vbd->step.then(vbd);
}

/* One step at a time: the phase says so. */
void vbd_step_start(struct vbd *vbd, void (*work)(struct loop_work *),
		    void (*then)(struct vbd *vbd))
{
	vbd->phase = PHASE_WORK;
	vbd->step.then = then;
	vbd->step.err = (struct vhd_error){ 0 };
	vbd->step.work = (struct loop_work){ .work = work, .done = step_done, .owner = vbd };
	if (loop_work_start(vbd->host->loop, &vbd->step.work) < 0) {
		/* no memory for a thread's work: better late than never */
		work(&vbd->step.work);
		step_done(&vbd->step.work);
	}
}

/* ── a disk begins to serve ── */

static int attach(struct vbd *vbd, struct disk *disk, struct vhd_error *err)
{
	int rc;

	disk->loop = vbd->host->loop;
	disk->engine = vbd->host->engine;
	disk->retry = vbd->retry;
	disk->completed = request_completed;
	disk->event = vbd_disk_event;
	disk->lost = vbd_disk_lost;
	disk->owner = vbd;
	disk->peers = &vbd->host->disks;
	rc = disk->ops->start(disk, err);
	if (rc < 0) {
		err->code = rc;
		if (!err->text[0])
			snprintf(err->text, sizeof(err->text), "cannot start '%s': %s",
				 vbd_name(vbd), vhd_strerror(rc));
	}
	return rc;
}

/* The disk, and its log before. */
static int attach_logged(struct vbd *vbd, struct disk *disk, struct vhd_error *err)
{
	int rc = vbd_log_start(vbd, err);

	if (rc == 0) {
		rc = attach(vbd, disk, err);
		if (rc < 0)
			vbd_log_stop(vbd);
	}
	return rc;
}

/* Back to serving, from any state with a disk that runs. */
void vbd_go_on(struct vbd *vbd)
{
	vbd->life = LIFE_RUNNING;
	vbd->phase = PHASE_IDLE;
	vbd->backing_out = false;
	retry_resume(vbd->retry);
	request_admit_all(vbd);
}

/* ── open ── */

static void forget_image(struct vbd *vbd)
{
	if (vbd->retry)
		vbd->stats.retries += retry_count(vbd->retry);
	retry_close(vbd->retry);
	vbd->retry = NULL;
	partial_close(vbd);
	vbd_free_params(&vbd->params);
	free(vbd->spec);
	vbd->spec = NULL;
	free(vbd->log);
	vbd->log = NULL;
	vbd->disk = NULL;
	vbd->size = vbd->size_tried = 0;
	vbd->read_only = false;
	vbd->resume_failed = false;
	vbd->stalled = 0;
	vbd->life = LIFE_CLOSED;
	if (!vbd->name_given) {
		free(vbd->name);
		vbd->name = NULL;
	}
}

static void open_failed(struct vbd *vbd)
{
	forget_image(vbd);
	vbd_finish(vbd);
}

static void opened(struct vbd *vbd)
{
	struct retry_params p = { .time_ns = vbd->retry_ns,
				  .stalled = vbd_stalled,
				  .long_ns = vbd->host->reopen_ns,
				  .too_long = vbd_too_long,
				  .owner = vbd };
	struct vbd_step *s = &vbd->step;
	struct disk *disk = s->opened;
	int rc;

	vbd->op->err = s->err;
	if (s->err.code) {
		open_failed(vbd);
		return;
	}
	rc = retry_open(vbd->host->loop, vbd->host->engine, &p, &vbd->retry);
	if (rc == 0)
		rc = partial_open(vbd);
	if (rc < 0)
		vbd_op_error(vbd->op, rc, "cannot open '%s': %s", vbd->spec, vhd_strerror(rc));
	else
		rc = attach_logged(vbd, disk, &vbd->op->err);
	if (rc < 0) {
		s->disk = disk;
		vbd_log_drop(s);
		vbd_step_start(vbd, vbd_work_close, open_failed);
		return;
	}
	vbd->disk = disk;
	vbd->size = disk->size;
	vbd->read_only = disk->read_only;
	vbd->told = vbd->losses; /* they were another image's */
	vbd->owed = 0;
	vbd->absent = 0;
	vbd_go_on(vbd);
	vbd_tell(vbd, VBD_NEWS_OPENED);
	vbd_event(vbd, "opened", vbd->spec);
	vbd_finish(vbd);
}

static void begin_open(struct vbd *vbd)
{
	struct vbd_op *op = vbd->op;

	if (vbd->life != LIFE_CLOSED) {
		refuse(vbd, -EBUSY, "open an image on");
		return;
	}
	vbd->spec = op->spec;
	op->spec = NULL;
	vbd->params = *op->params; /* its roots too */
	free(op->params);
	op->params = NULL;
	if (op->log && *op->log)
		vbd->log = strdup(op->log);
	if (!vbd->name)
		vbd->name = vbd_name_of(vbd->spec);
	if (op->log && *op->log && !vbd->log) {
		vbd_op_error(op, -ENOMEM, "out of memory");
		open_failed(vbd);
		return;
	}
	vbd->life = LIFE_OPENING;
	vbd->step.disk = NULL;
	vbd->step.spec = vbd->spec;
	vbd->step.log = vbd->params.read_only ? NULL : vbd->log;
	vbd->step.log_given = true;
	vbd_step_start(vbd, vbd_work_open, opened);
}

/* ── draining and quiescing ── */

static void abort_retry(struct vbd *vbd)
{
	retry_abort(vbd->retry);
	if (vbd->disk->ops->abort)
		vbd->disk->ops->abort(vbd->disk);
}

void vbd_cancel_stalled(struct vbd *vbd)
{
	abort_retry(vbd);
	retry_resume_withdrawn(vbd->retry);
}

static void drain(struct vbd *vbd, enum vbd_life life)
{
	vbd->life = life;
	vbd->phase = PHASE_DRAIN;
	request_hold_all(vbd);
	abort_retry(vbd);
	vbd_again(vbd);
}

static bool is_forced(const struct vbd *vbd)
{
	return vbd->op && vbd->op->kind == VBD_OP_CLOSE && vbd->op->flag;
}

/* No time left, or none given: the storage is asked once. */
static bool is_impatient(const struct vbd *vbd)
{
	return is_forced(vbd) && vbd->op->deadline_ns <= vbd_now(vbd);
}

static void quiesced(void *arg, int err)
{
	struct vbd *vbd = arg;

	assert(vbd->phase == PHASE_QUIESCE && !vbd->quiesced);
	vbd->quiesced = true;
	vbd->quiesce_err = err;
	vbd_again(vbd);
}

void vbd_drained(struct vbd *vbd)
{
	if (vbd->op->kind == VBD_OP_REOPEN) {
		vbd_reopen(vbd);
		return;
	}
	if (vbd->life == LIFE_HOLDING) {
		vbd->life = LIFE_HELD;
		vbd->phase = PHASE_IDLE;
		retry_resume(vbd->retry);
		vbd_finish(vbd);
		return;
	}
	if (!is_impatient(vbd))
		retry_resume(vbd->retry);
	vbd->phase = PHASE_QUIESCE;
	vbd->quiesced = false;
	vbd->disk->ops->quiesce(vbd->disk, quiesced, vbd);
	vbd_again(vbd); /* a close may be waiting */
}

/* ── pause ── */

static void take_lease(struct vbd *vbd, uint64_t ns)
{
	vbd->leased = ns;
	if (ns)
		loop_timer_set(vbd->lease, ns);
}

static void parked(struct vbd *vbd)
{
	struct vbd_op *op = vbd->op;

	vbd_log_tell(vbd);
	if (vbd->step.err.code) {
		/* its locks are gone: it has to be opened anew */
		op->err = vbd->step.err;
		vbd->life = LIFE_RESUMING;
		resume(vbd, NULL, NULL);
		return;
	}
	vbd->life = LIFE_PAUSED;
	vbd->pauses++;
	take_lease(vbd, op->lease_ns);
	vbd_event(vbd, "paused", vbd->spec);
	vbd_finish(vbd);
}

static void begin_pause(struct vbd *vbd)
{
	if (vbd->life == LIFE_PAUSED) {
		vbd->op->flag = true;
		vbd_finish(vbd);
	} else if (vbd->life != LIFE_RUNNING) {
		refuse(vbd, -EINVAL, "pause");
	} else {
		drain(vbd, LIFE_PAUSING);
	}
}

/* ── close ── */

static void closed(struct vbd *vbd)
{
	vbd_log_tell(vbd);
	forget_image(vbd);
	vbd_event(vbd, "closed", "no image");
	vbd_finish(vbd);
}

/* The point of no return. */
void vbd_close_now(struct vbd *vbd)
{
	vbd->life = LIFE_CLOSING;
	loop_timer_cancel(vbd->lease);
	vbd_tell(vbd, VBD_NEWS_CLOSING);
	request_fail_all(vbd);
	vbd->step.disk = vbd->disk;
	vbd_step_start(vbd, vbd_work_close, closed);
}

/* ORDER 5: what no client was told of is told to who closes the disk, once. */
static int untold(struct vbd *vbd)
{
	bool any = vbd->losses != vbd->told;

	vbd->told = vbd->losses;
	return any ? -EIO : 0;
}

static void close_paused(struct vbd *vbd)
{
	if (untold(vbd) && !is_forced(vbd)) {
		vbd_op_error(
			vbd->op, -EIO,
			"'%s' is not closed: a flush failed before it was paused, and no client "
			"has been told; closing it again does",
			vbd_name(vbd));
		vbd_finish(vbd);
		return;
	}
	vbd_close_now(vbd);
}

static void begin_close(struct vbd *vbd)
{
	if (vbd->life == LIFE_RUNNING)
		drain(vbd, LIFE_CLOSING);
	else if (vbd->life == LIFE_PAUSED)
		close_paused(vbd);
	else
		refuse(vbd, -EINVAL, "close");
}

void vbd_after_quiesce(struct vbd *vbd)
{
	int err = vbd->quiesce_err;

	vbd->quiesced = false;
	if (vbd->backing_out) {
		vbd_go_on(vbd);
		vbd_again(vbd);
		return;
	}
	if (vbd->life == LIFE_CLOSING) {
		int rc = untold(vbd);

		err = err ? err : rc;
	}
	if (err && !is_forced(vbd)) {
		vbd_op_error(vbd->op, err, "cannot make '%s' durable: %s; it goes on",
			     vbd_name(vbd), vhd_strerror(err));
		vbd_go_on(vbd);
		vbd_finish(vbd);
		return;
	}
	if (vbd->disk->ops->is_idle && !vbd->disk->ops->is_idle(vbd->disk)) {
		/* after a commit that failed it may have begun something by itself */
		vbd->quiesced = true;
		loop_timer_set(vbd->later, VBD_IDLE_NS);
		return;
	}
	if (err)
		vbd_event(vbd, "flush-failed",
			  "closed by force: what was written since the last "
			  "good flush may be lost");
	vbd->disk->ops->stop(vbd->disk);
	vbd_log_stop(vbd);
	if (vbd->life == LIFE_CLOSING) {
		vbd_close_now(vbd);
		return;
	}
	vbd->step.disk = vbd->disk;
	vbd_step_start(vbd, vbd_work_park, parked);
}

/* ── unpause ── */

static void spare_closed(struct vbd *vbd)
{
	vbd_finish(vbd);
}

static void resume_failed(struct vbd *vbd, const struct vhd_error *err)
{
	vbd->life = LIFE_PAUSED;
	vbd->resume_failed = true;
	free(vbd->step.log_new);
	vbd->step.log_new = NULL;
	snprintf(vbd->resume_reason, sizeof(vbd->resume_reason), "%s", err->text);
	if (vbd->op->kind == VBD_OP_PAUSE) {
		vbd->pauses++;
		take_lease(vbd, vbd->op->lease_ns);
	} else {
		vbd->op->err = *err;
	}
	vbd_event(vbd, "paused", vbd->resume_reason);
}

/* Does an image of that size fit?  Else @err says why. */
static bool fits(const struct vbd *vbd, const struct disk *disk, struct vhd_error *err)
{
	bool grow = vbd->op->kind == VBD_OP_UNPAUSE && vbd->op->flag;

	if (disk->size == vbd->size ||
	    (disk->size > vbd->size && (grow || disk->size <= vbd->size_tried)))
		return true;
	*err = (struct vhd_error){ .code = -EMEDIUMTYPE,
				   .has = VHD_HAS_VALUES,
				   .expected = vbd->size,
				   .found = disk->size };
	snprintf(err->text, sizeof(err->text),
		 "cannot resume '%s': the image has %llu bytes instead of %llu%s", vbd_name(vbd),
		 (unsigned long long)disk->size, (unsigned long long)vbd->size,
		 disk->size > vbd->size ? "; growing it has to be asked for" : "");
	return false;
}

static void serve_again(struct vbd *vbd, struct disk *disk)
{
	struct vbd_op *op = vbd->op;

	vbd->disk = disk;
	vbd_log_keep_name(vbd);
	vbd->read_only = disk->read_only;
	vbd->resume_failed = false;
	vbd->size_tried = 0;
	vbd->leased = false;
	loop_timer_cancel(vbd->lease);
	if (op->spec) {
		free(vbd->spec);
		vbd->spec = op->spec;
		op->spec = NULL;
	}
	vbd_resized(vbd);
	vbd_go_on(vbd);
	vbd_event(vbd, "running", vbd->spec);
}

static void resumed(struct vbd *vbd)
{
	struct vbd_step *s = &vbd->step;
	struct disk *disk = s->opened, *old = vbd->disk;
	struct vhd_error err = s->err;

	if (err.code) {
		resume_failed(vbd, &err);
		vbd_finish(vbd);
		return;
	}
	if (!fits(vbd, disk, &err) || attach_logged(vbd, disk, &err) < 0) {
		vbd_log_drop(s);
		if (s->reused)
			vbd->disk = NULL; /* only close follows; the next try opens anew */
		resume_failed(vbd, &err);
		s->disk = disk;
		vbd_step_start(vbd, vbd_work_close, spare_closed);
		return;
	}
	serve_again(vbd, disk);
	if (s->reused || !old) {
		vbd_finish(vbd);
		return;
	}
	/* the op ends when the old one is gone: its place may be wanted by the next pause */
	s->disk = old;
	vbd_step_start(vbd, vbd_work_close, spare_closed);
}

/* LIFE_RESUMING, the parked disk in vbd->disk or none.  @spec, @log NULL: the same. */
static void resume(struct vbd *vbd, const char *spec, const char *log)
{
	struct vbd_step *s = &vbd->step;

	s->disk = vbd->disk;
	s->spec = spec ? spec : vbd->spec;
	s->log_given = log != NULL;
	s->log_new = log && *log ? strdup(log) : NULL;
	s->log = log ? s->log_new : vbd->log;
	if (vbd->params.read_only)
		s->log = NULL;
	if (log && *log && !s->log_new) {
		const struct vhd_error err = { .code = -ENOMEM, .text = "out of memory" };

		resume_failed(vbd, &err);
		vbd_finish(vbd);
		return;
	}
	vbd_step_start(vbd, vbd_work_open, resumed);
}

static void begin_unpause(struct vbd *vbd)
{
	if (vbd->life != LIFE_PAUSED) {
		refuse(vbd, -EINVAL, "unpause");
		return;
	}
	vbd->life = LIFE_RESUMING;
	resume(vbd, vbd->op->spec, vbd->op->log);
}

/* ── begin, and give up ── */

void vbd_begin(struct vbd *vbd)
{
	static void (*const begins[])(struct vbd *) = {
		[VBD_OP_OPEN] = begin_open,
		[VBD_OP_CLOSE] = begin_close,
		[VBD_OP_PAUSE] = begin_pause,
		[VBD_OP_UNPAUSE] = begin_unpause,
	};

	if (vbd->op->err.code) /* no memory for what was asked */
		vbd_finish(vbd);
	else if (vbd->op->kind == VBD_OP_REOPEN && !vbd_can_reopen(vbd))
		vbd_finish(vbd);
	else if (vbd->op->kind < VBD_OP_HOLD)
		begins[vbd->op->kind](vbd);
	else if (vbd->life != LIFE_RUNNING)
		refuse(vbd, -EINVAL, "hold");
	else
		drain(vbd, LIFE_HOLDING);
}

bool vbd_give_up(struct vbd *vbd, int code, const char *why)
{
	if (vbd->phase == PHASE_DRAIN && !is_forced(vbd)) {
		vbd_op_error(vbd->op, code, "'%s' is not %s: %s", vbd_name(vbd),
			     vbd->op->kind == VBD_OP_CLOSE ? "closed" :
			     vbd->op->kind == VBD_OP_PAUSE ? "paused" :
							     "held",
			     why);
		vbd_go_on(vbd);
	} else if (vbd->phase == PHASE_QUIESCE) {
		abort_retry(vbd); /* so that it ends soon */
		if (is_forced(vbd))
			return false;
		vbd_op_error(vbd->op, code, "'%s' cannot be made durable: %s", vbd_name(vbd), why);
		vbd->backing_out = true;
	} else {
		return false;
	}
	return true;
}
