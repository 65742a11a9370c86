/* vbd-world.c - what tests of the core share */
#include "vbd-world.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_NS UINT64_C(20000000000)

void vbd_world_open(struct vbd_world *w)
{
	memset(w, 0, sizeof(*w));
	strcpy(w->dir, "/tmp/vbd-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(w->dir));
	ck_assert_int_eq(loop_open(&w->loop), 0);
	ck_assert_int_eq(engine_open(w->loop, ENGINE_AUTO, 64, &w->engine), 0);
	host_init(&w->host, w->loop, w->engine);
}

void vbd_world_close(struct vbd_world *w)
{
	char command[64];

	ck_assert_ptr_null(host_next(&w->host, NULL));
	engine_close(w->engine);
	loop_close(w->loop);
	snprintf(command, sizeof(command), "rm -r %s", w->dir);
	ck_assert_int_eq(system(command), 0);
}

const char *vbd_world_path(struct vbd_world *w, const char *name)
{
	snprintf(w->text, sizeof(w->text), "%s/%s", w->dir, name);
	return w->text;
}

void vbd_world_file(struct vbd_world *w, const char *name, uint64_t bytes, unsigned char fill)
{
	int fd = open(vbd_world_path(w, name), O_RDWR | O_CREAT | O_TRUNC, 0600);
	unsigned char buf[4096];

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
	memset(buf, fill, sizeof(buf));
	for (uint64_t at = 0, n; fill && at < bytes; at += n) {
		n = bytes - at < sizeof(buf) ? bytes - at : sizeof(buf);
		ck_assert_int_eq(pwrite(fd, buf, n, (off_t)at), (ssize_t)n);
	}
	close(fd);
}

/* ── waiting ── */

struct wait {
	struct loop *loop;
	const bool *flag;
	bool late;
	struct loop_task task;
};

static void late(void *owner)
{
	struct wait *wait = owner;

	wait->late = true;
	loop_stop(wait->loop);
}

void vbd_world_until(struct vbd_world *w, const bool *flag)
{
	struct wait wait = { .loop = w->loop, .flag = flag };
	struct loop_timer *timer, *look;

	ck_assert_int_eq(loop_timer_open(w->loop, late, &wait, &timer), 0);
	ck_assert_int_eq(loop_timer_open(w->loop, (void (*)(void *))loop_stop, w->loop, &look), 0);
	loop_timer_set(timer, PATIENCE_NS);
	while (!*flag && !wait.late) {
		/* whoever sets the flag may stop the loop; else it is looked at soon */
		loop_timer_set(look, 1000000);
		loop_run(w->loop);
	}
	loop_timer_close(look);
	loop_timer_close(timer);
	ck_assert_msg(*flag, "it takes too long");
}

struct waited_op {
	struct vbd_op op; /* first */
	struct vbd_world *w;
	bool done;
};

static void op_done(struct vbd_op *op)
{
	struct waited_op *o = (struct waited_op *)op;

	o->done = true;
	loop_stop(o->w->loop);
}

static int await(struct vbd_world *w, struct waited_op *o)
{
	vbd_world_until(w, &o->done);
	ck_assert_msg(!o->op.err.code || o->op.err.text[0], "an error without a text");
	return o->op.err.code;
}

#define WAITED(w)                                                \
	{                                                        \
		.op = { .done = op_done }, .w = w, .done = false \
	}

/* ── one thing ── */

int vbd_world_vbd(struct vbd_world *w, const char *type, const char *name, bool read_only,
		  struct vbd **out)
{
	struct vbd_params p = { .minor = host_free_minor(&w->host) };

	ck_assert_int_eq(vbd_new(&w->host, &p, out), 0);
	return vbd_world_open_image(w, *out, type, name, read_only, NULL);
}

int vbd_world_open_image(struct vbd_world *w, struct vbd *vbd, const char *type, const char *name,
			 bool read_only, const char *log)
{
	struct disk_params d = { .read_only = read_only };
	struct waited_op o = WAITED(w);
	bool memory = !strcmp(type, "ram") || !strcmp(type, "null");
	char spec[200];

	snprintf(spec, sizeof(spec), "%s:%s", type, memory ? name : vbd_world_path(w, name));
	o.op.log = log;
	vbd_open(vbd, spec, &d, &o.op);
	ck_assert(!o.done);
	return await(w, &o);
}

int vbd_world_pause(struct vbd_world *w, struct vbd *vbd)
{
	struct waited_op o = WAITED(w);

	vbd_pause(vbd, 0, 0, &o.op);
	return await(w, &o);
}

int vbd_world_unpause(struct vbd_world *w, struct vbd *vbd, const char *spec, bool grow)
{
	struct waited_op o = WAITED(w);

	vbd_unpause(vbd, spec, grow, &o.op);
	return await(w, &o);
}

int vbd_world_hold(struct vbd_world *w, struct vbd *vbd)
{
	struct waited_op o = WAITED(w);

	vbd_hold(vbd, 0, &o.op);
	return await(w, &o);
}

int vbd_world_end(struct vbd_world *w, struct vbd *vbd)
{
	struct waited_op o = WAITED(w);
	int rc = 0;

	if (vbd_size(vbd)) {
		vbd_close(vbd, false, 0, &o.op);
		rc = await(w, &o);
	}
	vbd_free(vbd);
	return rc;
}

struct waited_request {
	struct request req; /* first */
	struct vbd_world *w;
	bool done;
};

static void request_done(struct request *req)
{
	struct waited_request *r = (struct waited_request *)req;

	ck_assert(!r->done);
	r->done = true;
	loop_stop(r->w->loop);
}

int vbd_world_do(struct vbd_world *w, struct vbd *vbd, enum request_op op, unsigned flags,
		 uint64_t offset, uint64_t length, void *buf)
{
	static struct waited_request r;

	r = (struct waited_request){ .req = { .op = op,
					      .flags = flags,
					      .offset = offset,
					      .length = length,
					      .buf = buf,
					      .done = request_done },
				     .w = w };
	vbd_submit(vbd, &r.req);
	vbd_world_until(w, &r.done);
	return r.req.err;
}

unsigned vbd_world_status(struct vbd_world *w, struct vbd *vbd, uint64_t offset, uint64_t length,
			  struct request_extent *out, unsigned max)
{
	static struct waited_request r;

	r = (struct waited_request){ .req = { .op = REQUEST_STATUS,
					      .offset = offset,
					      .length = length,
					      .extents = out,
					      .extent_max = max,
					      .done = request_done },
				     .w = w };
	vbd_submit(vbd, &r.req);
	vbd_world_until(w, &r.done);
	ck_assert_int_eq(r.req.err, 0);
	return r.req.extent_count;
}
