/* batmap.h - one bit per block: "allocated, and every sector present"
 *
 * An extension of creator "tap\0".  A stale 0 is harmless, a stale 1 hides the
 * parent's data: bits are set late and cleared early.
 */
#ifndef VHD_BATMAP_H
#define VHD_BATMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"
#include "vhd.h"

struct vhd_batmap_header {
	uint64_t offset;  /* bytes, of the map */
	uint32_t sectors; /* of the map */
	uint32_t version; /* 0x00010001: signed checksum; 0x00010002 */
	uint32_t checksum;
	uint8_t marker;
	uint8_t keyhash; /* 0: data is clear; 1: encrypted, nonce and hash present */
	uint8_t nonce[32];
	uint8_t hash[32];
};

/* Where the batmap header is: the sector after the BAT.  UINT64_MAX when that
 * does not fit 64 bits. */
uint64_t batmap_header_offset(uint64_t table_offset, uint32_t max_entries);

/* Sectors of the map for @max_entries blocks. */
uint32_t batmap_sectors(uint32_t max_entries);

/* Bytes that the checksum covers for a disk of @current_size bytes, at most
 * @map_bytes. */
uint64_t batmap_covered_bytes(uint64_t current_size, uint32_t block_size, uint64_t map_bytes);

/* Errors: VHD_E_BATMAP.  Placement and size are checked by the image room. */
int batmap_decode(const uint8_t raw[VHD_BATMAP_HEADER_BYTES], struct vhd_batmap_header *out,
		  struct vhd_error *err);
/* Has it the cookie, whatever else is in it? */
bool batmap_has_cookie(const uint8_t raw[VHD_BATMAP_HEADER_BYTES]);
/* From a header that is no use otherwise but looks like one: the key's hash, if there is one (true),
 * so that ciphertext is not taken for data, nor the hash lost.  Else @out is as it was. */
bool batmap_salvage_key(const uint8_t raw[VHD_BATMAP_HEADER_BYTES], struct vhd_batmap_header *out);
/* The key's hash alone, as an image without a batmap keeps it in an extended attribute of its file. */
#define BATMAP_KEY_ATTRIBUTE "user.com.citrix.xenclient.backend.keyhash"
#define BATMAP_KEY_BYTES     65
void batmap_decode_key(const uint8_t raw[BATMAP_KEY_BYTES], struct vhd_batmap_header *out);
/* Writes the fields into @raw, keeping bytes it does not know. */
void batmap_encode(const struct vhd_batmap_header *header, uint8_t raw[VHD_BATMAP_HEADER_BYTES]);

/* Checksum of @bytes of map by the rule of header version @version. */
uint32_t batmap_checksum(const uint8_t *map, uint64_t bytes, uint32_t version);

#endif
