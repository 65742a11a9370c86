/* nbd-meta.c - metadata contexts: what there is, what was selected
 *
 *   base:allocation         is it data, a hole, zero
 *   qemu:allocation-depth   which layer of the chain has it; the same under the name vhd:depth
 *
 * A selection replaces the one before even when it fails.
 */
#include <string.h>

#include "libvhd/base/endian.h"
#include "nbd-private.h"

static const struct context {
	const char *name;
	unsigned bit;
} contexts[NBD_CONTEXTS] = {
	{ "base:allocation", NBD_CTX_ALLOCATION },
	{ "qemu:allocation-depth", NBD_CTX_QEMU_DEPTH },
	{ "vhd:depth", NBD_CTX_VHD_DEPTH },
};

/* Bits of the contexts that a query names; "qemu:" names all of its space in LIST only. */
static unsigned match(const char *query, size_t length, bool list)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < NBD_CONTEXTS; i++) {
		const char *name = contexts[i].name;
		size_t space = (size_t)(strchr(name, ':') - name) + 1;

		if ((length == strlen(name) && !memcmp(query, name, length)) ||
		    (list && length == space && !memcmp(query, name, length)))
			bits |= contexts[i].bit;
	}
	return bits;
}

/* One length and its bytes; false: they run past the end. */
static bool text(const uint8_t **p, size_t *left, const char **out, size_t *length)
{
	if (*left < 4)
		return false;
	*length = be32_load(*p);
	if (*length > *left - 4 || *length > NBD_STRING_MAX)
		return false;
	*out = (const char *)*p + 4;
	*p += 4 + *length;
	*left -= 4 + *length;
	return true;
}

/* 0, or the type of the error reply. */
static uint32_t parse(struct nbd_client *c, bool list, const uint8_t *p, size_t left,
		      unsigned *bits, struct nbd_export **e)
{
	const char *s;
	size_t length;
	uint32_t count;

	*bits = 0;
	if (!text(&p, &left, &s, &length) || left < 4)
		return NBD_REP_ERR_INVALID;
	*e = nbd_export_find(c->server, s, length);
	if (!*e)
		return NBD_REP_ERR_UNKNOWN;
	count = be32_load(p);
	p += 4;
	left -= 4;
	if (count > NBD_META_QUERIES)
		return NBD_REP_ERR_TOO_BIG;
	if (!count && list)
		*bits = (1u << NBD_CONTEXTS) - 1;
	for (uint32_t i = 0; i < count; i++) {
		if (!text(&p, &left, &s, &length) || !memchr(s, ':', length))
			return NBD_REP_ERR_INVALID;
		*bits |= match(s, length, list);
	}
	return left ? NBD_REP_ERR_INVALID : 0;
}

void nbd_meta_option(struct nbd_client *c, uint32_t option, const uint8_t *data, size_t length)
{
	bool list = option == NBD_OPT_LIST_META_CONTEXT;
	struct nbd_export *e = NULL;
	uint8_t reply[64];
	unsigned bits = 0;
	uint32_t error;

	if (!list) {
		c->contexts = 0;
		c->meta_export = NULL;
	}
	if (!c->structured && !c->extended)
		error = NBD_REP_ERR_INVALID;
	else
		error = parse(c, list, data, length, &bits, &e);
	if (error) {
		nbd_negotiate_error(c, option, error, "no contexts for this");
		return;
	}
	for (unsigned i = 0; i < NBD_CONTEXTS; i++) {
		if (!(bits & contexts[i].bit))
			continue;
		be32_store(reply, list ? 0 : i + 1);
		memcpy(reply + 4, contexts[i].name, strlen(contexts[i].name));
		nbd_negotiate_reply(c, option, NBD_REP_META_CONTEXT, reply,
				    4 + strlen(contexts[i].name));
	}
	nbd_negotiate_reply(c, option, NBD_REP_ACK, NULL, 0);
	if (!list) {
		c->contexts = bits;
		c->meta_export = e;
	}
}
