/* differ.h - where two chains differ
 *
 * Ranges that both take from the same place of the same file, or that are zero in both, are told
 * without reading.  A disk is zeros behind its end.
 */
#ifndef VHD_DIFFER_H
#define VHD_DIFFER_H

#include "chain.h"

#define DIFFER_BYTES (1u << 20) /* read at a time */

struct differ {
	struct vhd_chain *a, *b; /* borrowed */
	uint8_t *was, *will;	 /* owned: what a and b have, after differ_read */
};

/* -ENOMEM.  Release whatever is returned. */
VHD_MUST int differ_init(struct differ *d, struct vhd_chain *a, struct vhd_chain *b,
			 struct vhd_error *err);
void differ_release(struct differ *d);

/* From @sector on, *run of the @count sectors are alike in one respect: *same is whether they come
 * from one place. */
VHD_MUST int differ_run(struct differ *d, uint64_t sector, uint64_t count, bool *same,
			uint64_t *run, struct vhd_error *err);
/* Both of [offset, offset + length), whole sectors, at most DIFFER_BYTES. */
VHD_MUST int differ_read(struct differ *d, uint64_t offset, size_t length, struct vhd_error *err);
/* In what was read: the first sector at or after @at (bytes) that differs, and the end of its
 * run: *end.  @length: there is none. */
size_t differ_next(const struct differ *d, size_t at, size_t length, size_t *end);

#endif
