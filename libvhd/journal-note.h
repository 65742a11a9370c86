/* journal-note.h - what size a disk had before it was resized
 *
 * Our own kind of resize journal.  It holds no data, only the footer as it was, to return to.
 * Sparse images are right without it at every instant.  A fixed image has one footer only: if the
 * power goes while the file is made longer it may end in nothing; then the note, at the
 * default place, says where it ended.
 *
 *   0       8        12        16    32        40              48     512          1024    1536
 *   | vhdsizes | version | checksum | id | new size | footer's place | … | old footer | zeros |
 *
 * The last zeros keep it from ending in a footer, as images do.
 */
#ifndef VHD_JOURNAL_NOTE_H
#define VHD_JOURNAL_NOTE_H

#include "footer.h"
#include "io.h"

#define JOURNAL_NOTE_BYTES 1536u

struct journal_note {
	char *path; /* owned; NULL: none */
	int fd;
	bool device;
};

struct journal_facts {
	struct vhd_footer footer; /* as it was */
	uint64_t place;		  /* of that, bytes */
	uint64_t new_size;
};

/* Write a note to @path (made, or a file or device that is there; not a VHD image: -EEXIST),
 * durably.  @beside: nobody named that path, it is the default one: a link there is not followed. */
VHD_MUST int journal_note_make(struct journal_note *note, const char *path, bool beside,
			       const struct journal_facts *facts, struct vhd_error *err);
/* Could it be made?  Nothing is. */
VHD_MUST int journal_note_ask(const char *path, bool beside, struct vhd_error *err);
/* The operation is over with @rc: the note goes (a device is cleared), durably.  Returns @rc, or
 * what went wrong with removing it. */
int journal_note_remove(struct journal_note *note, int rc, struct vhd_error *err);

/* Is it one of which only a part was written? */
bool journal_note_torn(const uint8_t raw[JOURNAL_NOTE_BYTES]);
/* Is it one?  What it says. */
bool journal_note_decode(const uint8_t raw[JOURNAL_NOTE_BYTES], struct journal_facts *out);

#endif
