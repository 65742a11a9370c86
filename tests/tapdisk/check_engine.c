/* check_engine.c - what every back end promises beside the right bytes: merging, errors one by
 * one, full queues, waiting for space, no allocation, no wake-ups */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tapdisk/engine/engine.h"
#include "tapdisk/engine/retry.h"
#include "tests/lib/alloc-count.h"

#define MS    UINT64_C(1000000)
#define COUNT 300u
#define PAGE  4096u

static const enum engine_kind kinds[] = { ENGINE_URING, ENGINE_AIO, ENGINE_THREADS, ENGINE_AUTO };
#define KINDS (int)(sizeof(kinds) / sizeof(kinds[0]))

static struct loop *loop;
static struct engine *engine;
static struct engine_file *file;
static struct engine_io ios[COUNT];
static uint8_t *memory; /* COUNT pages */
static char path[64], mounted[64];
static int fd = -1;
static unsigned pending;
static uint64_t resubmit; /* done() goes on this often */
static bool in_submit, called_in_submit;

static void done(struct engine_io *io)
{
	called_in_submit |= in_submit;
	if (resubmit) {
		resubmit--;
		io->op = io->op == ENGINE_READ ? ENGINE_WRITE : ENGINE_READ;
		engine_submit(engine, io);
		return;
	}
	if (--pending == 0)
		loop_stop(loop);
}

static void open_all(enum engine_kind kind, const char *folder, int flags, unsigned depth)
{
	struct engine_file_params params = { .buffered_fd = -1, .writable = true };

	snprintf(path, sizeof(path), "%s/check_engine.XXXXXX", folder);
	close(mkstemp(path));
	fd = params.fd = open(path, O_RDWR | O_CLOEXEC | flags);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(loop_open(&loop), 0);
	ck_assert_int_eq(engine_open(loop, kind, depth, &engine), 0);
	ck_assert_int_eq(engine_file_open(engine, &params, &file), 0);
	called_in_submit = false;
}

static void close_all(void)
{
	engine_file_close(file);
	engine_close(engine);
	loop_close(loop);
	engine = NULL;
	ck_assert(!called_in_submit);
}

/* After failures too. */
static void remove_files(void)
{
	if (fd >= 0)
		close(fd);
	fd = -1;
	if (path[0])
		unlink(path);
	path[0] = 0;
	if (mounted[0]) {
		umount2(mounted, MNT_DETACH);
		rmdir(mounted);
	}
	mounted[0] = 0;
}

static void add(enum engine_op op, uint64_t offset, uint64_t length, void *buf)
{
	struct engine_io *io = &ios[pending++];

	memset(io, 0, sizeof(*io));
	io->file = file;
	io->op = op;
	io->offset = offset;
	io->length = length;
	io->buf = buf;
	io->done = done;
	in_submit = true;
	engine_submit(engine, io);
	in_submit = false;
}

static void fill(unsigned pages)
{
	for (size_t i = 0; i < (size_t)pages * PAGE; i++)
		memory[i] = (uint8_t)(i / PAGE * 7 + i % 253);
}

static void check_file(unsigned pages)
{
	uint8_t *back = malloc((size_t)pages * PAGE);
	int plain = open(path, O_RDONLY);

	ck_assert_int_eq(pread(plain, back, (size_t)pages * PAGE, 0), (ssize_t)pages * PAGE);
	ck_assert_int_eq(memcmp(back, memory, (size_t)pages * PAGE), 0);
	close(plain);
	free(back);
}

/* ── merging ── */

static unsigned long write_calls(void)
{
	unsigned long n = 0;
	char line[128];
	FILE *f = fopen("/proc/self/io", "r");

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "syscw: %lu", &n) == 1)
			break;
	fclose(f);
	return n;
}

START_TEST(neighbours_become_one)
{
	unsigned long calls, own;
	unsigned i;

	open_all(ENGINE_THREADS, "/var/tmp", O_DIRECT, 64);
	fill(128);
	/* threads wake the loop by a write: measure that with operations that write nothing */
	own = write_calls();
	add(ENGINE_READ, 0, PAGE, memory + 200 * PAGE);
	loop_run(loop);
	own = write_calls() - own;
	calls = write_calls();
	/* two streams that alternate, of scattered memory: 256 KiB is the most for 64 vectors */
	for (i = 0; i < 64; i++) {
		add(ENGINE_WRITE, (uint64_t)i * PAGE, PAGE, memory + (size_t)i * PAGE);
		add(ENGINE_WRITE, (uint64_t)(64 + i) * PAGE, PAGE,
		    memory + (size_t)(64 + i) * PAGE);
	}
	loop_run(loop);
	calls = write_calls() - calls;
	ck_assert_uint_ge(calls, 2);
	ck_assert_uint_le(calls, 2 + 4 * own); /* and not 128 */
	for (i = 0; i < 128; i++)
		ck_assert_int_eq(ios[i].err, 0);
	check_file(128);
	close_all();
}
END_TEST

START_TEST(errors_one_by_one)
{
	struct rlimit old, limit;
	unsigned i;

	open_all(kinds[_i], "/var/tmp", 0, 64);
	fill(16);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = 5 * PAGE + 512;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	/* merged into one, of which only a part can be done */
	for (i = 0; i < 8; i++)
		add(ENGINE_WRITE, (uint64_t)i * PAGE, PAGE, memory + (size_t)i * PAGE);
	loop_run(loop);
	setrlimit(RLIMIT_FSIZE, &old);
	for (i = 0; i < 8; i++)
		ck_assert_int_eq(ios[i].err, i < 5 ? 0 : -EFBIG);
	check_file(5);
	close_all();
}
END_TEST

START_TEST(bad_descriptor)
{
	int null = open("/dev/null", O_RDONLY);

	open_all(kinds[_i], "/var/tmp", O_DIRECT, 4);
	dup3(null, fd, O_CLOEXEC); /* cannot be written any more */
	for (unsigned i = 0; i < 10; i++)
		add(ENGINE_WRITE, (uint64_t)i * PAGE, PAGE, memory);
	loop_run(loop);
	for (unsigned i = 0; i < 10; i++)
		ck_assert_int_eq(ios[i].err, -EBADF);
	close(null);
	close_all();
}
END_TEST

/* ── queues ── */

START_TEST(more_than_fit)
{
	unsigned i;

	open_all(kinds[_i], "/var/tmp", O_DIRECT, 3);
	fill(COUNT);
	/* aligned or not, through three transfers and 32 steps */
	for (i = 0; i < COUNT - 1; i++)
		add(ENGINE_WRITE, (uint64_t)i * PAGE + (i % 2 ? 17 : 0), i % 2 ? PAGE - 17 : PAGE,
		    memory + (size_t)i * PAGE + (i % 2 ? 17 : 0));
	loop_run(loop);
	for (i = 0; i < COUNT - 1; i++)
		ck_assert_int_eq(ios[i].err, 0);
	for (i = 1; i < COUNT - 1; i += 2)
		add(ENGINE_WRITE, (uint64_t)i * PAGE, 17, memory + (size_t)i * PAGE);
	add(ENGINE_SYNC, 0, 0, NULL);
	loop_run(loop);
	check_file(COUNT - 1);
	close_all();
}
END_TEST

START_TEST(odd_requests)
{
	static const enum engine_op ops[] = { ENGINE_READ, ENGINE_WRITE, ENGINE_PUNCH,
					      ENGINE_ZERO };
	struct stat st;

	open_all(kinds[_i], "/var/tmp", O_DIRECT, 16);
	for (unsigned i = 0; i < 4; i++)
		add(ops[i], 123, 0, NULL);	   /* nothing */
	add(ENGINE_PUNCH, 1 << 20, 1 << 20, NULL); /* behind the end */
	add(ENGINE_ZERO, 1 << 20, 777, NULL);
	add(ENGINE_SYNC, 0, 0, NULL);
	loop_run(loop);
	for (unsigned i = 0; i < 7; i++)
		ck_assert_int_eq(ios[i].err, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, 0);
	close_all();
}
END_TEST

/* ── space ── */

START_TEST(punching_gives_space_back)
{
	struct stat st;

	open_all(kinds[_i], _i % 2 ? "/var/tmp" : "/dev/shm", O_DIRECT, 16);
	fill(COUNT);
	for (unsigned i = 0; i < COUNT; i++)
		add(ENGINE_WRITE, (uint64_t)i * PAGE, PAGE, memory + (size_t)i * PAGE);
	loop_run(loop);
	add(ENGINE_PUNCH, 100, (COUNT - 1) * PAGE, NULL);
	add(ENGINE_SYNC, 0, 0, NULL);
	loop_run(loop);
	memset(memory + 100, 0, (COUNT - 1) * PAGE);
	check_file(COUNT);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_le(st.st_blocks, 64);
	/* zeroed space is there, whether the file system can do that or we write */
	add(ENGINE_ZERO, 0, COUNT * PAGE, NULL);
	loop_run(loop);
	memset(memory, 0, COUNT * PAGE);
	check_file(COUNT);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_ge(st.st_blocks, COUNT * PAGE / 512);
	close_all();
}
END_TEST

static void grow(void *owner)
{
	(void)owner;
	mount("none", mounted, "tmpfs", MS_REMOUNT, "size=4m");
}

START_TEST(full_disk_waits_for_space)
{
	struct retry_params params = { .time_ns = RETRY_FOREVER };
	struct loop_timer *timer;
	struct retry *retry;
	unsigned i;

	snprintf(mounted, sizeof(mounted), "/tmp/check_engine.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(mounted));
	if (mount("none", mounted, "tmpfs", 0, "size=64k") != 0) {
		fprintf(stderr, "cannot mount: not tried\n");
		rmdir(mounted);
		mounted[0] = 0;
		return;
	}
	open_all(kinds[_i], mounted, O_DIRECT, 16);
	ck_assert_int_eq(retry_open(loop, engine, &params, &retry), 0);
	ck_assert_int_eq(loop_timer_open(loop, grow, NULL, &timer), 0);
	fill(100);
	for (i = 0; i < 100; i++) {
		add(ENGINE_WRITE, (uint64_t)i * PAGE, PAGE, memory + (size_t)i * PAGE);
		ios[i].retry = retry;
		ios[i].retry_epoch = 0;
	}
	loop_timer_set(timer, 40 * MS);
	loop_run(loop);
	for (i = 0; i < 100; i++)
		ck_assert_int_eq(ios[i].err, 0);
	ck_assert_uint_gt(retry_count(retry), 80);
	ck_assert_int_eq(retry_reason(retry), 0);
	check_file(100);
	loop_timer_close(timer);
	retry_close(retry);
	close_all();
}
END_TEST

/* ── cost ── */

static void steady(uint64_t rounds)
{
	resubmit = rounds;
	for (unsigned i = 0; i < 32; i++)
		add(ENGINE_READ, (uint64_t)i * 3 * PAGE + (i % 8 == 7 ? 1 : 0), PAGE,
		    memory + (size_t)i * PAGE);
	add(ENGINE_SYNC, 0, 0, NULL);
	ios[32].done = done;
	loop_run(loop);
}

START_TEST(steady_state_allocates_nothing)
{
	uint64_t before;

	open_all(kinds[_i], _i == 3 ? "/dev/shm" : "/var/tmp", O_DIRECT, 16);
	fill(COUNT);
	add(ENGINE_WRITE, 0, COUNT * PAGE, memory);
	loop_run(loop);
	steady(400);
	before = alloc_count();
	steady(1000);
	ck_assert_uint_eq(alloc_count(), before);
	for (unsigned i = 0; i < 32; i++)
		ck_assert_int_eq(ios[i].err, 0);
	close_all();
}
END_TEST

static void stop(void *owner)
{
	(void)owner;
	loop_stop(loop);
}

START_TEST(idle_does_not_wake)
{
	struct rusage before, after;
	struct loop_timer *timer;

	open_all(kinds[_i], "/var/tmp", O_DIRECT, 16);
	fill(8);
	for (unsigned i = 0; i < 8; i++)
		add(ENGINE_WRITE, (uint64_t)i * 2 * PAGE, PAGE, memory);
	loop_run(loop);
	ck_assert_int_eq(loop_timer_open(loop, stop, NULL, &timer), 0);
	loop_timer_set(timer, 20 * MS);
	loop_run(loop);
	getrusage(RUSAGE_THREAD, &before);
	loop_timer_set(timer, 200 * MS);
	loop_run(loop);
	getrusage(RUSAGE_THREAD, &after);
	ck_assert_int_le(after.ru_nvcsw - before.ru_nvcsw, 3);
	loop_timer_close(timer);
	close_all();
}
END_TEST

START_TEST(names)
{
	static const char *const expected[] = { "io_uring", "libaio", "threads", "io_uring" };

	open_all(kinds[_i], "/var/tmp", O_DIRECT, 16);
	ck_assert_str_eq(engine_name(engine), expected[_i]);
	ck_assert_uint_ge(engine_file_align(file), 512);
	engine_close(NULL);
	engine_file_close(NULL);
	close_all();
}
END_TEST

/* In a child: no io_uring, and, if @aio_too, no libaio.  Exit status 0 if AUTO opens @name. */
static int auto_opens(bool aio_too, const char *name)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, aio_too ? SYS_io_setup : SYS_io_uring_setup, 1,
			 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };
	struct loop *l;
	struct engine *e;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		return 77;
	if (loop_open(&l) < 0 || engine_open(l, ENGINE_AUTO, 8, &e) < 0)
		return 1;
	if (strcmp(engine_name(e), name) != 0)
		return 2;
	engine_close(e);
	if (engine_open(l, ENGINE_URING, 8, &e) != -EPERM) /* asked for by name: refused */
		return 3;
	loop_close(l);
	return 0;
}

START_TEST(auto_takes_what_is_allowed)
{
	int status;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		_exit(auto_opens(_i, _i ? "threads" : "libaio"));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		fprintf(stderr, "no seccomp: not tried\n");
	else
		ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine");
	TCase *tc = tcase_create("engine");
	SRunner *runner;
	int failed;

	signal(SIGXFSZ, SIG_IGN);
	memory = aligned_alloc(PAGE, (size_t)COUNT * PAGE);
	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, NULL, remove_files);
	tcase_add_test(tc, neighbours_become_one);
	tcase_add_loop_test(tc, errors_one_by_one, 0, KINDS);
	tcase_add_loop_test(tc, bad_descriptor, 0, KINDS);
	tcase_add_loop_test(tc, more_than_fit, 0, KINDS);
	tcase_add_loop_test(tc, odd_requests, 0, KINDS);
	tcase_add_loop_test(tc, punching_gives_space_back, 0, KINDS);
	tcase_add_loop_test(tc, full_disk_waits_for_space, 0, KINDS);
	tcase_add_loop_test(tc, steady_state_allocates_nothing, 0, KINDS);
	tcase_add_loop_test(tc, idle_does_not_wake, 0, KINDS);
	tcase_add_loop_test(tc, names, 0, KINDS);
	tcase_add_loop_test(tc, auto_takes_what_is_allowed, 0, 2);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	free(memory);
	return failed != 0;
}
