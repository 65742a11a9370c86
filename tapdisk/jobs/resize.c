/* resize.c - growing the image of a running VBD inside its metadata's room
 *
 * Under hold: no request meets a disk whose size is between two values.  Clients are told
 * (vbd_resized) when the new size is durable.
 */
#include "resize.h"

#include <errno.h>
#include <stdio.h>

#include "libvhd/error.h"

static void resized(void *arg, const struct vhd_error *err)
{
	struct resize_job *job = arg;
	char text[64];

	if (err && err->code) {
		job->err = *err;
		vbd_resize_failed(job->vbd, job->bytes);
	} else {
		vbd_resized(job->vbd);
		snprintf(text, sizeof(text), "%llu bytes", (unsigned long long)job->bytes);
		vbd_event(job->vbd, "resized", text);
	}
	vbd_release(job->vbd);
	job->done(job);
}

static void hold_done(struct vbd_op *op)
{
	struct resize_job *job = op->owner;

	if (op->err.code) {
		job->err = op->err;
		job->done(job);
		return;
	}
	vhd_disk_resize(vbd_disk(job->vbd), job->bytes, resized, job);
}

static void check(struct resize_job *job)
{
	struct disk *disk = vbd_disk(job->vbd);
	unsigned minor = vbd_minor(job->vbd);

	if (!disk || vbd_state(job->vbd) & (VBD_PAUSED | VBD_PAUSE_REQUESTED))
		error_set(&job->err, -EINVAL, "resize: minor %u is not running", minor);
	else if (!vhd_disk_is(disk))
		error_set(&job->err, -EOPNOTSUPP, "resize: '%s' is no VHD image",
			  vbd_spec(job->vbd));
	else if (disk->read_only)
		error_set(&job->err, -EROFS, "resize: minor %u is read-only", minor);
	else if (job->bytes % REQUEST_SECTOR)
		error_set(&job->err, -EINVAL, "resize: %llu is no multiple of %u bytes",
			  (unsigned long long)job->bytes, REQUEST_SECTOR);
	else if (job->bytes < disk->size)
		error_set(&job->err, -EINVAL,
			  "resize: minor %u has %llu bytes already; a disk in use only grows",
			  minor, (unsigned long long)disk->size);
}

void resize_start(struct resize_job *job)
{
	job->err = (struct vhd_error){ 0 };
	check(job);
	if (job->err.code || job->bytes == vbd_disk(job->vbd)->size) {
		job->done(job);
		return;
	}
	job->hold = (struct vbd_op){ .done = hold_done, .owner = job };
	vbd_hold(job->vbd, job->timeout_ns, &job->hold);
}
