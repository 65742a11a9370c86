/* check_engine_sync.c - syncs of one file: one at a time, shared by those that wait, failures too
 * (ORDER 5).  fdatasync is ours here: it waits, fails and counts as told. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "tapdisk/engine/engine.h"
#include "tests/lib/suite.h"

#define COUNT 5u

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t change = PTHREAD_COND_INITIALIZER;
static bool closed; /* who comes waits */
static unsigned calls, inside;
static int answer; /* errno, or 0 */

int fdatasync(int fd)
{
	int err;

	(void)fd;
	pthread_mutex_lock(&mutex);
	calls++;
	inside++;
	pthread_cond_broadcast(&change);
	while (closed)
		pthread_cond_wait(&change, &mutex);
	inside--;
	err = answer;
	answer = 0;
	pthread_mutex_unlock(&mutex);
	errno = err;
	return err ? -1 : 0;
}

static struct loop *loop;
static struct engine *engine;
static struct engine_file *files[2];
static struct engine_io ios[COUNT];
static unsigned pending;
static int fds[2];

static void done(struct engine_io *io)
{
	(void)io;
	if (--pending == 0)
		loop_stop(loop);
}

static void open_all(void)
{
	ck_assert_int_eq(loop_open(&loop), 0);
	ck_assert_int_eq(engine_open(loop, ENGINE_THREADS, 8, &engine), 0);
	for (unsigned i = 0; i < 2; i++) {
		char path[] = "/tmp/check_engine_sync.XXXXXX";
		struct engine_file_params params = { .buffered_fd = -1, .writable = true };

		fds[i] = mkstemp(path);
		ck_assert_int_ge(fds[i], 0);
		unlink(path);
		params.fd = fds[i];
		ck_assert_int_eq(engine_file_open(engine, &params, &files[i]), 0);
	}
	calls = inside = 0;
	closed = false;
	answer = 0;
}

static void close_all(void)
{
	for (unsigned i = 0; i < 2; i++) {
		engine_file_close(files[i]);
		close(fds[i]);
	}
	engine_close(engine);
	loop_close(loop);
}

static void submit(unsigned i, struct engine_file *file)
{
	ios[i] = (struct engine_io){ .file = file, .op = ENGINE_SYNC, .done = done, .err = 1 };
	pending++;
	engine_submit(engine, &ios[i]);
}

static void let_in(void)
{
	pthread_mutex_lock(&mutex);
	closed = false;
	pthread_cond_broadcast(&change);
	pthread_mutex_unlock(&mutex);
}

static void at_the_gate(void *owner)
{
	/* the first is inside by now, and its others have come */
	pthread_mutex_lock(&mutex);
	while (inside < *(unsigned *)owner)
		pthread_cond_wait(&change, &mutex);
	pthread_mutex_unlock(&mutex);
	let_in();
}

/* Run until all are done; the gate opens once @want calls wait at it. */
static void run(unsigned want)
{
	struct loop_timer *timer;

	closed = true;
	ck_assert_int_eq(loop_timer_open(loop, at_the_gate, &want, &timer), 0);
	loop_timer_set(timer, 20000000);
	loop_run(loop);
	loop_timer_close(timer);
	ck_assert_uint_eq(pending, 0);
}

START_TEST(those_that_wait_share_one)
{
	open_all();
	for (unsigned i = 0; i < COUNT; i++)
		submit(i, files[0]);
	run(1);
	for (unsigned i = 0; i < COUNT; i++)
		ck_assert_int_eq(ios[i].err, 0);
	ck_assert_uint_eq(calls, 2);
	close_all();
}
END_TEST

START_TEST(a_failure_is_everybodys)
{
	open_all();
	answer = EIO;
	for (unsigned i = 0; i < COUNT; i++)
		submit(i, files[0]);
	run(1);
	for (unsigned i = 0; i < COUNT; i++)
		ck_assert_int_eq(ios[i].err, -EIO);
	ck_assert_uint_eq(calls, 1);
	/* the next one is about what comes after it */
	submit(0, files[0]);
	run(1);
	ck_assert_int_eq(ios[0].err, 0);
	close_all();
}
END_TEST

START_TEST(files_are_their_own)
{
	open_all();
	submit(0, files[0]);
	submit(1, files[1]);
	run(2);
	ck_assert_int_eq(ios[0].err, 0);
	ck_assert_int_eq(ios[1].err, 0);
	close_all();
}
END_TEST

/* It would be tried again, and succeed. */
START_TEST(nobody_cancels_a_sync)
{
	open_all();
	answer = ECANCELED;
	submit(0, files[0]);
	run(1);
	ck_assert_int_eq(ios[0].err, -EIO);
	close_all();
}
END_TEST

int main(void)
{
	const TTest *tests[] = { those_that_wait_share_one, a_failure_is_everybodys,
				 files_are_their_own, nobody_cancels_a_sync, NULL };

	return suite_run("engine sync", tests);
}
