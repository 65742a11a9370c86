/* nbd-buffers.h - memory for the payloads of one connection
 *
 * A buddy allocator over a reserved range: pieces are powers of two of 4 KiB, aligned to their
 * size or to 4 KiB at least.  The range is address space; memory comes with first use and
 * goes back with buffers_trim.
 */
#ifndef TAPDISK_NBD_BUFFERS_H
#define TAPDISK_NBD_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUFFERS_BYTES (64u << 20)
#define BUFFERS_PAGE  4096u
#define BUFFERS_KEPT  (1u << 20) /* not worth giving back */
#define BUFFERS_SPARE 4u	 /* one part in so many of the bound may be kept unused */

struct buffers;

struct buffers_bound { /* of several together */
	uint64_t bytes;
	uint64_t resident; /* touched and not given back to the system */
};

/* @bound is borrowed.  Once a part of it is resident nothing more is kept to be used again. */
int buffers_open(struct buffers_bound *bound, struct buffers **out);
void buffers_close(struct buffers *b); /* NULL is fine */
/* What a piece for @bytes takes. */
size_t buffers_piece(size_t bytes);
/* @bytes <= BUFFERS_BYTES, > 0.  NULL: no piece of that size is free. */
void *buffers_get(struct buffers *b, size_t bytes);
/* The size of its piece. */
size_t buffers_put(struct buffers *b, void *p);
/* Nothing is in use: give the memory back to the system, if it is worth it. */
void buffers_trim(struct buffers *b);
/* Bytes that were touched since the last trim, at the most. */
size_t buffers_touched(const struct buffers *b);

#endif
