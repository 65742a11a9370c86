/* nbd-memory.h - how much memory the payloads of all connections may take together
 *
 *   bound ─┬─ 3/8: divided among as many connections as there may be.  What fits a
 *          │       connection's own part never waits for others
 *          ├─ 3/8: shared, for what does not; in the order in which it was asked for
 *          └─ 1/4: not in use, kept by connections to be used again (nbd-buffers.h)
 *
 * So one that takes all it gets delays the large requests of others at most; one that holds shared
 * memory while its payload drips in, or its replies out, is not waited for (nbd-client.c).
 */
#ifndef TAPDISK_NBD_MEMORY_H
#define TAPDISK_NBD_MEMORY_H

#include "libvhd/base/list.h"
#include "nbd-buffers.h"
#include "nbd.h"

struct nbd_memory {
	struct buffers_bound bound;
	uint64_t own, shared, shared_used; /* bytes */
	unsigned connections;		   /* there may be, at all servers */
	struct list waiting;		   /* of struct nbd_holder.turn */
};

/* A connection's side of it. */
struct nbd_holder {
	struct nbd_memory *memory; /* borrowed */
	uint64_t used, shared;	   /* of its own part; of what all share */
	struct list turn;
	void (*ready)(struct nbd_holder
			      *holder); /* it is its turn: ask again, later in the loop's turn */
};

/* A server with that many connections comes or goes. */
void nbd_memory_join(struct nbd_memory *memory, unsigned connections);
void nbd_memory_leave(struct nbd_memory *memory, unsigned connections);

void nbd_holder_init(struct nbd_holder *holder, struct nbd_memory *memory,
		     void (*ready)(struct nbd_holder *holder));
/* It waits for nothing any more. */
void nbd_holder_release(struct nbd_holder *holder);
/* May it use @bytes more?  Then *shared says whose part they are.  False: ready() follows. */
bool nbd_holder_take(struct nbd_holder *holder, uint64_t bytes, bool *shared);
/* Does somebody else wait for memory? */
bool nbd_memory_wanted(const struct nbd_holder *holder);
void nbd_holder_give(struct nbd_holder *holder, uint64_t bytes, bool shared);

#endif
