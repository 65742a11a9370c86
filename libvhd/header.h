/* header.h - the 1024-byte header of dynamic and differencing images */
#ifndef VHD_HEADER_H
#define VHD_HEADER_H

#include <stdint.h>

#include "layout.h"
#include "vhd.h"

struct vhd_locator_entry {
	uint32_t code;	 /* platform code, 0 = unused */
	uint32_t space;	 /* room, as stored: sectors if < 512, else bytes */
	uint32_t length; /* bytes used */
	uint32_t reserved;
	uint64_t offset; /* bytes */
};

struct vhd_header {
	uint64_t data_offset; /* unused by the format; all ones */
	uint64_t table_offset;
	uint32_t version;
	uint32_t max_entries;
	uint32_t block_size; /* bytes */
	uint32_t checksum;   /* as found */
	uint8_t parent_uuid[VHD_UUID_BYTES];
	uint32_t parent_timestamp;
	uint32_t reserved1;
	uint8_t parent_name[2 * VHD_NAME_UNITS]; /* raw UTF-16BE */
	struct vhd_locator_entry locators[VHD_LOCATORS];
	uint8_t reserved2[VHD_HEADER_BYTES - HEADER_RESERVED2];
};

uint32_t header_checksum(const uint8_t raw[VHD_HEADER_BYTES]);

/* Decode and validate cookie, checksum, version 1.x, block size (power of two,
 * VHD_BLOCK_MIN..VHD_BLOCK_MAX, else VHD_E_BLOCK_SIZE), table offset (>= 512,
 * multiple of 512) and max_entries > 0.  What depends on the file (does the
 * table fit, are there enough entries) is header_fits().
 * Errors: VHD_E_HEADER_COOKIE, VHD_E_HEADER_CHECKSUM, VHD_E_HEADER_FIELD,
 * VHD_E_UNSUPPORTED, VHD_E_BLOCK_SIZE.  @err's offset is relative to the header. */
int header_decode(const uint8_t raw[VHD_HEADER_BYTES], struct vhd_header *out,
		  struct vhd_error *err);
void header_encode(const struct vhd_header *header, uint8_t raw[VHD_HEADER_BYTES]);

/* Does the image described hold together within a file of @file_bytes with
 * its header at @header_offset: enough BAT entries for @current_size, table
 * inside the file, not over footer copy, header or the last 512 bytes.
 * @file_bytes counts the place of the end footer: where that is missing, the
 * caller adds it.
 * Errors: VHD_E_HEADER_FIELD, VHD_E_BAT_PLACE. */
int header_fits(const struct vhd_header *header, uint64_t header_offset, uint64_t current_size,
		uint64_t file_bytes, struct vhd_error *err);

/* Name the parent: the last part of @path becomes the header's parent name.  -VHD_E_NAME. */
VHD_MUST int header_name_parent(struct vhd_header *header, const char *path, struct vhd_error *err);

/* Room of a locator in bytes, by the rule of doc/format.md (space < 512 is in
 * sectors); 0 when the stored value makes no sense. */
uint64_t header_locator_room(const struct vhd_locator_entry *entry);

#endif
