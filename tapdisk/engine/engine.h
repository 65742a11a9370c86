/* engine.h - disk I/O in batches: what every engine promises
 *
 *   engine.c     the common part: queue of this turn, merging, completion, files
 *   merge.c      neighbouring requests become one vectored operation
 *   unaligned.c  what is done piece by piece: bounce, read-modify-write, zeroes
 *   span.c       changes of one sector that exclude each other (ORDER 12)
 *   file.c       what a descriptor can take
 *   retry.c      transient errors wait and are tried again
 *   uring.c aio.c threads.c worker.c    one back end each, and plain system calls in threads;
 *                sim is in tests/sim
 *
 * engine_submit() only queues; once per turn everything queued goes down in one
 * batch; what completes at once is reported in the same turn.  done() is never
 * called from inside engine_submit().  The caller owns the engine_io and its
 * buffer until done().  No allocation after opening.
 */
#ifndef TAPDISK_ENGINE_H
#define TAPDISK_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "libvhd/base/list.h"
#include "tapdisk/loop/loop.h"

struct engine;
struct engine_file;
struct retry;

enum engine_op {
	ENGINE_READ,
	ENGINE_WRITE, /* extends the file where it ends behind its end */
	ENGINE_SYNC,  /* fdatasync: writes, zeroes, punches, truncates completed before are durable.
		      * One of a file at a time: those that come meanwhile share the next one, and
		      * fail with this one if it fails */
	ENGINE_PUNCH, /* reads as zeros afterwards, space given back where possible */
	ENGINE_ZERO,  /* reads as zeros afterwards; space stays or becomes allocated where possible.
		      * Neither changes the size of a file */
	ENGINE_TRUNCATE, /* offset: the new size; devices: nothing */
};

struct engine_io {
	/* the caller's */
	struct engine_file *file;
	enum engine_op op;
	uint64_t offset, length; /* bytes */
	void *buf;		 /* READ, WRITE; any alignment (4096 is fastest) */
	struct retry *retry;	 /* whose patience (retry.h); NULL: errors are reported at once */
	unsigned retry_epoch;	 /* retry_epoch() then: it is not kept after an abort; or 0 */
	uint64_t
		failing_ns; /* since when it has failed, as it was cancelled before; 0: it has not */
	void (*done)(struct engine_io *io);
	/* the answer: 0 or -errno.  Short transfers are continued inside; reading past the end of
	 * the file gives zeros from there on.  -ECANCELED: by the retry, by nobody else. */
	int err;
	/* the engine's */
	struct list link;
	uint64_t since_ns; /* retry's: first failure; valid after -ECANCELED too */
	void (*retry_done)(struct engine_io *io); /* retry's: the caller's done() */
	uint64_t state[6];
};

enum engine_kind { ENGINE_AUTO, ENGINE_URING, ENGINE_AIO, ENGINE_THREADS };

/* ENGINE_AUTO: io_uring where the kernel lets us, else libaio, else threads; files on tmpfs, which
 * are copied rather than read, at once in the loop.  @depth: operations in flight at the most;
 * more wait in the queue.  To be called, used and closed in the loop's thread. */
int engine_open(struct loop *loop, enum engine_kind kind, unsigned depth, struct engine **out);
void engine_close(struct engine *engine);	      /* nothing is in flight.  NULL is fine */
const char *engine_name(const struct engine *engine); /* "io_uring", "libaio", "threads" */

struct engine_file_params {
	int fd;		 /* borrowed; O_DIRECT or not: asked of the descriptor */
	int buffered_fd; /* the same file without O_DIRECT, or -1: opened here when it is needed;
			  * borrowed */
	bool device;	 /* a block device */
	bool writable;
};
int engine_file_open(struct engine *engine, const struct engine_file_params *params,
		     struct engine_file **out);
/* Its descriptor stands for a file that was opened anew: so shall what was opened beside it. */
void engine_file_renew(struct engine_file *file);
/* Syncs of it that failed so far, each counted once, whoever shared it. */
uint64_t engine_file_losses(const struct engine_file *file);
/* Of a file system in memory: no operation on it waits for a device. */
bool engine_file_in_memory(const struct engine_file *file);
void engine_file_close(struct engine_file *file); /* nothing in flight on it.  NULL is fine */
/* What direct I/O on it wants offsets and lengths to be a multiple of; 1 if buffered. */
uint32_t engine_file_align(const struct engine_file *file);

/* Callable from done() of another. */
void engine_submit(struct engine *engine, struct engine_io *io);

#endif
