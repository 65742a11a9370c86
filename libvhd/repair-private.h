/* repair-private.h - what the files of repair share
 *
 *   repair.c         entry, locks, rounds: examine, plan, look at the result, write
 *   repair-plan.c    header, footers, the block that is cut off
 *   repair-table.c   entries: who keeps a place, what is lost
 *   repair-batmap.c  the batmap, rebuilt from the bitmaps
 */
#ifndef VHD_REPAIR_PRIVATE_H
#define VHD_REPAIR_PRIVATE_H

#include "check.h"
#include "edits.h"
#include "lost.h"

enum repair_verdict {
	REPAIR_LEAVE,  /* nobody knows what is right */
	REPAIR_KEEP,   /* it is right; what it meets is not */
	REPAIR_ADOPT,  /* the block was found elsewhere */
	REPAIR_EXTEND, /* cut off: completed with zeros */
	REPAIR_DROP,   /* the entry becomes unused */
};

struct repair_fault {
	struct check_fault fault;
	enum repair_verdict verdict;
};

struct repair_note { /* a change that is planned */
	uint64_t offset, length;
	char *text; /* owned */
};

struct repair {
	const struct vhd_repair_options *o; /* borrowed, as the following */
	struct vhd_repair_result *result;
	struct vhd_error *err;
	const char *path;
	struct vhd_io *io;
	struct check_more more;
	struct check c; /* the image as it is, or as the edits so far make it */
	struct edits edits;
	struct vhd_io *view;	     /* owned: the image as they make it */
	struct repair_fault *faults; /* owned; after repair_table: by block, each once */
	size_t fault_count, fault_room;
	struct repair_note *notes; /* owned */
	size_t note_count, note_room;
	struct vhd_lost *ranges; /* owned: what this round costs */
	size_t range_count, range_room;
	bool ranges_failed;
	uint64_t extended; /* bytes: end of a block that is completed; 0: none */
	bool full;	   /* not all fits this round */
	bool dropped;	   /* entries become unused */
	bool batmap_wrong; /* the examination in progress has found */
};

/* A change was planned.  -ENOMEM. */
__attribute__((format(printf, 4, 5))) VHD_MUST int repair_note(struct repair *r, uint64_t offset,
							       uint64_t length, const char *format,
							       ...);

/* ── each plans edits from r->c, and notes them ── */
VHD_MUST int repair_table(struct repair *r);
VHD_MUST int repair_header(struct repair *r);
VHD_MUST int repair_footers(struct repair *r);
/* A bitmap that is not sound, as check_more.bitmap tells. */
VHD_MUST int repair_bitmap(struct repair *r, struct judge *j, uint32_t block, uint32_t entry,
			   int verdict);
/* The batmap of the image as it will be, which @c has examined. */
VHD_MUST int repair_batmap(struct repair *r, struct check *c);

/* What the faults cost, in order of the disk. */
VHD_MUST int repair_losses(struct repair *r, struct lost *lost);

#endif
