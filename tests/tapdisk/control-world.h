/* control-world.h - a server with its control socket, its loop in a thread of its own; clients
 * that say what they like, byte by byte
 */
#ifndef CONTROL_WORLD_H
#define CONTROL_WORLD_H

#include <check.h>
#include <jansson.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>

#include "tapdisk/control/control.h"

struct world {
	char base[64], dir[96], path[128]; /* run directory, its control socket */
	struct loop *loop;
	struct engine *engine;
	struct host host;
	struct control *control;
	pthread_t thread;
	bool joined;
	bool stopped;		   /* the service asked for the end */
	struct vhd_error down_err; /* of its shutdown */
};

/* Ready, but the loop does not run yet. */
void world_make(struct world *w);
void world_run(struct world *w);
/* Ask it to stop (if it has not), wait for the thread, free everything. */
void world_end(struct world *w);

int world_connect(struct world *w);
void world_send(int fd, const void *bytes, size_t length);
/* Send a text and the NUL behind it. */
void world_say(int fd, const char *text);
/* One message, without the NUL, to be freed; NULL: the connection was closed. */
char *world_hear(int fd);
/* The same as an object; fails the test when the connection is closed or it is none. */
json_t *world_answer(int fd);
/* Call one of our methods; the whole answer. */
json_t *world_call(int fd, const char *method, const char *parameters);
/* The same: the call must succeed; its parameters, or fail with an exit status. */
json_t *world_do(int fd, const char *method, const char *parameters);
void world_refused(int fd, const char *method, const char *parameters, int status);
/* As world_do, again while something else is under way with the disk. */
json_t *world_patiently(int fd, const char *method, const char *parameters);
/* State bits of a disk, asked for by a client of its own. */
int world_state(struct world *w, unsigned minor);
void world_wait_state(struct world *w, unsigned minor, int state);

#endif
