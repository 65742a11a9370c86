/* map-move.c - another place for a block that is there
 *
 *   map_move ──► the caller copies, and makes durable ──► map_moved ──► commit ──► old place
 *     │ new writes of the block wait;                       │ lookups      bitmap,    punched,
 *     │ lookups answer the old place                        │ answer       sync,      used again
 *     └──► map_move_cancel                                  │ the new one  entry      (ORDER 10)
 *
 * What was durable must not get lost on the way: the copy is on the storage before any commit
 * may name it (ORDER 23), and the old place is given up only after a commit that names the new one.
 * A crash leaves the block where it was, or where it went; the other of the two places
 * belongs to nobody then.
 */
#include "map-private.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* 1: *out is the block's record and nothing of it is under way; 0: there is no block; MAP_NEED;
 * negative. */
static int find(struct vhd_map *map, uint32_t block, struct map_block **out)
{
	struct map_block *b;
	uint32_t entry;
	int rc = table_entry(map, block, &entry);

	if (rc || entry == VHD_BAT_UNUSED)
		return rc;
	b = table_find(map, block);
	map->need = freed_busy(map, b);
	if (map->need)
		return MAP_NEED;
	if (b)
		rc = 0;
	else if (table_is_full(map, block))
		rc = table_full(map, block, entry, &b);
	else
		rc = table_bits(map, block, entry, &b);
	if (rc)
		return rc;
	*out = b;
	return MAP_MOVE_FOUND;
}

/* The place the caller names, or any. */
static int choose(struct vhd_map *map, uint64_t to, uint32_t *entry)
{
	struct map_space *s = &map->space;
	uint64_t end = to + (uint64_t)map->stride * VHD_SECTOR;
	bool recycled;

	if (!to)
		return space_take(map, entry, &recycled);
	assert(map->p.no_reuse && to % VHD_SECTOR == 0 && to >= map->p.data_start &&
	       end <= s->footer);
	if (s->end_of_data < end)
		s->end_of_data = end;
	*entry = (uint32_t)(to / VHD_SECTOR);
	return 0;
}

static void hold(struct vhd_map *map, struct map_block *b, uint32_t entry)
{
	if (b->early == EARLY_QUEUED) { /* the commit writes it */
		list_remove(&b->early_link);
		b->early = EARLY_NONE;
	}
	if (!b->dirty)
		list_remove(&b->link); /* not to be evicted */
	table_pin(map, table_page(map, b->block));
	b->writers++;
	b->refusing = true;
	b->moving = entry;
	b->moving_losses = map->losses;
	map->moves++;
}

int map_move(struct vhd_map *map, struct map_req *req, uint64_t to, uint64_t *from, uint64_t *place)
{
	uint32_t block = (uint32_t)(req->sector / map->p.block_sectors), entry = 0;
	struct map_block *b = NULL;
	int rc;

	assert(map->p.writable);
	if (req->sector >= map->p.size_sectors)
		return -VHD_E_RANGE;
	if (freed_reshaping(map))
		return freed_wait(map, req);
	rc = find(map, block, &b);
	if (rc == MAP_MOVE_FOUND)
		rc = choose(map, to, &entry);
	else if (!rc)
		return 0;
	if (rc == MAP_NEED)
		return freed_wait(map, req);
	if (rc < 0)
		return rc;
	hold(map, b, entry);
	b->moving_chosen = to != 0;
	*from = (uint64_t)b->entry * VHD_SECTOR;
	*place = (uint64_t)entry * VHD_SECTOR;
	return 1;
}

static void let_go(struct vhd_map *map, struct map_block *b)
{
	assert(b->moving && b->writers == 1 && map->moves);
	b->moving = 0;
	b->writers = 0;
	map->moves--;
	freed_unblock(map, b);
	table_settle(map, b);
}

int map_moved(struct vhd_map *map, const struct map_req *req)
{
	struct map_block *b = table_find(map, (uint32_t)(req->sector / map->p.block_sectors));

	if (b->moving_losses != map->losses) { /* ORDER 5: what is there may not last */
		map_move_cancel(map, req, 0);
		return -EIO;
	}
	freed_retire(map, b->entry);
	if (b->fresh) /* holds the page by itself */
		table_unpin(map, table_page(map, b->block));
	b->fresh = true;
	b->entry = b->moving;
	b->recycled = true; /* the sectors before it may be a neighbour's */
	b->named = false;
	b->early = EARLY_NONE; /* if it was written, then elsewhere */
	commit_mark(map, b);
	let_go(map, b);
	return 0;
}

void map_move_cancel(struct vhd_map *map, const struct map_req *req, int lost)
{
	struct map_block *b = table_find(map, (uint32_t)(req->sector / map->p.block_sectors));

	if (lost)
		commit_lost(map, lost);
	if (!b->moving_chosen) /* nobody's: comes back with the next commit */
		freed_retire(map, b->moving);
	table_unpin(map, table_page(map, b->block));
	let_go(map, b);
}
