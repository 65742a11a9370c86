/* vbd-work.c - what a thread does for a VBD: open, park, close; the result is in its step */
#include <string.h>

#include "vbd-private.h"

static void open_disk(struct vbd_step *s, struct vbd *vbd)
{
	int rc;

	s->opened = NULL;
	s->reused = false;
	if (s->disk && s->disk->ops->unpark && !strcmp(s->spec, vbd->spec)) {
		rc = s->disk->ops->unpark(s->disk, &s->err);
		s->err = (struct vhd_error){ 0 };
		if (rc == 0) {
			s->opened = s->disk;
			s->reused = true;
			return;
		}
	}
	rc = vbd->host->open(vbd->host, s->spec, &vbd->params, &s->opened, &s->err);
	if (rc < 0)
		s->err.code = rc;
}

/* The log before a disk that is there already: a disk that was unparked can only be used or closed.
 * But a first one tells the size. */
void vbd_work_open(struct loop_work *work)
{
	struct vbd_step *s = vbd_step_of(work);
	struct vbd *vbd = work->owner;
	bool first = vbd->life == LIFE_OPENING;

	s->opened = NULL;
	s->log_opened = NULL;
	if (s->log && !first)
		vbd_log_open(s, vbd->size);
	if (s->err.code)
		return;
	open_disk(s, vbd);
	if (s->log && first && !s->err.code)
		vbd_log_open(s, s->opened->size);
	if (!s->err.code)
		return;
	vbd_log_drop(s);
	vbd_log_end(s);
	if (s->opened)
		s->opened->ops->close(s->opened);
	s->opened = NULL;
}

void vbd_work_close(struct loop_work *work)
{
	struct vbd_step *s = vbd_step_of(work);

	vbd_log_end(s);
	if (s->disk)
		s->disk->ops->close(s->disk);
	s->disk = NULL;
}

void vbd_work_park(struct loop_work *work)
{
	struct vbd_step *s = vbd_step_of(work);
	int rc;

	vbd_log_end(s);
	rc = s->disk->ops->park(s->disk, &s->err);
	s->err.code = rc;
}
