/* fuzz_message.c - messages of the control socket, as calls and as replies
 *
 * What is taken says the same when it is written and read again.
 */
#include "fuzz.h"
#include "tapdisk/protocol/message.h"

static unsigned depth(const json_t *value)
{
	unsigned deepest = 0;
	const char *key;
	json_t *member;
	size_t k;

	json_array_foreach((json_t *)(uintptr_t)value, k, member)
		deepest = depth(member) > deepest ? depth(member) : deepest;
	json_object_foreach((json_t *)(uintptr_t)value, key, member)
		deepest = depth(member) > deepest ? depth(member) : deepest;
	return deepest + (json_is_array(value) || json_is_object(value));
}

static void call(const char *text, size_t length)
{
	struct message_call c, again;
	const char *why = NULL;
	size_t written;
	char *copy;

	if (message_parse_call(text, length, &c, &why) < 0) {
		MUST(why && *why);
		return;
	}
	MUST(c.method && length <= MESSAGE_CALL_MAX);
	MUST(depth(c.root) <= MESSAGE_DEPTH);
	MUST(!c.parameters || json_is_object(c.parameters));
	copy = message_encode(json_incref(c.root), &written);
	MUST(copy && strlen(copy) + 1 == written);
	/* escapes may have made it longer than a message may be */
	if (written - 1 <= MESSAGE_CALL_MAX) {
		MUST(!message_parse_call(copy, written - 1, &again, &why));
		MUST(json_equal(c.root, again.root));
		MUST(c.more == again.more && c.oneway == again.oneway);
		message_call_release(&again);
	}
	free(copy);
	message_call_release(&c);
}

static void reply(const char *text, size_t length)
{
	struct message_reply r;
	const char *why = NULL;

	if (message_parse_reply(text, length, &r, &why) < 0) {
		MUST(why && *why);
		return;
	}
	MUST(!r.parameters || json_is_object(r.parameters));
	message_reply_release(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	call((const char *)data, size);
	reply((const char *)data, size);
	return 0;
}
