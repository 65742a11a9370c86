/* nbd-stream.c - bytes of a connection, in and out
 *
 *   ring:  0 ──used── in_at ──to be used── in_end ──room── NBD_RING_BYTES
 *
 * One receive takes as many requests as have come.  A payload whose beginning came that
 * way gets its rest straight into its buffer, and among large payloads little is read into the ring
 * behind them, so that the next one's data need not be copied either.
 */
#include <errno.h>
#include <string.h>

#include "libvhd/base/number.h"
#include "nbd-private.h"

/* > 0, 0 (end), -EAGAIN, or another error. */
static ssize_t receive(struct nbd_client *c, struct iovec *iov, int count)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)count };
	ssize_t n;

	if (c->tls_on)
		return nbd_tls_recv(c->tls, iov, count);
	do
		n = recvmsg(c->fd, &msg, 0);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t nbd_stream_send(struct nbd_client *c, struct iovec *iov, int count)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)count };
	ssize_t n;

	if (c->tls_on) {
		n = nbd_tls_send(c->tls, iov, count);
	} else {
		do
			n = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			n = -errno;
	}
	if (n > 0)
		c->bytes_out += (uint64_t)n;
	return n;
}

bool nbd_stream_send_out(struct nbd_client *c)
{
	while (c->out_at < c->out_end) {
		struct iovec iov = { c->out + c->out_at, c->out_end - c->out_at };
		ssize_t n = nbd_stream_send(c, &iov, 1);

		if (n == -EAGAIN)
			return true;
		if (n <= 0) {
			nbd_client_close(c);
			return false;
		}
		c->progress = true;
		c->out_at += (size_t)n;
	}
	c->out_at = c->out_end = 0;
	return true;
}

/* Room in the ring: what is left in it moves to the front when its end is near. */
static struct iovec ring_room(struct nbd_client *c)
{
	size_t room;

	if (c->in_at == c->in_end)
		c->in_at = c->in_end = 0;
	if (c->in_at && NBD_RING_BYTES - c->in_end < NBD_RING_BYTES / 4) {
		memmove(c->ring, c->ring + c->in_at, c->in_end - c->in_at);
		c->in_end -= c->in_at;
		c->in_at = 0;
	}
	room = NBD_RING_BYTES - c->in_end;
	if (c->state == NBD_SERVING && c->large && !c->skip)
		room = number_min(room, NBD_RING_SMALL);
	return (struct iovec){ c->ring + c->in_end, room };
}

bool nbd_stream_fill(struct nbd_client *c)
{
	struct iovec iov[2];
	int count = 0;
	size_t direct = 0, room = 0;
	ssize_t n;

	if (c->receiving && !c->skip && c->in_at == c->in_end) {
		direct = (size_t)c->receiving->req.length - c->received;
		iov[count++] = (struct iovec){ c->receiving->buf + c->received, direct };
	}
	iov[count++] = ring_room(c);
	for (int i = 0; i < count; i++)
		room += iov[i].iov_len;
	n = receive(c, iov, count);
	/* what comes later is an event again */
	if (n < 0 || (size_t)n < room)
		c->readable = c->tls_on && nbd_tls_pending(c->tls);
	if (n == -EAGAIN)
		return false;
	if (n <= 0) {
		c->eof = c->left = true;
		return true;
	}
	c->bytes_in += (uint64_t)n;
	if (c->receiving && list_empty(&c->replies))
		c->progress = true;
	if ((size_t)n <= direct) {
		c->received += (size_t)n;
	} else {
		c->received += direct;
		c->in_end += (size_t)n - direct;
	}
	return true;
}
