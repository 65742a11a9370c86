/* nbd-status.c - block status: extents of the disk as descriptors of each context */
#include <assert.h>

#include "libvhd/base/endian.h"
#include "nbd-private.h"

static size_t descriptor_bytes(const struct nbd_client *c)
{
	return c->extended ? 16 : 8;
}

static size_t head_room(const struct nbd_client *c)
{
	return (c->extended ? NBD_EXT_REPLY_BYTES : NBD_STRUCT_REPLY_BYTES) + 8;
}

size_t nbd_status_room(const struct nbd_client *c, unsigned contexts)
{
	return (size_t)__builtin_popcount(contexts) *
	       (head_room(c) + NBD_EXTENTS * descriptor_bytes(c));
}

static uint32_t value_of(const struct request_extent *e, unsigned context)
{
	return context == NBD_CTX_ALLOCATION ? e->flags : e->depth;
}

/* Descriptors of one context at @p, neighbours of one value joined; their number. */
static uint32_t descriptors(const struct nbd_slot *s, unsigned context, uint8_t *p)
{
	bool extended = s->client->extended;
	uint32_t n = 0;

	for (unsigned i = 0; i < s->req.extent_count;) {
		uint32_t value = value_of(&s->req.extents[i], context);
		uint64_t length = 0;

		for (; i < s->req.extent_count && value_of(&s->req.extents[i], context) == value;
		     i++)
			length += s->req.extents[i].length;
		if (extended) {
			be64_store(p, length);
			be64_store(p + 8, value);
		} else {
			be32_store(p, (uint32_t)length);
			be32_store(p + 4, value);
		}
		p += descriptor_bytes(s->client);
		n++;
	}
	return n;
}

static uint8_t *one_context(const struct nbd_slot *s, unsigned index, bool last, uint8_t *p)
{
	const struct nbd_client *c = s->client;
	size_t ids = c->extended ? 8 : 4; /* context id, and how many follow */
	size_t head = head_room(c) - 8, unused;
	uint32_t n = descriptors(s, 1u << index, p + head + ids);

	nbd_chunk(s, p, last, c->extended ? NBD_CHUNK_BLOCK_STATUS_EXT : NBD_CHUNK_BLOCK_STATUS,
		  ids + n * descriptor_bytes(c), &unused);
	assert(unused == head);
	be32_store(p + head, index + 1);
	if (c->extended)
		be32_store(p + head + 4, n);
	return p + head + ids + n * descriptor_bytes(c);
}

void nbd_status_encode(struct nbd_slot *s)
{
	uint8_t *begin = s->buf + NBD_EXTENTS * sizeof(struct request_extent), *p = begin;
	unsigned left = s->contexts;

	for (unsigned i = 0; left; i++) {
		if (!(left & (1u << i)))
			continue;
		left &= ~(1u << i);
		p = one_context(s, i, !left, p);
	}
	s->head_bytes = 0;
	s->data = begin;
	s->data_bytes = (size_t)(p - begin);
}
