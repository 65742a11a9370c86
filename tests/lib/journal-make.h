/* journal-make.h - an image in the middle of a resize of the predecessor's, and its journal */
#ifndef TEST_JOURNAL_MAKE_H
#define TEST_JOURNAL_MAKE_H

#include "io-mem.h"

/* The dynamic vector of doc/format.md as it was. */
struct mem_disk *journal_make_image(void);
/* Poisoned, metadata and a block overwritten, the file longer: in place. */
void journal_make_interrupted(struct mem_disk *image);
/* The journal that undoes it. */
struct mem_disk *journal_make(const struct mem_disk *original);
/* Right checksums for whatever looks like an entry. */
void journal_make_seal(uint8_t *journal, size_t bytes);

#endif
