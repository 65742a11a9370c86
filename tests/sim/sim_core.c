/* sim_core.c - the core: two VBDs on one host, their clients, and an operator without patience
 *
 * A seed decides everything.  Requests of any byte range are in flight in any number, while the
 * VBDs are opened, paused with and without lease, resumed on the same image, on one of another size
 * and on none, held and released, throttled, closed with and without force; operations fail for a
 * time, and wait in the retry for none, some or all time.  Then:
 *
 *   - every request and every operation is answered once, not before it was asked for
 *   - what is read is what was written (core-model.h), though clients vanish with requests in flight
 *   - a driver is used as driver.h says: a probe looks at every call (core-probe.h)
 *   - once the storage is well again everything comes to an end; where it never is, by force
 *
 * SEED=n plays one world, COUNT=n that many.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core-model.h"
#include "core-probe.h"
#include "libvhd/base/number.h"
#include "sim.h"
#include "tapdisk/core/host.h"
#include "tapdisk/drivers/types.h"

#define VBDS 2u
#define OPS  3u

struct operation {
	struct vbd_op op; /* first */
	struct guest *guest;
	const char *what;
	bool busy, asking, lease;
};

struct guest { /* a VBD and who uses it */
	struct model model;
	struct vbd *vbd;
	struct mem_disk *storage; /* NULL: memory of the ram driver */
	struct operation ops[OPS];
	unsigned ops_busy;
	bool held;
	bool lease; /* a pause since it last ran may have one */
	struct vbd_watcher watcher;
};

static struct {
	struct rng rng;
	struct loop *loop;
	struct engine *engine;
	struct host host;
	struct guest guests[VBDS];
	unsigned long ops, opened, paused, held, refused, timed_out, leases, stalls;
} s;

static uint64_t below(uint64_t n)
{
	return rng_below(&s.rng, n);
}

static bool chance(unsigned percent)
{
	return rng_chance(&s.rng, percent);
}

/* ── images: "N" is the storage of guest N, "N+" with 512 bytes more, "N!" fails ── */

static int open_raw(struct guest *g, const struct disk_params *params, struct disk **out,
		    struct vhd_error *err)
{
	struct vhd_io *io = mem_disk_open(g->storage, "storage", true);
	int rc = raw_disk_wrap(io, sim_file(io), params, out, err);

	if (rc < 0)
		io_close(io);
	return rc;
}

static int open_image(struct host *host, const char *spec, const struct disk_params *params,
		      struct disk **out, struct vhd_error *err)
{
	struct guest *g = &s.guests[spec[0] - '0'];
	char size[32];
	int rc;

	(void)host;
	if (spec[1] == '!' || chance(2)) {
		*err = (struct vhd_error){ .code = -ENOENT, .text = "no such image" };
		return -ENOENT;
	}
	snprintf(size, sizeof(size), "%llu",
		 (unsigned long long)(g->model.bytes + (spec[1] == '+' ? 512 : 0)));
	if (spec[1] == '+' || !g->storage)
		rc = ram_disk_open(size, params, out, err);
	else
		rc = open_raw(g, params, out, err);
	if (rc < 0)
		return rc;
	probe_attach(*out);
	return 0;
}

/* ── what the operator does ── */

static struct guest *guest_of(struct vbd_watcher *w)
{
	return list_entry(w, struct guest, watcher);
}

static void told_closing(struct vbd_watcher *w)
{
	guest_of(w)->model.shut = true;
}

static void told_opened(struct vbd_watcher *w)
{
	struct guest *g = guest_of(w);

	g->model.shut = false;
	for (unsigned i = 0; i < MODEL_CLIENTS; i++)
		vbd_client_init(g->vbd, &g->model.clients[i], false);
	s.opened++;
	if (!g->storage) /* its memory went with the last disk */
		model_reset(&g->model, g->model.bytes);
}

static void told_event(struct vbd_watcher *w, const char *what, const char *text)
{
	struct guest *g = guest_of(w);

	if (!text[0])
		model_die("event %s without a text", what);
	s.stalls += !strcmp(what, "stalled");
	if (!strcmp(what, "lease")) {
		s.leases++;
		if (!g->lease)
			model_die("it resumes by itself, and nobody asked for that");
	} else if (!strcmp(what, "running") || !strcmp(what, "closed")) {
		g->lease = false;
		for (unsigned i = 0; i < OPS; i++)
			g->lease |= g->ops[i].busy && g->ops[i].lease;
	}
}

static void op_done(struct vbd_op *op)
{
	struct operation *o = (struct operation *)op;
	struct guest *g = o->guest;

	if (!o->busy || o->asking)
		model_die("%s is answered %s", o->what, o->busy ? "too early" : "twice");
	o->busy = false;
	g->ops_busy--;
	if (op->err.code && !op->err.text[0])
		model_die("%s fails without a reason", o->what);
	s.refused += op->err.code != 0;
	s.timed_out += op->err.code == -ETIMEDOUT;
	if (op->err.code)
		return;
	if (!strcmp(o->what, "hold")) {
		if (vbd_state(g->vbd) != VBD_QUIESCED || g->held)
			model_die("held, but in state %#x", vbd_state(g->vbd));
		g->held = true;
		s.held++;
	} else if (!strcmp(o->what, "pause")) {
		if (!(vbd_state(g->vbd) & VBD_PAUSED))
			model_die("paused, but in state %#x", vbd_state(g->vbd));
		s.paused++;
	} else if (!strcmp(o->what, "close") && vbd_state(g->vbd) != VBD_CLOSED) {
		model_die("closed, but in state %#x", vbd_state(g->vbd));
	}
}

static struct operation *begin_op(struct guest *g, const char *what)
{
	struct operation *o = g->ops;

	while (o->busy)
		o++;
	*o = (struct operation){
		.op.done = op_done, .guest = g, .what = what, .busy = true, .asking = true
	};
	g->ops_busy++;
	s.ops++;
	return o;
}

static void ask_open(struct guest *g)
{
	const char *roots[] = { "/a", "/b", NULL };
	struct disk_params params = { .parents.roots = roots };
	char spec[3] = { (char)('0' + (g - s.guests)), 0 };
	struct operation *o = begin_op(g, "open");

	vbd_open(g->vbd, spec, &params, &o->op);
	o->asking = false;
}

static void ask_close(struct guest *g, bool force, uint64_t timeout_ns)
{
	struct operation *o = begin_op(g, "close");

	vbd_close(g->vbd, force, timeout_ns, &o->op);
	o->asking = false;
}

static void ask_unpause(struct guest *g, bool plain)
{
	char spec[3] = { (char)('0' + (g - s.guests)), 0 };
	struct operation *o = begin_op(g, "unpause");

	if (!plain)
		spec[1] = "\0+!"[below(3)];
	vbd_unpause(g->vbd, chance(50) && !spec[1] ? NULL : spec, false, &o->op);
	o->asking = false;
}

static uint64_t some_time(void)
{
	return chance(50) ? 0 : 1 + below(50000000);
}

static void ask_something(struct guest *g)
{
	struct operation *o;

	if (g->ops_busy == OPS)
		return;
	switch (below(8)) {
	case 0:
	case 1:
		ask_open(g);
		return;
	case 2:
		if (chance(40))
			ask_close(g, chance(30), some_time());
		return;
	case 3:
	case 4:
		o = begin_op(g, "pause");
		o->lease = chance(40);
		g->lease |= o->lease;
		vbd_pause(g->vbd, some_time(), o->lease ? 1 + below(50000000) : 0, &o->op);
		break;
	case 5:
		o = begin_op(g, "hold");
		vbd_hold(g->vbd, some_time(), &o->op);
		break;
	default:
		ask_unpause(g, chance(60));
		return;
	}
	o->asking = false;
}

static void turn_knobs(struct guest *g)
{
	static const uint64_t patience[] = { 0, 20000000, 2000000000, RETRY_FOREVER };
	struct vbd_limits limits = { 0 };

	switch (below(4)) {
	case 0:
		if (chance(50))
			limits = (struct vbd_limits){ .iops = 1 + below(100000),
						      .iops_burst = below(20),
						      .bytes = chance(50) ? below(100000000) : 0,
						      .bytes_burst = below(10000) };
		vbd_throttle(g->vbd, &limits);
		return;
	case 1:
		vbd_retry_now(g->vbd);
		return;
	case 2:
		vbd_retry_time(g->vbd, patience[below(4)]);
		return;
	default:
		sim_faults(chance(60) ? 0 : (unsigned)below(400));
		sim_sync_faults(chance(10));
	}
}

/* ── worlds ── */

static void open_guest(unsigned i)
{
	struct vbd_params p = { .minor = 3 - i, .retry_ns = 20000000 };
	struct guest *g = &s.guests[i];

	model_reset(&g->model, 512 * (1 + below(i || chance(50) ? 24 : 64)));
	g->model.rng = &s.rng;
	g->held = g->lease = false;
	g->storage = chance(80) ? mem_disk_new(g->model.bytes - below(512), false) : NULL;
	if (vbd_new(&s.host, &p, &g->vbd) < 0)
		model_die("no VBD");
	if (vbd_new(&s.host, &p, &(struct vbd *){ NULL }) != -EEXIST)
		model_die("two VBDs of one minor");
	g->model.vbd = g->vbd;
	g->watcher = (struct vbd_watcher){ .opened = told_opened,
					   .closing = told_closing,
					   .event = told_event };
	vbd_watch(g->vbd, &g->watcher);
	ask_open(g);
}

static void play_step(void)
{
	struct guest *g = &s.guests[below(VBDS)];

	if (vbd_size(g->vbd) && chance(50)) {
		uint64_t burst = chance(5) ? below(80) : 1;

		while (burst--)
			model_submit(&g->model);
	}
	if (chance(3))
		model_vanish(&g->model);
	if (g->held && chance(20)) {
		g->held = false;
		vbd_release(g->vbd);
	}
	if (chance(2))
		ask_something(g);
	if (chance(2))
		turn_knobs(g);
	(void)sim_step();
	if ((vbd_state(g->vbd) & VBD_PAUSED) && g->model.gone)
		model_die("paused, and %u requests of vanished clients are held", g->model.gone);
}

static void let_go(struct guest *g)
{
	if (g->held)
		vbd_release(g->vbd);
	g->held = false;
}

static void step(struct guest *g)
{
	let_go(g);
	if (!sim_step())
		model_die("nothing happens any more: %s, %u operations, %u requests",
			  vbd_state_text(g->vbd), g->ops_busy, g->model.busy);
}

/* Nobody closes it: once it runs, and the storage is well, every request is answered. */
static void settle_guest(struct guest *g)
{
	for (unsigned tries = 0; let_go(g), vbd_state(g->vbd) || g->ops_busy; tries++) {
		if (tries > 1000)
			model_die("it does not run: %s", vbd_state_text(g->vbd));
		if (vbd_state(g->vbd) & VBD_CLOSED)
			ask_open(g);
		else if (vbd_state(g->vbd) & VBD_PAUSED)
			ask_unpause(g, true);
		else
			step(g); /* a pause that timed out: the disk is still busy with it */
		while (g->ops_busy)
			step(g);
	}
	while (g->model.busy)
		step(g);
}

/* Everything must come to an end: where the storage is well; and where it is @dead, by force. */
static void end_guest(struct guest *g, bool dead)
{
	bool settle = !dead && chance(50);

	if (chance(70))
		vbd_throttle(g->vbd, &(struct vbd_limits){ 0 });
	while (settle && g->ops_busy)
		step(g);
	if (settle)
		settle_guest(g);
	for (unsigned tries = 0; vbd_state(g->vbd) != VBD_CLOSED || g->ops_busy; tries++) {
		if (tries > 20)
			model_die("it does not close: %s", vbd_state_text(g->vbd));
		if (g->ops_busy < OPS)
			ask_close(g, dead, dead ? some_time() : 0);
		while (g->ops_busy)
			step(g);
	}
	if (g->model.busy)
		model_die("closed, and %u requests are not answered", g->model.busy);
}

static void check_stats(struct guest *g)
{
	struct vbd_stats stats;

	vbd_get_stats(g->vbd, &stats);
	if (stats.outstanding || stats.held || stats.throttled)
		model_die("closed, and %llu outstanding, %llu held, %llu throttled",
			  (unsigned long long)stats.outstanding, (unsigned long long)stats.held,
			  (unsigned long long)stats.throttled);
	for (int op = 0; op <= REQUEST_CACHE; op++) {
		uint64_t sum = 0;

		for (unsigned i = 0; i < VBD_LATENCY_BUCKETS; i++)
			sum += stats.op[op].latency[i];
		if (sum != stats.op[op].count)
			model_die("%llu requests, %llu latencies",
				  (unsigned long long)stats.op[op].count, (unsigned long long)sum);
	}
}

/* A storage in a file shows what clients wrote. */
static void check_storage(struct guest *g)
{
	const struct model *m = &g->model;
	uint8_t byte;

	for (uint64_t at = 0; g->storage && at < m->bytes; at++) {
		mem_disk_peek(g->storage, &byte, 1, at);
		if (!m->unknown[at] && byte != m->value[at] && !(m->maybe_zero[at] && !byte))
			model_die("closed, byte %llu is %u, not %u", (unsigned long long)at, byte,
				  m->value[at]);
	}
}

static void play(void)
{
	uint64_t steps = 100 + below(1500);
	bool dead = chance(20);

	sim_open(&s.rng, &s.loop, &s.engine);
	probe_open(&s.rng);
	host_init(&s.host, s.loop, s.engine);
	s.host.open = open_image;
	if (chance(50))
		s.host.room = 1 + below(12);
	for (unsigned i = 0; i < VBDS; i++)
		open_guest(i);
	if (vbd_minor(host_next(&s.host, NULL)) != 2 || host_free_minor(&s.host) != 0)
		model_die("VBDs are not in order");
	while (steps--)
		play_step();
	sim_faults(dead ? 1000 : 0);
	sim_sync_faults(dead);
	for (unsigned i = 0; i < VBDS; i++) {
		struct guest *g = &s.guests[i];

		end_guest(g, dead);
		check_stats(g);
		check_storage(g);
		vbd_unwatch(g->vbd, &g->watcher);
		vbd_free(g->vbd);
		mem_disk_free(g->storage);
	}
	if (s.host.load || s.host.active || !list_empty(&s.host.waiting))
		model_die("nothing is in flight, and the host counts %llu",
			  (unsigned long long)s.host.load);
	sim_close();
	probe_none();
}

int main(void)
{
	unsigned long long n;
	const struct model *a = &s.guests[0].model, *b = &s.guests[1].model;

	n = model_play(5000, 200000, &s.rng, play);
	printf("%llu seeds: %lu requests, %lu failed, %lu withdrawn, %lu sectors shared; %lu "
	       "operations, %lu "
	       "refused, %lu timed out; %lu opened, %lu paused, %lu held, %lu leases, %lu stalls\n",
	       n, a->requests + b->requests, a->failed + b->failed, a->withdrawn + b->withdrawn,
	       a->partial + b->partial, s.ops, s.refused, s.timed_out, s.opened, s.paused, s.held,
	       s.leases, s.stalls);
	return 0;
}
