/* nbd-client.c - one connection: its life, and bytes in and out
 *
 * The socket's events only say that there is something to do; all of it is done
 * in one place, work(): fill the ring, use what is in it, and at the end of
 * the turn send what was queued.  Reading stops while no slot or memory is free.
 */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nbd-private.h"

/* One turn of one client: others wait meanwhile. */
#define RECEIVES_A_TURN 2

static void client_free(struct nbd_client *c)
{
	struct nbd_server *server = c->server;

	assert(!c->in_flight && c->fd < 0);
	list_remove(&c->link);
	server->client_count--;
	loop_undefer(server->loop, &c->work);
	loop_timer_close(c->deadline);
	if (c->export)
		nbd_export_leave(c->export);
	buffers_close(c->buffers);
	free(c->slots);
	free(c->ring);
	free(c->out);
	free(c);
	nbd_server_client_gone(server);
}

static void negotiated(struct nbd_client *c)
{
	if (c->counted_negotiating)
		c->server->negotiating--;
	c->counted_negotiating = false;
}

void nbd_client_close(struct nbd_client *c)
{
	if (c->state != NBD_CLOSING) {
		c->state = NBD_CLOSING;
		negotiated(c);
		loop_fd_close(c->watch);
		c->watch = NULL;
		if (c->tls)
			nbd_tls_session_close(c->tls);
		c->tls = NULL;
		close(c->fd);
		c->fd = -1;
		loop_timer_cancel(c->deadline);
		/* a payload that did not come to its end reaches no disk */
		if (c->receiving)
			nbd_slot_release(c->receiving);
		c->receiving = NULL;
		while (!list_empty(&c->replies))
			nbd_slot_release(list_entry(c->replies.next, struct nbd_slot, link));
	}
	/* freed by the task: callers may be in the middle of it */
	nbd_client_work(c);
}

void nbd_client_work(struct nbd_client *c)
{
	loop_defer(c->server->loop, &c->work);
}

/* ── bytes ── */

ssize_t nbd_client_recv(struct nbd_client *c, struct iovec *iov, int count)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)count };
	ssize_t n;

	if (c->tls_on)
		n = nbd_tls_recv(c->tls, iov, count);
	else
		do
			n = recvmsg(c->fd, &msg, 0);
		while (n < 0 && errno == EINTR);
	if (n < 0 && !c->tls_on)
		n = -errno;
	if (n > 0)
		c->bytes_in += (uint64_t)n;
	return n;
}

ssize_t nbd_client_send(struct nbd_client *c, struct iovec *iov, int count)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)count };
	ssize_t n;

	if (c->tls_on)
		n = nbd_tls_send(c->tls, iov, count);
	else
		do
			n = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
		while (n < 0 && errno == EINTR);
	if (n < 0 && !c->tls_on)
		n = -errno;
	if (n > 0)
		c->bytes_out += (uint64_t)n;
	return n;
}

/* Negotiation's replies.  False: the connection is gone. */
static bool send_out(struct nbd_client *c)
{
	while (c->out_at < c->out_end) {
		struct iovec iov = { c->out + c->out_at, c->out_end - c->out_at };
		ssize_t n = nbd_client_send(c, &iov, 1);

		if (n == -EAGAIN)
			return true;
		if (n <= 0) {
			nbd_client_close(c);
			return false;
		}
		c->out_at += (size_t)n;
	}
	c->out_at = c->out_end = 0;
	return true;
}

/* Room in the ring: what is left in it moves to the front when its end is reached. */
static struct iovec ring_room(struct nbd_client *c)
{
	if (c->in_at == c->in_end)
		c->in_at = c->in_end = 0;
	if (c->in_at && NBD_RING_BYTES - c->in_end < NBD_RING_BYTES / 4) {
		memmove(c->ring, c->ring + c->in_at, c->in_end - c->in_at);
		c->in_end -= c->in_at;
		c->in_at = 0;
	}
	return (struct iovec){ c->ring + c->in_end, NBD_RING_BYTES - c->in_end };
}

/* Fill the ring, the payload that is coming in first.  False: nothing came. */
static bool fill(struct nbd_client *c)
{
	struct iovec iov[2];
	int count = 0;
	size_t direct = 0, room;
	ssize_t n;

	if (c->receiving && c->in_at == c->in_end) {
		direct = (size_t)c->receiving->req.length - c->received;
		iov[count++] = (struct iovec){ c->receiving->buf + c->received, direct };
	}
	iov[count] = ring_room(c);
	if (iov[count].iov_len)
		count++;
	if (!count)
		return false;
	room = direct;
	if (count > 1 || !direct)
		room += iov[count - 1].iov_len;
	n = nbd_client_recv(c, iov, count);
	/* what comes later is an event again */
	if (n < 0 || (size_t)n < room)
		c->readable = c->tls_on && nbd_tls_pending(c->tls);
	if (n == -EAGAIN)
		return false;
	if (n <= 0) {
		c->eof = true;
		return true;
	}
	if ((size_t)n <= direct) {
		c->received += (size_t)n;
	} else {
		c->received += direct;
		c->in_end += (size_t)n - direct;
	}
	return true;
}

/* ── work ── */

static void shake(struct nbd_client *c)
{
	unsigned events = 0;
	int rc = nbd_tls_shake(c->tls, &events);

	if (rc == -EAGAIN) {
		loop_fd_watch(c->watch, events);
		return;
	}
	if (rc < 0) {
		nbd_client_close(c);
		return;
	}
	c->tls_on = true;
	c->readable = true;
	c->state = NBD_OPTION;
	nbd_client_work(c);
}

/* Use what is in the ring.  False: it wants more bytes, or a slot. */
static bool step(struct nbd_client *c)
{
	switch (c->state) {
	case NBD_GREETING:
	case NBD_OPTION:
	case NBD_OPTION_SKIP:
		return nbd_negotiate_step(c);
	case NBD_SERVING:
		return nbd_serve_step(c);
	default:
		return false;
	}
}

static void use(struct nbd_client *c)
{
	while (step(c))
		;
}

static bool may_receive(const struct nbd_client *c)
{
	if (c->eof || c->state == NBD_CLOSING || c->state == NBD_TLS_SHAKING || c->finishing)
		return false;
	return c->state != NBD_SERVING || c->receiving || c->skip ||
	       c->in_end - c->in_at < NBD_EXT_REQUEST_BYTES;
}

static void watch(struct nbd_client *c)
{
	unsigned events = 0;

	if (may_receive(c))
		events |= LOOP_READ;
	if (c->out_at < c->out_end || !list_empty(&c->replies))
		events |= LOOP_WRITE;
	loop_fd_watch(c->watch, events);
}

void nbd_client_rearm(struct nbd_client *c)
{
	bool stuck = !list_empty(&c->replies);
	bool trim = !stuck && !c->in_flight && buffers_touched(c->buffers) > (1u << 20);

	if (!stuck && !trim) {
		if (!c->deadline_is_trim || c->in_flight)
			loop_timer_cancel(c->deadline);
		return;
	}
	if (loop_timer_is_set(c->deadline) && trim == c->deadline_is_trim && !c->progress)
		return;
	c->deadline_is_trim = trim;
	c->progress = false;
	loop_timer_set(c->deadline, trim ? NBD_TRIM_NS : NBD_STUCK_NS);
}

static void serve_end(struct nbd_client *c)
{
	bool busy = c->in_flight || !list_empty(&c->replies);

	/* what came before the end was asked for is answered, as far as somebody listens */
	if ((c->eof || c->finishing) && !busy && !c->parse_more)
		nbd_client_close(c);
}

static void work(struct loop_task *task)
{
	struct nbd_client *c = list_entry(task, struct nbd_client, work);

	if (c->state == NBD_TLS_SHAKING)
		shake(c);
	for (int i = 0; i < RECEIVES_A_TURN && c->state != NBD_CLOSING; i++) {
		use(c);
		if (!c->readable || !may_receive(c) || !fill(c))
			break;
		use(c);
	}
	if (c->state != NBD_CLOSING && c->state != NBD_SERVING) {
		if (send_out(c) && c->eof)
			nbd_client_close(c);
	} else if (c->state == NBD_SERVING) {
		if (send_out(c) && c->out_at == c->out_end)
			nbd_reply_flush(c);
		if (c->state == NBD_SERVING) {
			serve_end(c);
			if (c->state == NBD_SERVING)
				nbd_client_rearm(c);
		}
	}
	if (c->state == NBD_CLOSING) {
		if (!c->in_flight)
			client_free(c);
		return;
	}
	if (c->state == NBD_TLS_SHAKING)
		return;
	watch(c);
	if (c->tls_on && c->readable && may_receive(c))
		nbd_client_work(c);
}

static void ready(void *owner, unsigned events)
{
	struct nbd_client *c = owner;

	if (events & LOOP_READ)
		c->readable = true;
	nbd_client_work(c);
}

static void late(void *owner)
{
	struct nbd_client *c = owner;

	if (c->state == NBD_SERVING && c->deadline_is_trim) {
		if (!c->in_flight && !c->receiving && list_empty(&c->replies))
			buffers_trim(c->buffers);
		return;
	}
	nbd_client_close(c); /* negotiates for ever, or does not read its replies */
}

/* ── beginning ── */

static void peer_name(struct nbd_client *c)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	struct ucred cred;
	socklen_t cred_length = sizeof(cred);
	int on = 1;

	if (getpeername(c->fd, (struct sockaddr *)&address, &length) == 0 &&
	    address.ss_family != AF_UNIX) {
		(void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		nbd_address_text((struct sockaddr *)&address, length, c->peer, sizeof(c->peer));
	} else if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_length) == 0) {
		snprintf(c->peer, sizeof(c->peer), "pid %d uid %u", cred.pid, cred.uid);
	}
}

int nbd_client_new(struct nbd_server *server, int fd)
{
	struct nbd_client *c = calloc(1, sizeof(*c));
	const int room = 1 << 20;
	int rc = -ENOMEM;

	if (!c)
		return rc;
	c->ring = malloc(NBD_RING_BYTES);
	if (c->ring)
		rc = loop_timer_open(server->loop, late, c, &c->deadline);
	if (!rc)
		rc = loop_fd_open(server->loop, fd, ready, c, &c->watch);
	if (rc < 0) {
		loop_timer_close(c->deadline);
		free(c->ring);
		free(c);
		return rc;
	}
	c->server = server;
	c->fd = fd;
	c->work.run = work;
	list_init(&c->free_slots);
	list_init(&c->replies);
	list_append(&server->clients, &c->link);
	server->client_count++;
	server->negotiating++;
	c->counted_negotiating = true;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	peer_name(c);
	loop_timer_set(c->deadline, NBD_HANDSHAKE_NS);
	nbd_negotiate_greet(c);
	nbd_client_work(c);
	return 0;
}

void nbd_client_negotiated(struct nbd_client *c)
{
	negotiated(c);
	loop_timer_cancel(c->deadline);
}
