/* seal.c - checksums of footers, headers and batmaps made right */
#include "seal.h"

#include "libvhd/base/endian.h"
#include "libvhd/base/number.h"
#include "libvhd/batmap.h"
#include "libvhd/footer.h"
#include "libvhd/header.h"

void seal_footer(uint8_t *raw)
{
	be32_store(raw + FOOTER_CHECKSUM, footer_checksum(raw));
}

void seal_header(uint8_t *raw)
{
	be32_store(raw + HEADER_CHECKSUM, header_checksum(raw));
}

static void seal_batmap(uint8_t *image, size_t bytes, const uint8_t *header, uint64_t size)
{
	uint32_t block = be32_load(header + HEADER_BLOCK_SIZE);
	uint64_t at = batmap_header_offset(be64_load(header + HEADER_TABLE_OFFSET),
					   be32_load(header + HEADER_MAX_ENTRIES));
	uint64_t map, covered;
	uint8_t *raw;

	if (!block || !number_within(at, VHD_BATMAP_HEADER_BYTES, bytes))
		return;
	raw = image + at;
	map = be64_load(raw + BATMAP_OFFSET);
	covered = batmap_covered_bytes(size, block,
				       be32_load(raw + BATMAP_SECTORS) * (uint64_t)VHD_SECTOR);
	if (number_within(map, covered, bytes))
		be32_store(raw + BATMAP_CHECKSUM,
			   batmap_checksum(image + map, covered, be32_load(raw + BATMAP_VERSION)));
}

void seal_image(uint8_t *image, size_t bytes)
{
	uint64_t at;

	if (bytes < VHD_FOOTER_BYTES)
		return;
	at = be64_load(image + FOOTER_DATA_OFFSET);
	if (number_within(at, VHD_HEADER_BYTES, bytes)) {
		seal_batmap(image, bytes, image + at, be64_load(image + FOOTER_CURRENT_SIZE));
		seal_header(image + at);
	}
	seal_footer(image);
	seal_footer(image + bytes - VHD_FOOTER_BYTES);
}
