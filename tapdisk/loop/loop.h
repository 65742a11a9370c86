/* loop.h - the event loop of a tapdisk: descriptors, timers, tasks, threads
 *
 * The only room that knows the event library; tests link another one with
 * simulated time (tests/sim).  All functions are for the loop's thread, but
 * the work function of a struct loop_work runs in another.  No call allocates
 * after its object was opened.
 *
 * A turn: events are dispatched; then the tasks put off by loop_defer run, in
 * the order they came, those that they put off too; then the loop sleeps until the
 * next event.  An idle loop does not wake up.  Only where somebody expects an event
 * within microseconds may the loop look for it a while instead (loop_spin).
 */
#ifndef TAPDISK_LOOP_H
#define TAPDISK_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;

int loop_open(struct loop **out);
/* Everything opened on it is closed before.  NULL is fine. */
void loop_close(struct loop *loop);
/* Until loop_stop. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
/* Monotonic, as of this turn. */
uint64_t loop_now_ns(const struct loop *loop);

/* ── events that are near ── */

/* Look for an event that is expected for up to @max_ns before sleeping, where that pays
 * (spin.h); 0, as at first: never. */
void loop_spin(struct loop *loop, uint64_t max_ns);
/* One is expected within microseconds.  Cheap. */
void loop_expect(struct loop *loop);

/* ── descriptors ── */

enum loop_events {
	LOOP_READ = 1 << 0,
	LOOP_WRITE = 1 << 1,
	LOOP_LEFT = 1 << 2, /* a socket whose other side sends nothing more */
};
struct loop_fd;
/* @fd is borrowed, non-blocking.  Nothing is watched at first.  A hang-up or error is reported
 * as all the events watched. */
int loop_fd_open(struct loop *loop, int fd, void (*ready)(void *owner, unsigned events),
		 void *owner, struct loop_fd **out);
void loop_fd_watch(struct loop_fd *fd, unsigned events); /* cheap when unchanged */
/* Never called back afterwards; close the descriptor only after this.  NULL is fine. */
void loop_fd_close(struct loop_fd *fd);

/* ── timers ── */

struct loop_timer;
int loop_timer_open(struct loop *loop, void (*fire)(void *owner), void *owner,
		    struct loop_timer **out);
void loop_timer_set(struct loop_timer *timer, uint64_t delay_ns); /* replaces; fires once */
void loop_timer_cancel(struct loop_timer *timer);
bool loop_timer_is_set(const struct loop_timer *timer);
void loop_timer_close(struct loop_timer *timer); /* NULL is fine */

/* ── later in this turn ── */

struct loop_task {
	struct loop_task *next;
	bool queued;
	void (*run)(struct loop_task *task);
};
void loop_defer(struct loop *loop, struct loop_task *task);   /* already queued: nothing */
void loop_undefer(struct loop *loop, struct loop_task *task); /* not queued: nothing */

/* ── work that blocks ── */

struct loop_work {
	void (*work)(struct loop_work *work); /* in a thread */
	void (*done)(struct loop_work *work); /* in the loop; @work may be freed or reused */
	void *owner;
	void *private; /* the loop's, between start and done */
};
/* Cannot be cancelled.  -ENOMEM only. */
int loop_work_start(struct loop *loop, struct loop_work *work);

/* ── signals ── */

struct loop_signal;
int loop_signal_open(struct loop *loop, int number, void (*caught)(void *owner), void *owner,
		     struct loop_signal **out);
void loop_signal_close(struct loop_signal *signal); /* NULL is fine */

#endif
