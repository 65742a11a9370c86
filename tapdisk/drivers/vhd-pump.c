/* vhd-pump.c - operations in flight: data of requests, metadata of the maps
 *
 * Both come from pools made at start.  A request may always have one operation,
 * its own; more only while the pool lasts, so it can starve but never block.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "vhd-private.h"

static void pump(struct loop_task *task);
static void resume(struct loop_task *task);
static void meta_done(struct engine_io *io);
static void data_done(struct engine_io *io);

static void next_turn(void *owner)
{
	struct vhd_disk *d = owner;

	loop_defer(d->disk.loop, &d->resume_task);
}

int pump_start(struct vhd_disk *d)
{
	d->ops = calloc(VHD_DATA_OPS + VHD_META_OPS, sizeof(*d->ops));
	if (!d->ops)
		return -ENOMEM;
	for (unsigned i = 0; i < VHD_DATA_OPS + VHD_META_OPS; i++) {
		struct vhd_op *op = &d->ops[i];
		struct vhd_op **list = i < VHD_DATA_OPS ? &d->free_data : &d->free_meta;

		op->disk = d;
		op->next = *list;
		*list = op;
	}
	d->op_waiters = NULL;
	d->op_waiters_end = &d->op_waiters;
	d->pump_task.run = pump;
	d->resume_task.run = resume;
	return loop_timer_open(d->disk.loop, next_turn, d, &d->next_turn);
}

void pump_stop(struct vhd_disk *d)
{
	if (!d->ops)
		return;
	assert(!d->meta_flying && !d->op_waiters);
	loop_timer_close(d->next_turn);
	d->next_turn = NULL;
	loop_undefer(d->disk.loop, &d->pump_task);
	loop_undefer(d->disk.loop, &d->resume_task);
	free(d->ops);
	d->ops = NULL;
	d->free_data = d->free_meta = NULL;
}

/* ORDER 5: a sync that failed is not tried again. */
static void send(struct vhd_op *op, struct vhd_layer *layer, enum engine_op what, uint64_t offset,
		 uint64_t length, void *buf, void (*done)(struct engine_io *io))
{
	struct disk *disk = &op->disk->disk;
	/* metadata of the leaf is everybody's: it is not given up with the requests of one */
	bool is_shared = done == meta_done && !op->of_view;

	op->layer = layer;
	op->io = (struct engine_io){ .file = layer->file,
				     .op = what,
				     .offset = offset,
				     .length = length,
				     .buf = buf,
				     .retry = what == ENGINE_SYNC || op->once ? NULL : disk->retry,
				     .retry_epoch = is_shared ? 0 : retry_epoch(disk->retry),
				     .failing_ns = done == data_done ? op->req->req->failing_ns : 0,
				     .done = done };
	engine_submit(disk->engine, &op->io);
}

/* ── data ── */

void pump_unref(struct vhd_req *v)
{
	assert(v->pending > 0);
	if (--v->pending)
		return;
	if (v->landed)
		v->landed(v);
	else
		vhd_req_end(v);
}

static void data_done(struct engine_io *io)
{
	struct vhd_op *op = (struct vhd_op *)io;
	struct vhd_disk *d = op->disk;
	struct vhd_req *v = op->req;
	bool reading = io->op == ENGINE_READ;

	if (reading && !io->err && op->layer->crypt)
		io->err = crypt_decrypt(op->layer->crypt, io->buf, io->buf, op->sector,
					io->length / VHD_SECTOR);
	if (io->err == -ECANCELED)
		request_note_cancelled(v->req, io);
	if (io->err) {
		if (io->op == ENGINE_SYNC)
			disk_lost(&d->disk, op->io.file);
		if (reading)
			op->layer->read_failures++;
		else
			op->layer->write_failures++;
		if (!v->err)
			v->err = io->err;
	}
	if (op == &v->own_op) {
		v->own_op_busy = false;
	} else {
		op->next = d->free_data;
		d->free_data = op;
	}
	pump_freed(d);
	pump_unref(v);
}

void pump_freed(struct vhd_disk *d)
{
	if (d->op_waiters)
		loop_defer(d->disk.loop, &d->resume_task);
}

unsigned pump_room(const struct vhd_disk *d, const struct vhd_req *v)
{
	unsigned n = !v->own_op_busy;

	/* a few are enough to know: nobody asks for more */
	for (const struct vhd_op *op = d->free_data; op && n < 8; op = op->next)
		n++;
	return n;
}

void pump_wait(struct vhd_req *v)
{
	v->next = NULL;
	*v->disk->op_waiters_end = v;
	v->disk->op_waiters_end = &v->next;
}

void pump_yield(struct vhd_req *v)
{
	pump_wait(v);
	loop_timer_set(v->disk->next_turn, 0);
}

/* Those who waited, once each: who finds none again is last in the line. */
static void resume(struct loop_task *task)
{
	struct vhd_disk *d = list_entry(task, struct vhd_disk, resume_task);
	struct vhd_req *v = d->op_waiters, *next;

	d->op_waiters = NULL;
	d->op_waiters_end = &d->op_waiters;
	for (; v; v = next) {
		next = v->next;
		v->step(v);
	}
}

bool pump_issue(struct vhd_req *v, struct vhd_layer *layer, enum engine_op what, uint64_t sector,
		uint64_t file_sector, uint64_t sectors, void *buf)
{
	struct vhd_disk *d = v->disk;
	struct vhd_op *op = &v->own_op;

	if (v->own_op_busy) {
		op = d->free_data;
		if (!op) {
			pump_wait(v);
			return false;
		}
		d->free_data = op->next;
	} else {
		v->own_op_busy = true;
		op->disk = d;
	}
	op->of_view = op->once = false;
	op->req = v;
	op->sector = sector;
	if (what == ENGINE_READ)
		layer->reads += sectors;
	else
		layer->writes += sectors;
	v->pending++;
	send(op, layer, what, file_sector * VHD_SECTOR, sectors * VHD_SECTOR, buf, data_done);
	return true;
}

/* ── metadata ── */

/* One is free. */
static struct vhd_op *take_meta(struct vhd_disk *d)
{
	struct vhd_op *op = d->free_meta;

	d->free_meta = op->next;
	d->meta_flying++;
	return op;
}

static void give_meta(struct vhd_op *op)
{
	struct vhd_disk *d = op->disk;

	op->next = d->free_meta;
	d->free_meta = op;
	d->meta_flying--;
}

static void synced(struct engine_io *io)
{
	struct vhd_op *op = (struct vhd_op *)io;
	struct vhd_disk *d = op->disk;

	give_meta(op);
	if (io->err)
		disk_lost(&d->disk, op->io.file);
	d->quiesce.err = io->err;
	d->quiesce.ready(&d->quiesce);
}

void pump_sync_flat(struct vhd_disk *d)
{
	struct vhd_op *op = take_meta(d);

	op->of_view = op->once = false;
	send(op, vhd_leaf(d), ENGINE_SYNC, 0, 0, NULL, synced);
}

static void meta_done(struct engine_io *io)
{
	struct vhd_op *op = (struct vhd_op *)io;
	struct vhd_disk *d = op->disk;
	bool of_view = op->of_view;
	int err = io->err;
	unsigned layer = op->view_layer;
	uint32_t tag = op->tag;

	if (err && io->op == ENGINE_READ)
		op->layer->read_failures++;
	else if (err)
		op->layer->write_failures++;
	if (err && io->op == ENGINE_SYNC)
		disk_lost(&d->disk, op->io.file);
	give_meta(op);
	pump_soon(d);
	if (of_view) {
		source_kick(d->layers[layer + 1]);
		view_done(d->view, layer, tag, err);
	} else {
		map_done(d->map, tag, err);
	}
	vhd_settled(d);
}

static void issue(struct vhd_disk *d, struct vhd_layer *layer, const struct map_io *m, bool of_view,
		  unsigned view_layer)
{
	static const enum engine_op ops[] = {
		[MAP_READ] = ENGINE_READ, [MAP_WRITE] = ENGINE_WRITE,
		[MAP_ZERO] = ENGINE_ZERO, [MAP_PUNCH] = ENGINE_PUNCH,
		[MAP_SYNC] = ENGINE_SYNC, [MAP_TRUNCATE] = ENGINE_TRUNCATE,
	};
	struct vhd_op *op = take_meta(d);

	op->of_view = of_view;
	op->once = m->once;
	op->view_layer = view_layer;
	op->tag = m->tag;
	send(op, layer, ops[m->op], m->offset, m->length, m->buf, meta_done);
}

static void pump(struct loop_task *task)
{
	struct vhd_disk *d = list_entry(task, struct vhd_disk, pump_task);
	struct map_io io;
	unsigned layer;

	while (d->map && d->free_meta && map_next(d->map, &io))
		issue(d, vhd_leaf(d), &io, false, 0);
	while (d->view && d->free_meta && view_next(d->view, &layer, &io))
		issue(d, d->layers[layer + 1], &io, true, layer);
}

void pump_soon(struct vhd_disk *d)
{
	loop_defer(d->disk.loop, &d->pump_task);
}
