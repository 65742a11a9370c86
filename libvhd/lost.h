/* lost.h - telling which ranges of a disk are lost, neighbours as one
 *
 * Ranges come in ascending order.
 */
#ifndef VHD_LOST_H
#define VHD_LOST_H

#include "vhd.h"

struct lost {
	void (*tell)(void *arg, const struct vhd_lost *range); /* may be NULL */
	void *arg;
	struct vhd_lost pending; /* length 0: none */
	uint64_t bytes, guessed_bytes;
};

/* @why has static storage. */
void lost_add(struct lost *l, uint64_t offset, uint64_t length, bool guessed, const char *why);
/* No more will follow. */
void lost_end(struct lost *l);

#endif
