/* map-commit.c - making metadata durable
 *
 *   IDLE ─freeze─► FRESH ──► SYNC1 ──► META ──► SYNC2 ──► IDLE
 *                 bitmaps    data +    BAT, bitmaps   acknowledge
 *                 of new     bitmaps   of existing
 *                 blocks               blocks
 *
 * The first commit with a freed block zeroes the batmap: the map in FRESH, its
 * header and one more sync between SYNC1 and META (BATMAP, BATMAP_SYNC).
 * Freezing copies entries and bits of dirty blocks: what is written or freed
 * later belongs to the next commit (ORDER 1).  BAT sectors are written from the
 * pages, which change only here.  After a failure everything frozen is dirty
 * again (ORDER 4, 5).
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
 * a partial last block. */
void commit_early(struct vhd_map *map, struct map_block *b)
{
	if (!map->early_page || (b->block + 1ull) * map->p.block_sectors > map->p.size_sectors)
		return;
	b->early = EARLY_QUEUED;
	list_append(&map->early, &b->early_link);
}

/* A position used before may have a neighbour in the page its bitmap ends in. */
static uint32_t early_bytes(const struct vhd_map *map, const struct map_block *b)
{
	return b->recycled ? map->bitmap_bytes : map->page_bytes;
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
	io->once = true; /* the commit writes it then */
	io->length = early_bytes(map, b);
	io->offset = ((uint64_t)b->entry + map->bitmap_sectors) * VHD_SECTOR - io->length;
	io->buf = map->early_page + map->page_bytes - io->length;
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

void commit_answer(struct vhd_map *map, struct map_req **list, int err)
{
	struct map_req *req = *list, *next;

	*list = NULL;
	for (; req; req = next) {
		next = req->next;
		map_answer(map, req, err);
	}
}

/* Is there a flush of a client among these? */
static bool is_told(const struct vhd_map *map, const struct map_req *req)
{
	while (req == &map->resize.req)
		req = req->next;
	return req != NULL;
}

/* ORDER 1: from here on the commit is what was written() until now. */
static void freeze(struct vhd_map *map)
{
	struct map_commit *c = &map->commit;
	struct list *l;

	c->failed = false;
	if (c->lost || !commit_room(map)) {
		int err = c->lost ? c->lost : -ENOMEM;

		c->failed = true;
		if (is_told(map, c->flushes) || c->quiesce)
			c->lost = 0;
		commit_answer(map, &c->flushes, err);
		commit_answer(map, &c->quiesce, err);
		map_arrived(map, map_ticket(WAIT_COMMIT, 0), err);
		return;
	}
	c->covered = c->flushes; /* ORDER 3 */
	c->flushes = NULL;
	c->count = 0;
	while ((l = list_pop(&map->dirty))) {
		struct map_block *b = list_entry(l, struct map_block, link);

		b->dirty = false;
		b->frozen = true;
		b->frozen_fresh = b->fresh;
		b->frozen_new = b->fresh && b->visible && !b->named;
		b->frozen_entry = b->fresh && !b->visible ? VHD_BAT_UNUSED : b->entry;
		if (b->early == EARLY_QUEUED && b->visible) {
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
	freed_freeze(map);
	c->zeroing = full_must_zero(map);
	c->err = 0;
	c->cursor = 0;
	c->stage = COMMIT_FRESH;
}

bool commit_offer(struct vhd_map *map, struct map_io *io, enum map_op op, uint64_t offset,
		  uint64_t length, void *buf)
{
	if (!map_take_slot(map, SLOT_COMMIT, NULL, io))
		return false;
	io->op = op;
	io->offset = offset;
	io->length = length;
	io->buf = buf;
	map->commit.flying++;
	return true;
}

static bool offer_bitmap(struct vhd_map *map, size_t i, struct map_io *io)
{
	struct map_commit *c = &map->commit;

	if (!commit_offer(map, io, MAP_WRITE, (uint64_t)c->list[i]->frozen_entry * VHD_SECTOR,
			  map->bitmap_bytes, c->arena + i * map->bitmap_bytes))
		return false;
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

		if (!b->frozen_new)
			continue;
		if (b->entry == b->frozen_entry) { /* else it speaks of another position */
			if (b->early == EARLY_FLYING)
				return false;
			if (b->early == EARLY_DONE && map_fills(map))
				continue;
		}
		return offer_bitmap(map, c->cursor, io);
	}
	if (c->cursor == c->count && c->zeroing &&
	    !c->err) { /* ORDER 10: the map, then its header */
		bool offered = commit_offer(map, io, MAP_ZERO, full_target(map),
					    map->p.batmap_bytes, NULL);

		c->cursor += offered;
		return offered;
	}
	return false;
}

static bool fresh_waits(const struct vhd_map *map)
{
	const struct map_commit *c = &map->commit;

	return c->flying || (!c->err && c->cursor < c->count + c->zeroing);
}

static bool any_new(const struct vhd_map *map)
{
	for (size_t i = 0; i < map->commit.count; i++)
		if (map->commit.list[i]->frozen_new)
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

		if (!b->frozen_fresh)
			continue;
		be32_store(table_page(map, b->block)->raw +
				   (size_t)(b->block % MAP_PAGE_ENTRIES) * 4,
			   b->frozen_entry);
		/* ORDER 4: should this fail, the disk may have the entry all the same, and
		 * more bits must wait for their data */
		if (b->entry == b->frozen_entry && b->entry != VHD_BAT_UNUSED)
			b->named = true;
	}
}

/* One write for the changed sectors of one page of the BAT, from cursor on. */
static bool offer_page(struct vhd_map *map, struct map_io *io)
{
	struct map_commit *c = &map->commit;
	uint32_t index = c->list[c->cursor]->block / MAP_PAGE_ENTRIES;
	uint64_t first = c->list[c->cursor]->block / BAT_SECTOR_ENTRIES, last = first;
	size_t i = c->cursor;

	for (; i < c->count && c->list[i]->block / MAP_PAGE_ENTRIES == index; i++)
		if (c->list[i]->frozen_fresh)
			last = c->list[i]->block / BAT_SECTOR_ENTRIES;
	if (!commit_offer(map, io, MAP_WRITE, map->p.bat_offset + first * VHD_SECTOR,
			  (last - first + 1) * VHD_SECTOR,
			  map->pages[index]->raw + first * VHD_SECTOR % MAP_PAGE_BYTES))
		return false;
	c->cursor = i;
	return true;
}

/* Twice through the list: pages of new and freed blocks, then bitmaps of existing ones. */
static bool meta_next(struct vhd_map *map, struct map_io *io)
{
	struct map_commit *c = &map->commit;

	for (; c->cursor < c->count && !c->err; c->cursor++)
		if (c->list[c->cursor]->frozen_fresh)
			return offer_page(map, io);
	for (; c->cursor < 2 * c->count && !c->err; c->cursor++) {
		size_t i = c->cursor - c->count;

		if (!c->list[i]->frozen_new && c->list[i]->frozen_entry != VHD_BAT_UNUSED)
			return offer_bitmap(map, i, io);
	}
	return false;
}

/* What was frozen of @b is durable.  Is the record now like its page? */
static void block_committed(struct vhd_map *map, struct map_block *b)
{
	bool freed_again = b->dirty && b->entry == VHD_BAT_UNUSED;

	if (b->frozen_fresh && b->entry == b->frozen_entry && !freed_again) {
		b->fresh = b->named = false;
		table_unpin(map, table_page(map, b->block));
		if (b->entry == VHD_BAT_UNUSED) {
			table_drop(map, b);
			return;
		}
	}
	table_settle(map, b);
}

static void finish(struct vhd_map *map)
{
	struct map_commit *c = &map->commit;

	c->stage = COMMIT_IDLE;
	c->failed = c->err != 0;
	for (size_t i = 0; i < c->count; i++) {
		struct map_block *b = c->list[i];

		b->frozen = false;
		if (!c->err)
			block_committed(map, b);
		else /* ORDER 4: nothing is rolled back, all is written again */
			commit_mark(map, b);
	}
	c->count = 0;
	freed_committed(map, !c->err);
	commit_answer(map, &c->covered, c->err);
	if (c->err)
		commit_answer(map, &c->quiesce, c->err);
	map_arrived(map, map_ticket(WAIT_COMMIT, 0), c->err);
}

bool commit_offer_sync(struct vhd_map *map, struct map_io *io, enum commit_stage stage)
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
	/* a position that is given back must be on its way before the file may be cut */
	if (map->dirty_count || c->data_outstanding || c->lost || map->freed.retired.count) {
		freeze(map);
		return c->stage != COMMIT_IDLE;
	}
	return shape_begin(map);
}

/* FRESH is over: the first sync if there is anything for it.  1: offered, 0: wait, -1: go on. */
static int fresh_end(struct vhd_map *map, struct map_io *io)
{
	struct map_commit *c = &map->commit;

	if (c->err || (!c->data_outstanding && !c->zeroing && !any_new(map)))
		return -1;
	return commit_offer_sync(map, io, COMMIT_SYNC1);
}

/* ORDER 10: all that any reader believes of the batmap is gone before a block is. */
static bool zero_next(struct vhd_map *map, struct map_io *io)
{
	struct map_commit *c = &map->commit;

	if (c->stage == COMMIT_SYNC1) {
		full_render_header(map, true);
		if (!commit_offer(map, io, MAP_WRITE, map->p.batmap_header_offset,
				  VHD_BATMAP_HEADER_BYTES, map->p.batmap_header))
			return false;
		c->stage = COMMIT_BATMAP;
		return true;
	}
	return commit_offer_sync(map, io, COMMIT_BATMAP_SYNC);
}

/* ORDER 2: data and new bitmaps are durable, now the entries and bits that name them. */
static void begin_meta(struct vhd_map *map)
{
	struct map_commit *c = &map->commit;

	if (c->err) {
		finish(map);
		return;
	}
	render_pages(map);
	c->cursor = 0;
	c->stage = COMMIT_META;
}

/* One step of a commit.  1: @io is an operation; 0: wait for those that fly; -1: go on. */
static int step(struct vhd_map *map, struct map_io *io)
{
	struct map_commit *c = &map->commit;
	int rc;

	switch (c->stage) {
	case COMMIT_FRESH:
		if (fresh_next(map, io))
			return 1;
		if (fresh_waits(map))
			return 0;
		rc = fresh_end(map, io);
		if (rc < 0)
			begin_meta(map);
		return rc;
	case COMMIT_SYNC1:
	case COMMIT_BATMAP:
		if (c->flying)
			return 0;
		if (!c->err && c->zeroing)
			return zero_next(map, io);
		begin_meta(map);
		return -1;
	case COMMIT_BATMAP_SYNC:
		if (c->flying)
			return 0;
		if (!c->err)
			full_stored(map, true);
		begin_meta(map);
		return -1;
	case COMMIT_META:
		if (meta_next(map, io))
			return 1;
		if (c->flying || (!c->err && c->cursor < 2 * c->count))
			return 0;
		if (!c->err && c->count)
			return commit_offer_sync(map, io, COMMIT_SYNC2);
		finish(map);
		return -1;
	default:
		if (c->flying)
			return 0;
		finish(map);
		return -1;
	}
}

bool commit_next(struct vhd_map *map, struct map_io *io)
{
	struct map_commit *c = &map->commit;

	if (early_next(map, io))
		return true;
	for (;;) {
		int rc;

		if (c->stage == COMMIT_IDLE) {
			if (!idle_next(map))
				return false;
		} else if (c->stage >= SHAPE_SCAN) {
			if (shape_next(map, io))
				return true;
			if (c->stage != COMMIT_IDLE)
				return false;
		} else {
			rc = step(map, io);
			if (rc >= 0)
				return rc;
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

/* Nothing written since the last good sync is sure to be there: flushes that have come fail,
 * or, if there are none, the next one; all metadata is written again. */
void commit_lost(struct vhd_map *map, int err)
{
	struct map_commit *c = &map->commit;
	bool heard = is_told(map, c->flushes) || is_told(map, c->covered) || c->quiesce;

	if (c->stage != COMMIT_IDLE && !c->err)
		c->err = err;
	map->losses++;
	commit_answer(map, &c->flushes, err);
	if (c->stage == COMMIT_IDLE) /* else it is answered when that ends */
		commit_answer(map, &c->quiesce, err);
	if (!heard)
		c->lost = err;
	c->data_outstanding = true;
	table_doubt_early(map);
	space_lost(map, err);
	freed_lost(map, err);
	resize_lost(map, err);
}

void commit_step_done(struct vhd_map *map, bool is_cut, int err)
{
	struct map_commit *c = &map->commit;

	if (c->stage == SHAPE_SCAN) {
		shape_scanned(map, err);
		return;
	}
	commit_write_done(map, err);
	if (is_cut)
		map->shape.cut = err ? CUT_FAILED : CUT_DONE;
	else if (err) /* a sync */
		commit_lost(map, err);
}

void commit_shrink(struct vhd_map *map)
{
	struct map_commit *c = &map->commit;

	assert(!c->count);
	map->memory -= c->room * sizeof(struct map_block *) + c->arena_bytes;
	free(c->list);
	free(c->arena);
	c->list = NULL;
	c->arena = NULL;
	c->room = c->arena_bytes = 0;
}

void commit_free(struct vhd_map *map)
{
	free(map->commit.list);
	free(map->commit.arena);
	free(map->early_page);
}
