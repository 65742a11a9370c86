/* check_throttle.c - token buckets: never more than the rate and the burst, never less */
#include "tapdisk/core/throttle.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"

#define SECOND UINT64_C(1000000000)

/* Ask as fast as it lets us for @ns; what was taken. */
static uint64_t take_for(struct throttle *t, uint64_t bytes, uint64_t from, uint64_t ns)
{
	uint64_t now = from, taken = 0;

	while (now < from + ns) {
		uint64_t wait = throttle_take(t, bytes, now);

		if (!wait)
			taken++;
		now += wait;
	}
	return taken;
}

START_TEST(test_unlimited)
{
	struct throttle t = { 0 };

	ck_assert(!throttle_is_on(&t));
	for (unsigned i = 0; i < 1000; i++)
		ck_assert_uint_eq(throttle_take(&t, UINT64_MAX, 0), 0);
}
END_TEST

START_TEST(test_rate_and_burst)
{
	static const uint64_t rates[] = { 1, 7, 100, 4999, 1000000, 3000000 };

	for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		uint64_t rate = rates[i], burst = i % 2 ? 5 : 0, most, n;
		struct throttle t = { 0 };

		throttle_set(&t.operations, rate, burst, 1000);
		ck_assert(throttle_is_on(&t));
		n = take_for(&t, 0, 1000, 3 * SECOND);
		most = 3 * rate + (burst ? burst : rate);
		ck_assert_uint_le(n, most + 1);
		/* a wait is told in whole nanoseconds */
		ck_assert_uint_ge(n, most - most / 500 - 1);
	}
}
END_TEST

START_TEST(test_larger_than_the_bucket)
{
	struct throttle t = { 0 };
	uint64_t wait;

	throttle_set(&t.bytes, 1000000, 4096, 0);
	ck_assert_uint_eq(throttle_take(&t, 1000000, 0), 0);
	/* in debt for the whole of it: a bucket of 4096 is full after 1 s */
	wait = throttle_take(&t, 1000000, 0);
	ck_assert_uint_eq(wait, SECOND);
	ck_assert_uint_gt(throttle_take(&t, 1000000, SECOND - 1), 0);
	ck_assert_uint_eq(throttle_take(&t, 1000000, SECOND), 0);
}
END_TEST

START_TEST(test_both)
{
	struct throttle t = { 0 };

	throttle_set(&t.operations, 1000, 10, 0);
	throttle_set(&t.bytes, 40960, 4096, 0);
	/* bytes are scarcer: 10 of 4096 a second, and nothing is taken by those that wait */
	ck_assert_uint_le(take_for(&t, 4096, 0, 10 * SECOND), 101);
	ck_assert_uint_ge(take_for(&t, 512, 20 * SECOND, SECOND), 79);
}
END_TEST

START_TEST(test_changed_live)
{
	struct throttle t = { 0 };

	throttle_set(&t.operations, 10, 10, 0);
	for (unsigned i = 0; i < 10; i++)
		ck_assert_uint_eq(throttle_take(&t, 0, 0), 0);
	/* the debt of 10 is a debt of 10 at the new rate too */
	throttle_set(&t.operations, 1000, 10, 0);
	ck_assert_uint_eq(throttle_take(&t, 0, 0), SECOND / 1000);
	throttle_set(&t.operations, 0, 0, 0);
	ck_assert_uint_eq(throttle_take(&t, 0, 0), 0);
	ck_assert(!throttle_is_on(&t));
}
END_TEST

/* In no window whatever is more taken than rate x window + burst. */
START_TEST(test_any_window)
{
	enum { TAKEN = 400 };
	struct rng rng = { suite_seed(42) };

	for (unsigned round = 0; round < 200; round++) {
		uint64_t rate = 1 + rng_below(&rng, 1000000), burst = 1 + rng_below(&rng, 10000);
		uint64_t at[TAKEN], bytes[TAKEN], now = rng_below(&rng, SECOND);
		struct throttle t = { 0 };

		throttle_set(&t.bytes, rate, burst, now);
		for (unsigned n = 0; n < TAKEN;) {
			uint64_t want = 1 + rng_below(&rng, burst);
			uint64_t wait = throttle_take(&t, want, now);

			if (wait) {
				now += rng_chance(&rng, 50) ? wait : 1 + rng_below(&rng, wait);
				continue;
			}
			at[n] = now;
			bytes[n++] = want;
			if (rng_chance(&rng, 5))
				now += rng_below(&rng, 2 * SECOND);
		}
		for (unsigned i = 0; i < TAKEN; i += 7) {
			double sum = 0;

			for (unsigned k = i; k < TAKEN; k++) {
				double window = (double)(at[k] - at[i]) / 1e9;

				sum += (double)bytes[k];
				ck_assert(sum <= (double)rate * window + (double)burst + 2);
			}
		}
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { test_unlimited,
				       test_rate_and_burst,
				       test_larger_than_the_bucket,
				       test_both,
				       test_changed_live,
				       test_any_window,
				       NULL };

	return suite_run("throttle", tests);
}
