/* check_nbd_ends.c - clients that end before they have read all replies, and at any byte of a session */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "libvhd/base/endian.h"
#include "nbd-world.h"
#include "tests/lib/suite.h"

#define EXPORTS 20u
#define LISTS	6u /* their replies: more than a socket holds, less than what is kept */

static struct world w;
static struct wire c;

/* LISTS times LIST, sent at once, unread. */
static void begin(void)
{
	char name[16], description[4001];
	const struct nbd_client *client;
	const int room = 4096; /* whatever the system allows */

	world_open(&w, NULL);
	memset(description, 'x', sizeof(description) - 1);
	description[sizeof(description) - 1] = '\0';
	for (unsigned i = 0; i < EXPORTS; i++) {
		snprintf(name, sizeof(name), "number%u", i);
		ck_assert_int_eq(nbd_export_add(w.server, w.vbd,
						&(struct nbd_export_params){
							.name = name, .description = description }),
				 0);
	}
	wire_open(&c, &w);
	wire_greet(&c, 3);
	client = list_entry(w.server->clients.prev, struct nbd_client, link);
	ck_assert_int_eq(setsockopt(client->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
	wire_deaf(&c, true);
	for (unsigned i = 0; i < LISTS; i++)
		ck_assert(wire_option(&c, NBD_OPT_LIST, NULL, 0));
}

static void all_lists_come(void)
{
	uint8_t data[8192];
	size_t length;

	world_run(&w, 50);
	wire_deaf(&c, false);
	for (unsigned i = 0; i < LISTS; i++) {
		for (unsigned k = 0; k < EXPORTS + 2; k++)
			ck_assert_uint_eq(wire_option_reply(&c, NBD_OPT_LIST, data, sizeof(data),
							    &length),
					  NBD_REP_SERVER);
		ck_assert_uint_eq(wire_option_end(&c, NBD_OPT_LIST), NBD_REP_ACK);
	}
}

START_TEST(abort_behind_replies)
{
	begin();
	ck_assert(wire_option(&c, NBD_OPT_ABORT, NULL, 0));
	all_lists_come();
	ck_assert_uint_eq(wire_option_end(&c, NBD_OPT_ABORT), NBD_REP_ACK);
	ck_assert(wire_ends(&c));
	world_close(&w);
}
END_TEST

START_TEST(half_closed_behind_replies)
{
	begin();
	ck_assert_int_eq(shutdown(c.fd, SHUT_WR), 0);
	all_lists_come();
	ck_assert(wire_ends(&c));
	world_close(&w);
}
END_TEST

/* It is not waited for without end. */
START_TEST(never_reads)
{
	const struct nbd_client *client;

	begin();
	ck_assert(wire_option(&c, NBD_OPT_ABORT, NULL, 0));
	world_run(&w, 50);
	ck_assert(!list_empty(&w.server->clients));
	client = list_entry(w.server->clients.next, struct nbd_client, link);
	ck_assert(loop_timer_is_set(client->deadline));
	wire_close(&c);
	world_wait_clients(&w, 0);
	world_close(&w);
}
END_TEST

/* ── anywhere ── */

#define REQUESTS 7u

/* Requests that are served and such that are not, with payloads; ends[i]: where the i-th is complete. */
static size_t session(enum wire_mode mode, uint8_t *talk, size_t ends[REQUESTS])
{
	const bool extended = mode == WIRE_EXTENDED;
	const uint16_t carries = extended ? NBD_CMD_FLAG_PAYLOAD_LEN : 0;
	const struct wire_request requests[REQUESTS] = {
		{ .flags = carries, .type = NBD_CMD_WRITE, .offset = 7, .length = 33 },
		{ .type = NBD_CMD_READ, .offset = 5, .length = 40 },
		/* beyond the end; no flag that it knows: their payloads go by */
		{ .flags = carries, .type = NBD_CMD_WRITE, .offset = WORLD_BYTES, .length = 50 },
		{ .flags = carries | 0x8000, .type = NBD_CMD_WRITE, .length = 21 },
		/* a payload where none belongs, or none: refused like that, or harmless */
		{ .flags = carries, .type = NBD_CMD_CACHE, .length = 11 },
		{ .flags = carries, .type = NBD_CMD_BLOCK_STATUS, .length = 12 },
		{ .type = NBD_CMD_FLUSH },
	};
	size_t n = 0;

	for (unsigned i = 0; i < REQUESTS; i++) {
		struct wire_request r = requests[i];
		bool carried = extended ? r.flags & NBD_CMD_FLAG_PAYLOAD_LEN :
					  r.type == NBD_CMD_WRITE;
		size_t payload = carried ? r.length : 0;

		r.cookie = i;
		n += wire_request_put(talk + n, mode, &r);
		memset(talk + n, 0x5a, payload);
		if (r.type == NBD_CMD_BLOCK_STATUS && payload) { /* of 4096 bytes, context 1 */
			be64_store(talk + n, 4096);
			be32_store(talk + n + 8, 1);
		}
		n += payload;
		ends[i] = n;
	}
	return n;
}

/* Each request that is there in whole is answered in whole, and no other; no part of one is done. */
static void ends_after(enum wire_mode mode, const uint8_t *talk, size_t end,
		       const size_t ends[REQUESTS])
{
	struct wire_chunk chunk;
	uint8_t bytes[64];
	bool seen[REQUESTS] = { false };
	unsigned whole = 0, got = 0, before = w.disk->writes;

	while (whole < REQUESTS && ends[whole] <= end)
		whole++;
	(void)wire_go(&c, mode, "disk");
	if (end)
		ck_assert(wire_send(&c, talk, end));
	ck_assert_int_eq(shutdown(c.fd, SHUT_WR), 0);
	while (got < whole) {
		ck_assert(wire_chunk(&c, mode, &chunk));
		ck_assert_uint_lt(chunk.cookie, whole);
		ck_assert(!seen[chunk.cookie]);
		if (chunk.cookie == 1 && !chunk.error && chunk.type != NBD_CHUNK_OFFSET_HOLE)
			ck_assert(wire_read(&c, bytes, 40));
		if (!chunk.done)
			continue;
		seen[chunk.cookie] = true;
		got++;
		if (chunk.cookie == 2)
			ck_assert_uint_eq(chunk.error, NBD_ENOSPC);
		if (chunk.cookie == 3)
			ck_assert_uint_eq(chunk.error, NBD_EINVAL);
	}
	ck_assert(wire_ends(&c));
	world_wait_clients(&w, 0);
	ck_assert_uint_eq(w.disk->writes - before, whole > 0);
	wire_close(&c);
}

START_TEST(half_closed_anywhere)
{
	uint8_t talk[1024];
	size_t ends[REQUESTS];

	world_open(&w, NULL);
	for (enum wire_mode mode = WIRE_SIMPLE; mode <= WIRE_EXTENDED; mode++) {
		size_t n = session(mode, talk, ends);

		for (size_t end = 0; end <= n; end++) {
			wire_open(&c, &w);
			ends_after(mode, talk, end, ends);
		}
	}
	world_close(&w);
}
END_TEST

int main(void)
{
	const TTest *tests[] = { abort_behind_replies, half_closed_behind_replies, never_reads,
				 half_closed_anywhere, NULL };

	return suite_run("nbd ends", tests);
}
