/* coalesce-grow.h - a parent that becomes as large as the child merged into it
 *
 *   begin    tail of the last block zeroed ──► note ──► the data, beyond the end too,
 *            in spare entries of the block table ──► final shape ──► end: new size in the end
 *            footer ──► sync ──► in the copy ──► sync ──► note removed
 *
 * The size comes last: until then whoever reads the parent, through the child
 * too, sees the disk end where it did, and what the child adds comes from the child.
 * A crash between the footers leaves them different in size only; the note
 * says that this is a growth, and the same command goes on.
 */
#ifndef VHD_COALESCE_GROW_H
#define VHD_COALESCE_GROW_H

#include "coalesce-layers.h"

/* Before the target's table is loaded: is its disk smaller than the child's, and can it grow
 * (spare room in the block table; a raw file)?  Then layers->grow_from is its old size in
 * bytes, the image's size the new one, and [hide_from, hide_to) sectors beyond the old end where
 * the target's own parent has something that must not come to light.  Also heals, with a
 * note, footers that a crash left different.  @directory: of the child.  Writes nothing. */
VHD_MUST int coalesce_grow_plan(struct coalesce_layers *layers, const char *directory,
				const struct vhd_coalesce_options *options, struct vhd_error *err);

/* When the target is open for writing, before the note is made (@resumed: it was there): what
 * lies behind the end of the disk in its last block is zeroed, durably; entries
 * beyond the end must be free.  A raw file is extended. */
VHD_MUST int coalesce_grow_begin(struct coalesce_layers *layers, bool resumed,
				 struct vhd_error *err);

/* All data is durable: the new size becomes that of the disk. */
VHD_MUST int coalesce_grow_end(struct coalesce_layers *layers, struct vhd_error *err);

/* The message for data at @sector, beyond the end of a target that cannot grow. */
int coalesce_grow_refuse(const struct coalesce_layers *layers, uint64_t sector,
			 struct vhd_error *err);

#endif
