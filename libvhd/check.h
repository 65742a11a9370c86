/* check.h - examining one image: what the files of the check share
 *
 *   check.c          entry: image after image of a chain; parents
 *   check-footer.c   both footers, fixed images
 *   check-header.c   header, parent locators, place of the batmap
 *   check-blocks.c   the BAT, the batmap's bits, leaked space
 *   check-bitmaps.c  sector bitmaps against data and batmap
 *   check-target.c   what another platform would refuse
 *
 * Unlike opening an image, checking goes on: each step leaves in struct check
 * what it could make out, and the next does what that allows.  Functions
 * return 0, or a negative code only when the examination itself cannot go on
 * (out of memory, storage that cannot be read, cancelled); what is wrong with the image is
 * reported, not returned.  Nothing here writes.
 */
#ifndef VHD_CHECK_H
#define VHD_CHECK_H

#include "footer.h"
#include "header.h"
#include "io.h"

#define CHECK_RANGES (5 + VHD_LOCATORS)

struct check_range {
	uint64_t offset, length; /* bytes */
	const char *name;
};

struct check {
	const struct vhd_check_options *options; /* borrowed */
	struct vhd_check_result *result;	 /* borrowed */
	struct vhd_error *err;			 /* borrowed; for codes that are returned */
	struct vhd_io *io;			 /* borrowed */
	const char *file;			 /* borrowed: its name in findings */
	bool top;				 /* the image asked for, not a parent */
	unsigned damages;			 /* of this image */
	uint64_t file_bytes;

	/* check-footer.c */
	bool has_footer; /* the one in force: */
	struct vhd_footer footer;
	bool has_end;	     /* a valid end footer, at: */
	uint64_t end_offset; /* else where the data area ends at the latest */
	uint64_t other_size; /* of the copy, where only the sizes differ; 0: they do not */
	bool has_stray;	     /* no end footer, but one at: */
	uint64_t stray_offset;
	struct vhd_finding lost; /* what is wrong with the end footer; code 0: nothing */
	char lost_text[512];

	/* check-header.c */
	bool has_header, has_table; /* has_table: the BAT can be read */
	struct vhd_header header;
	uint32_t entries; /* of the BAT, to look at */
	uint32_t blocks;  /* of them on the virtual disk */
	uint32_t block_sectors;
	bool has_batmap; /* its checksum is right: */
	uint64_t batmap_offset;
	struct check_range ranges[CHECK_RANGES]; /* metadata, ascending */
	unsigned range_count;

	/* check-blocks.c */
	uint64_t data_end; /* bytes: end of the last sound block, or of the metadata */
};

/* Hand a finding to the caller; the text gets the block before and the offset behind it. */
void check_report(struct check *c, const struct vhd_finding *what, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Read; 0, or a negative code with c->err filled. */
VHD_MUST int check_read(struct check *c, void *buf, size_t length, uint64_t offset);

/* To be called in long work.  0, or -VHD_E_CANCELLED. */
VHD_MUST int check_progress(struct check *c, uint64_t done_bytes, uint64_t total_bytes);

VHD_MUST int check_footers(struct check *c);
/* After the header: are there two sizes, and may there be? */
VHD_MUST int check_sizes(struct check *c);
/* After the blocks are known: is the end footer lost, or merely not at the end? */
void check_end_footer(struct check *c);

VHD_MUST int check_header(struct check *c);
VHD_MUST int check_blocks(struct check *c);
VHD_MUST int check_bitmaps(struct check *c);
/* Reports each rule of options->target that the image breaks.  No I/O. */
void check_target(struct check *c);

/* The metadata that shares a byte with [offset, offset + length); NULL: none. */
const struct check_range *check_hit(const struct check *c, uint64_t offset, uint64_t length);

/* Call @fn for each piece of the BAT, in order: @count entries from @first on; and, when the
 * batmap is good, its bits from that of entry @first on (else NULL).  Stops at a negative return. */
typedef int check_table_fn(void *arg, uint32_t first, const uint8_t *raw, uint32_t count,
			   const uint8_t *batmap);
VHD_MUST int check_walk_table(struct check *c, check_table_fn *fn, void *arg);

/* Does a block with this entry lie inside the data area, clear of metadata? */
bool check_block_sound(const struct check *c, uint32_t entry);

#endif
