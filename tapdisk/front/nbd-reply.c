/* nbd-reply.c - replies out: all that is complete in a turn goes in one call
 *
 * A slot's reply is its head and its data.  Without structured replies: the simple form; with
 * them, one chunk that is the last one too, since nothing is sent before all is known.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "libvhd/base/endian.h"
#include "nbd-private.h"

#define IOVECS 128

/* Head of a chunk; @length of the payload behind it.  Its bytes. */
static size_t chunk_head(const struct nbd_slot *s, uint8_t *p, uint16_t flags, uint16_t type,
			 uint64_t length)
{
	bool extended = s->client->extended;

	be32_store(p, extended ? NBD_EXT_REPLY_MAGIC : NBD_STRUCT_REPLY_MAGIC);
	be16_store(p + 4, flags);
	be16_store(p + 6, type);
	be64_store(p + 8, s->cookie);
	if (!extended) {
		be32_store(p + 16, (uint32_t)length);
		return NBD_STRUCT_REPLY_BYTES;
	}
	be64_store(p + 16, s->req.offset);
	be64_store(p + 24, length);
	return NBD_EXT_REPLY_BYTES;
}

static void simple(struct nbd_slot *s)
{
	be32_store(s->head, NBD_SIMPLE_REPLY_MAGIC);
	be32_store(s->head + 4, s->error);
	be64_store(s->head + 8, s->cookie);
	s->head_bytes = NBD_SIMPLE_REPLY_BYTES;
	if (s->command == NBD_CMD_READ && !s->error) {
		s->data = s->buf;
		s->data_bytes = s->req.length;
	}
}

static void error_chunk(struct nbd_slot *s)
{
	const char *text = nbd_errno_text(s->error);
	size_t length = strlen(text);
	size_t n = chunk_head(s, s->head, NBD_CHUNK_DONE, NBD_CHUNK_ERROR, 6 + length);

	assert(n + 6 + length <= sizeof(s->head));
	be32_store(s->head + n, s->error);
	be16_store(s->head + n + 4, (uint16_t)length);
	memcpy(s->head + n + 6, text, length);
	s->head_bytes = n + 6 + length;
}

static void read_chunk(struct nbd_slot *s)
{
	bool hole = s->req.all_zero;
	uint64_t length = s->req.length;
	size_t n = chunk_head(s, s->head, NBD_CHUNK_DONE,
			      hole ? NBD_CHUNK_OFFSET_HOLE : NBD_CHUNK_OFFSET_DATA,
			      hole ? 12 : 8 + length);

	be64_store(s->head + n, s->req.offset);
	s->head_bytes = n + 8;
	if (hole) {
		be32_store(s->head + n + 8, (uint32_t)length);
		s->head_bytes += 4;
	} else {
		s->data = s->buf;
		s->data_bytes = length;
	}
}

void nbd_chunk(const struct nbd_slot *s, uint8_t *p, bool last, uint16_t type, uint64_t length,
	       size_t *bytes)
{
	*bytes = chunk_head(s, p, last ? NBD_CHUNK_DONE : 0, type, length);
}

void nbd_reply(struct nbd_slot *s)
{
	struct nbd_client *c = s->client;

	s->data_bytes = 0;
	s->data = NULL;
	if (!c->structured && !c->extended)
		simple(s);
	else if (s->error)
		error_chunk(s);
	else if (s->command == NBD_CMD_READ && s->req.length)
		read_chunk(s);
	else if (s->command == NBD_CMD_BLOCK_STATUS)
		nbd_status_encode(s);
	else if (s->command == NBD_CMD_READ || c->extended)
		s->head_bytes = chunk_head(s, s->head, NBD_CHUNK_DONE, NBD_CHUNK_NONE, 0);
	else
		simple(s);
	if (list_empty(&c->replies))
		c->sent = 0;
	list_append(&c->replies, &s->link);
}

/* What is queued, from what was sent already, as vectors. */
static int gather(const struct nbd_client *c, struct iovec *iov)
{
	size_t skip = c->sent;
	int n = 0;

	for (const struct list *l = c->replies.next; l != &c->replies && n + 2 <= IOVECS;
	     l = l->next) {
		struct nbd_slot *s = list_entry(l, struct nbd_slot, link);

		if (skip < s->head_bytes)
			iov[n++] = (struct iovec){ s->head + skip, s->head_bytes - skip };
		skip = skip > s->head_bytes ? skip - s->head_bytes : 0;
		if (skip < s->data_bytes)
			iov[n++] = (struct iovec){ s->data + skip, s->data_bytes - skip };
		skip = 0;
	}
	return n;
}

static void sent(struct nbd_client *c, size_t bytes)
{
	c->sent += bytes;
	while (!list_empty(&c->replies)) {
		struct nbd_slot *s = list_entry(c->replies.next, struct nbd_slot, link);
		size_t whole = s->head_bytes + s->data_bytes;

		if (c->sent < whole)
			return;
		c->sent -= whole;
		nbd_slot_release(s);
	}
}

void nbd_reply_flush(struct nbd_client *c)
{
	struct iovec iov[IOVECS];

	while (!list_empty(&c->replies)) {
		ssize_t n = nbd_stream_send(c, iov, gather(c, iov));

		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			nbd_client_close(c);
			return;
		}
		c->progress = true;
		sent(c, (size_t)n);
	}
}
