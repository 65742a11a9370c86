/* core-model.h - a disk byte by byte, and the requests in flight on it, as the core's client knows them
 *
 * Writers in flight never share a byte, so each byte is known but while one of them changes
 * it, after one failed, and after a trim (as it was, or zero).  They may well share a sector:
 * that is what the core's range locks are for.  Clients vanish: what one of them was about to write
 * may come or not, but never on top of what another writes later.
 */
#ifndef TEST_CORE_MODEL_H
#define TEST_CORE_MODEL_H

#include "tapdisk/core/vbd.h"
#include "tests/lib/rng.h"

#define MODEL_BYTES_MAX 32768u
#define MODEL_SLOTS	96u
#define MODEL_EXTENTS	4u
#define MODEL_CLIENTS	4u

struct model;

struct model_slot {
	struct request req; /* first */
	struct model *model;
	bool busy;
	bool withdrawn;
	uint8_t buf[MODEL_BYTES_MAX], sent[MODEL_BYTES_MAX];
	bool unsure[MODEL_BYTES_MAX]; /* of a read: bytes that some writer changed meanwhile */
	struct request_extent extents[MODEL_EXTENTS];
};

struct model {
	struct rng *rng; /* borrowed */
	struct vbd *vbd; /* borrowed */
	uint64_t bytes;
	uint8_t value[MODEL_BYTES_MAX];
	bool unknown[MODEL_BYTES_MAX];	  /* a writer failed */
	bool maybe_zero[MODEL_BYTES_MAX]; /* a trim */
	bool changing[MODEL_BYTES_MAX];	  /* a writer is in flight */
	struct model_slot slots[MODEL_SLOTS];
	unsigned busy, gone; /* gone: of those, whose client has vanished */
	struct vbd_client clients[MODEL_CLIENTS];
	bool shut; /* closing was told: -ESHUTDOWN is right */
	/* Counted; never reset. */
	unsigned long requests, compared, failed, withdrawn;
	unsigned long partial; /* writers of part of a sector beside another writer of it */
};

/* All zeros, nothing in flight. */
void model_reset(struct model *m, uint64_t bytes);
/* One random request, where a slot and its bytes are free. */
void model_submit(struct model *m);
/* One of its clients vanishes. */
void model_vanish(struct model *m);
/* Tell what is wrong, with the seed, and abort. */
void model_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
extern unsigned long long model_seed;
/* play() with @rng begun by each seed: SEED alone, else from 1 on, COUNT of them, @long_run with
 * SOAK set, or @few.  How many that were. */
unsigned long long model_play(unsigned long long few, unsigned long long long_run, struct rng *rng,
			      void (*play)(void));

#endif
