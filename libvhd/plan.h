/* plan.h - where everything of a new image goes
 *
 *   0       512        1536
 *   | copy  | header   | BAT | batmap header | map | other map | locators | slot | blocks …
 *                              (creator tap only)                (with a parent)
 *
 * The other map: the batmap is rewritten there before its header names it.
 * The slot: room for a second header and locators (ORDER 13).  Both are zero.
 * Pure: sizes and bytes, no I/O.
 */
#ifndef VHD_PLAN_H
#define VHD_PLAN_H

#include "batmap.h"
#include "footer.h"
#include "header.h"

#define PLAN_LOCATORS	   3u
#define PLAN_LOCATOR_BYTES 1024u /* room of each */
#define PLAN_SLOT_BYTES	   (VHD_HEADER_BYTES + PLAN_LOCATORS * PLAN_LOCATOR_BYTES)

struct plan_spec {
	enum vhd_type type;
	uint64_t size;	     /* bytes */
	uint64_t max_size;   /* metadata for this much; 0: for size */
	uint32_t block_size; /* 0: VHD_BLOCK_DEFAULT */
	const char *creator; /* 4 characters; NULL: tap 1.3 with batmap */
	uint8_t id[VHD_UUID_BYTES];
	uint32_t timestamp;
	/* differencing */
	uint8_t parent_id[VHD_UUID_BYTES];
	uint32_t parent_timestamp;
	const char *parent_path; /* POSIX, relative to the child's directory: "./p.vhd" */
	const struct vhd_batmap_header *key; /* whose key hash it gets; NULL: none */
};

struct plan {
	struct vhd_footer footer;
	struct vhd_header header; /* sparse */
	uint64_t bat_bytes;	  /* whole sectors */
	bool batmap;
	uint64_t batmap_at;    /* of its header */
	uint64_t batmap_bytes; /* of one map */
	uint64_t locators_at;  /* differencing */
	uint8_t locators[PLAN_LOCATORS][PLAN_LOCATOR_BYTES];
	uint64_t metadata_end;		      /* here the end footer goes; sparse */
	uint32_t blocks;		      /* by size */
	bool align;			      /* data of blocks on 4 KiB */
	uint8_t keyhash, nonce[32], hash[32]; /* as in the batmap's header */
};

/* Returns -VHD_E_TOO_BIG: no VHD has @bytes.  Says why, and what to do instead. */
int plan_too_big(uint64_t bytes, struct vhd_error *err);

/* Errors: VHD_E_ARGUMENT (sizes, block size, creator), VHD_E_TOO_BIG (beyond
 * the format's reach), VHD_E_NAME (parent path). */
VHD_MUST int plan_make(const struct plan_spec *spec, struct plan *out, struct vhd_error *err);

/* Sectors from one block's start to the next, and the position of the first
 * block when blocks simply follow each other from the end of the metadata. */
uint64_t plan_stride(const struct plan *plan);
uint64_t plan_first_position(const struct plan *plan);

/* Bytes of the batmap header for an empty map at its first place. */
void plan_batmap_header(const struct plan *plan, uint8_t raw[VHD_BATMAP_HEADER_BYTES]);

#endif
