/* call.h - one call of a method: inside the control service only
 *
 * A call is made from a message, given to its method's run(), and ends by call_reply or
 * call_fail, once, maybe later.  A stream (Events) ends with its client.
 */
#ifndef TAPDISK_CONTROL_CALL_H
#define TAPDISK_CONTROL_CALL_H

#include <sys/types.h>

#include "control.h"
#include "tapdisk/jobs/resize.h"
#include "tapdisk/jobs/snapshot.h"
#include "tapdisk/protocol/message.h"

struct client;
struct listener;
struct call;

enum parameter_type { PARAMETER_INT, PARAMETER_TEXT, PARAMETER_BOOL };
struct parameter {
	const char *name;
	enum parameter_type type;
	bool optional;
	int64_t least, most; /* of an INT; 0, 0: 0 to INT64_MAX */
};

enum method_flags {
	METHOD_DISK = 1 << 0, /* has a "minor": it must be attached */
	METHOD_LIFE = 1 << 1, /* one at a time on a disk */
	METHOD_MORE = 1 << 2, /* may answer several times */
};
struct method {
	const char *name;
	const char *comment;	    /* for the description */
	const struct parameter *in; /* ends with a NULL name */
	const char *out;	    /* as in the description */
	unsigned flags;
	void (*run)(struct call *call);
};
extern const struct method methods[]; /* ends with a NULL name */
/* The interface as varlink writes it; static; made once. */
const char *methods_description(void);

struct call {
	struct control *control;
	struct client *client; /* NULL: nobody waits (any more) */
	const struct method *method;
	struct message_call message;
	struct slot *slot; /* METHOD_DISK */
	struct list link;  /* of the control's calls */
	/* the method's */
	unsigned waits; /* for listeners that go */
	struct vhd_error err;
	struct listener *listener;
	struct vbd_op op;
	struct snapshot_job snapshot;
	struct resize_job resize;
};

/* Parameters, after they were checked against the table. */
const char *call_text(const struct call *call, const char *name); /* NULL: not given */
int64_t call_int(const struct call *call, const char *name, int64_t otherwise);
bool call_bool(const struct call *call, const char *name);
bool call_has(const struct call *call, const char *name);

/* @out is taken; NULL is no memory.  The call is gone. */
void call_reply(struct call *call, json_t *out);
void call_fail(struct call *call, const struct vhd_error *err);
/* As call_fail with a sentence. */
void call_refuse(struct call *call, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* One of several answers; the call stays. */
void call_continue(struct call *call, json_t *out);

/* ── service.c, for socket.c ── */

/* A message came.  False: it is none; drop the client. */
bool service_message(struct control *control, struct client *client, const char *text,
		     size_t length);

/* End @call without an answer: the service ends. */
void service_drop(struct call *call);
/* The client of @call has gone. */
void service_orphan(struct call *call);
/* Is the call of @client one that only its client ends? */
bool service_is_stream(const struct control *control, const struct client *client);

/* ── socket.c ── */

struct server; /* the listening socket and its clients */
int server_open(struct control *control, const char *path, int fd, struct server **out,
		struct vhd_error *err);
void server_close(struct server *server); /* NULL is fine */
/* Send a message.  A client that cannot keep up is dropped. */
void client_send(struct client *client, json_t *message);
/* The descriptor that came with a message, now the caller's; -1: none.  @client may be NULL. */
int client_take_passed(struct client *client);
/* The call under way has ended: the next may begin. */
void client_idle(struct client *client);

#endif
