/* mover.h - who rearranges an image: opened and locked for it, blocks copied to other places
 *
 *   mover_open ──► look around ──► mover_begin ──► mover_move … ──► mover_end
 *
 * A move is a copy first; many of them become real together: one sync of the copies, then
 * image_moved for each, then one commit (ORDER 23).  Until then the block is where it was; after
 * an error, too.
 */
#ifndef VHD_MOVER_H
#define VHD_MOVER_H

#include "image.h"
#include "lock.h"

struct mover {
	struct vhd_image *img;		     /* owned */
	const char *verb;		     /* "resize": for messages */
	const struct vhd_progress *progress; /* borrowed; may be NULL */
	struct vhd_error *err;		     /* borrowed; may be NULL */
	bool dry_run;			     /* nothing is undone when it is opened */
	uint64_t total;			     /* bytes that progress counts up to */
	uint64_t moved, copied;		     /* blocks moved; bytes read */
	uint64_t place;			     /* where the last one goes, bytes */
	/* its own */
	uint8_t *buffer;   /* owned */
	uint32_t *pending; /* owned: blocks copied, not yet told */
	size_t count;
	uint64_t pending_bytes;
	uint64_t data, data_end; /* storage asked about last, bytes: asking may cost as much as the
				  * file is long; what became a hole since reads as zero */
};

/* Open @path for writing as @role.  An interrupted journalled operation of the default journal
 * is undone first, or refuses a dry run.  Refused: half merged images, those of a suspended machine
 * (-VHD_E_BUSY).  @m has verb and err set.  To be closed whatever is returned. */
VHD_MUST int mover_open(struct mover *m, const char *path, enum lock_role role);
/* Take the locks of another role beside those held. */
VHD_MUST int mover_lock(struct mover *m, enum lock_role role);

/* In a dry run: could mover_begin be refused? */
VHD_MUST int mover_ask(struct mover *m);

/* Make the image fit for moving.  New places lie at or behind @keep bytes, and the file is not cut
 * below.  After mover_open or mover_reopen. */
VHD_MUST int mover_begin(struct mover *m, uint64_t keep);
/* See image_reopen. */
VHD_MUST int mover_reopen(struct mover *m);

/* Copy @block (where there is one) to @to: see map_move.  Commits by itself when enough has
 * come together. */
VHD_MUST int mover_move(struct mover *m, uint32_t block, uint64_t to);
/* All that was copied is in its place, and the old places are free. */
VHD_MUST int mover_commit(struct mover *m);
/* Commit and final shape; if @rc is an error, the best that can be done, and @rc. */
VHD_MUST int mover_end(struct mover *m, int rc);

/* Tell the progress function how far it is; -VHD_E_CANCELLED when it says stop. */
VHD_MUST int mover_step(struct mover *m, uint64_t done);

void mover_close(struct mover *m);

#endif
