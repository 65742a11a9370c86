/* core-model.c - random requests, and what must come of them */
#include "core-model.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/number.h"

unsigned long long model_seed;

void model_die(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "seed %llu: ", model_seed);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\nrepeat with SEED=%llu\n", model_seed);
	abort();
}

unsigned long long model_play(unsigned long long few, unsigned long long long_run, struct rng *rng,
			      void (*play)(void))
{
	const char *seed = getenv("SEED"), *count = getenv("COUNT");
	unsigned long long from = seed ? strtoull(seed, NULL, 0) : 1;
	unsigned long long n = seed ? 1 : count ? strtoull(count, NULL, 0) : few;

	if (!seed && !count && getenv("SOAK"))
		n = long_run;
	for (unsigned long long i = 0; i < n; i++) {
		model_seed = from + i;
		rng->state = model_seed;
		play();
	}
	return n;
}

void model_reset(struct model *m, uint64_t bytes)
{
	m->bytes = bytes;
	m->shut = false;
	memset(m->value, 0, sizeof(m->value));
	memset(m->unknown, 0, sizeof(m->unknown));
	memset(m->maybe_zero, 0, sizeof(m->maybe_zero));
	memset(m->changing, 0, sizeof(m->changing));
}

static bool is_writer(const struct request *r)
{
	return r->op == REQUEST_WRITE || r->op == REQUEST_ZERO || r->op == REQUEST_TRIM;
}

/* ── answers ── */

static void check_read(const struct model_slot *s)
{
	const struct model *m = s->model;
	const struct request *r = &s->req;

	for (uint64_t i = 0; i < r->length; i++) {
		uint64_t at = r->offset + i;
		uint8_t got = r->all_zero ? 0 : s->buf[i];

		if (s->unsure[i] || m->unknown[at] || got == m->value[at] ||
		    (m->maybe_zero[at] && !got))
			continue;
		model_die("byte %llu reads %u, not %u", (unsigned long long)at, got, m->value[at]);
	}
}

static void check_status(const struct model_slot *s)
{
	const struct request *r = &s->req;
	uint64_t at = r->offset;

	if (!r->extent_count != !r->length || r->extent_count > r->extent_max)
		model_die("%u extents", r->extent_count);
	for (unsigned i = 0; i < r->extent_count; i++) {
		const struct request_extent *e = &r->extents[i];

		if (!e->length || e->length > r->offset + r->length - at)
			model_die("an extent of %llu bytes at %llu of %llu+%llu",
				  (unsigned long long)e->length, (unsigned long long)at,
				  (unsigned long long)r->offset, (unsigned long long)r->length);
		for (uint64_t end = at + e->length; at < end; at++) {
			const struct model *m = s->model;

			if ((e->flags & EXTENT_ZERO) && m->value[at] && !m->unknown[at] &&
			    !m->maybe_zero[at] && !s->unsure[at - r->offset])
				model_die("byte %llu is said to be zero", (unsigned long long)at);
		}
	}
}

static void written(const struct model_slot *s)
{
	struct model *m = s->model;
	const struct request *r = &s->req;
	bool refused = r->op == REQUEST_ZERO && r->err == -ENOTSUP;

	for (uint64_t i = 0; i < r->length; i++) {
		uint64_t at = r->offset + i;

		m->changing[at] = false;
		if (refused)
			continue;
		if (r->op == REQUEST_TRIM) {
			m->maybe_zero[at] = true;
			continue;
		}
		m->unknown[at] = r->err;
		m->maybe_zero[at] = false;
		m->value[at] = r->op == REQUEST_WRITE ? s->sent[i] : 0;
	}
}

static void done(struct request *r)
{
	struct model_slot *s = (struct model_slot *)r;
	struct model *m = s->model;

	if (!s->busy)
		model_die("a request is answered twice");
	s->busy = false;
	m->busy--;
	if (r->err == -ECANCELED)
		model_die("-ECANCELED reached a client");
	m->gone -= s->withdrawn;
	if (s->withdrawn)
		return; /* what came of it is nobody's, as model_vanish has noted */
	m->failed += r->err != 0;
	if (r->err == -ESHUTDOWN && !m->shut)
		model_die("-ESHUTDOWN before anybody closes");
	if (is_writer(r))
		written(s);
	else if (!r->err && r->op == REQUEST_READ)
		check_read(s);
	else if (!r->err && r->op == REQUEST_STATUS)
		check_status(s);
	m->compared += !r->err;
}

/* ── requests ── */

static void choose(struct model *m, struct request *r)
{
	static const enum request_op ops[] = { REQUEST_WRITE, REQUEST_WRITE, REQUEST_WRITE,
					       REQUEST_READ,  REQUEST_READ,  REQUEST_ZERO,
					       REQUEST_TRIM,  REQUEST_FLUSH, REQUEST_STATUS,
					       REQUEST_CACHE };
	uint64_t most = m->bytes;

	r->op = ops[rng_below(m->rng, sizeof(ops) / sizeof(ops[0]))];
	r->flags = 0;
	r->offset = r->length = 0;
	if (r->op == REQUEST_FLUSH)
		return;
	r->offset = rng_below(m->rng, m->bytes);
	if (rng_chance(m->rng, 80))
		most = rng_chance(m->rng, 50) ? 300 : 2000;
	r->length = rng_below(m->rng, number_min(most, m->bytes - r->offset) + 1);
	if (rng_chance(m->rng, 30)) {
		r->offset -= r->offset % REQUEST_SECTOR;
		r->length = number_round_up(r->length, REQUEST_SECTOR);
	}
	if (is_writer(r) && rng_chance(m->rng, 10))
		r->flags |= REQUEST_FUA;
	if (r->op == REQUEST_ZERO && rng_chance(m->rng, 30))
		r->flags |= REQUEST_NO_HOLE;
	if (r->op == REQUEST_ZERO && rng_chance(m->rng, 30))
		r->flags |= REQUEST_FAST_ZERO;
}

/* Do others change one of its bytes?  Does another change a sector of which it has a part? */
static bool is_free(struct model *m, const struct request *r)
{
	uint64_t from = number_round_down(r->offset, REQUEST_SECTOR);
	uint64_t to = number_round_up(r->offset + r->length, REQUEST_SECTOR);
	bool near = false;

	for (uint64_t at = from; at < to; at++) {
		bool mine = at >= r->offset && at < r->offset + r->length;

		if (mine && m->changing[at])
			return false;
		near |= m->changing[at];
	}
	m->partial += near;
	return true;
}

/* Whoever reads what @r changes may get either. */
static void warn_readers(struct model *m, const struct request *r)
{
	for (unsigned i = 0; i < MODEL_SLOTS; i++) {
		struct model_slot *s = &m->slots[i];

		if (!s->busy || is_writer(&s->req))
			continue;
		for (uint64_t at = number_max(r->offset, s->req.offset);
		     at < number_min(r->offset + r->length, s->req.offset + s->req.length); at++)
			s->unsure[at - s->req.offset] = true;
	}
}

void model_submit(struct model *m)
{
	struct model_slot *s = &m->slots[rng_below(m->rng, MODEL_SLOTS)];
	struct request *r = &s->req;

	if (s->busy)
		return;
	choose(m, r);
	if (is_writer(r) && !is_free(m, r))
		return;
	s->model = m;
	r->buf = r->op == REQUEST_READ || r->op == REQUEST_WRITE ? s->buf : NULL;
	r->extents = s->extents;
	r->extent_max = 1 + (unsigned)rng_below(m->rng, MODEL_EXTENTS);
	r->done = done;
	r->client = &m->clients[rng_below(m->rng, MODEL_CLIENTS)];
	s->withdrawn = false;
	for (uint64_t i = 0; i < r->length; i++) {
		s->buf[i] = s->sent[i] = (uint8_t)rng_next(m->rng);
		s->unsure[i] = m->changing[r->offset + i];
	}
	if (is_writer(r)) {
		warn_readers(m, r);
		memset(m->changing + r->offset, true, r->length);
	}
	s->busy = true;
	m->busy++;
	m->requests++;
	vbd_submit(m->vbd, r);
}

void model_vanish(struct model *m)
{
	const struct vbd_client *client = &m->clients[rng_below(m->rng, MODEL_CLIENTS)];

	for (unsigned i = 0; i < MODEL_SLOTS; i++) {
		struct model_slot *s = &m->slots[i];
		const struct request *r = &s->req;

		if (!s->busy || s->withdrawn || r->client != client)
			continue;
		s->withdrawn = true;
		m->withdrawn++;
		m->gone++;
		if (!is_writer(r))
			continue;
		memset(m->changing + r->offset, false, r->length);
		memset(m->unknown + r->offset, true, r->length);
	}
	vbd_withdraw(m->vbd, client);
}
