/* check_control.c - the control service: calls, lives of disks, clients that come and go */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control-world.h"
#include "tapdisk/protocol/message.h"

static struct world w;

static void setup(void)
{
	world_make(&w);
	world_run(&w);
}

static void teardown(void)
{
	world_end(&w);
}

/* A disk of memory, running. */
static int with_disk(void)
{
	int fd = world_connect(&w);

	json_decref(world_do(fd, "Attach", "{\"minor\":0}"));
	json_decref(world_do(fd, "Open", "{\"minor\":0,\"args\":\"ram:8M\"}"));
	return fd;
}

static bool is_error(json_t *answer, const char *error)
{
	const char *is = json_string_value(json_object_get(answer, "error"));
	bool same = is && !strcmp(is, error);

	json_decref(answer);
	return same;
}

START_TEST(test_varlink)
{
	int fd = world_connect(&w);
	json_t *answer;
	char *doc;
	FILE *f = fopen("doc/control.varlink", "r");

	world_say(fd, "{\"method\":\"org.varlink.service.GetInfo\"}");
	answer = world_answer(fd);
	ck_assert_str_eq(json_string_value(
				 json_object_get(json_object_get(answer, "parameters"), "product")),
			 "tapdisk");
	json_decref(answer);
	world_say(fd, "{\"method\":\"org.varlink.service.GetInterfaceDescription\","
		      "\"parameters\":{\"interface\":\"" MESSAGE_INTERFACE "\"}}");
	answer = world_answer(fd);
	ck_assert_ptr_nonnull(f);
	doc = calloc(1, 65536);
	ck_assert_uint_gt(fread(doc, 1, 65535, f), 1000);
	fclose(f);
	ck_assert_str_eq(json_string_value(json_object_get(json_object_get(answer, "parameters"),
							   "description")),
			 doc);
	free(doc);
	json_decref(answer);
	world_say(fd, "{\"method\":\"org.varlink.service.GetInterfaceDescription\","
		      "\"parameters\":{\"interface\":\"x.y\"}}");
	ck_assert(is_error(world_answer(fd), "org.varlink.service.InterfaceNotFound"));
	world_say(fd, "{\"method\":\"org.varlink.service.GetInterfaceDescription\"}");
	ck_assert(is_error(world_answer(fd), "org.varlink.service.InvalidParameter"));
	ck_assert(is_error(world_call(fd, "Nonsense", "{}"), "org.varlink.service.MethodNotFound"));
	ck_assert(is_error(world_call(fd, "Events", "{}"), "org.varlink.service.ExpectedMore"));
	close(fd);
}
END_TEST

START_TEST(test_parameters)
{
	static const char *const wrong[] = {
		"{}",
		"{\"minor\":\"0\"}",
		"{\"minor\":-1}",
		"{\"minor\":4096}",
		"{\"minor\":0.0}",
		"{\"minor\":null}",
		"{\"minor\":[0]}",
		"{\"minor\":9223372036854775807}",
		"{\"minor\":0,\"force\":1}",
		"{\"minor\":0,\"force\":\"true\"}",
		"{\"minor\":0,\"timeout_ms\":-5}",
		"{\"minor\":0,\"timeout_ms\":1e3}",
		"{\"minor\":0,\"what\":null}",
	};
	int fd = with_disk();

	for (size_t k = 0; k < sizeof(wrong) / sizeof(wrong[0]); k++)
		ck_assert_msg(is_error(world_call(fd, "Close", wrong[k]),
				       "org.varlink.service.InvalidParameter"),
			      "taken: %s", wrong[k]);
	ck_assert_int_eq(world_state(&w, 0), 0);
	/* null is "not given" where it may be missing */
	json_decref(world_do(fd, "Close", "{\"minor\":0,\"force\":null,\"timeout_ms\":null}"));
	close(fd);
}
END_TEST

START_TEST(test_life)
{
	int fd = with_disk();
	json_t *out;

	world_refused(fd, "Attach", "{\"minor\":0}", EEXIST);
	world_refused(fd, "Detach", "{\"minor\":0}", EBUSY);
	world_refused(fd, "Open", "{\"minor\":0,\"args\":\"ram:8M\"}", EBUSY);
	world_refused(fd, "Open", "{\"minor\":1,\"args\":\"ram:8M\"}", ENODEV);
	world_refused(fd, "Unpause", "{\"minor\":0}", EINVAL);
	world_refused(fd, "Snapshot", "{\"minor\":0,\"base\":\"/x\"}", EOPNOTSUPP);
	world_refused(fd, "Snapshot", "{\"minor\":0}", EINVAL);
	world_refused(fd, "Snapshot", "{\"minor\":0,\"base\":\"/x\",\"new_leaf\":\"/y\"}", EINVAL);
	world_refused(fd, "Resize", "{\"minor\":0,\"size\":16777216}", EOPNOTSUPP);
	json_decref(world_do(fd, "Pause", "{\"minor\":0}"));
	ck_assert_int_eq(world_state(&w, 0), VBD_PAUSED | VBD_QUIESCED);
	world_refused(fd, "Snapshot", "{\"minor\":0,\"base\":\"/x\"}", EINVAL);
	world_refused(fd, "Resize", "{\"minor\":0,\"size\":16777216}", EINVAL);
	world_refused(fd, "Unpause", "{\"minor\":0,\"args\":\"ram:4M\"}", 124);
	ck_assert(world_state(&w, 0) & VBD_RESUME_FAILED);
	json_decref(world_do(fd, "Unpause", "{\"minor\":0,\"args\":\"ram:16M\",\"grow\":true}"));
	ck_assert_int_eq(world_state(&w, 0), 0);
	out = world_do(fd, "Throttle", "{\"minor\":0,\"iops\":100}");
	ck_assert_int_eq(json_integer_value(json_object_get(out, "iops")), 100);
	json_decref(out);
	out = world_do(fd, "Throttle", "{\"minor\":0,\"bytes\":5}");
	ck_assert_int_eq(json_integer_value(json_object_get(out, "iops")), 100); /* stays */
	json_decref(out);
	json_decref(world_do(fd, "Retry", "{\"minor\":0,\"forever\":true}"));
	json_decref(world_do(fd, "Stats", "{\"minor\":0}"));
	json_decref(world_do(fd, "Clients", "{}"));
	json_decref(world_do(fd, "Close", "{\"minor\":0}"));
	world_refused(fd, "Export", "{\"minor\":0,\"address\":\"unix:/tmp/x\"}", EINVAL);
	json_decref(world_do(fd, "Open", "{\"minor\":0,\"args\":\"ram:8M\"}")); /* at once again */
	json_decref(world_do(fd, "Close", "{\"minor\":0}"));
	json_decref(world_do(fd, "Detach", "{\"minor\":0}"));
	/* it was the last: the process ends, without being asked */
	close(fd);
	pthread_join(w.thread, NULL);
	ck_assert(w.stopped && !w.down_err.code);
	w.joined = true;
}
END_TEST

START_TEST(test_failed_open)
{
	int fd = world_connect(&w);

	json_decref(world_do(fd, "Attach", "{\"minor\":3}"));
	world_refused(fd, "Open", "{\"minor\":3,\"args\":\"\"}", EINVAL);
	world_refused(fd, "Open", "{\"minor\":3,\"args\":\"nonsense:x\"}", EINVAL);
	world_refused(fd, "Open", "{\"minor\":3,\"args\":\"vhd:/none/at/all\"}", ENOENT);
	world_refused(fd, "Open", "{\"minor\":3,\"args\":\"vhd:\\u202e\\n\"}", ENOENT);
	ck_assert_int_eq(world_state(&w, 3), VBD_CLOSED);
	close(fd);
}
END_TEST

START_TEST(test_exports)
{
	char in[256];
	int fd = with_disk();

	snprintf(in, sizeof(in), "{\"minor\":0,\"address\":\"unix:%s/n\"}", w.base);
	json_decref(world_do(fd, "Export", in));
	world_refused(fd, "Export", in, EEXIST);
	json_decref(world_do(fd, "Unexport", in));
	world_refused(fd, "Unexport", in, ENOENT);
	json_decref(world_do(fd, "Export", in)); /* the name is free again */
	json_decref(world_do(fd, "Unexport", "{\"minor\":0}"));
	world_refused(fd, "Unexport", "{\"minor\":0}", ENOENT);
	world_refused(fd, "Export", "{\"minor\":0,\"address\":\"/no/scheme\"}", EINVAL);
	world_refused(fd, "Export", "{\"minor\":0,\"address\":\"unix:/none/at/all\"}", ENOENT);
	ck_assert_int_eq(world_state(&w, 0), 0);
	close(fd);
}
END_TEST

/* ── several answers, none, in order ── */

START_TEST(test_pipelined)
{
	char text[16384] = "";
	size_t used = 0;
	int fd = world_connect(&w);

	for (int k = 0; k < 50; k++) {
		const char *method = k % 3 == 0 ? "List" : "Nonsense";

		used += (size_t)sprintf(text + used, "{\"method\":\"%s.%s\"}", MESSAGE_INTERFACE,
					method) +
			1;
		/* asked without wanting an answer */
		used += (size_t)sprintf(text + used, "{\"method\":\"%s.%s\",\"oneway\":true}",
					MESSAGE_INTERFACE, method) +
			1;
	}
	world_send(fd, text, used);
	shutdown(fd, SHUT_WR); /* all said: the answers come all the same */
	for (int k = 0; k < 50; k++) {
		json_t *answer = world_answer(fd);

		ck_assert_int_eq(!json_object_get(answer, "error"), k % 3 == 0);
		json_decref(answer);
	}
	ck_assert_ptr_null(world_hear(fd));
	close(fd);
}
END_TEST

static char *event_of(int fd)
{
	json_t *answer = world_answer(fd);
	json_t *event = json_object_get(json_object_get(answer, "parameters"), "event");
	char *text;

	ck_assert(json_is_true(json_object_get(answer, "continues")));
	text = strdup(json_string_value(event));
	json_decref(answer);
	return text;
}

static void expect_event(int fd, const char *what)
{
	char *event = event_of(fd);

	ck_assert_str_eq(event, what);
	free(event);
}

START_TEST(test_events)
{
	int fd = with_disk(), all = world_connect(&w), other = world_connect(&w);

	world_say(all, "{\"method\":\"" MESSAGE_INTERFACE ".Events\",\"more\":true}");
	world_say(other, "{\"method\":\"" MESSAGE_INTERFACE
			 ".Events\",\"more\":true,\"parameters\":{\"minor\":1}}");
	expect_event(all, "listening");
	expect_event(other, "listening");
	json_decref(world_do(fd, "Attach", "{\"minor\":1}"));
	json_decref(world_do(fd, "Pause", "{\"minor\":0}"));
	expect_event(all, "paused");
	json_decref(world_do(fd, "Unpause", "{\"minor\":0}"));
	expect_event(all, "running");
	json_decref(world_do(fd, "Open", "{\"minor\":1,\"args\":\"ram:1M\"}"));
	expect_event(all, "opened");
	expect_event(other, "opened"); /* the first of its disk */
	/* a listener that goes harms nobody */
	close(all);
	json_decref(world_do(fd, "Pause", "{\"minor\":1}"));
	expect_event(other, "paused");
	close(other);
	json_decref(world_do(fd, "Unpause", "{\"minor\":1}"));
	close(fd);
}
END_TEST

/* ── clients that vanish ── */

START_TEST(test_pause_while_connected)
{
	int fd = with_disk();

	json_decref(world_do(fd, "Pause", "{\"minor\":0,\"while_connected\":true}"));
	ck_assert_int_eq(world_state(&w, 0), VBD_PAUSED | VBD_QUIESCED);
	close(fd);
	world_wait_state(&w, 0, 0);
	/* gone before it was paused */
	fd = world_connect(&w);
	world_say(fd, "{\"method\":\"" MESSAGE_INTERFACE
		      ".Pause\",\"parameters\":{\"minor\":0,\"while_connected\":true}}");
	close(fd);
	world_wait_state(&w, 0, 0);
	/* unpaused by hand, and paused by somebody else: the first one's end is not his */
	fd = world_connect(&w);
	json_decref(world_patiently(fd, "Pause", "{\"minor\":0,\"while_connected\":true}"));
	json_decref(world_do(fd, "Unpause", "{\"minor\":0}"));
	json_decref(world_do(fd, "Pause", "{\"minor\":0}"));
	close(fd);
	usleep(200000);
	ck_assert_int_eq(world_state(&w, 0), VBD_PAUSED | VBD_QUIESCED);
}
END_TEST

/* It goes while somebody else's Unpause is under way, which fails. */
START_TEST(test_pause_holder_goes_meanwhile)
{
	int other = with_disk();

	for (int k = 0; k < 20; k++) {
		int fd = world_connect(&w);

		json_decref(world_patiently(fd, "Pause", "{\"minor\":0,\"while_connected\":true}"));
		world_say(other, "{\"method\":\"" MESSAGE_INTERFACE
				 ".Unpause\",\"parameters\":{\"minor\":0,\"args\":\"ram:3M\"}}");
		close(fd);
		json_decref(world_answer(other));
		world_wait_state(&w, 0, 0);
	}
	close(other);
}
END_TEST

START_TEST(test_vanished)
{
	int fd = with_disk();

	close(fd);
	for (int k = 0; k < 50; k++) {
		fd = world_connect(&w);
		world_say(fd, k % 2 ? "{\"method\":\"" MESSAGE_INTERFACE
				      ".Unpause\",\"parameters\":{\"minor\":0}}" :
				      "{\"method\":\"" MESSAGE_INTERFACE
				      ".Pause\",\"parameters\":{\"minor\":0}}");
		if (k % 5 == 0)
			world_say(fd, "{\"method\":\"" MESSAGE_INTERFACE ".List\"}");
		close(fd); /* what it began goes on */
		world_wait_state(&w, 0, k % 2 ? 0 : VBD_PAUSED | VBD_QUIESCED);
	}
}
END_TEST

/* An image that is being opened when the end comes is opened, then closed. */
START_TEST(test_end_while_opening)
{
	int fd = world_connect(&w);
	char text[4096];
	size_t used = 0;

	for (int k = 0; k < 8; k++) {
		used += (size_t)sprintf(text + used,
					"{\"method\":\"%s.Attach\",\"parameters\":{\"minor\":%d}}",
					MESSAGE_INTERFACE, k) +
			1;
	}
	world_send(fd, text, used);
	for (int k = 0; k < 8; k++)
		json_decref(world_answer(fd));
	for (int k = 0; k < 8; k++) {
		int one = world_connect(&w);

		sprintf(text,
			"{\"method\":\"%s.Open\",\"parameters\":{\"minor\":%d,\"args\":\"ram:1M\"}"
			"}",
			MESSAGE_INTERFACE, k);
		world_say(one, text);
		close(one);
	}
	close(fd);
}
END_TEST

static void ignore(struct vbd_op *op)
{
	(void)op;
}

START_TEST(test_end_while_the_server_opens)
{
	struct vhd_error err;
	struct disk_params params = { 0 };
	struct vbd_op op = { .done = ignore };
	struct vbd *vbd;

	world_make(&w);
	ck_assert_int_eq(control_attach(w.control, 0, NULL, &vbd, &err), 0);
	vbd_open(vbd, "ram:1M", &params, &op);
	world_run(&w);
	world_end(&w);
	ck_assert_int_eq(w.down_err.code, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("control");
	TCase *tc = tcase_create("control"), *bare = tcase_create("bare");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, tc);
	suite_add_tcase(s, bare);
	tcase_set_timeout(tc, 60);
	tcase_set_timeout(bare, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_varlink);
	tcase_add_test(tc, test_parameters);
	tcase_add_test(tc, test_life);
	tcase_add_test(tc, test_failed_open);
	tcase_add_test(tc, test_exports);
	tcase_add_test(tc, test_pipelined);
	tcase_add_test(tc, test_events);
	tcase_add_test(tc, test_pause_while_connected);
	tcase_add_test(tc, test_pause_holder_goes_meanwhile);
	tcase_add_test(tc, test_vanished);
	tcase_add_test(tc, test_end_while_opening);
	tcase_add_test(bare, test_end_while_the_server_opens);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
