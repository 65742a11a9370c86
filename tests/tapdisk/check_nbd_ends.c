/* check_nbd_ends.c - clients that end the negotiation before they have read its replies */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

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

int main(void)
{
	const TTest *tests[] = { abort_behind_replies, half_closed_behind_replies, never_reads,
				 NULL };

	return suite_run("nbd ends", tests);
}
