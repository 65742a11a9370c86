/* nbd-request.c - the header of a request: its fields, and whether it may be served
 *
 * Pure functions over bytes and what the connection has agreed on.  Order of checks: magic, then what
 * has to be consumed (parse); going down, type, read-only, range, flags, limits (check).
 */
#include "libvhd/base/endian.h"
#include "libvhd/base/number.h"
#include "nbd-private.h"

/* The payload of a BLOCK_STATUS: length of the range, ids of the contexts wanted.  1: taken, or wrong
 * and left as a payload to be dropped, with no contexts; 0: more bytes are needed. */
static int status_payload(const struct nbd_client *c, const uint8_t *p, size_t have,
			  struct nbd_request *h, size_t *bytes)
{
	size_t ids = (size_t)(h->payload - 8) / 4;

	h->contexts = 0;
	if (h->payload < 12 || h->payload % 4 || ids > NBD_CONTEXTS || !c->contexts)
		return 1;
	if (have < *bytes + h->payload)
		return 0;
	p += *bytes;
	*bytes += h->payload;
	h->length = be64_load(p);
	h->payload = 0;
	for (size_t i = 0; i < ids; i++) {
		uint32_t id = be32_load(p + 8 + 4 * i);
		unsigned bit = id && id <= NBD_CONTEXTS ? 1u << (id - 1) : 0;

		if (!(bit & c->contexts) || (h->contexts & bit)) {
			h->contexts = 0; /* unknown or named twice */
			break;
		}
		h->contexts |= bit;
	}
	return 1;
}

int nbd_request_parse(const struct nbd_client *c, const uint8_t *p, size_t have,
		      struct nbd_request *h, size_t *bytes)
{
	size_t want = c->extended ? NBD_EXT_REQUEST_BYTES : NBD_REQUEST_BYTES;

	/* a wrong magic is told from its bytes: whoever sends it may wait for an answer */
	if (have < 4)
		return 0;
	if (be32_load(p) != (c->extended ? NBD_EXT_REQUEST_MAGIC : NBD_REQUEST_MAGIC))
		return -1;
	if (have < want)
		return 0;
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
	if (c->extended && h->type == NBD_CMD_BLOCK_STATUS && (h->flags & NBD_CMD_FLAG_PAYLOAD_LEN))
		return status_payload(c, p, have, h, bytes);
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

static uint32_t check_range(const struct nbd_client *c, const struct nbd_request *h)
{
	bool writes = h->type == NBD_CMD_WRITE || h->type == NBD_CMD_WRITE_ZEROES;

	if (h->type == NBD_CMD_FLUSH)
		return h->offset || h->length ? NBD_EINVAL : 0;
	if (!number_within(h->offset, h->length, vbd_size(c->export->vbd)))
		return writes ? NBD_ENOSPC : NBD_EINVAL;
	return 0;
}

uint32_t nbd_request_check(const struct nbd_client *c, const struct nbd_request *h)
{
	bool writes = h->type == NBD_CMD_WRITE || h->type == NBD_CMD_WRITE_ZEROES ||
		      h->type == NBD_CMD_TRIM;
	bool moves = h->type == NBD_CMD_READ || h->type == NBD_CMD_WRITE;
	uint32_t error;

	if (c->server->stopping)
		return NBD_ESHUTDOWN;
	if (h->type > NBD_CMD_MAX)
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
