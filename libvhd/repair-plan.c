/* repair-plan.c - the header and the footers as they should be
 *
 * A footer that is missing goes where it was, if what stands there now cannot be anything
 * else; else behind all there is: nothing is overwritten that might be data.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "batmap.h"
#include "repair-private.h"

/* The text of a locator, as another one has it. */
static int renew_text(struct repair *r, unsigned i)
{
	const struct check *c = &r->c;
	const struct vhd_locator_entry *e = &c->header.locators[i];
	CLEANUP_FREE uint8_t *text = malloc(e->length);
	int rc = text ? rebuild_locator_text(c->io, &c->header, c->file_bytes, i, text) : -ENOMEM;

	for (uint32_t at = 0; rc > 0 && at < e->length;) {
		uint64_t to = e->offset + at;
		uint8_t *sector;
		uint32_t n = (uint32_t)number_min(VHD_SECTOR - to % VHD_SECTOR, e->length - at);
		int failed;

		sector = edits_sector(&r->edits, EDITS_HEADER, number_round_down(to, VHD_SECTOR),
				      &failed);
		if (!sector)
			return failed;
		memcpy(sector + to % VHD_SECTOR, text + at, n);
		at += n;
	}
	return rc <= 0 ?
		       rc :
		       repair_note(r, e->offset, e->length,
				   "the text of parent locator %u is written as another has it", i);
}

int repair_header(struct repair *r)
{
	static const char *const texts[] = {
		[REBUILD_SUM] = "the checksum of the header is right now",
		[REBUILD_PARENT] = "what the header says of the parent is right now",
		[REBUILD_SECOND] = "the second half of the header is made anew",
		[REBUILD_FIRST] = "the header is made anew",
	};
	struct check *c = &r->c;
	struct vhd_header h = c->header;
	uint64_t at = c->rebuilt.how ? c->rebuilt.offset : c->footer.data_offset;
	bool renewed = c->rebuilt.how && c->rebuilt.how != REBUILD_PLACE;
	uint8_t raw[VHD_HEADER_BYTES];
	int rc = 0;

	if (renewed)
		rc = repair_note(r, at, sizeof(raw), "%s", texts[c->rebuilt.how]);
	for (unsigned i = 0; !rc && i < VHD_LOCATORS; i++) {
		if (!(c->clear_locators & 1u << i))
			continue;
		memset(&h.locators[i], 0, sizeof(h.locators[i]));
		rc = repair_note(r, at + HEADER_LOCATORS + i * VHD_LOCATOR_BYTES, VHD_LOCATOR_BYTES,
				 "parent locator %u, which named no text, is gone", i);
	}
	for (unsigned i = 0; !rc && i < VHD_LOCATORS; i++)
		if (c->renew_locators & 1u << i)
			rc = renew_text(r, i);
	if (rc < 0 || (!renewed && !c->clear_locators))
		return rc;
	header_encode(&h, raw);
	return edits_put(&r->edits, EDITS_HEADER, raw, sizeof(raw), at);
}

static int put_footer(struct repair *r, enum edits_group group, uint64_t at)
{
	struct vhd_footer f = r->c.footer;
	uint8_t raw[VHD_FOOTER_BYTES];
	int rc;

	if (r->c.rebuilt.how == REBUILD_PLACE)
		f.data_offset = r->c.rebuilt.offset;
	footer_encode(&f, raw);
	rc = edits_put(&r->edits, group, raw, sizeof(raw), at);
	return rc < 0 ?
		       rc :
		       repair_note(r, at, sizeof(raw), "%s is written%s",
				   group == EDITS_COPY ? "the copy of the footer" :
							 "the footer at the end",
				   r->c.no_batmap ? ": its creator's version that may do without a "
						    "batmap" :
						    "");
}

/* Is the last sector, no footer, the place of the one that is missing? */
static int is_its_place(struct repair *r, bool *is)
{
	const struct check *c = &r->c;
	uint64_t last = number_round_down(c->file_bytes, VHD_SECTOR) - VHD_SECTOR;
	uint8_t raw[VHD_SECTOR];
	int rc;

	*is = !c->over_data || c->io->device;
	if (*is || c->file_bytes % VHD_SECTOR || !c->has_table || last < c->data_end || c->gone ||
	    c->overlapping)
		return 0;
	rc = io_read(c->io, raw, sizeof(raw), last);
	if (rc < 0)
		return rc;
	/* right behind the last block, or nothing at all */
	*is = last < c->data_end + VHD_ALIGN || bits_all_clear(raw, 0, 8 * sizeof(raw));
	return 0;
}

/* Metadata that the file was cut before needs its room. */
static uint64_t metadata_room(const struct check *c)
{
	uint64_t at = batmap_header_offset(c->header.table_offset, c->header.max_entries);
	uint64_t map = (uint64_t)batmap_sectors(c->header.max_entries) * VHD_SECTOR;

	return footer_has_batmap(&c->footer) ? at + VHD_BATMAP_HEADER_BYTES + map : at;
}

/* Where the end footer goes; UINT64_MAX: nowhere. */
static int end_place(struct repair *r, uint64_t *place)
{
	const struct check *c = &r->c;
	bool its;
	int rc;

	*place = c->end_offset;
	if (r->extended) {
		*place = c->has_end ? r->extended :
				      number_max(r->extended,
						 number_round_up(c->file_bytes, VHD_SECTOR));
		return 0;
	}
	if (c->has_end)
		return 0;
	if (!footer_is_sparse(&c->footer)) { /* it is there, with other bytes behind */
		*place = UINT64_MAX;
		return 0;
	}
	rc = is_its_place(r, &its);
	if (rc < 0)
		return rc;
	*place = number_max(number_round_up(c->file_bytes, VHD_SECTOR), metadata_room(c));
	if (c->io->device) {
		*place = number_round_down(c->file_bytes, VHD_SECTOR) - VHD_FOOTER_BYTES;
		if (*place < c->data_end)
			*place = UINT64_MAX;
	} else if (its && c->end_offset % VHD_SECTOR == 0) {
		uint64_t old = c->over_data ? c->file_bytes - VHD_FOOTER_BYTES : c->end_offset;

		if (old >= metadata_room(c))
			*place = old;
	}
	return 0;
}

/* Entries that name places behind the file, and stay: a footer there would be in their way. */
static bool end_is_open(const struct repair *r)
{
	for (size_t i = 0; i < r->fault_count; i++) {
		const struct repair_fault *f = &r->faults[i];
		uint64_t at = (uint64_t)f->fault.entry * VHD_SECTOR;

		if (f->verdict == REPAIR_LEAVE &&
		    (f->fault.kind == CHECK_TORN ||
		     (f->fault.kind == CHECK_LOST && at >= r->c.end_offset)))
			return true;
	}
	return false;
}

/* Bytes behind a good footer: cut off, if that is wanted. */
static int trim(struct repair *r)
{
	struct check *c = &r->c;

	r->edits.bytes = c->stray_offset + VHD_FOOTER_BYTES;
	return repair_note(r, r->edits.bytes, c->file_bytes - r->edits.bytes,
			   "what follows the footer is cut off");
}

static int repair_end(struct repair *r)
{
	struct check *c = &r->c;
	bool moved = c->rebuilt.how == REBUILD_PLACE;
	uint64_t place;
	int rc;

	if (c->end_place == CHECK_PLACE_GOOD && !r->extended && !moved && !c->no_batmap)
		return 0;
	if (c->end_place == CHECK_PLACE_DIFFERS && !r->o->backup_footer)
		return 0;
	if (!c->has_end && !r->extended && c->has_stray && c->stray_offset >= c->data_end &&
	    r->o->trim && !c->io->device && !end_is_open(r))
		return trim(r);
	if (!c->has_end && footer_is_sparse(&c->footer) &&
	    (!c->has_header || c->header_unsound || end_is_open(r)))
		return 0;
	rc = end_place(r, &place);
	if (rc < 0 || place == UINT64_MAX)
		return rc;
	return put_footer(r, EDITS_END_FOOTER, place);
}

int repair_footers(struct repair *r)
{
	struct check *c = &r->c;
	bool moved = c->rebuilt.how == REBUILD_PLACE;
	int rc = repair_end(r);

	if (rc < 0 || !footer_is_sparse(&c->footer))
		return rc;
	if (c->copy_place == CHECK_PLACE_GOOD && !moved && !c->no_batmap)
		return 0;
	if (c->copy_place == CHECK_PLACE_DIFFERS && !r->o->end_footer)
		return 0;
	return put_footer(r, EDITS_COPY, 0);
}
