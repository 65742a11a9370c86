/* check-blocks.c - the block allocation table: faults, batmap bits, leaks
 *
 * The table is read once, in pieces; what is wrong between two entries is
 * found by bat.c, what is wrong between an entry and metadata or batmap here.
 * Leaked space is what a crash leaves: room for a block or more, between two
 * blocks or behind the last, that has storage but that no entry names.  It is
 * found from the sorted positions; above POSITIONS_MAX blocks only from their
 * number.
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
#include "batmap.h"
#include "bitmap.h"
#include "check.h"
#include "error.h"
#include "plan.h"

#define PIECE_ENTRIES (1u << 18)
#define POSITIONS_MAX (1u << 22)

/* Neighbours with the same fault are one finding: a table of zeros is not a million. */
enum { RUN_OVER = BAT_TORN + 1, RUNS };
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
	/* entries inside the data area */
	uint32_t *positions; /* owned */
	size_t count, room;
	bool sorted, counted_only;
	uint64_t sound;
	struct run runs[RUNS]; /* not reported yet */
};

bool check_block_sound(const struct check *c, uint32_t entry)
{
	uint64_t length = (uint64_t)bitmap_stride(c->block_sectors) * VHD_SECTOR;
	uint64_t offset = (uint64_t)entry * VHD_SECTOR;

	return entry && number_within(offset, length, c->end_offset) &&
	       !check_hit(c, offset, length);
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
	};
	struct run *r = &s->runs[kind];
	struct vhd_finding f = { .code = kind == BAT_TORN ? -VHD_E_TRUNCATED : -VHD_E_BAT_ENTRY,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET | VHD_HAS_BLOCK | VHD_HAS_VALUES,
				 .offset = s->c->header.table_offset + 4ull * r->first,
				 .block = r->first,
				 .expected = VHD_BAT_UNUSED,
				 .found = r->entry,
				 .repairable = kind == BAT_TORN };
	char more[48] = "";

	if (!r->pending)
		return;
	r->pending = false;
	if (r->first != r->last)
		snprintf(more, sizeof(more), "; so do all blocks up to %u", r->last);
	check_report(s->c, &f, "sector %u %s%s%s%s", r->entry, texts[kind],
		     kind == RUN_OVER ? " " : "", kind == RUN_OVER ? r->range->name : "", more);
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

static void report_overlap(struct scan *s, uint32_t block, uint32_t entry, uint32_t other)
{
	struct vhd_finding f = { .code = -VHD_E_BAT_OVERLAP,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET | VHD_HAS_BLOCK,
				 .offset = s->c->header.table_offset + 4ull * block,
				 .block = block,
				 .found = entry };

	if (other != UINT32_MAX)
		check_report(s->c, &f, "sector %u shares space with block %u", entry, other);
	else
		check_report(s->c, &f, "sector %u shares space with another block", entry);
}

static void on_fault(void *arg, enum bat_fault fault, uint32_t block, uint32_t entry,
		     uint32_t other)
{
	struct scan *s = arg;

	if (fault == BAT_OVERLAP) {
		report_overlap(s, block, entry, other);
		return;
	}
	if ((fault == BAT_OUTSIDE || fault == BAT_TORN) && inside_by_now(s->c, entry))
		return;
	add_to_run(s, fault, block, entry, NULL);
}

/* ── one pass over the table ── */

static int remember(struct scan *s, uint32_t entry)
{
	s->sound++;
	if (s->counted_only)
		return 0;
	if (s->count == s->room) {
		size_t room = s->room ? 2 * s->room : 4096;
		uint32_t *bigger;

		if (room > POSITIONS_MAX) {
			s->counted_only = true;
			return 0;
		}
		bigger = realloc(s->positions, room * sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		s->positions = bigger;
		s->room = room;
	}
	if (s->count && s->positions[s->count - 1] > entry)
		s->sorted = false;
	s->positions[s->count++] = entry;
	return 0;
}

static void report_stale_bit(struct scan *s, uint32_t block)
{
	struct vhd_finding f = { .code = -VHD_E_BATMAP,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET | VHD_HAS_BLOCK,
				 .offset = s->c->batmap_offset + block / 8,
				 .block = block,
				 .repairable = true };

	check_report(s->c, &f, "the batmap calls it complete, but it is not allocated");
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
		return 0;
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
		else if (batmap && bits_test(batmap, i))
			report_stale_bit(s, first + i);
		if (rc < 0)
			return rc;
	}
	bat_scan_feed(s->bat, first, raw, count);
	return check_progress(s->c, 4ull * (first + count), 4ull * s->c->entries);
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
	for (unsigned kind = 0; kind < RUNS; kind++)
		flush_run(s, kind);
	if (totals.end_sector != shape.first_sector)
		c->data_end = number_max(c->data_end, totals.end_sector * VHD_SECTOR);
	return rc;
}

/* ── leaked space ── */

struct leaks {
	struct check *c;
	uint64_t least;		 /* bytes: smaller gaps are alignment */
	uint64_t spare;		 /* bytes behind the metadata that are kept free on purpose */
	uint64_t keep, keep_end; /* room of two batmaps, used in turn */
	uint64_t data, data_end; /* where the file has storage, asked last */
	uint64_t first, bytes;
	int rc;
};

/* Nobody names [from, to): how much of it has storage? */
static void leak_piece(struct leaks *l, uint64_t from, uint64_t to)
{
	if (to < from || to - from < l->least || l->rc < 0)
		return;
	if (from < l->keep_end && to > l->keep) {
		leak_piece(l, from, l->keep);
		leak_piece(l, l->keep_end, to);
		return;
	}
	/* storage is given in pages: those at the edges belong to the neighbours */
	from = number_round_up(from, VHD_ALIGN);
	to = number_round_down(to, VHD_ALIGN);
	while (from < to) {
		if (from >= l->data_end) {
			l->rc = io_data(l->c->io, from, &l->data, &l->data_end);
			if (l->rc < 0 || l->data >= l->data_end)
				return;
		}
		from = number_max(from, l->data);
		if (from >= to)
			return;
		if (!l->bytes)
			l->first = from;
		l->bytes += number_min(to, l->data_end) - from;
		from = number_min(to, l->data_end);
	}
}

/* A gap between blocks, in which metadata may lie. */
static void leak_gap(struct leaks *l, uint64_t from, uint64_t to)
{
	for (unsigned i = 0; i < l->c->range_count; i++) {
		const struct check_range *r = &l->c->ranges[i];

		if (from >= to || r->offset >= to)
			break;
		if (r->offset + r->length <= from)
			continue;
		leak_piece(l, from, r->offset);
		from = r->offset + r->length;
	}
	if (from >= l->keep && from < l->keep_end)
		from = l->keep_end;
	leak_piece(l, from + l->spare, to);
}

static int compare_positions(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void find_leaks(struct scan *s, struct leaks *l)
{
	struct check *c = s->c;
	uint64_t stride = (uint64_t)bitmap_stride(c->block_sectors) * VHD_SECTOR;
	/* the first gap holds the metadata; no block may lie before the table, so nothing there
	 * was lost by one */
	uint64_t at = number_max(VHD_FOOTER_BYTES, c->header.table_offset);

	l->least = stride;
	/* ours: the slot of a child, and the first footer, behind which blocks are placed; the
	 * place of the next batmap */
	if (footer_has_batmap(&c->footer)) {
		uint64_t map = (uint64_t)batmap_sectors(c->header.max_entries) * VHD_SECTOR;

		l->spare = VHD_FOOTER_BYTES +
			   (c->footer.type == VHD_TYPE_DIFFERENCING ? PLAN_SLOT_BYTES : 0);
		l->keep = batmap_header_offset(c->header.table_offset, c->header.max_entries) +
			  VHD_BATMAP_HEADER_BYTES;
		l->keep_end = l->keep + 2 * map;
	}
	if (s->counted_only) {
		/* at most this is padding: the page before each block */
		uint64_t named = s->sound * (stride + VHD_ALIGN);
		uint64_t span = c->data_end - (c->header.table_offset + 4ull * c->entries);

		l->first = c->header.table_offset;
		l->bytes = span > named ? span - named : 0;
		return;
	}
	if (!s->sorted)
		qsort(s->positions, s->count, sizeof(*s->positions), compare_positions);
	for (size_t i = 0; i < s->count; i++) {
		uint64_t block = (uint64_t)s->positions[i] * VHD_SECTOR;

		if (block > at)
			leak_gap(l, at, block);
		at = block + stride;
		l->spare = 0;
	}
	if (!c->io->device) /* there the footer is at the end, whatever is before it */
		leak_gap(l, number_max(at, c->data_end), c->end_offset);
}

static int report_leaks(struct scan *s)
{
	struct check *c = s->c;
	struct leaks l = { .c = c };
	struct vhd_finding f = { .code = -VHD_E_LEAKED,
				 .severity = VHD_NOTE,
				 .has = VHD_HAS_OFFSET | VHD_HAS_VALUES,
				 .repairable = true };

	find_leaks(s, &l);
	if (l.rc < 0)
		return error_system(c->err, l.rc, "read", c->io->name);
	c->result->leaked_bytes += l.bytes;
	f.offset = l.first;
	f.found = l.bytes;
	if (l.bytes)
		check_report(c, &f,
			     "%llu bytes of space are leaked: no block uses them, no data is "
			     "missing",
			     (unsigned long long)l.bytes);
	return 0;
}

/* End of the metadata that lies before any block: where data can begin. */
static uint64_t metadata_end(const struct check *c)
{
	uint64_t end = VHD_FOOTER_BYTES;

	for (unsigned i = 0; i < c->range_count; i++)
		end = number_max(end, c->ranges[i].offset + c->ranges[i].length);
	return end;
}

int check_blocks(struct check *c)
{
	struct scan s = { .c = c, .sorted = true };
	int rc;

	c->data_end = metadata_end(c);
	if (!c->has_table)
		return 0;
	rc = scan_table(&s);
	c->result->allocated_blocks += s.allocated;
	if (!rc)
		rc = report_leaks(&s);
	free(s.positions);
	return rc;
}
