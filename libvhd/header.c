/* header.c - decode, judge and encode the header of sparse images */
#include "header.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "base/number.h"
#include "error.h"
#include "path.h"
#include "utf16.h"

uint32_t header_checksum(const uint8_t raw[VHD_HEADER_BYTES])
{
	uint32_t sum = 0;
	size_t i;

	for (i = 0; i < VHD_HEADER_BYTES; i++)
		if (i < HEADER_CHECKSUM || i >= HEADER_CHECKSUM + 4)
			sum += raw[i];
	return ~sum;
}

static int check_version(const struct vhd_header *h, struct vhd_error *err)
{
	uint32_t major = h->version >> 16;

	if (major > 1)
		return error_value(err, -VHD_E_UNSUPPORTED, HEADER_VERSION, VHD_VERSION_1_0,
				   h->version, "header version is %u.%u, supported is 1.x", major,
				   h->version & 0xffff);
	if (major < 1)
		return error_value(err, -VHD_E_HEADER_FIELD, HEADER_VERSION, VHD_VERSION_1_0,
				   h->version, "header version is 0x%08x, expected 0x%08x",
				   h->version, VHD_VERSION_1_0);
	return 0;
}

static int check_fields(const struct vhd_header *h, struct vhd_error *err)
{
	int rc = check_version(h, err);

	if (rc < 0)
		return rc;
	if (!number_is_power_of_two(h->block_size) || h->block_size < VHD_BLOCK_MIN ||
	    h->block_size > VHD_BLOCK_MAX)
		return error_value(err, -VHD_E_BLOCK_SIZE, HEADER_BLOCK_SIZE, VHD_BLOCK_DEFAULT,
				   h->block_size,
				   "block size is %u, supported are powers of two from %u to %u",
				   h->block_size, VHD_BLOCK_MIN, VHD_BLOCK_MAX);
	if (h->table_offset < VHD_FOOTER_BYTES || h->table_offset % VHD_SECTOR)
		return error_value(err, -VHD_E_HEADER_FIELD, HEADER_TABLE_OFFSET,
				   VHD_FOOTER_BYTES + VHD_HEADER_BYTES, h->table_offset,
				   "block table offset is 0x%llx, expected a multiple of 512 from "
				   "512 on",
				   (unsigned long long)h->table_offset);
	if (!h->max_entries)
		return error_value(err, -VHD_E_HEADER_FIELD, HEADER_MAX_ENTRIES, 1, 0,
				   "block table has no entries");
	return 0;
}

static void load_locator(const uint8_t *raw, struct vhd_locator_entry *entry)
{
	entry->code = be32_load(raw + LOCATOR_CODE);
	entry->space = be32_load(raw + LOCATOR_SPACE);
	entry->length = be32_load(raw + LOCATOR_LENGTH);
	entry->reserved = be32_load(raw + LOCATOR_RESERVED);
	entry->offset = be64_load(raw + LOCATOR_OFFSET);
}

static void store_locator(const struct vhd_locator_entry *entry, uint8_t *raw)
{
	be32_store(raw + LOCATOR_CODE, entry->code);
	be32_store(raw + LOCATOR_SPACE, entry->space);
	be32_store(raw + LOCATOR_LENGTH, entry->length);
	be32_store(raw + LOCATOR_RESERVED, entry->reserved);
	be64_store(raw + LOCATOR_OFFSET, entry->offset);
}

static void load_fields(const uint8_t *raw, struct vhd_header *h)
{
	unsigned i;

	h->data_offset = be64_load(raw + HEADER_DATA_OFFSET);
	h->table_offset = be64_load(raw + HEADER_TABLE_OFFSET);
	h->version = be32_load(raw + HEADER_VERSION);
	h->max_entries = be32_load(raw + HEADER_MAX_ENTRIES);
	h->block_size = be32_load(raw + HEADER_BLOCK_SIZE);
	h->checksum = be32_load(raw + HEADER_CHECKSUM);
	memcpy(h->parent_uuid, raw + HEADER_PARENT_UUID, sizeof(h->parent_uuid));
	h->parent_timestamp = be32_load(raw + HEADER_PARENT_TIMESTAMP);
	h->reserved1 = be32_load(raw + HEADER_RESERVED1);
	memcpy(h->parent_name, raw + HEADER_PARENT_NAME, sizeof(h->parent_name));
	for (i = 0; i < VHD_LOCATORS; i++)
		load_locator(raw + HEADER_LOCATORS + i * VHD_LOCATOR_BYTES, &h->locators[i]);
	memcpy(h->reserved2, raw + HEADER_RESERVED2, sizeof(h->reserved2));
}

int header_decode(const uint8_t raw[VHD_HEADER_BYTES], struct vhd_header *out,
		  struct vhd_error *err)
{
	uint32_t expected = header_checksum(raw);
	struct vhd_header h;
	int rc;

	if (memcmp(raw, VHD_HEADER_COOKIE, 8))
		return error_at(err, -VHD_E_HEADER_COOKIE, HEADER_COOKIE, "no header (cookie '%s')",
				VHD_HEADER_COOKIE);
	load_fields(raw, &h);
	if (h.checksum != expected)
		return error_value(err, -VHD_E_HEADER_CHECKSUM, HEADER_CHECKSUM, expected,
				   h.checksum, "header checksum is 0x%08x, its bytes give 0x%08x",
				   h.checksum, expected);
	rc = check_fields(&h, err);
	if (rc < 0)
		return rc;
	*out = h;
	return 0;
}

void header_encode(const struct vhd_header *h, uint8_t raw[VHD_HEADER_BYTES])
{
	unsigned i;

	memcpy(raw, VHD_HEADER_COOKIE, 8);
	be64_store(raw + HEADER_DATA_OFFSET, h->data_offset);
	be64_store(raw + HEADER_TABLE_OFFSET, h->table_offset);
	be32_store(raw + HEADER_VERSION, h->version);
	be32_store(raw + HEADER_MAX_ENTRIES, h->max_entries);
	be32_store(raw + HEADER_BLOCK_SIZE, h->block_size);
	memcpy(raw + HEADER_PARENT_UUID, h->parent_uuid, sizeof(h->parent_uuid));
	be32_store(raw + HEADER_PARENT_TIMESTAMP, h->parent_timestamp);
	be32_store(raw + HEADER_RESERVED1, h->reserved1);
	memcpy(raw + HEADER_PARENT_NAME, h->parent_name, sizeof(h->parent_name));
	for (i = 0; i < VHD_LOCATORS; i++)
		store_locator(&h->locators[i], raw + HEADER_LOCATORS + i * VHD_LOCATOR_BYTES);
	memcpy(raw + HEADER_RESERVED2, h->reserved2, sizeof(h->reserved2));
	be32_store(raw + HEADER_CHECKSUM, header_checksum(raw));
}

/* Nothing of the table over the header, the footer copy or the end footer. */
static int check_table_place(const struct vhd_header *h, uint64_t header_offset, uint64_t limit,
			     struct vhd_error *err)
{
	uint64_t bytes = 4ull * h->max_entries;
	unsigned long long at = h->table_offset;

	if (!number_within(at, bytes, limit))
		return error_value(err, -VHD_E_BAT_PLACE, HEADER_TABLE_OFFSET, limit, at,
				   "block table of %u entries at offset 0x%llx does not fit the "
				   "file, which has room up to 0x%llx",
				   h->max_entries, at, (unsigned long long)limit);
	if (at < VHD_FOOTER_BYTES || number_overlap(at, bytes, header_offset, VHD_HEADER_BYTES))
		return error_value(err, -VHD_E_BAT_PLACE, HEADER_TABLE_OFFSET,
				   header_offset + VHD_HEADER_BYTES, at,
				   "block table at offset 0x%llx lies over the header or the "
				   "footer copy",
				   at);
	return 0;
}

int header_fits(const struct vhd_header *header, uint64_t header_offset, uint64_t current_size,
		uint64_t file_bytes, struct vhd_error *err)
{
	uint64_t needed = number_div_up(current_size, header->block_size);
	uint64_t limit = file_bytes < VHD_FOOTER_BYTES ? 0 : file_bytes - VHD_FOOTER_BYTES;

	if (header_offset < VHD_FOOTER_BYTES ||
	    !number_within(header_offset, VHD_HEADER_BYTES, limit))
		return error_value(err, -VHD_E_HEADER_FIELD, 0, VHD_FOOTER_BYTES, header_offset,
				   "header at offset 0x%llx does not fit between the footers",
				   (unsigned long long)header_offset);
	if (header->max_entries < needed)
		return error_value(err, -VHD_E_HEADER_FIELD, HEADER_MAX_ENTRIES, needed,
				   header->max_entries,
				   "block table has %u entries, the disk size needs %llu",
				   header->max_entries, (unsigned long long)needed);
	return check_table_place(header, header_offset, limit, err);
}

uint64_t header_locator_room(const struct vhd_locator_entry *entry)
{
	if (entry->space < VHD_SECTOR)
		return (uint64_t)entry->space * VHD_SECTOR;
	return entry->space % VHD_SECTOR ? 0 : entry->space;
}

int header_name_parent(struct vhd_header *h, const char *path, struct vhd_error *err)
{
	const char *name = path_base_name(path);
	char quoted[256];
	int rc;

	memset(h->parent_name, 0, sizeof(h->parent_name));
	rc = utf16_encode(name, UTF16_BE, h->parent_name, VHD_NAME_UNITS);
	if (rc >= 0)
		return 0;
	return error_set(err, -VHD_E_NAME,
			 "cannot store the parent's name '%s': %s; rename the parent",
			 path_quote(name, quoted, sizeof(quoted)),
			 rc == -ENAMETOOLONG ? "it is longer than 256 UTF-16 units" :
					       "it holds a control character or is not UTF-8");
}
