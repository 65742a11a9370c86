/* check_retry.c - transient errors wait, with patience, back-off, abort
 *
 * The store that fails: /proc/self/mem, where the process has mapped a file that is too short.
 * Reading and writing it give EIO; a longer file repairs it.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "tapdisk/engine/retry.h"
#include "tests/lib/suite.h"

#define MS    UINT64_C(1000000)
#define PLACE 65536u
#define IOS   20

static struct loop *loop;
static struct engine *engine;
static struct engine_file *file;
static struct retry *retry;
static uint8_t *place;
static int mem_fd, place_fd;
static struct engine_io ios[IOS];
static unsigned done_count, stop_at, errors[2], stall_calls, stall_ends;
static int last_err, stall_err;
static bool inside, called_inside; /* a call of ours */

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 * MS + (uint64_t)ts.tv_nsec;
}

static void stalled(void *owner, int err)
{
	ck_assert_ptr_eq(owner, ios);
	if (err) {
		stall_calls++;
		stall_err = err;
	} else {
		stall_ends++;
	}
}

static void done(struct engine_io *io)
{
	called_inside |= inside;
	last_err = io->err;
	errors[io->err != 0]++;
	if (++done_count == stop_at)
		loop_stop(loop);
}

static void spoil(void)
{
	ck_assert_int_eq(ftruncate(place_fd, 0), 0);
}

static void repair(void)
{
	ck_assert_int_eq(ftruncate(place_fd, PLACE), 0);
	memset(place, 0x5a, PLACE);
}

static void open_all(uint64_t time_ns)
{
	struct retry_params params = { .time_ns = time_ns, .stalled = stalled, .owner = ios };
	struct engine_file_params fp = { .buffered_fd = -1, .writable = true };

	place_fd = memfd_create("place", MFD_CLOEXEC);
	ck_assert_int_ge(place_fd, 0);
	place = mmap(NULL, PLACE, PROT_READ | PROT_WRITE, MAP_SHARED, place_fd, 0);
	ck_assert_ptr_ne(place, MAP_FAILED);
	fp.fd = mem_fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(mem_fd, 0);
	ck_assert_int_eq(loop_open(&loop), 0);
	ck_assert_int_eq(engine_open(loop, ENGINE_THREADS, 32, &engine), 0);
	ck_assert_int_eq(engine_file_open(engine, &fp, &file), 0);
	ck_assert_int_eq(retry_open(loop, engine, &params, &retry), 0);
	done_count = stop_at = errors[0] = errors[1] = stall_calls = stall_ends = 0;
	last_err = stall_err = 0;
	called_inside = inside = false;
}

static void close_all(void)
{
	retry_close(retry);
	retry_close(NULL);
	engine_file_close(file);
	engine_close(engine);
	loop_close(loop);
	close(mem_fd);
	munmap(place, PLACE);
	close(place_fd);
	ck_assert(!called_inside);
}

static unsigned epoch; /* what operations carry */
static uint64_t failing_ns;

static void submit(unsigned i, enum engine_op op)
{
	static uint8_t bufs[IOS][512];

	memset(&ios[i], 0xee, sizeof(ios[i]));
	ios[i].file = file;
	ios[i].op = op;
	/* apart from each other, so that none are merged */
	ios[i].offset = (uintptr_t)place + i * 1024u;
	ios[i].length = sizeof(bufs[i]);
	ios[i].buf = bufs[i];
	ios[i].retry = retry;
	ios[i].retry_epoch = epoch;
	ios[i].failing_ns = failing_ns;
	ios[i].done = done;
	engine_submit(engine, &ios[i]);
}

static void submit_all(void)
{
	for (unsigned i = 0; i < IOS; i++)
		submit(i, i % 2 ? ENGINE_WRITE : ENGINE_READ);
}

static void stop(void *owner)
{
	(void)owner;
	loop_stop(loop);
}

static void run_for(unsigned ms)
{
	struct loop_timer *t;

	ck_assert_int_eq(loop_timer_open(loop, stop, NULL, &t), 0);
	loop_timer_set(t, ms * MS);
	stop_at = 0;
	loop_run(loop);
	loop_timer_close(t);
}

/* Until @count are done in all. */
static void run_until(unsigned count)
{
	stop_at = count;
	if (done_count < count)
		loop_run(loop);
	ck_assert_uint_eq(done_count, count);
}

START_TEST(which_are_transient)
{
	static const int yes[] = { EIO,		ENOSPC,	  EDQUOT,	ESTALE, ETIMEDOUT,
				   ENETUNREACH, ENETDOWN, EHOSTUNREACH, EAGAIN, EINTR,
				   EBUSY,	ENOMEM,	  ECONNRESET,	ENOLINK };
	static const int no[] = { 0,	 EFBIG,	 EINVAL, EBADF,	    ENOSYS, EOPNOTSUPP,
				  EROFS, EACCES, EFAULT, ECANCELED, EPERM };

	for (unsigned i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		ck_assert(retry_is_transient(-yes[i]) && retry_is_transient(yes[i]));
	for (unsigned i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		ck_assert(!retry_is_transient(-no[i]));
	ck_assert(!retry_is_transient(-100000)); /* an image's error */
}
END_TEST

START_TEST(wait_and_get_through)
{
	uint8_t expected[512];

	open_all(RETRY_FOREVER);
	submit_all();
	run_for(60);
	ck_assert_uint_eq(done_count, 0);
	ck_assert_uint_eq(stall_calls, 1);
	ck_assert_int_eq(stall_err, -EIO);
	ck_assert_int_eq(retry_reason(retry), -EIO);
	ck_assert_uint_eq(retry_waiting(retry), IOS);
	ck_assert_uint_ge(retry_count(retry), IOS);
	repair();
	run_until(IOS);
	ck_assert_uint_eq(errors[0], IOS);
	ck_assert_uint_eq(stall_calls, 1);
	ck_assert_uint_eq(stall_ends, 1);
	ck_assert_int_eq(retry_reason(retry), 0);
	ck_assert_uint_eq(retry_waiting(retry), 0);
	memset(expected, 0x5a, sizeof(expected));
	ck_assert_int_eq(memcmp(ios[0].buf, expected, sizeof(expected)), 0);
	ck_assert_ptr_eq(ios[0].done, done); /* the caller's again */
	/* and once more */
	spoil();
	submit(1, ENGINE_WRITE);
	run_for(20);
	ck_assert_uint_eq(stall_calls, 2);
	repair();
	run_until(IOS + 1);
	ck_assert_uint_eq(stall_ends, 2);
	ck_assert_int_eq(last_err, 0);
	close_all();
}
END_TEST

START_TEST(patience_ends)
{
	uint64_t start, took;

	open_all(150 * MS);
	start = clock_ns();
	submit_all();
	run_until(IOS);
	took = clock_ns() - start;
	ck_assert_uint_eq(errors[1], IOS);
	ck_assert_int_eq(last_err, -EIO);
	ck_assert_uint_ge(took, 150 * MS);
	ck_assert_uint_lt(took, 1000 * MS);
	ck_assert_uint_eq(stall_calls, 1);
	ck_assert_uint_eq(stall_ends, 1);
	/* none at all */
	retry_set_time(retry, 0);
	submit(0, ENGINE_READ);
	run_until(IOS + 1);
	ck_assert_int_eq(last_err, -EIO);
	ck_assert_uint_eq(stall_calls, 1);
	/* shortened while it waits */
	retry_set_time(retry, RETRY_FOREVER);
	submit(0, ENGINE_READ);
	run_for(100);
	ck_assert_uint_eq(retry_waiting(retry), 1);
	start = clock_ns();
	retry_set_time(retry, 50 * MS);
	run_until(IOS + 2);
	ck_assert_uint_lt(clock_ns() - start, 500 * MS);
	ck_assert_int_eq(last_err, -EIO);
	close_all();
}
END_TEST

START_TEST(back_off_doubles)
{
	uint64_t start;

	open_all(RETRY_FOREVER);
	submit(0, ENGINE_READ);
	run_for(750); /* tried after 10, 30, 70, 150, 310, 630 ms */
	ck_assert_uint_ge(retry_count(retry), 4);
	ck_assert_uint_le(retry_count(retry), 6);
	/* the next is due in half a second: at once when told so */
	repair();
	start = clock_ns();
	retry_now(retry);
	run_until(1);
	ck_assert_uint_lt(clock_ns() - start, 300 * MS);
	ck_assert_int_eq(last_err, 0);
	close_all();
}
END_TEST

START_TEST(abort_cancels)
{
	open_all(RETRY_FOREVER);
	submit_all();
	run_for(20);
	inside = true;
	retry_abort(retry);
	inside = false;
	run_until(IOS);
	ck_assert_int_eq(last_err, -ECANCELED);
	ck_assert_uint_eq(errors[1], IOS);
	ck_assert_uint_eq(stall_ends, 1);
	ck_assert_uint_eq(retry_waiting(retry), 0);
	submit(0, ENGINE_WRITE); /* would begin to wait */
	run_until(IOS + 1);
	ck_assert_int_eq(last_err, -ECANCELED);
	retry_resume(retry);
	submit(0, ENGINE_WRITE);
	run_for(30);
	ck_assert_uint_eq(retry_waiting(retry), 1);
	/* aborted while it is being tried */
	inside = true;
	retry_now(retry);
	retry_abort(retry);
	inside = false;
	run_until(IOS + 2);
	ck_assert_int_eq(last_err, -ECANCELED);
	close_all();
}
END_TEST

/* One that was submitted before an abort and fails after the retry was resumed. */
START_TEST(abort_is_remembered)
{
	open_all(RETRY_FOREVER);
	epoch = retry_epoch(retry);
	submit(0, ENGINE_WRITE);
	ck_assert(!retry_is_aborted(retry));
	retry_abort(retry);
	ck_assert(retry_is_aborted(retry));
	retry_resume(retry);
	run_until(1);
	ck_assert_int_eq(last_err, -ECANCELED);
	epoch = retry_epoch(retry);
	submit(0, ENGINE_WRITE);
	run_for(30);
	ck_assert_uint_eq(retry_waiting(retry), 1);
	epoch = 0;
	retry_abort(retry);
	run_until(2);
	close_all();
}
END_TEST

START_TEST(syncs_are_not_tried_again)
{
	struct engine_io io = { .op = ENGINE_SYNC };

	open_all(RETRY_FOREVER);
	io.retry = retry;
	io.done = done;
	ck_assert(!retry_hold(retry, &io, -EIO)); /* ORDER 5 */
	io.op = ENGINE_WRITE;
	ck_assert(!retry_hold(retry, &io, -EFBIG));
	ck_assert_uint_eq(retry_waiting(retry), 0);
	close_all();
}
END_TEST

START_TEST(nothing_waits_nothing_wakes)
{
	struct rusage before, after;

	open_all(RETRY_FOREVER);
	submit_all();
	run_for(30);
	repair();
	run_until(IOS);
	getrusage(RUSAGE_THREAD, &before);
	run_for(200);
	getrusage(RUSAGE_THREAD, &after);
	ck_assert_int_le(after.ru_nvcsw - before.ru_nvcsw, 3);
	close_all();
}
END_TEST

/* What was cancelled and comes again has its patience used up as far as it was, others have all of it. */
START_TEST(failing_already)
{
	open_all(500 * MS);
	spoil();
	failing_ns = clock_ns() - 400 * MS;
	submit(0, ENGINE_READ);
	failing_ns = 0;
	submit(1, ENGINE_READ);
	run_until(1);
	ck_assert_int_eq(ios[0].err, -EIO);
	ck_assert_uint_le(clock_ns() - ios[1].since_ns, 400 * MS);
	repair();
	run_until(2);
	ck_assert_int_eq(ios[1].err, 0);
	close_all();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { which_are_transient,
				       wait_and_get_through,
				       patience_ends,
				       back_off_doubles,
				       abort_cancels,
				       abort_is_remembered,
				       syncs_are_not_tried_again,
				       nothing_waits_nothing_wakes,
				       failing_already,
				       NULL };

	return suite_run("retry", tests);
}
