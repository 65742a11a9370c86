/* map-commit.c - making metadata durable
 *
 *   IDLE ─freeze─► FRESH ──► SYNC1 ──► META ──► SYNC2 ──► IDLE
 *                 bitmaps    data +    BAT, bitmaps   acknowledge
 *                 of new     bitmaps   of existing
 *                 blocks               blocks
 *
 *   IDLE (quiesce, nothing dirty) ─► SHAPE_WRITE ─► SYNC1 ─► CUT ─► SYNC2 ─► IDLE
 *                                    batmap, footer         batmap header,
 *                                    at their places        file end
 *
 * Freezing copies the bits of dirty blocks into an arena: what is written
 * later into the same blocks belongs to the next commit (ORDER 1).  BAT
 * sectors are written from the pages, which change only here.  After a failure
 * everything frozen is dirty again (ORDER 4, 5).
 * A crash before META leaves blocks that no entry names; during META, old or
 * new sectors, each right; nothing of either was acknowledged.
 */
#include "map-private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "base/number.h"

#define BAT_SECTOR_ENTRIES (VHD_SECTOR / 4)

void commit_mark(struct vhd_map *map, struct map_block *b)
{
	if (b->dirty)
		return;
	b->dirty = true;
	list_remove(&b->link);
	list_append(&map->dirty, &b->link);
	map->dirty_count++;
}

/* ORDER 9: the bitmap's place gets its storage beside the first data.  Not for
 * a partial last block, whose bitmap differs. */
void commit_early(struct vhd_map *map, struct map_block *b)
{
	if (!map->early_page || table_sectors(map, b->block) < map->p.block_sectors)
		return;
	b->early = EARLY_QUEUED;
	list_append(&map->early, &b->early_link);
}

static bool early_next(struct vhd_map *map, struct map_io *io)
{
	struct map_block *b;

	if (list_empty(&map->early))
		return false;
	b = list_entry(map->early.next, struct map_block, early_link);
	if (!map_take_slot(map, SLOT_EARLY, b, io))
		return false;
	list_remove(&b->early_link);
	b->early = EARLY_FLYING;
	io->op = MAP_WRITE;
	io->length = map->page_bytes;
	io->offset = ((uint64_t)b->entry + map->bitmap_sectors) * VHD_SECTOR - map->page_bytes;
	io->buf = map->early_page;
	return true;
}

static int block_order(const void *a, const void *b)
{
	uint32_t x = (*(struct map_block *const *)a)->block;
	uint32_t y = (*(struct map_block *const *)b)->block;

	return x < y ? -1 : x > y;
}

static bool commit_room(struct vhd_map *map)
{
	struct map_commit *c = &map->commit;
	size_t bytes = map->dirty_count * map->bitmap_bytes;

	if (map->dirty_count > c->room) {
		void *list = realloc(c->list, map->dirty_count * sizeof(struct map_block *));

		if (!list)
			return false;
		map->memory += (map->dirty_count - c->room) * sizeof(struct map_block *);
		c->list = list;
		c->room = map->dirty_count;
	}
	if (bytes > c->arena_bytes) {
		uint8_t *arena = aligned_alloc(VHD_ALIGN, number_round_up(bytes, VHD_ALIGN));

		if (!arena)
			return false;
		free(c->arena);
		map->memory += bytes - c->arena_bytes;
		c->arena = arena;
		c->arena_bytes = bytes;
	}
	return true;
}

static void answer_all(struct vhd_map *map, struct map_req **list, int err)
{
	struct map_req *req = *list, *next;

	*list = NULL;
	for (; req; req = next) {
		next = req->next;
		map_answer(map, req, err);
	}
}

/* ORDER 1: from here on the commit is what was written() until now. */
static void freeze(struct vhd_map *map)
{
	struct map_commit *c = &map->commit;
	struct list *l;

	c->failed = false;
	if (!commit_room(map)) {
		answer_all(map, &c->flushes, -ENOMEM);
		answer_all(map, &c->quiesce, -ENOMEM);
		c->failed = true;
		return;
	}
	c->covered = c->flushes; /* ORDER 3 */
	c->flushes = NULL;
	c->count = 0;
	while ((l = list_pop(&map->dirty))) {
		struct map_block *b = list_entry(l, struct map_block, link);

		b->dirty = false;
		b->frozen = true;
		if (b->early == EARLY_QUEUED) {
			list_remove(&b->early_link);
			b->early = EARLY_NONE;
		}
		c->list[c->count++] = b;
	}
	map->dirty_count = 0;
	if (c->count > 1)
		qsort(c->list, c->count, sizeof(struct map_block *), block_order);
	for (size_t i = 0; i < c->count; i++)
		memcpy(c->arena + i * map->bitmap_bytes, c->list[i]->bits, map->bitmap_bytes);
	c->err = 0;
	c->cursor = 0;
	c->stage = COMMIT_FRESH;
}

static bool offer_bitmap(struct vhd_map *map, size_t i, struct map_io *io)
{
	struct map_commit *c = &map->commit;

	if (!map_take_slot(map, SLOT_COMMIT, NULL, io))
		return false;
	io->op = MAP_WRITE;
	io->offset = (uint64_t)c->list[i]->entry * VHD_SECTOR;
	io->length = map->bitmap_bytes;
	io->buf = c->arena + i * map->bitmap_bytes;
	c->flying++;
	c->cursor++;
	return true;
}

/* Bitmaps of new blocks.  A bitmap page under way from reserving must land
 * first; one of an image without parent then already says all. */
static bool fresh_next(struct vhd_map *map, struct map_io *io)
{
	struct map_commit *c = &map->commit;

	for (; c->cursor < c->count && !c->err; c->cursor++) {
		struct map_block *b = c->list[c->cursor];

		if (!b->fresh)
			continue;
		if (b->early == EARLY_FLYING)
			return false;
		if (b->early == EARLY_DONE && !map->p.has_parent)
			continue;
		return offer_bitmap(map, c->cursor, io);
	}
	return false;
}

static bool fresh_waits(const struct vhd_map *map)
{
	const struct map_commit *c = &map->commit;

	return c->flying || (!c->err && c->cursor < c->count);
}

static bool any_fresh(const struct vhd_map *map)
{
	for (size_t i = 0; i < map->commit.count; i++)
		if (map->commit.list[i]->fresh)
			return true;
	return false;
}

/* The frozen entries become part of their pages; the records keep winning
 * until the commit is done (M1). */
static void render_pages(struct vhd_map *map)
{
	struct map_commit *c = &map->commit;

	for (size_t i = 0; i < c->count; i++) {
		struct map_block *b = c->list[i];

		if (b->fresh)
			be32_store(table_page(map, b->block)->raw +
					   (size_t)(b->block % MAP_PAGE_ENTRIES) * 4,
				   b->entry);
	}
}

/* One write for the changed sectors of one page of the BAT, from cursor on. */
static bool offer_page(struct vhd_map *map, struct map_io *io)
{
	struct map_commit *c = &map->commit;
	uint32_t index = c->list[c->cursor]->block / MAP_PAGE_ENTRIES;
	uint64_t first = c->list[c->cursor]->block / BAT_SECTOR_ENTRIES, last = first;
	size_t i = c->cursor;

	if (!map_take_slot(map, SLOT_COMMIT, NULL, io))
		return false;
	for (; i < c->count && c->list[i]->block / MAP_PAGE_ENTRIES == index; i++)
		if (c->list[i]->fresh)
			last = c->list[i]->block / BAT_SECTOR_ENTRIES;
	io->op = MAP_WRITE;
	io->offset = map->p.bat_offset + first * VHD_SECTOR;
	io->length = (last - first + 1) * VHD_SECTOR;
	io->buf = map->pages[index]->raw + first * VHD_SECTOR % MAP_PAGE_BYTES;
	c->cursor = i;
	c->flying++;
	return true;
}

/* Twice through the list: pages of new blocks, then bitmaps of existing ones. */
static bool meta_next(struct vhd_map *map, struct map_io *io)
{
	struct map_commit *c = &map->commit;

	for (; c->cursor < c->count && !c->err; c->cursor++)
		if (c->list[c->cursor]->fresh)
			return offer_page(map, io);
	for (; c->cursor < 2 * c->count && !c->err; c->cursor++) {
		size_t i = c->cursor - c->count;

		if (!c->list[i]->fresh)
			return offer_bitmap(map, i, io);
	}
	return false;
}

static void finish(struct vhd_map *map)
{
	struct map_commit *c = &map->commit;

	c->stage = COMMIT_IDLE;
	c->failed = c->err != 0;
	for (size_t i = 0; i < c->count; i++) {
		struct map_block *b = c->list[i];

		b->frozen = false;
		if (c->err) { /* ORDER 4: nothing is rolled back, all is written again */
			commit_mark(map, b);
			continue;
		}
		if (b->fresh) {
			b->fresh = false;
			table_unpin(map, table_page(map, b->block));
		}
		table_settle(map, b);
	}
	c->count = 0;
	answer_all(map, &c->covered, c->err);
	if (c->err)
		answer_all(map, &c->quiesce, c->err);
}

static bool offer_sync(struct vhd_map *map, struct map_io *io, enum commit_stage stage)
{
	struct map_commit *c = &map->commit;

	if (!map_take_slot(map, SLOT_COMMIT_STEP, NULL, io))
		return false;
	io->op = MAP_SYNC;
	c->stage = stage;
	c->flying = 1;
	c->data_outstanding = false;
	return true;
}

/* ── the final shape ── */

/* The map as it is now true on disk: full blocks, but never a partial last one. */
static void batmap_render(struct vhd_map *map)
{
	struct map_commit *c = &map->commit;

	c->batmap_dirty = false;
	if (!map->disk_batmap || !map->known_full)
		return;
	memcpy(c->batmap_buf, map->disk_batmap, map->p.batmap_bytes);
	for (uint64_t i = 0; i < number_div_up(map->blocks, 8); i++)
		c->batmap_buf[i] |= map->known_full[i];
	c->batmap_dirty = map->p.batmap_stale ||
			  memcmp(c->batmap_buf, map->disk_batmap, map->p.batmap_bytes) != 0;
}

static bool shape_begin(struct vhd_map *map)
{
	struct map_commit *c = &map->commit;
	const struct map_space *s = &map->space;

	if (s->flying || (s->state != SPACE_UNKNOWN && s->state != SPACE_READY))
		return false;
	for (uint32_t i = 0; i < MAP_SLOTS; i++)
		if (map->slots[i].kind == SLOT_EARLY)
			return false;
	batmap_render(map);
	c->shape_end = number_round_up(number_max(s->end_of_data, s->keep), VHD_SECTOR);
	if (map->p.device || (!s->taken && s->footer == map->p.footer_offset))
		c->shape_end = s->footer;
	c->shape_step = 0;
	c->cut = CUT_NO;
	c->err = 0;
	c->stage = SHAPE_WRITE;
	return true;
}

static void write_op(struct map_io *io, uint64_t offset, uint64_t length, void *buf)
{
	io->op = MAP_WRITE;
	io->offset = offset;
	io->length = length;
	io->buf = buf;
}

/* Where the map goes: the other place, so that the header flips between two
 * whole maps; over itself where there is none. */
static uint64_t batmap_target(const struct vhd_map *map)
{
	return map->p.batmap_alternate ? map->p.batmap_alternate : map->p.batmap_offset;
}

static bool shape_write_next(struct vhd_map *map, struct map_io *io)
{
	struct map_commit *c = &map->commit;
	uint32_t step;

	while ((step = c->shape_step) < 2) {
		bool needed = step == 0 ? c->batmap_dirty : c->shape_end != map->space.footer;

		if (needed && !map_take_slot(map, SLOT_COMMIT_STEP, NULL, io))
			return false;
		c->shape_step++;
		if (!needed)
			continue;
		if (step == 0)
			write_op(io, batmap_target(map), map->p.batmap_bytes, c->batmap_buf);
		else /* ORDER 7: the footer first, the cut after a sync */
			write_op(io, c->shape_end, VHD_FOOTER_BYTES, map->space.footer_buf);
		c->flying++;
		return true;
	}
	return false;
}

static void batmap_header_render(struct vhd_map *map)
{
	struct map_commit *c = &map->commit;
	uint8_t *h = map->p.batmap_header;
	uint32_t version = be32_load(h + BATMAP_VERSION);

	be64_store(h + BATMAP_OFFSET, batmap_target(map));
	be32_store(h + BATMAP_CHECKSUM,
		   batmap_checksum(c->batmap_buf, map->p.batmap_covered, version));
}

static bool shape_cut_next(struct vhd_map *map, struct map_io *io)
{
	struct map_commit *c = &map->commit;
	uint32_t step;

	while ((step = c->shape_step) < 4) {
		bool needed = step == 2 ? c->batmap_dirty : c->shape_end != map->space.footer;

		if (needed && !map_take_slot(map, SLOT_COMMIT_STEP, step == 3 ? &c->cut : NULL, io))
			return false;
		c->shape_step++;
		if (!needed)
			continue;
		if (step == 2) {
			batmap_header_render(map);
			write_op(io, map->p.batmap_header_offset, VHD_BATMAP_HEADER_BYTES,
				 map->p.batmap_header);
		} else {
			c->cut = CUT_FLYING;
			io->op = MAP_TRUNCATE;
			io->offset = c->shape_end + VHD_FOOTER_BYTES;
		}
		c->flying++;
		return true;
	}
	return false;
}

static void shape_finish(struct vhd_map *map)
{
	struct map_commit *c = &map->commit;

	c->stage = COMMIT_IDLE;
	if (!c->err) {
		if (c->batmap_dirty) {
			uint64_t used = map->p.batmap_offset;

			map->p.batmap_offset = batmap_target(map);
			if (map->p.batmap_alternate)
				map->p.batmap_alternate = used;
			memcpy(map->disk_batmap, c->batmap_buf, map->p.batmap_bytes);
			map->p.batmap_stale = false;
		}
	}
	/* from the cut on the footer in force is the new one, whatever failed after it */
	if (c->cut != CUT_NO)
		space_reset(map, c->shape_end, c->cut == CUT_DONE);
	answer_all(map, &c->quiesce, c->err);
}

/* ── the pump ── */

static bool idle_next(struct vhd_map *map)
{
	struct map_commit *c = &map->commit;
	bool full = map->dirty_count * map->bitmap_bytes >= MAP_DIRTY_BYTES;

	if (c->flushes || (full && !c->failed)) {
		freeze(map);
		return c->stage != COMMIT_IDLE;
	}
	if (!c->quiesce)
		return false;
	if (map->dirty_count || c->data_outstanding) {
		freeze(map);
		return c->stage != COMMIT_IDLE;
	}
	return shape_begin(map);
}

bool commit_next(struct vhd_map *map, struct map_io *io)
{
	struct map_commit *c = &map->commit;

	if (early_next(map, io))
		return true;
	for (;;) {
		switch (c->stage) {
		case COMMIT_IDLE:
			if (!idle_next(map))
				return false;
			break;
		case COMMIT_FRESH:
			if (fresh_next(map, io))
				return true;
			if (fresh_waits(map))
				return false;
			if (!c->err && (c->data_outstanding || any_fresh(map)))
				return offer_sync(map, io, COMMIT_SYNC1);
			goto meta;
		case COMMIT_SYNC1:
			if (c->flying)
				return false;
meta:
			/* ORDER 2: data and new bitmaps are durable before any entry or bit */
			if (c->err) {
				finish(map);
				break;
			}
			render_pages(map);
			c->cursor = 0;
			c->stage = COMMIT_META;
			break;
		case COMMIT_META:
			if (meta_next(map, io))
				return true;
			if (c->flying || (!c->err && c->cursor < 2 * c->count))
				return false;
			if (!c->err && c->count)
				return offer_sync(map, io, COMMIT_SYNC2);
			finish(map);
			break;
		case COMMIT_SYNC2:
			if (c->flying)
				return false;
			finish(map);
			break;
		case SHAPE_WRITE:
			if (!c->err && shape_write_next(map, io))
				return true;
			if (c->flying || (!c->err && c->shape_step < 2))
				return false;
			if (!c->err && (c->batmap_dirty || c->shape_end != map->space.footer))
				return offer_sync(map, io, SHAPE_SYNC1);
			shape_finish(map);
			break;
		case SHAPE_SYNC1:
			if (c->flying)
				return false;
			c->stage = SHAPE_CUT;
			break;
		case SHAPE_CUT:
			if (!c->err && shape_cut_next(map, io))
				return true;
			if (c->flying || (!c->err && c->shape_step < 4))
				return false;
			if (!c->err)
				return offer_sync(map, io, SHAPE_SYNC2);
			shape_finish(map);
			break;
		case SHAPE_SYNC2:
			if (c->flying)
				return false;
			shape_finish(map);
			break;
		}
	}
}

void commit_write_done(struct vhd_map *map, int err)
{
	struct map_commit *c = &map->commit;

	assert(c->flying > 0);
	c->flying--;
	if (err && !c->err)
		c->err = err;
}

void commit_step_done(struct vhd_map *map, bool is_cut, int err)
{
	struct map_commit *c = &map->commit;

	commit_write_done(map, err);
	if (err && (c->stage == COMMIT_SYNC1 || c->stage == COMMIT_SYNC2))
		c->data_outstanding = true; /* ORDER 5: vouch for nothing */
	if (is_cut)
		c->cut = err ? CUT_FAILED : CUT_DONE;
}

void commit_free(struct vhd_map *map)
{
	free(map->commit.list);
	free(map->commit.arena);
	free(map->commit.batmap_buf);
	free(map->early_page);
}
