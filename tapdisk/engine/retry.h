/* retry.h - errors of the storage wait, they do not kill guests
 *
 * One struct retry a virtual disk.  An operation that fails with a transient
 * error (retry_is_transient) and names a retry is kept, with its buffer, and
 * submitted again: after 10 ms, doubling to 1 s; until @time_ns have passed
 * since it first failed, then its error is reported.  The engine calls retry_hold;
 * drivers only name the retry in their operations.
 *
 * ENGINE_SYNC is never tried again: a sync that failed may have lost what it was
 * to vouch for (ORDER 5).
 */
#ifndef TAPDISK_RETRY_H
#define TAPDISK_RETRY_H

#include "engine.h"

#define RETRY_FOREVER UINT64_MAX

struct retry_params {
	uint64_t time_ns; /* 0: report at once; RETRY_FOREVER */
	/* The first operation begins to wait (@err: why), or the last one got through or gave up (0). */
	void (*stalled)(void *owner, int err);
	/* Some have failed for @long_ns (0: never told); again each time that has passed once more. */
	uint64_t long_ns;
	void (*too_long)(void *owner);
	void *owner;
};
int retry_open(struct loop *loop, struct engine *engine, const struct retry_params *params,
	       struct retry **out);
void retry_close(struct retry *retry); /* nothing waits.  NULL is fine */
void retry_set_time(struct retry *retry, uint64_t time_ns);
/* Try everything that waits, now. */
void retry_now(struct retry *retry);
/* Every operation that waits completes with -ECANCELED, after this returned, and so does every
 * one that would begin to wait, until retry_resume: for pause and close. */
void retry_abort(struct retry *retry);
void retry_resume(struct retry *retry);
bool retry_is_aborted(const struct retry *retry);
/* As retry_resume; what fails again soon has failed since the stall that was aborted began. */
void retry_resume_stalled(struct retry *retry);
/* Right after retry_abort: only some of what waited is given up, the rest is submitted anew, each with
 * its own failing_ns.  too_long() comes when it would have come. */
void retry_resume_withdrawn(struct retry *retry);
/* Changes with each abort.  An operation that carries the one it was submitted in is cancelled where
 * it fails in a later one, even if the retry was resumed: nobody waits for it any more. */
unsigned retry_epoch(const struct retry *retry);
/* Operations that failed and are not done yet: they wait, or are being tried again. */
unsigned retry_waiting(const struct retry *retry);
uint64_t retry_count(const struct retry *retry); /* tries again, since open */
/* The error waited for now; 0: none. */
int retry_reason(const struct retry *retry);

bool retry_is_transient(int err);
/* For the engine: @io failed with @err.  True: kept, it is not reported now. */
bool retry_hold(struct retry *retry, struct engine_io *io, int err);

#endif
