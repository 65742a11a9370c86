/* repair-table.c - entries of the block table that are at fault
 *
 * An entry that lies nowhere says nothing; making it unused turns an error into zeros or
 * the parent's data, so that takes consent.  Of two blocks in one place one is right, as a
 * rule, and which one cannot be seen from the place; the entries around them tell:
 * one that lies behind the end of the disk, or stands in a sector of the table that is
 * damaged anyway, gives way to one that does not.  Zeros behind the end that an interrupted resize
 * left go without being asked: the disk is the same without them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "bitmap.h"
#include "judge.h"
#include "repair-private.h"

static bool is_owner(const struct repair *r, uint32_t block)
{
	for (unsigned i = 0; i < r->o->owner_count; i++)
		if (r->o->owners[i] == block)
			return true;
	return false;
}

static enum repair_verdict judge_overlap(const struct repair *r, const struct check_fault *f)
{
	bool adopts = r->c.found_entry != VHD_BAT_UNUSED;
	int loses = check_overlap_loses(&r->c, f);

	if (is_owner(r, f->block))
		return REPAIR_KEEP;
	if (f->other != UINT32_MAX && is_owner(r, f->other))
		return REPAIR_DROP;
	if (loses > 0 && adopts && !r->o->owner_count)
		return REPAIR_ADOPT;
	if (loses > 0)
		return r->o->drop_lost && !adopts ? REPAIR_DROP : REPAIR_LEAVE;
	return loses < 0 ? REPAIR_KEEP : REPAIR_LEAVE;
}

/* Behind all others: what is there of it can stay. */
static bool honestly_torn(const struct repair *r, const struct check_fault *f)
{
	const struct check *c = &r->c;

	return c->torn == 1 && f->block < c->blocks && !c->io->device &&
	       (uint64_t)f->entry * VHD_SECTOR >= c->data_end;
}

static enum repair_verdict judge_fault(const struct repair *r, const struct check_fault *f)
{
	enum repair_verdict drop = r->o->drop_lost ? REPAIR_DROP : REPAIR_LEAVE;

	switch (f->kind) {
	case CHECK_LOST:
		return r->c.found_entry != VHD_BAT_UNUSED ? REPAIR_ADOPT : drop;
	case CHECK_DOUBT:
	case CHECK_SPARE:
		return drop;
	case CHECK_LEFT:
		return REPAIR_DROP;
	case CHECK_OVERLAP:
		return judge_overlap(r, f);
	case CHECK_TORN:
		if (!honestly_torn(r, f))
			return drop;
		return r->c.torn_harmless || r->o->drop_lost ? REPAIR_EXTEND : REPAIR_LEAVE;
	}
	return REPAIR_LEAVE;
}

static int by_block(const void *a, const void *b)
{
	uint32_t x = ((const struct repair_fault *)a)->fault.block;
	uint32_t y = ((const struct repair_fault *)b)->fault.block;

	return x < y ? -1 : x > y;
}

/* Of several faults of a block: it goes if one says so, it stays if all do. */
static enum repair_verdict combine(enum repair_verdict a, enum repair_verdict b)
{
	if (a == REPAIR_DROP || b == REPAIR_DROP)
		return REPAIR_DROP;
	if (a == REPAIR_LEAVE || b == REPAIR_LEAVE)
		return REPAIR_LEAVE;
	return a > b ? a : b;
}

static void settle(struct repair *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->fault_count; i++)
		r->faults[i].verdict = judge_fault(r, &r->faults[i].fault);
	if (r->fault_count)
		qsort(r->faults, r->fault_count, sizeof(*r->faults), by_block);
	for (size_t i = 0; i < r->fault_count; i++) {
		struct repair_fault *f = &r->faults[i];

		if (n && r->faults[n - 1].fault.block == f->fault.block)
			r->faults[n - 1].verdict = combine(r->faults[n - 1].verdict, f->verdict);
		else
			r->faults[n++] = *f;
	}
	r->fault_count = n;
}

static int set_entry(struct repair *r, const struct check_fault *f, uint32_t entry)
{
	uint64_t at = r->c.header.table_offset + 4ull * f->block;
	uint8_t *sector;
	int rc;

	sector = edits_sector(&r->edits, EDITS_TABLE, number_round_down(at, VHD_SECTOR), &rc);
	if (!sector)
		return rc;
	be32_store(sector + at % VHD_SECTOR, entry);
	if (entry == VHD_BAT_UNUSED)
		return repair_note(r, at, 4, "block %u: its entry, sector %u, is unused now",
				   f->block, f->entry);
	return repair_note(r, at, 4, "block %u: its entry is sector %u, where it was found",
			   f->block, entry);
}

static int extend(struct repair *r, const struct check_fault *f)
{
	uint64_t end = (uint64_t)f->entry + bitmap_stride(r->c.block_sectors);
	uint64_t from = r->c.end_offset;
	uint8_t *sector;
	int rc;

	r->extended = end * VHD_SECTOR;
	if (r->c.has_end ||
	    !r->c.over_data) { /* a footer stands where the block's data should be */
		sector = edits_sector(&r->edits, EDITS_OLD_FOOTER, from, &rc);
		if (!sector)
			return rc;
		memset(sector, 0, VHD_SECTOR);
	}
	return repair_note(r, from, r->extended - from, "block %u: completed with zeros", f->block);
}

int repair_table(struct repair *r)
{
	int rc = 0;

	settle(r);
	for (size_t i = 0; !rc && i < r->fault_count; i++) {
		const struct repair_fault *f = &r->faults[i];

		if (edits_full(&r->edits, 2)) {
			r->full = true;
			r->fault_count = i;
			break;
		}
		if (f->verdict == REPAIR_DROP)
			rc = set_entry(r, &f->fault, VHD_BAT_UNUSED);
		else if (f->verdict == REPAIR_ADOPT)
			rc = set_entry(r, &f->fault, r->c.found_entry);
		else if (f->verdict == REPAIR_EXTEND)
			rc = extend(r, &f->fault);
	}
	return rc;
}

int repair_bitmap(struct repair *r, struct judge *j, uint32_t block, uint32_t entry, int verdict)
{
	uint64_t at = (uint64_t)entry * VHD_SECTOR;
	int rc;

	if (r->c.header_unsound)
		return 0;
	if (verdict != JUDGE_FILL && !(verdict == JUDGE_UNMARKED && r->o->keep_unmarked))
		return 0;
	if (edits_full(&r->edits, j->bitmap_bytes / VHD_SECTOR)) {
		r->full = true;
		return 0;
	}
	bits_set_range(j->bitmap, 0, j->sectors);
	rc = edits_put(&r->edits, EDITS_BITMAP, j->bitmap, j->bitmap_bytes, at);
	return rc < 0 ? rc :
			repair_note(r, at, j->bitmap_bytes,
				    "block %u: its bitmap says that all sectors are here", block);
}

/* ── what it costs ── */

/* The rest of a block that is completed: sectors that were written, and are behind the cut. */
static int lose_rest(struct repair *r, const struct check_fault *f, struct lost *lost)
{
	struct check *c = &r->c;
	uint32_t bytes = bitmap_sectors(c->block_sectors) * VHD_SECTOR;
	uint64_t offset = (uint64_t)f->entry * VHD_SECTOR;
	uint64_t start = (uint64_t)f->block * c->block_sectors;
	uint64_t end = number_min(c->footer.current_size / VHD_SECTOR - start, c->block_sectors);
	uint64_t from = (c->end_offset - offset - bytes) / VHD_SECTOR;
	CLEANUP_FREE uint8_t *bitmap = malloc(bytes);
	int rc = bitmap ? io_read(c->io, bitmap, bytes, offset) : -ENOMEM;

	while (!rc && from < end) {
		uint64_t run = bits_run(bitmap, from, end);

		if (bits_test(bitmap, from))
			lost_add(lost, (start + from) * VHD_SECTOR, run * VHD_SECTOR, false,
				 "behind the end of the file: reads as zeros now");
		from += run;
	}
	return rc;
}

int repair_losses(struct repair *r, struct lost *lost)
{
	const char *why = r->c.footer.type == VHD_TYPE_DIFFERENCING ?
				  "its block is nowhere: reads as the parent's data now" :
				  "its block is nowhere: reads as zeros now";
	uint64_t size = r->c.footer.current_size, bytes = r->c.header.block_size;
	int rc = 0;

	for (size_t i = 0; !rc && i < r->fault_count; i++) {
		const struct repair_fault *f = &r->faults[i];
		uint64_t at = f->fault.block * bytes;

		if (f->verdict == REPAIR_EXTEND && !r->c.torn_harmless)
			rc = lose_rest(r, &f->fault, lost);
		else if (f->verdict == REPAIR_DROP && at < size)
			lost_add(lost, at, number_min(bytes, size - at), false, why);
	}
	return rc;
}
