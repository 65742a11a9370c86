/* core-probe.c - stages of a disk, and what may be done in each */
#include "core-probe.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core-model.h"
#include "libvhd/base/number.h"

#define DISKS  4u
#define FLYING 256u

enum stage { STAGE_OPEN, STAGE_RUNNING, STAGE_QUIESCING, STAGE_QUIET, STAGE_STOPPED, STAGE_PARKED };

struct probe { /* one open disk */
	struct disk *disk;
	const struct disk_ops *ops; /* its own */
	enum stage stage;
	void (*completed)(struct disk *disk, struct request *req, int err);
	struct request *flying[FLYING];
	unsigned count;
	void (*quiesced)(void *arg, int err);
	void *quiesced_arg;
};

static struct probe probes[DISKS];
static struct rng *rng;

static struct probe *probe_of(const struct disk *disk)
{
	for (unsigned i = 0; i < DISKS; i++) {
		if (probes[i].disk == disk)
			return &probes[i];
	}
	model_die("a disk is used that is not open");
}

static void expect(const struct probe *p, bool right, const char *call)
{
	if (!right || p->count)
		model_die("%s in stage %d with %u requests in flight", call, (int)p->stage,
			  p->count);
}

static void probe_completed(struct disk *disk, struct request *req, int err)
{
	struct probe *p = probe_of(disk);
	unsigned i = 0;

	while (i < p->count && p->flying[i] != req)
		i++;
	if (i == p->count)
		model_die("a driver answered what it was not asked");
	p->flying[i] = p->flying[--p->count];
	p->completed(disk, req, err);
}

static int probe_start(struct disk *disk, struct vhd_error *err)
{
	struct probe *p = probe_of(disk);
	int rc;

	expect(p, p->stage == STAGE_OPEN, "start");
	if (strcmp(p->ops->name, "ram") != 0 && rng_chance(rng, 3)) { /* memory would be lost */
		*err = (struct vhd_error){ .code = -ENOMEM, .text = "no start today" };
		return -ENOMEM;
	}
	p->completed = disk->completed;
	disk->completed = probe_completed;
	rc = p->ops->start(disk, err);
	p->stage = STAGE_RUNNING;
	return rc;
}

static bool is_writer(const struct request *r)
{
	return r->op == REQUEST_WRITE || r->op == REQUEST_ZERO || r->op == REQUEST_TRIM;
}

static void probe_submit(struct disk *disk, struct request *req)
{
	struct probe *p = probe_of(disk);

	if (p->stage != STAGE_RUNNING)
		model_die("a request for a disk in stage %d", (int)p->stage);
	if ((req->offset | req->length) % REQUEST_SECTOR ||
	    !number_within(req->offset, req->length, disk->size))
		model_die("a driver is asked for %llu+%llu", (unsigned long long)req->offset,
			  (unsigned long long)req->length);
	/* clients never write the same bytes at once, so who shares a sector has a part of it */
	for (unsigned i = 0; i < p->count; i++) {
		const struct request *o = p->flying[i];

		if (is_writer(req) && is_writer(o) &&
		    number_overlap(req->offset, req->length, o->offset, o->length))
			model_die("two writers in sector %llu",
				  (unsigned long long)(req->offset / REQUEST_SECTOR));
	}
	assert(p->count < FLYING);
	p->flying[p->count++] = req;
	p->ops->submit(disk, req);
}

static void probe_quiesced(void *arg, int err)
{
	struct probe *p = arg;

	/* "the disk may be used on" */
	p->stage = STAGE_RUNNING;
	p->quiesced(p->quiesced_arg, err);
}

static void probe_quiesce(struct disk *disk, void (*done)(void *arg, int err), void *arg)
{
	struct probe *p = probe_of(disk);

	expect(p, p->stage == STAGE_RUNNING, "quiesce");
	p->stage = STAGE_QUIESCING;
	p->quiesced = done;
	p->quiesced_arg = arg;
	p->ops->quiesce(disk, probe_quiesced, p);
}

static int probe_park(struct disk *disk, struct vhd_error *err)
{
	struct probe *p = probe_of(disk);

	expect(p, p->stage == STAGE_STOPPED, "park");
	p->stage = STAGE_PARKED;
	if (rng_chance(rng, 5)) {
		*err = (struct vhd_error){ .code = -VHD_E_BUSY, .text = "parked by others" };
		return -VHD_E_BUSY;
	}
	return p->ops->park(disk, err);
}

static int probe_unpark(struct disk *disk, struct vhd_error *err)
{
	struct probe *p = probe_of(disk);
	int rc;

	expect(p, p->stage == STAGE_PARKED, "unpark");
	rc = p->ops->unpark(disk, err);
	if (rc == 0)
		p->stage = STAGE_OPEN;
	return rc;
}

static void probe_stop(struct disk *disk)
{
	struct probe *p = probe_of(disk);

	expect(p, p->stage == STAGE_RUNNING, "stop");
	p->stage = STAGE_STOPPED;
	p->ops->stop(disk);
}

static void probe_close(struct disk *disk)
{
	struct probe *p = probe_of(disk);

	expect(p, p->stage == STAGE_OPEN || p->stage >= STAGE_STOPPED, "close");
	p->disk = NULL;
	p->ops->close(disk);
}

static const struct disk_ops probe_ops = {
	.name = "probe",
	.start = probe_start,
	.submit = probe_submit,
	.quiesce = probe_quiesce,
	.park = probe_park,
	.unpark = probe_unpark,
	.stop = probe_stop,
	.close = probe_close,
};

/* ── for tests ── */

void probe_open(struct rng *r)
{
	rng = r;
	memset(probes, 0, sizeof(probes));
}

void probe_attach(struct disk *disk)
{
	struct probe *p = probes;

	while (p->disk)
		p++;
	assert(p < probes + DISKS);
	*p = (struct probe){ .disk = disk, .ops = disk->ops };
	disk->ops = &probe_ops;
}

void probe_none(void)
{
	for (unsigned i = 0; i < DISKS; i++)
		if (probes[i].disk)
			model_die("a disk was never closed");
}
