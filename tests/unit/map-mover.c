/* map-mover.c - blocks that are given other places
 *
 * A move is asked for, waits, is copied, synced and told, each at another step; any of it may
 * fail, and any other thing happen in between.  Places: the map's, or, in worlds where the map uses
 * nothing twice, one that an earlier move or free has left and that nothing names any more.
 */
#include <errno.h>
#include <string.h>

#include "libvhd/base/number.h"
#include "map-world.h"

static void move_ready(struct map_req *req)
{
	((struct mover *)req)->ready = true;
}

static bool is_home(uint64_t from, uint64_t to)
{
	uint32_t stride = bitmap_stride(w.p.block_sectors);

	for (uint64_t b = 0; b < block_count(w.virt); b++)
		if (w.home[b] && w.home[b] + stride > from && w.home[b] < to)
			return true;
	for (unsigned i = 0; i < MOVERS; i++)
		if (w.mover[i].phase && w.mover[i].place + stride > from && w.mover[i].place < to)
			return true;
	return false;
}

/* A place that was used, and is free for sure; 0: none is known. */
static uint64_t vacant(void)
{
	uint32_t stride = bitmap_stride(w.p.block_sectors);

	if (!map_idle(w.map) || map_dirty(w.map))
		return 0;
	for (uint64_t s = w.p.data_start / 512 + rnd(map_end_of_data(w.map) / 512);
	     s < FILE_SECTORS; s++)
		if (w.used_once[s] && (s + stride) * 512 <= map_end_of_data(w.map) &&
		    !is_home(s, s + stride) && reader_is_unnamed(s, s + stride))
			return s * 512;
	return 0;
}

static void try_move(struct mover *m, bool vacant_known)
{
	uint64_t block = m->req.sector / w.p.block_sectors, from, place;
	uint64_t to = vacant_known ? vacant() : 0;
	uint32_t home = w.home[block];
	int rc;

	m->ready = false;
	m->req.ready = move_ready;
	rc = map_move(w.map, &m->req, to, &from, &place);
	if (rc == -EAGAIN)
		return;
	if (rc == 0 || (rc == -ENOSPC && w.p.device)) {
		EXPECT(rc < 0 || !w.visible[block], "block %llu is there, and not moved",
		       FMT(block));
		m->used = false;
		return;
	}
	EXPECT(rc == 1, "map_move: %d", rc);
	EXPECT(from == home * 512ull, "block %llu moves from %llu, it is at %u", FMT(block),
	       FMT(from), home);
	EXPECT(!to || place == to, "another place than asked for");
	if (!to)
		reader_new_position(block, (uint32_t)(place / 512));
	w.home[block] = home;
	m->phase = MOVE_HELD;
	m->from = from / 512;
	m->place = place / 512;
	m->losses = w.losses;
}

void guest_move(void)
{
	struct mover *m = &w.mover[rnd(MOVERS)];
	bool vacant_known = false;

	if (m->used || w.quiescing)
		return;
	if (w.p.no_reuse && rnd(2)) { /* only then is a place free for sure */
		while (guest_reads())
			guest_leave();
		guest_flush(false);
		world_settle();
		vacant_known = true;
	}
	memset(m, 0, sizeof(*m));
	m->used = true;
	m->req.sector = rnd(w.virt);
	try_move(m, vacant_known);
}

static void copy(const struct mover *m)
{
	uint32_t bitmap = bitmap_sectors(w.p.block_sectors);

	for (uint64_t k = 0; k < w.p.block_sectors; k++) {
		uint8_t sector[512];

		memcpy(sector, cut_now(&w.disk, m->from + bitmap + k), 512);
		world_store(m->place + bitmap + k, sector);
	}
}

static void end(struct mover *m)
{
	m->used = false;
	m->phase = MOVE_NONE;
}

static void told(struct mover *m)
{
	int rc = map_moved(w.map, &m->req);

	EXPECT(rc == (m->losses == w.losses ? 0 : -EIO), "map_moved: %d", rc);
	if (!rc)
		w.home[m->req.sector / w.p.block_sectors] = (uint32_t)m->place;
	w.any_freed = true;
	end(m);
}

static void step(struct mover *m)
{
	if (m->phase == MOVE_HELD && rnd(20) == 0) {
		map_move_cancel(w.map, &m->req, 0);
		w.any_freed = true;
		end(m);
	} else if (m->phase == MOVE_HELD) {
		copy(m);
		m->phase = MOVE_COPIED;
	} else if (m->phase == MOVE_COPIED && rnd(1000) < w.faults) {
		cut_sync_failed(&w.disk, w.serial++);
		guest_sync_failed();
		map_move_cancel(w.map, &m->req, -EIO);
		w.any_freed = true;
		end(m);
	} else if (m->phase == MOVE_COPIED) {
		cut_sync(&w.disk, w.serial++);
		m->phase = MOVE_SYNCED;
	} else {
		told(m);
	}
}

void guest_move_on(void)
{
	for (unsigned i = 0; i < MOVERS; i++) {
		struct mover *m = &w.mover[i];

		if (m->ready) {
			EXPECT(!m->req.err || w.faulty, "move: %d", m->req.err);
			try_move(m, false);
		} else if (m->phase && rnd(6) == 0) {
			step(m);
		}
	}
}

bool guest_moves(void)
{
	bool any = false;

	for (unsigned i = 0; i < MOVERS; i++)
		any |= w.mover[i].used;
	return any;
}
