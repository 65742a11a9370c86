/* drive.c - the model of one disk, and its guest */
#include "drive.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core-model.h"
#include "libvhd/base/number.h"

static const uint8_t zero_sector[512];

/* ── the model ── */

static const uint8_t *value(const struct drive_cell *c, unsigned i)
{
	return c->values[i] ? c->values[i] : zero_sector;
}

static void drop_first(struct drive_cell *c)
{
	free(c->values[0]);
	memmove(c->values, c->values + 1, (c->count - 1) * sizeof(c->values[0]));
	c->count--;
	c->first++;
}

static bool room(const struct drive_cell *c)
{
	return c->count + 20 < DRIVE_VALUES;
}

static void add(struct drive_cell *c, const uint8_t *bytes, unsigned either)
{
	assert(c->count < DRIVE_VALUES);
	c->values[c->count] = NULL;
	if (memcmp(bytes, zero_sector, 512) != 0) {
		c->values[c->count] = malloc(512);
		memcpy(c->values[c->count], bytes, 512);
	}
	c->count++;
	c->either = either;
}

static bool holds(const struct drive_cell *c, unsigned from, const uint8_t *bytes)
{
	for (unsigned i = from; i < c->count; i++)
		if (!memcmp(value(c, i), bytes, 512))
			return true;
	return false;
}

static void set_only(struct drive_cell *c, const uint8_t *bytes)
{
	while (c->count)
		drop_first(c);
	add(c, bytes, 1);
	c->first = c->doubted = 0;
	c->writers = 0;
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

/* Where in sector @n, one of its own, it begins and ends; bytes of the disk. */
static uint64_t from_in(const struct request *r, uint64_t n)
{
	return number_max(r->offset, n * 512);
}

static uint64_t to_in(const struct request *r, uint64_t n)
{
	return number_min(r->offset + r->length, (n + 1) * 512);
}

/* Sector @n of the disk as @slot's request would leave it over @old. */
static void overlay(const struct drive_slot *slot, uint64_t n, const uint8_t *old, uint8_t *out)
{
	const struct request *r = &slot->req;
	uint64_t from = from_in(r, n), to = to_in(r, n);

	memcpy(out, old, 512);
	if (r->op == REQUEST_WRITE)
		memcpy(out + from % 512, slot->sent + (from - r->offset), to - from);
	else
		memset(out + from % 512, 0, to - from);
}

static void check_read(struct drive_slot *slot)
{
	struct drive *g = slot->drive;
	const struct request *r = &slot->req;
	const uint8_t *buf = r->buf;

	for (uint64_t n = first_of(r); n < end_of(r); n++) {
		const struct drive_cell *c = &g->cells[n];
		uint64_t from = from_in(r, n), to = to_in(r, n);
		bool fits = false;

		for (unsigned i = c->count - c->either; i < c->count && !fits; i++)
			fits = !memcmp(value(c, i) + from % 512,
				       r->all_zero ? zero_sector : buf + (from - r->offset),
				       to - from);
		if (!fits)
			model_die("sector %llu reads something else than was written",
				  (unsigned long long)n);
	}
	g->reads++;
}

static void doubt_cell(struct drive_cell *c)
{
	c->doubted = c->first + c->count;
}

/* A write under way may be lost, too, until it is carried out anew. */
void drive_lost(struct drive *g)
{
	for (uint64_t n = 0; n < g->sectors; n++)
		if (g->cells[n].count > 1)
			doubt_cell(&g->cells[n]);
	for (unsigned i = 0; i < DRIVE_SLOTS; i++) {
		const struct request *r = &g->slots[i].req;

		if (g->slots[i].busy && is_writer(r))
			for (uint64_t n = first_of(r); n < end_of(r); n++)
				doubt_cell(&g->cells[n]);
	}
}

static void made_durable(const struct drive_slot *slot)
{
	struct drive *g = slot->drive;

	for (uint64_t n = 0; n < g->sectors; n++) {
		struct drive_cell *c = &g->cells[n];

		if (slot->flushed[n] <= c->doubted)
			continue;
		/* the last one there was, and what it may have been instead */
		while (c->count > c->either && c->first + 1 < slot->flushed[n])
			drop_first(c);
	}
}

static void note_counts(struct drive_slot *slot)
{
	const struct drive *g = slot->drive;

	memset(slot->flushed, 0, DRIVE_SECTORS_MAX * sizeof(*slot->flushed));
	for (uint64_t n = 0; n < g->sectors; n++) {
		const struct drive_cell *c = &g->cells[n];

		/* those that may be read instead of the last are as durable as it */
		slot->flushed[n] = c->first + c->count - (c->either - 1);
	}
}

/* What @slot's request makes of sector @n joins the values: over each that may be there now, where
 * it covers a part only.  @maybe: or it did nothing. */
static void join(struct drive_slot *slot, uint64_t n, bool maybe)
{
	struct drive_cell *c = &slot->drive->cells[n];
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

static void written(struct drive_slot *slot)
{
	struct drive *g = slot->drive;
	const struct request *r = &slot->req;

	for (uint64_t n = first_of(r); n < end_of(r); n++) {
		join(slot, n, r->err || r->op == REQUEST_TRIM);
		if (r->err && g->syncs_fail) /* nor was it carried out anew */
			doubt_cell(&g->cells[n]);
		g->cells[n].writers--;
	}
	/* a trim that did nothing has nothing to make durable: not what was written before */
	if (!r->err && (r->flags & REQUEST_FUA) && r->op != REQUEST_TRIM)
		for (uint64_t n = first_of(r); n < end_of(r); n++)
			while (g->cells[n].count > g->cells[n].either)
				drop_first(&g->cells[n]);
}

/* Storage that fails makes a guest wait; a flush may fail all the same (ORDER 5). */
static void failed(const struct drive_slot *slot)
{
	struct drive *g = slot->drive;
	const struct request *r = &slot->req;
	bool durable = r->op == REQUEST_FLUSH || (r->flags & REQUEST_FUA) || g->syncs_fail;

	g->errors++;
	if (slot->withdrawn && r->err == -ESHUTDOWN)
		return;
	if (g->may_fail || (g->closing && r->err == -ESHUTDOWN))
		return;
	if (!is_writer(r) && r->op != REQUEST_FLUSH)
		model_die("a read failed: %d", r->err);
	if (!durable)
		model_die("request %d failed: %d", (int)r->op, r->err);
}

static void done(struct request *r)
{
	struct drive_slot *slot = (struct drive_slot *)r;
	struct drive *g = slot->drive;

	assert(slot->busy);
	slot->busy = false;
	g->busy--;
	if (g->dead)
		return;
	if (r->err)
		failed(slot);
	if (is_writer(r)) {
		written(slot);
		return;
	}
	if (r->op == REQUEST_FLUSH) {
		if (!r->err)
			made_durable(slot);
		else if (!slot->withdrawn)
			drive_lost(g);
		return;
	}
	/* readers count as writers do, so that nothing changes under them */
	for (uint64_t n = first_of(r); n < end_of(r); n++)
		g->cells[n].writers--;
	if (!r->err)
		check_read(slot);
}

static void choose_range(struct drive *g, struct request *r)
{
	uint64_t bytes = g->sectors * 512;

	r->offset = rng_below(g->rng, bytes);
	r->length = 1 + rng_below(g->rng, number_min(DRIVE_BYTES_MAX, bytes - r->offset));
	if (rng_chance(g->rng, 40))
		r->length = number_min(r->length, 1 + rng_below(g->rng, 3000));
	if (rng_chance(g->rng, 70)) { /* whole sectors */
		r->offset -= r->offset % 512;
		r->length = number_round_up(r->length, 512);
	}
	if (rng_chance(g->rng, 20)) { /* whole blocks */
		r->offset -= r->offset % g->block_bytes;
		r->length = number_round_up(r->length, g->block_bytes);
	}
	r->length = number_min(number_min(r->length, DRIVE_BYTES_MAX), bytes - r->offset);
}

static bool range_is_free(const struct drive *g, const struct request *r)
{
	for (uint64_t n = first_of(r); n < end_of(r); n++)
		if (g->cells[n].writers || !room(&g->cells[n]) || g->cells[n].either > 8)
			return false;
	return true;
}

void drive_submit(struct drive *g)
{
	struct drive_slot *slot = NULL;
	struct request *r;
	unsigned what;

	for (unsigned i = 0; i < DRIVE_SLOTS && !slot; i++)
		if (!g->slots[i].busy)
			slot = &g->slots[i];
	if (!slot)
		return;
	r = &slot->req;
	what = (unsigned)rng_below(g->rng, 100);
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
	r->client = rng_chance(g->rng, 30) ? &g->client : NULL;
	slot->withdrawn = false;
	if (r->op == REQUEST_FLUSH) {
		note_counts(slot);
	} else {
		choose_range(g, r);
		if (!range_is_free(g, r))
			return;
		for (uint64_t n = first_of(r); n < end_of(r); n++)
			g->cells[n].writers++;
	}
	if (is_writer(r) && rng_chance(g->rng, 15))
		r->flags |= REQUEST_FUA;
	if (r->op == REQUEST_ZERO && rng_chance(g->rng, 30))
		r->flags |= REQUEST_NO_HOLE;
	if (r->op == REQUEST_READ && rng_chance(g->rng, 50))
		r->flags |= REQUEST_SPARSE;
	if (r->op == REQUEST_WRITE) {
		for (uint64_t i = 0; i < r->length; i += 8) {
			uint64_t x = rng_next(g->rng);

			memcpy(slot->buf + i, &x, (size_t)number_min(8, r->length - i));
		}
		memcpy(slot->sent, slot->buf, r->length);
	}
	slot->busy = true;
	g->busy++;
	g->requests++;
	vbd_submit(g->vbd, r);
}

void drive_vanish(struct drive *g)
{
	for (unsigned i = 0; i < DRIVE_SLOTS; i++)
		g->slots[i].withdrawn = g->slots[i].busy && g->slots[i].req.client == &g->client;
	vbd_withdraw(g->vbd, &g->client);
}

/* ── life ── */

void drive_init(struct drive *g, struct rng *rng)
{
	g->rng = rng;
	for (unsigned i = 0; i < DRIVE_SLOTS; i++) {
		g->slots[i].drive = g;
		g->slots[i].buf = malloc(DRIVE_BYTES_MAX);
		g->slots[i].sent = malloc(DRIVE_BYTES_MAX);
		g->slots[i].flushed = malloc(DRIVE_SECTORS_MAX * sizeof(uint32_t));
	}
}

void drive_reset(struct drive *g, uint64_t sectors)
{
	assert(!g->busy);
	g->sectors = sectors;
	g->tried_count = 0;
	g->dead = g->may_fail = g->syncs_fail = g->closing = false;
	for (uint64_t n = 0; n < sectors; n++)
		set_only(&g->cells[n], zero_sector);
}

void drive_grow(struct drive *g, uint64_t sectors)
{
	for (uint64_t n = g->sectors; n < sectors; n++)
		set_only(&g->cells[n], zero_sector);
	g->sectors = sectors;
	g->tried_count = 0;
}

void drive_try(struct drive *g, uint64_t sectors)
{
	assert(g->tried_count < DRIVE_TRIED);
	g->tried[g->tried_count++] = sectors;
}

bool drive_tried(const struct drive *g, uint64_t sectors)
{
	for (unsigned i = 0; i < g->tried_count; i++)
		if (g->tried[i] == sectors)
			return true;
	return false;
}

void drive_cut(struct drive *g)
{
	for (unsigned i = 0; i < DRIVE_SLOTS; i++) {
		struct drive_slot *slot = &g->slots[i];

		if (slot->busy && is_writer(&slot->req))
			for (uint64_t n = first_of(&slot->req); n < end_of(&slot->req); n++)
				join(slot, n, true);
	}
	if (g->syncs_fail)
		drive_lost(g);
	g->dead = true;
}

void drive_rise(struct drive *g)
{
	assert(!g->busy);
	g->dead = false;
	for (uint64_t n = 0; n < g->sectors; n++)
		g->cells[n].writers = 0;
}

void drive_durable(struct drive *g)
{
	for (uint64_t n = 0; n < g->sectors; n++)
		while (g->cells[n].count > g->cells[n].either)
			drop_first(&g->cells[n]);
}

void drive_doubt(struct drive *g)
{
	for (uint64_t n = 0; n < g->sectors; n++)
		g->cells[n].either = g->cells[n].count;
}

void drive_copy(struct drive *g, const struct drive *from, uint64_t n)
{
	const struct drive_cell *c = &from->cells[n];

	set_only(&g->cells[n], value(c, c->count - 1));
}

bool drive_settle(struct drive *g, uint64_t n, const uint8_t *bytes)
{
	const struct drive_cell *c = &g->cells[n];
	/* behind a flush that failed anything may be: a place of a block that was never stored */
	bool allowed = c->doubted > c->first || holds(c, 0, bytes);

	set_only(&g->cells[n], bytes);
	return allowed;
}
