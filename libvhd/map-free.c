/* map-free.c - blocks given back, and their positions used again (ORDER 10)
 *
 *   map_free: record lets go of its position, lookups answer zero
 *     │
 *   retired ─freeze─► frozen ─commit done─► unnamed
 *      ▲                 │ failed              │
 *      └─────────────────┘                   batch: punch, sync ─► punched ─► grace ─► heap
 *                                              │ error
 *                                              ▼
 *                                           leaked until the end is cut
 *
 * A position leaves retired only with a commit that froze after its record let
 * go of it: from then on the BAT on the disk cannot name it.  Grace: lookups
 * count themselves in one of two epochs; those that began before the free are
 * gone when first the other epoch and then, after a flip, the one that was
 * current have emptied.
 * A crash leaves blocks that no entry names.
 */
#include "map-private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/number.h"

#define LIST_MIN 64u

/* ── lists of positions ── */

/* False: no memory; then the position is lost, which only wastes space. */
static bool push(struct map_list *l, uint32_t at)
{
	if (l->count == l->room) {
		size_t room = l->room ? l->room * 2 : LIST_MIN;
		uint32_t *more = realloc(l->at, room * sizeof(*more));

		if (!more)
			return false;
		l->at = more;
		l->room = room;
	}
	l->at[l->count++] = at;
	return true;
}

static void move_all(struct map_list *to, struct map_list *from)
{
	if (!to->count) {
		struct map_list swap = *to;

		*to = *from;
		*from = swap;
		return;
	}
	for (size_t i = 0; i < from->count; i++)
		push(to, from->at[i]);
	from->count = 0;
}

static void heap_push(struct map_list *h, uint32_t at)
{
	size_t i = h->count;

	if (!push(h, at))
		return;
	for (; i && h->at[(i - 1) / 2] > at; i = (i - 1) / 2)
		h->at[i] = h->at[(i - 1) / 2];
	h->at[i] = at;
}

static uint32_t heap_pop(struct map_list *h)
{
	uint32_t top = h->at[0], last = h->at[--h->count];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < h->count) {
		if (child + 1 < h->count && h->at[child + 1] < h->at[child])
			child++;
		if (h->at[child] >= last)
			break;
		h->at[i] = h->at[child];
		i = child;
	}
	h->at[i] = last;
	return top;
}

static int order(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void drop_above(const struct vhd_map *map, struct map_list *l, uint64_t end)
{
	size_t n = 0;

	for (size_t i = 0; i < l->count; i++)
		if (l->at[i] + (uint64_t)map->stride <= end)
			l->at[n++] = l->at[i];
	l->count = n;
}

/* ── freeing ── */

static uint64_t busy(struct map_block *b)
{
	if (b->loading)
		return map_ticket(WAIT_BITS, b->block);
	if (!b->writers && b->early != EARLY_FLYING)
		return 0;
	b->refusing = true;
	return map_ticket(WAIT_BLOCK, b->block);
}

uint64_t freed_busy(struct vhd_map *map, struct map_block *b)
{
	uint64_t ticket = b ? busy(b) : 0;

	if (!ticket && map->dirty_count * map->bitmap_bytes >= 2ull * MAP_DIRTY_BYTES) {
		map->commit.failed = false; /* somebody asks: the commit starts */
		ticket = map_ticket(WAIT_COMMIT, 0);
	}
	return ticket;
}

void freed_unblock(struct vhd_map *map, struct map_block *b)
{
	if (!b->refusing || b->writers || b->early == EARLY_FLYING)
		return;
	b->refusing = false;
	map_arrived(map, map_ticket(WAIT_BLOCK, b->block), 0);
}

static void let_go(struct vhd_map *map, struct map_block *b)
{
	freed_retire(map, b->entry);
	if (!b->fresh) {
		b->fresh = true;
		table_pin(map, table_page(map, b->block));
	}
	if (b->early == EARLY_QUEUED)
		list_remove(&b->early_link);
	b->early = EARLY_NONE;
	b->entry = VHD_BAT_UNUSED;
	b->visible = b->named = false;
	map->batmap.zero_wanted |= !map->batmap.zero; /* ORDER 10: it may be called full there */
	memset(b->bits, 0, map->bitmap_bytes);
	if (map->known_full)
		bits_clear(map->known_full, b->block);
	map->new_blocks--;
	commit_mark(map, b);
}

/* 1: freed, 0: there was none, MAP_NEED as -EAGAIN, or negative. */
static int free_block(struct vhd_map *map, uint32_t block)
{
	struct map_block *b;
	uint32_t entry;
	int rc = table_entry(map, block, &entry);

	if (rc == MAP_NEED)
		return -EAGAIN;
	if (rc || entry == VHD_BAT_UNUSED)
		return rc;
	b = table_find(map, block);
	map->need = freed_busy(map, b);
	if (map->need)
		return -EAGAIN;
	if (!b) {
		b = table_add(map, block, entry);
		if (!b)
			return -ENOMEM;
	}
	let_go(map, b);
	return 1;
}

bool freed_reshaping(struct vhd_map *map)
{
	map->need = 0;
	if (map->resize.state != RESIZE_IDLE)
		map->need = map_ticket(WAIT_RESIZE, 0);
	else if (map->commit.stage >= SHAPE_SCAN)
		map->need = map_ticket(WAIT_COMMIT, 0);
	return map->need != 0;
}

int freed_wait(struct vhd_map *map, struct map_req *req)
{
	req->ticket = map->need;
	map_append_req(&map->writes, req);
	return -EAGAIN;
}

int map_free(struct vhd_map *map, struct map_req *req)
{
	uint32_t size = map->p.block_sectors;
	uint64_t end = req->sector + req->count, first, last;
	int freed = 0;

	assert(map->p.writable);
	if (!number_within(req->sector, req->count, map->p.size_sectors))
		return -VHD_E_RANGE;
	if (freed_reshaping(map))
		return freed_wait(map, req);
	first = number_div_up(req->sector, size);
	last = end == map->p.size_sectors ? map->blocks : end / size;
	for (; first < last; first++) {
		int rc = free_block(map, (uint32_t)first);

		if (rc == -EAGAIN) { /* the rest is still to be done */
			req->sector = first * size;
			req->count = end - req->sector;
			return freed_wait(map, req);
		}
		if (rc < 0)
			return rc;
		freed += rc;
	}
	return freed;
}

/* ── the way of a position ── */

void freed_retire(struct vhd_map *map, uint32_t entry)
{
	map->freed.any = true;
	push(&map->freed.retired, entry);
}

void freed_freeze(struct vhd_map *map)
{
	move_all(&map->freed.frozen, &map->freed.retired);
}

void freed_committed(struct vhd_map *map, bool ok)
{
	move_all(ok ? &map->freed.unnamed : &map->freed.retired, &map->freed.frozen);
}

static void begin_batch(struct vhd_map *map)
{
	struct map_free *f = &map->freed;

	move_all(&f->batch, &f->unnamed);
	qsort(f->batch.at, f->batch.count, sizeof(*f->batch.at), order);
	f->syncing = false;
	f->cursor = 0;
	f->err = 0;
}

/* Neighbours together.  Only what is surely the block's own: the sectors that
 * align its bitmap may belong to the block before. */
static bool punch_next(struct vhd_map *map, struct map_io *io)
{
	struct map_free *f = &map->freed;
	uint64_t from, to;

	if (!map_take_slot(map, SLOT_FREED, NULL, io))
		return false;
	from = f->batch.at[f->cursor++];
	to = from + map->stride;
	while (f->cursor < f->batch.count && f->batch.at[f->cursor] == to) {
		to += map->stride;
		f->cursor++;
	}
	io->op = map->p.device ? MAP_ZERO : MAP_PUNCH; /* a discard need not give zeros */
	io->offset = from * VHD_SECTOR;
	io->length = (to - from) * VHD_SECTOR;
	f->flying++;
	return true;
}

/* As far as the lookups inside let it go. */
static void grace(struct vhd_map *map)
{
	struct map_free *f = &map->freed;

	for (;;) {
		if (!f->grace.count) {
			if (!f->punched.count)
				return;
			move_all(&f->grace, &f->punched);
			f->flipped = false;
		}
		if (f->readers[!f->epoch])
			return;
		if (!f->flipped) {
			f->epoch = !f->epoch;
			f->flipped = true;
			continue;
		}
		for (size_t i = 0; i < f->grace.count; i++)
			heap_push(&f->heap, f->grace.at[i]);
		f->grace.count = 0;
	}
}

bool freed_next(struct vhd_map *map, struct map_io *io)
{
	struct map_free *f = &map->freed;

	grace(map);
	if (!f->batch.count && f->unnamed.count)
		begin_batch(map);
	if (!f->batch.count || f->syncing)
		return false;
	if (f->cursor < f->batch.count && !f->err)
		return punch_next(map, io);
	if (f->flying || !map_take_slot(map, SLOT_FREED, NULL, io))
		return false;
	io->op = MAP_SYNC;
	f->syncing = true;
	f->flying++;
	return true;
}

/* There are no zeros, or not for sure: nobody may have these until the file is cut before them. */
static void leak_batch(struct vhd_map *map)
{
	struct map_free *f = &map->freed;

	for (size_t i = 0; i < f->batch.count; i++)
		f->leaked_end = number_max(f->leaked_end, (uint64_t)f->batch.at[i] + map->stride);
	f->batch.count = 0;
}

void freed_lost(struct vhd_map *map, int err)
{
	if (map->freed.flying)
		map->freed.err = err;
	else
		leak_batch(map);
}

void freed_done(struct vhd_map *map, int err)
{
	struct map_free *f = &map->freed;

	f->flying--;
	if (err && f->syncing)
		commit_lost(map, err);
	if (err)
		f->err = err;
	if (f->flying)
		return;
	if (f->err)
		leak_batch(map);
	else if (f->syncing)
		move_all(&f->punched, &f->batch);
}

bool freed_rests(const struct vhd_map *map)
{
	const struct map_free *f = &map->freed;

	return !f->unnamed.count && !f->batch.count;
}

bool freed_take(struct vhd_map *map, uint32_t *entry)
{
	struct map_free *f = &map->freed;

	grace(map);
	if (map->p.no_reuse || !f->heap.count)
		return false;
	*entry = heap_pop(&f->heap);
	return true;
}

uint64_t freed_end(struct vhd_map *map)
{
	const struct map_list *lists[] = { &map->freed.punched, &map->freed.grace };
	uint64_t end;

	grace(map);
	if (!map->freed.readers[0] && !map->freed.readers[1])
		map->freed.leaked_end = 0;
	end = map->freed.leaked_end;
	for (unsigned k = 0; k < 2; k++)
		for (size_t i = 0; i < lists[k]->count; i++)
			end = number_max(end, (uint64_t)lists[k]->at[i] + map->stride);
	return end * VHD_SECTOR;
}

void freed_cut(struct vhd_map *map, uint64_t end)
{
	struct map_list kept = map->freed.heap;

	drop_above(map, &kept, end);
	map->freed.heap = (struct map_list){ 0 };
	for (size_t i = 0; i < kept.count; i++)
		heap_push(&map->freed.heap, kept.at[i]);
	free(kept.at);
}

void freed_release(struct vhd_map *map)
{
	struct map_free *f = &map->freed;

	free(f->retired.at);
	free(f->frozen.at);
	free(f->unnamed.at);
	free(f->batch.at);
	free(f->punched.at);
	free(f->grace.at);
	free(f->heap.at);
}

/* ── lookups that last ── */

void map_enter(struct vhd_map *map, unsigned *slot)
{
	*slot = map->freed.epoch;
	map->freed.readers[*slot]++;
}

void map_leave(struct vhd_map *map, unsigned slot)
{
	assert(slot < 2 && map->freed.readers[slot] > 0);
	map->freed.readers[slot]--;
}
