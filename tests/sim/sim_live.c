/* sim_live.c - snapshots and growth of a disk while its guest writes
 *
 * A seed makes a chain and plays rounds: requests in any number while the disk is snapshotted in both
 * forms, grown inside its metadata's room, paused and resumed; operations and system calls fail
 * in every step of that; and at any step the power may go.  Then:
 *
 *   - a snapshot or growth that failed leaves the disk running as it was
 *   - the chain that the active name leads to, or after a cut the one the next user finds, holds what
 *     was flushed; every image below the leaf is whole; the size is the old or the new one, and the
 *     new one once that was said
 *   - nothing has to be repaired
 *
 * SEED=n plays one world, COUNT=n that many.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core-model.h"
#include "images.h"
#include "sim.h"
#include "tapdisk/core/host.h"
#include "tapdisk/jobs/resize.h"
#include "tapdisk/jobs/snapshot.h"

#define DEPTH_LIMIT 7u

enum job { JOB_NONE, JOB_SNAPSHOT, JOB_RESIZE, JOB_PAUSE, JOB_UNPAUSE };

static struct {
	struct rng rng;
	struct store *store;
	struct drive drive;
	char leaf[STORE_NAME], name[STORE_NAME]; /* name: of the snapshot under way */
	unsigned made;				 /* names so far */
	bool base_form;
	uint64_t target; /* sectors */
	struct loop *loop;
	struct engine *engine;
	struct host host;
	enum job job;
	struct snapshot_job snapshot;
	struct resize_job resize;
	struct vbd_op op;
	struct disk_params params;
	unsigned long crashes, cut_jobs, snapshots, resizes, pauses, failures, hidden;
} s;

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

/* ── jobs ── */

static void check_spec(void)
{
	if (strcmp(vbd_spec(s.drive.vbd) + strlen("vhd:"), s.leaf) != 0)
		model_die("it serves '%s', not '%s'", vbd_spec(s.drive.vbd), s.leaf);
}

static void snapshot_done(struct snapshot_job *job)
{
	s.job = JOB_NONE;
	store_faults(0);
	if (s.drive.dead)
		return;
	if (job->err.code) {
		s.failures++;
		if (!job->err.text[0])
			model_die("a snapshot failed: %d, and nobody says why", job->err.code);
	} else {
		s.snapshots++;
		if (!s.base_form)
			strcpy(s.leaf, s.name);
		if (strcmp(job->leaf, s.leaf) != 0)
			model_die("the leaf is called '%s', not '%s'", job->leaf, s.leaf);
	}
	check_spec();
	if (!job->err.code && vbd_state(s.drive.vbd))
		model_die("after a snapshot it is %s", vbd_state_text(s.drive.vbd));
}

static void begin_snapshot(void)
{
	if (images_depth(s.store, s.leaf) >= DEPTH_LIMIT)
		return;
	s.base_form = chance(70);
	snprintf(s.name, sizeof(s.name), "/s%u.vhd", s.made++);
	s.job = JOB_SNAPSHOT;
	s.snapshot = (struct snapshot_job){ .vbd = s.drive.vbd,
					    .loop = s.loop,
					    .base = s.base_form ? s.name : NULL,
					    .new_leaf = s.base_form ? NULL : s.name,
					    .timeout_ns = chance(30) ? 1 + below(100000000) : 0,
					    .done = snapshot_done };
	if (chance(40)) {
		store_faults(1 + (unsigned)below(300));
		s.drive.syncs_fail = true; /* of the child */
	}
	snapshot_start(&s.snapshot);
}

static void resize_done(struct resize_job *job)
{
	s.job = JOB_NONE;
	if (s.drive.dead)
		return;
	if (job->err.code) {
		s.failures++;
		if (vbd_size(s.drive.vbd) != s.drive.sectors * 512)
			model_die("growth failed, and it has %llu bytes",
				  (unsigned long long)vbd_size(s.drive.vbd));
		return;
	}
	s.resizes++;
	drive_grow(&s.drive, s.target);
	if (vbd_size(s.drive.vbd) != s.target * 512)
		model_die("it was grown and has %llu bytes",
			  (unsigned long long)vbd_size(s.drive.vbd));
}

static void begin_resize(void)
{
	if (s.drive.sectors == DRIVE_SECTORS_MAX || s.drive.tried_count == DRIVE_TRIED)
		return;
	s.target = s.drive.sectors + 1 + below(DRIVE_SECTORS_MAX - s.drive.sectors);
	if (chance(50)) /* inside the last block, or a little further */
		s.target = s.drive.sectors + 1 + below(8);
	if (s.target > DRIVE_SECTORS_MAX)
		return;
	drive_try(&s.drive, s.target);
	s.job = JOB_RESIZE;
	s.resize = (struct resize_job){ .vbd = s.drive.vbd,
					.bytes = s.target * 512,
					.timeout_ns = chance(30) ? 1 + below(100000000) : 0,
					.done = resize_done };
	resize_start(&s.resize);
}

static void unpaused(struct vbd_op *op)
{
	s.job = JOB_NONE;
	if (s.drive.dead)
		return;
	if (op->err.code)
		model_die("unpause: %s", op->err.text);
	if (vbd_size(s.drive.vbd) != s.drive.sectors * 512) {
		if (!drive_tried(&s.drive, vbd_size(s.drive.vbd) / 512))
			model_die("unpaused, it has %llu bytes",
				  (unsigned long long)vbd_size(s.drive.vbd));
		drive_grow(&s.drive, vbd_size(s.drive.vbd) / 512);
	}
	s.drive.tried_count = 0;
}

static void paused(struct vbd_op *op)
{
	s.job = JOB_NONE;
	if (op->err.code)
		return; /* a flush that failed, or no time: it goes on */
	s.pauses++;
	s.job = JOB_UNPAUSE;
	s.op = (struct vbd_op){ .done = unpaused };
	vbd_unpause(s.drive.vbd, NULL, false, &s.op);
}

static void begin_pause(void)
{
	s.job = JOB_PAUSE;
	s.op = (struct vbd_op){ .done = paused };
	vbd_pause(s.drive.vbd, chance(30) ? 1 + below(100000000) : 0, 0, &s.op);
}

/* ── life ── */

static void told(struct vbd_op *op)
{
	s.job = JOB_NONE;
	if (op->err.code && !s.drive.syncs_fail)
		model_die("%s", op->err.text);
}

static void await(const char *what)
{
	while (s.job != JOB_NONE)
		if (!sim_step())
			model_die("%s: nothing happens any more", what);
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
	s.job = JOB_UNPAUSE;
	s.op = (struct vbd_op){ .done = told };
	vbd_open(s.drive.vbd, spec, &s.params, &s.op);
	await("open");
}

static void close_vbd(void)
{
	sim_faults(0);
	store_faults(0);
	while (s.drive.busy || s.job != JOB_NONE)
		if (!sim_step())
			model_die("requests are never answered");
	for (unsigned tries = 0; vbd_state(s.drive.vbd) != VBD_CLOSED; tries++) {
		if (tries > 8)
			model_die("it does not close");
		s.job = JOB_PAUSE;
		s.op = (struct vbd_op){ .done = told };
		vbd_close(s.drive.vbd, false, 0, &s.op);
		await("close");
	}
	vbd_free(s.drive.vbd);
	sim_close();
}

/* What a manager does who finds the pieces: which leaf is it, and away with the rest. */
static void tidy(bool in_doubt)
{
	if (in_doubt && images_hidden(s.store, s.leaf)) {
		s.hidden++;
		strcpy(s.leaf, s.name);
	}
	for (unsigned i = 0; i < store_count(s.store);) {
		char name[STORE_NAME];

		snprintf(name, sizeof(name), "%s", store_name(s.store, i));
		if (images_in_chain(s.store, s.leaf, name))
			i++;
		else
			store_remove(s.store, name);
	}
}

static void use_store(struct store *store)
{
	store_free(s.store);
	s.store = store;
	store_use(store, &s.rng);
}

static void crash(void)
{
	struct store *cut = store_cut(s.store, &s.rng);
	bool in_doubt = s.job == JOB_SNAPSHOT && !s.base_form;

	s.crashes++;
	s.cut_jobs += s.job == JOB_SNAPSHOT || s.job == JOB_RESIZE;
	drive_cut(&s.drive);
	close_vbd();
	drive_rise(&s.drive);
	use_store(cut);
	images_look(s.store, in_doubt && images_hidden(s.store, s.leaf) ? s.name : s.leaf, &s.drive,
		    "after a power cut");
	tidy(in_doubt);
}

/* ── worlds ── */

static void act(void)
{
	uint64_t what = below(100);

	if (s.job != JOB_NONE)
		return;
	if (what < 45)
		begin_snapshot();
	else if (what < 85)
		begin_resize();
	else
		begin_pause();
}

static void play_round(void)
{
	uint64_t steps = 50 + below(600);
	bool faults = chance(40);

	open_vbd();
	s.drive.syncs_fail = false;
	while (steps--) {
		if (faults && chance(5)) {
			bool syncs = chance(20);

			sim_faults((unsigned)below(200));
			sim_sync_faults(syncs);
			s.drive.syncs_fail |= syncs;
		} else if (chance(1)) {
			sim_faults(0);
		}
		if (chance(2))
			drive_vanish(&s.drive);
		if (chance(30))
			drive_submit(&s.drive);
		if (chance(4))
			act();
		(void)sim_step();
	}
	if (chance(60)) {
		crash();
		return;
	}
	close_vbd();
	use_store(store_cut(s.store, &s.rng));
	if (s.drive.syncs_fail)
		drive_lost(&s.drive);
	else
		drive_durable(&s.drive);
	images_look(s.store, s.leaf, &s.drive, "closed");
	tidy(false);
}

static void play(void)
{
	uint64_t sectors = 16 + below(DRIVE_SECTORS_MAX / 2);

	s.store = store_new();
	store_use(s.store, &s.rng);
	s.params = (struct disk_params){ .writethrough = chance(10),
					 .cache_bytes = 1 << 20,
					 .dirty_age_ns = 1 + below(20000000) };
	s.made = 0;
	drive_reset(&s.drive, sectors);
	strcpy(s.leaf, "/0.vhd");
	s.drive.block_bytes = images_make(s.store, &s.rng, s.leaf, NULL, sectors,
					  chance(80) ? DRIVE_SECTORS_MAX : 0);
	for (uint64_t rounds = 1 + below(4); rounds > 0; rounds--)
		play_round();
	store_free(s.store);
}

int main(void)
{
	unsigned long long n;

	drive_init(&s.drive, &s.rng);
	n = model_play(5000, 200000, &s.rng, play);
	printf("%llu seeds: %lu requests, %lu reads compared; %lu snapshots, %lu growths, %lu of "
	       "them "
	       "failed; %lu pauses, %lu power cuts, %lu during a job, %lu found a hidden leaf\n",
	       n, s.drive.requests, s.drive.reads, s.snapshots, s.resizes, s.failures, s.pauses,
	       s.crashes, s.cut_jobs, s.hidden);
	return 0;
}
