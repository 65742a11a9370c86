/* check_message.c - messages of the control socket: what is one, what is none */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tapdisk/protocol/message.h"

static int parse(const char *text, size_t length)
{
	struct message_call call;
	const char *why = NULL;
	int rc = message_parse_call(text, length, &call, &why);

	if (rc < 0)
		ck_assert_msg(why && *why, "no reason");
	else
		message_call_release(&call);
	return rc;
}

START_TEST(test_calls)
{
	static const char text[] =
		"{\"method\": \"a.B\", \"parameters\": {\"x\": [1, {\"y\": null}]}, "
		"\"more\": true, \"oneway\": false}";
	struct message_call call;
	const char *why;

	ck_assert_int_eq(message_parse_call(text, strlen(text), &call, &why), 0);
	ck_assert_str_eq(call.method, "a.B");
	ck_assert(call.more && !call.oneway && !call.upgrade);
	ck_assert_int_eq((int)json_array_size(json_object_get(call.parameters, "x")), 2);
	message_call_release(&call);
	ck_assert_int_eq(message_parse_call("{\"method\":\"m\"}", 14, &call, &why), 0);
	ck_assert_ptr_null(call.parameters);
	message_call_release(&call);
}
END_TEST

START_TEST(test_no_calls)
{
	static const char *const wrong[] = {
		"",
		"{}",
		"[]",
		"null",
		"\"method\"",
		"{\"method\": 1}",
		"{\"method\": \"a\"}{}",
		"{\"method\": \"a\"} x",
		"{\"method\": \"a\", \"method\": \"a\"}",
		"{\"method\": \"a\", \"parameters\": []}",
		"{\"method\": \"a\", \"parameters\": null}",
		"{\"method\": \"a\", \"parameters\": {\"x\": 1, \"x\": 1}}",
		"{\"method\": \"a\", \"more\": 1}",
		"{\"method\": \"a\", \"oneway\": \"yes\"}",
		"{\"method\": \"a\", \"upgrade\": null}",
		"{\"method\": \"a\", \"extra\": 1}",
		"{\"Method\": \"a\"}",
		"{\"method\": \"a\\u0000b\"}",
		"{\"method\": \"\xff\"}",
		"{\"method\": \"\xed\xa0\x80\"}",
		"{\"method\": \"a\", \"parameters\": {\"x\": 1e999}}",
		"{\"method\": \"a\", \"parameters\": {\"x\": 123456789012345678901234567890}}",
		"{\"method\": \"a\", \"parameters\": {\"x\": 01}}",
		"{\"method\": \"a\", \"parameters\": {\"x\": NaN}}",
		"{\"method\": \"a\"",
		"{method: \"a\"}",
		"{'method': 'a'}",
	};

	for (size_t k = 0; k < sizeof(wrong) / sizeof(wrong[0]); k++)
		ck_assert_msg(parse(wrong[k], strlen(wrong[k])) < 0, "taken: %s", wrong[k]);
	/* white space around is harmless */
	ck_assert_int_eq(parse(" {\"method\":\"a\"} ", 16), 0);
	/* a NUL inside is no end */
	ck_assert_int_lt(parse("{\"method\":\"a\"}\0", 15), 0);
}
END_TEST

/* Nested @depth deep, the outermost object counted. */
static char *nested(unsigned depth, size_t *length)
{
	char *text = malloc(2 * depth + 64);
	char *p = text + sprintf(text, "{\"method\":\"a\",\"parameters\":{\"x\":");

	for (unsigned k = 2; k < depth; k++)
		*p++ = '[';
	for (unsigned k = 2; k < depth; k++)
		*p++ = ']';
	p += sprintf(p, "%s}}", depth == 2 ? "1" : "");
	*length = (size_t)(p - text);
	return text;
}

START_TEST(test_depth)
{
	static const char brackets[] = "{\"method\":\"[[[[[[[[[[[[[[[[[[[[{{{{{\\\"[[\"}";

	for (unsigned depth = 2; depth < 40; depth++) {
		size_t length;
		char *text = nested(depth, &length);

		ck_assert_int_eq(parse(text, length) == 0, depth <= MESSAGE_DEPTH);
		free(text);
	}
	/* brackets in texts are no depth */
	ck_assert_int_eq(parse(brackets, strlen(brackets)), 0);
}
END_TEST

START_TEST(test_length)
{
	for (size_t over = 0; over < 2; over++) {
		size_t length = MESSAGE_CALL_MAX + over;
		char *text = malloc(length + 1);
		int head = sprintf(text, "{\"method\":\"");

		memset(text + head, 'a', length - (size_t)head);
		memcpy(text + length - 2, "\"}", 2);
		ck_assert_int_eq(parse(text, length) == 0, !over);
		free(text);
	}
}
END_TEST

START_TEST(test_replies)
{
	struct message_reply reply;
	const char *why,
		*text = "{\"error\": \"a.B\", \"parameters\": {\"n\": 1}, \"continues\": true}";
	char *again;
	size_t length;

	ck_assert_int_eq(message_parse_reply(text, strlen(text), &reply, &why), 0);
	ck_assert_str_eq(reply.error, "a.B");
	ck_assert(reply.continues);
	again = message_encode(json_incref(reply.root), &length);
	ck_assert_uint_eq(length, strlen(again) + 1);
	message_reply_release(&reply);
	ck_assert_int_eq(message_parse_reply(again, length - 1, &reply, &why), 0);
	message_reply_release(&reply);
	free(again);
	ck_assert_int_eq(message_parse_reply("{}", 2, &reply, &why), 0);
	ck_assert(!reply.error && !reply.parameters && !reply.continues);
	message_reply_release(&reply);
	ck_assert_int_lt(message_parse_reply("{\"error\":1}", 11, &reply, &why), 0);
	ck_assert_int_lt(message_parse_reply("{\"method\":\"a\"}", 14, &reply, &why), 0);
	ck_assert_ptr_null(message_encode(NULL, &length));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("message");
	TCase *tc = tcase_create("message");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, tc);
	tcase_add_test(tc, test_calls);
	tcase_add_test(tc, test_no_calls);
	tcase_add_test(tc, test_depth);
	tcase_add_test(tc, test_length);
	tcase_add_test(tc, test_replies);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
