/* map-write.c - reserving room for writes, and what is written
 *
 * A reservation holds the block: writers counts those open, and neither is its
 * record dropped nor its position given up before they ended.
 */
#include "map-private.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

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

static void make_visible(struct vhd_map *map, struct map_block *b)
{
	if (b->visible)
		return;
	b->visible = true;
	b->remains = false; /* they show now, as what a write that failed may leave */
	map->new_blocks++;
	commit_mark(map, b);
}

static void block_written(struct vhd_map *map, struct map_block *b, uint64_t first, uint64_t count)
{
	assert(b->writers > 0);
	b->writers--;
	make_visible(map, b);
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

/* ORDER 4: nobody was told that anything of @b is written, and no commit names its place. */
static void give_back(struct vhd_map *map, struct map_block *b)
{
	freed_retire(map, b->entry);
	if (b->early == EARLY_QUEUED)
		list_remove(&b->early_link);
	b->early = EARLY_NONE;
	b->entry = VHD_BAT_UNUSED;
	b->remains = false;
	memset(b->bits, 0, map->bitmap_bytes);
	if (b->dirty || b->frozen) /* a commit says that it is unused */
		return;
	table_unpin(map, table_page(map, b->block));
	table_drop(map, b);
}

void write_undo(struct vhd_map *map, struct map_block *b)
{
	bool given = b->remains && !b->writers && !b->visible && b->early != EARLY_FLYING;

	freed_unblock(map, b);
	if (given)
		give_back(map, b);
	else
		table_settle(map, b);
}

/* Where all bits are ones (ORDER 9) what reached the place of a new block would show as soon as another
 * write makes it visible: so that place is given back.  While others write to the block it stays, and
 * who zeroes the range finds it (map_has_remains).  With a parent the record stays: the next
 * write finds its position, which no commit names before, and no bit tells of the remains. */
static void cancelled(struct vhd_map *map, struct map_block *b)
{
	if (map_fills(map) && !b->visible) {
		b->remains = true;
		if (!b->writers && b->early == EARLY_FLYING)
			b->refusing = true; /* until that has landed */
	}
	write_undo(map, b);
}

bool map_has_remains(const struct vhd_map *map, uint64_t sector, uint64_t *count)
{
	const struct map_block *b = table_find(map, (uint32_t)(sector / map->p.block_sectors));

	if (!b || !b->remains || b->visible)
		return false;
	*count = number_min(*count, map->p.block_sectors - sector % map->p.block_sectors);
	return true;
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
			cancelled(map, b);
		}
		sector += here;
		left -= here;
	}
}
