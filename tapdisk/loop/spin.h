/* spin.h - how long to look for an event that is expected before going to sleep
 *
 * With one request at a time a processor falls asleep between each request and its answer, and
 * waking it takes longer than many a disk: to look for the event meanwhile costs processor time
 * and saves that.  So only who expects an event within microseconds asks for it, and only as
 * long as it pays: the window opens when events come soon after the loop went to sleep, and
 * closes when they do not come in time.
 *
 *  S1  nothing expected: no looking; a window that found nothing is over
 *  S2  of the time between an expectation and its event at most max_ns is spent looking, and
 *      after a few that came too late, none
 *
 * Pure: times are the caller's, of one clock, in nanoseconds, never 0.
 */
#ifndef TAPDISK_SPIN_H
#define TAPDISK_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#define SPIN_MIN_NS 4000u /* the first window, and the smallest */

struct spin {
	uint64_t max_ns;    /* 0: never */
	uint64_t window_ns; /* SPIN_MIN_NS to max_ns, or 0 */
	uint64_t since_ns;  /* of the expectation that waits for its event; 0: none */
};

/* An event is expected from now on. */
void spin_expect(struct spin *spin, uint64_t now_ns);
/* One came. */
void spin_event(struct spin *spin, uint64_t now_ns);
/* Look on, instead of sleeping? */
bool spin_goes_on(const struct spin *spin, uint64_t now_ns);

#endif
