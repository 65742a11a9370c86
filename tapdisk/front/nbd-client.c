/* nbd-client.c - one connection: its life
 *
 * The socket's events only say that there is something to do; all of it is done
 * in one place, work(): fill the ring, use what is in it, and at the end of
 * the turn send what was queued.  Reading stops while no slot or memory is free.  A turn
 * serves at most NBD_SLOTS requests whose answers come at once.
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
#include "tapdisk/log/log.h"

/* One turn of one client: others wait meanwhile. */
#define RECEIVES_A_TURN 8

/* A machine that is gone says no goodbye: it is asked when nothing came for so long. */
#define KEEPALIVE_IDLE_S  60
#define KEEPALIVE_AGAIN_S 15
#define KEEPALIVE_TRIES	  4

void nbd_client_free(struct nbd_client *c)
{
	struct nbd_server *server = c->server;

	assert(!c->in_flight && c->fd < 0);
	assert(c->state == NBD_CLOSING);
	list_remove(&c->link);
	server->client_count--;
	loop_undefer(server->loop, &c->work);
	loop_timer_close(c->deadline);
	if (c->export)
		nbd_export_leave(c->export);
	buffers_close(c->buffers);
	nbd_holder_release(&c->holder);
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

/* ORDER 19: what it asked for and cannot be told about any more does not wait for better times, to be
 * carried out on top of what others wrote meanwhile. */
static void withdraw(struct nbd_client *c)
{
	if (c->in_flight && c->export->vbd)
		vbd_withdraw(c->export->vbd, &c->as_client);
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
		nbd_holder_release(&c->holder);
		withdraw(c);
		if (c->export && c->export->vbd)
			vbd_client_left(c->export->vbd, &c->as_client);
	}
	/* freed by the task: callers may be in the middle of it */
	nbd_client_work(c);
}

void nbd_client_fail(struct nbd_client *c, const char *why)
{
	if (c->state == NBD_CLOSING)
		return;
	log_write(LOG_LEVEL_WARNING, "nbd-client",
		  c->export && c->export->vbd ? (int)vbd_minor(c->export->vbd) : LOG_NO_MINOR,
		  "connection of %s at %s closed: %s", c->peer, c->server->address, why);
	nbd_client_close(c);
}

void nbd_client_work(struct nbd_client *c)
{
	/* work() looks at everything before it ends */
	if (!c->working)
		loop_defer(c->server->loop, &c->work);
}

/* ── work ── */

static void shake(struct nbd_client *c)
{
	unsigned events = 0;
	char why[600];
	int rc = nbd_tls_shake(c->tls, &events);

	if (rc == -EAGAIN) {
		loop_fd_watch(c->watch, events);
		return;
	}
	if (rc == -EACCES) {
		snprintf(why, sizeof(why), "'%s' is not allowed here", nbd_tls_who(c->tls));
		nbd_client_fail(c, why);
		return;
	}
	if (rc < 0) {
		nbd_client_fail(c, "no TLS came about");
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
	if (c->eof || c->state == NBD_CLOSING || c->state == NBD_TLS_SHAKING || c->tls_waiting ||
	    c->finishing)
		return false;
	return c->state != NBD_SERVING || c->receiving || c->skip || c->starved;
}

static void receive(struct nbd_client *c)
{
	c->released = false;
	use(c);
	for (int i = 0; i < RECEIVES_A_TURN && c->readable && may_receive(c); i++) {
		if (!nbd_stream_fill(c))
			break;
		use(c);
	}
}

static bool replies_wait(const struct nbd_client *c)
{
	return c->out_at < c->out_end || !list_empty(&c->replies);
}

static void watch(struct nbd_client *c)
{
	unsigned events = 0;

	if (may_receive(c))
		events |= LOOP_READ;
	/* a request that can go on now does so in the next turn: others come first.  The socket can
	 * be written to, which is an event at once */
	if (replies_wait(c) || (c->parse_more && c->released))
		events |= LOOP_WRITE;
	if (c->state == NBD_SERVING && !c->left)
		events |= LOOP_LEFT;
	loop_fd_watch(c->watch, events);
	/* decrypted already: no event will tell */
	if (c->tls_on && c->readable && may_receive(c))
		nbd_client_work(c);
}

/* The deadline is set anew by what the client is doing. */
static void rearm(struct nbd_client *c)
{
	static const uint64_t times[] = { NBD_STUCK_NS, NBD_PACE_NS, NBD_TRIM_NS };
	bool moves = c->receiving || replies_wait(c);
	enum nbd_deadline what = NBD_DEADLINE_STUCK;

	if (moves && c->holder.shared) {
		what = NBD_DEADLINE_PACE;
	} else if (!replies_wait(c)) {
		if (c->in_flight || c->receiving || buffers_touched(c->buffers) <= BUFFERS_KEPT) {
			loop_timer_cancel(c->deadline);
			return;
		}
		what = NBD_DEADLINE_TRIM;
	}
	if (loop_timer_is_set(c->deadline) && what == c->deadline_for &&
	    (!c->progress || what == NBD_DEADLINE_PACE))
		return;
	if (what == NBD_DEADLINE_PACE) {
		c->looks = c->slow = 0;
		c->moved = c->bytes_in + c->bytes_out;
	}
	c->deadline_for = what;
	c->progress = false;
	loop_timer_set(c->deadline, times[what]);
}

/* It holds shared memory, which is for requests that move.  False: it has done so too long. */
static bool keeps_pace(struct nbd_client *c)
{
	uint64_t moved = c->bytes_in + c->bytes_out - c->moved;

	c->slow = moved < NBD_PACE_BYTES && nbd_memory_wanted(&c->holder) ? c->slow + 1 : 0;
	if (c->slow == NBD_PACE_LOOKS)
		return false;
	c->looks = moved ? 0 : c->looks + 1;
	c->moved += moved;
	loop_timer_set(c->deadline, NBD_PACE_NS);
	return c->looks * NBD_PACE_NS < NBD_STUCK_NS;
}

static void serve(struct nbd_client *c)
{
	if (!nbd_stream_send_out(c))
		return;
	if (c->out_at == c->out_end)
		nbd_reply_flush(c);
	if (c->state != NBD_SERVING)
		return;
	/* somebody may still listen, but nobody knows how long */
	if (c->left)
		withdraw(c);
	/* what came before the end is answered, as far as somebody listens */
	if ((c->eof || c->finishing) && !c->in_flight && !replies_wait(c) && !c->parse_more)
		nbd_client_close(c);
	else
		rearm(c);
}

static void negotiate(struct nbd_client *c)
{
	if (!nbd_stream_send_out(c))
		return;
	/* what was asked before the end is answered, within the time for all of it */
	if (c->eof && c->out_at == c->out_end) {
		nbd_client_close(c);
	} else if (c->tls_waiting && c->out_at == c->out_end) {
		c->tls_waiting = false;
		c->state = NBD_TLS_SHAKING;
		shake(c);
	}
}

static void work(struct loop_task *task)
{
	struct nbd_client *c = list_entry(task, struct nbd_client, work);

	c->working = true;
	if (c->state == NBD_TLS_SHAKING)
		shake(c);
	receive(c);
	if (c->state == NBD_SERVING)
		serve(c);
	else if (c->state != NBD_CLOSING && c->state != NBD_TLS_SHAKING)
		negotiate(c);
	c->working = false;
	if (c->state == NBD_CLOSING) {
		if (!c->in_flight)
			nbd_client_free(c);
	} else if (c->state != NBD_TLS_SHAKING) {
		watch(c);
	}
}

static void ready(void *owner, unsigned events)
{
	struct nbd_client *c = owner;

	if (events & LOOP_READ)
		c->readable = true;
	if (events & LOOP_LEFT)
		c->left = true;
	nbd_client_work(c);
}

static void late(void *owner)
{
	struct nbd_client *c = owner;

	if (c->state == NBD_SERVING && c->deadline_for == NBD_DEADLINE_TRIM) {
		buffers_trim(c->buffers); /* else rearm() had cancelled it */
		return;
	}
	if (c->state == NBD_SERVING && c->deadline_for == NBD_DEADLINE_PACE && keeps_pace(c))
		return;
	nbd_client_fail(c, c->state != NBD_SERVING ? "it has not opened an export in time" :
			   replies_wait(c)	   ? "it does not read its replies, or too slowly" :
						     "it does not send its payload, or too slowly");
}

/* Its turn to ask for memory of the part that is shared. */
static void memory_ready(struct nbd_holder *holder)
{
	struct nbd_client *c = list_entry(holder, struct nbd_client, holder);

	c->released = true;
	nbd_client_work(c);
}

/* ── beginning ── */

static void peer_name(struct nbd_client *c)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	struct ucred cred;
	socklen_t cred_length = sizeof(cred);
	int on = 1, idle = KEEPALIVE_IDLE_S, again = KEEPALIVE_AGAIN_S, tries = KEEPALIVE_TRIES;

	if (getpeername(c->fd, (struct sockaddr *)&address, &length) == 0 &&
	    address.ss_family != AF_UNIX) {
		(void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		(void)setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
		(void)setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPINTVL, &again, sizeof(again));
		(void)setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof(tries));
		(void)setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
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
	c->options_max = NBD_OPTIONS_MAX;
	c->work.run = work;
	nbd_holder_init(&c->holder, server->memory, memory_ready);
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
