/* check-footer.c - the end footer, its copy at the start, and fixed images
 *
 * The end footer is looked at first.  If it says "fixed", bytes at 0 belong to
 * the guest and are not looked at.  Where it is lost, one left of trailing bytes is sought
 * (check-stray.c), but believed only where no block lies: guests can write footers too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "check.h"
#include "growth.h"
#include "journal.h"

#define TORN_BYTE 0xc7 /* a server that is using an image fills the end footer with it */

struct place {
	int rc; /* of footer_decode */
	bool torn;
	struct vhd_footer footer;
	struct vhd_error err;
};

static int load_place(struct check *c, uint64_t offset, size_t length, struct place *p)
{
	uint8_t raw[VHD_FOOTER_BYTES] = { 0 };
	int rc = check_read(c, raw, length, offset);

	if (rc < 0)
		return rc;
	p->torn = true;
	for (size_t i = 0; i < length; i++)
		p->torn &= raw[i] == TORN_BYTE;
	memset(&p->err, 0, sizeof(p->err));
	p->rc = footer_decode(raw, &p->footer, &p->err);
	return 0;
}

/* Values that are legal to readers but for some of them. */
static void check_fields(struct check *c, const struct vhd_footer *f)
{
	static const uint8_t none[VHD_UUID_BYTES];
	struct vhd_finding odd = { .code = -VHD_E_FOOTER_FIELD,
				   .severity = VHD_WARNING,
				   .has = VHD_HAS_OFFSET,
				   .offset = c->end_offset };
	struct vhd_finding poison = { .code = -VHD_E_POISONED,
				      .severity = VHD_DAMAGE,
				      .has = VHD_HAS_OFFSET,
				      .offset = c->end_offset };
	size_t i = 0;

	if (f->poisoned)
		check_report(c, &poison,
			     "a journalled resize is under way or was interrupted; to undo it: "
			     "vhd-util revert -n '%s' -j JOURNAL",
			     c->file);
	if (f->type == VHD_TYPE_FIXED && f->data_offset != VHD_NO_OFFSET)
		check_report(c, &odd,
			     "the footer of this fixed disk names a header; some readers "
			     "refuse that");
	if (f->saved > 1)
		check_report(c, &odd, "the saved-state byte of the footer is %u, not 0 or 1",
			     f->saved);
	if (f->hidden > 1)
		check_report(c, &odd, "the hidden byte of the footer is %u, not 0 or 1", f->hidden);
	while (i < sizeof(f->reserved) && !f->reserved[i])
		i++;
	if (i < sizeof(f->reserved))
		check_report(c, &odd,
			     "reserved bytes of the footer are not zero (the first is "
			     "byte %zu of it); some readers refuse that",
			     i + FOOTER_RESERVED);
	if (!memcmp(f->uuid, none, sizeof(none)))
		check_report(c, &odd, "the image has no id: it cannot be a parent");
	odd.severity = VHD_NOTE;
	if (f->saved == 1)
		check_report(c, &odd,
			     "the footer says that the virtual machine is suspended: do "
			     "not resize or merge this image");
}

static void check_fixed(struct check *c)
{
	uint64_t size = c->footer.current_size;
	struct vhd_finding f = { .code = -VHD_E_TRUNCATED,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET | VHD_HAS_VALUES,
				 .offset = c->end_offset,
				 .expected = size,
				 .found = c->end_offset };

	if (size > c->end_offset) {
		check_report(c, &f,
			     "the disk has %llu bytes, but only %llu come before the footer: "
			     "the file is cut off",
			     (unsigned long long)size, (unsigned long long)c->end_offset);
	} else if (size < c->end_offset && !c->io->device) {
		f.code = -VHD_E_TRAILING;
		f.severity = VHD_WARNING;
		check_report(c, &f,
			     "the disk has %llu bytes, but the footer follows after %llu; "
			     "readers disagree about the size",
			     (unsigned long long)size, (unsigned long long)c->end_offset);
	}
	c->result->total_blocks = 0;
	c->data_end = c->end_offset;
}

/* "x.vhd" with an "x.v01" beside it: the first part of a split image. */
static bool looks_split(const struct check *c)
{
	size_t length = strlen(c->io->name);
	CLEANUP_FREE char *sibling = strdup(c->io->name);

	if (!sibling || length < 4 || strcasecmp(sibling + length - 4, ".vhd") != 0)
		return false;
	memcpy(sibling + length - 4, ".v01", 4);
	return access(sibling, F_OK) == 0;
}

static void report_none(struct check *c, const struct place *end)
{
	struct vhd_finding f = { .code = end->rc,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET,
				 .offset = c->end_offset };

	if (end->rc != -VHD_E_NOT_VHD) {
		f.has |= end->err.has & VHD_HAS_VALUES;
		f.expected = end->err.expected;
		f.found = end->err.found;
		check_report(c, &f, "no valid footer: %s", end->err.text);
	} else if (looks_split(c)) {
		f.code = -VHD_E_SPLIT;
		check_report(c, &f,
			     "the first part of a split image (there is a .v01 beside it); "
			     "join the parts first");
	} else {
		check_report(c, &f, "not a VHD: no footer at the end, none at the start");
	}
}

static void report_growing(struct check *c)
{
	struct vhd_finding f = { .code = -VHD_E_POISONED,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET,
				 .offset = c->end_offset };

	check_report(c, &f,
		     "no footer, but a journal beside the file: a resize was interrupted; to undo "
		     "it: vhd-util revert -n '%s'",
		     c->file);
}

/* Note what is to be said about the end footer once the blocks are known. */
static void lose(struct check *c, const struct place *end)
{
	c->lost = (struct vhd_finding){ .code = -VHD_E_FOOTER_MISSING,
					.severity = c->options->ignore_footer ? VHD_NOTE :
										VHD_DAMAGE,
					.has = VHD_HAS_OFFSET,
					.offset = c->end_offset };
	if (end->torn)
		snprintf(c->lost_text, sizeof(c->lost_text),
			 "the end footer is marked as in use: a server uses the image, or did not "
			 "close it");
	else if (end->rc == -VHD_E_NOT_VHD)
		snprintf(c->lost_text, sizeof(c->lost_text),
			 "the end footer is missing; its copy at the start is good");
	else
		snprintf(c->lost_text, sizeof(c->lost_text),
			 "the end footer is bad (%.300s); its copy at the start is good",
			 end->err.text);
}

/* Of a sparse image whose footer in force is known: which one is missing at the end, and what goes
 * on there. */
static void use_sparse(struct check *c, const struct place *end, const struct vhd_footer *footer)
{
	c->has_footer = true;
	c->footer = *footer;
	lose(c, end);
	check_fields(c, footer);
	if (end->rc == -VHD_E_NOT_VHD && !end->torn) { /* may well be data */
		c->end_offset = number_round_down(c->file_bytes, VHD_SECTOR);
		c->over_data = true;
	}
}

/* Neither footer is where it belongs, but one left of trailing bytes. */
static void use_stray(struct check *c, const struct place *end)
{
	struct vhd_finding f = { .code = -VHD_E_FOOTER_MISSING,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET,
				 .repairable = true };

	if (footer_is_sparse(&c->stray)) {
		use_sparse(c, end, &c->stray);
		c->copy_place = CHECK_PLACE_BAD;
		check_report(c, &f,
			     "the copy of the footer is missing; one before the trailing bytes is "
			     "good");
		return;
	}
	c->has_footer = true;
	c->footer = c->stray;
	c->end_offset = c->data_end = c->stray_offset;
	lose(c, end);
	check_end_footer(c);
	check_fixed(c);
}

/* No valid end footer: the copy at 0 decides, if it is that of a sparse image. */
static int without_end(struct check *c, const struct place *end)
{
	struct place copy = { .rc = -VHD_E_NOT_VHD };
	int rc = 0;

	if (c->file_bytes >= VHD_FOOTER_BYTES + VHD_HEADER_BYTES)
		rc = load_place(c, 0, VHD_FOOTER_BYTES, &copy);
	if (rc < 0)
		return rc;
	if (!copy.rc && footer_is_sparse(&copy.footer)) {
		c->copy_place = CHECK_PLACE_GOOD;
		use_sparse(c, end, &copy.footer);
		return check_seek_stray(c, &copy.footer);
	}
	if (end->rc == -VHD_E_NOT_VHD && journal_waits(c->io)) {
		report_growing(c);
		return 0;
	}
	rc = check_seek_stray(c, NULL);
	if (rc < 0)
		return rc;
	if (c->has_stray)
		use_stray(c, end);
	else
		report_none(c, end);
	return 0;
}

/* Does @footer lead to a whole header? */
static bool leads_to_header(struct check *c, const struct vhd_footer *footer)
{
	uint8_t raw[VHD_HEADER_BYTES];
	struct vhd_header header;

	return number_within(footer->data_offset, sizeof(raw), c->file_bytes) &&
	       !check_read(c, raw, sizeof(raw), footer->data_offset) &&
	       !header_decode(raw, &header, NULL);
}

/* Which of two valid footers is in force when they contradict each other: the caller's choice, for
 * mending; else the end footer. */
static void report_contradiction(struct check *c, struct vhd_finding *f,
				 const struct vhd_footer *copy)
{
	c->copy_place = CHECK_PLACE_DIFFERS;
	if (c->more && c->more->copy_wins) {
		c->footer = *copy;
		c->copy_place = CHECK_PLACE_GOOD;
		c->end_place = CHECK_PLACE_DIFFERS;
	}
	f->repairable = c->more && (c->more->copy_wins || c->more->end_wins);
	check_report(c, f,
		     "the two footers are valid but disagree about the disk; decide which one is "
		     "right before anything is written: vhd-util repair --end-footer or "
		     "--backup-footer");
}

static int compare_copy(struct check *c)
{
	struct vhd_finding f = { .code = -VHD_E_FOOTER_MISSING,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET,
				 .repairable = true };
	struct place copy;
	int rc = load_place(c, 0, VHD_FOOTER_BYTES, &copy);

	if (rc < 0)
		return rc;
	c->copy_place = copy.rc < 0 ? CHECK_PLACE_BAD : CHECK_PLACE_GOOD;
	if (copy.rc < 0) {
		if (copy.rc == -VHD_E_NOT_VHD)
			check_report(c, &f,
				     "the copy of the footer is missing; the end footer is good");
		else
			check_report(c, &f,
				     "the copy of the footer is bad (%s); the end footer is "
				     "good",
				     copy.err.text);
		return 0;
	}
	/* one cookie changes before the other: told already, and undone with the rest */
	if (c->footer.poisoned)
		copy.footer.poisoned = true;
	f.code = -VHD_E_FOOTERS_DIFFER;
	switch (footer_compare(&c->footer, &copy.footer)) {
	case FOOTER_SAME:
		break;
	case FOOTER_DIFF_BENIGN: /* ORDER 13: a change stopped between its two writes */
		if (c->more && c->more->copy_wins) {
			c->footer = copy.footer;
			c->end_place = CHECK_PLACE_STALE;
		} else {
			c->copy_place = CHECK_PLACE_STALE;
		}
		f.severity = VHD_NOTE;
		check_report(c, &f,
			     "the two footers differ in what a change in progress may leave; "
			     "the next writer makes them equal");
		/* a new parent beside a server, stopped within the header */
		if (!leads_to_header(c, &c->footer) && leads_to_header(c, &copy.footer)) {
			c->footer = copy.footer;
			c->copy_place = CHECK_PLACE_GOOD;
			c->end_place = CHECK_PLACE_STALE;
		}
		break;
	case FOOTER_DIFF_SIZE:
		if (!c->more || !(c->more->copy_wins || c->more->end_wins)) {
			c->other = copy.footer;
			c->other_size = copy.footer.current_size; /* check_sizes */
			c->copy_place = CHECK_PLACE_DIFFERS;
			break;
		}
		/* fall through */
	default:
		report_contradiction(c, &f, &copy.footer);
		break;
	}
	return 0;
}

static int growth_piece(void *arg, uint32_t first, const uint8_t *raw, uint32_t count,
			const uint8_t *batmap)
{
	(void)batmap;
	growth_feed(arg, first, raw, count);
	return 0;
}

int check_sizes(struct check *c)
{
	struct vhd_finding f = { .code = -VHD_E_FOOTERS_DIFFER,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET,
				 .repairable = true };
	struct growth g;
	bool same;
	int rc = 0;

	if (!c->other_size)
		return 0;
	growth_begin(&g, c->footer.current_size, c->other_size, c->block_sectors,
		     c->footer.type == VHD_TYPE_DIFFERENCING);
	if (c->has_table)
		rc = check_walk_table(c, growth_piece, &g);
	same = c->has_table && !rc && growth_is_same(&g, c->io) == 1;
	growth_end(&g);
	if (rc < 0)
		return rc;
	if (!same) {
		report_contradiction(c, &f, &c->other);
		return 0;
	}
	/* whole for us, but programs that read the other footer see another disk */
	check_report(
		c, &f,
		"the two footers differ in the disk's size, a resize stopped between them: %llu "
		"bytes at the end, %llu in the copy; the next writer and vhd-util repair take the "
		"larger one",
		(unsigned long long)c->footer.current_size, (unsigned long long)c->other_size);
	c->copy_place = CHECK_PLACE_STALE;
	if (c->other_size > c->footer.current_size) {
		c->footer = c->other;
		c->copy_place = CHECK_PLACE_GOOD;
		c->end_place = CHECK_PLACE_STALE;
		c->blocks = (uint32_t)number_min(number_div_up(c->other_size, c->header.block_size),
						 c->entries);
	}
	return 0;
}

int check_footers(struct check *c)
{
	size_t length = c->file_bytes % VHD_SECTOR == VHD_FOOTER_BYTES - 1 ? VHD_FOOTER_BYTES - 1 :
									     VHD_FOOTER_BYTES;
	struct vhd_finding f = { .code = -VHD_E_NOT_VHD,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET | VHD_HAS_VALUES,
				 .expected = VHD_FOOTER_BYTES,
				 .found = c->file_bytes };
	struct place end;
	int rc;

	if (c->file_bytes < VHD_FOOTER_BYTES - 1) {
		check_report(c, &f, "not a VHD: the file has %llu bytes, a footer alone has 512",
			     (unsigned long long)c->file_bytes);
		return 0;
	}
	c->end_offset = c->file_bytes - length;
	rc = load_place(c, c->end_offset, length, &end);
	if (rc < 0)
		return rc;
	c->end_place = end.rc < 0		  ? CHECK_PLACE_BAD :
		       length == VHD_FOOTER_BYTES ? CHECK_PLACE_GOOD :
						    CHECK_PLACE_SHORT;
	if (end.rc < 0)
		return without_end(c, &end);
	c->has_footer = c->has_end = true;
	c->footer = end.footer;
	f = (struct vhd_finding){ .code = -VHD_E_FOOTER_FIELD,
				  .severity = VHD_NOTE,
				  .has = VHD_HAS_OFFSET,
				  .offset = c->end_offset,
				  .repairable = true };
	if (length != VHD_FOOTER_BYTES)
		check_report(c, &f, "the footer has 511 bytes, as very old programs wrote it");
	check_fields(c, &c->footer);
	if (footer_is_sparse(&c->footer))
		return compare_copy(c);
	check_fixed(c);
	return 0;
}

void check_end_footer(struct check *c)
{
	if (!c->lost.code)
		return;
	/* where a block is cut off, a footer behind what is left would lie in the block; the place
	 * of a fixed image's footer is where its disk ends, whatever follows */
	c->lost.repairable = footer_is_sparse(&c->footer) && c->has_header && !c->header_unsound &&
			     !c->footer.poisoned && !c->gone_behind &&
			     (!c->torn || c->torn_harmless);
	if (c->has_stray && c->stray_offset >= c->data_end) {
		c->lost.code = -VHD_E_TRAILING;
		c->lost.offset = c->stray_offset;
		c->lost.has |= VHD_HAS_VALUES;
		c->lost.expected = c->stray_offset + VHD_FOOTER_BYTES;
		c->lost.found = c->file_bytes;
		check_report(c, &c->lost,
			     "%llu bytes follow the footer; many readers then do not "
			     "find it",
			     (unsigned long long)(c->file_bytes - c->lost.expected));
		return;
	}
	check_report(c, &c->lost, "%s", c->lost_text);
}
