/* revert.h - putting back what a journal holds
 *
 *   all entries checked ──► blocks, tables, header ──► sync ──► end footer ──► sync ──► cut ──►
 *   sync ──► copy at 0 ──► sync ──► journal removed
 *
 * The image stays poisoned until the last step: a crash leaves it to the next try.
 */
#ifndef VHD_REVERT_H
#define VHD_REVERT_H

#include "image.h"
#include "lock.h"

/* The predecessor's journal into @image; both borrowed.  1: put back; 0: the image is not
 * poisoned, nothing was to be undone.  -VHD_E_JOURNAL. */
VHD_MUST int revert_apply(struct vhd_io *image, struct vhd_io *journal, bool dry_run,
			  struct vhd_revert_result *result, struct vhd_error *err);

/* Beside enum io_file_flags: nothing is undone or removed, as for a dry run. */
#define REVERT_NOTHING (1u << 30)

/* Open @path (absolute), lock it as @role and read its metadata.  A writer (IO_FILE_WRITE in
 * @io_flags) that finds it poisoned undoes that first, by the default journal if that is there. */
VHD_MUST int revert_open(const char *path, unsigned io_flags, enum lock_role role,
			 unsigned image_flags, bool *unsupported, struct vhd_image **out,
			 struct vhd_error *err);

#endif
