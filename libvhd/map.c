/* map.c - one sparse image as a pump: look up, reserve, written, next, done
 *
 * The happy path of a write to a new block: map_write takes a position and
 * makes a fresh record; the caller writes the data; map_written makes it
 * visible and dirty; map_flush starts a commit; map_next offers bitmap, sync,
 * BAT, sync; the flush is answered.  What can fail: a read of metadata (the
 * request that waits hears it), growing (those who wait for space hear it),
 * the commit (all flushes it covers hear it; everything stays dirty).
 */
#include "map-private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/number.h"
#include "bitmap.h"

#define CACHE_DEFAULT (4u << 20)

static int open_tables(struct vhd_map *map, const struct map_params *p)
{
	uint64_t pages = number_max(number_div_up(map->blocks, MAP_PAGE_ENTRIES), 1);
	uint64_t full_bytes = number_div_up(map->blocks, 8);

	map->hash_size = MAP_HASH_MIN;
	map->hash = calloc(map->hash_size, sizeof(*map->hash));
	map->pages = calloc(pages, sizeof(*map->pages));
	map->page_count = pages;
	if (!map->hash || !map->pages)
		return -ENOMEM;
	map->memory = sizeof(*map) + pages * sizeof(*map->pages) +
		      map->hash_size * sizeof(*map->hash);
	if (p->bad_count) {
		map->bad = malloc(p->bad_count * sizeof(*map->bad));
		if (!map->bad)
			return -ENOMEM;
		memcpy(map->bad, p->bad_blocks, p->bad_count * sizeof(*map->bad));
	}
	if (map->blocks <= MAP_FULL_MAX) {
		map->known_full = calloc(1, number_max(full_bytes, 1));
		if (!map->known_full)
			return -ENOMEM;
		map->memory += full_bytes;
	}
	return full_init(map);
}

/* The page a new bitmap lies at the end of: zeros, or zeros and ones where all
 * of a new block counts as present (ORDER 9). */
static int open_early(struct vhd_map *map)
{
	if (!map->p.early_bitmaps || !map->p.align)
		return 0;
	map->early_page = aligned_alloc(VHD_ALIGN, map->page_bytes);
	if (!map->early_page)
		return -ENOMEM;
	memset(map->early_page, 0, map->page_bytes);
	if (map_fills(map))
		bits_set_range(map->early_page + map->page_bytes - map->bitmap_bytes, 0,
			       map->p.block_sectors);
	return 0;
}

int map_open(const struct map_params *params, struct vhd_map **out)
{
	struct vhd_map *map = calloc(1, sizeof(*map));
	int rc;

	if (!map)
		return -ENOMEM;
	map->p = *params;
	map->blocks = number_div_up(params->size_sectors, params->block_sectors);
	map->bitmap_sectors = bitmap_sectors(params->block_sectors);
	map->bitmap_bytes = map->bitmap_sectors * VHD_SECTOR;
	map->stride = bitmap_stride(params->block_sectors);
	map->page_bytes = (uint32_t)number_round_up(map->bitmap_bytes, VHD_ALIGN);
	list_init(&map->pages_clean);
	list_init(&map->blocks_clean);
	list_init(&map->dirty);
	list_init(&map->load_blocks);
	list_init(&map->load_pages);
	list_init(&map->early);
	rc = open_tables(map, params);
	if (!rc)
		rc = open_early(map);
	if (rc < 0) {
		map_close(map);
		return rc;
	}
	map->memory_base = map->memory; /* the bound is for what can be evicted */
	map_set_cache(map, params->cache_bytes);
	space_init(map);
	*out = map;
	return 0;
}

void map_close(struct vhd_map *map)
{
	if (!map)
		return;
	assert(!map->slots_used);
	table_free(map);
	commit_free(map);
	full_release(map);
	shape_release(map);
	freed_release(map);
	free(map->bad);
	free(map->known_full);
	free(map);
}

/* ── requests ── */

void map_append_req(struct map_req **list, struct map_req *req)
{
	req->next = NULL;
	while (*list)
		list = &(*list)->next;
	*list = req;
}

void map_answer(struct vhd_map *map, struct map_req *req, int err)
{
	req->err = err;
	map_append_req(&map->done, req);
}

/* Tell everyone who was answered.  ready() may ask for more. */
static void tell(struct vhd_map *map)
{
	struct map_req *req;

	while ((req = map->done)) {
		map->done = req->next;
		req->next = NULL;
		req->ready(req);
	}
}

/* Is the metadata of the block at @sector in memory?  0, MAP_NEED or negative. */
static int want_step(struct vhd_map *map, uint64_t sector)
{
	uint32_t block = (uint32_t)(sector / map->p.block_sectors), entry;
	struct map_block *b;
	int rc = table_entry(map, block, &entry);

	if (rc || entry == VHD_BAT_UNUSED || table_is_full(map, block))
		return rc;
	return table_bits(map, block, entry, &b);
}

static void want_again(struct vhd_map *map, struct map_req *req)
{
	int rc = want_step(map, req->sector);

	if (rc == MAP_NEED) {
		req->ticket = map->need;
		map_append_req(&map->wants, req);
	} else {
		map_answer(map, req, rc);
	}
}

void map_want(struct vhd_map *map, struct map_req *req)
{
	if (req->sector >= map->p.size_sectors)
		map_answer(map, req, -VHD_E_RANGE);
	else
		want_again(map, req);
}

static void take_out(struct map_req **list, const struct map_req *req)
{
	while (*list && *list != req)
		list = &(*list)->next;
	if (*list)
		*list = req->next;
}

void map_unwant(struct vhd_map *map, struct map_req *req)
{
	take_out(&map->wants, req);
	take_out(&map->done, req);
	req->next = NULL;
}

static struct map_req *take_matching(struct map_req **list, uint64_t ticket)
{
	struct map_req *found = NULL, **end = &found;

	while (*list) {
		struct map_req *req = *list;

		if (req->ticket != ticket) {
			list = &req->next;
			continue;
		}
		*list = req->next;
		req->next = NULL;
		*end = req;
		end = &req->next;
	}
	return found;
}

void map_arrived(struct vhd_map *map, uint64_t ticket, int err)
{
	struct map_req *req = take_matching(&map->wants, ticket), *next;

	for (; req; req = next) {
		next = req->next;
		if (err)
			map_answer(map, req, err);
		else
			want_again(map, req);
	}
	for (req = take_matching(&map->writes, ticket); req; req = next) {
		next = req->next;
		map_answer(map, req, err);
	}
}

/* ── looking up ── */

bool map_add_ext(struct map_ext *out, int max, int *n, const struct map_ext *e)
{
	struct map_ext *last = *n ? &out[*n - 1] : NULL;

	if (last && last->kind == e->kind &&
	    (e->kind != EXT_HERE || last->file_sector + last->count == e->file_sector)) {
		last->count += e->count;
		return true;
	}
	if (*n == max)
		return false;
	out[(*n)++] = *e;
	return true;
}

static enum map_kind absent(const struct vhd_map *map)
{
	return map->p.has_parent ? EXT_BELOW : EXT_ZERO;
}

/* Runs of one block whose bits are @bits, or which is all here if NULL. */
static bool add_runs(const struct vhd_map *map, const uint8_t *bits, uint64_t data, uint64_t sector,
		     uint64_t first, uint64_t count, struct map_ext *out, int max, int *n)
{
	uint64_t at = first, end = first + count;

	while (at < end) {
		uint64_t run = bits ? bits_run(bits, at, end) : end - at;
		struct map_ext e = { .kind = !bits || bits_test(bits, at) ? EXT_HERE : absent(map),
				     .sector = sector + at - first,
				     .count = run };

		if (e.kind == EXT_HERE)
			e.file_sector = data + at;
		if (!map_add_ext(out, max, n, &e))
			return false;
		at += run;
	}
	return true;
}

int map_lookup(struct vhd_map *map, uint64_t sector, uint64_t count, struct map_ext *out, int max)
{
	int n = 0;

	if (!number_within(sector, count, map->p.size_sectors) || !count)
		return -VHD_E_RANGE;
	while (count) {
		uint32_t block = (uint32_t)(sector / map->p.block_sectors), entry;
		uint64_t first = sector % map->p.block_sectors;
		uint64_t here = number_min(count, map->p.block_sectors - first);
		struct map_block *b = NULL;
		int rc = table_entry(map, block, &entry);

		if (!rc && entry != VHD_BAT_UNUSED && !table_is_full(map, block))
			rc = table_bits(map, block, entry, &b);
		if (rc == MAP_NEED)
			return n ? n : MAP_WAIT;
		if (rc < 0)
			return n ? n : rc;
		if (entry == VHD_BAT_UNUSED) {
			struct map_ext e = { .kind = absent(map), .sector = sector, .count = here };

			if (!map_add_ext(out, max, &n, &e))
				return n;
		} else if (!add_runs(map, b ? b->bits : NULL, (uint64_t)entry + map->bitmap_sectors,
				     sector, first, here, out, max, &n)) {
			return n;
		}
		sector += here;
		count -= here;
	}
	return n;
}

/* ── making durable ── */

void map_flush(struct vhd_map *map, struct map_req *req)
{
	map_append_req(&map->commit.flushes, req);
}

void map_quiesce(struct vhd_map *map, struct map_req *req)
{
	map_append_req(&map->commit.quiesce, req);
}

/* ── the pump ── */

struct map_slot *map_take_slot(struct vhd_map *map, enum map_slot_kind kind, void *subject,
			       struct map_io *io)
{
	for (uint32_t i = 0; i < MAP_SLOTS; i++) {
		struct map_slot *slot = &map->slots[i];

		if (slot->kind != SLOT_FREE)
			continue;
		slot->kind = kind;
		slot->subject = subject;
		map->slots_used++;
		memset(io, 0, sizeof(*io));
		io->tag = i;
		return slot;
	}
	return NULL;
}

bool map_next(struct vhd_map *map, struct map_io *io)
{
	bool found, told;

	do {
		if (map->slots_used == MAP_SLOTS)
			return false;
		/* growth first: it may ask for pages */
		found = resize_next(map, io) || table_next(map, io) || space_next(map, io) ||
			commit_next(map, io) || freed_next(map, io);
		told = map->done != NULL;
		tell(map);
	} while (!found && told); /* who was answered may have asked for more */
	return found;
}

void map_done(struct vhd_map *map, uint32_t tag, int err)
{
	struct map_slot slot;

	assert(tag < MAP_SLOTS && map->slots[tag].kind != SLOT_FREE);
	slot = map->slots[tag];
	map->slots[tag].kind = SLOT_FREE;
	map->slots_used--;
	switch (slot.kind) {
	case SLOT_SPACE:
		space_done(map, err);
		break;
	case SLOT_FREED:
		freed_done(map, err);
		break;
	case SLOT_RESIZE:
		resize_done(map, err);
		break;
	case SLOT_COMMIT:
		commit_write_done(map, err);
		break;
	case SLOT_COMMIT_STEP:
		commit_step_done(map, slot.subject == &map->shape.cut, err);
		break;
	default:
		table_done(map, &slot, err);
	}
	tell(map);
}

/* ── questions and settings ── */

uint64_t map_dirty_blocks(const struct vhd_map *map)
{
	return map->dirty_count + map->commit.count;
}

bool map_dirty(const struct vhd_map *map)
{
	const struct map_commit *c = &map->commit;

	return map->dirty_count || c->data_outstanding || c->lost || map->freed.retired.count ||
	       (c->stage > COMMIT_IDLE && c->stage < SHAPE_SCAN);
}

bool map_idle(const struct vhd_map *map)
{
	const struct map_commit *c = &map->commit;

	return !map->slots_used && list_empty(&map->load_blocks) && list_empty(&map->load_pages) &&
	       list_empty(&map->early) && !map->wants && !map->writes && !map->done &&
	       c->stage == COMMIT_IDLE && !c->flushes && !c->quiesce && space_rests(map) &&
	       freed_rests(map) && map->resize.state == RESIZE_IDLE;
}

void map_data_end(struct vhd_map *map, uint64_t bytes)
{
	map->p.data_end = number_max(map->p.data_end, bytes);
}

void map_set_cache(struct vhd_map *map, uint64_t bytes)
{
	map->memory_bound = map->memory_base + (bytes ? bytes : CACHE_DEFAULT);
	table_evict(map);
}

bool map_trim(struct vhd_map *map)
{
	return table_evict(map);
}

int64_t map_new_blocks(const struct vhd_map *map)
{
	return map->new_blocks;
}

void map_fault(const struct vhd_map *map, uint32_t *block, uint32_t *entry)
{
	*block = map->fault_block;
	*entry = map->fault_entry;
}

uint64_t map_memory(const struct vhd_map *map)
{
	return map->memory;
}

uint64_t map_end_of_data(const struct vhd_map *map)
{
	return map->space.end_of_data;
}

uint64_t map_footer_offset(const struct vhd_map *map)
{
	return map->space.footer;
}
