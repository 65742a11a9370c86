/* picture.h - the allocation of each layer of a chain, drawn in the terminal */
#ifndef VHD_UTIL_PICTURE_H
#define VHD_UTIL_PICTURE_H

#include "libvhd/chain.h"

/* Draw on stdout: a row per layer, leaf first, each column a part of the disk, darker where
 * more of it is in that layer; last a row for all together.  As wide as the terminal; block
 * characters if the locale has them.  @chain is open for reading. */
VHD_MUST int picture_print(struct vhd_chain *chain, struct vhd_error *err);

#endif
