/* coalesce-state.h - the note beside an image that is half merged (ORDER 14)
 *
 * While data of a child is being merged into PARENT, the file PARENT.coalesce
 * says so.  Until it is gone, PARENT holds a mix of its own old contents and
 * the child's: read through that child it is right at every instant, read as a
 * top, or through anybody else, it is wrong.  For block devices see state-place.h.
 *
 * The file is text of two parts: one 512-byte sector that is rewritten in
 * place when the cursor moves, and the child's path, written once.
 *  I1  it is whole and durable, name included, before the first write to PARENT
 *  I2  everything of the child below the cursor is durable in PARENT
 *  I3  it is removed, durably, only after all of the child is
 * A crash may leave an empty file: PARENT is then untouched, it counts as none.
 */
#ifndef VHD_COALESCE_STATE_H
#define VHD_COALESCE_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "io.h"
#include "layout.h"

struct coalesce_state {
	char *path;			   /* owned; of the file itself */
	int fd;				   /* owned; -1: not open for change */
	uint8_t target_id[VHD_UUID_BYTES]; /* zero: a raw disk */
	uint8_t child_id[VHD_UUID_BYTES];  /* the topmost image being merged */
	uint64_t fingerprint;		   /* of the images merged from when it began; 0: unknown */
	uint64_t cursor;		   /* sectors below are merged */
	uint64_t merged;		   /* sectors written so far, for the final count */
	char child[4096];		   /* path of the child, for messages */
};

#define COALESCE_STATE_NONE            \
	{                              \
		.path = NULL, .fd = -1 \
	}

/* The contents of a note, @length bytes with a NUL behind them, into the ids, numbers and child of
 * *@s.  False, and any of these changed: not one of ours, or torn. */
bool coalesce_state_decode(const char *text, size_t length, struct coalesce_state *s);

/* Is the image behind @target, with footer id @target_id (NULL: a raw disk), half
 * merged?  1: yes, *state is filled (without fd; release it); 0: no: nothing
 * there, or a note about another image that once had this name, or storage that
 * is not a file.  Negative: there is something that cannot be understood: take it for half
 * merged (-VHD_E_COALESCING), or the system's error.
 *
 * For whoever opens a chain: an image that is half merged may be read only if the
 * image with @state->child_id is above it in the chain; else refuse with
 * coalesce_state_refuse(). */
VHD_MUST int coalesce_state_find(struct vhd_io *target, const uint8_t *target_id,
				 struct coalesce_state *state, struct vhd_error *err);

/* The message for an image that cannot be used as a top: names the child and the command
 * that finishes the merge.  Returns -VHD_E_COALESCING. */
int coalesce_state_refuse(const struct coalesce_state *state, const char *target,
			  struct vhd_error *err);

/* Refuse, with that message, an image that is half merged, whoever its child is: for what does not
 * open the image as part of a chain. */
VHD_MUST int coalesce_state_refuse_top(struct vhd_io *target, const uint8_t *target_id,
				       const char *name, struct vhd_error *err);

/* Make the file for @target durable, its directory included, from the ids, fingerprint
 * and child of @state; cursor 0.  Replaces a note about another image.
 * Fills path and fd.  Errors: -errno. */
VHD_MUST int coalesce_state_create(struct coalesce_state *state, struct vhd_io *target,
				   struct vhd_error *err);

/* Open a file found by coalesce_state_find() for change. */
VHD_MUST int coalesce_state_resume(struct coalesce_state *state, struct vhd_error *err);

/* Record that everything below @cursor is durable in the target, @merged sectors in all.
 * Durable on return; one sector is rewritten, so a crash leaves old or new. */
VHD_MUST int coalesce_state_advance(struct coalesce_state *state, uint64_t cursor, uint64_t merged,
				    struct vhd_error *err);

/* The merge is complete and durable: remove the file, durably.  @state needs no fd. */
VHD_MUST int coalesce_state_remove(struct coalesce_state *state, struct vhd_error *err);

void coalesce_state_release(struct coalesce_state *state);

#endif
