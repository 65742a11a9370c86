/* vbd-log.c - a VBD's log of changed blocks in the course of its life
 *
 *   step:  log ─► log_opened ─► vbd->changes ─► changes ─► ended
 *          open     start         stop           end
 *                     └─ failed: drop ────────────┘
 *
 * Opening and ending block: they are done in the step's thread, before the disk is opened anew and
 * before it is parked or closed (ORDER 20).
 */
#include <errno.h>
#include <stdlib.h>

#include "libvhd/error.h"
#include "vbd-private.h"

void vbd_log_open(struct vbd_step *s, uint64_t size)
{
	int rc = changes_open(s->log, size, &s->log_opened, &s->err);

	if (rc == -ENOENT && !s->log_given)
		s->err = (struct vhd_error){ 0 };
	else if (rc < 0)
		s->err.code = rc;
}

void vbd_log_drop(struct vbd_step *s)
{
	if (s->log_opened)
		s->changes = s->log_opened;
	s->log_opened = NULL;
}

void vbd_log_end(struct vbd_step *s)
{
	int rc = changes_end(s->changes, &s->log_err);

	s->log_err.code = rc;
	s->changes = NULL;
}

int vbd_log_start(struct vbd *vbd, struct vhd_error *err)
{
	struct vbd_step *s = &vbd->step;
	int rc = 0;

	if (s->log_opened)
		rc = changes_start(s->log_opened, vbd->host->loop, vbd->host->engine, vbd->retry,
				   vbd_changes_lost, vbd);
	if (rc < 0) {
		vbd_log_drop(s);
		error_system(err, rc, "log to", s->log);
		return rc;
	}
	vbd->changes = s->log_opened;
	s->log_opened = NULL;
	return 0;
}

void vbd_log_stop(struct vbd *vbd)
{
	if (vbd->changes)
		changes_stop(vbd->changes);
	vbd->step.changes = vbd->changes;
	vbd->changes = NULL;
}

const char *vbd_changed_log(const struct vbd *vbd)
{
	return vbd->changes && !changes_is_lost(vbd->changes) ? vbd->log : NULL;
}

void vbd_log_tell(struct vbd *vbd)
{
	if (vbd->step.log_err.code)
		vbd_changes_lost(vbd, vbd->step.log_err.text);
}

void vbd_log_keep_name(struct vbd *vbd)
{
	struct vbd_step *s = &vbd->step;

	if (!s->log_given && (!s->log || vbd->changes))
		return;
	free(vbd->log);
	vbd->log = s->log_new;
	s->log_new = NULL;
}
