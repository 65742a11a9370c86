/* nbd-serve.c - requests in
 *
 *   header ─► checks ─► payload (WRITE) ─► vbd_submit ─► done: reply
 *
 * A header is taken from the ring only when a slot and memory for its payload are there;
 * else it waits and reading stops.  What is wrong is answered, after its payload has gone by, and
 * the connection goes on, unless the stream itself is lost.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/number.h"
#include "nbd-private.h"

/* ── slots ── */

int nbd_serve_begin(struct nbd_client *c, struct nbd_export *e)
{
	c->slots = calloc(NBD_SLOTS, sizeof(*c->slots));
	if (!c->slots || buffers_open(&c->server->memory->bound, &c->buffers) < 0)
		return -ENOMEM;
	for (unsigned i = 0; i < NBD_SLOTS; i++) {
		c->slots[i].client = c;
		list_init(&c->slots[i].link);
		list_append(&c->free_slots, &c->slots[i].link);
	}
	c->export = e;
	vbd_client_init(e->vbd, &c->as_client, e->read_only || vbd_read_only(e->vbd));
	e->clients++;
	c->state = NBD_SERVING;
	nbd_client_negotiated(c);
	return 0;
}

void nbd_slot_release(struct nbd_slot *s)
{
	struct nbd_client *c = s->client;

	if (s->buf)
		nbd_holder_give(&c->holder, buffers_put(c->buffers, s->buf), s->buf_shared);
	s->buf = NULL;
	list_remove(&s->link);
	list_append(&c->free_slots, &s->link);
	c->released = true;
}

static void done(struct request *req)
{
	struct nbd_slot *s = (struct nbd_slot *)req;
	struct nbd_client *c = s->client;

	c->in_flight--;
	if (c->state != NBD_CLOSING) {
		s->error = nbd_errno(req->err, req);
		nbd_reply(s);
		nbd_client_work(c);
		return;
	}
	nbd_slot_release(s);
	if (!c->server->freed)
		nbd_client_work(c);
	else if (!c->in_flight)
		nbd_client_free(c); /* the last one: the loop may not turn again */
}

static void refuse(struct nbd_slot *s, uint32_t error)
{
	s->error = error;
	nbd_reply(s);
	nbd_client_work(s->client);
}

static void submit(struct nbd_slot *s)
{
	struct nbd_client *c = s->client;
	struct request *req = &s->req;

	req->buf = s->buf;
	req->done = done;
	req->client = &c->as_client;
	c->in_flight++;
	vbd_submit(c->export->vbd, req);
}

/* ── one request ── */

static void fill_request(struct nbd_slot *s, const struct nbd_request *h)
{
	static const enum request_op ops[] = {
		[NBD_CMD_READ] = REQUEST_READ,		 [NBD_CMD_WRITE] = REQUEST_WRITE,
		[NBD_CMD_FLUSH] = REQUEST_FLUSH,	 [NBD_CMD_TRIM] = REQUEST_TRIM,
		[NBD_CMD_CACHE] = REQUEST_CACHE,	 [NBD_CMD_WRITE_ZEROES] = REQUEST_ZERO,
		[NBD_CMD_BLOCK_STATUS] = REQUEST_STATUS,
	};
	const struct nbd_client *c = s->client;
	unsigned flags = 0;

	s->cookie = h->cookie;
	s->command = h->type;
	s->flags = h->flags;
	s->contexts = h->contexts;
	s->error = 0;
	s->req.offset = h->offset; /* extended replies repeat it */
	s->req.length = h->length;
	if (h->type > NBD_CMD_MAX)
		return;
	s->req.op = ops[h->type];
	if ((h->flags & NBD_CMD_FLAG_FUA) && h->type != NBD_CMD_READ)
		flags |= REQUEST_FUA;
	if (h->flags & NBD_CMD_FLAG_NO_HOLE)
		flags |= REQUEST_NO_HOLE;
	if (h->type == NBD_CMD_WRITE_ZEROES && (h->flags & NBD_CMD_FLAG_FAST_ZERO))
		flags |= REQUEST_FAST_ZERO;
	/* a hole can be told instead of sent */
	if (h->type == NBD_CMD_READ && (c->structured || c->extended) &&
	    !(h->flags & NBD_CMD_FLAG_DF))
		flags |= REQUEST_SPARSE;
	s->req.flags = flags;
	s->req.all_zero = false;
}

static size_t memory_needed(const struct nbd_client *c, const struct nbd_request *h)
{
	switch (h->type) {
	case NBD_CMD_READ:
	case NBD_CMD_WRITE:
		return h->length;
	case NBD_CMD_BLOCK_STATUS:
		return NBD_EXTENTS * sizeof(struct request_extent) +
		       nbd_status_room(c, h->contexts);
	default:
		return 0;
	}
}

/* A payload nobody wants: the error is answered when it has gone by, as clients expect. */
static bool drop_payload(struct nbd_client *c, struct nbd_slot *s, uint64_t payload, uint32_t error)
{
	s->error = error;
	c->receiving = s;
	c->skip = payload;
	if (payload <= NBD_DISCARD_MAX)
		return true;
	nbd_client_fail(c, "a payload of more than 64 MiB");
	return false;
}

static bool skip_step(struct nbd_client *c)
{
	size_t n = (size_t)number_min(c->skip, c->in_end - c->in_at);
	struct nbd_slot *s = c->receiving;

	c->in_at += n;
	c->skip -= n;
	if (c->skip)
		return false;
	c->receiving = NULL;
	refuse(s, s->error);
	return true;
}

static void begin_write(struct nbd_client *c, struct nbd_slot *s)
{
	size_t n = (size_t)number_min(s->req.length, c->in_end - c->in_at);

	memcpy(s->buf, c->ring + c->in_at, n);
	c->in_at += n;
	c->received = n;
	c->receiving = s;
	c->large = s->req.length >= NBD_LARGE;
}

static void begin_status(struct nbd_slot *s)
{
	s->req.extents = (struct request_extent *)(void *)s->buf;
	s->req.extent_max = s->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : NBD_EXTENTS;
	/* a descriptor has 32 bits, and whole sectors are told */
	if (!s->client->extended)
		s->req.length = number_min(s->req.length, 0xfffffe00u);
}

/* A slot for a request, with @memory; NULL: not now. */
static struct nbd_slot *take_slot(struct nbd_client *c, size_t memory)
{
	struct nbd_slot *s;

	c->parse_more = true;
	if (list_empty(&c->free_slots))
		return NULL;
	s = list_entry(c->free_slots.next, struct nbd_slot, link);
	if (memory) {
		if (!nbd_holder_take(&c->holder, buffers_piece(memory), &s->buf_shared))
			return NULL;
		s->buf = buffers_get(c->buffers, memory);
		if (!s->buf) {
			nbd_holder_give(&c->holder, buffers_piece(memory), s->buf_shared);
			return NULL;
		}
	}
	c->parse_more = false;
	list_remove(&s->link);
	return s;
}

static bool serve_one(struct nbd_client *c, const struct nbd_request *h, size_t bytes)
{
	uint32_t error = nbd_request_check(c, h);
	struct nbd_slot *s = take_slot(c, error ? 0 : memory_needed(c, h));

	if (!s)
		return false;
	c->in_at += bytes;
	c->requests++;
	fill_request(s, h);
	if (error && h->payload)
		return drop_payload(c, s, h->payload, error);
	if (error) {
		refuse(s, error);
		return true;
	}
	if (h->type == NBD_CMD_WRITE && h->length) {
		begin_write(c, s);
		return true;
	}
	if (h->type == NBD_CMD_BLOCK_STATUS)
		begin_status(s);
	submit(s);
	return c->state == NBD_SERVING;
}

/* The payload that is coming in.  True: it is complete, and on its way. */
static bool payload_step(struct nbd_client *c)
{
	struct nbd_slot *s = c->receiving;
	size_t n = (size_t)number_min(s->req.length - c->received, c->in_end - c->in_at);

	memcpy(s->buf + c->received, c->ring + c->in_at, n);
	c->in_at += n;
	c->received += n;
	if (c->received < s->req.length)
		return false;
	c->receiving = NULL;
	submit(s);
	return c->state == NBD_SERVING;
}

bool nbd_serve_step(struct nbd_client *c)
{
	struct nbd_request h;
	size_t bytes;
	int rc;

	c->starved = false;
	if (c->skip)
		return skip_step(c);
	if (c->receiving)
		return payload_step(c);
	if (c->finishing && !c->server->stopping)
		return false; /* nothing counts after DISC */
	rc = nbd_request_parse(c, c->ring + c->in_at, c->in_end - c->in_at, &h, &bytes);
	c->starved = !rc;
	if (rc < 0)
		nbd_client_fail(c, "no request where one begins");
	if (rc <= 0)
		return false;
	if (h.type == NBD_CMD_DISC) {
		c->in_at = c->in_end;
		c->finishing = true;
		return false;
	}
	return serve_one(c, &h, bytes);
}
