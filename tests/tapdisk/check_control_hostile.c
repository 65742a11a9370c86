/* check_control_hostile.c - clients of the control socket that mean no good: the server closes
 * their connection at most, and answers everybody else
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "control-world.h"
#include "tapdisk/protocol/message.h"
#include "tapdisk/protocol/rundir.h"
#include "tests/lib/rng.h"

static struct world w;

static void setup(void)
{
	int fd;

	world_make(&w);
	world_run(&w);
	fd = world_connect(&w);
	json_decref(world_do(fd, "Attach", "{\"minor\":0}"));
	json_decref(world_do(fd, "Open", "{\"minor\":0,\"args\":\"ram:1M\"}"));
	close(fd);
}

static void teardown(void)
{
	ck_assert_int_eq(world_state(&w, 0), 0); /* whatever was said */
	world_end(&w);
}

START_TEST(test_no_messages)
{
	static const char *const wrong[] = { "{}",
					     "[]",
					     "nonsense",
					     "",
					     "{\"method\":1}",
					     "{\"method\":\"a\"}{}",
					     "\xff\xfe",
					     "[[[[[[[[[[[[[[[[[[" };

	for (size_t k = 0; k < sizeof(wrong) / sizeof(wrong[0]); k++) {
		int fd = world_connect(&w);

		world_say(fd, wrong[k]);
		world_say(fd, "{\"method\":\"" MESSAGE_INTERFACE ".Stop\"}"); /* not heard */
		ck_assert_ptr_null(world_hear(fd));
		close(fd);
	}
}
END_TEST

START_TEST(test_lengths)
{
	char *text = malloc(1 << 20);

	memset(text, 'x', 1 << 20);
	for (size_t length = MESSAGE_CALL_MAX - 1; length < MESSAGE_CALL_MAX + 8192;
	     length += 511) {
		int fd = world_connect(&w);

		world_send(fd, text, length); /* and no end */
		shutdown(fd, SHUT_WR);
		ck_assert_ptr_null(world_hear(fd));
		close(fd);
	}
	for (int k = 0; k < 4; k++) {
		int fd = world_connect(&w);

		world_send(fd, text, 1 << 20); /* longer than any buffer */
		ck_assert_ptr_null(world_hear(fd));
		close(fd);
	}
	free(text);
}
END_TEST

/* A good call with a few bytes changed: whatever comes, nothing breaks. */
static void mutate(struct rng *r, char *text, size_t length)
{
	for (unsigned n = 1 + (unsigned)rng_below(r, 4); n; n--) {
		size_t at = rng_below(r, length);

		switch (rng_below(r, 3)) {
		case 0:
			text[at] = (char)rng_below(r, 256);
			break;
		case 1:
			text[at] = "{}[]\":,0\\"[rng_below(r, 9)];
			break;
		default:
			memmove(text + at, text + at + 1, length - at - 1);
			text[length - 1] = ' ';
		}
	}
}

START_TEST(test_mutated)
{
	static const char good[] = "{\"method\":\"" MESSAGE_INTERFACE
				   ".Stats\",\"parameters\":{\"minor\":0},\"more\":false}";
	const char *given = getenv("SEED");
	struct rng r = { given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) };

	printf("SEED=%llu\n", (unsigned long long)r.state);
	fflush(stdout);
	for (int k = 0; k < 1500; k++) {
		char text[sizeof(good)];
		int fd = world_connect(&w);

		memcpy(text, good, sizeof(good));
		mutate(&r, text, sizeof(good) - 1);
		if (strstr(text, "Stop"))
			continue;
		world_send(fd, text, sizeof(text));
		if (rng_below(&r, 2)) {
			shutdown(fd, SHUT_WR);
			free(world_hear(fd));
		}
		close(fd);
	}
}
END_TEST

/* Every prefix of a call, then gone. */
START_TEST(test_truncated)
{
	static const char good[] = "{\"method\":\"" MESSAGE_INTERFACE
				   ".Close\",\"parameters\":{\"minor\":0}}";

	for (size_t length = 0; length < sizeof(good) - 1; length++) {
		int fd = world_connect(&w);

		world_send(fd, good, length);
		if (length % 2) {
			shutdown(fd, SHUT_WR);
			ck_assert_ptr_null(world_hear(fd));
		}
		close(fd);
	}
}
END_TEST

START_TEST(test_many)
{
	struct rlimit files = { 4096, 4096 };
	int holder = world_connect(&w), partial = world_connect(&w), fds[1000];
	int known = world_connect(&w);

	setrlimit(RLIMIT_NOFILE, &files);
	json_decref(world_do(holder, "Pause", "{\"minor\":0,\"while_connected\":true}"));
	json_decref(world_do(known, "List", "{}"));
	world_send(partial, "{\"method\":", 10);
	for (int k = 0; k < 1000; k++)
		fds[k] = world_connect(&w);
	/* served although a thousand sit there; who holds a pause was not sent away */
	ck_assert_int_eq(world_state(&w, 0), VBD_PAUSED | VBD_QUIESCED);
	json_decref(world_do(known, "List", "{}")); /* nor was who had asked before */
	for (int k = 0; k < 1000; k++)
		close(fds[k]);
	json_decref(world_do(holder, "Unpause", "{\"minor\":0}"));
	close(holder);
	close(known);
	close(partial);
}
END_TEST

/* A message that does not go on ends its connection after a while, and only that. */
START_TEST(test_unfinished)
{
	int fd = world_connect(&w), good = world_connect(&w);

	world_send(fd, "{\"method\":", 10);
	ck_assert_ptr_null(world_hear(fd));
	json_decref(world_do(good, "List", "{}")); /* idle, that is no crime */
	close(fd);
	close(good);
}
END_TEST

/* It asks and does not read. */
START_TEST(test_deaf)
{
	static const char call[] = "{\"method\":\"" MESSAGE_INTERFACE
				   ".Stats\",\"parameters\":{\"minor\":0}}";
	struct timeval wait = { .tv_sec = 1 };
	int fd = world_connect(&w);
	ssize_t sent = 1;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	for (int k = 0; k < 100000 && sent > 0; k++)
		sent = send(fd, call, sizeof(call), MSG_NOSIGNAL);
	ck_assert_int_lt(sent, 0); /* it was dropped, or is read no further */
	ck_assert_int_eq(world_state(&w, 0), 0);
	close(fd);
}
END_TEST

/* Somebody else's process.  Status 0: it was not served. */
static int as_nobody(const char *path)
{
	static const char call[] = "{\"method\":\"" MESSAGE_INTERFACE ".List\"}";
	struct sockaddr_un address;
	char byte;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (setgid(65534) || setuid(65534))
		return 2;
	if (rundir_address(path, &address, NULL) < 0)
		return 3;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return 4;
	(void)!send(fd, call, sizeof(call), MSG_NOSIGNAL);
	return recv(fd, &byte, 1, 0) > 0;
}

START_TEST(test_other_user)
{
	int status;
	pid_t child;

	if (geteuid())
		return; /* only root can be somebody else */
	ck_assert_int_eq(chmod(w.base, 0711) | chmod(w.dir, 0711) | chmod(w.path, 0666), 0);
	child = fork();
	if (!child)
		_exit(as_nobody(w.path));
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

START_TEST(test_modes)
{
	struct stat st;

	ck_assert_int_eq(stat(w.path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("control-hostile");
	TCase *tc = tcase_create("hostile");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, tc);
	tcase_set_timeout(tc, 100);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_no_messages);
	tcase_add_test(tc, test_lengths);
	tcase_add_test(tc, test_mutated);
	tcase_add_test(tc, test_truncated);
	tcase_add_test(tc, test_many);
	tcase_add_test(tc, test_unfinished);
	tcase_add_test(tc, test_deaf);
	tcase_add_test(tc, test_other_user);
	tcase_add_test(tc, test_modes);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
