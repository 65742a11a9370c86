/* sim_share.c - several disks of one process whose chains meet in frozen parents
 *
 * They share the maps, caches and files of those parents, and each other's reads of metadata.  A
 * seed decides; meanwhile disks are paused, held, closed and opened, storage fails for a time or
 * altogether, and at any step the power may go for all of them.  Then:
 *
 *   - no request fails but of a disk that has no patience, or one that is being closed
 *   - a disk can be held, which is what a pause begins with, while all storage is out
 *   - what is read and what is on the disks is what each disk's model allows
 *
 * SEED=n plays one world, COUNT=n that many.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core-model.h"
#include "images.h"
#include "sim.h"
#include "tapdisk/core/host.h"

#define GUESTS	    3u
#define STEPS_DRAIN 20000u

enum state { CLOSED, RUNNING, PAUSED, HELD };

struct guest {
	struct drive drive;
	const char *leaf;
	struct vbd *vbd;
	enum state state, next; /* next: if the operation under way succeeds */
	bool busy;		/* one is */
	bool impatient, force;
	struct vbd_op op;
};

static struct {
	struct rng rng;
	struct store *store;
	struct guest guests[GUESTS];
	unsigned count;
	struct loop *loop;
	struct engine *engine;
	struct host host;
	struct disk_params params;
	bool dead;
	unsigned long crashes, ops, outages, refused;
} s;

static const char *const leaves[GUESTS] = { "/a.vhd", "/b.vhd", "/c.vhd" };

static uint64_t below(uint64_t n)
{
	return rng_below(&s.rng, n);
}

static bool chance(unsigned percent)
{
	return rng_chance(&s.rng, percent);
}

static int open_chain(struct host *host, const char *spec, const struct disk_params *params,
		      struct disk **out, struct vhd_error *err)
{
	(void)host;
	return images_open(s.store, spec, params, out, err);
}

/* ── what the operator does ── */

static void closed(struct guest *g)
{
	if (g->drive.busy)
		model_die("%s is closed and has requests", g->leaf);
	if (s.dead)
		return;
	if (g->force)
		drive_doubt(&g->drive);
	else
		images_look(s.store, g->leaf, &g->drive, "closed");
}

static void op_done(struct vbd_op *op)
{
	struct guest *g = op->owner;

	g->busy = false;
	if (op->err.code) {
		s.refused++;
		return;
	}
	g->state = g->next;
	if (g->state == CLOSED)
		closed(g);
}

static void begin(struct guest *g, enum state next)
{
	g->busy = true;
	g->next = next;
	g->op = (struct vbd_op){ .done = op_done, .owner = g };
	s.ops++;
}

static void ask_open(struct guest *g)
{
	char spec[STORE_NAME + 4];

	snprintf(spec, sizeof(spec), "vhd:%s", g->leaf);
	g->impatient = chance(15);
	g->drive.may_fail = g->impatient;
	g->drive.closing = g->drive.syncs_fail = false;
	vbd_retry_time(g->vbd, g->impatient ? below(2) * 20000000 : RETRY_FOREVER);
	begin(g, RUNNING);
	vbd_open(g->vbd, spec, &s.params, &g->op);
}

static void ask_close(struct guest *g, bool force)
{
	g->drive.closing = true;
	g->force = force;
	begin(g, CLOSED);
	vbd_close(g->vbd, force, force ? 1 + below(1000000000) : 0, &g->op);
}

static void ask(struct guest *g)
{
	switch (g->state) {
	case CLOSED:
		ask_open(g);
		break;
	case RUNNING:
		if (chance(60)) {
			begin(g, PAUSED);
			vbd_pause(g->vbd, chance(30) ? 1 + below(100000000) : 0, 0, &g->op);
		} else if (chance(50)) {
			begin(g, HELD);
			vbd_hold(g->vbd, 0, &g->op);
		} else {
			ask_close(g, chance(20));
		}
		break;
	case PAUSED:
		if (chance(90)) {
			begin(g, RUNNING);
			vbd_unpause(g->vbd, NULL, false, &g->op);
		} else {
			ask_close(g, false);
		}
		break;
	case HELD:
		g->state = RUNNING;
		vbd_release(g->vbd);
	}
}

static void step(void)
{
	struct guest *g = &s.guests[below(s.count)];

	if (g->state != CLOSED && !g->drive.closing && chance(50))
		drive_submit(&g->drive);
	if (chance(2))
		drive_vanish(&g->drive);
	(void)sim_step();
}

/* Whose reads it waits for is nobody's business: nothing of it stays with the disks. */
static void hold_while_out(struct guest *g)
{
	unsigned steps = 0;

	if (g->busy || g->state != RUNNING)
		return;
	s.outages++;
	sim_faults(1000);
	sim_sync_faults(false);
	for (uint64_t n = below(200); n > 0; n--)
		step();
	begin(g, HELD);
	vbd_hold(g->vbd, 0, &g->op);
	while (g->busy) {
		step();
		if (steps++ == STEPS_DRAIN)
			model_die("%s cannot be held while storage is out", g->leaf);
	}
	sim_faults(0);
}

/* ── worlds ── */

static void finish(struct guest *g)
{
	for (unsigned tries = 0; g->state != CLOSED || g->busy; tries++) {
		if (tries > 20)
			model_die("%s does not close", g->leaf);
		if (!g->busy && g->state == HELD)
			ask(g);
		if (!s.dead && !g->busy && g->state == RUNNING && !g->drive.busy)
			drive_durable(&g->drive);
		if (!g->busy && (g->state != RUNNING || !g->drive.busy))
			ask_close(g, false);
		while (g->busy || (g->state == RUNNING && g->drive.busy))
			if (!sim_step())
				model_die("%s: nothing happens any more", g->leaf);
	}
	vbd_free(g->vbd);
}

static void finish_all(void)
{
	sim_faults(0);
	for (unsigned i = 0; i < s.count; i++)
		finish(&s.guests[i]);
	sim_close();
}

static void crash(void)
{
	struct store *cut = store_cut(s.store, &s.rng);

	s.dead = true;
	for (unsigned i = 0; i < s.count; i++)
		drive_cut(&s.guests[i].drive);
	finish_all();
	store_free(s.store);
	s.store = cut;
	store_use(cut, &s.rng);
	s.dead = false;
	s.crashes++;
	for (unsigned i = 0; i < s.count; i++) {
		drive_rise(&s.guests[i].drive);
		images_look(s.store, s.guests[i].leaf, &s.guests[i].drive, "after a power cut");
	}
}

static void start(unsigned count)
{
	struct vbd_params p = { .retry_ns = RETRY_FOREVER };

	sim_open(&s.rng, &s.loop, &s.engine);
	host_init(&s.host, s.loop, s.engine);
	s.host.open = open_chain;
	s.host.reopen_ns = chance(50) ? 1 + below(2000000000) : 0;
	s.count = count;
	for (unsigned i = 0; i < count; i++) {
		struct guest *g = &s.guests[i];

		p.minor = i;
		p.name = g->leaf;
		if (vbd_new(&s.host, &p, &g->vbd) < 0)
			model_die("no VBD");
		g->drive.vbd = g->vbd;
		vbd_client_init(g->vbd, &g->drive.client, false);
		g->state = CLOSED;
		ask_open(g);
	}
}

static void play_round(unsigned count)
{
	uint64_t steps = 100 + below(500);

	start(count);
	while (steps--) {
		if (chance(3)) {
			sim_faults(chance(50) ? 0 : (unsigned)below(chance(30) ? 1001 : 300));
			sim_sync_faults(false);
		}
		if (chance(3)) {
			struct guest *g = &s.guests[below(s.count)];

			if (!g->busy)
				ask(g);
		}
		if (chance(1) && count > 1)
			hold_while_out(&s.guests[below(s.count)]);
		step();
	}
	if (chance(40))
		crash();
	else
		finish_all();
}

/* What the parents hold: written through the first guest, and by all who share it from then on. */
static void fill(const char *name, const char *parent, uint64_t sectors)
{
	struct guest *g = &s.guests[0];

	g->leaf = name;
	g->drive.block_bytes = images_make(s.store, &s.rng, name, parent, sectors, 0);
	play_round(1);
	images_mend(s.store, name);
}

static void give(struct drive *to, struct drive *from, const char *leaf)
{
	drive_reset(to, from->sectors);
	images_look(s.store, leaf, from, "shared");
	for (uint64_t n = 0; n < from->sectors; n++)
		drive_copy(to, from, n);
}

static void play(void)
{
	uint64_t sectors = 64 + below(DRIVE_SECTORS_MAX - 64);
	unsigned count = 2 + (unsigned)below(GUESTS - 1);
	const char *base = "/0.vhd";

	s.store = store_new();
	store_use(s.store, &s.rng);
	s.params = (struct disk_params){ .cache_bytes = 1 << 20,
					 .dirty_age_ns = 1 + below(20000000) };
	drive_reset(&s.guests[0].drive, sectors);
	fill(base, NULL, sectors);
	if (chance(50)) {
		fill("/1.vhd", base, sectors);
		base = "/1.vhd";
	}
	for (unsigned i = 0; i < count; i++) {
		struct guest *g = &s.guests[i];

		g->leaf = leaves[i];
		if (i)
			give(&g->drive, &s.guests[0].drive, base);
	}
	for (unsigned i = 0; i < count; i++)
		s.guests[i].drive.block_bytes = images_make(s.store, &s.rng, leaves[i], base,
							    sectors, 0);
	for (uint64_t rounds = 1 + below(2); rounds > 0; rounds--)
		play_round(count);
	store_free(s.store);
}

int main(void)
{
	unsigned long long n;
	unsigned long requests = 0, reads = 0, errors = 0;

	for (unsigned i = 0; i < GUESTS; i++)
		drive_init(&s.guests[i].drive, &s.rng);
	n = model_play(5000, 200000, &s.rng, play);
	for (unsigned i = 0; i < GUESTS; i++) {
		requests += s.guests[i].drive.requests;
		reads += s.guests[i].drive.reads;
		errors += s.guests[i].drive.errors;
	}
	printf("%llu seeds: %lu requests, %lu reads compared, %lu errors; %lu operations, %lu "
	       "refused; %lu held while storage was out, %lu power cuts\n",
	       n, requests, reads, errors, s.ops, s.refused, s.outages, s.crashes);
	return 0;
}
