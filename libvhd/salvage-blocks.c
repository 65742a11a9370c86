/* salvage-blocks.c - block by block: what is believed, what is lost
 *
 * A sector is copied when its entry and its bit are believed; judge.h says what speaks against
 * a bitmap.  Of everything else the range is told.  In the target a lost range reads as zeros,
 * or as what the parent has.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "bitmap.h"
#include "error.h"
#include "salvage-private.h"
#include "zeros.h"

#define PIECE_BYTES (1u << 20)
#define GRAIN_BYTES (64u << 10) /* zeros of so many bytes are not written */

#define SECTOR_ENTRIES ((uint32_t)(VHD_SECTOR / 4)) /* of the block table */

static const char no_entry[] = "its entry of the block table is lost";
static const char no_owner[] = "another block claims its place";
static const char no_block[] = "its entry stands among lost ones, and no block begins there";
static const char cut_off[] = "behind the end of the file";
static const char unread[] = "cannot be read from the storage";
static const char unmarked[] = "there is data, but the bitmap says it was never written";
static const char wiped[] = "there is data, but no bit says that it is not the parent's";
static const char noise[] = "its bitmap looks like noise";
static const char undecided[] = "batmap and bitmap contradict each other";
static const char remembered[] = "the batmap calls it complete, and no entry names it";
static const char no_name[] =
	"no entry names it, and where some blocks of the file belong is not known";
static const char by_order[] = "taken from where the order of blocks suggests it";

struct block {
	uint32_t number, entry;
	uint32_t sectors; /* on the disk */
	uint64_t start;	  /* bytes, on the disk */
	bool placed;
	uint32_t target; /* its entry there */
};

static void lose(struct salvage *s, const struct block *b, uint64_t from, uint64_t count,
		 bool guessed, const char *why)
{
	lost_add(&s->lost, b->start + from * VHD_SECTOR, count * VHD_SECTOR, guessed, why);
}

/* ── copying ── */

/* On a device old contents must not show through what is not written. */
static int clear_place(struct salvage *s, uint64_t data)
{
	uint64_t end = data + s->c.header.block_size;
	int rc = 0;

	if (!s->write || !s->target.io->device)
		return 0;
	if (end > s->device_end)
		rc = -ENOSPC;
	if (!rc)
		rc = io_zero(s->target.io, data, s->c.header.block_size);
	return rc < 0 ? error_system(s->err, rc, "write", s->destination) : 0;
}

/* The block gets its place in the target when there is something to put there. */
static int place(struct salvage *s, struct block *b)
{
	if (b->placed)
		return 0;
	convert_dynamic_place(&s->dynamic, b->number, &b->target);
	b->placed = true;
	return clear_place(s, convert_dynamic_data(&s->dynamic, b->target));
}

static int put_piece(struct salvage *s, struct block *b, const uint8_t *data, uint32_t from,
		     size_t length)
{
	for (size_t at = 0; at < length; at += GRAIN_BYTES) {
		size_t n = number_min(GRAIN_BYTES, length - at);
		uint64_t to;
		int rc;

		if (zeros_are(data + at, n))
			continue;
		s->result->data_bytes += n;
		rc = place(s, b);
		if (rc < 0)
			return rc;
		to = convert_dynamic_data(&s->dynamic, b->target) + (uint64_t)from * VHD_SECTOR +
		     at;
		rc = s->write ? io_write(s->target.io, data + at, n, to) : 0;
		if (rc < 0)
			return error_system(s->err, rc, "write", s->destination);
	}
	return 0;
}

static int read_source(struct salvage *s, void *buf, size_t length, uint64_t offset)
{
	int rc = io_read(s->view, buf, length, offset);

	return rc < 0 && rc != -EIO ? error_system(s->err, rc, "read", s->source) : rc;
}

/* Sector by sector, where the storage is bad. */
static int copy_slowly(struct salvage *s, struct block *b, uint32_t from, uint32_t count,
		       uint64_t data)
{
	for (uint32_t i = from; i < from + count; i++) {
		int rc = read_source(s, s->piece, VHD_SECTOR, data + (uint64_t)i * VHD_SECTOR);

		if (rc == -EIO) {
			lose(s, b, i, 1, false, unread);
			bits_clear(s->bits, i);
			continue;
		}
		if (!rc)
			rc = put_piece(s, b, s->piece, i, VHD_SECTOR);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int copy_run(struct salvage *s, struct block *b, uint32_t from, uint32_t count)
{
	uint64_t data = (uint64_t)b->entry * VHD_SECTOR + s->judge.bitmap_bytes;

	while (count) {
		uint32_t n = (uint32_t)number_min(count, PIECE_BYTES / VHD_SECTOR);
		int rc = read_source(s, s->piece, (size_t)n * VHD_SECTOR,
				     data + (uint64_t)from * VHD_SECTOR);

		if (!rc)
			rc = put_piece(s, b, s->piece, from, (size_t)n * VHD_SECTOR);
		else if (rc == -EIO)
			rc = copy_slowly(s, b, from, n, data);
		if (rc < 0)
			return rc;
		from += n;
		count -= n;
	}
	return 0;
}

/* The bitmap of the block in the target, behind its data: nobody sees the target before it is
 * whole. */
static int put_bitmap(struct salvage *s, struct block *b)
{
	struct convert_dynamic *d = &s->dynamic;
	uint8_t *page = d->page;
	int rc;

	if (s->true_bits) {
		memset(page, 0, d->page_bytes);
		memcpy(page + d->page_bytes - s->judge.bitmap_bytes, s->bits,
		       s->judge.bitmap_bytes);
		d->present = UINT64_MAX; /* the page is ours */
	} else {
		convert_dynamic_page(d, b->number, s->c.footer.current_size);
	}
	if (!s->true_bits || bits_all_set(s->bits, 0, s->c.block_sectors))
		bits_set(s->full, b->number);
	rc = s->write ? io_write(s->target.io, page, d->page_bytes,
				 convert_dynamic_data(d, b->target) - d->page_bytes) :
			0;
	return rc < 0 ? error_system(s->err, rc, "write", s->destination) : 0;
}

/* All sectors whose bits are set in s->bits. */
static int copy_block(struct salvage *s, struct block *b)
{
	uint32_t from = 0;

	while (from < b->sectors) {
		uint32_t run = (uint32_t)bits_run(s->bits, from, b->sectors);
		int rc = bits_test(s->bits, from) ? copy_run(s, b, from, run) : 0;

		if (rc < 0)
			return rc;
		from += run;
	}
	if (s->true_bits && !bits_all_clear(s->bits, 0, b->sectors)) {
		int rc = place(s, b);

		if (rc < 0)
			return rc;
	}
	return b->placed ? put_bitmap(s, b) : 0;
}

/* ── bitmaps ── */

/* What is said of sectors with data in a run of clear bits: they are lost, or taken by guess. */
static int tell_data(struct salvage *s, const struct block *b, uint32_t from, uint32_t count,
		     const char *why)
{
	uint32_t end = from + count, found;

	while (from < end) {
		int rc = judge_first_data(&s->judge, b->entry, from, end - from, &found);

		if (rc < 0 || from + found == end)
			return rc;
		from += found;
		if (why)
			lose(s, b, from, 1, s->o->guess, why);
		if (s->o->guess)
			bits_set(s->bits, from);
		from++;
	}
	return 0;
}

static int each_clear_run(struct salvage *s, const struct block *b, const char *why)
{
	uint32_t from = 0;
	int rc = 0;

	while (!rc && from < b->sectors) {
		uint32_t run = (uint32_t)bits_run(s->judge.bitmap, from, b->sectors);

		if (!bits_test(s->judge.bitmap, from))
			rc = tell_data(s, b, from, run, why);
		from += run;
	}
	return rc;
}

/* The bitmap of a block with a parent tells nothing: the block is lost, or what has data is
 * taken.  1: nothing of it is. */
static int distrust(struct salvage *s, const struct block *b, const char *why)
{
	memset(s->bits, 0, s->judge.bitmap_bytes);
	lose(s, b, 0, b->sectors, s->o->guess, why);
	if (!s->o->guess)
		return 1;
	return tell_data(s, b, 0, b->sectors, NULL);
}

static void tell_undecided(struct salvage *s, const struct block *b)
{
	uint32_t from = 0;

	while (from < b->sectors) {
		uint32_t run = (uint32_t)bits_run(s->bits, from, b->sectors);

		if (!bits_test(s->bits, from))
			lose(s, b, from, run, s->o->guess, undecided);
		from += run;
	}
}

/* s->bits: what is copied.  1: nothing, 0, negative. */
static int choose_bits(struct salvage *s, struct block *b, bool complete)
{
	uint32_t sector;
	int verdict = judge_block(&s->judge, b->number, b->entry, complete, &sector);

	if (verdict < 0)
		return verdict;
	b->sectors = s->judge.sectors;
	memcpy(s->bits, s->judge.bitmap, s->judge.bitmap_bytes);
	switch ((enum judge_verdict)verdict) {
	case JUDGE_SOUND:
		return 0;
	case JUDGE_STALE:
		if (s->c.footer.type == VHD_TYPE_DIFFERENCING)
			tell_undecided(s, b);
		return 0;
	case JUDGE_FILL:
		bits_set_range(s->bits, 0, b->sectors);
		return 0;
	case JUDGE_UNMARKED:
		return each_clear_run(s, b, unmarked);
	case JUDGE_WIPED:
		return distrust(s, b, wiped);
	case JUDGE_NOISE:
		return distrust(s, b, noise);
	}
	return 0;
}

/* ── entries ── */

/* The end of the file cuts it: what is there of it is good. */
static int cut_block(struct salvage *s, struct block *b)
{
	struct check *c = &s->c;
	uint64_t size = c->footer.current_size / VHD_SECTOR;
	uint64_t before = (uint64_t)b->number * c->block_sectors;
	uint64_t data = (uint64_t)b->entry * VHD_SECTOR + s->judge.bitmap_bytes;
	uint64_t here = (c->end_offset - data) / VHD_SECTOR;
	int rc = check_read(c, s->bits, s->judge.bitmap_bytes, data - s->judge.bitmap_bytes);

	b->sectors = (uint32_t)number_min(size - before, c->block_sectors);
	for (uint64_t from = here; !rc && from < b->sectors;) {
		uint64_t run = bits_run(s->bits, from, b->sectors);

		if (bits_test(s->bits, from))
			lose(s, b, from, run, false, cut_off);
		from += run;
	}
	for (uint64_t i = here; !rc && i < b->sectors; i++)
		bits_clear(s->bits, i);
	return rc ? rc : copy_block(s, b);
}

static const struct salvage_given *find_given(const struct salvage *s, uint32_t block)
{
	size_t low = 0, high = s->given_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (s->given[middle].block < block)
			low = middle + 1;
		else
			high = middle;
	}
	return low < s->given_count && s->given[low].block == block ? &s->given[low] : NULL;
}

static int lose_block(struct salvage *s, const struct block *b)
{
	struct check *c = &s->c;
	uint64_t end = number_min(c->footer.current_size, b->start + c->header.block_size);
	const char *why = no_entry;

	if (check_block_sound(c, b->entry))
		why = check_block_damaged(c, b->number) ? no_block : no_owner;
	else if (!c->has_end && (uint64_t)b->entry * VHD_SECTOR >= c->end_offset &&
		 !check_block_damaged(c, b->number))
		why = cut_off;
	lose(s, b, 0, (end - b->start) / VHD_SECTOR, false, why);
	return 0;
}

static int take_block(struct salvage *s, uint32_t number, uint32_t entry, bool complete)
{
	struct check *c = &s->c;
	struct block b = { .number = number,
			   .entry = entry,
			   .start = (uint64_t)number * c->header.block_size };
	const struct salvage_given *given = NULL;
	int rc;

	if (check_block_bad(c, number) && !(s->keeps && bits_test(s->keeps, number))) {
		given = find_given(s, number);
		if (number == c->gone_block && c->found_entry != VHD_BAT_UNUSED)
			b.entry = c->found_entry;
		else if (given)
			b.entry = given->entry;
		else if (c->torn == 1 && number == c->torn_block &&
			 (uint64_t)entry * VHD_SECTOR >= c->data_end)
			return cut_block(s, &b);
		else
			return lose_block(s, &b);
	}
	rc = choose_bits(s, &b, complete);
	if (rc == -EIO) {
		lose(s, &b, 0,
		     number_min(c->header.block_size, c->footer.current_size - b.start) /
			     VHD_SECTOR,
		     false, unread);
		return 0;
	}
	if (given && rc >= 0)
		lose(s, &b, 0, b.sectors, true, by_order);
	return rc < 0 ? rc : rc ? 0 : copy_block(s, &b);
}

static void lose_unused(struct salvage *s, uint32_t number, const char *why)
{
	struct check *c = &s->c;
	struct block b = { .number = number, .start = (uint64_t)number * c->header.block_size };
	uint64_t end = number_min(c->footer.current_size, b.start + c->header.block_size);

	lose(s, &b, 0, (end - b.start) / VHD_SECTOR, false, why);
}

/* The table may have been emptied by an accident, a sector or all of it: then blocks are left in the
 * file that nobody names, and none of the sector, @count entries at most from block @first, is believed.
 * Of an entry alone only the batmap tells. */
static bool is_emptied(const struct salvage *s, const uint8_t *raw, uint32_t count, uint32_t first)
{
	if (s->result->unnamed_blocks <= s->remembered)
		return false;
	for (uint32_t i = 0; i < count && i < SECTOR_ENTRIES; i++)
		if (be32_load(raw + 4ull * i) != VHD_BAT_UNUSED &&
		    !check_block_bad(&s->c, first + i))
			return false;
	return true;
}

static int blocks_piece(void *arg, uint32_t first, const uint8_t *raw, uint32_t count,
			const uint8_t *batmap)
{
	struct salvage *s = arg;
	struct check *c = &s->c;
	bool emptied = false; /* the sector in hand */

	for (uint32_t i = 0; i < count && first + i < c->blocks; i++) {
		uint32_t entry = be32_load(raw + 4ull * i);
		int rc;

		if (i % SECTOR_ENTRIES == 0)
			emptied = is_emptied(s, raw + 4ull * i, count - i, first + i);
		if (entry == VHD_BAT_UNUSED) {
			if (!s->result->unnamed_blocks)
				continue;
			if (batmap && bits_test(batmap, i))
				lose_unused(s, first + i, remembered);
			else if (emptied)
				lose_unused(s, first + i, no_name);
			continue;
		}
		rc = take_block(s, first + i, entry, batmap && bits_test(batmap, i));
		if (!rc)
			rc = check_progress(c, (first + i + 1ull) * c->header.block_size,
					    (uint64_t)c->blocks * c->header.block_size);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int salvage_blocks(struct salvage *s)
{
	int rc = judge_begin(&s->judge, &s->c);

	s->bits = malloc(s->judge.bitmap_bytes);
	s->piece = malloc(PIECE_BYTES);
	s->full = calloc(1, s->plan.batmap_bytes);
	if (!rc && (!s->bits || !s->piece || !s->full))
		rc = -ENOMEM;
	if (!rc)
		rc = salvage_find_blocks(s);
	if (!rc)
		rc = check_walk_table(&s->c, blocks_piece, s);
	return rc;
}

/* ── fixed ── */

int salvage_flat(struct salvage *s)
{
	uint64_t size = s->c.footer.current_size, here = number_min(size, s->c.end_offset);
	bool all = s->write && s->target.io->device;
	int rc = 0;

	s->piece = malloc(PIECE_BYTES);
	if (!s->piece)
		return -ENOMEM;
	for (uint64_t at = 0; !rc && at < here;) {
		size_t n = (size_t)number_min(here - at, PIECE_BYTES);

		rc = read_source(s, s->piece, n, at);
		if (rc == -EIO) {
			n = VHD_SECTOR; /* around it all is tried again */
			rc = read_source(s, s->piece, n, at);
		}
		if (rc == -EIO) {
			lost_add(&s->lost, at, n, false, unread);
			memset(s->piece, 0, n);
			rc = 0;
		}
		if (!rc && (all || !zeros_are(s->piece, n))) {
			s->result->data_bytes += n;
			rc = s->write ? io_write(s->target.io, s->piece, n, at) : 0;
			if (rc < 0)
				error_system(s->err, rc, "write", s->destination);
		}
		at += n;
		if (!rc)
			rc = check_progress(&s->c, at, size);
	}
	lost_add(&s->lost, here, size - here, false, cut_off);
	return rc;
}
