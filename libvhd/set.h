/* set.h - the two bytes that tools may set */
#ifndef VHD_SET_H
#define VHD_SET_H

#include "vhd.h"

/* vhd_set; with @dry_run everything that could refuse it is asked, and nothing changed. */
VHD_MUST int set_field(const char *path, enum vhd_field field, uint8_t value, bool dry_run,
		       struct vhd_error *err);

#endif
