/* map-write.c - reserving room for writes, and what is written
 *
 * A reservation holds the block: writers counts those open, and neither is its
 * record dropped nor its position given up before they ended.
 */
#include "map-private.h"

#include <assert.h>
#include <errno.h>

#include "base/bits.h"
#include "base/number.h"

/* A position for a block that has none, and a record if it has none (*out NULL). */
static int reserve_new(struct vhd_map *map, uint32_t block, struct map_block **out)
{
	struct map_block *b = *out;
	uint32_t entry = 0;
	bool recycled;
	int rc = space_take(map, &entry, &recycled);

	if (rc)
		return rc;
	if (!b) {
		b = table_add(map, block, entry);
		if (!b) {
			freed_retire(map, entry); /* nobody's: comes back with the next commit */
			return -ENOMEM;
		}
		b->fresh = true;
		table_pin(map, table_page(map, block));
	}
	b->entry = entry;
	b->recycled = recycled;
	b->named = false;
	if (map_fills(map)) /* ORDER 9; past the end of the disk too: it may grow */
		bits_set_range(b->bits, 0, map->p.block_sectors);
	commit_early(map, b);
	*out = b;
	return 0;
}

static int reserve_block(struct vhd_map *map, uint32_t block, uint32_t *entry)
{
	struct map_block *b = table_find(map, block);
	int rc = 0;

	if (b && b->refusing) { /* ORDER 10: it is to be freed, no new uses */
		map->need = map_ticket(WAIT_BLOCK, block);
		return MAP_NEED;
	}
	if (!b || !b->fresh) {
		rc = table_entry(map, block, entry);
		if (rc)
			return rc;
		if (*entry == VHD_BAT_UNUSED)
			rc = reserve_new(map, block, &b);
		else if (!b && table_is_full(map, block))
			rc = table_full(map, block, *entry, &b);
		else
			rc = table_bits(map, block, *entry, &b);
	} else if (b->entry == VHD_BAT_UNUSED) {
		rc = reserve_new(map, block, &b);
	}
	if (rc)
		return rc;
	b->writers++;
	if (!b->dirty)
		list_remove(&b->link); /* not to be evicted */
	*entry = b->entry;
	return 0;
}

int map_write(struct vhd_map *map, struct map_req *req, struct map_ext *out, int max)
{
	uint64_t sector = req->sector, left = req->count;
	int n = 0;

	assert(map->p.writable);
	if (!number_within(sector, left, map->p.size_sectors) || !left)
		return -VHD_E_RANGE;
	while (left) {
		uint32_t block = (uint32_t)(sector / map->p.block_sectors), entry = 0;
		uint64_t first = sector % map->p.block_sectors;
		uint64_t here = number_min(left, map->p.block_sectors - first);
		struct map_ext e = { .kind = EXT_HERE, .sector = sector, .count = here };
		int rc = n == max ? MAP_NEED : reserve_block(map, block, &entry);

		if (rc && n) /* what is reserved goes on without the rest */
			break;
		if (rc < 0)
			return rc;
		if (rc) {
			req->ticket = map->need;
			map_append_req(&map->writes, req);
			return MAP_WAIT;
		}
		e.file_sector = (uint64_t)entry + map->bitmap_sectors + first;
		map_add_ext(out, max, &n, &e);
		sector += here;
		left -= here;
	}
	req->count = sector - req->sector;
	return n;
}

static void show(struct vhd_map *map, struct map_block *b)
{
	map->new_blocks += !b->visible;
	b->visible = true;
}

static void block_written(struct vhd_map *map, struct map_block *b, uint64_t first, uint64_t count)
{
	assert(b->writers > 0);
	b->writers--;
	show(map, b);
	if (b->fresh && !b->named && !(b->frozen && b->frozen_entry == b->entry))
		commit_mark(map, b); /* else a commit has its entry, or will have it again */
	if (!bits_all_set(b->bits, first, count)) {
		bits_set_range(b->bits, first, count);
		commit_mark(map, b);
	}
	if (map->known_full && !bits_test(map->known_full, b->block) &&
	    bits_all_set(b->bits, 0, map->p.block_sectors))
		bits_set(map->known_full, b->block);
	freed_unblock(map, b);
	table_settle(map, b);
}

void map_written(struct vhd_map *map, const struct map_req *req)
{
	uint64_t sector = req->sector, left = req->count;

	map->commit.data_outstanding = true;
	while (left) {
		uint64_t first = sector % map->p.block_sectors;
		uint64_t here = number_min(left, map->p.block_sectors - first);
		struct map_block *b = table_find(map, (uint32_t)(sector / map->p.block_sectors));

		if (b)
			block_written(map, b, first, here);
		sector += here;
		left -= here;
	}
}

void map_cancel(struct vhd_map *map, const struct map_req *req)
{
	uint64_t sector = req->sector, left = req->count;

	/* a part may be there: after the next flush it stays as it is */
	map->commit.data_outstanding = true;
	while (left) {
		uint64_t first = sector % map->p.block_sectors;
		uint64_t here = number_min(left, map->p.block_sectors - first);
		struct map_block *b = table_find(map, (uint32_t)(sector / map->p.block_sectors));

		if (b) {
			assert(b->writers > 0);
			b->writers--;
			/* Where all bits are ones (ORDER 9) what reached the place
			 * shows as soon as the block is used, so it shows from now on, and
			 * who zeroes the range finds it.  But nothing of it was promised: no
			 * commit names the block before it is written to, for which a full
			 * disk may have no room.  Nor with a parent: the record stays, and the
			 * next write finds its position. */
			if (map_fills(map))
				show(map, b);
			freed_unblock(map, b);
			table_settle(map, b);
		}
		sector += here;
		left -= here;
	}
}
