/* map-guest.c - what the map is asked for, and what must come of it */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "libvhd/base/endian.h"
#include "libvhd/base/number.h"
#include "map-world.h"

static uint64_t new_event(bool is_free, uint64_t first, uint64_t count)
{
	if (w.events + 1 >= EVENTS)
		return 0;
	w.event[++w.events] = (struct event){ is_free, first, count };
	return w.events;
}

/* ── writes ── */

static void write_ready(struct map_req *req)
{
	struct flight *f = (struct flight *)((char *)req - offsetof(struct flight, req));

	f->n = -1; /* try again from the main loop: it may not be done in here */
}

static void not_busy(uint64_t from, uint64_t to)
{
	for (uint64_t s = from; s < to; s++)
		w.busy[s] = false;
}

static void note_positions(const struct flight *f)
{
	for (int i = 0; i < f->n; i++)
		for (uint64_t k = 0; k < f->ext[i].count; k++) {
			uint64_t s = f->ext[i].sector + k;
			uint64_t data = f->ext[i].file_sector + k - s % w.p.block_sectors;

			reader_new_position(s / w.p.block_sectors,
					    (uint32_t)(data - bitmap_sectors(w.p.block_sectors)));
		}
}

static void try_write(struct flight *f)
{
	uint64_t end = f->req.sector + f->req.count;
	int n;

	f->n = 0;
	f->req.ready = write_ready;
	n = map_write(w.map, &f->req, f->ext, EXTENTS);
	if (n == MAP_WAIT)
		return;
	if (n == -ENOSPC && w.p.device) {
		not_busy(f->req.sector, end);
		f->kind = FLIGHT_NONE;
		return;
	}
	EXPECT(n > 0, "map_write: %d", n);
	f->n = n;
	note_positions(f);
	not_busy(f->req.sector + f->req.count, end); /* the rest was not taken */
}

void guest_write(void)
{
	struct flight *f = world_flight();
	uint64_t first = rnd(w.virt), count = 1 + rnd(rnd(4) ? 8 : 100);

	if (!f || w.events + 200 >= EVENTS || w.quiescing)
		return;
	count = number_min(count, w.virt - first);
	for (uint64_t s = first; s < first + count; s++)
		if (w.busy[s])
			return;
	memset(f, 0, sizeof(*f));
	f->kind = FLIGHT_DATA;
	for (uint64_t s = first; s < first + count; s++)
		w.busy[s] = true;
	f->req.sector = first;
	f->req.count = count;
	try_write(f);
}

void guest_data_done(struct flight *f)
{
	uint8_t sector[512] = { 0 };
	uint64_t g;

	if (rnd(1000) < w.faults && !f->failed_once) {
		f->failed_once = true; /* written again later */
		return;
	}
	g = new_event(false, f->req.sector, f->req.count);
	be64_store(sector, g);
	for (int i = 0; i < f->n; i++)
		for (uint64_t k = 0; k < f->ext[i].count; k++)
			world_store(f->ext[i].file_sector + k, sector);
	for (uint64_t s = f->req.sector; s < f->req.sector + f->req.count; s++) {
		w.written[s] = g;
		w.visible[s / w.p.block_sectors] = true;
	}
	not_busy(f->req.sector, f->req.sector + f->req.count);
	map_written(w.map, &f->req);
	f->kind = FLIGHT_NONE;
}

bool guest_writes(void)
{
	for (unsigned i = 0; i < INFLIGHT; i++)
		if (w.flight[i].kind == FLIGHT_DATA)
			return true;
	return false;
}

/* ── frees ── */

static void free_ready(struct map_req *req)
{
	((struct freer *)req)->ready = true;
}

/* [first, end) sectors of whole blocks were freed; how many had been there? */
static int freed(uint64_t first, uint64_t end)
{
	uint64_t size = w.p.block_sectors, g;
	int n = 0;

	first = number_round_up(first, size);
	end = end == w.virt ? end : number_round_down(end, size);
	if (first >= end)
		return 0;
	g = new_event(true, first, end - first);
	for (uint64_t b = first / size; b * size < end; b++) {
		if (!w.visible[b])
			continue;
		n++;
		w.visible[b] = false;
		w.home[b] = 0;
		w.any_freed = true;
		for (uint64_t s = b * size; s < number_min((b + 1) * size, end); s++)
			w.written[s] = w.last_free[s] = g;
	}
	return n;
}

static void try_free(struct freer *f)
{
	uint64_t first = f->req.sector, end = first + f->req.count;
	int rc, n;

	f->ready = false;
	f->req.ready = free_ready;
	rc = map_free(w.map, &f->req);
	if (rc == -EAGAIN) {
		EXPECT(f->req.sector + f->req.count == end, "another range to wait for");
		freed(first, f->req.sector);
		return;
	}
	n = freed(first, end);
	EXPECT(rc == n, "map_free: %d, there were %d", rc, n);
	f->used = false;
}

void guest_free(void)
{
	struct freer *f = &w.freer[rnd(FREES)];

	if (f->used || w.p.has_parent || w.events + 200 >= EVENTS || w.quiescing)
		return;
	memset(f, 0, sizeof(*f));
	f->used = true;
	f->req.sector = rnd(w.virt);
	f->req.count = 1 + rnd(rnd(2) ? w.p.block_sectors * 3 : w.virt);
	if (rnd(6) == 0)
		f->req = (struct map_req){ .sector = 0, .count = w.virt };
	f->req.count = number_min(f->req.count, w.virt - f->req.sector);
	try_free(f);
}

void guest_retry(void)
{
	guest_move_on();
	for (unsigned i = 0; i < FREES; i++)
		if (w.freer[i].used && w.freer[i].ready) {
			EXPECT(!w.freer[i].req.err || w.faulty, "free: %d", w.freer[i].req.err);
			try_free(&w.freer[i]);
		}
	for (unsigned i = 0; i < INFLIGHT; i++) {
		struct flight *f = &w.flight[i];

		if (f->kind != FLIGHT_DATA || f->n != -1)
			continue;
		if (f->req.err && rnd(4) == 0) { /* give up: it was never begun */
			not_busy(f->req.sector, f->req.sector + f->req.count);
			f->kind = FLIGHT_NONE;
			continue;
		}
		try_write(f);
	}
}

bool guest_waits(void)
{
	bool waits = w.resize_to != 0;

	for (unsigned i = 0; i < INFLIGHT; i++)
		waits |= w.flight[i].kind != FLIGHT_NONE;
	for (unsigned i = 0; i < FLUSHES; i++)
		waits |= w.flush[i].used;
	for (unsigned i = 0; i < FREES; i++)
		waits |= w.freer[i].used;
	return waits || guest_moves();
}

/* ── flushes ── */

static void flush_ready(struct map_req *req)
{
	struct flush *f = (struct flush *)req;

	f->used = false;
	if (f->quiesce)
		w.quiescing = false;
	if (req->err) {
		EXPECT(w.faulty, "flush failed: %d", req->err);
		return;
	}
	EXPECT(!f->must_fail, "a flush was answered although a sync had failed");
	for (uint64_t s = 0; s < VIRT_MAX; s++) {
		uint64_t g = f->want[s];

		if (!w.event[g].is_free && g <= w.doubt[s]) /* ORDER 5: not vouched for */
			continue;
		w.flushed[s] = number_max(w.flushed[s], g);
	}
	if (f->quiesce)
		reader_shape();
}

void guest_flush(bool quiesce)
{
	for (unsigned i = 0; i < FLUSHES; i++) {
		struct flush *f = &w.flush[i];

		if (f->used)
			continue;
		memset(&f->req, 0, sizeof(f->req));
		f->used = true;
		f->quiesce = quiesce;
		f->must_fail = w.unheard;
		w.unheard = false;
		f->req.ready = flush_ready;
		memcpy(f->want, w.written, sizeof(f->want));
		if (quiesce) {
			w.quiescing = true;
			w.read_at_quiesce = false;
			for (unsigned k = 0; k < READERS; k++)
				w.read_at_quiesce |= w.reader[k].used;
			map_quiesce(w.map, &f->req);
		} else {
			map_flush(w.map, &f->req);
		}
		return;
	}
}

/* What was written and is not known to be durable may be lost; a flush must say so. */
void guest_sync_failed(void)
{
	bool any = false, heard = false;

	for (uint64_t s = 0; s < VIRT_MAX; s++)
		if (w.written[s] > w.flushed[s] && !w.event[w.written[s]].is_free) {
			w.doubt[s] = w.written[s];
			any = true;
		}
	for (unsigned i = 0; i < FLUSHES; i++) {
		w.flush[i].must_fail |= w.flush[i].used;
		heard |= w.flush[i].used;
	}
	w.unheard |= any && !heard;
	w.losses++;
}

/* ── lookups ── */

static void compare(const struct map_ext *ext, int n)
{
	for (int i = 0; i < n; i++)
		for (uint64_t k = 0; k < ext[i].count; k++) {
			uint64_t s = ext[i].sector + k, g = 0, want = w.written[s];

			if (ext[i].kind == EXT_HERE)
				g = be64_load(cut_now(&w.disk, ext[i].file_sector + k));
			EXPECT(ext[i].kind != (w.p.has_parent ? EXT_ZERO : EXT_BELOW),
			       "wrong kind of absence");
			if (w.event[want].is_free)
				want = 0;
			EXPECT(w.busy[s] || g == want, "sector %llu reads %llu, should be %llu",
			       FMT(s), FMT(g), FMT(want));
		}
}

void guest_lookup(void)
{
	uint64_t sector = rnd(w.virt), count = number_min(1 + rnd(64), w.virt - sector);
	struct map_ext ext[16];
	int n = map_lookup(w.map, sector, count, ext, 16);

	EXPECT(n >= 0, "lookup: %d", n);
	compare(ext, n);
}

bool guest_reads(void)
{
	for (unsigned i = 0; i < READERS; i++)
		if (w.reader[i].used)
			return true;
	return false;
}

void guest_enter(void)
{
	struct reader *r = &w.reader[rnd(READERS)];
	uint64_t sector = rnd(w.virt), count = number_min(1 + rnd(200), w.virt - sector);

	if (r->used || w.quiescing)
		return;
	r->used = true;
	map_enter(w.map, &r->slot);
	r->n = map_lookup(w.map, sector, count, r->ext, EXTENTS);
}

/* What it read meanwhile is from its own block, or zero if that was freed. */
void guest_leave(void)
{
	struct reader *r = &w.reader[rnd(READERS)];

	if (!r->used)
		return;
	for (int i = 0; i < r->n; i++)
		for (uint64_t k = 0; r->ext[i].kind == EXT_HERE && k < r->ext[i].count; k++) {
			uint64_t g = be64_load(cut_now(&w.disk, r->ext[i].file_sector + k));
			uint64_t s = r->ext[i].sector + k;

			EXPECT(!g || (g <= w.events && s >= w.event[g].first &&
				      s < w.event[g].first + w.event[g].count),
			       "a reader of sector %llu sees %llu of another", FMT(s), FMT(g));
		}
	map_leave(w.map, r->slot);
	r->used = false;
}

static void want_ready(struct map_req *req)
{
	req->ready = NULL;
}

void guest_want(void)
{
	static struct map_req req;

	if (req.ready) /* one at a time */
		return;
	memset(&req, 0, sizeof(req));
	req.sector = rnd(w.virt);
	req.ready = want_ready;
	map_want(w.map, &req);
	while (req.ready) { /* alone: the other requests stay in flight */
		world_pump();
		world_complete();
		if (rnd(30) == 0)
			map_forget(w.map);
	}
}

/* ── growth of the disk ── */

static void resize_ready(struct map_req *req)
{
	uint64_t to = w.resize_to;

	w.resize_to = 0;
	if (req->err) {
		EXPECT(w.faulty, "resize: %d", req->err);
		return;
	}
	w.virt = to;
	reader_footers(to);
}

void guest_resize(void)
{
	uint64_t most = number_min(VIRT_MAX, (uint64_t)w.p.max_entries * w.p.block_sectors);
	uint64_t to = w.virt + rnd(rnd(2) ? 20 : 400);
	uint8_t footer[512];
	int rc;

	world_footer(footer, to);
	memset(&w.resize, 0, sizeof(w.resize));
	w.resize.ready = resize_ready;
	rc = map_resize(w.map, &w.resize, w.virt - 1, footer);
	EXPECT(rc == -VHD_E_ARGUMENT, "made smaller: %d", rc);
	rc = map_resize(w.map, &w.resize, (uint64_t)w.p.max_entries * w.p.block_sectors + 1,
			footer);
	EXPECT(rc == -VHD_E_TOO_BIG, "made larger than the table: %d", rc);
	if (w.quiescing || to > most)
		return;
	rc = map_resize(w.map, &w.resize, to, footer);
	EXPECT(rc == 0, "map_resize: %d", rc);
	w.resize_to = to;
}
