/* message.h - messages of the control socket: JSON objects, each followed by a NUL byte
 *
 * Calls and replies in the manner of varlink:
 *
 *	{"method": "org.vhdtoolkit.Tapdisk.List", "parameters": {}, "more": false}
 *	{"parameters": {…}, "continues": true}
 *	{"error": "org.vhdtoolkit.Tapdisk.Failed", "parameters": {…}}
 *
 * Strict: a member of another name or type, a duplicate, nesting deeper than
 * MESSAGE_DEPTH, bytes that are no UTF-8, or anything behind the object is no message.
 */
#ifndef TAPDISK_MESSAGE_H
#define TAPDISK_MESSAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define MESSAGE_CALL_MAX  (64u << 10) /* bytes, without the NUL */
#define MESSAGE_REPLY_MAX (4u << 20)
#define MESSAGE_DEPTH	  16u

#define MESSAGE_INTERFACE "org.vhdtoolkit.Tapdisk"
#define MESSAGE_VARLINK	  "org.varlink.service"
#define MESSAGE_FAILED	  MESSAGE_INTERFACE ".Failed"

struct message_call {
	json_t *root;	    /* owned */
	const char *method; /* in root, and so on */
	json_t *parameters; /* an object, or NULL */
	bool more, oneway, upgrade;
};
/* 0, or -EBADMSG with the reason in *why (static or in @out): nothing to release then. */
int message_parse_call(const char *text, size_t length, struct message_call *out, const char **why);
void message_call_release(struct message_call *call);

struct message_reply {
	json_t *root;
	const char *error; /* NULL: none */
	json_t *parameters;
	bool continues;
};
int message_parse_reply(const char *text, size_t length, struct message_reply *out,
			const char **why);
void message_reply_release(struct message_reply *reply);

/* The bytes of @root with the NUL; to be freed.  NULL: no memory.  @root is released. */
char *message_encode(json_t *root, size_t *length);

#endif
