/* resize-room.h - a block table of another length (ORDER 24)
 *
 *   | copy | header | old table, batmap | locators | slot | new table, batmap | blocks …
 *               └────────────────────────────────────────►
 *
 * The new table and its batmap are written whole to a place that nothing uses, from which blocks
 * have been moved away if need be; then one sector of the header, its first, names them.  A
 * batmap's place follows from the table's, so both change at the same instant.  Where a table
 * without a batmap can be made longer on the spot, or keeps its sectors, it stays.
 * Where the image keeps room for its parents behind the batmap (plan.h), that moves as well,
 * with a complete header, and the footers name the new one (ORDER 13); other locators stay.
 * A crash leaves the old table in force, or the new one; and space that nothing names.
 */
#ifndef VHD_RESIZE_ROOM_H
#define VHD_RESIZE_ROOM_H

#include "mover.h"

struct room {
	uint32_t entries; /* of the new table */
	uint64_t place;	  /* of the new table, bytes; the old one's: it stays */
	uint64_t end;	  /* blocks lie at or behind it afterwards */
	bool has_parents; /* the room for parents (image_parent_room) moves, too: */
	uint64_t parents_before, parents;
	uint32_t *blocks; /* owned: to be moved away */
	size_t count;
};

/* Where would a table of @entries go, and what is in its way?  Changes nothing.  Needs no map.
 * -VHD_E_TOO_BIG: blocks that many cannot be named. */
VHD_MUST int room_plan(struct vhd_image *image, uint32_t entries, struct room *out,
		       struct vhd_error *err);
void room_release(struct room *room);

/* Do it.  @m has begun; afterwards it is opened anew, and has to begin again. */
VHD_MUST int room_make(struct mover *m, const struct room *room);

#endif
