/* check_vbd.c - the life of a VBD on real files: pause and what happens to the image meanwhile, locks,
 * watchers, numbers, memory */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/base/number.h"
#include "libvhd/io-file.h"
#include "libvhd/lock.h"
#include "tests/lib/alloc-count.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"
#include "vbd-world.h"

#define MIB (1u << 20)

static struct vbd_world w;
static unsigned char buf[65536];

static bool all(const unsigned char *p, size_t n, unsigned char value)
{
	while (n && *p == value)
		p++, n--;
	return !n;
}

static void expect_bytes(struct vbd *vbd, uint64_t offset, size_t n, unsigned char value)
{
	memset(buf, ~value, n);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_READ, 0, offset, n, buf), 0);
	ck_assert_msg(all(buf, n, value), "at %llu: not %u", (unsigned long long)offset, value);
}

static void put(struct vbd *vbd, uint64_t offset, size_t n, unsigned char value)
{
	memset(buf, value, n);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_WRITE, 0, offset, n, buf), 0);
}

/* ── states ── */

START_TEST(test_states)
{
	struct vbd_params p = { .minor = 0 };
	struct vbd *vbd, *other;

	vbd_world_open(&w);
	vbd_world_file(&w, "a.name.raw", MIB, 0);
	ck_assert_int_eq(vbd_world_vbd(&w, "aio", "a.name.raw", false, &vbd), 0);
	ck_assert_int_eq(vbd_new(&w.host, &p, &other), -EEXIST);
	ck_assert_uint_eq(vbd_state(vbd), 0);
	ck_assert_str_eq(vbd_state_text(vbd), "running");
	ck_assert_str_eq(vbd_name(vbd), "a.name");
	ck_assert_uint_eq(vbd_size(vbd), MIB);
	ck_assert_ptr_nonnull(vbd_disk(vbd));
	ck_assert_int_eq(vbd_world_unpause(&w, vbd, NULL, false), -EINVAL);
	ck_assert_int_eq(vbd_world_hold(&w, vbd), 0);
	ck_assert_uint_eq(vbd_state(vbd), VBD_QUIESCED);
	vbd_release(vbd);
	ck_assert_uint_eq(vbd_state(vbd), 0);
	ck_assert_int_eq(vbd_world_pause(&w, vbd), 0);
	ck_assert_uint_eq(vbd_state(vbd), 0x28);
	ck_assert_ptr_null(vbd_disk(vbd));
	ck_assert_uint_eq(vbd_size(vbd), MIB);
	ck_assert_int_eq(vbd_world_pause(&w, vbd), 0);
	ck_assert_int_eq(vbd_world_hold(&w, vbd), -EINVAL);
	ck_assert_int_eq(vbd_world_unpause(&w, vbd, NULL, false), 0);
	ck_assert_uint_eq(vbd_state(vbd), 0);
	ck_assert_int_eq(vbd_world_end(&w, vbd), 0);
	/* refused: closed, and may be freed */
	ck_assert_int_eq(vbd_world_vbd(&w, "aio", "none.raw", false, &vbd), -ENOENT);
	ck_assert_uint_eq(vbd_state(vbd), VBD_CLOSED);
	ck_assert_str_eq(vbd_name(vbd), "");
	ck_assert_int_eq(vbd_world_pause(&w, vbd), -EINVAL);
	vbd_free(vbd);
	vbd_free(NULL);
	vbd_world_close(&w);
}
END_TEST

/* ── what happens to the image while it is paused ── */

START_TEST(test_same_again)
{
	struct vbd *vbd;

	vbd_world_open(&w);
	vbd_world_file(&w, "a.raw", MIB, 0);
	ck_assert_int_eq(vbd_world_vbd(&w, "raw", "a.raw", false, &vbd), 0);
	put(vbd, 1000, 5000, 7);
	for (unsigned i = 0; i < 50; i++) {
		ck_assert_int_eq(vbd_world_pause(&w, vbd), 0);
		ck_assert_int_eq(vbd_world_unpause(&w, vbd, NULL, false), 0);
		expect_bytes(vbd, 1000, 5000, 7);
	}
	/* written by others in the same file */
	ck_assert_int_eq(vbd_world_pause(&w, vbd), 0);
	vbd_world_file(&w, "a.raw", MIB, 9);
	ck_assert_int_eq(vbd_world_unpause(&w, vbd, NULL, false), 0);
	expect_bytes(vbd, 1000, 5000, 9);
	ck_assert_int_eq(vbd_world_end(&w, vbd), 0);
	vbd_world_close(&w);
}
END_TEST

START_TEST(test_another_file)
{
	struct vbd *vbd;
	char spec[160], name[64];

	vbd_world_open(&w);
	vbd_world_file(&w, "a.raw", MIB, 1);
	vbd_world_file(&w, "b.raw", MIB, 2);
	vbd_world_file(&w, "large.raw", 2 * MIB, 3);
	vbd_world_file(&w, "small.raw", MIB / 2, 3);
	ck_assert_int_eq(vbd_world_vbd(&w, "raw", "a.raw", false, &vbd), 0);
	ck_assert_int_eq(vbd_world_pause(&w, vbd), 0);
	/* another file under the name */
	strcpy(name, vbd_world_path(&w, "a.raw"));
	ck_assert_int_eq(rename(vbd_world_path(&w, "b.raw"), name), 0);
	ck_assert_int_eq(vbd_world_unpause(&w, vbd, NULL, false), 0);
	expect_bytes(vbd, 0, 4096, 2);
	ck_assert_int_eq(vbd_world_pause(&w, vbd), 0);
	/* what does not fit is refused, any number of times, and it stays as it is */
	for (unsigned i = 0; i < 3; i++) {
		snprintf(spec, sizeof(spec), "raw:%s",
			 vbd_world_path(&w, i ? "large.raw" : "small.raw"));
		ck_assert_int_eq(vbd_world_unpause(&w, vbd, spec, i == 0), -EMEDIUMTYPE);
		ck_assert_uint_eq(vbd_state(vbd), 0x28 | VBD_RESUME_FAILED);
		ck_assert(vbd_reason(vbd)[0]);
		ck_assert_uint_eq(vbd_size(vbd), MIB);
	}
	ck_assert_int_eq(vbd_world_unpause(&w, vbd, "raw:/none/x.raw", false), -ENOENT);
	ck_assert_int_eq(vbd_world_unpause(&w, vbd, "nonsense", false), -VHD_E_ARGUMENT);
	ck_assert_int_eq(vbd_world_unpause(&w, vbd, NULL, false), 0);
	ck_assert_uint_eq(vbd_state(vbd), 0);
	ck_assert_str_eq(vbd_reason(vbd), "");
	expect_bytes(vbd, 0, 4096, 2);
	/* grown, as asked */
	ck_assert_int_eq(vbd_world_pause(&w, vbd), 0);
	ck_assert_int_eq(vbd_world_unpause(&w, vbd, spec, true), 0);
	ck_assert_uint_eq(vbd_size(vbd), 2 * MIB);
	ck_assert_str_eq(vbd_spec(vbd), spec);
	expect_bytes(vbd, 2 * MIB - 4096, 4096, 3);
	ck_assert_int_eq(vbd_world_end(&w, vbd), 0);
	vbd_world_close(&w);
}
END_TEST

/* ram: keeps its contents over a pause */
START_TEST(test_memory)
{
	struct request_extent e[4];
	struct vbd *vbd;

	vbd_world_open(&w);
	ck_assert_int_eq(vbd_world_vbd(&w, "ram", "64G", false, &vbd), 0);
	put(vbd, (UINT64_C(63) << 30) + 77, 1000, 5);
	ck_assert_int_eq(vbd_world_pause(&w, vbd), 0);
	ck_assert_int_eq(vbd_world_unpause(&w, vbd, NULL, false), 0);
	expect_bytes(vbd, (UINT64_C(63) << 30) + 77, 1000, 5);
	ck_assert_uint_eq(vbd_world_status(&w, vbd, 0, UINT64_C(64) << 30, e, 4), 3);
	ck_assert_uint_eq(e[0].length, UINT64_C(63) << 30);
	ck_assert_uint_eq(e[0].flags, EXTENT_HOLE | EXTENT_ZERO);
	ck_assert_uint_eq(e[1].flags, 0);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_TRIM, 0, 0, UINT64_C(64) << 30, NULL), 0);
	ck_assert_uint_eq(vbd_world_status(&w, vbd, 0, UINT64_C(64) << 30, e, 4), 1);
	expect_bytes(vbd, (UINT64_C(63) << 30) + 77, 1000, 0);
	ck_assert_int_eq(vbd_world_end(&w, vbd), 0);
	vbd_world_close(&w);
}
END_TEST

/* ── locks ── */

static int try_lock(const char *path, enum lock_role role)
{
	struct vhd_error err;
	struct vhd_io *io;
	int rc;

	ck_assert_int_eq(io_file_open(path, IO_FILE_WRITE, &io, &err), 0);
	rc = lock_take(io, role, NULL, 0, NULL, &err);
	io_close(io);
	return rc;
}

START_TEST(test_locks)
{
	struct vbd *vbd, *reader;
	char path[64];

	vbd_world_open(&w);
	vbd_world_file(&w, "a.raw", MIB, 0);
	ck_assert_int_eq(vbd_world_vbd(&w, "raw", "a.raw", false, &vbd), 0);
	strcpy(path, vbd_world_path(&w, "a.raw"));
	ck_assert_int_eq(try_lock(path, LOCK_WRITE), -VHD_E_BUSY);
	ck_assert_int_eq(try_lock(path, LOCK_READ_TOP), 0);
	ck_assert_int_eq(vbd_world_pause(&w, vbd), 0);
	/* a paused one stops no tool, only another server */
	ck_assert_int_eq(try_lock(path, LOCK_MOVE), 0);
	ck_assert_int_eq(try_lock(path, LOCK_PARKED), -VHD_E_BUSY);
	ck_assert_int_eq(vbd_world_unpause(&w, vbd, NULL, false), 0);
	ck_assert_int_eq(try_lock(path, LOCK_WRITE), -VHD_E_BUSY);
	ck_assert_int_eq(try_lock(path, LOCK_PARKED), 0);
	ck_assert_int_eq(vbd_world_end(&w, vbd), 0);
	ck_assert_int_eq(try_lock(path, LOCK_WRITE), 0);
	ck_assert_int_eq(vbd_world_vbd(&w, "raw", "a.raw", true, &reader), 0);
	ck_assert_int_eq(try_lock(path, LOCK_WRITE), 0);
	ck_assert_int_eq(try_lock(path, LOCK_MOVE), -VHD_E_BUSY);
	ck_assert_int_eq(vbd_world_end(&w, reader), 0);
	vbd_world_close(&w);
}
END_TEST

/* ── watchers ── */

struct counter {
	struct vbd_watcher watcher; /* first */
	struct counter *leaves;	    /* unwatched by it when it is told */
	struct vbd *vbd;
	unsigned opened, closing, resized, events;
	char last[32];
};

static void opened(struct vbd_watcher *watcher)
{
	((struct counter *)watcher)->opened++;
}

static void closing(struct vbd_watcher *watcher)
{
	((struct counter *)watcher)->closing++;
}

static void resized(struct vbd_watcher *watcher)
{
	((struct counter *)watcher)->resized++;
}

static void event(struct vbd_watcher *watcher, const char *what, const char *text)
{
	struct counter *c = (struct counter *)watcher;

	ck_assert(text[0]);
	c->events++;
	snprintf(c->last, sizeof(c->last), "%s", what);
	if (c->leaves)
		vbd_unwatch(c->vbd, &c->leaves->watcher);
}

static const struct vbd_watcher all_news = {
	.opened = opened, .closing = closing, .resized = resized, .event = event
};

START_TEST(test_watchers)
{
	struct counter c[3] = { { .watcher = all_news },
				{ .watcher = all_news },
				{ .watcher = all_news } };
	struct vbd *vbd;

	vbd_world_open(&w);
	vbd_world_file(&w, "a.raw", MIB, 0);
	vbd_world_file(&w, "b.raw", 2 * MIB, 0);
	ck_assert_int_eq(vbd_world_vbd(&w, "raw", "a.raw", false, &vbd), 0);
	for (unsigned i = 0; i < 3; i++) {
		c[i].vbd = vbd;
		vbd_watch(vbd, &c[i].watcher);
	}
	ck_assert_int_eq(vbd_world_pause(&w, vbd), 0);
	ck_assert_str_eq(c[2].last, "paused");
	char spec[160];
	snprintf(spec, sizeof(spec), "raw:%s", vbd_world_path(&w, "b.raw"));
	ck_assert_int_eq(vbd_world_unpause(&w, vbd, spec, true), 0);
	ck_assert_str_eq(c[2].last, "running");
	ck_assert_uint_eq(c[0].resized, 1);
	/* one makes the next one leave, then itself */
	c[0].leaves = &c[1];
	vbd_event(vbd, "test", "x");
	ck_assert_uint_eq(c[1].events, 2);
	ck_assert_uint_eq(c[2].events, 3);
	c[0].leaves = &c[0];
	vbd_event(vbd, "test", "x");
	vbd_event(vbd, "test", "x");
	ck_assert_uint_eq(c[0].events, 4);
	ck_assert_uint_eq(c[2].events, 5);
	c[2].leaves = NULL;
	ck_assert_int_eq(vbd_world_end(&w, vbd), 0);
	ck_assert_uint_eq(c[2].closing, 1);
	ck_assert_str_eq(c[2].last, "closed");
	ck_assert_uint_eq(c[1].closing, 0);
	vbd_world_close(&w);
}
END_TEST

/* ── steady I/O ── */

#define STEADY_DEPTH 16u

struct steady {
	struct request req; /* first */
	struct flow *flow;
	unsigned char *buf;
};
struct flow {
	struct vbd *vbd;
	struct rng rng;
	struct steady slots[STEADY_DEPTH];
	unsigned left, busy, failed;
	bool over;
	struct loop_task task;
	struct list idle;
};

static void go(struct steady *s)
{
	static const enum request_op ops[] = { REQUEST_READ, REQUEST_WRITE, REQUEST_WRITE,
					       REQUEST_READ, REQUEST_FLUSH, REQUEST_ZERO,
					       REQUEST_TRIM, REQUEST_CACHE };
	struct flow *f = s->flow;
	uint64_t size = vbd_size(f->vbd);
	struct request *r = &s->req;

	*r = (struct request){ .op = ops[rng_below(&f->rng, 8)], .done = r->done };
	if (r->op != REQUEST_FLUSH) {
		r->offset = rng_below(&f->rng, size - 16384);
		r->length = 1 + rng_below(&f->rng, 16384);
		if (rng_chance(&f->rng, 60)) {
			r->offset &= ~UINT64_C(4095);
			r->length = number_round_up(r->length, 4096);
		}
		r->buf = s->buf;
	}
	f->left--;
	f->busy++;
	vbd_submit(f->vbd, r);
}

/* Not from done(): a disk in memory answers before submit returns. */
static void refill(struct loop_task *task)
{
	struct flow *f = (struct flow *)((char *)task - offsetof(struct flow, task));
	struct list *l;

	while (f->left && (l = list_pop(&f->idle)))
		go((struct steady *)(void *)((char *)l - offsetof(struct request, link)));
	f->over = !f->left && !f->busy;
	if (f->over)
		loop_stop(w.loop);
}

static void steady_done(struct request *r)
{
	struct flow *f = ((struct steady *)r)->flow;

	f->failed += r->err != 0; /* ck_assert takes memory */
	f->busy--;
	list_append(&f->idle, &r->link);
	loop_defer(w.loop, &f->task);
}

static void run_flow(struct flow *f, unsigned requests)
{
	f->left = requests;
	f->over = false;
	loop_defer(w.loop, &f->task);
	vbd_world_until(&w, &f->over);
}

static uint64_t steady_allocations(const char *type, const char *name, bool throttled)
{
	static unsigned char bufs[STEADY_DEPTH][20480];
	static struct flow f;
	uint64_t before;

	f = (struct flow){ .rng = { 5 }, .task.run = refill };
	list_init(&f.idle);
	ck_assert_int_eq(vbd_world_vbd(&w, type, name, false, &f.vbd), 0);
	for (unsigned i = 0; i < STEADY_DEPTH; i++) {
		f.slots[i] = (struct steady){ .req.done = steady_done, .flow = &f, .buf = bufs[i] };
		list_append(&f.idle, &f.slots[i].req.link);
	}
	if (throttled)
		vbd_throttle(f.vbd, &(struct vbd_limits){ .iops = 20000, .iops_burst = 4 });
	run_flow(&f, 3000);
	/* waiting with a limit takes memory: tests/run has one */
	f.left = 4000;
	f.over = false;
	loop_defer(w.loop, &f.task);
	before = alloc_count();
	while (!f.over)
		loop_run(w.loop);
	before = alloc_count() - before;
	ck_assert_uint_eq(f.failed, 0);
	ck_assert_int_eq(vbd_world_end(&w, f.vbd), 0);
	return before;
}

START_TEST(test_no_allocation)
{
	struct vhd_create_options o = { .type = VHD_TYPE_DYNAMIC, .size = 8 * MIB };
	struct vhd_error err;

	vbd_world_open(&w);
	vbd_world_file(&w, "a.raw", 8 * MIB, 0);
	ck_assert_int_eq(vhd_create(vbd_world_path(&w, "a.vhd"), &o, &err), 0);
	ck_assert_uint_eq(steady_allocations("raw", "a.raw", false), 0);
	ck_assert_uint_eq(steady_allocations("raw", "a.raw", true), 0);
	ck_assert_uint_eq(steady_allocations("ram", "8M", false), 0);
	ck_assert_uint_eq(steady_allocations("null", "8M", false), 0);
	ck_assert_uint_eq(steady_allocations("vhd", "a.vhd", false), 0);
	vbd_world_close(&w);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { test_states,	   test_same_again,
				       test_another_file,  test_memory,
				       test_locks,	   test_watchers,
				       test_no_allocation, NULL };

	return suite_run("vbd", tests);
}
