/* rebuild.h - what a lost header must have been, as far as the rest of the file proves it
 *
 *   rebuild-header.c     which fields are believed, and which are made anew
 *   rebuild-shape.c      does a table of such a shape fit what the file holds?
 *   rebuild-parent.c     what the header says of the parent, by what is there
 *   rebuild-locators.c   parent locators, found again by their texts
 *
 * The footer is sound: size, type and creator are known.  A field of the header is
 * believed when something else in the file agrees with it: the number of entries with the
 * size of the disk, the place of the table with that of the batmap or with the custom of all
 * writers, the size of blocks with the distances between them.  An id of a parent is believed
 * when a file that the image names has it, or has one that differs in a few bytes and makes the
 * checksum right that the header had.  What nothing proves is not guessed.
 * Only reads.
 */
#ifndef VHD_REBUILD_H
#define VHD_REBUILD_H

#include "footer.h"
#include "header.h"
#include "io.h"

struct rebuild_spec {
	struct vhd_io *io;		 /* borrowed */
	const struct vhd_footer *footer; /* borrowed; sparse */
	uint64_t file_bytes;
	bool has_end;		  /* an end footer is at: */
	uint64_t end_offset;	  /* else where the data area ends at the latest */
	const uint8_t *parent_id; /* what the caller knows of the parent, or NULL */
	uint32_t parent_time;
	const char *parent_name;	   /* its base name */
	const struct vhd_parents *parents; /* where others are looked for, or NULL */
};

enum rebuild_how {
	REBUILD_NOTHING,
	REBUILD_SUM,	/* all fields are believed, the checksum is not */
	REBUILD_PARENT, /* id, name or time of the parent, the checksum agrees with it */
	REBUILD_SECOND, /* the second sector: locators, end of the parent's name */
	REBUILD_FIRST,	/* the first one, perhaps the second as well */
	REBUILD_PLACE,	/* the header is sound, but not where the footer says */
};

struct rebuilt {
	enum rebuild_how how;
	uint64_t offset; /* of the header, bytes */
	struct vhd_header header;
};

/* 1: *out is filled; 0: it cannot be proven, and *@why is a static text that says what is
 * missing; negative: -ENOMEM, or what reading said. */
VHD_MUST int rebuild_header(const struct rebuild_spec *spec, struct rebuilt *out, const char **why);

/* ── between the files ── */

/* Is the checksum of @header the uint32_t at @sum? */
bool rebuild_sum_is(const struct vhd_header *header, void *sum);

/* The checksum @sum is not that of @header, whose fields look right: is the id of the parent?  *how
 * becomes REBUILD_PARENT when that, or its name or time, was not, and is now.  1: it is believed, 0: nobody can
 * tell; negative. */
VHD_MUST int rebuild_parent(const struct rebuild_spec *spec, struct vhd_header *header,
			    uint32_t sum, enum rebuild_how *how);

/* How well blocks of @header (table, entries, block size) agree with the file. */
struct rebuild_shape {
	uint64_t allocated, faults;
	bool tight; /* two blocks, or the last one and the footer, are as far apart as their size wants
		     */
};
VHD_MUST int rebuild_shape(const struct rebuild_spec *spec, const struct vhd_header *header,
			   struct rebuild_shape *out);
/* The table of @header names no block: is there nothing in the file that it could have named?  1, 0:
 * there is, in the batmap's memory or behind the metadata; or negative. */
VHD_MUST int rebuild_is_bare(const struct rebuild_spec *spec, const struct vhd_header *header);

/* Is there a batmap header behind a table of this shape?  1, 0, negative. */
VHD_MUST int rebuild_batmap_there(const struct rebuild_spec *spec, uint64_t table_offset,
				  uint32_t entries);

/* Fill in @header's locators from the texts found behind its table.  @fits (may be NULL) tells
 * which of several possible arrangements is the right one.  1: it is; 0: one that nothing
 * confirms, or none; negative. */
VHD_MUST int rebuild_locators(const struct rebuild_spec *spec, struct vhd_header *header,
			      bool (*fits)(const struct vhd_header *header, void *arg), void *arg);

/* The text of locator @i, which cannot be read, as another locator has it: into @text, which has
 * room for its length.  1: it has just that length; 0: there is none such; negative. */
VHD_MUST int rebuild_locator_text(struct vhd_io *io, const struct vhd_header *header,
				  uint64_t file_bytes, unsigned i, uint8_t *text);

#endif
