/* create.h - writing the metadata of a planned image */
#ifndef VHD_CREATE_H
#define VHD_CREATE_H

#include "io.h"
#include "plan.h"

/* Write all of an empty sparse image to @io: on a device the old footers go first, the new
 * ones come last, each after a sync, so that what was there before never seems to be this
 * image half made, nor this image to be complete too early.  @end: where the end footer goes
 * (bytes): plan->metadata_end, or the last sector of a device.
 * The storage is new, or reads as anything: every metadata byte is written.  Synced at the end. */
VHD_MUST int create_sparse(struct vhd_io *io, const struct plan *plan, uint64_t end,
			   struct vhd_error *err);

/* Make the file or device at @path by @plan (sparse), whole or not at all. */
VHD_MUST int create_sparse_file(const char *path, const struct plan *plan, bool force,
				struct vhd_error *err);

/* Write @length bytes of value @byte.  0 or -errno. */
VHD_MUST int create_fill(struct vhd_io *io, uint64_t offset, uint64_t length, uint8_t byte);

/* A random id; now, in VHD seconds. */
void create_id(uint8_t id[VHD_UUID_BYTES]);
uint32_t create_now(void);

#endif
