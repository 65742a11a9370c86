/* nbd-serve.c - requests in
 *
 *   header ─► checks ─► payload (WRITE) ─► vbd_submit ─► done: reply
 *
 * A header is taken from the ring only when a slot and memory for its payload are there;
 * else the ring fills up and reading stops.  Order of checks: magic, payload that has to be
 * consumed, type, read-only, range, flags, limits.  What is wrong is answered and the
 * connection goes on, unless the stream itself is lost.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/endian.h"
#include "libvhd/base/number.h"
#include "nbd-private.h"

struct header {
	uint16_t flags, type;
	uint64_t cookie, offset, length;
	uint64_t payload; /* bytes that follow */
	unsigned contexts;
};

/* ── slots ── */

int nbd_serve_begin(struct nbd_client *c, struct nbd_export *e)
{
	c->slots = calloc(NBD_SLOTS, sizeof(*c->slots));
	if (!c->slots || buffers_open(&c->buffers) < 0)
		return -ENOMEM;
	for (unsigned i = 0; i < NBD_SLOTS; i++) {
		c->slots[i].client = c;
		list_init(&c->slots[i].link);
		list_append(&c->free_slots, &c->slots[i].link);
	}
	c->export = e;
	e->clients++;
	c->state = NBD_SERVING;
	nbd_client_negotiated(c);
	return 0;
}

void nbd_slot_release(struct nbd_slot *s)
{
	struct nbd_client *c = s->client;

	if (s->buf)
		buffers_put(c->buffers, s->buf);
	s->buf = NULL;
	list_remove(&s->link);
	list_append(&c->free_slots, &s->link);
	if (c->parse_more)
		nbd_client_work(c);
}

static void done(struct request *req)
{
	struct nbd_slot *s = (struct nbd_slot *)req;
	struct nbd_client *c = s->client;

	c->in_flight--;
	if (c->state == NBD_CLOSING) {
		nbd_slot_release(s);
		nbd_client_work(c);
		return;
	}
	s->error = nbd_errno(req->err);
	/* only a zeroing that was to be fast may be refused as not supported */
	if (s->error == NBD_ENOTSUP && !(req->flags & REQUEST_FAST_ZERO))
		s->error = NBD_EINVAL;
	nbd_reply(s);
	nbd_client_work(c);
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
	c->in_flight++;
	vbd_submit(c->export->vbd, req);
}

/* ── headers ── */

/* 1: *h is filled, *bytes long; 0: more bytes are needed; -1: the stream is lost. */
static int parse(const struct nbd_client *c, struct header *h, size_t *bytes)
{
	const uint8_t *p = c->ring + c->in_at;
	size_t want = c->extended ? NBD_EXT_REQUEST_BYTES : NBD_REQUEST_BYTES;

	if (c->in_end - c->in_at < want)
		return 0;
	if (be32_load(p) != (c->extended ? NBD_EXT_REQUEST_MAGIC : NBD_REQUEST_MAGIC))
		return -1;
	*bytes = want;
	h->flags = be16_load(p + 4);
	h->type = be16_load(p + 6);
	h->cookie = be64_load(p + 8);
	h->offset = be64_load(p + 16);
	h->length = c->extended ? be64_load(p + 24) : be32_load(p + 24);
	h->payload = 0;
	h->contexts = c->contexts;
	if (c->extended ? (h->flags & NBD_CMD_FLAG_PAYLOAD_LEN) != 0 : h->type == NBD_CMD_WRITE)
		h->payload = h->length;
	return 1;
}

static unsigned flags_allowed(const struct nbd_client *c, uint16_t type)
{
	unsigned flags = NBD_CMD_FLAG_FUA;

	switch (type) {
	case NBD_CMD_READ:
		return flags | (c->structured || c->extended ? NBD_CMD_FLAG_DF : 0);
	case NBD_CMD_WRITE:
		return flags | (c->extended ? NBD_CMD_FLAG_PAYLOAD_LEN : 0);
	case NBD_CMD_WRITE_ZEROES:
		return flags | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
	case NBD_CMD_BLOCK_STATUS:
		return flags | NBD_CMD_FLAG_REQ_ONE | (c->extended ? NBD_CMD_FLAG_PAYLOAD_LEN : 0);
	default:
		return flags;
	}
}

static uint32_t check_range(const struct nbd_client *c, const struct header *h)
{
	uint64_t size = vbd_size(c->export->vbd);
	bool writes = h->type == NBD_CMD_WRITE || h->type == NBD_CMD_WRITE_ZEROES;

	if (h->type == NBD_CMD_FLUSH)
		return h->offset || h->length ? NBD_EINVAL : 0;
	if (h->offset > size || h->length > size - h->offset)
		return writes ? NBD_ENOSPC : NBD_EINVAL;
	return 0;
}

/* 0, or the error to answer with. */
static uint32_t check(const struct nbd_client *c, const struct header *h)
{
	bool writes = h->type == NBD_CMD_WRITE || h->type == NBD_CMD_WRITE_ZEROES ||
		      h->type == NBD_CMD_TRIM;
	bool moves = h->type == NBD_CMD_READ || h->type == NBD_CMD_WRITE;
	uint32_t error;

	if (c->server->stopping || c->finishing)
		return NBD_ESHUTDOWN;
	if (h->type > NBD_CMD_MAX || h->type == NBD_CMD_DISC)
		return NBD_EINVAL;
	if (writes && (c->export->read_only || vbd_read_only(c->export->vbd)))
		return NBD_EPERM;
	error = check_range(c, h);
	if (error)
		return error;
	if (h->flags & ~flags_allowed(c, h->type))
		return NBD_EINVAL;
	if (c->extended && h->type == NBD_CMD_WRITE && !(h->flags & NBD_CMD_FLAG_PAYLOAD_LEN))
		return NBD_EINVAL;
	if (moves && h->length > NBD_PAYLOAD_MAX)
		return NBD_EINVAL;
	if (h->type == NBD_CMD_BLOCK_STATUS && (!h->contexts || !h->length))
		return NBD_EINVAL;
	return 0;
}

/* ── BLOCK_STATUS with a payload: length of the range, ids of the contexts wanted ── */

/* 1: *h now says what the payload said, *bytes more were used; 0: wait for it; -1: it is wrong. */
static int status_payload(const struct nbd_client *c, struct header *h, size_t *bytes)
{
	const uint8_t *p = c->ring + c->in_at + *bytes;
	size_t ids;

	if (h->payload < 12 || (h->payload - 8) % 4 || h->payload > 8 + 4 * NBD_CONTEXTS ||
	    !c->contexts)
		return -1;
	if (c->in_end - c->in_at < *bytes + h->payload)
		return 0;
	*bytes += h->payload;
	h->length = be64_load(p);
	ids = (h->payload - 8) / 4;
	h->contexts = 0;
	h->payload = 0;
	for (size_t i = 0; i < ids; i++) {
		uint32_t id = be32_load(p + 8 + 4 * i);
		unsigned bit = id && id <= NBD_CONTEXTS ? 1u << (id - 1) : 0;

		if (!(bit & c->contexts) || (h->contexts & bit)) {
			h->contexts = 0;
			break; /* unknown or named twice: EINVAL follows */
		}
		h->contexts |= bit;
	}
	return 1;
}

/* ── one request ── */

static void fill_request(struct nbd_slot *s, const struct header *h)
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
	if (h->type > NBD_CMD_MAX)
		return;
	s->req.op = ops[h->type];
	s->req.offset = h->offset;
	s->req.length = h->length;
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

static size_t memory_needed(const struct nbd_client *c, const struct header *h)
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

/* A payload nobody wants: the error is answered when it has gone by. */
static bool drop_payload(struct nbd_client *c, struct nbd_slot *s, uint64_t payload, uint32_t error)
{
	if (payload > NBD_DISCARD_MAX) {
		nbd_slot_release(s);
		nbd_client_close(c);
		return false;
	}
	c->skip = payload;
	refuse(s, error);
	return true;
}

static void begin_write(struct nbd_client *c, struct nbd_slot *s)
{
	size_t n = (size_t)number_min(s->req.length, c->in_end - c->in_at);

	memcpy(s->buf, c->ring + c->in_at, n);
	c->in_at += n;
	c->received = n;
	c->receiving = s;
}

static void begin_status(struct nbd_slot *s)
{
	s->req.extents = (struct request_extent *)(void *)s->buf;
	s->req.extent_max = s->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : NBD_EXTENTS;
	/* a descriptor has 32 bits, and whole sectors are told */
	if (!s->client->extended)
		s->req.length = number_min(s->req.length, 0xfffffe00u);
}

static bool serve_one(struct nbd_client *c, const struct header *h, size_t bytes, size_t memory,
		      uint32_t error)
{
	struct nbd_slot *s;

	/* without a slot or memory now, the header waits in the ring */
	if (list_empty(&c->free_slots)) {
		c->parse_more = true;
		return false;
	}
	s = list_entry(c->free_slots.next, struct nbd_slot, link);
	if (!error && memory) {
		s->buf = buffers_get(c->buffers, memory);
		if (!s->buf) {
			c->parse_more = true;
			return false;
		}
	}
	list_remove(&s->link);
	c->parse_more = false;
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
	if (c->received < s->req.length) {
		if (c->eof)
			nbd_client_close(c); /* never to be complete */
		return false;
	}
	c->receiving = NULL;
	submit(s);
	return c->state == NBD_SERVING;
}

bool nbd_serve_step(struct nbd_client *c)
{
	struct header h;
	size_t bytes;
	uint32_t error;
	int rc;

	if (c->skip) {
		size_t n = (size_t)number_min(c->skip, c->in_end - c->in_at);

		c->in_at += n;
		c->skip -= n;
		return n > 0;
	}
	if (c->receiving)
		return payload_step(c);
	if (c->finishing && c->in_at == c->in_end)
		return false;
	rc = parse(c, &h, &bytes);
	if (!rc)
		return false;
	if (rc < 0) {
		nbd_client_close(c);
		return false;
	}
	if (h.type == NBD_CMD_DISC) {
		c->in_at = c->in_end;
		c->finishing = true;
		return false;
	}
	if (h.type == NBD_CMD_BLOCK_STATUS && h.payload) {
		rc = status_payload(c, &h, &bytes);
		if (!rc)
			return false;
		if (rc < 0)
			return serve_one(c, &h, bytes, 0, NBD_EINVAL);
	}
	error = check(c, &h);
	return serve_one(c, &h, bytes, error ? 0 : memory_needed(c, &h), error);
}
