/* filter.c - disks over another disk: opening, and passing on */
#include "filter.h"

#include <errno.h>
#include <stdlib.h>

#include "libvhd/error.h"

static void completed(struct disk *below, struct request *req, int err)
{
	struct filter *f = below->owner;

	f->answered(f, req, err);
}

static void event(struct disk *below, const char *what, const char *text)
{
	struct filter *f = below->owner;

	if (f->disk.event)
		f->disk.event(&f->disk, what, text);
}

static void lost(struct disk *below)
{
	struct filter *f = below->owner;

	if (f->disk.lost)
		f->disk.lost(&f->disk);
}

int filter_open(struct filter *f, const char *type, const char *argument,
		const struct disk_params *params, size_t *own, struct vhd_error *err)
{
	const char *below = disk_spec_below(argument, own);
	int rc;

	if (!below)
		return error_set(
			err, -VHD_E_ARGUMENT,
			"cannot open '%s:%s': a comma and the disk below are missing, as in "
			"%s:...,vhd:/disk.vhd",
			type, argument, type);
	rc = disk_open(below, params, &f->below, err);
	if (rc < 0)
		return rc;
	list_init(&f->disk.peer);
	f->disk.size = f->below->size;
	f->disk.read_only = f->below->read_only;
	f->disk.can_trim = f->below->can_trim;
	f->disk.fast_zero = f->below->fast_zero;
	f->disk.block_bytes = f->below->block_bytes;
	return 0;
}

int filter_start(struct disk *disk, struct vhd_error *err)
{
	struct filter *f = filter_of(disk);
	struct disk *below = f->below;

	below->loop = disk->loop;
	below->engine = disk->engine;
	below->retry = disk->retry;
	below->peers = disk->peers;
	below->completed = completed;
	below->event = event;
	below->lost = lost;
	below->owner = f;
	return below->ops->start(below, err);
}

void filter_abort(struct disk *disk)
{
	struct disk *below = filter_of(disk)->below;

	if (below->ops->abort)
		below->ops->abort(below);
}

struct filter_plan {
	const struct disk_ops *ops; /* of the disk below */
	void *plan;
};

int filter_reopen_begin(struct disk *disk, void **plan)
{
	struct disk *below = filter_of(disk)->below;
	struct filter_plan *p = calloc(1, sizeof(*p));
	int rc = p ? 0 : -ENOMEM;

	if (!rc && below->ops->reopen_begin) {
		p->ops = below->ops;
		rc = below->ops->reopen_begin(below, &p->plan);
	}
	if (rc < 0)
		free(p);
	else
		*plan = p;
	return rc;
}

int filter_reopen(void *plan, bool *lost, struct vhd_error *err)
{
	const struct filter_plan *p = plan;

	return p->ops ? p->ops->reopen(p->plan, lost, err) : 0;
}

void filter_reopen_end(void *plan)
{
	struct filter_plan *p = plan;

	if (p->ops)
		p->ops->reopen_end(p->plan);
	free(p);
}

bool filter_is_idle(const struct disk *disk)
{
	const struct disk *below = ((const struct filter *)disk)->below;

	return !below->ops->is_idle || below->ops->is_idle(below);
}

void filter_quiesce(struct disk *disk, void (*done)(void *arg, int err), void *arg)
{
	struct disk *below = filter_of(disk)->below;

	below->ops->quiesce(below, done, arg);
}

int filter_park(struct disk *disk, struct vhd_error *err)
{
	struct disk *below = filter_of(disk)->below;

	return below->ops->park(below, err);
}

void filter_stop(struct disk *disk)
{
	struct disk *below = filter_of(disk)->below;

	below->ops->stop(below);
}

void filter_close(struct filter *f)
{
	if (f->below)
		f->below->ops->close(f->below);
}

unsigned filter_layers(const struct disk *disk, struct disk_layer_info *out, unsigned max)
{
	const struct disk *below = ((const struct filter *)disk)->below;

	return below->ops->layers ? below->ops->layers(below, out, max) : 0;
}
