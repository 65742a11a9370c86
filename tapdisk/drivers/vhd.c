/* vhd.c - requests to a VHD chain: in, flush, quiesce, and the age of dirty metadata
 *
 * A request becomes a struct vhd_req in the room it brings.  Its step function
 * translates as much as the maps know, issues operations, and returns when it must
 * wait; it is called again when that is over.
 *
 *   submit ─► step ─► operations in flight ─► landed / end ─► (FUA: flush) ─► complete
 *              │ ▲
 *              ▼ │  metadata not in memory, no position, no free operation
 *             waits
 *
 * Metadata is written back: by a flush, by age (a timer that only runs while something is
 * dirty), or by amount (the map's own).  Errors of the storage are tried again below
 * (retry.h); what arrives here is final, or -ECANCELED: held for later by the core.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/error.h"
#include "vhd-private.h"

#define DIRTY_AGE_NS 1000000000ull

/* ── looking ── */

int vhd_lookup_leaf(struct vhd_disk *d, uint64_t sector, uint64_t count, struct map_ext *out,
		    int max)
{
	if (d->map)
		return map_lookup(d->map, sector, count, out, max);
	out[0] = (struct map_ext){ EXT_HERE, sector, count, sector };
	return 1;
}

/* An outside coalesce may have made a frozen layer longer since it was opened (locking.md):
 * entries that pointed past its end are right now. */
bool vhd_refresh(struct vhd_req *v, unsigned index)
{
	struct vhd_layer *layer = v->disk->layers[index];
	uint64_t bytes;

	if (!index || !layer->img->map || io_size(layer->img->io, &bytes) < 0)
		return false;
	if (bytes > layer->img->file_bytes) {
		layer->img->file_bytes = bytes;
		map_data_end(layer->img->map, bytes);
	}
	/* another request may have seen it first: once for each size */
	if (layer->img->file_bytes <= v->seen_bytes)
		return false;
	v->seen_bytes = layer->img->file_bytes;
	return true;
}

static void wanted(struct map_req *wait)
{
	struct vhd_req *v = (struct vhd_req *)wait;
	struct vhd_disk *d = v->disk;

	if (wait->err == -VHD_E_BAT_ENTRY && d->view &&
	    vhd_refresh(v, view_fault_layer(d->view) + 1))
		wait->err = 0;
	vhd_step_again(wait);
}

void vhd_step_again(struct map_req *wait)
{
	struct vhd_req *v = (struct vhd_req *)wait;

	if (wait->err && !v->err)
		v->err = wait->err;
	if (v->err)
		pump_unref(v);
	else
		v->step(v);
}

/* Others' reads do not end with an abort: nothing more is waited for. */
static void abort_waits(struct disk *disk)
{
	struct vhd_disk *d = vhd_disk_of(disk);

	if (!d->view)
		return;
	view_cancel(d->view, -ECANCELED);
	pump_soon(d);
}

void vhd_want(struct vhd_req *v, bool view)
{
	if (view && retry_is_aborted(v->disk->disk.retry)) {
		v->err = -ECANCELED;
		pump_unref(v);
		return;
	}
	v->wait.sector = v->sector;
	v->wait.count = 1;
	v->wait.ready = wanted;
	if (view)
		view_want(v->disk->view, &v->wait);
	else
		map_want(v->disk->map, &v->wait);
	pump_soon(v->disk);
}

/* ── durable ── */

static void sync_failed(struct vhd_disk *d, int err)
{
	if (err == -ECANCELED || !d->disk.event)
		return;
	d->disk.event(&d->disk, "flush-failed",
		      "a flush failed: what was written since the last good one may be lost");
}

static void age_flushed(struct map_req *req)
{
	struct vhd_disk *d = list_entry(req, struct vhd_disk, age_flush);

	d->age_flushing = false;
	if (req->err)
		sync_failed(d, req->err);
	vhd_touched(d);
	vhd_settled(d);
}

static void too_old(void *owner)
{
	struct vhd_disk *d = owner;

	if (d->age_flushing || !map_dirty_blocks(d->map))
		return;
	d->age_flushing = true;
	d->age_flush = (struct map_req){ .ready = age_flushed };
	map_flush(d->map, &d->age_flush);
	pump_soon(d);
}

void vhd_touched(struct vhd_disk *d)
{
	uint64_t age = d->params.dirty_age_ns ? d->params.dirty_age_ns : DIRTY_AGE_NS;

	if (!d->map)
		return;
	if (!d->age_flushing && map_dirty_blocks(d->map) && !loop_timer_is_set(d->age))
		loop_timer_set(d->age, age);
	pump_soon(d);
}

static void complete(struct vhd_req *v, int err)
{
	struct vhd_disk *d = v->disk;

	if (v->entered) {
		v->entered = false;
		map_leave(d->map, v->epoch);
	}
	disk_complete(&d->disk, v->req, err);
}

static void flushed(struct map_req *wait)
{
	struct vhd_req *v = (struct vhd_req *)wait;

	if (wait->err)
		sync_failed(v->disk, wait->err);
	complete(v, wait->err);
}

static void sync_landed(struct vhd_req *v)
{
	if (v->err)
		sync_failed(v->disk, v->err);
	complete(v, v->err);
}

/* Complete @v once all that was written is durable. */
static void flush(struct vhd_req *v)
{
	struct vhd_disk *d = v->disk;

	v->landed = sync_landed;
	if (!d->map) {
		v->pending = 1;
		v->step = flush; /* never waits: its own operation is free */
		pump_issue(v, vhd_leaf(d), ENGINE_SYNC, 0, 0, 0, NULL);
		pump_unref(v);
		return;
	}
	v->wait.ready = flushed;
	map_flush(d->map, &v->wait);
	pump_soon(d);
}

void vhd_req_end(struct vhd_req *v)
{
	bool writes = v->req->op == REQUEST_WRITE || v->req->op == REQUEST_ZERO ||
		      v->req->op == REQUEST_TRIM;
	bool durable = (v->req->flags & REQUEST_FUA) || v->disk->params.writethrough;

	if (writes && durable && !v->err)
		flush(v);
	else
		complete(v, v->err);
}

/* ── requests ── */

static void submit(struct disk *disk, struct request *req)
{
	static void (*const steps[])(struct vhd_req *) = {
		[REQUEST_READ] = vhd_read_step, [REQUEST_WRITE] = vhd_write_step,
		[REQUEST_FLUSH] = flush,	[REQUEST_TRIM] = vhd_zero_step,
		[REQUEST_ZERO] = vhd_zero_step, [REQUEST_STATUS] = vhd_status_step,
		[REQUEST_CACHE] = vhd_req_end,
	};
	struct vhd_req *v = vhd_req_of(req);

	v->disk = vhd_disk_of(disk);
	v->req = req;
	v->sector = req->offset / VHD_SECTOR;
	v->left = req->length / VHD_SECTOR;
	v->step = steps[req->op];
	v->landed = NULL;
	v->pending = 1;
	v->err = 0;
	v->buffer = NULL;
	v->seen_bytes = 0;
	v->own_op_busy = false;
	v->entered = false;
	req->extent_count = 0;
	if (v->disk->map && !v->disk->has_parent && req->op != REQUEST_FLUSH) {
		v->entered = true;
		map_enter(v->disk->map, &v->epoch);
	}
	v->step(v);
}

/* ── life ── */

bool vhd_asks_again(const struct vhd_disk *d, const struct map_req *req)
{
	return req->err == -ECANCELED && !retry_is_aborted(d->disk.retry);
}

static void quiesced(struct map_req *req)
{
	struct vhd_disk *d = list_entry(req, struct vhd_disk, quiesce);

	if (vhd_asks_again(d, req)) {
		map_quiesce(d->map, &d->quiesce);
		pump_soon(d);
		return;
	}
	d->quiesce_over = true;
	vhd_settled(d);
}

/* Quiet is told when no operation is in flight any more, those of a commit that failed
 * included. */
void vhd_settled(struct vhd_disk *d)
{
	if (!d->quiesce_over || d->meta_flying || d->age_flushing)
		return;
	d->quiesce_over = false;
	vhd_touched(d); /* what is dirty still, after a failure, is not left so */
	d->quiesced(d->quiesced_arg, d->quiesce.err);
}

static void quiesce(struct disk *disk, void (*done)(void *arg, int err), void *arg)
{
	struct vhd_disk *d = vhd_disk_of(disk);

	d->quiesced = done;
	d->quiesced_arg = arg;
	d->quiesce = (struct map_req){ .ready = quiesced };
	if (d->params.read_only) {
		quiesced(&d->quiesce);
	} else if (d->map) {
		loop_timer_cancel(d->age);
		map_quiesce(d->map, &d->quiesce);
		pump_soon(d);
	} else {
		pump_sync_flat(d);
	}
}

/* Another disk's operation brought metadata that a request of this one waited for. */
static void kicked(void *arg)
{
	pump_soon(arg);
}

void vhd_use_view(struct vhd_disk *d, struct vhd_view *view)
{
	view_close(d->view);
	d->view = view;
	if (view)
		view_set_kick(view, kicked, d);
}

static int start(struct disk *disk, struct vhd_error *err)
{
	struct vhd_disk *d = vhd_disk_of(disk);
	struct vhd_view *view = NULL;
	int rc = 0;

	for (unsigned i = 0; i < d->depth && !rc; i++)
		rc = source_start(d, d->layers[i], i > 0);
	if (!rc)
		rc = vhd_make_view(d, d->layers, d->depth, &view);
	if (!rc) {
		vhd_use_view(d, view);
		vhd_share_cache(d);
		rc = pump_start(d);
	}
	if (!rc)
		rc = secret_start(d);
	if (!rc)
		rc = loop_timer_open(disk->loop, too_old, d, &d->age);
	if (rc < 0) {
		error_set(err, rc, "cannot start '%s': out of memory or descriptors", d->path);
		disk->ops->stop(disk);
		return rc;
	}
	if (disk->peers)
		list_append(disk->peers, &disk->peer);
	return 0;
}

static void stop(struct disk *disk)
{
	struct vhd_disk *d = vhd_disk_of(disk);

	list_remove(&disk->peer);
	loop_undefer(disk->loop, &d->trim_task);
	loop_timer_close(d->age);
	d->age = NULL;
	pump_stop(d);
	secret_stop(d);
	vhd_use_view(d, NULL);
	for (unsigned i = 0; i < d->depth; i++)
		source_stop(d->layers[i]);
}

static unsigned layers(const struct disk *disk, struct disk_layer_info *out, unsigned max)
{
	const struct vhd_disk *d = (const struct vhd_disk *)disk;

	for (unsigned i = 0; i < d->depth && i < max; i++) {
		const struct vhd_layer *l = d->layers[i];

		out[i] = (struct disk_layer_info){ .path = l->img->io->name,
						   .type = l->img->type == VHD_TYPE_RAW ? "aio" :
											  "vhd",
						   .reads = l->reads,
						   .writes = l->writes,
						   .read_failures = l->read_failures,
						   .write_failures = l->write_failures };
	}
	return d->depth < max ? d->depth : max;
}

static int park(struct disk *disk, struct vhd_error *err)
{
	struct vhd_disk *d = vhd_disk_of(disk);
	struct vhd_io *leaf = vhd_leaf(d)->img->io;

	for (unsigned i = 1; i < d->depth; i++)
		source_free(d->layers[i]);
	d->depth = 1;
	lock_release(leaf);
	return d->params.read_only ?
		       0 :
		       lock_take(leaf, LOCK_PARKED, NULL, d->params.lock_wait_ms, NULL, err);
}

static void close_disk(struct disk *disk)
{
	struct vhd_disk *d = vhd_disk_of(disk);

	for (unsigned i = 0; i < d->depth; i++)
		source_free(d->layers[i]);
	free(d->path);
	free(d);
}

const struct disk_ops vhd_disk_ops = {
	.name = "vhd",
	.start = start,
	.submit = submit,
	.abort = abort_waits,
	.reopen_begin = vhd_reopen_begin,
	.reopen = vhd_reopen,
	.reopen_end = vhd_reopen_end,
	.is_idle = vhd_is_idle,
	.quiesce = quiesce,
	.park = park,
	.stop = stop,
	.close = close_disk,
	.layers = layers,
};
