/* delta-compare.h - which sectors of a block differ between two chains */
#ifndef VHD_DELTA_COMPARE_H
#define VHD_DELTA_COMPARE_H

#include "differ.h"

struct delta_compare {
	struct differ differ;
	uint64_t sectors; /* of the new disk */
	uint32_t block_sectors;
	uint8_t *log; /* owned: bitmap of a changed-block log; NULL: there is none */
	/* of the block compared last */
	uint8_t *bitmap; /* owned: whole sectors of it */
	uint32_t bitmap_bytes;
	uint8_t *data;	  /* owned: zeros where nothing differs */
	uint64_t changed; /* bytes that differed, in all blocks */
};

/* @log_path: a changed-block log since @old; only what it names is compared.  NULL: all is.
 * Errors: VHD_E_ARGUMENT (not consistent, or of another disk).  Release whatever is returned. */
VHD_MUST int delta_compare_init(struct delta_compare *c, struct vhd_chain *old,
				struct vhd_chain *new, uint32_t block_sectors, const char *log_path,
				struct vhd_error *err);
void delta_compare_release(struct delta_compare *c);

/* Does a block differ?  1 or 0, or negative; with its bitmap and data made, unless
 * @only_whether. */
VHD_MUST int delta_compare_block(struct delta_compare *c, uint32_t block, bool only_whether,
				 struct vhd_error *err);

#endif
