/* resize-fixed.h - fixed images of another size
 *
 *   larger:   footer behind the new end, the size still the old one ──► sync ──► where the old
 *             footer was, zero ──► sync ──► new size ──► sync
 *   smaller:  new size, where the footer is ──► sync ──► footer behind the new end ──► sync ──►
 *             cut
 *
 * On devices the footer stays in the last sector.  At every instant the file ends with a footer,
 * and the disk has the old or the new size, with what belongs there.
 */
#ifndef VHD_RESIZE_FIXED_H
#define VHD_RESIZE_FIXED_H

#include "mover.h"

/* Is there room on the device?  Files: always 0. */
VHD_MUST int fixed_room(struct mover *m, uint64_t size);
VHD_MUST int fixed_resize(struct mover *m, uint64_t size);

#endif
