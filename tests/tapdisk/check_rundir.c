/* check_rundir.c - the run directory: minors, markers, names of the dead; the log's lines */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/error.h"
#include "tapdisk/log/log.h"
#include "tapdisk/protocol/rundir.h"

static char base[64], dir[96];
static struct vhd_error err;

static void setup(void)
{
	strcpy(base, "/tmp/rundir.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(base));
	snprintf(dir, sizeof(dir), "%s/run", base);
	ck_assert_int_eq(rundir_make(dir, &err), 0);
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", base);
	ck_assert_int_eq(system(command), 0);
}

static unsigned allocate(void)
{
	unsigned minor = 9999;

	ck_assert_int_eq(rundir_allocate(dir, &minor, &err), 0);
	return minor;
}

START_TEST(test_minors)
{
	struct rundir_list list;
	int held;

	for (unsigned k = 0; k < 12; k++)
		ck_assert_uint_eq(allocate(), k);
	ck_assert_int_eq(rundir_free(dir, 3, &err), 0);
	ck_assert_int_eq(rundir_free(dir, 3, &err), -ENOENT);
	ck_assert_int_eq(rundir_free(dir, 1, &err), 0);
	ck_assert_uint_eq(allocate(), 1); /* the lowest */
	held = rundir_hold(dir, 5, &err);
	ck_assert_int_ge(held, 0);
	ck_assert_int_eq(rundir_hold(dir, 5, &err), -EBUSY);
	ck_assert_int_eq(rundir_free(dir, 5, &err), -EBUSY);
	close(held);
	ck_assert_int_eq(rundir_free(dir, 5, &err), 0);
	held = rundir_hold(dir, 20, &err); /* made where it was not allocated */
	ck_assert_int_ge(held, 0);
	close(held);
	ck_assert_int_eq(rundir_list(dir, &list, &err), 0);
	ck_assert_uint_eq(list.minor_count, 11); /* 0 1 2 4 6 … 11 20: by number, not by name */
	ck_assert_uint_eq(list.minors[1], 1);
	ck_assert_uint_eq(list.minors[2], 2);
	ck_assert_uint_eq(list.minors[3], 4);
	ck_assert_uint_eq(list.minors[10], 20);
	rundir_list_release(&list);
}
END_TEST

static void touch(const char *name)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
}

/* A socket at @name; listening or not. */
static int make_socket(const char *name, bool listening)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un address;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	ck_assert_int_eq(rundir_address(path, &address, &err), 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	if (listening)
		ck_assert_int_eq(listen(fd, 5), 0);
	return fd;
}

static bool exists(const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return !access(path, F_OK);
}

START_TEST(test_names)
{
	static const char *const strange[] = { "ctl",	"ctl-1", "ctl01",   "ctl1x",
					       "xctl1", "ctl+1", "ctl0x10", "ctl99999999999" };
	struct rundir_list list;
	int alive, dead;

	for (size_t k = 0; k < sizeof(strange) / sizeof(strange[0]); k++)
		touch(strange[k]);
	alive = make_socket("ctl100", true);
	dead = make_socket("ctl20", true);
	close(make_socket("nbd20.0", true));
	close(make_socket("nbd20.17", true));
	close(make_socket("nbd200.1", true));
	ck_assert_int_eq(rundir_list(dir, &list, &err), 0);
	ck_assert_uint_eq(list.pid_count, 2);
	ck_assert_int_eq(list.pids[0], 20);
	ck_assert_int_eq(list.pids[1], 100);
	rundir_list_release(&list);
	rundir_remove_dead(dir, 20);
	ck_assert(exists("ctl20")); /* it lives */
	close(dead);
	rundir_remove_dead(dir, 20);
	rundir_remove_dead(dir, 100);
	rundir_remove_dead(dir, 4);
	ck_assert(!exists("ctl20") && !exists("nbd20.0") && !exists("nbd20.17"));
	ck_assert(exists("nbd200.1") && exists("ctl100"));
	close(alive);
	snprintf(dir, sizeof(dir), "%s/none", base);
	ck_assert_int_eq(rundir_list(dir, &list, &err), 0);
	ck_assert_uint_eq(list.pid_count + list.minor_count, 0);
}
END_TEST

START_TEST(test_privacy)
{
	char long_path[300];
	struct sockaddr_un address;
	struct stat st;

	ck_assert_int_eq(stat(dir, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
	ck_assert_int_eq(chmod(dir, 0770), 0);
	ck_assert_int_eq(rundir_make(dir, &err), -EPERM);
	ck_assert_int_eq(chmod(dir, 0707), 0);
	ck_assert_int_eq(rundir_make(dir, &err), -EPERM);
	ck_assert_int_eq(chmod(dir, 0755), 0); /* may be seen, not written */
	ck_assert_int_eq(rundir_make(dir, &err), 0);
	if (!geteuid()) {
		char markers[128];

		snprintf(markers, sizeof(markers), "%s/tapdisk", dir);
		ck_assert_int_eq(chown(markers, 12345, 12345), 0);
		ck_assert_int_eq(rundir_make(dir, &err), -EPERM);
	}
	memset(long_path, 'x', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = 0;
	ck_assert_int_eq(rundir_address(long_path, &address, &err), -ENAMETOOLONG);
}
END_TEST

START_TEST(test_find)
{
	char out[PATH_MAX];

	setenv("TAPDISK_RUN_DIR", "/env", 1);
	ck_assert_int_eq(rundir_find("/given", out, &err), 0);
	ck_assert_str_eq(out, "/given");
	ck_assert_int_eq(rundir_find(NULL, out, &err), 0);
	ck_assert_str_eq(out, "/env");
	unsetenv("TAPDISK_RUN_DIR");
	if (!geteuid()) {
		ck_assert_int_eq(rundir_find(NULL, out, &err), 0);
		ck_assert_str_eq(out, "/run/blktap-control");
		ck_assert_int_eq(seteuid(12345), 0);
	}
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	ck_assert_int_eq(rundir_find(NULL, out, &err), 0);
	ck_assert_str_eq(out, "/run/user/7/blktap-control");
	unsetenv("XDG_RUNTIME_DIR");
	ck_assert_int_eq(rundir_find(NULL, out, &err), -ENOENT);
	if (!getuid())
		ck_assert_int_eq(seteuid(0), 0);
}
END_TEST

/* ── the log ── */

static char logged[65536];

/* What @write puts on standard error. */
static void capture(void (*write_lines)(void))
{
	int ends[2], before = dup(STDERR_FILENO);
	ssize_t got;
	size_t used = 0;

	ck_assert_int_eq(pipe(ends), 0);
	fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
	dup2(ends[1], STDERR_FILENO);
	write_lines();
	dup2(before, STDERR_FILENO);
	close(before);
	close(ends[1]);
	while ((got = read(ends[0], logged + used, sizeof(logged) - 1 - used)) > 0)
		used += (size_t)got;
	close(ends[0]);
	logged[used] = 0;
}

static unsigned lines(void)
{
	unsigned count = 0;

	for (const char *p = logged; *p; p++)
		count += *p == '\n';
	return count;
}

static void write_hostile(void)
{
	char text[4096];

	log_write(LOG_LEVEL_ERROR, "odd", 7, "a \"b\" \\ \n\x1b[2J end");
	memset(text, '"', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	log_write(LOG_LEVEL_INFO, "long", LOG_NO_MINOR, "%s", text);
	log_write(LOG_LEVEL_DEBUG, "debug", LOG_NO_MINOR, "not wanted");
}

static void write_many(void)
{
	for (int k = 0; k < 1000; k++)
		log_write(LOG_LEVEL_INFO, "storm", LOG_NO_MINOR, "%d", k);
	log_write(LOG_LEVEL_INFO, "calm", LOG_NO_MINOR, "told all the same");
}

START_TEST(test_log)
{
	enum log_level level;

	capture(write_hostile);
	ck_assert_uint_eq(lines(), 2);
	ck_assert_ptr_nonnull(strstr(
		logged,
		"level=error what=odd minor=7 text=\"a \\\"b\\\" \\\\ \\x0a\\x1b[2J end\"\n"));
	capture(write_many);
	ck_assert_uint_eq(lines(), LOG_BURST + 1);
	ck_assert_ptr_nonnull(strstr(logged, "what=calm"));
	ck_assert(log_level_parse("warning", &level) && level == LOG_LEVEL_WARNING);
	ck_assert(!log_level_parse("loud", &level));
}
END_TEST

/* Nobody reads: the server does not wait. */
static void write_into_full(void)
{
	int ends[2], before = dup(STDERR_FILENO);
	char block[4096] = { 0 };

	ck_assert_int_eq(pipe(ends), 0);
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	while (write(ends[1], block, sizeof(block)) > 0)
		;
	fcntl(ends[1], F_SETFL, 0);
	dup2(ends[1], STDERR_FILENO);
	log_write(LOG_LEVEL_INFO, "full", LOG_NO_MINOR, "lost");
	dup2(before, STDERR_FILENO);
	close(before);
	close(ends[0]);
	close(ends[1]);
}

START_TEST(test_log_never_waits)
{
	write_into_full(); /* the test's time limit is the assertion */
}
END_TEST

int main(void)
{
	Suite *s = suite_create("rundir");
	TCase *tc = tcase_create("rundir");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, tc);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_minors);
	tcase_add_test(tc, test_names);
	tcase_add_test(tc, test_privacy);
	tcase_add_test(tc, test_find);
	tcase_add_test(tc, test_log);
	tcase_add_test(tc, test_log_never_waits);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
