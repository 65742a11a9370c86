/* sweep.h - giving back the blocks that the table names behind the end of the disk */
#ifndef VHD_SWEEP_H
#define VHD_SWEEP_H

#include "mover.h"

/* Blocks behind the end go, up to where the disk ended with @old bytes, whatever they hold; those
 * behind @old only if all of them are what an interrupted change of size left (ORDER 24).  *@freed
 * is added to.  The image has a parent, and is open without having been written to; afterwards it is
 * in its final shape again, and mover_reopen is next if more is to be done. */
VHD_MUST int sweep_behind(struct mover *m, uint64_t old, uint64_t *freed);

/* How many blocks would go behind where the disk ends now?  Zero: there is nothing to sweep. */
VHD_MUST int sweep_count(struct mover *m, uint64_t *count);

#endif
