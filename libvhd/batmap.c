/* batmap.c - the batmap header, and the checksum of the map */
#include "batmap.h"

#include <string.h>

#include "base/endian.h"
#include "base/number.h"
#include "error.h"

#define BATMAP_1_1 0x00010001u
#define BATMAP_1_2 0x00010002u

uint64_t batmap_header_offset(uint64_t table_offset, uint32_t max_entries)
{
	uint64_t table = number_round_up(number_max(4ull * max_entries, 1), VHD_SECTOR);
	uint64_t offset;

	/* beyond the end of any file: the caller finds that out */
	return number_add(table_offset, table, &offset) ? offset : UINT64_MAX;
}

uint32_t batmap_sectors(uint32_t max_entries)
{
	uint64_t bytes = number_div_up(max_entries, 8);

	return (uint32_t)number_max(number_div_up(bytes, VHD_SECTOR), 1);
}

uint64_t batmap_covered_bytes(uint64_t current_size, uint32_t block_size, uint64_t map_bytes)
{
	/* truncating: the bits of the last few blocks past a multiple of 4096
	 * blocks are outside the checksum, as the format's inventor computes it */
	uint64_t bytes = current_size / (8ull * block_size);
	uint64_t sectors = number_max(number_div_up(bytes, VHD_SECTOR), 1);

	return number_min(sectors * VHD_SECTOR, map_bytes);
}

_Static_assert(BATMAP_NONCE == BATMAP_KEYHASH + 1 && BATMAP_HASH == BATMAP_NONCE + 32 &&
		       BATMAP_HASH + 32 == BATMAP_KEYHASH + BATMAP_KEY_BYTES,
	       "the same in the header and in the attribute");

void batmap_decode_key(const uint8_t raw[BATMAP_KEY_BYTES], struct vhd_batmap_header *out)
{
	out->keyhash = raw[0];
	memcpy(out->nonce, raw + 1, sizeof(out->nonce));
	memcpy(out->hash, raw + 33, sizeof(out->hash));
}

bool batmap_has_cookie(const uint8_t raw[VHD_BATMAP_HEADER_BYTES])
{
	return !memcmp(raw + BATMAP_COOKIE, VHD_BATMAP_COOKIE, 8);
}

int batmap_decode(const uint8_t raw[VHD_BATMAP_HEADER_BYTES], struct vhd_batmap_header *out,
		  struct vhd_error *err)
{
	uint32_t version = be32_load(raw + BATMAP_VERSION);

	if (!batmap_has_cookie(raw))
		return error_at(err, -VHD_E_BATMAP, BATMAP_COOKIE, "no batmap header (cookie '%s')",
				VHD_BATMAP_COOKIE);
	if (version != BATMAP_1_1 && version != BATMAP_1_2)
		return error_value(err, -VHD_E_BATMAP, BATMAP_VERSION, BATMAP_1_2, version,
				   "batmap version is 0x%08x, expected 0x%08x or 0x%08x", version,
				   BATMAP_1_1, BATMAP_1_2);
	out->offset = be64_load(raw + BATMAP_OFFSET);
	out->sectors = be32_load(raw + BATMAP_SECTORS);
	out->version = version;
	out->checksum = be32_load(raw + BATMAP_CHECKSUM);
	out->marker = raw[BATMAP_MARKER];
	batmap_decode_key(raw + BATMAP_KEYHASH, out);
	return 0;
}

bool batmap_salvage_key(const uint8_t raw[VHD_BATMAP_HEADER_BYTES], struct vhd_batmap_header *out)
{
	static const uint8_t zeros[VHD_BATMAP_HEADER_BYTES];
	const unsigned end = BATMAP_HASH + sizeof(out->hash);

	if (raw[BATMAP_KEYHASH] != 1 ||
	    memcmp(raw + end, zeros, VHD_BATMAP_HEADER_BYTES - end) != 0)
		return false;
	batmap_decode_key(raw + BATMAP_KEYHASH, out);
	return true;
}

void batmap_encode(const struct vhd_batmap_header *header, uint8_t raw[VHD_BATMAP_HEADER_BYTES])
{
	memcpy(raw + BATMAP_COOKIE, VHD_BATMAP_COOKIE, 8);
	be64_store(raw + BATMAP_OFFSET, header->offset);
	be32_store(raw + BATMAP_SECTORS, header->sectors);
	be32_store(raw + BATMAP_VERSION, header->version);
	be32_store(raw + BATMAP_CHECKSUM, header->checksum);
	raw[BATMAP_MARKER] = header->marker;
	raw[BATMAP_KEYHASH] = header->keyhash;
	memcpy(raw + BATMAP_NONCE, header->nonce, sizeof(header->nonce));
	memcpy(raw + BATMAP_HASH, header->hash, sizeof(header->hash));
}

uint32_t batmap_checksum(const uint8_t *map, uint64_t bytes, uint32_t version)
{
	uint32_t sum = 0;
	uint64_t i;

	if (version == BATMAP_1_1)
		for (i = 0; i < bytes; i++)
			sum += (uint32_t)(int32_t)(int8_t)map[i];
	else
		for (i = 0; i < bytes; i++)
			sum += map[i];
	return ~sum;
}
