/* spin.h - whether to look for an event that is expected before going to sleep
 *
 * With one request at a time a processor falls asleep between each request and its answer, and
 * waking it takes longer than many a disk: to look for the event meanwhile saves that.  It costs
 * processor time, though, and may make the rest slower: who looks keeps its processor, so who goes
 * on then must be woken on another one, which may share a core with this one or be asleep.  So both
 * ways are tried, whole rounds from one expectation to the next are timed, and the way by which they
 * take less is used.  Where the system lets threads run changes by that, slowly: the first rounds
 * of each phase do not count.
 *
 *	phases of SPIN_ROUNDS     S L b b b … b T b b b … b T b …    one of SPIN_PHASES is a trial
 *				  | | |         |
 *				  | | |         the other way
 *				  | | as experience says: look if that takes an eighth less
 *				  | look
 *				  sleep
 *
 *  S1  nothing expected: no looking; an expectation is looked for for max_ns at most
 *  S2  where looking does not pay, one of SPIN_PHASES phases looks all the same
 *
 * Pure: times are the caller's, of one clock, in nanoseconds, never 0.
 */
#ifndef TAPDISK_SPIN_H
#define TAPDISK_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#define SPIN_ROUNDS 4096u /* a fraction of a second */
#define SPIN_PHASES 16u

enum spin_way { SPIN_SLEEPS, SPIN_LOOKS, SPIN_WAYS };

struct spin {
	uint64_t max_ns;   /* 0: never */
	uint64_t since_ns; /* of the expectation that waits for its event; 0: none */
	uint64_t last_ns;  /* of the last one; 0: there was none */
	enum spin_way way; /* of this phase */
	unsigned round, phase;
	uint64_t sum_ns;	     /* of this phase's rounds that count */
	uint64_t mean_ns[SPIN_WAYS]; /* of rounds in the last phase of each; 0: not known */
};

/* An event is expected from now on. */
void spin_expect(struct spin *spin, uint64_t now_ns);
/* One came. */
void spin_event(struct spin *spin);
/* Look on, instead of sleeping? */
bool spin_goes_on(const struct spin *spin, uint64_t now_ns);

#endif
