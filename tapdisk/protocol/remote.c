/* remote.c - a connection to a tapdisk's control socket: call and wait */
#include "remote.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "libvhd/base/cleanup.h"
#include "libvhd/error.h"

#define READ_BYTES 65536u

static int no_such(int pid, struct vhd_error *err)
{
	return error_set(err, -ESRCH, "there is no tapdisk with pid %d; see tap-ctl list", pid);
}

int remote_open(const char *dir, int pid, struct remote *out, struct vhd_error *err)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;
	char path[PATH_MAX];
	int rc;

	if (fd < 0)
		return error_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	rundir_control_path(dir, pid, path);
	rc = rundir_address(path, &address, err);
	if (rc < 0)
		return rc;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		if (errno == ENOENT)
			return no_such(pid, err);
		if (errno != ECONNREFUSED)
			return error_system(err, -errno, "connect to", path);
		rundir_remove_dead(dir, pid);
		return no_such(pid, err);
	}
	*out = (struct remote){ .fd = steal_fd(&fd) };
	return 0;
}

void remote_close(struct remote *remote)
{
	if (remote->fd >= 0)
		close(remote->fd);
	free(remote->in);
	*remote = (struct remote){ .fd = -1 };
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int gone(struct vhd_error *err)
{
	return error_set(err, -ESRCH, "tapdisk has closed the connection: it ended, or refused");
}

/* The first bytes of a message, and the descriptor. */
static ssize_t send_with(struct remote *remote, const char *text, size_t length)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)),
				.cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS } };
	struct iovec part = { .iov_base = (void *)(uintptr_t)text, .iov_len = length };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = control.room,
				  .msg_controllen = sizeof(control.room) };
	ssize_t sent;

	memcpy(CMSG_DATA(&control.head), remote->pass, sizeof(int));
	sent = sendmsg(remote->fd, &message, MSG_NOSIGNAL);
	if (sent > 0)
		remote->pass = NULL;
	return sent;
}

static int send_all(struct remote *remote, const char *text, size_t length, struct vhd_error *err)
{
	while (length) {
		ssize_t sent = remote->pass ? send_with(remote, text, length) :
					      send(remote->fd, text, length, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return gone(err);
		text += sent;
		length -= (size_t)sent;
	}
	return 0;
}

int remote_ask(struct remote *remote, const char *method, json_t *parameters, bool more,
	       struct vhd_error *err)
{
	json_t *call = json_pack("{s:s++, s:o}", "method", MESSAGE_INTERFACE, ".", method,
				 "parameters", parameters ? parameters : json_object());
	CLEANUP_FREE char *text = NULL;
	size_t length = 0;

	if (call && more)
		json_object_set_new(call, "more", json_true());
	text = message_encode(call, &length);
	/* the other reason would be text that is no UTF-8 */
	if (!text)
		return error_set(err, -EILSEQ, "%s: a name is not UTF-8", method);
	if (length > MESSAGE_CALL_MAX)
		return error_set(err, -E2BIG, "%s: the call is too long", method);
	return send_all(remote, text, length, err);
}

/* Wait for more bytes.  0: some came. */
static int fill(struct remote *remote, int64_t until_ms, struct vhd_error *err)
{
	struct pollfd ready = { .fd = remote->fd, .events = POLLIN };
	int64_t left = until_ms < 0 ? -1 : until_ms - now_ms();
	ssize_t got;
	int rc;

	rc = poll(&ready, 1, until_ms < 0 ? -1 : left > 0 ? (int)left : 0);
	if (rc < 0)
		return error_set(err, -errno, "%s", strerror(errno));
	if (!rc)
		return error_set(err, -ETIMEDOUT, "tapdisk did not answer in time");
	if (remote->room - remote->used < READ_BYTES) {
		char *more = realloc(remote->in, remote->used + 2 * READ_BYTES);

		if (!more)
			return error_set(err, -ENOMEM, "out of memory");
		remote->in = more;
		remote->room = remote->used + 2 * READ_BYTES;
	}
	got = recv(remote->fd, remote->in + remote->used, READ_BYTES, 0);
	if (got <= 0)
		return gone(err);
	remote->used += (size_t)got;
	return 0;
}

static int reply_error(const struct message_reply *reply, struct vhd_error *err)
{
	int status = (int)json_integer_value(json_object_get(reply->parameters, "status"));
	const char *text = json_string_value(json_object_get(reply->parameters, "text"));

	if (strcmp(reply->error, MESSAGE_FAILED)) {
		char *details = json_dumps(reply->parameters, JSON_COMPACT);
		int rc = error_set(err, -EINVAL, "tapdisk: %s %s", reply->error,
				   details ? details : "");

		free(details);
		return rc;
	}
	if (status <= 0 || status > 255)
		status = EINVAL;
	return error_set(err, -status, "%s", text ? text : vhd_strerror(-status));
}

static int take_reply(struct remote *remote, const char *end, json_t **out, struct vhd_error *err)
{
	size_t length = (size_t)(end - remote->in);
	struct message_reply reply;
	const char *why;
	int rc = message_parse_reply(remote->in, length, &reply, &why);

	if (rc < 0)
		return error_set(err, -EPROTO, "tapdisk's answer is no message: %s", why);
	remote->used -= length + 1;
	memmove(remote->in, end + 1, remote->used);
	rc = reply.error ? reply_error(&reply, err) : 0;
	if (rc >= 0 && out)
		*out = reply.parameters ? json_incref(reply.parameters) : json_object();
	message_reply_release(&reply);
	return rc;
}

int remote_next(struct remote *remote, int wait_ms, json_t **out, struct vhd_error *err)
{
	int64_t until = wait_ms < 0 ? -1 : now_ms() + wait_ms;

	for (;;) {
		const char *end = remote->used ? memchr(remote->in, 0, remote->used) : NULL;
		int rc;

		if (end)
			return take_reply(remote, end, out, err);
		if (remote->used > MESSAGE_REPLY_MAX)
			return error_set(err, -EPROTO, "tapdisk's answer is too long");
		rc = fill(remote, until, err);
		if (rc < 0)
			return rc;
	}
}

int remote_call(struct remote *remote, const char *method, json_t *parameters, int wait_ms,
		json_t **out, struct vhd_error *err)
{
	int rc = remote_ask(remote, method, parameters, false, err);

	return rc < 0 ? rc : remote_next(remote, wait_ms, out, err);
}

void remote_wait_end(struct remote *remote, int wait_ms)
{
	int64_t until = now_ms() + wait_ms;

	while (remote->used <= MESSAGE_REPLY_MAX && fill(remote, until, NULL) >= 0)
		;
}
