/* socket.c - clients of the control socket: messages in, replies out, limits
 *
 * Only processes of our user, or root's, are heard; the kernel says who they are
 * (SO_PEERCRED).  A client has one call under way; what it sends meanwhile waits in its
 * buffer.  Limits, each of which ends in a closed connection and nothing else:
 *   - a message longer than MESSAGE_CALL_MAX
 *   - a message begun and not finished within PARTIAL_S seconds
 *   - more than CLIENTS clients: the one idle longest gives way, who never asked anything before
 *     who did; if all are at work the new one
 *   - more than REPLIES_MAX bytes of events that it does not read
 * Who does not read its replies is not heard until it does.
 *
 * The socket is made under another name, listens, and is then renamed: whoever finds the name
 * and is refused knows that its server is dead.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "libvhd/base/cleanup.h"
#include "libvhd/error.h"
#include "slots.h"
#include "tapdisk/log/log.h"
#include "tapdisk/protocol/rundir.h"

#define CLIENTS	     64u
#define BACKLOG	     64
#define PARTIAL_S    10
#define REPLIES_MAX  (1u << 20)
#define READ_BYTES   4096u
#define NS_PER_S     1000000000ull
#define ACCEPT_BATCH 16

struct server {
	struct control *control;
	int fd;
	char path[PATH_MAX]; /* "": not ours to remove */
	struct loop_fd *watch;
	struct list clients; /* the one idle longest first */
	unsigned count;
};

struct client {
	struct list link;
	struct server *server;
	int fd;
	pid_t pid;
	struct loop_fd *watch;
	struct loop_timer *partial; /* runs while a message is begun and not finished */
	char *in;
	size_t in_used, in_room;
	int passed; /* owned: the descriptor that came last; -1: none */
	char *out;
	size_t out_at, out_used, out_room;
	bool busy;   /* a call is under way */
	bool served; /* one was, at least */
	bool ended;  /* it sends no more */
	bool doomed; /* is closed at the end of this turn */
	struct loop_task task;
};

static void client_close(struct client *client)
{
	struct server *server = client->server;

	list_remove(&client->link);
	server->count--;
	loop_undefer(server->control->loop, &client->task);
	slots_client_gone(server->control, client);
	for (struct list *l = server->control->calls.next; l != &server->control->calls;) {
		struct call *call = list_entry(l, struct call, link);

		l = l->next;
		if (call->client == client)
			service_orphan(call);
	}
	loop_fd_close(client->watch);
	loop_timer_close(client->partial);
	close(client->fd);
	if (client->passed >= 0)
		close(client->passed);
	free(client->in);
	free(client->out);
	free(client);
}

/* It may be in the middle of something: it goes at the end of the turn. */
static void client_doom(struct client *client)
{
	client->doomed = true;
	loop_defer(client->server->control->loop, &client->task);
}

static void client_watch(struct client *client)
{
	unsigned events = 0;

	if (!client->ended && client->in_used <= MESSAGE_CALL_MAX)
		events |= LOOP_READ;
	if (client->out_used)
		events |= LOOP_WRITE;
	loop_fd_watch(client->watch, events);
}

/* ── replies ── */

static void flush_out(struct client *client)
{
	while (client->out_used) {
		ssize_t sent = send(client->fd, client->out + client->out_at, client->out_used,
				    MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			return;
		if (sent < 0) {
			client->out_used = 0;
			client_doom(client);
			return;
		}
		client->out_at += (size_t)sent;
		client->out_used -= (size_t)sent;
	}
	client->out_at = 0;
}

static bool queue_out(struct client *client, const char *text, size_t length)
{
	size_t need = client->out_at + client->out_used + length;

	/* what was sent makes room once it is the larger part: each byte is moved once at most */
	if (client->out_at > client->out_used) {
		memmove(client->out, client->out + client->out_at, client->out_used);
		client->out_at = 0;
		need = client->out_used + length;
	}
	if (client->out_used && client->out_used + length > REPLIES_MAX)
		return false;
	if (need > client->out_room) {
		char *more = realloc(client->out, need * 2);

		if (!more)
			return false;
		client->out = more;
		client->out_room = need * 2;
	}
	memcpy(client->out + client->out_at + client->out_used, text, length);
	client->out_used += length;
	return true;
}

void client_send(struct client *client, json_t *message)
{
	size_t length = 0;
	CLEANUP_FREE char *text = message_encode(message, &length);

	if (client->doomed)
		return;
	if (!text || !queue_out(client, text, length)) {
		log_write(LOG_LEVEL_WARNING, "control-slow", LOG_NO_MINOR,
			  "process %d does not read its replies; dropped", (int)client->pid);
		client_doom(client);
		return;
	}
	flush_out(client);
	client_watch(client);
}

void client_idle(struct client *client)
{
	client->busy = false;
	client->served = true;
	/* the latest to be idle is the last to give way */
	list_remove(&client->link);
	list_append(&client->server->clients, &client->link);
	loop_defer(client->server->control->loop, &client->task);
}

/* ── messages ── */

static void refuse(struct client *client, const char *why)
{
	log_write(LOG_LEVEL_WARNING, "control-refused", LOG_NO_MINOR, "process %d: %s; dropped",
		  (int)client->pid, why);
	client_doom(client);
}

/* Work off what has come, one call at a time. */
static void take_messages(struct client *client)
{
	/* who does not read its replies is not asked for more calls */
	while (!client->busy && !client->doomed && client->in_used && !client->out_used) {
		char *end = memchr(client->in, 0, client->in_used);
		size_t length;
		bool good;

		if (!end) {
			if (client->in_used > MESSAGE_CALL_MAX)
				refuse(client, "a message is too long");
			else if (!loop_timer_is_set(client->partial))
				loop_timer_set(client->partial, PARTIAL_S * NS_PER_S);
			return;
		}
		loop_timer_cancel(client->partial);
		length = (size_t)(end - client->in);
		client->busy = true;
		good = service_message(client->server->control, client, client->in, length);
		client->in_used -= length + 1;
		memmove(client->in, end + 1, client->in_used);
		if (!good)
			refuse(client, "not a message");
	}
}

static void client_task(struct loop_task *task)
{
	struct client *client = list_entry(task, struct client, task);

	if (!client->doomed)
		take_messages(client);
	/* who has said all and heard all is done */
	if (client->doomed || (client->ended && !client->busy && !client->out_used)) {
		client_close(client);
		return;
	}
	client_watch(client);
}

/* A descriptor that comes along is kept until a call takes it, or the next one comes. */
static void keep_passed(struct client *client, struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
		    c->cmsg_len != CMSG_LEN(sizeof(int)))
			continue;
		if (client->passed >= 0)
			close(client->passed);
		memcpy(&client->passed, CMSG_DATA(c), sizeof(int));
	}
}

/* As recv().  The control buffer has room for one descriptor: the kernel closes what does not
 * fit. */
static ssize_t receive(struct client *client, char *to)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = { .iov_base = to, .iov_len = READ_BYTES };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = control.room,
				  .msg_controllen = CMSG_LEN(sizeof(int)) };
	ssize_t got = recvmsg(client->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (got >= 0)
		keep_passed(client, &message);
	return got;
}

int client_take_passed(struct client *client)
{
	return client ? steal_fd(&client->passed) : -1;
}

static void read_in(struct client *client)
{
	ssize_t got;

	if (client->in_room - client->in_used < READ_BYTES) {
		char *more = realloc(client->in, client->in_room + READ_BYTES * 4);

		if (!more) {
			client_doom(client);
			return;
		}
		client->in = more;
		client->in_room += READ_BYTES * 4;
	}
	got = receive(client, client->in + client->in_used);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got > 0) {
		client->in_used += (size_t)got;
	} else {
		client->ended = true;
		/* a stream, or an unfinished message, has nobody to end it but this */
		if (got < 0 || service_is_stream(client->server->control, client) ||
		    (!client->busy && client->in_used && !memchr(client->in, 0, client->in_used)))
			client_doom(client);
	}
	loop_defer(client->server->control->loop, &client->task);
}

static void client_ready(void *owner, unsigned events)
{
	struct client *client = owner;

	if (events & LOOP_WRITE)
		flush_out(client);
	if (events & LOOP_READ && !client->doomed)
		read_in(client);
	loop_defer(client->server->control->loop, &client->task);
}

static void client_partial(void *owner)
{
	refuse(owner, "a message was begun and not finished in time");
}

/* ── clients come ── */

static bool may_talk(int fd, struct ucred *peer)
{
	socklen_t length = sizeof(*peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &length))
		return false;
	return peer->uid == 0 || peer->uid == geteuid();
}

/* The one idle longest of those that never asked for anything, or of the others; NULL: none. */
static struct client *find_idle(const struct server *server, bool served)
{
	for (struct list *l = server->clients.next; l != &server->clients; l = l->next) {
		struct client *client = list_entry(l, struct client, link);

		if (!client->busy && !client->out_used && client->served == served &&
		    !slots_is_holder(server->control, client))
			return client;
	}
	return NULL;
}

/* Room for one more?  An idle one gives way. */
static bool make_room(struct server *server)
{
	struct client *idle;

	if (server->count < CLIENTS)
		return true;
	idle = find_idle(server, false);
	if (!idle)
		idle = find_idle(server, true);
	if (idle)
		client_close(idle);
	return idle != NULL;
}

static void welcome(struct server *server, int fd, pid_t pid)
{
	struct client *client = calloc(1, sizeof(*client));
	struct loop *loop = server->control->loop;

	if (!client) {
		close(fd);
		return;
	}
	client->server = server;
	client->fd = fd;
	client->passed = -1;
	client->pid = pid;
	client->task.run = client_task;
	list_append(&server->clients, &client->link);
	server->count++;
	if (loop_fd_open(loop, fd, client_ready, client, &client->watch) < 0 ||
	    loop_timer_open(loop, client_partial, client, &client->partial) < 0) {
		client_close(client);
		return;
	}
	client_watch(client);
}

static void server_ready(void *owner, unsigned events)
{
	struct server *server = owner;

	(void)events;
	for (int k = 0; k < ACCEPT_BATCH; k++) {
		int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct ucred peer = { .pid = -1, .uid = (uid_t)-1 };

		if (fd < 0)
			return;
		if (!may_talk(fd, &peer)) {
			log_write(LOG_LEVEL_WARNING, "control-denied", LOG_NO_MINOR,
				  "process %d of user %u may not talk to us", (int)peer.pid,
				  (unsigned)peer.uid);
			close(fd);
		} else if (!make_room(server)) {
			log_write(LOG_LEVEL_WARNING, "control-full", LOG_NO_MINOR,
				  "all %u control clients are at work; one more refused", CLIENTS);
			close(fd);
		} else {
			welcome(server, fd, peer.pid);
		}
	}
}

/* ── the socket ── */

static int make_socket(const struct control *control, const char *path, struct vhd_error *err)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CLEANUP_FD int lock = -1;
	struct sockaddr_un address;
	char fresh[PATH_MAX];
	int rc;

	if (fd < 0)
		return error_system(err, -errno, "make", path);
	snprintf(fresh, sizeof(fresh), "%.*s.new", PATH_MAX - 8, path);
	rc = rundir_address(fresh, &address, err);
	if (rc < 0)
		return rc;
	lock = rundir_lock(control->params.run_dir, err);
	if (lock < 0)
		return lock;
	unlink(fresh);
	/* the mode of the descriptor becomes that of the name: nobody else's from the first moment */
	if (fchmod(fd, 0600) || bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    chmod(fresh, 0600) || listen(fd, BACKLOG) || rename(fresh, path)) {
		rc = error_system(err, -errno, "listen at", path);
		unlink(fresh);
		return rc;
	}
	return steal_fd(&fd);
}

int server_open(struct control *control, const char *path, int fd, struct server **out,
		struct vhd_error *err)
{
	struct server *server = calloc(1, sizeof(*server));
	int rc = -ENOMEM;

	if (!server)
		return error_set(err, rc, "out of memory");
	server->control = control;
	server->fd = -1;
	list_init(&server->clients);
	if (path) {
		rc = make_socket(control, path, err);
		if (rc < 0)
			goto fail;
		fd = rc;
		snprintf(server->path, sizeof(server->path), "%s", path);
	}
	rc = loop_fd_open(control->loop, fd, server_ready, server, &server->watch);
	if (rc < 0) {
		if (path)
			close(fd);
		error_set(err, rc, "out of memory");
		goto fail;
	}
	server->fd = fd;
	loop_fd_watch(server->watch, LOOP_READ);
	*out = server;
	return 0;
fail:
	server_close(server);
	return rc;
}

void server_close(struct server *server)
{
	if (!server)
		return;
	while (!list_empty(&server->clients))
		client_close(list_entry(server->clients.next, struct client, link));
	loop_fd_close(server->watch);
	if (server->path[0])
		unlink(server->path);
	if (server->fd >= 0)
		close(server->fd);
	free(server);
}
