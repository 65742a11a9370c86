/* message.c - messages of the control socket
 *
 * jansson reads JSON strictly; depth is counted before, so that its recursion is bounded by
 * ours and not by its own, larger limit.
 */
#include "message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Is no bracket nested deeper than allowed?  Brackets in texts do not count. */
static bool depth_is_sane(const char *text, size_t length)
{
	unsigned depth = 0;
	bool quoted = false;

	for (size_t k = 0; k < length; k++) {
		char c = text[k];

		if (quoted) {
			if (c == '\\')
				k++;
			else if (c == '"')
				quoted = false;
		} else if (c == '"') {
			quoted = true;
		} else if (c == '{' || c == '[') {
			if (++depth > MESSAGE_DEPTH)
				return false;
		} else if ((c == '}' || c == ']') && depth) {
			depth--;
		}
	}
	return true;
}

static json_t *parse_object(const char *text, size_t length, size_t most, const char **why)
{
	json_error_t error;
	json_t *root;

	*why = NULL;
	if (length > most)
		*why = "too long";
	else if (!depth_is_sane(text, length))
		*why = "nested too deep";
	if (*why)
		return NULL;
	root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
	if (!root) {
		*why = "not JSON";
		return NULL;
	}
	if (!json_is_object(root)) {
		json_decref(root);
		*why = "not an object";
		return NULL;
	}
	return root;
}

/* A member that may be missing.  @type: JSON_TRUE stands for both truths. */
static bool take_member(const json_t *root, const char *key, json_type type, json_t **out,
			size_t *taken)
{
	json_t *value = json_object_get(root, key);

	*out = value;
	if (!value)
		return true;
	(*taken)++;
	return type == JSON_TRUE ? json_is_boolean(value) : json_typeof(value) == type;
}

int message_parse_call(const char *text, size_t length, struct message_call *out, const char **why)
{
	json_t *root = parse_object(text, length, MESSAGE_CALL_MAX, why);
	json_t *method, *parameters, *more, *oneway, *upgrade;
	size_t taken = 0;

	if (!root)
		return -EBADMSG;
	if (!take_member(root, "method", JSON_STRING, &method, &taken) || !method)
		*why = "no method";
	else if (!take_member(root, "parameters", JSON_OBJECT, &parameters, &taken))
		*why = "parameters are not an object";
	else if (!take_member(root, "more", JSON_TRUE, &more, &taken) ||
		 !take_member(root, "oneway", JSON_TRUE, &oneway, &taken) ||
		 !take_member(root, "upgrade", JSON_TRUE, &upgrade, &taken))
		*why = "a flag is not a boolean";
	else if (taken != json_object_size(root))
		*why = "an unknown member";
	if (*why) {
		json_decref(root);
		return -EBADMSG;
	}
	*out = (struct message_call){
		.root = root,
		.method = json_string_value(method),
		.parameters = parameters,
		.more = json_is_true(more),
		.oneway = json_is_true(oneway),
		.upgrade = json_is_true(upgrade),
	};
	return 0;
}

void message_call_release(struct message_call *call)
{
	json_decref(call->root);
	*call = (struct message_call){ 0 };
}

int message_parse_reply(const char *text, size_t length, struct message_reply *out,
			const char **why)
{
	json_t *root = parse_object(text, length, MESSAGE_REPLY_MAX, why);
	json_t *error, *parameters, *continues;
	size_t taken = 0;

	if (!root)
		return -EBADMSG;
	if (!take_member(root, "error", JSON_STRING, &error, &taken) ||
	    !take_member(root, "parameters", JSON_OBJECT, &parameters, &taken) ||
	    !take_member(root, "continues", JSON_TRUE, &continues, &taken))
		*why = "a member of a wrong type";
	else if (taken != json_object_size(root))
		*why = "an unknown member";
	if (*why) {
		json_decref(root);
		return -EBADMSG;
	}
	*out = (struct message_reply){
		.root = root,
		.error = json_string_value(error),
		.parameters = parameters,
		.continues = json_is_true(continues),
	};
	return 0;
}

void message_reply_release(struct message_reply *reply)
{
	json_decref(reply->root);
	*reply = (struct message_reply){ 0 };
}

char *message_encode(json_t *root, size_t *length)
{
	char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

	json_decref(root);
	if (text)
		*length = strlen(text) + 1;
	return text;
}
