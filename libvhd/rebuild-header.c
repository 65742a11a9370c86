/* rebuild-header.c - the header of a sparse image, made whole again
 *
 * The two sectors of a header are lost one at a time, as a rule:
 *
 *   first    cookie, table, entries, block size, checksum, parent's id, most of its name
 *   second   end of the parent's name, locators, zeros
 *
 * The second one is made anew until the checksum in the first agrees.  For the first one a
 * table right behind the header is tried with each size of blocks.
 */
#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "base/number.h"
#include "batmap.h"
#include "locator.h"
#include "rebuild.h"
#include "utf16.h"

#define NAME_KEPT_UNITS ((VHD_SECTOR - HEADER_PARENT_NAME) / 2) /* in the first sector */

static bool differencing(const struct rebuild_spec *spec)
{
	return spec->footer->type == VHD_TYPE_DIFFERENCING;
}

static uint64_t blocks_of(const struct rebuild_spec *spec, uint32_t block_size)
{
	return number_div_up(spec->footer->current_size, block_size);
}

static int fits(const struct rebuild_spec *spec, const struct vhd_header *h, uint64_t offset)
{
	uint64_t bytes = spec->file_bytes + (spec->has_end ? 0 : VHD_FOOTER_BYTES);

	return header_fits(h, offset, spec->footer->current_size, bytes, NULL);
}

/* The fields of @raw with the checksum that they give. */
static int decode_resummed(const uint8_t raw[VHD_HEADER_BYTES], struct vhd_header *out)
{
	uint8_t copy[VHD_HEADER_BYTES];

	memcpy(copy, raw, sizeof(copy));
	be32_store(copy + HEADER_CHECKSUM, header_checksum(copy));
	return header_decode(copy, out, NULL);
}

/* ── the second sector ── */

/* Could a writer have left it like this? */
static bool second_sound(const struct rebuild_spec *spec, const struct vhd_header *h)
{
	for (size_t i = 0; i < sizeof(h->reserved2); i++)
		if (h->reserved2[i])
			return false;
	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		const struct vhd_locator_entry *e = &h->locators[i];
		bool unused = !e->code && !e->space && !e->length && !e->offset;

		if (e->reserved || (!unused && !differencing(spec)))
			return false;
		if (!unused && e->code != LOCATOR_MAC && !locator_usable(e, spec->file_bytes))
			return false;
	}
	return true;
}

bool rebuild_sum_is(const struct vhd_header *h, void *arg)
{
	const uint32_t *want = arg;
	uint8_t raw[VHD_HEADER_BYTES];

	header_encode(h, raw);
	return header_checksum(raw) == *want;
}

/* 1: the checksum agrees; 0: it does not, or there is none to go by (@sum NULL). */
static int renew_second(const struct rebuild_spec *spec, struct vhd_header *h, uint32_t *sum)
{
	memset(h->parent_name + 2 * NAME_KEPT_UNITS, 0,
	       sizeof(h->parent_name) - 2 * NAME_KEPT_UNITS);
	memset(h->locators, 0, sizeof(h->locators));
	memset(h->reserved2, 0, sizeof(h->reserved2));
	if (sum && rebuild_sum_is(h, sum))
		return 1;
	return differencing(spec) ? rebuild_locators(spec, h, sum ? rebuild_sum_is : NULL, sum) : 0;
}

/* ── what is believed ── */

/* Do place, length and block size of the table agree with something beside the header?  1, 0,
 * negative. */
static int proven(const struct rebuild_spec *spec, const struct vhd_header *h, uint64_t offset)
{
	int batmap = rebuild_batmap_there(spec, h->table_offset, h->max_entries);
	bool place = batmap > 0 || h->table_offset == offset + VHD_HEADER_BYTES;
	bool length = h->max_entries == blocks_of(spec, h->block_size);
	struct rebuild_shape shape;
	int rc;

	if (batmap < 0)
		return batmap;
	if (place && length)
		return 1;
	rc = rebuild_shape(spec, h, &shape);
	return rc < 0 ? rc : !shape.faults && (shape.tight || (place && !shape.allocated));
}

/* The cookie is there, the sum is wrong.  1, 0, negative.  *@id_doubted: that for the id of the
 * parent alone. */
static int believe_first(const struct rebuild_spec *spec, const uint8_t raw[VHD_HEADER_BYTES],
			 struct rebuilt *out, bool *id_doubted)
{
	uint32_t sum = be32_load(raw + HEADER_CHECKSUM);
	struct vhd_header h, second;
	int rc;

	if (decode_resummed(raw, &h) < 0 || fits(spec, &h, out->offset) < 0)
		return 0;
	second = h;
	rc = renew_second(spec, &second, &sum);
	if (rc > 0) {
		out->how = REBUILD_SECOND;
		out->header = second;
		return 1;
	}
	if (rc >= 0)
		rc = proven(spec, &h, out->offset);
	if (rc <= 0)
		return rc;
	out->how = second_sound(spec, &h) ? REBUILD_SUM : REBUILD_SECOND;
	out->header = out->how == REBUILD_SUM ? h : second;
	rc = rebuild_parent(spec, &out->header, sum, &out->how);
	*id_doubted = !rc;
	return rc;
}

/* ── the first sector anew ── */

/* As many entries as the place of the batmap says, else as the disk needs. */
static int find_entries(const struct rebuild_spec *spec, struct vhd_header *h)
{
	uint64_t need = blocks_of(spec, h->block_size);
	uint64_t reach = VHD_SIZE_MAX / h->block_size, n = need;
	int rc;

	h->max_entries = (uint32_t)need;
	if (!footer_has_batmap(spec->footer))
		return 1;
	for (;;) {
		rc = rebuild_batmap_there(spec, h->table_offset, (uint32_t)n);
		if (rc)
			break;
		n = number_round_up(n + 1, VHD_SECTOR / 4);
		if (n > reach || h->table_offset + 4 * n > spec->end_offset)
			return 0;
	}
	if (rc > 0)
		h->max_entries = (uint32_t)n;
	return rc;
}

/* Try each block size.  1: just one fits; 0: none, or several that make a difference. */
static int find_shape(const struct rebuild_spec *spec, struct vhd_header *h)
{
	uint32_t found = 0, entries = 0;
	bool empty = false;

	for (uint32_t size = VHD_BLOCK_MAX; size >= VHD_BLOCK_MIN; size /= 2) {
		struct rebuild_shape shape;
		int rc;

		if (blocks_of(spec, size) > UINT32_MAX / 4)
			continue;
		h->block_size = size;
		rc = find_entries(spec, h);
		if (!rc || number_div_up(4ull * h->max_entries, VHD_SECTOR) * VHD_SECTOR +
					   h->table_offset >
				   spec->end_offset)
			continue;
		if (rc > 0)
			rc = rebuild_shape(spec, h, &shape);
		if (rc < 0)
			return rc;
		if (shape.faults || (shape.allocated && !shape.tight))
			continue;
		/* nothing is allocated: with blocks of any size the disk reads as zeros */
		if (found && (!empty || shape.allocated))
			return 0;
		empty = !shape.allocated;
		if (!found || size == VHD_BLOCK_DEFAULT) {
			found = size;
			entries = h->max_entries;
		}
	}
	h->block_size = found;
	h->max_entries = entries;
	return found && empty ? rebuild_is_bare(spec, h) : found != 0;
}

static int name_parent(const struct rebuild_spec *spec, struct vhd_header *h)
{
	memset(h->parent_uuid, 0, sizeof(h->parent_uuid));
	memset(h->parent_name, 0, sizeof(h->parent_name));
	h->parent_timestamp = 0;
	if (!differencing(spec))
		return 1;
	if (!spec->parent_id)
		return 0;
	memcpy(h->parent_uuid, spec->parent_id, VHD_UUID_BYTES);
	h->parent_timestamp = spec->parent_time;
	if (spec->parent_name &&
	    utf16_encode(spec->parent_name, UTF16_BE, h->parent_name, VHD_NAME_UNITS) < 0)
		memset(h->parent_name, 0, sizeof(h->parent_name)); /* locators remain */
	return 1;
}

/* The fields that stand in the first sector of @raw are not believed, but for an id of a
 * parent (@id_kept). */
static int renew_first(const struct rebuild_spec *spec, const uint8_t raw[VHD_HEADER_BYTES],
		       bool id_kept, struct rebuilt *out, const char **why)
{
	uint8_t fresh[VHD_HEADER_BYTES];
	struct vhd_header *h = &out->header;
	int rc;

	/* a frame that decodes, with the second sector as found */
	memcpy(fresh, raw, sizeof(fresh));
	memcpy(fresh, VHD_HEADER_COOKIE, 8);
	be64_store(fresh + HEADER_DATA_OFFSET, VHD_NO_OFFSET);
	be64_store(fresh + HEADER_TABLE_OFFSET, out->offset + VHD_HEADER_BYTES);
	be32_store(fresh + HEADER_VERSION, VHD_VERSION_1_0);
	be32_store(fresh + HEADER_MAX_ENTRIES, 1);
	be32_store(fresh + HEADER_BLOCK_SIZE, VHD_BLOCK_DEFAULT);
	be32_store(fresh + HEADER_RESERVED1, 0);
	if (decode_resummed(fresh, h) < 0)
		return 0;
	*why = "no size of blocks agrees with where they lie";
	rc = find_shape(spec, h);
	if (rc <= 0)
		return rc;
	*why = "the header's place or its table lie over other metadata";
	if (fits(spec, h, out->offset) < 0)
		return 0;
	*why = "the id of its parent is lost; name the parent: --parent FILE";
	if (!(id_kept && differencing(spec)) && !name_parent(spec, h))
		return 0;
	if (!second_sound(spec, h) || (!id_kept && differencing(spec))) {
		struct vhd_header second = *h;

		rc = second_sound(spec, h) ? 0 : renew_second(spec, &second, NULL);
		if (rc < 0)
			return rc;
		*h = second;
	}
	out->how = REBUILD_FIRST;
	return 1;
}

/* Not where the footer says: perhaps where all writers put it. */
static int find_place(const struct rebuild_spec *spec, struct rebuilt *out)
{
	uint8_t raw[VHD_HEADER_BYTES];
	int rc;

	out->offset = VHD_FOOTER_BYTES;
	if (spec->footer->data_offset == out->offset ||
	    !number_within(out->offset, sizeof(raw), spec->end_offset))
		return 0;
	rc = io_read(spec->io, raw, sizeof(raw), out->offset);
	if (rc < 0)
		return rc;
	if (header_decode(raw, &out->header, NULL) < 0 || fits(spec, &out->header, out->offset) < 0)
		return 0;
	out->how = REBUILD_PLACE;
	return 1;
}

int rebuild_header(const struct rebuild_spec *spec, struct rebuilt *out, const char **why)
{
	uint64_t offset = spec->footer->data_offset;
	uint8_t raw[VHD_HEADER_BYTES];
	bool id_doubted = false;
	int rc, decoded;

	*why = "nothing proves what it was";
	memset(out, 0, sizeof(*out));
	rc = find_place(spec, out);
	if (rc)
		return rc;
	out->offset = offset;
	if (offset < VHD_FOOTER_BYTES || offset % VHD_SECTOR ||
	    !number_within(offset, sizeof(raw), spec->end_offset))
		return 0;
	rc = io_read(spec->io, raw, sizeof(raw), offset);
	if (rc < 0)
		return rc;
	decoded = header_decode(raw, &out->header, NULL);
	*why = "its version is not known here";
	if (decoded == -VHD_E_UNSUPPORTED)
		return 0;
	*why = "its table has fewer entries than the disk needs: the size or the header is wrong";
	if (!decoded && out->header.max_entries < blocks_of(spec, out->header.block_size))
		return 0;
	*why = "nothing proves what it was";
	if (decoded == -VHD_E_HEADER_CHECKSUM) {
		rc = believe_first(spec, raw, out, &id_doubted);
		if (rc)
			return rc;
	}
	rc = renew_first(spec, raw,
			 decoded != -VHD_E_HEADER_COOKIE && decoded != -VHD_E_HEADER_CHECKSUM, out,
			 why);
	if (!rc && id_doubted)
		*why = "perhaps the id of its parent is wrong, no file that it names has that one: "
		       "bring the parent back, or name it: --parent FILE";
	return rc;
}
