/* engine-private.h - what the files of the engine share
 *
 *   engine_submit ─► queue ─► dispatch ─┬► merge: riders of one transfer ─┬► back end
 *                      ▲                ├► steps: one transfer at a time ─┤  (or a worker,
 *                      │                └► blocked, starved               │   or at once)
 *                      └──── redo, unblock ◄──── transfer's finish ◄──────┘
 *
 *  E1  a transfer is one operation of the kernel; it finishes once, after all its short
 *      results were continued
 *  E2  an engine_io is in exactly one place: the queue, a transfer's riders, a steps, a file's
 *      blocked list or syncs, the starved list, or held by retry
 *  E3  callbacks to callers happen only in the flush task, a back end's event or a worker's
 *      done: never inside engine_submit
 */
#ifndef TAPDISK_ENGINE_PRIVATE_H
#define TAPDISK_ENGINE_PRIVATE_H

#include <sys/uio.h>

#include "engine.h"

#define MERGE_IOV   64u
#define MERGE_BYTES (1u << 20)
/* Operations that take several steps (unaligned, zeroes), at a time; each has a buffer. */
#define STEPS_MAX   32u
#define STEPS_BYTES 65536u
#define PAGE_BYTES  4096u

/* The bytes of a file that a change in flight covers. */
struct span {
	struct list link; /* in file->spans; linked to itself: not held */
	uint64_t from, to;
	bool partial; /* reads, changes and writes back more than its caller's bytes */
};

struct transfer {
	struct engine_file *file;
	int fd; /* of the file: direct or buffered */
	enum engine_op op;
	bool in_worker;		 /* must not run in the back end */
	uint64_t offset, length; /* of what is left */
	struct iovec *iov;	 /* of what is left */
	unsigned iov_count;
	void (*finish)(struct transfer *t, int err); /* 0 or -errno; may free or reuse @t */
	struct list riders;			     /* of engine_io */
	struct span span;
	struct list link; /* free, or the back end's */
	int64_t result;	  /* the worker's */
	struct loop_work work;
	void *slot; /* the back end's, set at its opening */
	struct iovec vec[MERGE_IOV];
};

/* One engine_io done piece by piece (unaligned.c). */
struct steps {
	struct engine_io *io;
	uint64_t at, end;
	uint64_t piece; /* bytes of the caller's that the step under way deals with */
	bool modify;	/* the sector is being read, to be changed and written back */
	struct span span;
	struct transfer t;
	uint8_t *bounce;
	struct list link; /* free */
};

struct engine_file {
	struct engine *engine;
	int fd, buffered_fd;
	int own_fd; /* buffered_fd, if opened here, else -1 */
	bool direct, device, memory;
	uint32_t align, memory_align; /* powers of two; 1 and 1 if buffered */
	uint64_t size;		      /* regular files: never more than the real one */
	bool no_punch, no_zero;	      /* the file system refused */
	struct list spans;	      /* held */
	unsigned partials;	      /* of them partial */
	struct list blocked;	      /* of engine_io that wait for spans, in order */
	bool syncing;		      /* a sync is in flight */
	uint64_t losses;	      /* syncs that failed */
	struct list syncs; /* of engine_io that came since: the next one is for all of them */
};

struct engine_backend {
	const char *name;
	int (*open)(struct engine *engine);
	void (*close)(struct engine *engine); /* half open is fine */
	/* Take @t; calls transfer_result() later, or at once only if it cannot be started. */
	void (*start)(struct engine *engine, struct transfer *t);
	/* Give everything started to the kernel; take what is done. */
	void (*flush)(struct engine *engine);
};
extern const struct engine_backend engine_uring, engine_aio, engine_threads;

struct engine {
	struct loop *loop;
	const struct engine_backend *backend;
	void *state; /* the back end's */
	bool memory_at_once;
	unsigned depth;
	struct transfer *transfers; /* depth of them */
	struct steps *steps;	    /* STEPS_MAX */
	uint8_t *bounce;
	struct list free_transfers, free_steps;
	unsigned busy;	     /* transfers and steps */
	unsigned many_turns; /* to go until events count as expected again */
	struct list queue;
	struct list starved; /* wait for a steps */
	struct loop_task flush;
};

/* ── engine.c ── */

enum io_flags { IO_SINGLE = 1 << 0 }; /* engine_io.state[0]: do not merge */

/* Perform @t; t->finish() is called when all of it is done, maybe before this returns. */
void transfer_go(struct transfer *t);
/* From a back end: bytes moved or 0, or -errno. */
void transfer_result(struct transfer *t, int64_t result);
/* @io is done: report to its owner, or to its retry. */
void engine_report(struct engine_io *io, int err);
/* @err of a direct READ or WRITE tells that the kernel wants more alignment than it said: learn
 * it, do the operation again. */
bool engine_learn_align(struct engine_file *file, enum engine_op op, int err);
/* Put @ios in front of the queue, in order. */
void engine_requeue(struct engine *engine, struct list *ios);
/* For back ends: is the flush task needed? */
void engine_wake(struct engine *engine);
/* Total transfers a back end may be given at a time. */
static inline unsigned engine_width(const struct engine *engine)
{
	return engine->depth + STEPS_MAX;
}

/* ── merge.c ── */

/* Fill @t with @io (aligned, not in the queue) and what in the queue continues it. */
void merge_gather(struct engine *engine, struct transfer *t, struct engine_io *io);

/* ── unaligned.c ── */

bool unaligned(const struct engine_io *io); /* READ, WRITE: not fit for its descriptor as it is */
/* Start @io by steps; false: none free. */
bool steps_start(struct engine *engine, struct engine_io *io);
int steps_open(struct engine *engine);
void steps_close(struct engine *engine);

/* ── span.c ── */

/* Where @io ends; PUNCH and ZERO end with the file; TRUNCATE never. */
uint64_t span_end(const struct engine_io *io);
/* Would changing @io's bytes now collide?  Then it is in the file's blocked list. */
bool span_blocks(struct engine_io *io);
void span_hold(struct span *span, struct engine_io *io);
/* Lets those that waited go back into the queue.  Not held: nothing. */
void span_release(struct engine_file *file, struct span *span);

/* ── worker.c ── */

void worker_start(struct transfer *t);
int fallocate_mode(enum engine_op op);

#endif
