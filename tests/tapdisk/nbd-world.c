/* nbd-world.c - the server's side: loop, disk, VBD, exports */
#include "nbd-world.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libvhd/base/number.h"
#include "tests/lib/alloc-count.h"

/* ── the disk ── */

static struct world_disk *opened; /* by the loop's thread, for the world that waits */

static void extents(struct world_disk *d, struct request *req)
{
	uint64_t at = req->offset, end = req->offset + req->length;

	while (at < end && req->extent_count < req->extent_max) {
		unsigned depth = d->written[at / WORLD_CELL];
		uint64_t next = number_min(end, number_round_down(at, WORLD_CELL) + WORLD_CELL);

		req->extents[req->extent_count++] =
			(struct request_extent){ .length = next - at,
						 .flags = depth ? 0 : EXTENT_HOLE | EXTENT_ZERO,
						 .depth = depth };
		at = next;
	}
}

static bool all_holes(const struct world_disk *d, const struct request *req)
{
	for (uint64_t at = req->offset; at < req->offset + req->length; at += WORLD_CELL)
		if (d->written[at / WORLD_CELL])
			return false;
	return !d->written[(req->offset + req->length - 1) / WORLD_CELL];
}

static void carry_out(struct world_disk *d, struct request *req)
{
	if (d->fail) {
		disk_complete(&d->disk, req, d->fail);
		return;
	}
	switch (req->op) {
	case REQUEST_READ:
		req->all_zero = (req->flags & REQUEST_SPARSE) && all_holes(d, req);
		if (!req->all_zero)
			memcpy(req->buf, d->memory + req->offset, req->length);
		break;
	case REQUEST_WRITE:
		memcpy(d->memory + req->offset, req->buf, req->length);
		for (uint64_t c = req->offset / WORLD_CELL;
		     c * WORLD_CELL < req->offset + req->length; c++)
			d->written[c] = 1;
		break;
	case REQUEST_ZERO:
		memset(d->memory + req->offset, 0, req->length);
		break;
	case REQUEST_STATUS:
		extents(d, req);
		break;
	default:
		break;
	}
	disk_complete(&d->disk, req, 0);
}

static void submit(struct disk *disk, struct request *req)
{
	struct world_disk *d = (struct world_disk *)disk;

	d->requests++;
	d->writes += req->op == REQUEST_WRITE;
	d->flushes += req->op == REQUEST_FLUSH;
	d->fua += !!(req->flags & REQUEST_FUA);
	d->last = *req;
	if (!d->hold) {
		carry_out(d, req);
		return;
	}
	list_append(&d->held, (struct list *)(void *)req->state);
	d->held_count++;
}

static int start(struct disk *disk, struct vhd_error *err)
{
	(void)disk;
	(void)err;
	return 0;
}

static void abort_waits(struct disk *disk)
{
	((struct world_disk *)disk)->aborts++;
}

static void quiesce(struct disk *disk, void (*done)(void *arg, int err), void *arg)
{
	(void)disk;
	done(arg, 0);
}

static void stop(struct disk *disk)
{
	(void)disk;
}

static void close_disk(struct disk *disk)
{
	struct world_disk *d = (struct world_disk *)disk;

	munmap(d->memory, WORLD_BYTES);
	free(d);
}

static const struct disk_ops world_ops = { .name = "world",
					   .start = start,
					   .submit = submit,
					   .abort = abort_waits,
					   .quiesce = quiesce,
					   .park = start,
					   .unpark = start,
					   .stop = stop,
					   .close = close_disk };

static int open_disk(struct host *host, const char *spec, const struct disk_params *params,
		     struct disk **out, struct vhd_error *err)
{
	struct world_disk *d = calloc(1, sizeof(*d));

	(void)host;
	(void)spec;
	(void)params;
	(void)err;
	if (!d)
		return -ENOMEM;
	d->disk.ops = &world_ops;
	d->disk.size = WORLD_BYTES;
	d->disk.can_trim = d->disk.fast_zero = true;
	list_init(&d->held);
	d->memory = mmap(NULL, WORLD_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	opened = d;
	*out = &d->disk;
	return 0;
}

void world_let_go(struct world *w)
{
	struct list *l;

	w->disk->hold = false;
	while ((l = list_pop(&w->disk->held))) {
		w->disk->held_count--;
		carry_out(w->disk,
			  (struct request *)(void *)((char *)l - offsetof(struct request, state)));
	}
}

/* ── turning the loop ── */

static void stop_loop(void *owner)
{
	loop_stop(((struct world *)owner)->loop);
}

void world_run(struct world *w, unsigned ms)
{
	uint64_t before = alloc_count();

	loop_timer_set(w->timer, ms * UINT64_C(1000000));
	loop_run(w->loop);
	w->allocations += alloc_count() - before;
	loop_timer_cancel(w->timer);
}

bool world_until(struct world *w, bool (*cond)(void *arg), void *arg)
{
	for (unsigned ms = 0; ms < WORLD_PATIENCE_MS; ms++) {
		if (cond(arg))
			return true;
		world_run(w, 1);
	}
	return cond(arg);
}

struct number {
	struct world *w;
	unsigned want;
};

static bool is_held(void *arg)
{
	const struct number *n = arg;

	return n->w->disk->held_count == n->want;
}

void world_wait_held(struct world *w, unsigned count)
{
	struct number n = { w, count };

	ck_assert_msg(world_until(w, is_held, &n), "%u held instead of %u", w->disk->held_count,
		      count);
}

static bool are_there(void *arg)
{
	const struct number *n = arg;

	return nbd_server_clients(n->w->server, NULL, 0) == n->want;
}

void world_wait_clients(struct world *w, unsigned count)
{
	struct number n = { w, count };

	ck_assert_msg(world_until(w, are_there, &n), "%u clients instead of %u",
		      nbd_server_clients(w->server, NULL, 0), count);
}

/* ── beginning and end ── */

static void op_done(struct vbd_op *op)
{
	*(bool *)op->owner = true;
}

static bool is_true(void *arg)
{
	return *(bool *)arg;
}

void world_open(struct world *w, const struct nbd_params *tls)
{
	struct nbd_params params = { .fd = -1 };
	struct disk_params disk = { .read_only = false };
	struct vbd_params vbd = { .name = "disk", .minor = 3 };
	bool over = false;
	struct vbd_op op = { .done = op_done, .owner = &over };
	struct vhd_error err = { .code = 0 };
	char address[80];

	memset(w, 0, sizeof(*w));
	list_init(&w->wires);
	if (tls)
		params = *tls;
	snprintf(w->dir, sizeof(w->dir), "/tmp/nbd-world.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(w->dir));
	snprintf(address, sizeof(address), "unix:%s/s", w->dir);
	params.address = address;
	ck_assert_int_eq(loop_open(&w->loop), 0);
	ck_assert_int_eq(loop_timer_open(w->loop, stop_loop, w, &w->timer), 0);
	ck_assert_int_eq(engine_open(w->loop, ENGINE_THREADS, 8, &w->engine), 0);
	host_init(&w->host, w->loop, w->engine);
	w->host.open = open_disk;
	ck_assert_int_eq(vbd_new(&w->host, &vbd, &w->vbd), 0);
	vbd_open(w->vbd, "world:", &disk, &op);
	ck_assert(world_until(w, is_true, &over));
	ck_assert_int_eq(op.err.code, 0);
	w->disk = opened;
	ck_assert_msg(nbd_server_open(w->loop, &params, &w->server, &err) == 0, "%s", err.text);
	ck_assert_int_eq(nbd_export_add(w->server, w->vbd,
					&(struct nbd_export_params){
						.name = "disk", .description = "of the world" }),
			 0);
	ck_assert_int_eq(nbd_export_add(w->server, w->vbd,
					&(struct nbd_export_params){ .name = "ro",
								     .read_only = true }),
			 0);
}

/* A change of life that was asked for with @op, to which this answers. */
struct waited {
	struct vbd_op op; /* first */
	bool over;
};

static void waited_init(struct waited *o)
{
	*o = (struct waited){ .op = { .done = op_done, .owner = &o->over } };
}

static int await(struct world *w, struct waited *o)
{
	ck_assert(world_until(w, is_true, &o->over));
	return o->op.err.code;
}

int world_pause(struct world *w)
{
	struct waited o;

	waited_init(&o);
	vbd_pause(w->vbd, 0, 0, &o.op);
	return await(w, &o);
}

int world_unpause(struct world *w)
{
	struct waited o;

	waited_init(&o);
	vbd_unpause(w->vbd, NULL, false, &o.op);
	return await(w, &o);
}

static int close_vbd(struct world *w, bool force)
{
	struct waited o;

	waited_init(&o);
	vbd_close(w->vbd, force, 0, &o.op);
	return await(w, &o);
}

int world_try_close(struct world *w)
{
	return close_vbd(w, false);
}

void world_close_vbd(struct world *w)
{
	if (vbd_size(w->vbd))
		ck_assert_int_eq(close_vbd(w, true), 0);
}

void world_close(struct world *w)
{
	while (!list_empty(&w->wires))
		wire_close(list_entry(w->wires.next, struct wire, link));
	nbd_server_free(w->server);
	world_close_vbd(w);
	vbd_free(w->vbd);
	engine_close(w->engine);
	loop_timer_close(w->timer);
	loop_close(w->loop);
	ck_assert_int_eq(rmdir(w->dir), 0); /* the socket is gone */
}
