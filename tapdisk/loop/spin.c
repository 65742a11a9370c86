/* spin.c - which way an event is waited for, as experience says */
#include "spin.h"

#include "libvhd/base/number.h"

#define COUNTED (SPIN_ROUNDS / 2) /* the last so many of a phase */
#define LATEST	4u		  /* times max_ns: the client did something else meanwhile */

static enum spin_way best(const uint64_t mean_ns[SPIN_WAYS])
{
	return mean_ns[SPIN_LOOKS] < mean_ns[SPIN_SLEEPS] / 8 * 7 ? SPIN_LOOKS : SPIN_SLEEPS;
}

static enum spin_way other(enum spin_way way)
{
	return way == SPIN_LOOKS ? SPIN_SLEEPS : SPIN_LOOKS;
}

static void next_phase(struct spin *spin)
{
	spin->mean_ns[spin->way] = spin->sum_ns / COUNTED;
	spin->sum_ns = 0;
	spin->round = 0;
	spin->phase++;
	if (spin->phase == 1)
		spin->way = SPIN_LOOKS;
	else if (spin->phase % SPIN_PHASES)
		spin->way = best(spin->mean_ns);
	else
		spin->way = other(best(spin->mean_ns));
}

static void end_round(struct spin *spin, uint64_t round_ns)
{
	if (spin->round++ >= SPIN_ROUNDS - COUNTED)
		spin->sum_ns += number_min(round_ns, LATEST * spin->max_ns);
	if (spin->round == SPIN_ROUNDS)
		next_phase(spin);
}

void spin_expect(struct spin *spin, uint64_t now_ns)
{
	if (!spin->max_ns || spin->since_ns)
		return;
	if (spin->last_ns)
		end_round(spin, now_ns - spin->last_ns);
	spin->since_ns = spin->last_ns = now_ns;
}

void spin_event(struct spin *spin)
{
	spin->since_ns = 0;
}

bool spin_goes_on(const struct spin *spin, uint64_t now_ns)
{
	return spin->since_ns && spin->way == SPIN_LOOKS && now_ns - spin->since_ns < spin->max_ns;
}
