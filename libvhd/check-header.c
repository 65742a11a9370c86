/* check-header.c - the header of a sparse image, its parent locators, and where its table lies
 *
 * Leaves the list of metadata ranges, against which blocks are compared.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "check.h"
#include "error.h"
#include "locator.h"
#include "utf16.h"

const struct check_range *check_hit(const struct check *c, uint64_t offset, uint64_t length)
{
	for (unsigned i = 0; i < c->range_count; i++)
		if (number_overlap(offset, length, c->ranges[i].offset, c->ranges[i].length))
			return &c->ranges[i];
	return NULL;
}

void check_add_range(struct check *c, uint64_t offset, uint64_t length, const char *name)
{
	unsigned i = c->range_count++;

	for (; i && c->ranges[i - 1].offset > offset; i--)
		c->ranges[i] = c->ranges[i - 1];
	c->ranges[i] = (struct check_range){ offset, length, name };
}

void check_report_decoding(struct check *c, int code, uint64_t base, const struct vhd_error *e,
			   bool repairable)
{
	struct vhd_finding f = { .code = code,
				 .severity = VHD_DAMAGE,
				 .has = e->has | VHD_HAS_OFFSET,
				 .offset = base + (e->has & VHD_HAS_OFFSET ? e->offset : 0),
				 .expected = e->expected,
				 .found = e->found,
				 .repairable = repairable };

	check_report(c, &f, "%s", e->text);
}

/* ── parent locators ── */

static bool locator_known(uint32_t code)
{
	return code == LOCATOR_WI2R || code == LOCATOR_WI2K || code == LOCATOR_W2RU ||
	       code == LOCATOR_W2KU || code == LOCATOR_MAC || code == LOCATOR_MACX;
}

/* The text of locator @i is lost: 1 when another locator has it, and no block claims its place. */
static int is_text_known(struct check *c, unsigned i, uint8_t *text)
{
	const struct vhd_locator_entry *e = &c->header.locators[i];
	int rc = rebuild_locator_text(c->io, &c->header, c->file_bytes, i, text);

	return rc > 0 ? check_place_free(c, e->offset, e->length) : rc;
}

/* Can the text of a usable locator be read?  1, 0, or negative. */
static int check_locator_text(struct check *c, unsigned i, struct vhd_finding *f)
{
	const struct vhd_locator_entry *entry = &c->header.locators[i];
	CLEANUP_FREE struct locator_path *path = malloc(sizeof(*path));
	CLEANUP_FREE uint8_t *data = malloc(entry->length);
	struct vhd_error e = { 0 };
	int rc;

	if (!path || !data)
		return -ENOMEM;
	rc = check_read(c, data, entry->length, entry->offset);
	if (rc < 0)
		return rc;
	rc = locator_decode(entry->code, data, entry->length, path, &e);
	if (rc == -ENOMEM)
		return rc;
	if (rc >= 0)
		return 1;
	rc = is_text_known(c, i, data);
	if (rc < 0)
		return rc;
	f->repairable = rc > 0;
	c->renew_locators |= (uint8_t)(rc << i);
	check_report(c, f, "parent locator %u cannot be read: %s", i, e.text);
	return 0;
}

/* Is there a way to the parent beside the entries that make no sense? */
static bool another_way(const struct check *c)
{
	char name[3 * VHD_NAME_UNITS + 1];

	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		const struct vhd_locator_entry *e = &c->header.locators[i];

		if (locator_usable(e, c->file_bytes) && !check_hit(c, e->offset, e->length))
			return true;
	}
	return utf16_decode(c->header.parent_name, VHD_NAME_UNITS, UTF16_BE, name, sizeof(name)) >
	       0;
}

/* The entry names bytes that are no text of its own: it says nothing that could be lost. */
static bool can_clear(struct check *c, unsigned i, bool other)
{
	if (other && !c->footer.poisoned)
		c->clear_locators |= (uint8_t)(1u << i);
	return other && !c->footer.poisoned;
}

/* @other: see another_way().  1: it names a parent; 0: not; negative. */
static int check_locator(struct check *c, unsigned i, bool other)
{
	static const char *const names[VHD_LOCATORS] = {
		"parent locator 0", "parent locator 1", "parent locator 2", "parent locator 3",
		"parent locator 4", "parent locator 5", "parent locator 6", "parent locator 7",
	};
	static const struct check_range end_footer = { .name = "end footer" };
	const struct vhd_locator_entry *entry = &c->header.locators[i];
	struct vhd_finding f = { .code = -VHD_E_LOCATOR,
				 .severity = VHD_WARNING,
				 .has = VHD_HAS_OFFSET,
				 .offset = c->footer.data_offset + HEADER_LOCATORS +
					   i * VHD_LOCATOR_BYTES };
	const struct check_range *hit;
	char buf[16];
	const char *code = locator_name(entry->code, buf);

	if (!entry->code)
		return 0;
	if (!locator_known(entry->code)) {
		check_report(c, &f, "parent locator %u is of an unknown kind (%s); it is skipped",
			     i, code);
		return 0;
	}
	if (!entry->length || !number_within(entry->offset, entry->length, c->file_bytes) ||
	    (entry->code != LOCATOR_MAC && !locator_usable(entry, c->file_bytes))) {
		f.repairable = can_clear(c, i, other);
		check_report(c, &f,
			     "parent locator %u (%s) claims %u bytes at offset %llu, which cannot "
			     "be; it is skipped",
			     i, code, entry->length, (unsigned long long)entry->offset);
		return 0;
	}
	hit = check_hit(c, entry->offset, entry->length);
	if (!hit && c->has_end &&
	    number_overlap(entry->offset, entry->length, c->end_offset, VHD_FOOTER_BYTES))
		hit = &end_footer;
	if (hit) {
		f.severity = VHD_DAMAGE;
		f.repairable = can_clear(c, i, other);
		check_report(c, &f,
			     "the text of parent locator %u (%s) at offset %llu lies over the %s",
			     i, code, (unsigned long long)entry->offset, hit->name);
		return 0;
	}
	check_add_range(c, entry->offset, entry->length, names[i]);
	return entry->code == LOCATOR_MAC ? 0 : check_locator_text(c, i, &f);
}

static int check_locators(struct check *c)
{
	struct vhd_finding f = { .code = -VHD_E_LOCATOR,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET,
				 .offset = c->footer.data_offset + HEADER_PARENT_NAME };
	char name[3 * VHD_NAME_UNITS + 1];
	bool other = another_way(c);
	unsigned usable = 0;
	int rc;

	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		rc = check_locator(c, i, other);
		if (rc < 0)
			return rc;
		usable += (unsigned)rc;
	}
	rc = utf16_decode(c->header.parent_name, VHD_NAME_UNITS, UTF16_BE, name, sizeof(name));
	if (rc < 0) {
		f.severity = VHD_WARNING;
		check_report(c, &f, "the parent's name in the header is not valid UTF-16");
	} else if (!rc && !usable) {
		check_report(c, &f,
			     "the image has a parent, but neither a locator nor the header "
			     "names it");
	}
	return 0;
}

/* ── header ── */

static void check_header_fields(struct check *c)
{
	static const uint8_t none[VHD_UUID_BYTES];
	const struct vhd_header *h = &c->header;
	struct vhd_finding f = { .code = -VHD_E_HEADER_FIELD,
				 .severity = VHD_WARNING,
				 .has = VHD_HAS_OFFSET,
				 .offset = c->footer.data_offset };
	size_t i = 0;

	while (i < sizeof(h->reserved2) && !h->reserved2[i])
		i++;
	if (h->reserved1 || i < sizeof(h->reserved2))
		check_report(c, &f,
			     "reserved bytes of the header are not zero; some readers "
			     "refuse that");
	if (h->data_offset != VHD_NO_OFFSET)
		check_report(c, &f, "the header names a next structure; some readers refuse that");
	if (c->footer.type == VHD_TYPE_DYNAMIC && memcmp(h->parent_uuid, none, sizeof(none)) != 0)
		check_report(c, &f,
			     "a dynamic disk has no parent, but the header has a parent's "
			     "id; it is ignored");
}

/* Which entries can be looked at, although header_fits may have complained. */
static void place_table(struct check *c)
{
	uint64_t need = number_div_up(c->footer.current_size, c->header.block_size);
	uint64_t reach = VHD_SIZE_MAX / c->header.block_size;
	uint64_t table = c->header.table_offset, room;
	struct vhd_finding f = { .code = -VHD_E_HEADER_FIELD,
				 .severity = VHD_WARNING,
				 .has = VHD_HAS_OFFSET | VHD_HAS_VALUES,
				 .offset = c->footer.data_offset + HEADER_MAX_ENTRIES,
				 .expected = reach,
				 .found = c->header.max_entries };

	room = table < c->file_bytes ? (c->file_bytes - table) / 4 : 0;
	c->entries = (uint32_t)number_min(number_min(c->header.max_entries, room), reach);
	c->blocks = (uint32_t)number_min(need, c->entries);
	c->block_sectors = c->header.block_size / VHD_SECTOR;
	c->result->total_blocks += need;
	if (c->header.max_entries > reach)
		check_report(c, &f,
			     "the table has %u entries, more than the format reaches; those "
			     "after the first %llu are not looked at",
			     c->header.max_entries, (unsigned long long)reach);
	c->has_table = c->entries && !check_hit(c, table, 4ull * c->entries);
	if (c->has_table)
		check_add_range(c, table,
				number_round_up(4ull * number_min(c->header.max_entries, room),
						VHD_SECTOR),
				"block table");
}

/* What the header must have been; false: nobody can tell. */
static int rebuild(struct check *c, bool *found, const char **why)
{
	struct rebuild_spec spec = { .io = c->io,
				     .footer = &c->footer,
				     .file_bytes = c->file_bytes,
				     .has_end = c->has_end,
				     .end_offset = c->end_offset,
				     .parents = &c->options->parents };
	int rc;

	if (c->more) {
		spec.parent_id = c->more->parent_id;
		spec.parent_time = c->more->parent_time;
		spec.parent_name = c->more->parent_name;
	}
	rc = rebuild_header(&spec, &c->rebuilt, why);
	if (rc < 0 && rc != -ENOMEM)
		return error_system(c->err, rc, "read", c->io->name);
	*found = rc > 0 && !c->footer.poisoned;
	if (!*found)
		c->rebuilt.how = REBUILD_NOTHING;
	else
		c->header = c->rebuilt.header;
	return rc < 0 ? rc : 0;
}

/* A header that is wrong in its checksum alone is used all the same, to look further. */
static int decode_unsummed(struct check *c, uint8_t raw[VHD_HEADER_BYTES], struct vhd_error *e)
{
	be32_store(raw + HEADER_CHECKSUM, header_checksum(raw));
	memset(e, 0, sizeof(*e));
	return header_decode(raw, &c->header, e);
}

static int decode_header(struct check *c, uint8_t raw[VHD_HEADER_BYTES], bool *usable)
{
	uint64_t offset = c->footer.data_offset;
	uint64_t fits_bytes = c->has_end ? c->file_bytes : c->file_bytes + VHD_FOOTER_BYTES;
	struct vhd_error e = { 0 };
	const char *why = "";
	bool found;
	int rc = header_decode(raw, &c->header, &e), fit, code;

	*usable = !rc;
	fit = rc ? 0 : header_fits(&c->header, offset, c->footer.current_size, fits_bytes, &e);
	code = rc ? rc : fit;
	if (!code)
		return 0;
	rc = rebuild(c, &found, &why);
	if (rc < 0)
		return rc;
	if (!found)
		snprintf(e.text + strlen(e.text), sizeof(e.text) - strlen(e.text), " (%s)", why);
	check_report_decoding(c, code, offset, &e, found);
	c->header_unsound = !found;
	if (found) {
		*usable = true;
	} else if (code == -VHD_E_HEADER_CHECKSUM) {
		rc = decode_unsummed(c, raw, &e);
		*usable = !rc;
		if (rc < 0)
			check_report_decoding(c, rc, offset, &e, false);
		else if ((rc = header_fits(&c->header, offset, c->footer.current_size, fits_bytes,
					   &e)) < 0)
			check_report_decoding(c, rc, offset, &e, false);
	}
	return 0;
}

/* The footers name a place where no header can be: 1 when it is found elsewhere. */
static int misplaced_header(struct check *c)
{
	struct vhd_finding f = { .code = -VHD_E_HEADER_FIELD,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET | VHD_HAS_VALUES,
				 .offset = c->end_offset + FOOTER_DATA_OFFSET,
				 .expected = c->file_bytes,
				 .found = c->footer.data_offset };
	const char *why;
	int rc = rebuild(c, &f.repairable, &why);

	if (rc < 0)
		return rc;
	check_report(c, &f,
		     "the footer places the header at offset %llu, the file has %llu "
		     "bytes",
		     (unsigned long long)c->footer.data_offset, (unsigned long long)c->file_bytes);
	return f.repairable;
}

int check_header(struct check *c)
{
	uint64_t offset = c->footer.data_offset;
	uint8_t raw[VHD_HEADER_BYTES];
	bool usable = false;
	int rc;

	if (!number_within(offset, VHD_HEADER_BYTES, c->file_bytes)) {
		rc = misplaced_header(c);
		usable = rc > 0;
	} else {
		rc = check_read(c, raw, sizeof(raw), offset);
		if (!rc)
			rc = decode_header(c, raw, &usable);
	}
	if (rc < 0 || !usable)
		return rc;
	if (c->rebuilt.how)
		offset = c->rebuilt.offset;
	c->has_header = true;
	check_add_range(c, 0, VHD_FOOTER_BYTES, "footer copy");
	check_add_range(c, offset, VHD_HEADER_BYTES, "header");
	check_header_fields(c);
	place_table(c);
	rc = c->has_table ? check_batmap(c) : 0;
	if (rc < 0 || c->footer.type != VHD_TYPE_DIFFERENCING)
		return rc;
	return check_locators(c);
}
