/* spare.h - blocks that the table names behind the end of the disk
 *
 * Nobody reads them.  Where they hold nothing but zeros they are what a change of size leaves that
 * was interrupted (ORDER 24): the disk is the same with and without them.
 */
#ifndef VHD_SPARE_H
#define VHD_SPARE_H

#include <stdbool.h>

#include "io.h"

/* Is all zero that the block at sector @entry holds?  @by_bits: only sectors whose bit is set
 * count, as under a parent.  1: yes; 0: no, or it does not lie in the file; or negative. */
int spare_is_zero(struct vhd_io *io, uint32_t entry, uint32_t block_sectors, bool by_bits);

#endif
