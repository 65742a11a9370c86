/* nbd-wire.c - the client's side, byte by byte */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "libvhd/base/endian.h"
#include "nbd-world.h"

/* ── bytes ── */

static void readable(void *owner, unsigned events)
{
	struct wire *c = owner;
	ssize_t n;

	(void)events;
	if (c->have == c->room) {
		c->room = 2 * c->room + 65536;
		c->in = realloc(c->in, c->room);
		ck_assert_ptr_nonnull(c->in);
	}
	n = read(c->fd, c->in + c->have, c->room - c->have);
	if (n > 0)
		c->have += (size_t)n;
	else if (n == 0 || errno != EAGAIN)
		c->eof = true;
	if (c->eof)
		loop_fd_watch(c->watch, 0);
	loop_stop(c->w->loop);
}

static void begin(struct wire *c, struct world *w, int fd)
{
	wire_close(c);
	*c = (struct wire){ .w = w, .fd = fd };
	list_init(&c->link);
	list_append(&w->wires, &c->link);
	ck_assert_int_eq(loop_fd_open(w->loop, fd, readable, c, &c->watch), 0);
	loop_fd_watch(c->watch, LOOP_READ);
}

void wire_open(struct wire *c, struct world *w)
{
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
			 0);
	ck_assert_int_eq(nbd_client_new(w->server, pair[1]), 0);
	begin(c, w, pair[0]);
}

void wire_connect(struct wire *c, struct world *w)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", w->dir);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	begin(c, w, fd);
}

void wire_close(struct wire *c)
{
	if (!c->w)
		return;
	list_remove(&c->link);
	loop_fd_close(c->watch);
	close(c->fd);
	free(c->in);
	*c = (struct wire){ .fd = -1 };
}

void wire_deaf(struct wire *c, bool deaf)
{
	c->deaf = deaf;
	loop_fd_watch(c->watch, deaf ? 0 : LOOP_READ);
}

bool wire_send(struct wire *c, const void *data, size_t length)
{
	const uint8_t *p = data;
	unsigned ms = 0;

	while (length && ms < WORLD_PATIENCE_MS) {
		ssize_t n = send(c->fd, p, length, MSG_NOSIGNAL);

		if (n > 0) {
			p += n;
			length -= (size_t)n;
		} else if (n < 0 && errno != EAGAIN) {
			return false;
		} else {
			world_run(c->w, 1);
			ms++;
		}
	}
	return !length;
}

struct wish {
	const struct wire *c;
	size_t length;
};

static bool has_come(void *arg)
{
	const struct wish *wish = arg;

	return wish->c->have >= wish->length || wish->c->eof;
}

bool wire_read(struct wire *c, void *data, size_t length)
{
	struct wish wish = { c, length };

	ck_assert_msg(world_until(c->w, has_come, &wish), "waited for %zu bytes, %zu came", length,
		      c->have);
	if (c->have < length)
		return false;
	if (data)
		memcpy(data, c->in, length);
	c->have -= length;
	memmove(c->in, c->in + length, c->have);
	return true;
}

static bool has_ended(void *arg)
{
	return ((const struct wire *)arg)->eof;
}

bool wire_ends(struct wire *c)
{
	return world_until(c->w, has_ended, c) && !c->have;
}

bool wire_silent(struct wire *c)
{
	for (unsigned i = 0; i < 20; i++)
		world_run(c->w, 1);
	return !c->have && !c->eof;
}

/* ── negotiation ── */

void wire_greet(struct wire *c, uint32_t flags)
{
	uint8_t p[NBD_GREETING_BYTES];

	ck_assert(wire_read(c, p, sizeof(p)));
	ck_assert_uint_eq(be64_load(p), NBD_MAGIC);
	ck_assert_uint_eq(be64_load(p + 8), NBD_IHAVEOPT);
	ck_assert_uint_eq(be16_load(p + 16), 3);
	be32_store(p, flags);
	ck_assert(wire_send(c, p, 4));
}

bool wire_option(struct wire *c, uint32_t option, const void *data, size_t length)
{
	uint8_t p[NBD_OPTION_BYTES];

	be64_store(p, NBD_IHAVEOPT);
	be32_store(p + 8, option);
	be32_store(p + 12, (uint32_t)length);
	return wire_send(c, p, sizeof(p)) && (!data || wire_send(c, data, length));
}

uint32_t wire_option_reply(struct wire *c, uint32_t option, uint8_t *data, size_t room,
			   size_t *length)
{
	uint8_t p[NBD_OPTION_REPLY_BYTES];
	uint8_t *text;

	if (!wire_read(c, p, sizeof(p)))
		return 0;
	ck_assert_uint_eq(be64_load(p), NBD_OPTION_REPLY_MAGIC);
	ck_assert_uint_eq(be32_load(p + 8), option);
	*length = be32_load(p + 16);
	ck_assert_uint_le(*length, 2 * NBD_STRING_MAX + 4);
	text = malloc(*length + 1);
	ck_assert_ptr_nonnull(text);
	ck_assert(wire_read(c, text, *length));
	if (data)
		memcpy(data, text, *length < room ? *length : room);
	free(text);
	return be32_load(p + 12);
}

uint32_t wire_option_end(struct wire *c, uint32_t option)
{
	uint32_t type;
	size_t length;

	do
		type = wire_option_reply(c, option, NULL, 0, &length);
	while (type > NBD_REP_ACK && type < NBD_REP_ERR_UNSUP);
	return type;
}

size_t wire_name(uint8_t *p, const char *name)
{
	size_t length = strlen(name);

	be32_store(p, (uint32_t)length);
	memcpy(p + 4, name, length);
	be16_store(p + 4 + length, 0);
	return 6 + length;
}

size_t wire_queries(uint8_t *p, const char *name, const char *const *queries)
{
	size_t n = wire_name(p, name) + 2;
	uint32_t count = 0;
	uint8_t *at = p + n - 4;

	for (; queries[count]; count++) {
		size_t length = strlen(queries[count]);

		be32_store(p + n, (uint32_t)length);
		memcpy(p + n + 4, queries[count], length);
		n += 4 + length;
	}
	be32_store(at, count);
	return n;
}

uint16_t wire_go(struct wire *c, enum wire_mode mode, const char *name)
{
	static const char *const all[] = { "base:allocation", "qemu:allocation-depth", "vhd:depth",
					   NULL };
	uint8_t data[512];
	uint16_t flags = 0;
	size_t length;
	uint32_t type;

	wire_greet(c, 3);
	if (mode != WIRE_SIMPLE) {
		uint32_t option = mode == WIRE_EXTENDED ? NBD_OPT_EXTENDED_HEADERS :
							  NBD_OPT_STRUCTURED_REPLY;

		ck_assert(wire_option(c, option, NULL, 0));
		ck_assert_uint_eq(wire_option_end(c, option), NBD_REP_ACK);
		length = wire_queries(data, name, all);
		ck_assert(wire_option(c, NBD_OPT_SET_META_CONTEXT, data, length));
		ck_assert_uint_eq(wire_option_end(c, NBD_OPT_SET_META_CONTEXT), NBD_REP_ACK);
	}
	ck_assert(wire_option(c, NBD_OPT_GO, data, wire_name(data, name)));
	do {
		type = wire_option_reply(c, NBD_OPT_GO, data, sizeof(data), &length);
		if (type == NBD_REP_INFO && be16_load(data) == NBD_INFO_EXPORT) {
			ck_assert_uint_eq(be64_load(data + 2), WORLD_BYTES);
			flags = be16_load(data + 10);
		}
	} while (type == NBD_REP_INFO);
	ck_assert_uint_eq(type, NBD_REP_ACK);
	return flags;
}

/* ── transmission ── */

size_t wire_request_put(uint8_t *p, enum wire_mode mode, const struct wire_request *r)
{
	be32_store(p, mode == WIRE_EXTENDED ? NBD_EXT_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
	be16_store(p + 4, r->flags);
	be16_store(p + 6, r->type);
	be64_store(p + 8, r->cookie);
	be64_store(p + 16, r->offset);
	if (mode == WIRE_EXTENDED)
		be64_store(p + 24, r->length);
	else
		be32_store(p + 24, (uint32_t)r->length);
	return mode == WIRE_EXTENDED ? NBD_EXT_REQUEST_BYTES : NBD_REQUEST_BYTES;
}

struct wire_request wire_make(uint16_t type, uint64_t offset, uint64_t length)
{
	static uint64_t cookie;

	return (struct wire_request){
		.type = type, .cookie = ++cookie, .offset = offset, .length = length
	};
}

bool wire_request(struct wire *c, enum wire_mode mode, const struct wire_request *r,
		  const void *payload, size_t bytes)
{
	uint8_t p[NBD_EXT_REQUEST_BYTES];

	return wire_send(c, p, wire_request_put(p, mode, r)) &&
	       (!bytes || wire_send(c, payload, bytes));
}

static bool chunk_body(struct wire *c, struct wire_chunk *out)
{
	if (out->type == NBD_CHUNK_OFFSET_DATA) {
		ck_assert_uint_gt(out->length, 8);
		out->length -= 8;
		return wire_read(c, out->data, 8);
	}
	ck_assert_uint_le(out->length, 1u << 20);
	if (out->length > sizeof(out->data)) {
		ck_assert(wire_read(c, out->data, sizeof(out->data)));
		return wire_read(c, NULL, (size_t)out->length - sizeof(out->data));
	}
	if (!wire_read(c, out->data, (size_t)out->length))
		return false;
	if (out->type & 0x8000) {
		ck_assert_uint_ge(out->length, 6);
		ck_assert_uint_eq(out->length, 6u + be16_load(out->data + 4));
		out->error = be32_load(out->data);
		ck_assert_uint_ne(out->error, 0);
	}
	return true;
}

bool wire_chunk(struct wire *c, enum wire_mode mode, struct wire_chunk *out)
{
	uint8_t p[NBD_EXT_REPLY_BYTES];

	*out = (struct wire_chunk){ .done = true };
	if (!wire_read(c, p, 4))
		return false;
	out->simple = be32_load(p) == NBD_SIMPLE_REPLY_MAGIC;
	if (out->simple) {
		ck_assert_int_ne(mode, WIRE_EXTENDED);
		if (!wire_read(c, p + 4, 12))
			return false;
		out->error = be32_load(p + 4);
		out->cookie = be64_load(p + 8);
		return true;
	}
	ck_assert_uint_eq(be32_load(p), mode == WIRE_EXTENDED	? NBD_EXT_REPLY_MAGIC :
					mode == WIRE_STRUCTURED ? NBD_STRUCT_REPLY_MAGIC :
								  0);
	if (!wire_read(c, p + 4, mode == WIRE_EXTENDED ? 28 : 16))
		return false;
	out->done = be16_load(p + 4) & NBD_CHUNK_DONE;
	out->type = be16_load(p + 6);
	out->cookie = be64_load(p + 8);
	out->offset = mode == WIRE_EXTENDED ? be64_load(p + 16) : 0;
	out->length = mode == WIRE_EXTENDED ? be64_load(p + 24) : be32_load(p + 16);
	return chunk_body(c, out);
}

uint32_t wire_do(struct wire *c, enum wire_mode mode, const struct wire_request *r,
		 const void *payload, size_t bytes, void *data)
{
	struct wire_chunk chunk;
	uint32_t error = 0;

	ck_assert(wire_request(c, mode, r, payload, bytes));
	do {
		ck_assert(wire_chunk(c, mode, &chunk));
		ck_assert_uint_eq(chunk.cookie, r->cookie);
		if (mode == WIRE_EXTENDED)
			ck_assert_uint_eq(chunk.offset, r->offset);
		if (chunk.error)
			error = chunk.error;
		else if (chunk.simple && r->type == NBD_CMD_READ)
			ck_assert(wire_read(c, data, r->length));
		else if (chunk.type == NBD_CHUNK_OFFSET_DATA)
			ck_assert(wire_read(c, (uint8_t *)data + be64_load(chunk.data) - r->offset,
					    chunk.length));
		else if (chunk.type == NBD_CHUNK_OFFSET_HOLE)
			memset((uint8_t *)data + be64_load(chunk.data) - r->offset, 0,
			       be32_load(chunk.data + 8));
		if (r->type == NBD_CMD_READ && mode == WIRE_STRUCTURED)
			ck_assert(!chunk.simple);
	} while (!chunk.done);
	return error;
}

void wire_begin(struct wire *c, struct world *w)
{
	wire_open(c, w);
	(void)wire_go(c, WIRE_SIMPLE, "disk");
}
