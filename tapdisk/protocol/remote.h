/* remote.h - a connection to a tapdisk's control socket: call and wait */
#ifndef TAPDISK_REMOTE_H
#define TAPDISK_REMOTE_H

#include "message.h"
#include "rundir.h"

#define REMOTE_WAIT_MS 60000 /* of calls that need no time of their own */
#define REMOTE_FOREVER (-1)

struct remote {
	int fd;
	const int *pass; /* borrowed: a descriptor that goes with the next call; NULL: none */
	char *in;
	size_t used, room;
};

/* -ESRCH: no tapdisk has that pid; names that a dead one left are removed. */
VHD_MUST int remote_open(const char *dir, int pid, struct remote *out, struct vhd_error *err);
void remote_close(struct remote *remote);

/* @parameters is taken; NULL: none.  *@out (may be NULL): the answer's parameters, to be released.
 * The error of the other side has its exit status as code and its sentence as text. */
VHD_MUST int remote_call(struct remote *remote, const char *method, json_t *parameters, int wait_ms,
			 json_t **out, struct vhd_error *err);

/* For streams: ask with `more`; then one answer at a time.  -ETIMEDOUT when none came in @wait_ms;
 * -ESRCH when the other side has ended. */
VHD_MUST int remote_ask(struct remote *remote, const char *method, json_t *parameters, bool more,
			struct vhd_error *err);
VHD_MUST int remote_next(struct remote *remote, int wait_ms, json_t **out, struct vhd_error *err);

/* Wait until the process has closed the connection: it ends. */
void remote_wait_end(struct remote *remote, int wait_ms);

#endif
