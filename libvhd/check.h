/* check.h - examining one image: what the files of the check share
 *
 *   check.c          entry: image after image of a chain; parents
 *   check-footer.c   both footers, fixed images
 *   check-stray.c    an end footer with other bytes behind it
 *   check-header.c   header, parent locators, place of the table
 *   check-batmap.c   header and map of the batmap
 *   check-blocks.c   the BAT, the batmap's bits, leaked space
 *   check-leaks.c    space that nobody names
 *   check-lost.c     entries that cannot be right: which of their neighbours still are
 *   check-bitmaps.c  sector bitmaps against data and batmap
 *   check-target.c   what another platform would refuse
 *
 * Unlike opening an image, checking goes on: each step leaves in struct check
 * what it could make out, and the next does what that allows.  Functions
 * return 0, or a negative code only when the examination itself cannot go on
 * (out of memory, storage that cannot be read, cancelled); what is wrong with the image is
 * reported, not returned.  Nothing here writes.
 *
 * repair.c and salvage.c mend and rescue by the same examination: what they want to know
 * beside the findings is in struct check_more.  A finding is repairable exactly when
 * vhd_repair without any option mends it.
 */
#ifndef VHD_CHECK_H
#define VHD_CHECK_H

#include "base/bits.h"
#include "footer.h"
#include "header.h"
#include "io.h"
#include "rebuild.h"

#define CHECK_RANGES (5 + VHD_LOCATORS)

struct check_range {
	uint64_t offset, length; /* bytes */
	const char *name;
};

/* What is wrong with an entry of the table. */
enum check_fault_kind {
	CHECK_LOST,    /* it lies nowhere: outside the file, or over metadata */
	CHECK_DOUBT,   /* it lies in the file, but beside entries that are lost, and no block
		      * seems to begin there */
	CHECK_OVERLAP, /* shares sectors with another block */
	CHECK_TORN,    /* the file ends inside it */
	CHECK_SPARE,   /* in use, but behind the end of the disk */
	CHECK_LEFT,    /* so, but nothing but zeros: an interrupted resize left it */
};
struct check_fault {
	enum check_fault_kind kind;
	uint32_t block, entry, other; /* other: of CHECK_OVERLAP; UINT32_MAX: unknown */
};

struct judge;
struct check_more {
	bool copy_wins, end_wins; /* where both footers are valid and contradict each other */
	const uint8_t *parent_id; /* of a header that lost it, from the caller; or NULL */
	uint32_t parent_time;
	const char *parent_name;
	/* Each fault, those of neighbours one by one.  May be NULL.  0 or negative. */
	int (*fault)(void *arg, const struct check_fault *fault);
	/* Each block's bitmap that is not sound, an enum judge_verdict.  May be NULL. */
	int (*bitmap)(void *arg, struct judge *judge, uint32_t block, uint32_t entry, int verdict);
	void *arg;
};

/* What stands where a footer belongs. */
enum check_place {
	CHECK_PLACE_NONE, /* not looked at: a fixed image has no copy */
	CHECK_PLACE_GOOD,
	CHECK_PLACE_SHORT,  /* good, of 511 bytes */
	CHECK_PLACE_BAD,    /* missing or invalid */
	CHECK_PLACE_STALE,  /* valid, but not up to the other one: ORDER 13 */
	CHECK_PLACE_DIFFERS /* valid, and contradicts the other one */
};

struct check {
	const struct check_more *more;		 /* borrowed; NULL for mere checking */
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
	bool has_end;		 /* a valid end footer, at: */
	uint64_t end_offset;	 /* else where the data area ends at the latest */
	uint64_t other_size;	 /* of the copy, where only the sizes differ; 0: they do not */
	struct vhd_footer other; /* that copy */
	bool has_stray;		 /* no end footer, but one at: */
	uint64_t stray_offset;
	struct vhd_footer stray;
	struct vhd_finding lost; /* what is wrong with the end footer; code 0: nothing */
	char lost_text[512];
	enum check_place end_place, copy_place;
	bool over_data; /* the last sector of the file, no footer, may be data */

	/* check-header.c */
	bool header_unsound; /* in force for want of a better one, to look further: nothing is
			      * mended by it */
	bool has_header, has_table; /* has_table: the BAT can be read */
	struct vhd_header header;
	struct rebuilt rebuilt; /* how: NOTHING, or what the header must have been: that is in
				 * force */
	uint32_t entries;	/* of the BAT, to look at */
	uint32_t blocks;	/* of them on the virtual disk */
	uint32_t block_sectors;
	uint8_t clear_locators; /* bits: entries that mean nothing, and are not needed */
	uint8_t renew_locators; /* bits: entries whose texts are lost, and known from others */
	bool encrypted;		/* its data is, by the header of the batmap */
	bool no_batmap;		/* against what its creator does: says so, and so does .footer */
	bool has_batmap;	/* its checksum is right: */
	uint64_t batmap_offset;
	struct check_range ranges[CHECK_RANGES]; /* metadata, ascending */
	unsigned range_count;

	/* check-blocks.c */
	uint64_t data_end; /* bytes: end of the last sound block, or of the metadata */
	uint64_t allocated;
	uint32_t gone, torn, overlapping, spare; /* entries */
	bool gone_behind;			 /* one of them names a place behind the file */
	uint8_t *bad;	  /* owned; a bit for each entry at fault; NULL: none is */
	uint8_t *damaged; /* owned; a bit for each sector of the table with a lost entry; or NULL */
	/* the only block whose entry is lost, or is another's; where it must be: VHD_BAT_UNUSED when
	 * that is not known */
	uint32_t gone_block, found_entry;
	uint32_t torn_block, torn_entry;
	bool torn_harmless; /* the torn block lost nothing: what is missing was never written */
};

void check_begin(struct check *c, const struct vhd_check_options *options,
		 struct vhd_check_result *result, struct vhd_io *io, const char *file,
		 struct vhd_error *err);
void check_release(struct check *c);
/* The steps below in their order, for one image. */
VHD_MUST int check_structures(struct check *c);

/* Hand a finding to the caller; the text gets the block before and the offset behind it. */
void check_report(struct check *c, const struct vhd_finding *what, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Read; 0, or a negative code with c->err filled. */
VHD_MUST int check_read(struct check *c, void *buf, size_t length, uint64_t offset);

/* To be called in long work.  0, or -VHD_E_CANCELLED. */
VHD_MUST int check_progress(struct check *c, uint64_t done_bytes, uint64_t total_bytes);

VHD_MUST int check_footers(struct check *c);
/* No end footer is where it belongs: look left of trailing bytes for one that fits @copy, or where that is
 * no footer either (NULL) all else that is there.  Fills in c->has_stray and what follows it. */
VHD_MUST int check_seek_stray(struct check *c, const struct vhd_footer *copy);
/* After the header: are there two sizes, and may there be? */
VHD_MUST int check_sizes(struct check *c);
/* After the blocks are known: is the end footer lost, or merely not at the end? */
void check_end_footer(struct check *c);

VHD_MUST int check_header(struct check *c);
VHD_MUST int check_batmap(struct check *c);
VHD_MUST int check_blocks(struct check *c);
VHD_MUST int check_bitmaps(struct check *c);
/* Reports each rule of options->target that the image breaks.  No I/O. */
void check_target(struct check *c);

/* Another piece of metadata. */
void check_add_range(struct check *c, uint64_t offset, uint64_t length, const char *name);
/* What a decoder of bytes at @base said of them. */
void check_report_decoding(struct check *c, int code, uint64_t base, const struct vhd_error *e,
			   bool repairable);
/* Does no entry of the table claim a byte of [offset, offset + length), but such as lie over
 * metadata anyway?  1, 0, negative. */
VHD_MUST int check_place_free(struct check *c, uint64_t offset, uint64_t length);

/* The metadata that shares a byte with [offset, offset + length); NULL: none. */
const struct check_range *check_hit(const struct check *c, uint64_t offset, uint64_t length);

/* Call @fn for each piece of the BAT, in order: @count entries from @first on; and, when the
 * batmap is good, its bits from that of entry @first on (else NULL).  Stops at a negative return. */
typedef int check_table_fn(void *arg, uint32_t first, const uint8_t *raw, uint32_t count,
			   const uint8_t *batmap);
VHD_MUST int check_walk_table(struct check *c, check_table_fn *fn, void *arg);

/* Is the entry of @block at fault? */
static inline bool check_block_bad(const struct check *c, uint32_t block)
{
	return c->bad && bits_test(c->bad, block);
}

/* The entry of @block is at fault.  -ENOMEM. */
VHD_MUST int check_mark_bad(struct check *c, uint32_t block);

/* Blocks inside the data area, as the table places them. */
struct check_placed {
	uint32_t *list; /* owned; sectors, ascending once all are known */
	size_t count;
	bool counted_only; /* too many: only their number is known */
	uint64_t sound;
	uint64_t stale; /* bits of the batmap for blocks that are not there, the first: */
	uint32_t stale_block;
};
VHD_MUST int check_leaks(struct check *c, const struct check_placed *placed);

/* Does the entry of @block share its sector of the table with a lost one? */
static inline bool check_block_damaged(const struct check *c, uint32_t block)
{
	return c->damaged && bits_test(c->damaged, block / (VHD_SECTOR / 4));
}

/* check-lost.c: lost entries share sectors of the table with others: are those still right? */
VHD_MUST int check_doubts(struct check *c);
/* One entry is lost, of c->gone_block: fills in c->found_entry.  @positions: of all sound blocks,
 * ascending. */
VHD_MUST int check_find_block(struct check *c, const uint32_t *positions, size_t count,
			      bool contended);
/* Both of @pair claim one place, all else is sound: fills in c->gone_block, too. */
VHD_MUST int check_find_owner(struct check *c, const uint32_t *positions, size_t count,
			      const uint32_t pair[2]);
/* Of a CHECK_OVERLAP, once all faults are known: 1 the block gives way, -1 it keeps its place,
 * 0 nobody knows: one behind the end of the disk gives way, and one in a damaged sector of the
 * table. */
int check_overlap_loses(const struct check *c, const struct check_fault *fault);
/* Fills in c->torn_harmless. */
VHD_MUST int check_torn(struct check *c);

/* Does a block with this entry lie inside the data area, clear of metadata? */
bool check_block_sound(const struct check *c, uint32_t entry);

#endif
