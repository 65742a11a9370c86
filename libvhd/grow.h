/* grow.h - a disk that becomes larger, in spare entries of its block table
 *
 *   grow_begin: spare entries are empty or of zeros, tail of the last block zero
 *   ──► what belongs into the new part ──► final shape ──► grow_end: end footer ──► sync ──►
 *   copy ──► sync
 *
 * The size comes last (ORDER 13): until then all who read see the disk end where it did.
 */
#ifndef VHD_GROW_H
#define VHD_GROW_H

#include "image.h"

/* @image is open for writing, with image_grow() beforehand; @old is the size its footers say.
 * Durable when it returns.  -VHD_E_BAT_ENTRY: there is something beyond the old end. */
VHD_MUST int grow_begin(struct vhd_image *image, uint64_t old, struct vhd_error *err);

/* The first part of grow_begin: does the table name nothing but zeros behind @size, within
 * image->blocks?  *@zeros: the blocks of zeros it names there. */
VHD_MUST int grow_check_spare(struct vhd_image *image, uint64_t size, uint64_t *zeros,
			      struct vhd_error *err);

/* The last block of a disk of @size bytes is zero behind its end.  Durable. */
VHD_MUST int grow_clear_tail(struct vhd_image *image, uint64_t size, struct vhd_error *err);

/* Both footers say image->size, and the geometry that goes with it. */
VHD_MUST int grow_end(struct vhd_image *image, struct vhd_error *err);

#endif
