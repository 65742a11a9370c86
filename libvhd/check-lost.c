/* check-lost.c - entries of the table that cannot be right, and what surrounds them
 *
 * In a file whose end is missing, entries on the grid of the others merely lie behind the cut.
 * Else one entry that lies nowhere may be a slip; it may also be part of a sector of the
 * table that is gone, and then the others in that sector are what chance made them: one
 * in thousands lies inside the file.  Those are believed only if a block begins where
 * they say, on the same grid as the blocks that sound sectors name.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "bitmap.h"
#include "check.h"
#include "error.h"
#include "judge.h"

#define PAD_SECTORS (VHD_ALIGN / VHD_SECTOR)

/* Positions of blocks that follow each other, modulo their distance: there are two kinds of writers,
 * and where few blocks are known either may have been at work. */
struct doubts {
	struct check *c;
	enum { DOUBTS_ALL, DOUBTS_CUT, DOUBTS_TRUSTED, DOUBTS_JUDGE } pass;
	uint32_t distances[2]; /* packed, and with data on pages */
	uint32_t rests[2];
	bool holds[2], any;
	struct judge judge;
};

static void start_grid(struct doubts *d)
{
	d->any = false;
	d->holds[0] = d->holds[1] = true;
}

static bool on_grid(const struct doubts *d, uint32_t entry)
{
	for (unsigned i = 0; d->any && i < 2; i++)
		if (d->holds[i] && entry % d->distances[i] == d->rests[i])
			return true;
	return false;
}

static void collect(struct doubts *d, uint32_t entry)
{
	for (unsigned i = 0; i < 2; i++) {
		uint32_t rest = entry % d->distances[i];

		if (!d->any)
			d->rests[i] = rest;
		d->holds[i] &= d->rests[i] == rest;
	}
	d->any = true;
}

/* No entry is above doubt: the last block ends where the footer is. */
static void collect_by_footer(struct doubts *d)
{
	struct check *c = d->c;
	uint32_t stride = bitmap_stride(c->block_sectors);
	uint64_t end = c->end_offset / VHD_SECTOR, first = 1;

	for (unsigned i = 0; i < c->range_count; i++)
		first = number_max(first, (c->ranges[i].offset + c->ranges[i].length) / VHD_SECTOR);
	if (!c->has_end || end < first + stride)
		return;
	collect(d, (uint32_t)(end - stride));
	/* and the first one begins behind the metadata, with a footer and a slot between */
	d->holds[0] &= first % d->distances[0] == d->rests[0];
}

static int doubt(struct doubts *d, uint32_t block, uint32_t entry)
{
	const struct check_fault fault = { CHECK_DOUBT, block, entry, UINT32_MAX };
	struct check *c = d->c;
	struct vhd_finding f = { .code = -VHD_E_BAT_ENTRY,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET | VHD_HAS_BLOCK,
				 .offset = c->header.table_offset + 4ull * block,
				 .block = block,
				 .found = entry };
	int rc;

	check_report(c, &f,
		     "sector %u stands among entries that are lost, and no block seems to "
		     "begin there",
		     entry);
	rc = check_mark_bad(c, block);
	return !rc && c->more && c->more->fault ? c->more->fault(c->more->arg, &fault) : rc;
}

/* A lost entry makes its sector of the table doubtful, unless the cut explains it. */
static void note_damage(struct doubts *d, uint32_t block, uint32_t entry)
{
	if ((uint64_t)entry * VHD_SECTOR < d->c->end_offset || !on_grid(d, entry))
		bits_set(d->c->damaged, block / (VHD_SECTOR / 4));
}

static int look_at(struct doubts *d, uint32_t block, uint32_t entry)
{
	struct check *c = d->c;
	bool sound = check_block_sound(c, entry) && !check_block_bad(c, block);
	int rc;

	switch (d->pass) {
	case DOUBTS_ALL:
		if (sound)
			collect(d, entry);
		return 0;
	case DOUBTS_CUT:
		if (!check_block_sound(c, entry) &&
		    !(c->torn && entry == c->torn_entry && block == c->torn_block))
			note_damage(d, block, entry);
		return 0;
	case DOUBTS_TRUSTED:
		if (sound && !check_block_damaged(c, block))
			collect(d, entry);
		return 0;
	case DOUBTS_JUDGE:
		if (!sound || !check_block_damaged(c, block))
			return 0;
		rc = on_grid(d, entry) ? judge_begins(&d->judge, block, entry) : 0;
		return rc < 0 ? rc : rc ? 0 : doubt(d, block, entry);
	}
	return 0;
}

static int doubt_piece(void *arg, uint32_t first, const uint8_t *raw, uint32_t count,
		       const uint8_t *batmap)
{
	struct doubts *d = arg;
	int rc = 0;

	(void)batmap;
	for (uint32_t i = 0; !rc && i < count; i++) {
		uint32_t entry = be32_load(raw + 4ull * i);

		if (entry != VHD_BAT_UNUSED)
			rc = look_at(d, first + i, entry);
	}
	return rc;
}

/* The end of the file is missing: which sectors of the table are damaged all the same? */
static int explain_by_cut(struct doubts *d)
{
	struct check *c = d->c;
	int rc = check_walk_table(c, doubt_piece, d);

	if (rc < 0 || !d->any)
		return rc;
	memset(c->damaged, 0, c->entries / (VHD_SECTOR / 4) / 8 + 1);
	d->pass = DOUBTS_CUT;
	return check_walk_table(c, doubt_piece, d);
}

int check_doubts(struct check *c)
{
	uint32_t stride = bitmap_stride(c->block_sectors);
	struct doubts d = { .c = c };
	int rc = judge_begin(&d.judge, c);

	d.distances[0] = stride;
	/* from one aligned position to the next */
	d.distances[1] = (uint32_t)(bitmap_align(bitmap_align(0, c->block_sectors) + stride,
						 c->block_sectors) -
				    bitmap_align(0, c->block_sectors));
	start_grid(&d);
	if (!rc && !c->has_end)
		rc = explain_by_cut(&d);
	start_grid(&d);
	d.pass = DOUBTS_TRUSTED;
	if (!rc)
		rc = check_walk_table(c, doubt_piece, &d);
	if (!d.any)
		collect_by_footer(&d);
	d.pass = DOUBTS_JUDGE;
	if (!rc)
		rc = check_walk_table(c, doubt_piece, &d);
	judge_end(&d.judge);
	return rc;
}

/* ── who keeps a place that two claim ── */

int check_overlap_loses(const struct check *c, const struct check_fault *f)
{
	bool spare = f->block >= c->blocks, damaged = check_block_damaged(c, f->block);
	bool other_spare, other_damaged;

	if (c->found_entry != VHD_BAT_UNUSED)
		return f->block == c->gone_block ? 1 : -1;
	if (f->other == UINT32_MAX)
		return 0;
	other_spare = f->other >= c->blocks;
	other_damaged = check_block_damaged(c, f->other);
	if (spare != other_spare)
		return spare ? 1 : -1;
	return damaged == other_damaged ? 0 : damaged ? 1 : -1;
}

/* ── the block of a single lost entry ── */

struct gap {
	uint64_t from, to; /* sectors */
	unsigned count;	   /* of gaps with room for a block */
};

static void note_gap(struct gap *g, uint64_t from, uint64_t to, uint32_t stride)
{
	if (to < from + stride)
		return;
	g->count++;
	g->from = from;
	g->to = to;
}

static int entry_at(struct check *c, uint32_t block, uint32_t *entry)
{
	uint8_t raw[4];
	int rc = 0;

	*entry = VHD_BAT_UNUSED;
	if (block < c->entries) {
		rc = check_read(c, raw, sizeof(raw), c->header.table_offset + 4ull * block);
		if (!rc)
			*entry = be32_load(raw);
	}
	return rc;
}

static bool follows(uint64_t before, uint64_t after, uint32_t stride)
{
	return after >= before + stride && after < before + stride + PAD_SECTORS;
}

/* Something beside the gap says that the lost block was there: the blocks next to it, on the
 * disk as in the file; or the batmap, unless two blocks contend for it. */
static int is_witnessed(struct check *c, uint32_t position, uint32_t stride, bool contended)
{
	uint32_t before = VHD_BAT_UNUSED, after = VHD_BAT_UNUSED;
	uint8_t bits = 0;
	int rc = 0;

	if (c->has_batmap && !contended)
		rc = check_read(c, &bits, 1, c->batmap_offset + c->gone_block / 8);
	if (rc < 0 || (bits & 0x80 >> c->gone_block % 8))
		return rc < 0 ? rc : 1;
	if (c->gone_block)
		rc = entry_at(c, c->gone_block - 1, &before);
	if (!rc)
		rc = entry_at(c, c->gone_block + 1, &after);
	if (rc < 0)
		return rc;
	return (before != VHD_BAT_UNUSED && follows(before, position, stride)) ||
	       (after != VHD_BAT_UNUSED && follows(position, after, stride));
}

/* Where metadata ends before the first block, and where blocks may end at the latest. */
static struct gap only_gap(const struct check *c, const uint32_t *positions, size_t count,
			   uint32_t stride)
{
	uint64_t at = VHD_FOOTER_BYTES / VHD_SECTOR;
	struct gap g = { .count = 0 };

	for (unsigned i = 0; i < c->range_count; i++)
		if (!count || c->ranges[i].offset < (uint64_t)positions[0] * VHD_SECTOR)
			at = number_max(at, number_div_up(c->ranges[i].offset + c->ranges[i].length,
							  VHD_SECTOR));
	for (size_t i = 0; i < count; i++) {
		note_gap(&g, at, positions[i], stride);
		at = (uint64_t)positions[i] + stride;
	}
	note_gap(&g, at, c->end_offset / VHD_SECTOR, stride);
	return g;
}

int check_find_block(struct check *c, const uint32_t *positions, size_t count, bool contended)
{
	uint32_t stride = bitmap_stride(c->block_sectors);
	struct gap g = only_gap(c, positions, count, stride);
	uint64_t places[3], last = UINT64_MAX;
	uint32_t found = VHD_BAT_UNUSED;
	struct judge judge;
	int rc;

	/* one gap, in which one block lay and no second one */
	if (c->gone_block >= c->blocks || !c->has_end || g.count != 1 ||
	    g.to - g.from >= 2ull * stride)
		return 0;
	places[0] = g.from;
	places[1] = bitmap_align(g.from, c->block_sectors);
	places[2] = g.to - stride;
	rc = judge_begin(&judge, c);
	for (unsigned i = 0; rc >= 0 && i < 3; i++) {
		if (places[i] == last || places[i] + stride > g.to ||
		    (i == 2 && places[2] == places[0]))
			continue;
		last = places[i];
		rc = judge_begins(&judge, c->gone_block, (uint32_t)places[i]);
		if (rc <= 0)
			continue;
		if (found != VHD_BAT_UNUSED) { /* two could be it */
			found = VHD_BAT_UNUSED;
			break;
		}
		found = (uint32_t)places[i];
	}
	judge_end(&judge);
	if (rc >= 0 && found != VHD_BAT_UNUSED)
		rc = is_witnessed(c, found, stride, contended);
	if (rc > 0 && found != VHD_BAT_UNUSED)
		c->found_entry = found;
	return rc < 0 ? rc : 0;
}

/* Two blocks in one place, and one place without a block: of which of them is it? */
int check_find_owner(struct check *c, const uint32_t *positions, size_t count,
		     const uint32_t pair[2])
{
	uint32_t found[2] = { VHD_BAT_UNUSED, VHD_BAT_UNUSED };
	int rc = 0;

	for (unsigned i = 0; !rc && i < 2; i++) {
		c->gone_block = pair[i];
		rc = check_find_block(c, positions, count, true);
		found[i] = c->found_entry;
		c->found_entry = VHD_BAT_UNUSED;
	}
	if (rc < 0 || (found[0] == VHD_BAT_UNUSED) == (found[1] == VHD_BAT_UNUSED))
		return rc;
	c->gone_block = pair[found[0] == VHD_BAT_UNUSED];
	c->found_entry = found[found[0] == VHD_BAT_UNUSED];
	return 0;
}

/* ── the block that the end of the file cuts ── */

int check_torn(struct check *c)
{
	uint64_t offset = (uint64_t)c->torn_entry * VHD_SECTOR, here;
	uint32_t bytes = bitmap_sectors(c->block_sectors) * VHD_SECTOR;
	uint64_t size = c->footer.current_size / VHD_SECTOR;
	uint64_t start = (uint64_t)c->torn_block * c->block_sectors, sectors;
	CLEANUP_FREE uint8_t *bitmap = malloc(bytes);
	int rc;

	if (!bitmap)
		return -ENOMEM;
	/* honestly torn: behind all others, and the file just ends */
	if (c->has_end || c->gone || c->torn_block >= c->blocks || offset < c->data_end ||
	    c->io->device)
		return 0;
	rc = check_read(c, bitmap, bytes, offset);
	if (rc < 0)
		return rc;
	sectors = number_min(size - start, c->block_sectors);
	here = (c->end_offset - offset - bytes) / VHD_SECTOR;
	c->torn_harmless = here >= sectors || bits_all_clear(bitmap, here, sectors - here);
	return 0;
}
