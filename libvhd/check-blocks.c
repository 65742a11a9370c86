/* check-blocks.c - the block allocation table: faults, batmap bits, leaks
 *
 * The table is read once, in pieces; what is wrong between two entries is
 * found by bat.c, what is wrong between an entry and metadata or batmap here.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "bat.h"
#include "bitmap.h"
#include "check.h"
#include "error.h"
#include "spare.h"

#define PIECE_ENTRIES (1u << 18)
#define POSITIONS_MAX (1u << 22)

/* Neighbours with the same fault are one finding: a table of zeros is not a million. */
enum { RUN_OVER = BAT_TORN + 1, RUN_LEFT, RUNS };
#define SECTOR_ENTRIES (VHD_SECTOR / 4)
struct run {
	bool pending;
	uint32_t first, last, entry;	 /* blocks; entry of the first */
	const struct check_range *range; /* RUN_OVER: what it lies over */
};

struct scan {
	struct check *c;
	struct bat_scan *bat;
	bool again; /* a further pass, for bat.c only */
	uint64_t allocated;
	struct check_placed placed; /* entries inside the data area */
	size_t room;
	bool sorted;
	struct run runs[RUNS]; /* not reported yet */
	/* overlaps not reported yet: none, one (whose other is pair_other), both of a pair; 3: many */
	unsigned pairs;
	uint32_t pair[2], pair_entry[2], pair_other;
	int rc; /* of a callback */
};

bool check_block_sound(const struct check *c, uint32_t entry)
{
	uint64_t length = (uint64_t)bitmap_stride(c->block_sectors) * VHD_SECTOR;
	uint64_t offset = (uint64_t)entry * VHD_SECTOR;

	return entry && number_within(offset, length, c->end_offset) &&
	       !check_hit(c, offset, length);
}

int check_mark_bad(struct check *c, uint32_t block)
{
	if (!c->bad)
		c->bad = calloc(1, c->entries / 8 + 1);
	if (!c->bad)
		return error_system(c->err, -ENOMEM, "check", c->io->name);
	bits_set(c->bad, block);
	return 0;
}

int check_walk_table(struct check *c, check_table_fn *fn, void *arg)
{
	CLEANUP_FREE uint8_t *raw = malloc(4ull * PIECE_ENTRIES);
	CLEANUP_FREE uint8_t *bits = malloc(PIECE_ENTRIES / 8);

	if (!raw || !bits)
		return -ENOMEM;
	for (uint32_t first = 0; first < c->entries; first += PIECE_ENTRIES) {
		uint32_t count = (uint32_t)number_min(c->entries - first, PIECE_ENTRIES);
		int rc = check_read(c, raw, 4ull * count, c->header.table_offset + 4ull * first);

		if (!rc && c->has_batmap)
			rc = check_read(c, bits, (count + 7) / 8, c->batmap_offset + first / 8);
		if (!rc)
			rc = fn(arg, first, raw, count, c->has_batmap ? bits : NULL);
		if (rc < 0)
			return rc;
		if (c->entries - first <= PIECE_ENTRIES)
			break; /* first must not wrap */
	}
	return 0;
}

/* ── faults ── */

static void flush_run(struct scan *s, unsigned kind)
{
	static const char *const texts[] = {
		[BAT_OUTSIDE] = "lies outside the file",
		[BAT_IN_METADATA] = "lies over the footer copy",
		[BAT_BEYOND_DISK] = "is allocated, but lies past the end of the disk",
		[BAT_TORN] = "is cut off by the end of the file",
		[RUN_OVER] = "lies over the",
		[RUN_LEFT] =
			"is allocated past the end of the disk and all zeros, as an interrupted "
			"resize leaves it; the next one gives it back, as do compact and repair",
	};
	struct run *r = &s->runs[kind];
	struct vhd_finding f = { .code = kind == BAT_TORN ? -VHD_E_TRUNCATED : -VHD_E_BAT_ENTRY,
				 .severity = kind == RUN_LEFT ? VHD_WARNING : VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET | VHD_HAS_BLOCK | VHD_HAS_VALUES,
				 .offset = s->c->header.table_offset + 4ull * r->first,
				 .block = r->first,
				 .expected = VHD_BAT_UNUSED,
				 .found = r->entry };
	char more[96] = "";

	if (!r->pending)
		return;
	r->pending = false;
	if (r->first != r->last)
		snprintf(more, sizeof(more), "; so do all blocks up to %u", r->last);
	if (kind == RUN_LEFT)
		f.repairable = true;
	else if (kind == BAT_TORN)
		f.repairable = s->c->torn_harmless;
	else if (kind != BAT_BEYOND_DISK && s->c->found_entry != VHD_BAT_UNUSED) {
		f.repairable = true; /* it is the only one */
		f.expected = s->c->found_entry;
		snprintf(more, sizeof(more), "; its block must be the one at sector %u",
			 s->c->found_entry);
	}
	check_report(s->c, &f, "sector %u %s%s%s%s", r->entry, texts[kind],
		     kind == RUN_OVER ? " " : "", kind == RUN_OVER ? r->range->name : "", more);
}

static void flush_runs(struct scan *s)
{
	for (unsigned kind = 0; kind < RUNS; kind++)
		flush_run(s, kind);
}

static void add_to_run(struct scan *s, unsigned kind, uint32_t block, uint32_t entry,
		       const struct check_range *range)
{
	struct run *r = &s->runs[kind];

	if (r->pending && r->last + 1 == block && r->range == range) {
		r->last = block;
		return;
	}
	flush_run(s, kind);
	*r = (struct run){ true, block, block, entry, range };
}

/* A running server may have let the file grow since its size was taken. */
static bool inside_by_now(struct check *c, uint32_t entry)
{
	uint64_t end = (uint64_t)entry + bitmap_stride(c->block_sectors), bytes;

	return c->has_end && io_size(c->io, &bytes) == 0 && bytes > c->file_bytes &&
	       end * VHD_SECTOR <= bytes - VHD_FOOTER_BYTES;
}

/* For who mends, and for the bitmaps. */
static void tell(struct scan *s, enum check_fault_kind kind, uint32_t block, uint32_t entry,
		 uint32_t other)
{
	struct check *c = s->c;
	const struct check_fault fault = { kind, block, entry, other };
	bool spare = kind == CHECK_SPARE || kind == CHECK_LEFT;
	int rc = spare ? 0 : check_mark_bad(c, block);

	if (kind == CHECK_LOST) {
		c->gone++;
		c->gone_block = block;
		c->gone_behind |= (uint64_t)entry * VHD_SECTOR >= c->end_offset;
		if (!c->damaged)
			c->damaged = calloc(1, c->entries / SECTOR_ENTRIES / 8 + 1);
		if (c->damaged)
			bits_set(c->damaged, block / SECTOR_ENTRIES);
		else
			rc = -ENOMEM;
	}
	c->overlapping += kind == CHECK_OVERLAP;
	c->spare += spare;
	if (!rc && c->more && c->more->fault)
		rc = c->more->fault(c->more->arg, &fault);
	if (rc < 0)
		s->rc = rc;
}

/* Only behind all other blocks it is one that a growth left unfinished; over others it is lost. */
static void tell_torn(struct scan *s, uint32_t block, uint32_t entry)
{
	s->c->torn++;
	s->c->torn_block = block;
	s->c->torn_entry = entry;
	tell(s, CHECK_TORN, block, entry, UINT32_MAX);
}

static void report_overlap(struct scan *s, uint32_t block, uint32_t entry, uint32_t other)
{
	struct check *c = s->c;
	struct vhd_finding f = { .code = -VHD_E_BAT_OVERLAP,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET | VHD_HAS_BLOCK,
				 .offset = c->header.table_offset + 4ull * block,
				 .block = block,
				 .found = entry,
				 .repairable = c->found_entry != VHD_BAT_UNUSED };
	char more[64] = "";

	if (f.repairable)
		snprintf(more, sizeof(more), "; that of block %u must be at sector %u",
			 c->gone_block, c->found_entry);
	if (other != UINT32_MAX)
		check_report(c, &f, "sector %u shares space with block %u%s", entry, other, more);
	else
		check_report(c, &f, "sector %u shares space with another block", entry);
}

static void flush_pair(struct scan *s)
{
	for (unsigned i = 0; i < s->pairs && i < 2; i++)
		report_overlap(s, s->pair[i], s->pair_entry[i], s->pair[!i]);
}

/* The first pair is kept until it is known to be the only one. */
static void overlap(struct scan *s, uint32_t block, uint32_t entry, uint32_t other)
{
	if (s->pairs < 2 && (!s->pairs || (other == s->pair[0] && block == s->pair_other))) {
		s->pair[s->pairs] = block;
		s->pair_entry[s->pairs++] = entry;
		s->pair_other = other;
	} else {
		if (s->pairs < 3)
			flush_pair(s);
		s->pairs = 3;
		report_overlap(s, block, entry, other);
	}
	tell(s, CHECK_OVERLAP, block, entry, other);
}

/* One of the two was told to lie over metadata: that the other one is there, too, is no news. */
static bool over_metadata(struct scan *s, uint32_t entry, uint32_t other)
{
	struct check *c = s->c;
	uint64_t length = (uint64_t)bitmap_stride(c->block_sectors) * VHD_SECTOR;
	uint8_t raw[4];

	if (!c->gone)
		return false;
	if (check_hit(c, (uint64_t)entry * VHD_SECTOR, length))
		return true;
	return other != UINT32_MAX &&
	       io_read(c->io, raw, sizeof(raw), c->header.table_offset + 4ull * other) == 0 &&
	       check_hit(c, (uint64_t)be32_load(raw) * VHD_SECTOR, length);
}

/* Only under a parent does a resize need such. */
static bool is_left(struct scan *s, uint32_t entry)
{
	const struct check *c = s->c;

	return c->footer.type == VHD_TYPE_DIFFERENCING &&
	       spare_is_zero(c->io, entry, c->block_sectors, true) == 1;
}

static void spare(struct scan *s, uint32_t block, uint32_t entry)
{
	bool left = is_left(s, entry);

	add_to_run(s, left ? RUN_LEFT : (unsigned)BAT_BEYOND_DISK, block, entry, NULL);
	tell(s, left ? CHECK_LEFT : CHECK_SPARE, block, entry, UINT32_MAX);
}

static void on_fault(void *arg, enum bat_fault fault, uint32_t block, uint32_t entry,
		     uint32_t other)
{
	struct scan *s = arg;

	if (fault == BAT_OVERLAP) {
		if (!over_metadata(s, entry, other))
			overlap(s, block, entry, other);
		return;
	}
	if ((fault == BAT_OUTSIDE || fault == BAT_TORN) && inside_by_now(s->c, entry))
		return;
	if (fault == BAT_BEYOND_DISK) {
		spare(s, block, entry);
		return;
	}
	add_to_run(s, fault, block, entry, NULL);
	if (fault == BAT_TORN)
		tell_torn(s, block, entry);
	else
		tell(s, CHECK_LOST, block, entry, UINT32_MAX);
}

/* ── one pass over the table ── */

static int remember(struct scan *s, uint32_t entry)
{
	s->placed.sound++;
	if (s->placed.counted_only)
		return 0;
	if (s->placed.count == s->room) {
		size_t room = s->room ? 2 * s->room : 4096;
		uint32_t *bigger;

		if (room > POSITIONS_MAX) {
			s->placed.counted_only = true;
			return 0;
		}
		bigger = realloc(s->placed.list, room * sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		s->placed.list = bigger;
		s->room = room;
	}
	if (s->placed.count && s->placed.list[s->placed.count - 1] > entry)
		s->sorted = false;
	s->placed.list[s->placed.count++] = entry;
	return 0;
}

static int take_entry(struct scan *s, uint32_t block, uint32_t entry)
{
	struct check *c = s->c;
	uint64_t offset = (uint64_t)entry * VHD_SECTOR;
	uint64_t length = (uint64_t)bitmap_stride(c->block_sectors) * VHD_SECTOR;
	const struct check_range *last = &c->ranges[c->range_count - 1], *hit = NULL;

	s->allocated++;
	if (offset < last->offset + last->length)
		hit = check_hit(c, offset, length);
	if (hit && entry) { /* entry 0 is bat.c's to report */
		add_to_run(s, RUN_OVER, block, entry, hit);
		tell(s, CHECK_LOST, block, entry, UINT32_MAX);
		return s->rc;
	}
	if (!entry || !number_within(offset, length, c->end_offset))
		return 0;
	return remember(s, entry);
}

static int scan_piece(void *arg, uint32_t first, const uint8_t *raw, uint32_t count,
		      const uint8_t *batmap)
{
	struct scan *s = arg;

	for (uint32_t i = 0; !s->again && i < count; i++) {
		uint32_t entry = be32_load(raw + 4ull * i);
		int rc = 0;

		if (entry != VHD_BAT_UNUSED)
			rc = take_entry(s, first + i, entry);
		else if (batmap && bits_test(batmap, i) && !s->placed.stale++)
			s->placed.stale_block = first + i;
		if (rc < 0)
			return rc;
	}
	bat_scan_feed(s->bat, first, raw, count);
	return s->rc ? s->rc : check_progress(s->c, 4ull * (first + count), 4ull * s->c->entries);
}

static int scan_table(struct scan *s)
{
	struct check *c = s->c;
	struct bat_shape shape = { .entries = c->entries,
				   .blocks = c->blocks,
				   .block_sectors = c->block_sectors,
				   .first_sector = 1, /* the ranges are compared here */
				   .end_sector = c->end_offset / VHD_SECTOR };
	struct bat_totals totals;
	int rc = bat_scan_begin(&shape, !c->options->no_overlap, on_fault, s, &s->bat);

	if (rc < 0)
		return rc;
	do {
		rc = check_walk_table(c, scan_piece, s);
		s->again = true;
	} while (rc >= 0 && bat_scan_again(s->bat));
	bat_scan_end(s->bat, &totals);
	if (totals.end_sector != shape.first_sector)
		c->data_end = number_max(c->data_end, totals.end_sector * VHD_SECTOR);
	return rc;
}

/* End of the metadata that lies before any block: where data can begin. */
static uint64_t metadata_end(const struct check *c)
{
	uint64_t end = VHD_FOOTER_BYTES;

	for (unsigned i = 0; i < c->range_count; i++)
		end = number_max(end, c->ranges[i].offset + c->ranges[i].length);
	return end;
}

static int compare_positions(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void flush_all(struct scan *s)
{
	flush_runs(s);
	if (s->pairs < 3)
		flush_pair(s);
}

/* What is known only when all entries are. */
static int judge_faults(struct scan *s)
{
	struct check *c = s->c;
	int rc = s->rc;

	if (!s->placed.counted_only && !s->sorted)
		qsort(s->placed.list, s->placed.count, sizeof(*s->placed.list), compare_positions);
	if (!rc && c->torn == 1)
		rc = check_torn(c);
	if (!rc && c->gone == 1 && !c->torn && !c->overlapping && !s->placed.counted_only)
		rc = check_find_block(c, s->placed.list, s->placed.count, false);
	else if (!rc && s->pairs == 2 && !c->gone && !c->torn && !c->spare &&
		 !s->placed.counted_only)
		rc = check_find_owner(c, s->placed.list, s->placed.count, s->pair);
	flush_all(s);
	if (!rc && c->damaged)
		rc = check_doubts(c);
	return rc;
}

int check_blocks(struct check *c)
{
	struct scan s = { .c = c, .sorted = true };
	int rc;

	c->data_end = metadata_end(c);
	if (!c->has_table)
		return 0;
	rc = scan_table(&s);
	c->allocated = s.allocated;
	c->result->allocated_blocks += s.allocated;
	if (!rc)
		rc = judge_faults(&s);
	else
		flush_all(&s);
	if (!rc)
		rc = check_leaks(c, &s.placed);
	free(s.placed.list);
	return rc;
}
