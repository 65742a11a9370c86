/* salvage-guess.c - what is likely, but not proven
 *
 * A footer whose checksum is wrong, or the size that a header leaves room for; blocks that
 * no entry names, in the order of their places, for entries that are lost, if there are as many
 * of the one as of the other.  All of it is told as guessed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "base/number.h"
#include "bitmap.h"
#include "create.h"
#include "error.h"
#include "geometry.h"
#include "locator.h"
#include "salvage-private.h"

#define POSITIONS_MAX (1u << 22)

/* ── footers ── */

static int put_footer(struct salvage *s, uint8_t raw[VHD_FOOTER_BYTES], uint64_t at)
{
	be32_store(raw + FOOTER_CHECKSUM, footer_checksum(raw));
	return edits_put(&s->edits, EDITS_COPY, raw, VHD_FOOTER_BYTES, at);
}

/* The footer at @at, its checksum aside.  1: taken. */
static int take_unsummed(struct salvage *s, uint64_t at, bool end)
{
	uint8_t raw[VHD_FOOTER_BYTES];
	struct vhd_footer f;
	int rc = io_read(s->io, raw, sizeof(raw), at);

	if (rc < 0)
		return rc == -EIO ? 0 : rc;
	be32_store(raw + FOOTER_CHECKSUM, footer_checksum(raw));
	if (footer_decode(raw, &f, NULL) < 0)
		return 0;
	if (footer_is_sparse(&f))
		rc = put_footer(s, raw, 0);
	else if (end && f.current_size == at)
		rc = put_footer(s, raw, at);
	else
		return 0;
	return rc < 0 ? rc : 1;
}

/* What a header at the usual place lets one think of the disk. */
static int assume_by_header(struct salvage *s)
{
	static const uint8_t none[VHD_UUID_BYTES];
	struct vhd_footer f = { .features = VHD_FEATURE_RESERVED,
				.version = VHD_VERSION_1_0,
				.data_offset = VHD_FOOTER_BYTES,
				.creator_version = 0x000a0000,
				.type = VHD_TYPE_DYNAMIC };
	uint8_t raw[VHD_HEADER_BYTES], footer[VHD_FOOTER_BYTES];
	struct vhd_geometry g;
	struct vhd_header h;
	int rc;

	if (s->edits.old_bytes < VHD_FOOTER_BYTES + VHD_HEADER_BYTES)
		return 0;
	rc = io_read(s->io, raw, sizeof(raw), VHD_FOOTER_BYTES);
	if (rc < 0)
		return rc == -EIO ? 0 : rc;
	if (header_decode(raw, &h, NULL) < 0 ||
	    (uint64_t)h.max_entries * h.block_size > VHD_SIZE_MAX)
		return 0;
	if (memcmp(h.parent_uuid, none, sizeof(none)) != 0 || h.locators[0].code)
		f.type = VHD_TYPE_DIFFERENCING;
	f.current_size = f.original_size = (uint64_t)h.max_entries * h.block_size;
	f.timestamp = create_now();
	memcpy(f.creator_app, "win ", 4);
	memcpy(f.creator_os, "Wi2k", 4);
	create_id(f.uuid);
	g = geometry_for(f.current_size / VHD_SECTOR);
	f.cylinders = g.cylinders;
	f.heads = g.heads;
	f.sectors_per_track = g.sectors_per_track;
	footer_encode(&f, footer);
	rc = put_footer(s, footer, 0);
	return rc < 0 ? rc : 1;
}

int salvage_assume_footer(struct salvage *s)
{
	uint64_t bytes = s->edits.old_bytes;
	int rc = 0;

	if (bytes >= VHD_FOOTER_BYTES && s->o->guess)
		rc = take_unsummed(s, number_round_down(bytes - VHD_FOOTER_BYTES, VHD_SECTOR),
				   bytes % VHD_SECTOR == 0);
	if (!rc && bytes >= VHD_FOOTER_BYTES && s->o->guess)
		rc = take_unsummed(s, 0, false);
	if (!rc && s->o->guess)
		rc = assume_by_header(s);
	if (rc)
		return rc < 0 ? error_system(s->err, rc, "read", s->source) : 0;
	return error_set(
		s->err, -VHD_E_NOT_VHD,
		s->o->guess ? "cannot salvage '%s': neither a footer nor a header is left of an "
			      "image; a raw disk is taken by vhd-util convert --from raw" :
			      "cannot salvage '%s': it has no valid footer, neither at the end nor "
			      "at the start; with --guess what is left of them, or of the header, "
			      "is believed",
		s->source);
}

/* ── blocks ── */

struct finder {
	struct salvage *s;
	uint32_t *positions; /* owned: of blocks that are believed */
	size_t count, room;
	struct salvage_given *lost; /* owned: entries that are lost */
	size_t lost_count, lost_room, in_batmap;
	uint32_t *found; /* owned: blocks that nobody names */
	size_t found_count, found_room;
};

/* Room for one more; false: no memory, or too many. */
static bool grow(void *list, size_t *room, size_t count, size_t each)
{
	size_t more = *room ? 2 * *room : 256;
	void *bigger;

	if (count < *room)
		return true;
	if (more > POSITIONS_MAX)
		return false;
	bigger = realloc(*(void **)list, more * each);
	if (!bigger)
		return false;
	*(void **)list = bigger;
	*room = more;
	return true;
}

static int sort_piece(void *arg, uint32_t first, const uint8_t *raw, uint32_t count,
		      const uint8_t *batmap)
{
	struct finder *f = arg;
	struct check *c = &f->s->c;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t entry = be32_load(raw + 4ull * i), block = first + i;
		bool found = block == c->gone_block && c->found_entry != VHD_BAT_UNUSED;

		if (entry == VHD_BAT_UNUSED && !found) {
			f->s->remembered += batmap && bits_test(batmap, i) && block < c->blocks;
			continue;
		}
		if (found)
			entry = c->found_entry;
		if (found || !check_block_bad(c, block) ||
		    (f->s->keeps && bits_test(f->s->keeps, block)) ||
		    (c->torn && block == c->torn_block)) {
			if (!grow(&f->positions, &f->room, f->count, sizeof(*f->positions)))
				return -ENOMEM;
			f->positions[f->count++] = entry;
			continue;
		}
		if (block >= c->blocks)
			continue;
		if (!grow(&f->lost, &f->lost_room, f->lost_count, sizeof(*f->lost)))
			return -ENOMEM;
		f->lost[f->lost_count++] = (struct salvage_given){ block,
								   batmap && bits_test(batmap, i) };
		f->in_batmap += batmap && bits_test(batmap, i);
	}
	return 0;
}

static int compare_positions(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int note_found(struct finder *f, uint64_t at)
{
	if (!grow(&f->found, &f->found_room, f->found_count, sizeof(*f->found)))
		return -ENOMEM;
	f->found[f->found_count++] = (uint32_t)at;
	return 0;
}

/* Blocks in [from, to), sectors: where one may begin, or a page further. */
static int look_in_gap(struct finder *f, uint64_t from, uint64_t to)
{
	struct check *c = &f->s->c;
	uint32_t stride = bitmap_stride(c->block_sectors);

	while (from + stride <= to && from < VHD_BAT_LAST - stride) {
		uint64_t places[2] = { from, bitmap_align(from, c->block_sectors) };
		uint64_t next = from + VHD_ALIGN / VHD_SECTOR;
		int rc = 0;

		for (unsigned i = 0; !rc && i < 2; i++) {
			if (places[i] + stride > to || (i && places[1] == places[0]))
				continue;
			rc = judge_begins(&f->s->judge, 0, (uint32_t)places[i]);
			if (rc > 0) {
				next = places[i] + stride;
				rc = note_found(f, places[i]);
				if (!rc)
					break;
			}
		}
		if (rc < 0 && rc != -EIO)
			return rc;
		rc = check_progress(c, from, to);
		if (rc < 0)
			return rc;
		from = next;
	}
	return 0;
}

static int look_for_blocks(struct finder *f)
{
	struct check *c = &f->s->c;
	uint32_t stride = bitmap_stride(c->block_sectors);
	uint64_t at = VHD_FOOTER_BYTES / VHD_SECTOR;
	int rc = 0;

	if (f->count)
		qsort(f->positions, f->count, sizeof(*f->positions), compare_positions);
	for (unsigned i = 0; i < c->range_count; i++)
		if (!f->count || c->ranges[i].offset < (uint64_t)f->positions[0] * VHD_SECTOR)
			at = number_max(at, number_div_up(c->ranges[i].offset + c->ranges[i].length,
							  VHD_SECTOR));
	for (size_t i = 0; !rc && i < f->count; i++) {
		rc = look_in_gap(f, at, f->positions[i]);
		at = number_max(at, (uint64_t)f->positions[i] + stride);
	}
	return rc ? rc : look_in_gap(f, at, c->end_offset / VHD_SECTOR);
}

/* As many blocks as lost entries, or as lost entries that the batmap knows: one for one. */
static int give(struct finder *f)
{
	struct salvage *s = f->s;
	bool all = f->found_count == f->lost_count;
	size_t n = 0;

	if (!s->o->guess || !f->found_count || (!all && f->found_count != f->in_batmap))
		return 0;
	s->given = calloc(f->found_count, sizeof(*s->given));
	if (!s->given)
		return -ENOMEM;
	for (size_t i = 0; i < f->lost_count; i++)
		if (all || f->lost[i].entry)
			s->given[n] = (struct salvage_given){ f->lost[i].block, f->found[n] }, n++;
	s->given_count = n;
	s->result->unnamed_blocks = 0;
	return 0;
}

int salvage_find_blocks(struct salvage *s)
{
	struct finder f = { .s = s };
	int rc;

	if (!s->found.leaked_bytes && !s->c.gone)
		return 0;
	rc = check_walk_table(&s->c, sort_piece, &f);
	if (!rc)
		rc = look_for_blocks(&f);
	s->result->unnamed_blocks = f.found_count;
	if (!rc)
		rc = give(&f);
	free(f.positions);
	free(f.lost);
	free(f.found);
	return rc;
}
