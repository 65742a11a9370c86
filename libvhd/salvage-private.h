/* salvage-private.h - what the files of salvage share
 *
 *   salvage.c         entry: examination of the source, the target's plan, its metadata
 *   salvage-blocks.c  block by block: what is believed, what is lost, and the copying
 *   salvage-guess.c   what nothing proves, when the caller wants it all the same
 */
#ifndef VHD_SALVAGE_PRIVATE_H
#define VHD_SALVAGE_PRIVATE_H

#include <limits.h>

#include "atomic.h"
#include "check.h"
#include "convert-dynamic.h"
#include "edits.h"
#include "judge.h"
#include "lost.h"

struct salvage_given { /* a block whose entry is lost, and where it is taken from */
	uint32_t block, entry;
};

struct salvage {
	const struct vhd_salvage_options *o; /* borrowed, as the following */
	struct vhd_salvage_result *result;
	struct vhd_error *err;
	const char *source, *destination;
	struct vhd_io *io;   /* owned: the source; only read */
	struct vhd_io *view; /* owned: the same with a footer that is assumed */
	struct edits edits;  /* that footer */
	struct check_more more;
	struct vhd_check_options options;
	char finding[512];     /* the first damage that a rebuilt header does not explain */
	bool assumed;	       /* the footer is */
	char parent[PATH_MAX]; /* as the caller named it, its real name */
	uint8_t parent_id[VHD_UUID_BYTES];
	struct check_fault *overlaps; /* owned */
	size_t overlap_count, overlap_room;
	struct check c;
	struct vhd_check_result found;
	uint8_t *
		keeps; /* owned; a bit for each block that is right where it overlaps another; NULL */
	struct salvage_given *given; /* owned; ascending */
	size_t given_count;
	uint64_t remembered; /* blocks that the batmap calls complete, and no entry names */
	struct lost lost;
	/* target */
	bool write;	     /* not a dry run */
	uint64_t device_end; /* bytes: where the end footer goes */
	bool true_bits;	     /* of a bitmap: a parent shows through, or a cipher */
	struct plan plan;
	struct convert_dynamic dynamic;
	uint8_t *full; /* owned; the batmap: a bit for each complete block */
	struct atomic target;
	struct judge judge;
	uint8_t *bits;	/* owned; of the block in hand */
	uint8_t *piece; /* owned */
};

/* All blocks, into the target. */
VHD_MUST int salvage_blocks(struct salvage *s);
/* The flat disk of a fixed image. */
VHD_MUST int salvage_flat(struct salvage *s);

/* Neither footer is valid: one is assumed, from what is left.  -VHD_E_NOT_VHD: nothing is. */
VHD_MUST int salvage_assume_footer(struct salvage *s);
/* Blocks in the file that no entry names are counted, and given to lost entries if that is
 * wanted and as many are lost. */
VHD_MUST int salvage_find_blocks(struct salvage *s);

#endif
