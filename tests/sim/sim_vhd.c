/* sim_vhd.c - the VHD driver and the core against a model disk
 *
 * A seed makes a chain of one to four images, then plays rounds: the leaf is opened as a VBD;
 * reads, writes, zeroes, trims and flushes of any alignment are in flight in any number and
 * complete in any order; it is paused and resumed; operations fail for a time; and at any step
 * the power may go.  Then each sector must be one that the model allows: as after the last
 * flush that was answered, or as some write since left it; and the next round begins there.
 * What a read returns must be what the model holds now.
 *
 * SEED=n plays one world, COUNT=n that many (10,000 by default).
 */
#include <stdio.h>
#include <stdlib.h>

#include "core-model.h"
#include "images.h"
#include "sim.h"
#include "tapdisk/core/host.h"

#define DEPTH_MAX 4u

static const char *const names[DEPTH_MAX] = { "/0.vhd", "/1.vhd", "/2.vhd", "/3.vhd" };

static struct {
	struct rng rng;
	struct store *store;
	struct drive drive;
	const char *leaf;
	struct loop *loop;
	struct engine *engine;
	struct host host;
	bool op_done;
	struct vbd_op op;
	struct disk_params params;
	unsigned long crashes, pauses;
} s;

static uint64_t below(uint64_t n)
{
	return rng_below(&s.rng, n);
}

static int open_chain(struct host *host, const char *spec, const struct disk_params *params,
		      struct disk **out, struct vhd_error *err)
{
	(void)host;
	return images_open(s.store, spec, params, out, err);
}

/* ── life ── */

static void op_done(struct vbd_op *op)
{
	(void)op;
	s.op_done = true;
}

static void await_op(const char *what, bool must)
{
	while (!s.op_done)
		if (!sim_step())
			model_die("%s: nothing happens any more", what);
	if (must && s.op.err.code)
		model_die("%s: %s", what, s.op.err.text);
}

static void begin_op(void)
{
	s.op_done = false;
	s.op = (struct vbd_op){ .done = op_done };
}

static void open_vbd(void)
{
	struct vbd_params p = { .name = "sim", .retry_ns = RETRY_FOREVER };
	char spec[STORE_NAME + 4];

	sim_open(&s.rng, &s.loop, &s.engine);
	host_init(&s.host, s.loop, s.engine);
	s.host.open = open_chain;
	if (vbd_new(&s.host, &p, &s.drive.vbd) < 0)
		model_die("no VBD");
	vbd_client_init(s.drive.vbd, &s.drive.client, false);
	snprintf(spec, sizeof(spec), "vhd:%s", s.leaf);
	begin_op();
	vbd_open(s.drive.vbd, spec, &s.params, &s.op);
	await_op("open", true);
}

static void close_vbd(void)
{
	sim_faults(0);
	while (s.drive.busy)
		if (!sim_step())
			model_die("requests are never answered");
	begin_op();
	vbd_close(s.drive.vbd, false, 0, &s.op);
	await_op("close", !s.drive.syncs_fail);
	if (s.op.err.code) { /* once, after syncs that failed */
		begin_op();
		vbd_close(s.drive.vbd, false, 0, &s.op);
		await_op("close again", true);
	}
	vbd_free(s.drive.vbd);
	sim_close();
}

static void pause_and_resume(void)
{
	sim_faults(0);
	begin_op();
	vbd_pause(s.drive.vbd, 0, 0, &s.op);
	while (!s.op_done) {
		if (rng_chance(&s.rng, 20))
			drive_submit(&s.drive);
		if (!sim_step())
			model_die("pause: nothing happens any more");
	}
	if (s.op.err.code)
		return; /* a flush that failed; it goes on */
	s.pauses++;
	for (uint64_t n = below(5); n > 0; n--)
		drive_submit(&s.drive);
	begin_op();
	vbd_unpause(s.drive.vbd, NULL, false, &s.op);
	await_op("unpause", true);
}

static void use_store(struct store *store)
{
	store_free(s.store);
	s.store = store;
	store_use(store, &s.rng);
}

/* The dead process is let go on with its old disks, and be closed, so that its memory is freed. */
static void crash(void)
{
	struct store *cut = store_cut(s.store, &s.rng);

	drive_cut(&s.drive);
	close_vbd();
	drive_rise(&s.drive);
	use_store(cut);
	s.crashes++;
}

/* ── worlds ── */

static void play_round(void)
{
	uint64_t steps = 50 + below(300);
	bool faults = rng_chance(&s.rng, 40);

	open_vbd();
	s.drive.syncs_fail = false;
	for (uint64_t i = 0; i < steps; i++) {
		if (faults && rng_chance(&s.rng, 5)) {
			bool syncs = rng_chance(&s.rng, 20);

			sim_faults((unsigned)below(200));
			sim_sync_faults(syncs);
			s.drive.syncs_fail |= syncs;
		}
		if (rng_chance(&s.rng, 2))
			drive_vanish(&s.drive);
		if (rng_chance(&s.rng, 40))
			drive_submit(&s.drive);
		if (rng_chance(&s.rng, 1))
			pause_and_resume();
		(void)sim_step();
	}
	if (rng_chance(&s.rng, 50)) {
		crash();
		images_look(s.store, s.leaf, &s.drive, "after a power cut");
		return;
	}
	close_vbd();
	use_store(store_cut(s.store, &s.rng));
	if (s.drive.syncs_fail)
		drive_lost(&s.drive);
	else
		drive_durable(&s.drive);
	images_look(s.store, s.leaf, &s.drive, "closed");
}

static void play(void)
{
	unsigned depth = 1 + (unsigned)below(DEPTH_MAX);
	uint64_t sectors = 64 + below(DRIVE_SECTORS_MAX - 64);

	s.store = store_new();
	store_use(s.store, &s.rng);
	s.params = (struct disk_params){ .writethrough = rng_chance(&s.rng, 10),
					 .cache_bytes = 1 << 20,
					 .dirty_age_ns = 1 + below(20000000) };
	drive_reset(&s.drive, sectors);
	for (unsigned i = 0; i < depth; i++) {
		s.leaf = names[i];
		s.drive.block_bytes = images_make(s.store, &s.rng, s.leaf, i ? names[i - 1] : NULL,
						  sectors, 0);
		for (uint64_t rounds = 1 + below(2); rounds > 0; rounds--)
			play_round();
		images_mend(s.store,
			    s.leaf); /* a parent is only read: its last writer left it whole */
	}
	store_free(s.store);
}

int main(void)
{
	unsigned long long n;

	drive_init(&s.drive, &s.rng);
	n = model_play(10000, 200000, &s.rng, play);
	printf("%llu seeds: %lu requests, %lu reads compared, %lu power cuts, %lu pauses, %lu "
	       "errors\n",
	       n, s.drive.requests, s.drive.reads, s.crashes, s.pauses, s.drive.errors);
	return 0;
}
