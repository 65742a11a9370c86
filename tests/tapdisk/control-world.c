/* control-world.c - a server with its control socket, and clients for it */
#include "control-world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tapdisk/log/log.h"
#include "tapdisk/protocol/message.h"
#include "tapdisk/protocol/rundir.h"

#define WAIT_S 20

static void down(void *owner, const struct vhd_error *err)
{
	struct world *w = owner;

	w->down_err = *err;
	loop_stop(w->loop);
}

static void stop(void *owner)
{
	struct world *w = owner;

	w->stopped = true;
	control_shutdown(w->control, UINT64_C(5000000000), down, w);
}

void world_make(struct world *w)
{
	struct control_params params = {
		.host = &w->host, .run_dir = w->dir, .retry_ns = 0, .stop = stop, .owner = w
	};
	struct vhd_error err = { 0 };

	memset(w, 0, sizeof(*w));
	log_open("check", false, LOG_LEVEL_ERROR);
	strcpy(w->base, "/tmp/control.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(w->base));
	snprintf(w->dir, sizeof(w->dir), "%s/run", w->base);
	ck_assert_int_eq(rundir_make(w->dir, &err), 0);
	ck_assert_int_eq(loop_open(&w->loop), 0);
	ck_assert_int_eq(engine_open(w->loop, ENGINE_THREADS, 64, &w->engine), 0);
	host_init(&w->host, w->loop, w->engine);
	ck_assert_int_eq(control_open(&params, &w->control, &err), 0);
	ck_assert_msg(!control_listen(w->control, &err), "%s", err.text);
	snprintf(w->path, sizeof(w->path), "%s/ctl%d", w->dir, (int)getpid());
}

static void *run(void *arg)
{
	struct world *w = arg;

	loop_run(w->loop);
	return NULL;
}

void world_run(struct world *w)
{
	ck_assert_int_eq(pthread_create(&w->thread, NULL, run, w), 0);
}

void world_end(struct world *w)
{
	struct sockaddr_un address;
	char command[128];
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	/* unless it is ending already */
	if (!rundir_address(w->path, &address, NULL) &&
	    !connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		static const char call[] = "{\"method\":\"" MESSAGE_INTERFACE ".Stop\"}";

		(void)!send(fd, call, sizeof(call), MSG_NOSIGNAL);
	}
	if (!w->joined)
		pthread_join(w->thread, NULL);
	close(fd);
	control_close(w->control);
	engine_close(w->engine);
	loop_close(w->loop);
	ck_assert_int_ne(access(w->path, F_OK), 0);
	snprintf(command, sizeof(command), "rm -rf '%s'", w->base);
	ck_assert_int_eq(system(command), 0);
}

/* ── clients ── */

int world_connect(struct world *w)
{
	struct timeval wait = { .tv_sec = WAIT_S };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(rundir_address(w->path, &address, NULL), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	ck_assert_msg(!connect(fd, (struct sockaddr *)&address, sizeof(address)), "connect: %s",
		      strerror(errno));
	return fd;
}

void world_send(int fd, const void *bytes, size_t length)
{
	const char *p = bytes;

	while (length) {
		ssize_t sent = send(fd, p, length, MSG_NOSIGNAL);

		if (sent <= 0)
			return; /* it was closed: what is heard says so */
		p += sent;
		length -= (size_t)sent;
	}
}

void world_say(int fd, const char *text)
{
	world_send(fd, text, strlen(text) + 1);
}

char *world_hear(int fd)
{
	size_t used = 0, room = 4096;
	char *text = malloc(room);

	for (;;) {
		ssize_t got = recv(fd, text + used, 1, 0);

		ck_assert_msg(got >= 0 || errno == ECONNRESET, "nothing was heard: %s",
			      strerror(errno));
		if (got <= 0) {
			free(text);
			return NULL;
		}
		if (!text[used])
			return text;
		if (++used == room)
			text = realloc(text, room *= 2);
	}
}

json_t *world_answer(int fd)
{
	char *text = world_hear(fd);
	json_t *answer;

	ck_assert_msg(text, "the connection was closed");
	answer = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	ck_assert_msg(answer, "no JSON: %s", text);
	free(text);
	return answer;
}

json_t *world_call(int fd, const char *method, const char *parameters)
{
	char text[8192];

	snprintf(text, sizeof(text), "{\"method\":\"%s.%s\",\"parameters\":%s}", MESSAGE_INTERFACE,
		 method, parameters);
	world_say(fd, text);
	return world_answer(fd);
}

json_t *world_do(int fd, const char *method, const char *parameters)
{
	json_t *answer = world_call(fd, method, parameters), *out;
	char *text = json_dumps(answer, 0);

	ck_assert_msg(!json_object_get(answer, "error"), "%s: %s", method, text);
	free(text);
	out = json_incref(json_object_get(answer, "parameters"));
	json_decref(answer);
	return out;
}

void world_refused(int fd, const char *method, const char *parameters, int status)
{
	json_t *answer = world_call(fd, method, parameters);
	json_t *in = json_object_get(answer, "parameters");
	char *text = json_dumps(answer, 0);

	ck_assert_msg(json_object_get(answer, "error") &&
			      json_integer_value(json_object_get(in, "status")) == status &&
			      json_string_length(json_object_get(in, "text")) > 5,
		      "%s %s: %s instead of status %d", method, parameters, text, status);
	free(text);
	json_decref(answer);
}

json_t *world_patiently(int fd, const char *method, const char *parameters)
{
	for (int k = 0; k < WAIT_S * 100; k++) {
		json_t *answer = world_call(fd, method, parameters);
		json_t *in = json_object_get(answer, "parameters"), *out = NULL;
		bool busy = json_integer_value(json_object_get(in, "status")) == EBUSY;

		if (!busy)
			out = json_incref(in);
		ck_assert(busy || !json_object_get(answer, "error"));
		json_decref(answer);
		if (!busy)
			return out;
		usleep(10000);
	}
	ck_abort_msg("%s: something is under way for too long", method);
	return NULL;
}

int world_state(struct world *w, unsigned minor)
{
	int fd = world_connect(w), state = -1;
	json_t *facts = world_do(fd, "List", "{}"), *disk;
	size_t k;

	json_array_foreach(json_object_get(facts, "disks"), k,
			   disk) if (json_integer_value(json_object_get(disk, "minor")) ==
				     (json_int_t)minor)
		state = (int)json_integer_value(json_object_get(disk, "state"));
	json_decref(facts);
	close(fd);
	return state;
}

void world_wait_state(struct world *w, unsigned minor, int state)
{
	for (int k = 0; k < WAIT_S * 100; k++) {
		if (world_state(w, minor) == state)
			return;
		usleep(10000);
	}
	ck_abort_msg("minor %u is in state 0x%x, not 0x%x", minor, world_state(w, minor), state);
}
