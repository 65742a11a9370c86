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
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/number.h"
#include "libvhd/create.h"
#include "sim.h"
#include "tapdisk/core/host.h"
#include "tapdisk/drivers/vhd-private.h"
#include "tests/lib/flat-reader.h"

#define SECTORS_MAX 1024u
#define DEPTH_MAX   4u
#define REQUESTS    12u
#define BYTES_MAX   (64u << 10)
#define VALUES	    48u

/* What one byte-sized piece of the model (a sector) may hold.  values[0] is durable; each write since
 * adds one; the last is what reads return, or any of "either" last ones after a failure or trim. */
struct cell {
	uint32_t first;		 /* absolute number of values[0] */
	unsigned count;		 /* >= 1 */
	unsigned either;	 /* this many of the last may be read */
	unsigned writers;	 /* requests in flight that change it */
	uint8_t *values[VALUES]; /* owned, 512 bytes each; NULL: zeros */
};

struct slot {
	struct request req;
	bool busy;
	uint8_t *buf;	   /* BYTES_MAX, of the VBD's view */
	uint8_t *sent;	   /* copy of what was written */
	uint32_t *flushed; /* FLUSH, FUA: of each sector, absolute count when submitted */
};

static struct sim_world {
	unsigned long long seed;
	struct rng rng;
	struct mem_disk *disks[DEPTH_MAX]; /* base first */
	unsigned depth;
	uint64_t sectors, block_bytes;
	struct cell cells[SECTORS_MAX];
	struct slot slots[REQUESTS];
	unsigned busy;
	struct loop *loop;
	struct engine *engine;
	struct host host;
	struct vbd *vbd;
	bool dead; /* the power went: what the old process still does counts for nothing */
	bool op_done;
	struct vbd_op op;
	struct disk_params params;
	unsigned sync_failures;
	/* counted over all seeds */
	unsigned long requests, crashes, pauses, frees, errors, reads;
} s;

static const uint8_t zero_sector[512];

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "seed %llu: ", s.seed);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\nrepeat with SEED=%llu\n", s.seed);
	abort();
}

static uint64_t below(uint64_t n)
{
	return rng_below(&s.rng, n);
}

/* ── the model ── */

static const uint8_t *value(const struct cell *c, unsigned i)
{
	return c->values[i] ? c->values[i] : zero_sector;
}

static void drop_first(struct cell *c)
{
	free(c->values[0]);
	memmove(c->values, c->values + 1, (c->count - 1) * sizeof(c->values[0]));
	c->count--;
	c->first++;
}

static bool room(const struct cell *c)
{
	return c->count + 20 < VALUES;
}

static void add(struct cell *c, const uint8_t *bytes, unsigned either)
{
	assert(c->count < VALUES);
	c->values[c->count] = NULL;
	if (memcmp(bytes, zero_sector, 512) != 0) {
		c->values[c->count] = malloc(512);
		memcpy(c->values[c->count], bytes, 512);
	}
	c->count++;
	c->either = either;
}

static bool holds(const struct cell *c, unsigned from, const uint8_t *bytes)
{
	for (unsigned i = from; i < c->count; i++)
		if (!memcmp(value(c, i), bytes, 512))
			return true;
	return false;
}

static void set_only(struct cell *c, const uint8_t *bytes)
{
	while (c->count)
		drop_first(c);
	add(c, bytes, 1);
	c->first = 0;
	c->writers = 0;
}

/* ── images ── */

static void make_image(unsigned level)
{
	static const uint32_t blocks[] = { 4096, 8192, 16384, 65536 };
	struct plan_spec spec = { .type = level ? VHD_TYPE_DIFFERENCING : VHD_TYPE_DYNAMIC };
	struct vhd_error err;
	struct vhd_io *io;
	struct plan plan;

	spec.size = s.sectors * 512;
	spec.block_size = blocks[below(4)];
	spec.creator = rng_chance(&s.rng, 70) ? NULL : "win ";
	memset(spec.id, (int)level + 1, sizeof(spec.id));
	if (level) {
		memset(spec.parent_id, (int)level, sizeof(spec.parent_id));
		spec.parent_path = "./p.vhd";
	}
	s.block_bytes = spec.block_size;
	if (plan_make(&spec, &plan, &err) < 0)
		die("plan: %s", err.text);
	s.disks[level] = mem_disk_new(0, false);
	io = mem_disk_open(s.disks[level], "image", true);
	if (create_sparse(io, &plan, plan.metadata_end, &err) < 0)
		die("create: %s", err.text);
	io_close(io);
}

/* A host's way to open images: the chain as it is on the disks in memory. */
static int open_chain(struct host *host, const char *spec, const struct disk_params *params,
		      struct disk **out, struct vhd_error *err)
{
	struct vhd_image *images[DEPTH_MAX];
	struct engine_file *files[DEPTH_MAX];
	int rc;

	(void)host;
	(void)spec;
	for (unsigned i = 0; i < s.depth; i++) {
		struct vhd_io *io = mem_disk_open(s.disks[s.depth - 1 - i], i ? "parent" : "leaf",
						  !i);

		files[i] = sim_file(io);
		rc = image_open(io, 0, &images[i], err);
		if (rc < 0)
			die("layer %u does not open: %s", i, err->text);
		images[i]->early_bitmaps = true;
		rc = i ? image_load(images[i], 1 << 16, err) :
			 image_begin_write(images[i], 1 << 16, err);
		if (rc < 0)
			die("layer %u does not load: %s", i, err->text);
	}
	return vhd_disk_wrap(images, s.depth, files, params, out, err);
}

/* ── requests ── */

static bool is_writer(const struct request *r)
{
	return r->op == REQUEST_WRITE || r->op == REQUEST_ZERO || r->op == REQUEST_TRIM;
}

static uint64_t first_of(const struct request *r)
{
	return r->offset / 512;
}

static uint64_t end_of(const struct request *r)
{
	return r->length ? number_div_up(r->offset + r->length, 512) : first_of(r);
}

/* Sector @n of the disk as @r would leave it over @old. */
static void overlay(const struct slot *slot, uint64_t n, const uint8_t *old, uint8_t *out)
{
	const struct request *r = &slot->req;

	memcpy(out, old, 512);
	for (unsigned i = 0; i < 512; i++) {
		uint64_t at = n * 512 + i;

		if (at >= r->offset && at < r->offset + r->length)
			out[i] = r->op == REQUEST_WRITE ? slot->sent[at - r->offset] : 0;
	}
}

static void check_read(const struct slot *slot)
{
	const struct request *r = &slot->req;
	const uint8_t *buf = r->buf;

	for (uint64_t n = first_of(r); n < end_of(r); n++) {
		const struct cell *c = &s.cells[n];
		uint64_t from = number_max(r->offset, n * 512);
		uint64_t to = number_min(r->offset + r->length, (n + 1) * 512);
		bool fits = false;

		for (unsigned i = c->count - c->either; i < c->count && !fits; i++)
			fits = !memcmp(value(c, i) + from % 512,
				       r->all_zero ? zero_sector : buf + (from - r->offset),
				       to - from);
		if (!fits)
			die("sector %llu reads something else than was written",
			    (unsigned long long)n);
	}
	s.reads++;
}

static void made_durable(const struct slot *slot)
{
	for (uint64_t n = 0; n < s.sectors; n++) {
		struct cell *c = &s.cells[n];

		/* the last one there was, and what it may have been instead */
		while (c->count > c->either && c->first + 1 < slot->flushed[n])
			drop_first(c);
	}
}

static void note_counts(struct slot *slot)
{
	for (uint64_t n = 0; n < s.sectors; n++) {
		const struct cell *c = &s.cells[n];

		/* those that may be read instead of the last are as durable as it */
		slot->flushed[n] = c->first + c->count - (c->either - 1);
	}
}

/* What @slot's request makes of sector @n joins the values: over each that may be there now, where
 * it covers a part only.  @maybe: or it did nothing. */
static void join(struct slot *slot, uint64_t n, bool maybe)
{
	struct cell *c = &s.cells[n];
	const struct request *r = &slot->req;
	bool whole = r->offset <= n * 512 && r->offset + r->length >= (n + 1) * 512;
	unsigned old = c->either, from = c->count - old, made = whole ? 1 : old;
	uint8_t after[512];

	for (unsigned i = 0; i < made; i++) {
		overlay(slot, n, value(c, whole ? c->count - 1 : from + i), after);
		add(c, after, 1);
	}
	c->either = made + (maybe ? old : 0);
}

static void written(struct slot *slot)
{
	const struct request *r = &slot->req;

	for (uint64_t n = first_of(r); n < end_of(r); n++) {
		join(slot, n, r->err || r->op == REQUEST_TRIM);
		s.cells[n].writers--;
	}
	/* a trim that did nothing has nothing to make durable: not what was written before */
	if (!r->err && (r->flags & REQUEST_FUA) && r->op != REQUEST_TRIM)
		for (uint64_t n = first_of(r); n < end_of(r); n++)
			while (s.cells[n].count > s.cells[n].either)
				drop_first(&s.cells[n]);
}

static void done(struct request *r)
{
	struct slot *slot = (struct slot *)r;

	assert(slot->busy);
	slot->busy = false;
	s.busy--;
	if (s.dead)
		return;
	if (r->err)
		s.errors++;
	if (is_writer(r)) {
		written(slot);
		return;
	}
	if (r->op == REQUEST_FLUSH) {
		if (!r->err)
			made_durable(slot);
		return;
	}
	/* readers count as writers do, so that nothing changes under them */
	for (uint64_t n = first_of(r); n < end_of(r); n++)
		s.cells[n].writers--;
	if (r->err)
		die("a read failed: %d", r->err);
	check_read(slot);
}

static void choose_range(struct request *r)
{
	uint64_t bytes = s.sectors * 512;

	r->offset = below(bytes);
	r->length = 1 + below(number_min(BYTES_MAX, bytes - r->offset));
	if (rng_chance(&s.rng, 40))
		r->length = number_min(r->length, 1 + below(3000));
	if (rng_chance(&s.rng, 70)) { /* whole sectors */
		r->offset -= r->offset % 512;
		r->length = number_round_up(r->length, 512);
	}
	if (rng_chance(&s.rng, 20)) { /* whole blocks */
		r->offset -= r->offset % s.block_bytes;
		r->length = number_round_up(r->length, s.block_bytes);
	}
	r->length = number_min(number_min(r->length, BYTES_MAX), bytes - r->offset);
}

static bool range_is_free(const struct request *r)
{
	for (uint64_t n = first_of(r); n < end_of(r); n++)
		if (s.cells[n].writers || !room(&s.cells[n]) || s.cells[n].either > 8)
			return false;
	return true;
}

static void submit(void)
{
	struct slot *slot = NULL;
	struct request *r;
	unsigned what;

	for (unsigned i = 0; i < REQUESTS && !slot; i++)
		if (!s.slots[i].busy)
			slot = &s.slots[i];
	if (!slot)
		return;
	r = &slot->req;
	what = (unsigned)below(100);
	r->op = what < 40 ? REQUEST_WRITE :
		what < 60 ? REQUEST_READ :
		what < 75 ? REQUEST_ZERO :
		what < 85 ? REQUEST_TRIM :
			    REQUEST_FLUSH;
	r->flags = 0;
	r->offset = r->length = 0;
	r->all_zero = false;
	r->buf = slot->buf;
	r->done = done;
	if (r->op == REQUEST_FLUSH) {
		note_counts(slot);
	} else {
		choose_range(r);
		if (!range_is_free(r))
			return;
		for (uint64_t n = first_of(r); n < end_of(r); n++)
			s.cells[n].writers++;
	}
	if (is_writer(r) && rng_chance(&s.rng, 15))
		r->flags |= REQUEST_FUA;
	if (r->op == REQUEST_ZERO && rng_chance(&s.rng, 30))
		r->flags |= REQUEST_NO_HOLE;
	if (r->op == REQUEST_READ && rng_chance(&s.rng, 50))
		r->flags |= REQUEST_SPARSE;
	if (r->op == REQUEST_WRITE) {
		for (uint64_t i = 0; i < r->length; i += 8) {
			uint64_t x = rng_next(&s.rng);

			memcpy(slot->buf + i, &x, (size_t)number_min(8, r->length - i));
		}
		memcpy(slot->sent, slot->buf, r->length);
	}
	slot->busy = true;
	s.busy++;
	s.requests++;
	vbd_submit(s.vbd, r);
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
			die("%s: nothing happens any more", what);
	if (must && s.op.err.code)
		die("%s: %s", what, s.op.err.text);
}

static void begin_op(void)
{
	s.op_done = false;
	s.op = (struct vbd_op){ .done = op_done };
}

static void open_vbd(void)
{
	struct vbd_params p = { .name = "sim", .retry_ns = RETRY_FOREVER };

	sim_open(&s.rng, &s.loop, &s.engine);
	host_init(&s.host, s.loop, s.engine);
	s.host.open = open_chain;
	if (vbd_new(&s.host, &p, &s.vbd) < 0)
		die("no VBD");
	begin_op();
	vbd_open(s.vbd, "vhd:/sim", &s.params, &s.op);
	await_op("open", true);
}

static void close_vbd(void)
{
	sim_faults(0);
	while (s.busy)
		if (!sim_step())
			die("requests are never answered");
	begin_op();
	vbd_close(s.vbd, false, 0, &s.op);
	await_op("close", s.sync_failures == 0);
	if (s.op.err.code) { /* once, after syncs that failed */
		begin_op();
		vbd_close(s.vbd, false, 0, &s.op);
		await_op("close again", true);
	}
	vbd_free(s.vbd);
	sim_close();
}

static void pause_and_resume(void)
{
	sim_faults(0);
	begin_op();
	vbd_pause(s.vbd, 0, 0, &s.op);
	while (!s.op_done) {
		if (rng_chance(&s.rng, 20))
			submit();
		if (!sim_step())
			die("pause: nothing happens any more");
	}
	if (s.op.err.code)
		return; /* a flush that failed; it goes on */
	s.pauses++;
	for (uint64_t n = below(5); n > 0; n--)
		submit();
	begin_op();
	vbd_unpause(s.vbd, NULL, false, &s.op);
	await_op("unpause", true);
}

/* ── what is on the disk ── */

static bool get(void *arg, void *buf, size_t length, uint64_t offset)
{
	struct mem_disk *disk = arg;

	if (offset + length > mem_disk_size(disk))
		return false;
	mem_disk_peek(disk, buf, length, offset);
	return true;
}

/* As the next writer leaves it who changes nothing: footers restored, tail cut. */
static struct mem_disk *mended(const struct mem_disk *disk)
{
	struct mem_disk *copy = mem_disk_copy(disk);
	struct vhd_image *img;
	struct vhd_error err;

	if (image_open(mem_disk_open(copy, "leaf", true), 0, &img, &err) < 0 ||
	    image_begin_write(img, 1 << 16, &err) < 0 || image_finish(img, &err) < 0)
		die("after a power cut: %s", err.text);
	image_close(img);
	return copy;
}

/* Every sector, by the reader of its own, is one the model allows; the model then holds that. */
static void look(const char *when)
{
	struct flat_source sources[DEPTH_MAX];
	struct mem_disk *leaf = mended(s.disks[s.depth - 1]);
	struct flat flat;
	uint8_t bytes[512];

	for (unsigned i = 0; i < s.depth; i++) {
		struct mem_disk *d = i ? s.disks[s.depth - 1 - i] : leaf;

		sources[i] = (struct flat_source){ get, d, mem_disk_size(d), false };
	}
	if (!flat_open(&flat, sources, s.depth))
		die("%s: %s", when, flat.why);
	for (uint64_t n = 0; n < s.sectors; n++) {
		if (!flat_read(&flat, bytes, n, 1))
			die("%s: sector %llu: %s", when, (unsigned long long)n, flat.why);
		if (!holds(&s.cells[n], 0, bytes))
			die("%s: sector %llu is neither as flushed nor as written since", when,
			    (unsigned long long)n);
		set_only(&s.cells[n], bytes);
	}
	flat_release(&flat);
	mem_disk_free(leaf);
}

/* Requests in flight may have left anything between: that is allowed too.  The dead process is let
 * go on with its old disk, and be closed, so that its memory is freed. */
static void crash(void)
{
	struct mem_disk *old = s.disks[s.depth - 1];
	struct mem_disk *cut = mem_disk_cut(old, (enum mem_cut)below(MEM_CUTS), rng_next(&s.rng));

	for (unsigned i = 0; i < REQUESTS; i++) {
		struct slot *slot = &s.slots[i];

		if (slot->busy && is_writer(&slot->req))
			for (uint64_t n = first_of(&slot->req); n < end_of(&slot->req); n++)
				join(slot, n, true);
	}
	s.dead = true;
	close_vbd();
	s.dead = false;
	for (uint64_t n = 0; n < s.sectors; n++)
		s.cells[n].writers = 0;
	mem_disk_free(old);
	s.disks[s.depth - 1] = cut;
	s.crashes++;
}

/* ── worlds ── */

static void play_round(void)
{
	uint64_t steps = 50 + below(300);
	bool faults = rng_chance(&s.rng, 40);

	open_vbd();
	s.sync_failures = 0;
	for (uint64_t i = 0; i < steps; i++) {
		if (faults && rng_chance(&s.rng, 5)) {
			sim_faults((unsigned)below(200));
			sim_sync_faults(rng_chance(&s.rng, 20));
			s.sync_failures++;
		}
		if (rng_chance(&s.rng, 40))
			submit();
		if (rng_chance(&s.rng, 1))
			pause_and_resume();
		(void)sim_step();
	}
	if (rng_chance(&s.rng, 50)) {
		crash();
		look("after a power cut");
		return;
	}
	close_vbd();
	/* closing made all of it durable */
	for (uint64_t n = 0; n < s.sectors; n++)
		while (s.cells[n].count > s.cells[n].either)
			drop_first(&s.cells[n]);
	look("closed");
}

/* A parent is only read: its last writer leaves it whole. */
static void mend(unsigned level)
{
	struct mem_disk *whole = mended(s.disks[level]);

	mem_disk_free(s.disks[level]);
	s.disks[level] = whole;
}

static void play(void)
{
	unsigned depth = 1 + (unsigned)below(DEPTH_MAX);

	s.sectors = 64 + below(SECTORS_MAX - 64);
	s.params = (struct disk_params){ .writethrough = rng_chance(&s.rng, 10),
					 .cache_bytes = 1 << 20,
					 .dirty_age_ns = 1 + below(20000000) };
	for (uint64_t n = 0; n < s.sectors; n++)
		set_only(&s.cells[n], zero_sector);
	for (s.depth = 1; s.depth <= depth; s.depth++) {
		make_image(s.depth - 1);
		for (uint64_t rounds = 1 + below(2); rounds > 0; rounds--)
			play_round();
		mend(s.depth - 1);
	}
	s.depth--;
	for (unsigned i = 0; i < s.depth; i++)
		mem_disk_free(s.disks[i]);
}

int main(void)
{
	const char *seed = getenv("SEED"), *count = getenv("COUNT");
	unsigned long long from = seed ? strtoull(seed, NULL, 0) : 1;
	unsigned long long n = seed ? 1 : count ? strtoull(count, NULL, 0) : 10000;

	if (!seed && !count && getenv("SOAK"))
		n = 200000;
	for (unsigned i = 0; i < REQUESTS; i++) {
		s.slots[i].buf = malloc(BYTES_MAX);
		s.slots[i].sent = malloc(BYTES_MAX);
		s.slots[i].flushed = malloc(SECTORS_MAX * sizeof(uint32_t));
	}
	for (unsigned long long i = 0; i < n; i++) {
		s.seed = from + i;
		s.rng.state = s.seed;
		play();
	}
	printf("%llu seeds: %lu requests, %lu reads compared, %lu power cuts, %lu pauses, %lu "
	       "errors\n",
	       n, s.requests, s.reads, s.crashes, s.pauses, s.errors);
	return 0;
}
