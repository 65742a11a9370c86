/* check_spin.c - whether looking for events pays, as experience says */
#include "tapdisk/loop/spin.h"
#include "tests/lib/suite.h"

#define US UINT64_C(1000)

/* @count rounds, of which one takes @sleeps_ns or @looks_ns, its event in the middle.  Returns how many
 * of them looked.  (There are too many to assert something each time.) */
static unsigned rounds(struct spin *spin, unsigned count, uint64_t sleeps_ns, uint64_t looks_ns)
{
	static uint64_t now_ns = 1;
	unsigned looked = 0, wrong = 0;

	while (count-- > 0) {
		uint64_t took_ns, at_ns;
		bool looks;

		spin_expect(spin, now_ns);
		looks = spin_goes_on(spin, now_ns);
		took_ns = looks ? looks_ns : sleeps_ns;
		looked += looks;
		for (at_ns = 0; at_ns < took_ns / 2; at_ns += US) /* S1 */
			wrong += spin_goes_on(spin, now_ns + at_ns) !=
				 (looks && at_ns < spin->max_ns);
		spin_event(spin);
		wrong += spin_goes_on(spin, now_ns + at_ns);
		now_ns += took_ns;
	}
	ck_assert_uint_eq(wrong, 0);
	return looked;
}

START_TEST(looking_follows_experience)
{
	const unsigned all = SPIN_PHASES * SPIN_ROUNDS;
	struct spin spin = { .max_ns = 50 * US };

	ck_assert(!spin_goes_on(&spin, 1)); /* nothing expected */
	/* it pays */
	rounds(&spin, 3 * SPIN_ROUNDS, 60 * US, 40 * US);
	ck_assert_uint_ge(rounds(&spin, all, 60 * US, 40 * US), all - 2 * SPIN_ROUNDS);
	/* no longer: another trial finds that out; then only trials look (S2) */
	rounds(&spin, all, 40 * US, 60 * US);
	ck_assert_uint_le(rounds(&spin, all, 40 * US, 60 * US), 2 * SPIN_ROUNDS);
	/* nor where it makes no difference, nor where events are late */
	ck_assert_uint_le(rounds(&spin, all, 40 * US, 39 * US), 2 * SPIN_ROUNDS);
	ck_assert_uint_le(rounds(&spin, all, 900 * US, 700 * US), 2 * SPIN_ROUNDS);
	/* and again */
	rounds(&spin, all + SPIN_ROUNDS, 60 * US, 40 * US);
	ck_assert_uint_ge(rounds(&spin, all, 60 * US, 40 * US), all - 2 * SPIN_ROUNDS);
	/* never */
	spin = (struct spin){ .max_ns = 0 };
	ck_assert_uint_eq(rounds(&spin, all, 60 * US, 40 * US), 0);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { looking_follows_experience, NULL };

	return suite_run("spin", tests);
}
