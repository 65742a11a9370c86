/* nbd-negotiate.c - the fixed newstyle handshake: greeting, options, until an export is open
 *
 * An option is looked at when all of it is in the ring; one too long for that is dropped as
 * it comes and answered ERR_TOO_BIG, or ends the connection.  Nothing is opened and
 * little is allocated before GO.  The order of options is the client's.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/endian.h"
#include "libvhd/base/number.h"
#include "nbd-private.h"

#define OUT_MAX (1u << 20) /* replies waiting for a client that negotiates */

static uint8_t *out_room(struct nbd_client *c, size_t bytes)
{
	uint8_t *p;

	if (c->out_end + bytes > c->out_room) {
		size_t want = number_round_up(c->out_end + bytes, 4096);
		size_t room = number_max(want, number_min(2 * c->out_room, OUT_MAX));
		uint8_t *grown = room <= OUT_MAX ? realloc(c->out, room) : NULL;

		if (!grown) {
			nbd_client_fail(c, "it does not read the replies to its options");
			return NULL;
		}
		c->out = grown;
		c->out_room = room;
	}
	p = c->out + c->out_end;
	c->out_end += bytes;
	return p;
}

void nbd_negotiate_greet(struct nbd_client *c)
{
	uint8_t *p = out_room(c, NBD_GREETING_BYTES);

	if (!p)
		return;
	be64_store(p, NBD_MAGIC);
	be64_store(p + 8, NBD_IHAVEOPT);
	be16_store(p + 16, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
}

void nbd_negotiate_reply(struct nbd_client *c, uint32_t option, uint32_t type, const void *data,
			 size_t length)
{
	uint8_t *p = c->state == NBD_CLOSING ? NULL : out_room(c, NBD_OPTION_REPLY_BYTES + length);

	if (!p)
		return;
	be64_store(p, NBD_OPTION_REPLY_MAGIC);
	be32_store(p + 8, option);
	be32_store(p + 12, type);
	be32_store(p + 16, (uint32_t)length);
	if (length)
		memcpy(p + NBD_OPTION_REPLY_BYTES, data, length);
}

void nbd_negotiate_error(struct nbd_client *c, uint32_t option, uint32_t type, const char *text)
{
	nbd_negotiate_reply(c, option, type, text, strlen(text));
}

static void ack(struct nbd_client *c, uint32_t option)
{
	nbd_negotiate_reply(c, option, NBD_REP_ACK, NULL, 0);
}

static void invalid(struct nbd_client *c, uint32_t option, const char *text)
{
	nbd_negotiate_error(c, option, NBD_REP_ERR_INVALID, text);
}

uint16_t nbd_transmission_flags(const struct nbd_client *c, const struct nbd_export *e)
{
	unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
			 NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE;

	if (e->read_only || vbd_read_only(e->vbd))
		flags |= NBD_FLAG_READ_ONLY;
	else
		flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
	if (c->structured || c->extended)
		flags |= NBD_FLAG_SEND_DF;
	if (c->extended && c->contexts && c->meta_export == e)
		flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
	return (uint16_t)flags;
}

/* ── LIST ── */

static void list_exports(struct nbd_client *c)
{
	uint8_t text[4 + 2 * NBD_STRING_MAX];

	for (struct list *l = c->server->exports.next; l != &c->server->exports; l = l->next) {
		const struct nbd_export *e = list_entry(l, struct nbd_export, link);
		size_t name = strlen(e->name), about = e->description ? strlen(e->description) : 0;

		if (e->removed || !nbd_export_ready(e))
			continue;
		be32_store(text, (uint32_t)name);
		memcpy(text + 4, e->name, name);
		if (about)
			memcpy(text + 4 + name, e->description, about);
		nbd_negotiate_reply(c, NBD_OPT_LIST, NBD_REP_SERVER, text, 4 + name + about);
		if (!c->listed) /* a client may ask about each it was told of */
			c->options_max += NBD_OPTIONS_MAX;
	}
	c->listed = true;
	ack(c, NBD_OPT_LIST);
}

/* ── opening ── */

static void info_reply(struct nbd_client *c, uint32_t option, const struct nbd_export *e)
{
	uint8_t data[2 + NBD_STRING_MAX];
	size_t name = strlen(e->name), about = e->description ? strlen(e->description) : 0;

	be16_store(data, NBD_INFO_EXPORT);
	be64_store(data + 2, vbd_size(e->vbd));
	be16_store(data + 10, nbd_transmission_flags(c, e));
	nbd_negotiate_reply(c, option, NBD_REP_INFO, data, 12);
	be16_store(data, NBD_INFO_NAME);
	memcpy(data + 2, e->name, name);
	nbd_negotiate_reply(c, option, NBD_REP_INFO, data, 2 + name);
	if (about) {
		be16_store(data, NBD_INFO_DESCRIPTION);
		memcpy(data + 2, e->description, about);
		nbd_negotiate_reply(c, option, NBD_REP_INFO, data, 2 + about);
	}
	be16_store(data, NBD_INFO_BLOCK_SIZE);
	be32_store(data + 2, 1);
	be32_store(data + 6, NBD_BLOCK_PREFERRED);
	be32_store(data + 10, NBD_PAYLOAD_MAX);
	nbd_negotiate_reply(c, option, NBD_REP_INFO, data, 14);
}

/* A selection counts for the export it was made for. */
static void settle_contexts(struct nbd_client *c, const struct nbd_export *e)
{
	if (c->meta_export != e || !(c->structured || c->extended))
		c->contexts = 0;
}

static void info_or_go(struct nbd_client *c, uint32_t option, const uint8_t *data, size_t length)
{
	struct nbd_export *e;
	uint32_t name;

	if (length < 6) {
		invalid(c, option, "too short");
		return;
	}
	name = be32_load(data);
	if (name > length - 6 || name > NBD_STRING_MAX ||
	    6 + (uint64_t)name + 2 * (uint64_t)be16_load(data + 4 + name) != length) {
		invalid(c, option, "the lengths do not add up");
		return;
	}
	e = nbd_export_find(c->server, (const char *)data + 4, name);
	if (!e) {
		nbd_negotiate_error(c, option, NBD_REP_ERR_UNKNOWN,
				    "no export of that name is open");
		return;
	}
	if (c->server->stopping) {
		nbd_negotiate_error(c, option, NBD_REP_ERR_SHUTDOWN, "the server is going down");
		return;
	}
	if (option == NBD_OPT_GO)
		settle_contexts(c, e);
	info_reply(c, option, e);
	ack(c, option);
	if (option == NBD_OPT_GO && c->state != NBD_CLOSING && nbd_serve_begin(c, e) < 0)
		nbd_client_close(c);
}

/* No error can be told: the connection ends instead. */
static void export_name(struct nbd_client *c, const uint8_t *data, size_t length)
{
	struct nbd_export *e = length <= NBD_STRING_MAX && !c->extended && !c->server->stopping ?
				       nbd_export_find(c->server, (const char *)data, length) :
				       NULL;
	size_t bytes = c->no_zeroes ? 10 : 134;
	uint8_t *p;

	if (!e) {
		nbd_client_fail(c, "EXPORT_NAME of an export that is not there");
		return;
	}
	settle_contexts(c, e);
	p = out_room(c, bytes);
	if (!p)
		return;
	memset(p, 0, bytes);
	be64_store(p, vbd_size(e->vbd));
	be16_store(p + 8, nbd_transmission_flags(c, e));
	if (nbd_serve_begin(c, e) < 0)
		nbd_client_close(c);
}

/* ── TLS ── */

static void start_tls(struct nbd_client *c, size_t length)
{
	if (length) {
		invalid(c, NBD_OPT_STARTTLS, "no data belongs here");
	} else if (!c->server->tls) {
		nbd_negotiate_error(c, NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY,
				    "this server has no TLS configured");
	} else if (c->tls_on) {
		invalid(c, NBD_OPT_STARTTLS, "TLS is on");
	} else if (c->in_at != c->in_end) {
		/* bytes of an attacker who writes before TLS what shall be read within it (C4) */
		nbd_client_fail(c, "bytes between STARTTLS and TLS");
	} else if (nbd_tls_session_open(c->server->tls, c->fd, &c->tls) < 0) {
		nbd_client_close(c);
	} else {
		ack(c, NBD_OPT_STARTTLS);
		/* what was agreed in clear counts no more */
		c->structured = c->extended = false;
		c->contexts = 0;
		c->meta_export = NULL;
		c->tls_waiting = true;
	}
}

/* ── options ── */

static void switch_on(struct nbd_client *c, uint32_t option, size_t length, bool *what)
{
	if (length) {
		invalid(c, option, "no data belongs here");
	} else if (*what) {
		invalid(c, option, "asked for twice");
	} else if (option == NBD_OPT_STRUCTURED_REPLY && c->extended) {
		nbd_negotiate_error(c, option, NBD_REP_ERR_EXT_HEADER_REQD,
				    "extended headers are on");
	} else {
		*what = true;
		ack(c, option);
	}
}

static void option_in(struct nbd_client *c, uint32_t option, const uint8_t *data, size_t length)
{
	if (!c->fixed && option != NBD_OPT_EXPORT_NAME && option != NBD_OPT_ABORT) {
		invalid(c, option, "only EXPORT_NAME without the fixed newstyle handshake");
		return;
	}
	if (c->server->tls_mode == NBD_TLS_REQUIRED && !c->tls_on && option != NBD_OPT_STARTTLS &&
	    option != NBD_OPT_ABORT) {
		if (option == NBD_OPT_EXPORT_NAME)
			nbd_client_fail(c, "EXPORT_NAME without TLS");
		else
			nbd_negotiate_error(c, option, NBD_REP_ERR_TLS_REQD, "STARTTLS first");
		return;
	}
	switch (option) {
	case NBD_OPT_EXPORT_NAME:
		export_name(c, data, length);
		break;
	case NBD_OPT_ABORT:
		ack(c, option);
		c->eof = true; /* closed once the ACK is out */
		break;
	case NBD_OPT_LIST:
		if (length)
			invalid(c, option, "no data belongs here");
		else
			list_exports(c);
		break;
	case NBD_OPT_STARTTLS:
		start_tls(c, length);
		break;
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		info_or_go(c, option, data, length);
		break;
	case NBD_OPT_STRUCTURED_REPLY:
		switch_on(c, option, length, &c->structured);
		break;
	case NBD_OPT_EXTENDED_HEADERS:
		switch_on(c, option, length, &c->extended);
		break;
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		nbd_meta_option(c, option, data, length);
		break;
	default:
		nbd_negotiate_error(c, option, NBD_REP_ERR_UNSUP, "not known here");
	}
}

static bool client_flags(struct nbd_client *c)
{
	uint32_t flags;

	if (c->in_end - c->in_at < 4)
		return false;
	flags = be32_load(c->ring + c->in_at);
	c->in_at += 4;
	if (flags & ~(uint32_t)(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES)) {
		nbd_client_fail(c, "client flags that were not offered");
		return false;
	}
	c->fixed = flags & NBD_FIXED_NEWSTYLE;
	c->no_zeroes = flags & NBD_NO_ZEROES;
	c->state = NBD_OPTION;
	return true;
}

/* Of an option that is longer than what is looked at. */
static void skip_begin(struct nbd_client *c, uint32_t option, uint32_t length)
{
	c->skip = length;
	c->skipped_option = option;
	c->state = NBD_OPTION_SKIP;
	if (option == NBD_OPT_SET_META_CONTEXT)
		c->contexts = 0;
}

static bool skip_data(struct nbd_client *c)
{
	size_t n = (size_t)number_min(c->skip, c->in_end - c->in_at);

	c->in_at += n;
	c->skip -= n;
	if (c->skip)
		return false;
	c->state = NBD_OPTION;
	nbd_negotiate_error(c, c->skipped_option, NBD_REP_ERR_TOO_BIG, "too much data");
	return c->state == NBD_OPTION;
}

/* NULL, or why no option like this is taken. */
static const char *lost(const struct nbd_client *c, const uint8_t *p)
{
	uint32_t length = be32_load(p + 12);

	if (be64_load(p) != NBD_IHAVEOPT)
		return "no option where one begins";
	if (length > NBD_OPTION_DRAINED)
		return "an option of more than 32 MiB";
	if (be32_load(p + 8) == NBD_OPT_EXPORT_NAME && length > NBD_STRING_MAX)
		return "EXPORT_NAME of too long a name";
	if (c->options >= c->options_max)
		return "too many options";
	return NULL;
}

bool nbd_negotiate_step(struct nbd_client *c)
{
	const uint8_t *p = c->ring + c->in_at;
	size_t have = c->in_end - c->in_at;
	uint32_t option, length;
	const char *why;

	if (c->tls_waiting || c->eof)
		return false;
	if (c->state == NBD_GREETING)
		return client_flags(c);
	if (c->state == NBD_OPTION_SKIP)
		return skip_data(c);
	if (have < NBD_OPTION_BYTES)
		return false;
	why = lost(c, p);
	if (why) {
		nbd_client_fail(c, why);
		return false;
	}
	option = be32_load(p + 8);
	length = be32_load(p + 12);
	if (length <= NBD_OPTION_PARSED && have < NBD_OPTION_BYTES + length)
		return false;
	c->options++;
	c->in_at += NBD_OPTION_BYTES;
	if (length > NBD_OPTION_PARSED) {
		skip_begin(c, option, length);
		return true;
	}
	c->in_at += length;
	option_in(c, option, p + NBD_OPTION_BYTES, length);
	return c->state != NBD_CLOSING;
}
