/* map-space.c - where new blocks go
 *
 *            first use                                    no room left
 *   UNKNOWN ───────────► PROBE ──► PUNCH ──► PUNCH_SYNC ──► READY ──────► GROW
 *                          │ (a block nobody names, or nothing to recycle)  │
 *                          └──────────────────────────────► READY ◄── GROW_SYNC
 *
 * The space between the end of data and the end footer is punched and used
 * first (ORDER 8), then the file grows by writing a footer at its new place
 * (ORDER 6); a device is zeroed ahead instead, its footer stays.  When half of
 * what was prepared is used the next growth begins, so that writers do not
 * wait for it: then there are two pieces, before and behind the old footer.
 *
 *   ... blocks | next .. prepared_end | old footer | ahead .. ahead_end | footer
 *
 * Positions that were freed come before all of this.
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
#define GROW_BYTES (1ull << 30)	 /* a footer, however far away, costs the same */
#define ZERO_BYTES (64ull << 20) /* zeroing does not */

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
	s->next = number_div_up(number_max(s->end_of_data, map->p.metadata_end), VHD_SECTOR);
	s->prepared_end = s->next;
	s->keep = map->p.append_only ? s->footer : 0;
	s->grow = GROW_MIN;
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
	s->stale = cut ? 0 : number_max(s->stale, s->footer);
	s->footer = footer;
	/* what was not cut off is no zeros: blocks go behind it */
	s->next = cut ? footer / VHD_SECTOR : number_div_up(s->stale, VHD_SECTOR) + 1;
	s->prepared_end = s->next;
	s->ahead_end = s->room = 0;
	s->end_of_data = number_min(s->end_of_data, footer);
	s->state = SPACE_READY;
	map->p.append_only = true;
	freed_cut(map, footer / VHD_SECTOR);
}

bool space_rests(const struct vhd_map *map)
{
	const struct map_space *s = &map->space;

	return !s->flying && (s->state == SPACE_UNKNOWN || s->state == SPACE_READY);
}

/* From one placed position to the next. */
static uint64_t step(const struct vhd_map *map)
{
	uint64_t first = place(map, 0);

	return place(map, first + map->stride) - first;
}

static uint64_t fit(const struct vhd_map *map, uint64_t from, uint64_t end)
{
	uint64_t first = place(map, from);

	return first + map->stride > end ? 0 : 1 + (end - first - map->stride) / step(map);
}

/* Blocks that can be had without waiting. */
static uint64_t left(const struct vhd_map *map)
{
	const struct map_space *s = &map->space;

	return fit(map, s->next, s->prepared_end) + fit(map, s->ahead, s->ahead_end) +
	       (map->p.no_reuse ? 0 : map->freed.heap.count);
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
		return fit(map, s->next, s->footer / VHD_SECTOR) <=
				       fit(map, s->next, s->prepared_end) ?
			       -ENOSPC :
			       0;
	return behind_footer(map) + map->stride > VHD_BAT_LAST ? -VHD_E_TOO_BIG : 0;
}

/* Is it time to prepare more, though nobody waits yet? */
static bool is_low(const struct vhd_map *map)
{
	const struct map_space *s = &map->space;

	return s->room && !s->ahead_end && !s->ahead_failed && left(map) * 2 <= s->room &&
	       !map->commit.quiesce && !no_room(map);
}

/* Growing or recycling succeeded or failed: those who wait try again or hear. */
static void settle(struct vhd_map *map, int err)
{
	map->space.wanted = false;
	map_arrived(map, map_ticket(WAIT_SPACE, 0), err);
}

int space_take(struct vhd_map *map, uint32_t *entry, bool *recycled)
{
	struct map_space *s = &map->space;

	if (map->commit.stage < SHAPE_SCAN) { /* else the end of the file is being moved */
		*recycled = freed_take(map, entry);
		if (*recycled) { /* a final shape that was given up may have seen a nearer end */
			s->end_of_data = number_max(s->end_of_data,
						    ((uint64_t)*entry + map->stride) * VHD_SECTOR);
			return 0;
		}
		if (!fit(map, s->next, s->prepared_end) && s->ahead_end) {
			s->next = s->ahead;
			s->prepared_end = s->ahead_end;
			s->ahead_end = 0;
		}
		if (fit(map, s->next, s->prepared_end)) {
			*entry = (uint32_t)place(map, s->next);
			s->next = *entry + map->stride;
			s->end_of_data = number_max(s->end_of_data, s->next * VHD_SECTOR);
			s->taken++;
			return 0;
		}
		if (s->state == SPACE_UNKNOWN)
			begin(map);
		if (s->state == SPACE_READY && no_room(map))
			return no_room(map);
	}
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

/* Twice as many as the last time, within reason. */
static uint64_t grow_blocks(const struct vhd_map *map)
{
	uint64_t bytes = map->p.device ? ZERO_BYTES : GROW_BYTES;
	uint64_t most = number_max(bytes / ((uint64_t)map->p.block_sectors * VHD_SECTOR), 1);

	return number_min(number_min(map->space.grow, most), map->blocks);
}

static void grow_next(struct vhd_map *map, struct map_io *io)
{
	struct map_space *s = &map->space;
	uint64_t first = map->p.device ? place(map, s->next) : behind_footer(map);
	uint64_t blocks = grow_blocks(map);
	uint64_t limit = map->p.device ? s->footer / VHD_SECTOR : VHD_BAT_LAST;
	uint64_t end;

	if (map->p.device) /* what is left is zero already */
		blocks += fit(map, s->next, s->prepared_end);
	blocks = number_min(blocks, fit(map, page_start(map, first), limit));
	assert(blocks > 0);
	end = first + map->stride + (blocks - 1) * step(map);
	if (!map->p.device && s->stale / VHD_SECTOR >= first + map->stride)
		end = s->stale / VHD_SECTOR; /* over the footer a failed growth left */
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

	if (s->flying || (s->state == SPACE_UNKNOWN && !s->wanted))
		return false;
	if (map->commit.stage >= SHAPE_SCAN) /* the file is being given its final shape */
		return false;
	if (s->wanted && left(map)) {
		settle(map, 0);
		return false;
	}
	if (s->state == SPACE_UNKNOWN)
		begin(map);
	if (s->state == SPACE_READY && !s->wanted && !is_low(map))
		return false;
	if (s->state == SPACE_READY && map->resize.state != RESIZE_IDLE)
		return false; /* the footer is being changed */
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
		io->once = s->unasked = !s->wanted;
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
	map->space.ahead_failed = true;
	/* who came to wait meanwhile has it tried again, with patience */
	if (!map->space.unasked)
		settle(map, err);
	map->space.unasked = false;
}

/* What was written at new_end is durable. */
static void grown(struct vhd_map *map)
{
	struct map_space *s = &map->space;
	uint64_t start = map->p.device ? s->next : page_start(map, behind_footer(map));
	uint64_t end = s->new_end / VHD_SECTOR;

	if (map->p.device) {
		s->prepared_end = end;
	} else if (fit(map, s->next, s->prepared_end)) {
		s->ahead = start;
		s->ahead_end = end;
	} else {
		s->next = start;
		s->prepared_end = end;
	}
	if (!map->p.device) {
		s->footer = s->new_end;
		s->stale = 0;
	}
	s->grow = number_min(s->grow * 2, GROW_BYTES / VHD_BLOCK_MIN);
	s->room = left(map);
	s->ahead_failed = false;
	settle(map, 0);
}

void space_lost(struct vhd_map *map, int err)
{
	if (map->space.state > SPACE_PROBE && map->space.state != SPACE_READY)
		map->space.lost = err;
}

void space_done(struct vhd_map *map, int err)
{
	struct map_space *s = &map->space;
	bool syncing = s->state == SPACE_PUNCH_SYNC || s->state == SPACE_GROW_SYNC;

	s->flying = false;
	if (err && syncing)
		commit_lost(map, err);
	if (syncing && !err)
		err = s->lost;
	if (syncing)
		s->lost = 0;
	switch (s->state) {
	case SPACE_PROBE:
		probe_done(map, err);
		return;
	case SPACE_PUNCH:
		s->state = err ? SPACE_READY : SPACE_PUNCH_SYNC;
		map->p.append_only |= err != 0;
		if (err)
			s->lost = 0;
		return;
	case SPACE_PUNCH_SYNC:
		s->state = SPACE_READY;
		if (err) {
			map->p.append_only = true;
			return;
		}
		s->prepared_end = s->footer / VHD_SECTOR;
		s->room = left(map);
		settle(map, 0);
		return;
	case SPACE_GROW:
		s->state = err ? SPACE_READY : SPACE_GROW_SYNC;
		if (err) {
			s->lost = 0;
			grow_failed(map, err);
		}
		return;
	default:
		assert(s->state == SPACE_GROW_SYNC);
		s->state = SPACE_READY;
		if (err) {
			grow_failed(map, err);
			return;
		}
		grown(map);
	}
}
