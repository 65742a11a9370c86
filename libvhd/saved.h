/* saved.h - the file beside an image that holds what a repair changes, as it was
 *
 *	512 bytes of text: "vhd-repair 2", size of the image, number of records, size
 *		after the repair; zeros
 *	records: offset (be64), length (be32), checksum (be32), then the bytes, then the CRC-32
 *		(be32) of what each of their sectors becomes; behind the size after the
 *		repair: zeros, for they go
 *
 * It is durable, name included, before the first sector of the image changes.  The checksum
 * is the complement of the sum of the bytes, as everywhere in this format.
 */
#ifndef VHD_SAVED_H
#define VHD_SAVED_H

#include "edits.h"

/* Make @path, which must not exist, from the sectors that @e is going to change and the bytes
 * that it is going to cut off.  On failure nothing is left. */
VHD_MUST int saved_store(const char *path, struct edits *e, struct vhd_error *err);

/* Write everything that @path holds back to @io, durably, and give it its old size.  All of
 * @path is read, and must be sound, before anything is written; and @io must not have been written
 * since by others: each of these sectors is as it was, or as the repair made it, and @io is no larger
 * than that.  Else what was written would be lost.  @dry_run: nothing is written. */
VHD_MUST int saved_restore(const char *path, struct vhd_io *io, bool dry_run,
			   struct vhd_error *err);

/* ".repair-UTC" behind @image, for a file that is not there yet.  Owned by the caller; NULL: no
 * memory. */
char *saved_name(const char *image);

#endif
