/* convert-source.h - what of a disk has to be copied, cut into segments
 *
 * Data, and the zeros that share a grain with it: so that what is written is
 * made of whole grains, however finely the layers are mixed.  Long zeros and
 * holes of flat files are left out.
 */
#ifndef VHD_CONVERT_SOURCE_H
#define VHD_CONVERT_SOURCE_H

#include "chain.h"
#include "copy.h"

struct convert_source {
	struct vhd_chain *chain; /* borrowed */
	uint32_t grain;		 /* bytes; no segment crosses a multiple of it */
	/* a flat leaf's file: hole from asked on, the next stretch of data */
	uint64_t asked, data_start, data_end;
};

/* Add segments of [*at, end) to @job, whose targets are offsets on the disk in @to (NULL: only
 * read).  *at: how far that came, @end unless the job is full.  Sectors' multiples,
 * but the end of the disk. */
VHD_MUST int convert_source_fill(struct convert_source *s, struct copy_job *job, struct vhd_io *to,
				 uint64_t *at, uint64_t end, struct vhd_error *err);

#endif
