/* journal.h - resize journals as the predecessor of these tools writes them
 *
 *   | header 512 | entry 32 | old bytes … | entry | old bytes … |
 *
 * Metadata entries follow each other from one place on, data entries from another.  While such
 * a journal is in force both footers of the image are poisoned; putting the old bytes back,
 * and cutting the image where it ended, undoes what was begun.  Everything in it is
 * hostile: nothing is written before all of it was checked.
 */
#ifndef VHD_JOURNAL_H
#define VHD_JOURNAL_H

#include <stdbool.h>

#include "io.h"
#include "layout.h"

#define JOURNAL_HEADER_BYTES 512u
#define JOURNAL_ENTRY_BYTES  32u
#define JOURNAL_DATA_MAX     (VHD_BLOCK_MAX + (1u << 20)) /* bytes of one entry */

enum journal_type {
	JOURNAL_FOOTER = 1,
	JOURNAL_COPY,
	JOURNAL_HEADER,
	JOURNAL_LOCATOR,
	JOURNAL_BAT,
	JOURNAL_BATMAP_HEADER,
	JOURNAL_BATMAP,
	JOURNAL_DATA,
};

struct journal_header {
	uint8_t id[VHD_UUID_BYTES]; /* of the image */
	uint64_t footer_offset;	    /* bytes: where the image ended */
	uint32_t data_count, metadata_count;
	uint64_t data_offset, metadata_offset; /* in the journal */
};

struct journal_entry {
	enum journal_type type;
	uint32_t size;	      /* bytes */
	uint64_t offset;      /* in the image */
	uint64_t data_offset; /* of the old bytes, in the journal */
	uint32_t checksum;
};

/* Is it such a journal?  1, 0, negative: it cannot be read. */
VHD_MUST int journal_probe(struct vhd_io *journal);
/* -VHD_E_JOURNAL: offsets or counts make no sense for a journal of its size. */
VHD_MUST int journal_load(struct vhd_io *journal, struct journal_header *out,
			  struct vhd_error *err);

/* For each entry: cookie, type, sizes, place within the image's [0, footer_offset + 512), and the
 * checksum of its bytes are right when @fn is called with them.  Stops at the first
 * non-zero answer, which is returned. */
typedef int journal_fn(void *arg, const struct journal_entry *entry, const uint8_t *data);
VHD_MUST int journal_walk(struct vhd_io *journal, const struct journal_header *header,
			  journal_fn *fn, void *arg, struct vhd_error *err);

/* ".FILE.journal" beside @image: where a journal is when nobody named one.  @out has PATH_MAX
 * bytes.  -ENAMETOOLONG. */
VHD_MUST int journal_default_path(const char *image, char *out);
/* Is there something of that name?  An image without any footer is then a fixed one, most likely,
 * whose growth was interrupted: it may end in nothing (journal-note.h). */
bool journal_waits(const struct vhd_io *image);
/* It was: cannot @verb it (-VHD_E_POISONED). */
int journal_refuse(const char *verb, const char *image, struct vhd_error *err);

#endif
