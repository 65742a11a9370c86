/* layout.h - where things are in a VHD: constants of the format
 *
 *   FIXED     [ data: current_size bytes ][ footer 512 ]
 *   SPARSE    [ footer copy 512 ][ header 1024 ][ BAT ][ batmap ][ locators ]
 *             [ bitmap | data ]* [ footer 512 ]
 *
 * Only the footers have fixed places; the header is where the footer says,
 * the BAT where the header says.  Offsets below are in bytes from the start
 * of the structure.  Source: doc/format.md.
 */
#ifndef VHD_LAYOUT_H
#define VHD_LAYOUT_H

#include <stdint.h>

#define VHD_SECTOR	 512u
#define VHD_FOOTER_BYTES 512u
#define VHD_HEADER_BYTES 1024u
#define VHD_UUID_BYTES	 16u

#define VHD_COOKIE	  "conectix"
#define VHD_COOKIE_POISON "v_poison" /* a journalled operation is under way */
#define VHD_HEADER_COOKIE "cxsparse"
#define VHD_BATMAP_COOKIE "tdbatmap"

enum vhd_footer_layout {
	FOOTER_COOKIE = 0,
	FOOTER_FEATURES = 8,
	FOOTER_VERSION = 12,
	FOOTER_DATA_OFFSET = 16,
	FOOTER_TIMESTAMP = 24,
	FOOTER_CREATOR_APP = 28,
	FOOTER_CREATOR_VERSION = 32,
	FOOTER_CREATOR_OS = 36,
	FOOTER_ORIGINAL_SIZE = 40,
	FOOTER_CURRENT_SIZE = 48,
	FOOTER_GEOMETRY = 56,
	FOOTER_TYPE = 60,
	FOOTER_CHECKSUM = 64,
	FOOTER_UUID = 68,
	FOOTER_SAVED = 84,
	FOOTER_HIDDEN = 85,
	FOOTER_RESERVED = 86,
};

enum vhd_header_layout {
	HEADER_COOKIE = 0,
	HEADER_DATA_OFFSET = 8,
	HEADER_TABLE_OFFSET = 16,
	HEADER_VERSION = 24,
	HEADER_MAX_ENTRIES = 28,
	HEADER_BLOCK_SIZE = 32,
	HEADER_CHECKSUM = 36,
	HEADER_PARENT_UUID = 40,
	HEADER_PARENT_TIMESTAMP = 56,
	HEADER_RESERVED1 = 60,
	HEADER_PARENT_NAME = 64, /* 256 UTF-16BE units */
	HEADER_LOCATORS = 576,
	HEADER_RESERVED2 = 768,
};

enum vhd_locator_layout {
	LOCATOR_CODE = 0,
	LOCATOR_SPACE = 4,
	LOCATOR_LENGTH = 8,
	LOCATOR_RESERVED = 12,
	LOCATOR_OFFSET = 16,
};
#define VHD_LOCATORS	  8u
#define VHD_LOCATOR_BYTES 24u
#define VHD_NAME_UNITS	  256u /* UTF-16 units of the header's parent name */

enum vhd_batmap_layout {
	BATMAP_COOKIE = 0,
	BATMAP_OFFSET = 8,
	BATMAP_SECTORS = 16,
	BATMAP_VERSION = 20,
	BATMAP_CHECKSUM = 24,
	BATMAP_MARKER = 28,
	BATMAP_KEYHASH = 29, /* 1 = nonce and hash present */
	BATMAP_NONCE = 30,
	BATMAP_HASH = 62,
};
#define VHD_BATMAP_HEADER_BYTES 512u

#define VHD_FEATURE_TEMPORARY 0x1u
#define VHD_FEATURE_RESERVED  0x2u /* always set */
#define VHD_VERSION_1_0	      0x00010000u
#define VHD_NO_OFFSET	      UINT64_MAX
#define VHD_BAT_UNUSED	      0xffffffffu
#define VHD_BAT_LAST	      0xfffffffeu /* largest sector an entry's block may end at */

#define VHD_BLOCK_MIN	  4096u
#define VHD_BLOCK_MAX	  (64u << 20)
#define VHD_BLOCK_DEFAULT (2u << 20)
#define VHD_SIZE_MAX	  (2040ull << 30) /* virtual bytes, whatever the type */
/* Of platforms, in virtual bytes */
#define VHD_AZURE_LEAST (20ull << 20)
#define VHD_VPC_MOST	(65535ull * 16 * 255 * VHD_SECTOR)
#define VHD_ALIGN	4096u /* alignment of the data of new blocks */
#define VHD_CHAIN_MAX	256u  /* images in a chain */

/* Creator "tap\0" versions */
#define VHD_TAP_0_1 0x00000001u
#define VHD_TAP_1_1 0x00010001u
#define VHD_TAP_1_2 0x00010002u
#define VHD_TAP_1_3 0x00010003u

#define VHD_EPOCH 946684800 /* 2000-01-01T00:00:00Z in Unix seconds */

#endif
