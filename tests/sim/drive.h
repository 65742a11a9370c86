/* drive.h - a disk as its guest knows it: sectors that may have several values, requests in flight
 *
 * Each sector holds what is durable and what was written since, in order.  After a power cut any
 * of those may be on the disk; what a read returns is the last one, or one of a few after a trim or a
 * write that failed.  Requests of any alignment are in flight in any number; none that changes a
 * sector meets another one of it.  What was written before a flush that failed is nowhere
 * for sure, even if a later one succeeds; written again and flushed it is.
 */
#ifndef TEST_DRIVE_H
#define TEST_DRIVE_H

#include "tapdisk/core/vbd.h"
#include "tests/lib/rng.h"

#define DRIVE_SECTORS_MAX 1024u
#define DRIVE_SLOTS	  12u
#define DRIVE_BYTES_MAX	  (64u << 10)
#define DRIVE_VALUES	  48u
#define DRIVE_TRIED	  16u

/* values[0] is durable; each write since adds one; the last is what reads return, or any of
 * "either" last ones. */
struct drive_cell {
	uint32_t first;		       /* absolute number of values[0] */
	uint32_t doubted;	       /* values below that are no more durable by a flush */
	unsigned count;		       /* >= 1 */
	unsigned either;	       /* this many of the last may be read */
	unsigned writers;	       /* requests in flight that change or read it */
	uint8_t *values[DRIVE_VALUES]; /* owned, 512 bytes each; NULL: zeros */
};

struct drive;

struct drive_slot {
	struct request req; /* first */
	struct drive *drive;
	bool busy, withdrawn;
	uint8_t *buf;	   /* DRIVE_BYTES_MAX, of the VBD's view */
	uint8_t *sent;	   /* copy of what was written */
	uint32_t *flushed; /* FLUSH: of each sector, absolute count when submitted */
};

struct drive {
	struct rng *rng; /* borrowed */
	struct vbd *vbd; /* borrowed */
	struct vbd_client client;
	uint64_t sectors, block_bytes;
	uint64_t tried
		[DRIVE_TRIED]; /* sizes of growths that failed: the disk may have one all the same */
	unsigned tried_count;
	bool dead;	 /* the power went: what the old process still does counts for nothing */
	bool may_fail;	 /* it has no patience: requests fail with what the storage says */
	bool syncs_fail; /* so flushes do, and what is durable when it is answered */
	bool closing;	 /* -ESHUTDOWN is an answer */
	struct drive_cell cells[DRIVE_SECTORS_MAX];
	struct drive_slot slots[DRIVE_SLOTS];
	unsigned busy;
	unsigned long requests, reads, errors; /* so far; never reset */
};

/* Once, on zeroed memory; kept until the program ends. */
void drive_init(struct drive *drive, struct rng *rng);
/* A disk of @sectors, all zero and durable. */
void drive_reset(struct drive *drive, uint64_t sectors);
/* The disk has @sectors now, no fewer than before: the new ones are zero. */
void drive_grow(struct drive *drive, uint64_t sectors);
/* It may have @sectors, now or after a power cut. */
void drive_try(struct drive *drive, uint64_t sectors);
bool drive_tried(const struct drive *drive, uint64_t sectors);
/* One random request, where a slot and its sectors are free. */
void drive_submit(struct drive *drive);
/* One of its clients vanishes: what it asked for may come, or end unheard. */
void drive_vanish(struct drive *drive);
/* The power goes now: requests in flight may have left anything between. */
void drive_cut(struct drive *drive);
/* The old process is gone. */
void drive_rise(struct drive *drive);
/* All that was answered is durable. */
void drive_durable(struct drive *drive);
/* A sync failed: what was written since the last good one may be lost, and its place hold anything. */
void drive_lost(struct drive *drive);
/* It was closed without a commit: any of what was written since the last flush may be there. */
void drive_doubt(struct drive *drive);
/* Sector @n is as in @from, and durable; nothing is in flight. */
void drive_copy(struct drive *drive, const struct drive *from, uint64_t n);
/* May sector @n hold @bytes?  Then it does, from now on. */
bool drive_settle(struct drive *drive, uint64_t n, const uint8_t *bytes);

#endif
