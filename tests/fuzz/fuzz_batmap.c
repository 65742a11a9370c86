/* fuzz_batmap.c - the batmap's header, then its map */
#include "fuzz.h"
#include "libvhd/batmap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t raw[VHD_BATMAP_HEADER_BYTES] = { 0 }, again[VHD_BATMAP_HEADER_BYTES];
	struct vhd_error err = { 0 };
	struct vhd_batmap_header h;
	uint64_t covered;

	memcpy(raw, data, size < sizeof(raw) ? size : sizeof(raw));
	if (batmap_decode(raw, &h, &err) < 0) {
		MUST(err.code == -VHD_E_BATMAP && err.text[0]);
		return 0;
	}
	memcpy(again, raw, sizeof(raw));
	batmap_encode(&h, again);
	MUST(!memcmp(again, raw, sizeof(raw)));
	size = size > sizeof(raw) ? size - sizeof(raw) : 0;
	covered = batmap_covered_bytes(h.offset, 4096, size);
	MUST(covered <= size);
	(void)batmap_checksum(data + sizeof(raw), covered, h.version);
	MUST(batmap_header_offset(h.offset, h.sectors) >= h.offset);
	MUST((uint64_t)batmap_sectors(h.sectors) * VHD_SECTOR * 8 >= h.sectors);
	return 0;
}
