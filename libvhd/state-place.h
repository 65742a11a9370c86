/* state-place.h - where what belongs to an image, but is no part of it, is kept
 *
 * Beside a file.  For what is on a block device in the state directory: VHD_STATE_DIR, else
 * TAPDISK_RUN_DIR, else the run directory (/run/blktap-control; for others than root below
 * XDG_RUNTIME_DIR).  Devices change their names: there a VHD is known by its id.
 */
#ifndef VHD_STATE_PLACE_H
#define VHD_STATE_PLACE_H

#include "io.h"
#include "layout.h"

/* The path for @image, whose id is @id (zero: a raw disk), to which a suffix is to be added; the
 * same however the image was reached.  The caller's.  -errno. */
VHD_MUST int state_place(const struct vhd_io *image, const uint8_t id[VHD_UUID_BYTES], char **out);

/* For a device its directory is made, if it is not there; if that cannot be, making a file in it
 * says so. */
void state_place_make(const struct vhd_io *image, const char *path);

#endif
