/* map-space.c - where new blocks go
 *
 *            first use                                    no room left
 *   UNKNOWN ───────────► PROBE ──► PUNCH ──► PUNCH_SYNC ──► READY ──────► GROW
 *                          │ (a block nobody names, or nothing to recycle)  │
 *                          └──────────────────────────────► READY ◄── GROW_SYNC
 *
 * The space between the end of data and the end footer is punched and used
 * first (ORDER 8), then the file grows by writing a footer at its new place
 * (ORDER 6); a device is zeroed ahead instead, its footer stays.
 * A crash leaves at most unused space and an old footer between blocks.
 */
#include "map-private.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/number.h"
#include "bitmap.h"

#define PROBES_MAX 4096u
#define GROW_MIN   16u
#define GROW_BYTES (1ull << 30)

/* First place at or after @from for a block. */
static uint64_t place(const struct vhd_map *map, uint64_t from)
{
	return map->p.align ? bitmap_align(from, map->p.block_sectors) : from;
}

void space_init(struct vhd_map *map)
{
	struct map_space *s = &map->space;

	s->state = SPACE_UNKNOWN;
	s->footer = map->p.footer_offset;
	s->end_of_data = map->p.end_of_data;
	s->next = number_div_up(s->end_of_data, VHD_SECTOR);
	s->prepared_end = s->next;
	s->keep = map->p.append_only ? s->footer : 0;
	memcpy(s->footer_buf, map->p.footer, sizeof(s->footer_buf));
}

static uint64_t behind(const struct vhd_map *map, uint64_t footer)
{
	uint64_t at = place(map, number_max(footer, map->space.next));

	return at > footer ? at : place(map, footer + 1);
}

/* The next position behind the present end footer.  The page of its bitmap may
 * begin with that footer's sector: it is old by the time the page is written.
 * No block is laid over a place where a failed growth may have left a footer. */
static uint64_t behind_footer(const struct vhd_map *map)
{
	uint64_t footer = number_div_up(map->space.footer, VHD_SECTOR);
	uint64_t stale = map->space.stale / VHD_SECTOR;
	uint64_t at = behind(map, footer);

	return stale >= at && stale < at + map->stride ? behind(map, stale) : at;
}

/* Where place() finds the placed position @at again. */
static uint64_t page_start(const struct vhd_map *map, uint64_t at)
{
	return map->p.align ? at + map->bitmap_sectors - map->page_bytes / VHD_SECTOR : at;
}

void space_reset(struct vhd_map *map, uint64_t footer, bool cut)
{
	struct map_space *s = &map->space;

	if (map->p.device) /* what was zeroed ahead is still zero */
		return;
	s->stale = cut ? 0 : s->footer;
	s->footer = footer;
	s->next = footer / VHD_SECTOR;
	s->prepared_end = s->next;
	s->state = SPACE_READY;
	map->p.append_only = true;
}

static void begin(struct vhd_map *map)
{
	struct map_space *s = &map->space;
	uint64_t footer = s->footer / VHD_SECTOR;

	if (map->p.device || map->p.append_only || place(map, s->next) + map->stride > footer) {
		s->state = SPACE_READY; /* nothing worth recycling */
		return;
	}
	s->state = SPACE_PROBE;
	s->probe = s->next;
	s->probes = 0;
	s->probe_packed = false;
}

/* Can the space not grow by even one block?  0, or why not. */
static int no_room(const struct vhd_map *map)
{
	const struct map_space *s = &map->space;

	if (map->p.device)
		return place(map, s->next) + map->stride > s->footer / VHD_SECTOR ? -ENOSPC : 0;
	return behind_footer(map) + map->stride > VHD_BAT_LAST ? -VHD_E_TOO_BIG : 0;
}

/* Growing or recycling succeeded or failed: those who wait try again or hear. */
static void settle(struct vhd_map *map, int err)
{
	map->space.wanted = false;
	map_arrived(map, map_ticket(WAIT_SPACE, 0), err);
}

int space_take(struct vhd_map *map, uint32_t *entry)
{
	struct map_space *s = &map->space;
	uint64_t at = place(map, s->next);

	if (at + map->stride <= s->prepared_end) {
		*entry = (uint32_t)at;
		s->next = at + map->stride;
		s->end_of_data = number_max(s->end_of_data, s->next * VHD_SECTOR);
		s->taken++;
		return 0;
	}
	if (s->state == SPACE_UNKNOWN)
		begin(map);
	if (s->state == SPACE_READY && no_room(map))
		return no_room(map);
	s->wanted = true;
	map->need = map_ticket(WAIT_SPACE, 0);
	return MAP_NEED;
}

/* Read the bitmap's first sector at the place where a block that nobody names
 * would lie, aligned or packed: such a block is not ours to punch. */
static void probe_next(struct vhd_map *map, struct map_io *io)
{
	struct map_space *s = &map->space;
	uint64_t at = s->probe_packed ? s->probe : bitmap_align(s->probe, map->p.block_sectors);

	io->op = MAP_READ;
	io->offset = at * VHD_SECTOR;
	io->length = VHD_SECTOR;
	io->buf = s->probe_buf;
}

static void probe_done(struct vhd_map *map, int err)
{
	struct map_space *s = &map->space;
	uint64_t footer = s->footer / VHD_SECTOR;
	bool zero = true;

	for (uint32_t i = 0; i < VHD_SECTOR && zero; i++)
		zero = !s->probe_buf[i];
	if (err || !zero || s->probes++ > PROBES_MAX) {
		map->p.append_only = true;
		s->keep = s->footer;
		s->state = SPACE_READY;
		return;
	}
	if (!s->probe_packed) {
		s->probe_packed = true;
		if (s->probe + 1 <= footer)
			return;
	}
	s->probe_packed = false;
	s->probe = place(map, s->probe) + map->stride;
	if (bitmap_align(s->probe, map->p.block_sectors) + 1 > footer)
		s->state = SPACE_PUNCH;
}

static uint64_t grow_blocks(const struct vhd_map *map)
{
	uint64_t most = number_max(GROW_BYTES / ((uint64_t)map->p.block_sectors * VHD_SECTOR), 1);
	uint64_t want = number_max(GROW_MIN, map->space.taken * 2);

	return number_min(number_min(want, most), map->blocks);
}

static void grow_next(struct vhd_map *map, struct map_io *io)
{
	struct map_space *s = &map->space;
	uint64_t first = map->p.device ? place(map, s->next) : behind_footer(map);
	uint64_t stride = place(map, first + map->stride) - first;
	uint64_t blocks = grow_blocks(map);
	uint64_t limit = map->p.device ? s->footer / VHD_SECTOR : VHD_BAT_LAST;
	uint64_t end = first + map->stride + (blocks - 1) * stride;

	if (!map->p.device && s->stale / VHD_SECTOR >= first + map->stride)
		end = s->stale / VHD_SECTOR; /* over the footer a failed growth left */
	while (end > limit) {
		blocks--;
		end = first + map->stride + (blocks - 1) * stride;
	}
	assert(blocks > 0);
	if (map->p.device) {
		io->op = MAP_ZERO;
		io->offset = s->prepared_end * VHD_SECTOR;
		io->length = end * VHD_SECTOR - io->offset;
	} else {
		/* ORDER 6: one write at the new place, nothing below it before the sync */
		io->op = MAP_WRITE;
		io->offset = end * VHD_SECTOR;
		io->length = VHD_FOOTER_BYTES;
		io->buf = s->footer_buf;
	}
	s->new_end = end * VHD_SECTOR;
}

bool space_next(struct vhd_map *map, struct map_io *io)
{
	struct map_space *s = &map->space;

	if (s->flying || s->state == SPACE_UNKNOWN || (s->state == SPACE_READY && !s->wanted))
		return false;
	if (map->commit.stage >= SHAPE_WRITE) /* the file is being given its final shape */
		return false;
	if (s->state == SPACE_READY && no_room(map)) {
		settle(map, no_room(map));
		return false;
	}
	if (!map_take_slot(map, SLOT_SPACE, NULL, io))
		return false;
	s->flying = true;
	switch (s->state) {
	case SPACE_PROBE:
		probe_next(map, io);
		break;
	case SPACE_PUNCH:
		io->op = MAP_PUNCH;
		io->offset = s->next * VHD_SECTOR;
		io->length = s->footer - io->offset;
		break;
	case SPACE_READY:
		s->state = SPACE_GROW;
		/* fall through */
	case SPACE_GROW:
		grow_next(map, io);
		break;
	default:
		io->op = MAP_SYNC;
	}
	return true;
}

static void grow_failed(struct vhd_map *map, int err)
{
	if (!map->p.device)
		map->space.stale = map->space.new_end;
	settle(map, err);
}

void space_done(struct vhd_map *map, int err)
{
	struct map_space *s = &map->space;

	s->flying = false;
	switch (s->state) {
	case SPACE_PROBE:
		probe_done(map, err);
		return;
	case SPACE_PUNCH:
		s->state = err ? SPACE_READY : SPACE_PUNCH_SYNC;
		map->p.append_only |= err != 0;
		return;
	case SPACE_PUNCH_SYNC:
		s->state = SPACE_READY;
		if (err) {
			map->p.append_only = true;
			return;
		}
		s->prepared_end = s->footer / VHD_SECTOR;
		settle(map, 0);
		return;
	case SPACE_GROW:
		s->state = err ? SPACE_READY : SPACE_GROW_SYNC;
		if (err)
			grow_failed(map, err);
		return;
	default:
		assert(s->state == SPACE_GROW_SYNC);
		s->state = SPACE_READY;
		if (err) {
			grow_failed(map, err);
			return;
		}
		if (!map->p.device) {
			s->next = page_start(map, behind_footer(map));
			s->footer = s->new_end;
			s->stale = 0;
		}
		s->prepared_end = s->new_end / VHD_SECTOR;
		settle(map, 0);
	}
}
