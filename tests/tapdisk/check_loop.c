/* check_loop.c - the event loop: order of a turn, descriptors, timers, threads, signals, sleep */
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tapdisk/loop/loop-private.h"
#include "tapdisk/loop/loop.h"
#include "tests/lib/alloc-count.h"

#define MS UINT64_C(1000000)

static struct loop *loop;
static char trace[256]; /* what happened, a letter each */

static void note(char c)
{
	size_t n = strlen(trace);

	if (n + 1 < sizeof(trace))
		trace[n] = c;
}

static void setup(void)
{
	memset(trace, 0, sizeof(trace));
	ck_assert_int_eq(loop_open(&loop), 0);
}

static void teardown(void)
{
	loop_close(loop);
}

static void stop(void *owner)
{
	(void)owner;
	loop_stop(loop);
}

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 * MS + (uint64_t)ts.tv_nsec;
}

/* Runs the loop for @ms. */
static void run_for(unsigned ms)
{
	struct loop_timer *t;

	ck_assert_int_eq(loop_timer_open(loop, stop, NULL, &t), 0);
	loop_timer_set(t, ms * MS);
	loop_run(loop);
	loop_timer_close(t);
}

/* ── tasks ── */

static struct loop_task a, b, c, d;

static void run_a(struct loop_task *task)
{
	ck_assert(!task->queued);
	note('a');
	loop_defer(loop, &d);
	loop_undefer(loop, &c);
	loop_defer(loop, &b); /* queued already */
}

static void run_b(struct loop_task *task)
{
	(void)task;
	note('b');
}

static void run_c(struct loop_task *task)
{
	(void)task;
	note('c');
}

static void run_d(struct loop_task *task)
{
	note('d');
	if (strlen(trace) < 6)
		loop_defer(loop, task);
	else
		loop_stop(loop);
}

START_TEST(tasks_run_in_order)
{
	a = (struct loop_task){ .run = run_a };
	b = (struct loop_task){ .run = run_b };
	c = (struct loop_task){ .run = run_c };
	d = (struct loop_task){ .run = run_d };
	loop_undefer(loop, &a);
	loop_defer(loop, &a);
	loop_defer(loop, &b);
	loop_defer(loop, &c);
	loop_run(loop);
	ck_assert_str_eq(trace, "abdddd");
	ck_assert(!c.queued);
	/* the last of the queue taken out: the next goes behind what is left */
	memset(trace, 0, sizeof(trace));
	loop_defer(loop, &b);
	loop_defer(loop, &c);
	loop_undefer(loop, &c);
	loop_defer(loop, &c);
	run_for(1);
	ck_assert_str_eq(trace, "bc");
}
END_TEST

static uint64_t spins;

static void run_spin(struct loop_task *task)
{
	spins++;
	loop_defer(loop, task);
}

static void stop_at_once(void *owner, unsigned events)
{
	(void)owner;
	(void)events;
	loop_stop(loop);
}

START_TEST(endless_tasks_starve_nobody)
{
	struct loop_task spin = { .run = run_spin };

	loop_defer(loop, &spin);
	run_for(20);
	ck_assert_uint_gt(spins, 5000);
	loop_undefer(loop, &spin);
}
END_TEST

/* Work that goes on by putting itself off lets clients in often: they wait for a few pieces of it,
 * not for hundreds. */
START_TEST(descriptors_wait_for_few_tasks)
{
	struct loop_task spin = { .run = run_spin };
	struct loop_fd *watch;
	uint64_t before;
	int s[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s), 0);
	ck_assert_int_eq(loop_fd_open(loop, s[0], stop_at_once, NULL, &watch), 0);
	loop_fd_watch(watch, LOOP_READ);
	loop_defer(loop, &spin);
	before = spins;
	ck_assert_int_eq(write(s[1], "x", 1), 1);
	loop_run(loop);
	ck_assert_uint_lt(spins - before, 64);
	loop_undefer(loop, &spin);
	loop_fd_close(watch);
	close(s[0]);
	close(s[1]);
}
END_TEST

/* ── descriptors ── */

struct end {
	int fd;
	struct loop_fd *watch;
	unsigned got, calls, stop_after;
	bool close;
};

static void ready(void *owner, unsigned events)
{
	struct end *end = owner;

	end->got |= events;
	if (end->close) {
		loop_fd_close(end->watch);
		end->watch = NULL;
	}
	if (++end->calls >= end->stop_after)
		loop_stop(loop);
}

static struct end open_end(int fd, unsigned events)
{
	return (struct end){
		.fd = fd, .got = 0, .calls = 0, .stop_after = 3, .close = events == 0
	};
}

START_TEST(descriptors_are_level)
{
	int s[2];
	struct end end;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s), 0);
	end = open_end(s[0], LOOP_READ);
	ck_assert_int_eq(loop_fd_open(loop, s[0], ready, &end, &end.watch), 0);
	ck_assert_int_eq(write(s[1], "x", 1), 1);
	run_for(5);
	ck_assert_uint_eq(end.calls, 0); /* nothing watched yet */
	loop_fd_watch(end.watch, LOOP_READ);
	loop_run(loop); /* reported until taken */
	ck_assert_uint_eq(end.calls, 3);
	ck_assert_uint_eq(end.got, LOOP_READ);
	loop_fd_watch(end.watch, LOOP_READ | LOOP_WRITE);
	loop_run(loop);
	ck_assert_uint_eq(end.got, LOOP_READ | LOOP_WRITE);
	loop_fd_watch(end.watch, 0);
	end.calls = 0;
	run_for(5);
	ck_assert_uint_eq(end.calls, 0);
	loop_fd_close(end.watch);
	loop_fd_close(NULL);
	close(s[0]);
	close(s[1]);
}
END_TEST

START_TEST(hang_up_is_reported_as_watched)
{
	int p[2], s[2];
	struct end end;

	/* a pipe without reader: error on the writing end, again and again */
	ck_assert_int_eq(pipe(p), 0);
	end = open_end(p[1], LOOP_WRITE);
	ck_assert_int_eq(loop_fd_open(loop, p[1], ready, &end, &end.watch), 0);
	close(p[0]);
	loop_fd_watch(end.watch, LOOP_WRITE);
	loop_run(loop);
	ck_assert_uint_eq(end.calls, 3);
	ck_assert_uint_eq(end.got, LOOP_WRITE);
	loop_fd_close(end.watch);
	close(p[1]);

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s), 0);
	end = open_end(s[0], LOOP_READ);
	ck_assert_int_eq(loop_fd_open(loop, s[0], ready, &end, &end.watch), 0);
	loop_fd_watch(end.watch, LOOP_READ);
	close(s[1]);
	loop_run(loop);
	ck_assert_uint_eq(end.got, LOOP_READ);
	/* not watched: not even a hang-up wakes the loop */
	loop_fd_watch(end.watch, 0);
	end.calls = 0;
	run_for(5);
	ck_assert_uint_eq(end.calls, 0);
	loop_fd_close(end.watch);
	close(s[0]);
}
END_TEST

START_TEST(closed_is_never_called_back)
{
	int s[2], t[2];
	struct end one, two;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, t), 0);
	one = open_end(s[0], 0);
	one.stop_after = 1;
	ck_assert_int_eq(loop_fd_open(loop, s[0], ready, &one, &one.watch), 0);
	loop_fd_watch(one.watch, LOOP_WRITE);
	loop_run(loop);
	run_for(5);
	ck_assert_uint_eq(one.calls, 1);
	close(s[0]);
	/* the number of a closed descriptor is used again at once */
	two = open_end(dup(t[0]), LOOP_WRITE);
	ck_assert_int_eq(loop_fd_open(loop, two.fd, ready, &two, &two.watch), 0);
	loop_fd_watch(two.watch, LOOP_WRITE);
	loop_run(loop);
	ck_assert_uint_eq(two.calls, 3);
	loop_fd_close(two.watch);
	close(two.fd);
	close(s[1]);
	close(t[0]);
	close(t[1]);
}
END_TEST

/* ── timers ── */

static void fire_x(void *owner)
{
	struct loop_timer **t = owner;

	note('x');
	ck_assert(!loop_timer_is_set(*t));
	if (strlen(trace) < 3)
		loop_timer_set(*t, 0);
	else
		loop_stop(loop);
}

START_TEST(timers_fire_once_and_not_early)
{
	struct loop_timer *t;
	uint64_t start, took;

	ck_assert_int_eq(loop_timer_open(loop, fire_x, &t, &t), 0);
	ck_assert(!loop_timer_is_set(t));
	loop_timer_cancel(t);
	(void)loop_now_ns(loop); /* a clock read before the loop runs must not be kept */
	usleep(15000);
	loop_timer_set(t, 500 * MS);
	loop_timer_set(t, 10 * MS);
	ck_assert(loop_timer_is_set(t));
	start = clock_ns();
	loop_run(loop);
	took = clock_ns() - start;
	ck_assert_str_eq(trace, "xxx");
	ck_assert_uint_ge(took, 9 * MS);
	ck_assert_uint_lt(took, 400 * MS);
	loop_timer_set(t, 2 * MS);
	loop_timer_cancel(t);
	loop_timer_set(t, UINT64_MAX);
	ck_assert(loop_timer_is_set(t));
	run_for(10);
	ck_assert_str_eq(trace, "xxx");
	loop_timer_close(t);
	loop_timer_close(NULL);
}
END_TEST

/* ── work ── */

struct job {
	struct loop_work work;
	pthread_t thread;
	unsigned again;
};
static unsigned running_jobs, wrong; /* asserting allocates */

static void in_thread(struct loop_work *work)
{
	struct job *job = work->owner;

	job->thread = pthread_self();
	usleep(1000);
}

static void in_loop(struct loop_work *work)
{
	struct job *job = work->owner;

	wrong += pthread_equal(job->thread, pthread_self()) != 0;
	if (job->again) {
		job->again--;
		wrong += loop_work_start(loop, work) != 0; /* reused from done() */
		return;
	}
	if (--running_jobs == 0)
		loop_stop(loop);
}

static void run_jobs(struct job *jobs, unsigned count)
{
	running_jobs = count;
	for (unsigned i = 0; i < count; i++) {
		jobs[i] = (struct job){ .again = 2 };
		jobs[i].work =
			(struct loop_work){ .work = in_thread, .done = in_loop, .owner = &jobs[i] };
		wrong += loop_work_start(loop, &jobs[i].work) != 0;
	}
	loop_run(loop);
}

START_TEST(work_runs_in_threads)
{
	struct job jobs[20];
	uint64_t before;

	run_jobs(jobs, 20);
	before = alloc_count();
	run_jobs(jobs, 20);
	ck_assert_uint_eq(alloc_count(), before);
	ck_assert_uint_eq(wrong, 0);
}
END_TEST

/* ── signals ── */

START_TEST(signals_arrive)
{
	struct loop_signal *s;

	ck_assert_int_eq(loop_signal_open(loop, SIGUSR1, stop, NULL, &s), 0);
	raise(SIGUSR1);
	loop_run(loop);
	loop_signal_close(s);
	loop_signal_close(NULL);
	ck_assert_int_lt(loop_signal_open(loop, 4711, stop, NULL, &s), 0);
}
END_TEST

/* ── sleep ── */

START_TEST(idle_does_not_wake)
{
	struct rusage before, after;
	struct loop_timer *t;
	struct loop_task task = { .run = run_b };
	struct end end;
	int s[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s), 0);
	end = open_end(s[0], LOOP_READ);
	ck_assert_int_eq(loop_fd_open(loop, s[0], ready, &end, &end.watch), 0);
	ck_assert_int_eq(loop_timer_open(loop, stop, NULL, &t), 0);
	loop_fd_watch(end.watch, LOOP_READ);
	loop_defer(loop, &task);
	run_for(5);
	getrusage(RUSAGE_THREAD, &before);
	run_for(300);
	getrusage(RUSAGE_THREAD, &after);
	ck_assert_int_le(after.ru_nvcsw - before.ru_nvcsw, 3);
	loop_timer_close(t);
	loop_fd_close(end.watch);
	close(s[0]);
	close(s[1]);
}
END_TEST

/* ── events that are near ── */

struct echo {
	int fd;
	unsigned left;
};

static void *echo_in_thread(void *arg)
{
	const struct timespec later = { .tv_nsec = 200 * 1000 }; /* the loop has gone to sleep */
	int fd = *(int *)arg;
	char byte;

	while (read(fd, &byte, 1) == 1 && nanosleep(&later, NULL) == 0 && write(fd, &byte, 1) == 1)
		;
	return NULL;
}

static void echo_ready(void *owner, unsigned events)
{
	struct echo *echo = owner;
	char byte;

	(void)events;
	if (read(echo->fd, &byte, 1) != 1)
		return;
	if (echo->left-- == 0) {
		loop_stop(loop);
		return;
	}
	ck_assert_int_eq(write(echo->fd, &byte, 1), 1);
	loop_expect(loop);
}

/* Bytes go to a thread and come back; returns how often the loop slept meanwhile. */
static long echo_sleeps(unsigned count)
{
	struct rusage before, after;
	struct echo echo = { .left = count };
	struct loop_fd *watch;
	pthread_t thread;
	int s[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, echo_in_thread, &s[1]), 0);
	echo.fd = s[0];
	ck_assert_int_eq(loop_fd_open(loop, s[0], echo_ready, &echo, &watch), 0);
	loop_fd_watch(watch, LOOP_READ);
	getrusage(RUSAGE_THREAD, &before);
	ck_assert_int_eq(write(s[0], "x", 1), 1);
	loop_run(loop);
	getrusage(RUSAGE_THREAD, &after);
	loop_fd_close(watch);
	close(s[0]);
	pthread_join(thread, NULL);
	close(s[1]);
	return after.ru_nvcsw - before.ru_nvcsw;
}

START_TEST(events_that_are_near_are_looked_for)
{
	struct rusage before, after;
	long sleeps, looking;

	sleeps = echo_sleeps(500);
	ck_assert_int_gt(sleeps, 250); /* so it is without */
	loop_spin(loop, 10 * MS);      /* long enough for a machine that does other things */
	loop->spin.way = SPIN_LOOKS;   /* as if that had been found to pay */
	looking = echo_sleeps(500);
	ck_assert_int_lt(looking, sleeps / 4);
	/* what does not come is not looked for for ever */
	loop_expect(loop);
	getrusage(RUSAGE_THREAD, &before);
	run_for(300);
	getrusage(RUSAGE_THREAD, &after);
	ck_assert_int_le(after.ru_nvcsw - before.ru_nvcsw, 3);
	ck_assert_int_lt((after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 +
				 after.ru_utime.tv_usec - before.ru_utime.tv_usec,
			 100000);
}
END_TEST

START_TEST(a_turn_does_not_allocate)
{
	struct loop_timer *t;
	struct end end;
	uint64_t before;
	int s[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s), 0);
	end = open_end(s[0], LOOP_READ);
	end.stop_after = 1;
	before = alloc_count();
	ck_assert_int_eq(loop_fd_open(loop, s[0], ready, &end, &end.watch), 0);
	ck_assert_int_eq(loop_timer_open(loop, stop, NULL, &t), 0);
	if (ALLOC_COUNTED)
		ck_assert_uint_gt(alloc_count(), before); /* it does count */
	before = alloc_count();
	for (int i = 0; i < 50; i++) {
		a = (struct loop_task){ .run = run_b };
		loop_defer(loop, &a);
		loop_fd_watch(end.watch, i % 2 ? LOOP_READ | LOOP_WRITE : LOOP_WRITE);
		loop_timer_set(t, MS);
		loop_run(loop);
	}
	ck_assert_uint_eq(alloc_count(), before);
	ck_assert_uint_gt(end.calls, 0);
	loop_timer_close(t);
	loop_fd_close(end.watch);
	close(s[0]);
	close(s[1]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("loop");
	TCase *tc = tcase_create("loop");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, tasks_run_in_order);
	tcase_add_test(tc, endless_tasks_starve_nobody);
	tcase_add_test(tc, descriptors_wait_for_few_tasks);
	tcase_add_test(tc, descriptors_are_level);
	tcase_add_test(tc, hang_up_is_reported_as_watched);
	tcase_add_test(tc, closed_is_never_called_back);
	tcase_add_test(tc, timers_fire_once_and_not_early);
	tcase_add_test(tc, work_runs_in_threads);
	tcase_add_test(tc, signals_arrive);
	tcase_add_test(tc, idle_does_not_wake);
	tcase_add_test(tc, events_that_are_near_are_looked_for);
	tcase_add_test(tc, a_turn_does_not_allocate);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
