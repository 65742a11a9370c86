/* map-resize.c - live growth of the virtual disk, within the room of the BAT
 *
 *   IDLE ─► CHECK ──────────► CLEAR ──────► BATMAP ──► END ──► SYNC1 ──► COPY ──► SYNC2 ─► IDLE
 *           entries beyond    the rest of   zeroed, if         footer             footer
 *           the old size      the last      its checksum       at the end         at 0
 *           are unused        block is zero would change;
 *                                           and the last block
 *                                           as it is now is
 *                                           committed
 *
 * Both sizes are right for the data at every instant; lookups and writes reach
 * the new one when both footers are durable (ORDER 13: one after the other,
 * never in one unsynced batch).  Once the first was offered every later footer
 * has the new size: a failure is mended by trying again, or by the next shape.
 * A crash leaves the two footers as they were, or the new size at the end only.
 */
#include "map-private.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/number.h"

static void finish(struct vhd_map *map, int err)
{
	struct map_resize *r = &map->resize;

	r->state = RESIZE_IDLE;
	r->lost = 0;
	if (!err) {
		map->p.size_sectors = r->size_sectors;
		map->blocks = r->blocks;
		r->doubt = false;
	}
	map_answer(map, r->client, err);
	map_arrived(map, map_ticket(WAIT_RESIZE, 0), 0);
}

/* A page was loaded, or the commit that zeroes the batmap is done. */
static void waited(struct map_req *req)
{
	struct map_resize *r =
		(struct map_resize *)((char *)req - offsetof(struct map_resize, req));
	struct vhd_map *map = (struct vhd_map *)((char *)r - offsetof(struct vhd_map, resize));

	r->waiting = false;
	if (req->err)
		finish(map, req->err);
	else if (r->state == RESIZE_BATMAP)
		r->state = RESIZE_END;
}

static void wait_for(struct vhd_map *map)
{
	struct map_resize *r = &map->resize;

	r->waiting = true;
	r->req.ready = waited;
	r->req.ticket = map->need;
	map_append_req(&map->writes, &r->req);
}

int map_resize(struct vhd_map *map, struct map_req *req, uint64_t size_sectors,
	       const uint8_t footer[VHD_FOOTER_BYTES])
{
	struct map_resize *r = &map->resize;
	uint64_t blocks = number_div_up(size_sectors, map->p.block_sectors);
	int rc;

	assert(map->p.writable);
	if (size_sectors < map->p.size_sectors)
		return -VHD_E_ARGUMENT;
	if (blocks > map->p.max_entries || size_sectors > VHD_SIZE_MAX / VHD_SECTOR)
		return -VHD_E_TOO_BIG;
	if (r->state != RESIZE_IDLE)
		return -EBUSY;
	rc = table_enlarge(map, blocks);
	if (rc < 0)
		return rc;
	r->client = req;
	r->size_sectors = size_sectors;
	r->blocks = blocks;
	r->block = map->blocks;
	memcpy(r->footer, footer, sizeof(r->footer));
	r->state = RESIZE_CHECK;
	return 0;
}

/* What nobody read so far is read from now on: an entry there would be a block of
 * somebody else's making. */
static bool check(struct vhd_map *map)
{
	struct map_resize *r = &map->resize;

	for (; r->block < r->blocks; r->block++) {
		uint32_t entry = VHD_BAT_UNUSED;
		int rc = table_entry(map, (uint32_t)r->block, &entry);

		if (rc == MAP_NEED) {
			wait_for(map);
			return false;
		}
		if (!rc && entry != VHD_BAT_UNUSED) {
			map->fault_block = (uint32_t)r->block;
			map->fault_entry = entry;
			rc = -VHD_E_BAT_ENTRY;
		}
		if (rc) {
			finish(map, rc);
			return false;
		}
	}
	r->state = RESIZE_CLEAR;
	return true;
}

/* The last block may end behind the disk's old end: what is there shall read as zero. */
static bool clear(struct vhd_map *map, struct map_io *io)
{
	struct map_resize *r = &map->resize;
	uint64_t first = map->p.size_sectors % map->p.block_sectors;
	uint32_t entry = VHD_BAT_UNUSED;
	int rc = first ? table_entry(map, (uint32_t)(map->blocks - 1), &entry) : 0;

	if (rc == MAP_NEED) {
		wait_for(map);
		return false;
	}
	if (rc < 0) {
		finish(map, rc);
		return false;
	}
	if (entry != VHD_BAT_UNUSED) {
		if (!map_take_slot(map, SLOT_RESIZE, NULL, io))
			return false;
		io->op = MAP_ZERO;
		io->offset = ((uint64_t)entry + map->bitmap_sectors + first) * VHD_SECTOR;
		io->length = (map->p.block_sectors - first) * VHD_SECTOR;
		r->flying = true;
	}
	r->state = RESIZE_BATMAP;
	return r->flying;
}

static uint64_t covered(const struct vhd_map *map, uint64_t sectors)
{
	return batmap_covered_bytes(sectors * VHD_SECTOR, map->p.block_sectors * VHD_SECTOR,
				    map->p.batmap_bytes);
}

/* More of the batmap comes under its checksum.  Is all of that zero? */
static bool checksum_stays(const struct vhd_map *map)
{
	uint64_t from = map->p.batmap_covered, to;

	if (!map->p.batmap_bytes || map->batmap.zero)
		return true;
	to = covered(map, map->resize.size_sectors);
	if (to <= from)
		return true;
	return map->batmap.disk && bits_all_clear(map->batmap.disk, from * 8, (to - from) * 8);
}

/* Was the last block freed or moved, and the BAT on the disk may not say so yet?  Then it names
 * what was not cleared. */
static bool last_moved(const struct vhd_map *map)
{
	const struct map_block *b = NULL;

	if (map->p.size_sectors % map->p.block_sectors)
		b = table_find(map, (uint32_t)(map->blocks - 1));
	return b && b->fresh;
}

static bool offer(struct vhd_map *map, struct map_io *io, uint64_t at)
{
	struct map_resize *r = &map->resize;

	if (!map_take_slot(map, SLOT_RESIZE, NULL, io))
		return false;
	r->flying = true;
	io->op = MAP_SYNC;
	if (r->state != RESIZE_SYNC1 && r->state != RESIZE_SYNC2) {
		io->op = MAP_WRITE;
		io->offset = at;
		io->length = VHD_FOOTER_BYTES;
		io->buf = map->space.footer_buf;
	}
	return true;
}

static uint64_t footer_place(const struct vhd_map *map)
{
	switch (map->resize.state) {
	case RESIZE_END:
		return map->space.footer;
	case RESIZE_STALE:
		return map->space.stale;
	default:
		return 0;
	}
}

bool resize_next(struct vhd_map *map, struct map_io *io)
{
	struct map_resize *r = &map->resize;

	if (r->state == RESIZE_IDLE || r->flying || r->waiting || !space_rests(map) || map->moves ||
	    map->commit.stage >= SHAPE_SCAN)
		return false;
	if (r->state == RESIZE_CHECK && !check(map))
		return false;
	if (r->state == RESIZE_CLEAR && clear(map, io))
		return true;
	if (r->state == RESIZE_BATMAP && !r->waiting) {
		if (checksum_stays(map) && !last_moved(map)) {
			r->state = RESIZE_END;
		} else {
			map->batmap.zero_wanted |= !checksum_stays(map);
			r->waiting = true;
			r->req.ready = waited;
			map_flush(map, &r->req);
		}
	}
	if (r->state < RESIZE_END)
		return false;
	if (r->state == RESIZE_END) {
		memcpy(map->space.footer_buf, r->footer, sizeof(r->footer));
		if (map->p.batmap_bytes)
			map->p.batmap_covered = covered(map, r->size_sectors);
	}
	if (r->state == RESIZE_STALE && map->space.stale <= map->space.footer)
		r->state = RESIZE_SYNC1;
	return offer(map, io, footer_place(map));
}

void resize_lost(struct vhd_map *map, int err)
{
	if (map->resize.state > RESIZE_CHECK)
		map->resize.lost = err;
}

void resize_done(struct vhd_map *map, int err)
{
	struct map_resize *r = &map->resize;

	r->flying = false;
	if (r->state == RESIZE_BATMAP) { /* the rest of the last block is zero */
		if (err)
			finish(map, err);
		return;
	}
	if (r->state == RESIZE_END)
		r->doubt = true;
	if (err && (r->state == RESIZE_SYNC1 || r->state == RESIZE_SYNC2))
		commit_lost(map, err);
	if (!err)
		err = r->lost;
	if (err || r->state == RESIZE_SYNC2)
		finish(map, err);
	else
		r->state++;
}
