/* map-shape.c - the final shape of the file, at close, pause and snapshot
 *
 *   IDLE ─quiesce, nothing dirty─► SCAN ──► WRITE ──► SYNC1 ──► CUT ──► SYNC2 ──► IDLE
 *                                  BAT, if  batmap,             batmap
 *                                  blocks   footer              header,
 *                                  were     at their            file end
 *                                  freed    places
 *
 * On a full disk the batmap may have no storage, nor the footer at its new place: then both stay as
 * they are, and the file as long as it is.
 * A crash leaves a footer behind the last block and maybe another one further
 * on; either batmap whole, or one whose checksum fails.
 */
#include "map-private.h"

#include <errno.h>
#include <stdlib.h>

#include "base/endian.h"
#include "base/number.h"

#define SCAN_BYTES (64u << 10)

/* Is the end of the last block unknown? */
static bool must_scan(const struct vhd_map *map)
{
	return map->freed.any && !map->p.device;
}

static void find_end(struct vhd_map *map)
{
	struct map_space *s = &map->space;
	struct map_shape *sh = &map->shape;

	if (sh->table && sh->scanned == UINT64_MAX) { /* read to its end */
		s->end_of_data = number_max(sh->found, table_fresh_end(map));
		s->end_of_data = number_max(s->end_of_data, map->p.data_start);
		s->end_of_data = number_max(s->end_of_data, map->p.metadata_end);
		/* ORDER 10: nor does space come back by growing before lookups let it go */
		sh->held = freed_end(map) > s->end_of_data;
		s->end_of_data = number_max(s->end_of_data, freed_end(map));
	}
	free(sh->table);
	sh->table = NULL;
	sh->end = number_round_up(number_max(s->end_of_data, s->keep), VHD_SECTOR);
	if (map->p.device || (!s->taken && !map->freed.any && s->footer == map->p.footer_offset))
		sh->end = s->footer;
}

static void begin_writing(struct vhd_map *map)
{
	full_render(map);
	find_end(map);
	map->shape.step = 0;
	map->shape.cut = CUT_NO;
	map->shape.plain = false;
	map->commit.stage = SHAPE_WRITE;
}

/* Something of WRITE failed, which nothing depends on. */
static void do_without(struct vhd_map *map)
{
	map->commit.err = 0;
	map->batmap.dirty = false; /* the one on disk knows less, and nothing wrong */
	map->shape.end = map->space.footer;
	map->shape.step = 0;
	map->shape.plain = true;
}

bool shape_begin(struct vhd_map *map)
{
	struct map_shape *sh = &map->shape;

	if (!space_rests(map) || !freed_rests(map) || map->resize.state != RESIZE_IDLE)
		return false;
	for (uint32_t i = 0; i < MAP_SLOTS; i++)
		if (map->slots[i].kind == SLOT_EARLY)
			return false;
	map->commit.err = 0;
	sh->scanned = sh->found = 0;
	sh->held = false;
	if (must_scan(map))
		sh->table = aligned_alloc(VHD_ALIGN, SCAN_BYTES);
	if (sh->table) /* no memory: the file keeps its length */
		map->commit.stage = SHAPE_SCAN;
	else
		begin_writing(map);
	return true;
}

static uint64_t table_bytes(const struct vhd_map *map)
{
	return number_round_up((uint64_t)map->p.max_entries * 4, VHD_SECTOR);
}

/* Read the BAT piece by piece; all that was freed is in it, nothing is dirty. */
static bool scan_next(struct vhd_map *map, struct map_io *io)
{
	struct map_shape *sh = &map->shape;
	uint64_t left = table_bytes(map) - sh->scanned;

	if (map->commit.flying || !map_take_slot(map, SLOT_COMMIT_STEP, sh, io))
		return false;
	io->op = MAP_READ;
	io->offset = map->p.bat_offset + sh->scanned;
	io->length = number_min(left, SCAN_BYTES);
	io->buf = sh->table;
	map->commit.flying++;
	return true;
}

void shape_scanned(struct vhd_map *map, int err)
{
	struct map_shape *sh = &map->shape;
	uint64_t first = sh->scanned / 4;
	uint64_t bytes = number_min(table_bytes(map) - sh->scanned, SCAN_BYTES);
	uint64_t limit = number_max(map->p.data_end, map->space.end_of_data);

	map->commit.flying--;
	if (err) { /* then the file keeps its length */
		begin_writing(map);
		return;
	}
	for (uint64_t i = 0; i < bytes / 4 && first + i < map->p.max_entries; i++) {
		uint64_t entry = be32_load(sh->table + i * 4);
		uint64_t end = (entry + map->stride) * VHD_SECTOR;

		if (entry != VHD_BAT_UNUSED && end <= limit)
			sh->found = number_max(sh->found, end);
	}
	sh->scanned += bytes;
	if (sh->scanned < table_bytes(map))
		return;
	sh->scanned = UINT64_MAX;
	begin_writing(map);
}

/* A growth or cut that failed may have left the file longer, with a footer at its end that nobody
 * keeps like the others. */
static bool must_cut(const struct vhd_map *map)
{
	return map->shape.end != map->space.footer || map->space.stale > map->shape.end;
}

static bool footers_change(const struct vhd_map *map)
{
	return must_cut(map) || map->resize.doubt;
}

static bool write_next(struct vhd_map *map, struct map_io *io)
{
	struct map_shape *sh = &map->shape;

	for (; sh->step < 2; sh->step++) {
		bool offered;

		if (sh->step == 1 ? !map->batmap.dirty : !footers_change(map))
			continue;
		/* a batmap over itself only where the rest has its room: its header must follow */
		if (sh->step == 1 && map->commit.flying && full_target(map) == map->p.batmap_offset)
			return false;
		if (sh->step == 1)
			offered = commit_offer(map, io, MAP_WRITE, full_target(map),
					       map->p.batmap_bytes, map->batmap.image);
		else /* ORDER 7: the footer first, the cut after a sync */
			offered = commit_offer(map, io, MAP_WRITE, sh->end, VHD_FOOTER_BYTES,
					       map->space.footer_buf);
		if (offered)
			io->once = !sh->plain;
		sh->step += offered;
		return offered;
	}
	return false;
}

static bool cut_next(struct vhd_map *map, struct map_io *io)
{
	struct map_shape *sh = &map->shape;

	for (; sh->step < 5; sh->step++) {
		bool needed[] = { map->batmap.dirty, map->resize.doubt, must_cut(map) };
		bool offered;

		if (!needed[sh->step - 2])
			continue;
		if (sh->step == 2) {
			full_render_header(map, false);
			offered = commit_offer(map, io, MAP_WRITE, map->p.batmap_header_offset,
					       VHD_BATMAP_HEADER_BYTES, map->p.batmap_header);
		} else if (sh->step == 3) { /* ORDER 13: the one at the end is durable */
			offered = commit_offer(map, io, MAP_WRITE, 0, VHD_FOOTER_BYTES,
					       map->space.footer_buf);
		} else {
			offered = map_take_slot(map, SLOT_COMMIT_STEP, &sh->cut, io) != NULL;
			if (offered) {
				sh->cut = CUT_FLYING;
				io->op = MAP_TRUNCATE;
				io->offset = sh->end + VHD_FOOTER_BYTES;
				map->commit.flying++;
			}
		}
		sh->step += offered;
		return offered;
	}
	return false;
}

static void finish(struct vhd_map *map)
{
	struct map_commit *c = &map->commit;

	c->stage = COMMIT_IDLE;
	commit_shrink(map); /* often nothing is written for long, or ever again */
	if (!c->err) {
		if (map->batmap.dirty)
			full_stored(map, false);
		map->resize.doubt = false;
		if (map->shape.scanned == UINT64_MAX && !map->shape.plain)
			map->freed.any = map->shape.held;
	}
	/* from the cut on the footer in force is the new one, whatever failed after it */
	if (map->shape.cut != CUT_NO)
		space_reset(map, map->shape.end, map->shape.cut == CUT_DONE);
	commit_answer(map, &c->quiesce, c->err);
	map_arrived(map, map_ticket(WAIT_COMMIT, 0), 0);
}

bool shape_next(struct vhd_map *map, struct map_io *io)
{
	struct map_commit *c = &map->commit;

	if (c->stage == SHAPE_SCAN)
		return scan_next(map, io);
	if (c->stage == SHAPE_WRITE) {
		if (c->err && !c->flying && !map->shape.plain)
			do_without(map);
		if (!c->err && write_next(map, io))
			return true;
		if (c->flying || (!c->err && map->shape.step < 2))
			return false;
		if (!c->err && (map->batmap.dirty || footers_change(map)))
			return commit_offer_sync(map, io, SHAPE_SYNC1);
		finish(map);
		return false;
	}
	if (c->flying)
		return c->stage == SHAPE_CUT && !c->err && cut_next(map, io);
	if (c->stage == SHAPE_SYNC1)
		c->stage = SHAPE_CUT;
	if (c->stage == SHAPE_CUT) {
		if (!c->err && cut_next(map, io))
			return true;
		if (!c->err && map->shape.step < 5)
			return false;
		if (!c->err)
			return commit_offer_sync(map, io, SHAPE_SYNC2);
	}
	finish(map);
	return false;
}

void map_set_footer(struct vhd_map *map, const uint8_t footer[VHD_FOOTER_BYTES], bool written)
{
	memcpy(map->space.footer_buf, footer, sizeof(map->space.footer_buf));
	map->resize.doubt = !written;
}

void shape_release(struct vhd_map *map)
{
	free(map->shape.table);
}
