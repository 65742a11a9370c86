/* edits.h - sectors of an image that are to change: collected, looked at, then written
 *
 *	edits_sector ──► list ──► edits_view: the image as it will be, for another examination
 *				└─► saved.h: the sectors as they are ──► edits_write
 *
 * Groups are written one after the other, with a sync behind each, so that a power cut
 * leaves what the next repair understands: a header before what is read by it, the batmap
 * before entries that it would contradict, the footers last and one after the other
 * (ORDER 6: the one at the end makes the file longer).
 */
#ifndef VHD_EDITS_H
#define VHD_EDITS_H

#include "io.h"

enum edits_group {
	EDITS_HEADER,
	EDITS_BITMAP,
	EDITS_BATMAP,
	EDITS_BATMAP_HEADER,
	EDITS_TABLE,
	EDITS_COPY, /* where it changes, the end footer is good, or the copy but for one field */
	EDITS_OLD_FOOTER, /* becomes data: from here on the copy is the only one */
	EDITS_END_FOOTER,
	EDITS_GROUPS
};

#define EDITS_MAX (1u << 16) /* sectors: the rest is for another round */

struct edit {
	uint64_t offset;
	enum edits_group group;
	uint8_t *data; /* owned; a sector */
};

struct edits {
	struct vhd_io *io; /* borrowed */
	struct edit *list; /* owned; ascending */
	size_t count, room;
	uint64_t old_bytes, bytes; /* of the file, before and afterwards */
	bool forgive;		   /* the view reads zeros where the storage cannot be read */
	bool unread;		   /* it did so */
};

VHD_MUST int edits_init(struct edits *e, struct vhd_io *io);
void edits_release(struct edits *e);

/* No room for @more sectors. */
bool edits_full(const struct edits *e, size_t more);

/* The sector at @offset as it will be, to be changed; valid until the next call.  A sector
 * behind the end of the file is zero, and makes it longer.  NULL: *rc says why. */
uint8_t *edits_sector(struct edits *e, enum edits_group group, uint64_t offset, int *rc);
/* Whole sectors. */
VHD_MUST int edits_put(struct edits *e, enum edits_group group, const void *data, size_t length,
		       uint64_t offset);

/* An io that reads the image as it will be; @e is borrowed, and may change meanwhile. */
VHD_MUST int edits_view(struct edits *e, struct vhd_io **out);

/* Writes all of it, syncs included.  On failure some of it is written. */
VHD_MUST int edits_write(struct edits *e);

#endif
