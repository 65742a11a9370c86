/* fuzz_header.c - the header: 16 bytes for the file around it, then its 1024 */
#include "fuzz.h"
#include "libvhd/base/endian.h"
#include "libvhd/base/number.h"
#include "libvhd/header.h"
#include "libvhd/locator.h"
#include "tests/lib/seal.h"

static void decode(const uint8_t *raw, uint64_t disk_bytes, uint64_t file_bytes)
{
	uint8_t again[VHD_HEADER_BYTES];
	struct vhd_error err = { 0 };
	struct vhd_header h;

	if (header_decode(raw, &h, &err) < 0) {
		MUST(err.code < 0 && err.text[0]);
		return;
	}
	MUST(number_is_power_of_two(h.block_size) && h.block_size >= VHD_BLOCK_MIN &&
	     h.block_size <= VHD_BLOCK_MAX && h.max_entries);
	header_encode(&h, again);
	MUST(!memcmp(again, raw, sizeof(again)));
	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		const struct vhd_locator_entry *e = &h.locators[i];

		MUST(header_locator_room(e) % VHD_SECTOR == 0);
		if (locator_usable(e, file_bytes))
			MUST(e->length <= LOCATOR_LENGTH_MAX &&
			     number_within(e->offset, e->length, file_bytes));
	}
	if (header_fits(&h, 512, disk_bytes, file_bytes, &err) < 0)
		return;
	MUST(number_within(h.table_offset, 4ull * h.max_entries, file_bytes - VHD_FOOTER_BYTES));
	MUST(h.table_offset >= 1536);
	MUST((uint64_t)h.max_entries * h.block_size >= disk_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t raw[VHD_HEADER_BYTES] = { 0 };
	uint64_t disk_bytes, file_bytes;

	if (size < 16)
		return 0;
	disk_bytes = be64_load(data) % VHD_SIZE_MAX + 1;
	file_bytes = be64_load(data + 8);
	size -= 16;
	memcpy(raw, data + 16, size < sizeof(raw) ? size : sizeof(raw));
	decode(raw, disk_bytes, file_bytes);
	seal_header(raw);
	decode(raw, disk_bytes, file_bytes);
	return 0;
}
