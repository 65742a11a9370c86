/* throttle.h - token buckets for operations and bytes
 *
 * Pure: the caller owns time and queues.  A bucket is kept as the moment at which
 * it will be full again, so an idle one costs nothing and is never visited.
 */
#ifndef TAPDISK_THROTTLE_H
#define TAPDISK_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

struct throttle_bucket {
	uint64_t rate;	   /* units a second; 0: no limit */
	uint64_t burst_ns; /* depth of the bucket, as the time it takes to fill */
	uint64_t full_ns;  /* when it is full; in the past: it is */
};

struct throttle {
	struct throttle_bucket operations, bytes;
};

/* @burst 0: what one second brings.  What was used stays used, at the new rate. */
void throttle_set(struct throttle_bucket *bucket, uint64_t rate, uint64_t burst, uint64_t now_ns);

static inline bool throttle_is_on(const struct throttle *t)
{
	return t->operations.rate || t->bytes.rate;
}

/* Take one operation of @bytes: 0, or nothing is taken and the ns until it is worth asking
 * again.  What is larger than a bucket goes when the bucket is full, which is then in debt. */
uint64_t throttle_take(struct throttle *t, uint64_t bytes, uint64_t now_ns);

#endif
