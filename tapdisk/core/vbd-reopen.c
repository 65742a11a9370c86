/* vbd-reopen.c - the files of an image opened anew, when storage has failed for long
 *
 *   the retry: too long ─► op in the queue ─► drain ─► thread: same file? lock, replace ─► go on
 *                                                        │ locked by somebody else: closed
 *
 * Patience goes on as if nothing had been: what fails again soon after has failed since the stall
 * began.  A failure that takes nothing away is told, and the old descriptors are tried on; it
 * is tried again after the same time.
 */
#include <stdio.h>

#include "vbd-private.h"

bool vbd_can_reopen(const struct vbd *vbd)
{
	/* what waited may have got through while others had their turn */
	return vbd->life == LIFE_RUNNING && vbd->stalled && vbd->disk->ops->reopen_begin;
}

static void work_reopen(struct loop_work *work)
{
	struct vbd_step *s = vbd_step_of(work);

	s->lost = false;
	s->err.code = s->disk->ops->reopen(s->plan, &s->lost, &s->err);
}

/* Back to serving; who fails again has failed since the stall began. */
static void go_on_stalled(struct vbd *vbd)
{
	retry_resume_stalled(vbd->retry);
	vbd_go_on(vbd);
	vbd_finish(vbd);
}

void vbd_lost(struct vbd *vbd)
{
	struct disk *disk = vbd->disk;

	if (disk->ops->is_idle && !disk->ops->is_idle(disk)) {
		loop_timer_set(vbd->later, VBD_IDLE_NS);
		return;
	}
	vbd_tell(vbd, VBD_NEWS_LOST);
	disk->ops->stop(disk);
	if (vbd->changes)
		changes_distrust(vbd->changes);
	vbd_log_stop(vbd);
	vbd_close_now(vbd);
}

static void reopened(struct vbd *vbd)
{
	struct vbd_step *s = &vbd->step;
	char text[sizeof(s->err.text) + 64];

	s->disk->ops->reopen_end(s->plan);
	if (s->lost) {
		snprintf(text, sizeof(text), "somebody else has taken it, it is closed: %s",
			 s->err.text);
		vbd_event(vbd, "lost", text);
		vbd->phase = PHASE_LOST; /* with the retry aborted, so that jobs end soon */
		vbd_again(vbd);
		return;
	}
	if (s->err.code) {
		snprintf(text, sizeof(text), "cannot be opened anew: %s", s->err.text);
		vbd_event(vbd, "stalled", text);
	} else {
		vbd_event(vbd, "reopened", "storage failed for long: its files were opened anew");
	}
	go_on_stalled(vbd);
}

/* No request is with the disk; what it does by itself ends soon, for the retry is aborted. */
void vbd_reopen(struct vbd *vbd)
{
	struct disk *disk = vbd->disk;

	if (disk->ops->is_idle && !disk->ops->is_idle(disk)) {
		loop_timer_set(vbd->later, VBD_IDLE_NS);
		return;
	}
	if (disk->ops->reopen_begin(disk, &vbd->step.plan) < 0) {
		go_on_stalled(vbd);
		return;
	}
	vbd->step.disk = disk;
	vbd_step_start(vbd, work_reopen, reopened);
}
