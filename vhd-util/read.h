/* read.h - the modes of the read command, and what they share
 *
 * Each mode takes a struct reading, prints to stdout, and returns 0 or an error with
 * its text in @err.  A stdout that fails ends the mode early; that is told at the end of the
 * program.
 */
#ifndef VHD_UTIL_READ_H
#define VHD_UTIL_READ_H

#include "command.h"
#include "libvhd/image.h"

struct reading {
	const char *path;
	const struct arguments *args;
	struct vhd_image *image; /* owned by the command; NULL for read_sectors and read_bytes */
	uint64_t at;		 /* the value of the option that asks */
	uint64_t count;		 /* of -c, else 1 */
	bool has_count, hex;
};

/* Are the blocks / sectors [at, at + count) on the disk?  -VHD_E_RANGE. */
VHD_MUST int read_check_blocks(const struct reading *r, struct vhd_error *err);
VHD_MUST int read_check_sectors(const struct reading *r, struct vhd_error *err);
/* The error itself: the first of [at, at + count) "@what"s at or past @limit. */
int read_beyond(const struct reading *r, const char *what, uint64_t limit, struct vhd_error *err);

/* Tables as text: read-tables.c */
VHD_MUST int read_headers(struct reading *r, struct vhd_error *err);
VHD_MUST int read_translation(struct reading *r, struct vhd_error *err);
VHD_MUST int read_bat_entries(struct reading *r, struct vhd_error *err);
VHD_MUST int read_bitmap_test(struct reading *r, struct vhd_error *err);
VHD_MUST int read_extents(struct reading *r, struct vhd_error *err);
VHD_MUST int read_batmap_test(struct reading *r, struct vhd_error *err);

/* Bytes: read-bytes.c */
VHD_MUST int read_bitmap(struct reading *r, struct vhd_error *err);
VHD_MUST int read_block(struct reading *r, struct vhd_error *err);
VHD_MUST int read_bat_bits(struct reading *r, struct vhd_error *err);
VHD_MUST int read_batmap(struct reading *r, struct vhd_error *err);
VHD_MUST int read_sectors(struct reading *r, struct vhd_error *err);
VHD_MUST int read_bytes(struct reading *r, struct vhd_error *err);

#endif
