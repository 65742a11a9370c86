/* throttle.c - token buckets
 *
 *            now                full_ns
 *   ----------|--------------------|------------------> time
 *             |<- what was taken ->|        taken + cost <= burst_ns: it may go
 */
#include "throttle.h"

#include "libvhd/base/number.h"

#define SECOND 1000000000ull

/* How long @units take to flow in, rounded up, at most a century. */
static uint64_t duration(const struct throttle_bucket *b, uint64_t units)
{
	unsigned __int128 ns = ((unsigned __int128)units * SECOND + b->rate - 1) / b->rate;

	return ns > UINT64_MAX / 4 ? UINT64_MAX / 4 : (uint64_t)ns;
}

void throttle_set(struct throttle_bucket *bucket, uint64_t rate, uint64_t burst, uint64_t now_ns)
{
	uint64_t used_ns = bucket->full_ns > now_ns ? bucket->full_ns - now_ns : 0;
	unsigned __int128 used = (unsigned __int128)used_ns * bucket->rate / SECOND;

	bucket->rate = rate;
	bucket->burst_ns = 0;
	bucket->full_ns = now_ns;
	if (!rate)
		return;
	bucket->burst_ns = duration(bucket, burst ? burst : rate);
	bucket->full_ns += duration(bucket, used > UINT64_MAX ? UINT64_MAX : (uint64_t)used);
}

/* 0: @units may be taken now; else when to ask again. */
static uint64_t bucket_wait(const struct throttle_bucket *b, uint64_t units, uint64_t now_ns)
{
	uint64_t cost, taken;

	if (!b->rate || b->full_ns <= now_ns)
		return 0;
	cost = number_min(duration(b, units), b->burst_ns);
	taken = b->full_ns - now_ns;
	return taken + cost <= b->burst_ns ? 0 : taken + cost - b->burst_ns;
}

static void bucket_take(struct throttle_bucket *b, uint64_t units, uint64_t now_ns)
{
	if (b->rate)
		b->full_ns = number_max(b->full_ns, now_ns) + duration(b, units);
}

uint64_t throttle_take(struct throttle *t, uint64_t bytes, uint64_t now_ns)
{
	uint64_t wait = number_max(bucket_wait(&t->operations, 1, now_ns),
				   bucket_wait(&t->bytes, bytes, now_ns));

	if (wait)
		return wait;
	bucket_take(&t->operations, 1, now_ns);
	bucket_take(&t->bytes, bytes, now_ns);
	return 0;
}
