/* check_nbd_life.c - NBD clients that vanish, do not read, never finish negotiating; servers, exports and
 * disks that end under them */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libvhd/base/endian.h"
#include "nbd-world.h"
#include "tests/lib/suite.h"

#define MIB (1u << 20)

static struct world w;
static struct wire c, other;
static uint8_t big[4 * MIB];

static void send_request(struct wire *wire, uint16_t type, uint64_t offset, uint64_t length)
{
	struct wire_request r = wire_make(type, offset, length);

	ck_assert(wire_request(wire, WIRE_SIMPLE, &r, big,
			       type == NBD_CMD_WRITE ? (size_t)length : 0));
}

static uint32_t ask(struct wire *wire, uint16_t type, uint64_t offset, uint64_t length)
{
	struct wire_request r = wire_make(type, offset, length);

	return wire_do(wire, WIRE_SIMPLE, &r, big, type == NBD_CMD_WRITE ? (size_t)length : 0, big);
}

/* The server's side of the connection that came last. */
static struct nbd_client *latest(void)
{
	return list_entry(w.server->clients.prev, struct nbd_client, link);
}

/* ── clients that vanish ── */

START_TEST(vanishes_with_writes_in_flight)
{
	world_open(&w, NULL);
	wire_begin(&c, &w);
	memset(big, 0x77, sizeof(big));
	w.disk->hold = true;
	for (unsigned i = 0; i < 10; i++)
		send_request(&c, NBD_CMD_WRITE, i * 4096, 4096);
	world_wait_held(&w, 10);
	wire_close(&c);
	world_run(&w, 20);
	ck_assert_uint_eq(nbd_server_clients(w.server, NULL, 0), 1); /* their memory is in use */
	world_let_go(&w);
	world_wait_clients(&w, 0);
	for (unsigned i = 0; i < 10 * 4096; i++)
		ck_assert_uint_eq(w.disk->memory[i], 0x77);
	world_close(&w);
}
END_TEST

/* A WRITE cut off at any place of its payload leaves the disk as it was. */
START_TEST(partial_write_never_lands)
{
	static const size_t sizes[] = { 1, 27, 28, 29, 600, 4096, 28 + 65535, 28 + 200000 };
	uint8_t talk[28 + 262144];

	world_open(&w, NULL);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		for (unsigned length = 65536; length <= 262144; length *= 4) {
			struct wire_request r = wire_make(NBD_CMD_WRITE, 0, length);

			if (sizes[i] >= 28 + length)
				continue;
			wire_begin(&c, &w);
			memset(talk, 0x99, sizeof(talk));
			(void)wire_request_put(talk, WIRE_SIMPLE, &r);
			ck_assert(wire_send(&c, talk, sizes[i]));
			if (i % 2)
				world_run(&w, 2);
			wire_close(&c);
			world_wait_clients(&w, 0);
		}
	}
	ck_assert_uint_eq(w.disk->writes, 0);
	world_close(&w);
}
END_TEST

/* Half-closed: what was asked is answered. */
START_TEST(half_closed)
{
	world_open(&w, NULL);
	wire_begin(&c, &w);
	w.disk->hold = true;
	send_request(&c, NBD_CMD_READ, 0, 4096);
	send_request(&c, NBD_CMD_WRITE, 0, 4096);
	shutdown(c.fd, SHUT_WR);
	world_wait_held(&w, 2);
	ck_assert(wire_silent(&c));
	world_let_go(&w);
	ck_assert(wire_read(&c, big, 16 + 4096 + 16));
	ck_assert(wire_ends(&c));
	world_close(&w);
}
END_TEST

/* ── clients that do not read ── */

START_TEST(stuck_reader)
{
	struct nbd_client *stuck;
	unsigned requests;

	world_open(&w, NULL);
	wire_begin(&c, &w);
	stuck = latest();
	wire_deaf(&c, true);
	for (unsigned i = 0; i < 300; i++)
		send_request(&c, NBD_CMD_READ, 0, 2 * MIB);
	world_run(&w, 50);
	/* memory is bounded, and so is what is taken from it */
	requests = w.disk->requests;
	ck_assert_uint_le(requests, NBD_SLOTS);
	ck_assert_uint_le(requests, BUFFERS_BYTES / (2 * MIB) + 1);
	world_run(&w, 50);
	ck_assert_uint_eq(w.disk->requests, requests);
	/* nobody else waits */
	wire_begin(&other, &w);
	for (unsigned i = 0; i < 100; i++)
		ck_assert_uint_eq(ask(&other, NBD_CMD_READ, i * 4096, 4096), 0);
	/* it has a deadline, and is served on when it reads in time */
	ck_assert(loop_timer_is_set(stuck->deadline));
	wire_deaf(&c, false);
	for (unsigned i = 0; i < 300; i++) {
		struct wire_chunk chunk;

		ck_assert(wire_chunk(&c, WIRE_SIMPLE, &chunk));
		ck_assert(wire_read(&c, NULL, 2 * MIB));
	}
	world_run(&w, 5);
	ck_assert_int_eq(stuck->deadline_for, NBD_DEADLINE_TRIM); /* no longer for being stuck */
	wire_deaf(&c, true);
	for (unsigned i = 0; i < 40; i++)
		send_request(&c, NBD_CMD_READ, 0, 2 * MIB);
	world_run(&w, 5);
	ck_assert_int_eq(stuck->deadline_for, NBD_DEADLINE_PACE); /* they are large */
	for (unsigned i = 0; i < NBD_STUCK_NS / NBD_PACE_NS; i++) {
		ck_assert_uint_eq(nbd_server_clients(w.server, NULL, 0), 2);
		loop_timer_set(stuck->deadline, 1000000); /* time goes by */
		world_run(&w, 5);
	}
	world_wait_clients(&w, 1);
	world_close(&w);
}
END_TEST

/* Memory goes back to the system when nothing moves. */
START_TEST(idle_memory)
{
	struct nbd_client *idle;

	world_open(&w, NULL);
	wire_begin(&c, &w);
	idle = latest();
	ck_assert_uint_eq(ask(&c, NBD_CMD_READ, 0, 4096), 0);
	world_run(&w, 2);
	ck_assert(!loop_timer_is_set(idle->deadline)); /* not for so little */
	ck_assert_uint_eq(ask(&c, NBD_CMD_READ, 0, 4 * MIB), 0);
	world_run(&w, 2);
	ck_assert(loop_timer_is_set(idle->deadline));
	ck_assert_uint_ge(buffers_touched(idle->buffers), 4 * MIB);
	/* not while it works */
	w.disk->hold = true;
	send_request(&c, NBD_CMD_READ, 0, MIB);
	world_wait_held(&w, 1);
	ck_assert(!loop_timer_is_set(idle->deadline));
	world_let_go(&w);
	ck_assert(wire_read(&c, NULL, 16 + MIB));
	world_run(&w, 2);
	loop_timer_set(idle->deadline, 1000000);
	world_run(&w, 5);
	ck_assert_uint_eq(buffers_touched(idle->buffers), 0);
	ck_assert(!loop_timer_is_set(idle->deadline));
	ck_assert_uint_eq(ask(&c, NBD_CMD_READ, 0, 4 * MIB), 0);
	world_close(&w);
}
END_TEST

/* ── clients that do not get to the point ── */

START_TEST(half_open)
{
	static struct wire many[100];
	struct nbd_client_info info[2];

	world_open(&w, NULL);
	for (unsigned i = 0; i < 100; i++) {
		wire_connect(&many[i], &w);
		world_run(&w, i % 20 ? 0 : 1); /* the kernel queues 64 */
	}
	world_run(&w, 50);
	ck_assert_uint_eq(nbd_server_clients(w.server, NULL, 0), NBD_NEGOTIATING);
	/* an honest one comes through */
	wire_connect(&c, &w);
	(void)wire_go(&c, WIRE_SIMPLE, "disk");
	ck_assert_uint_eq(ask(&c, NBD_CMD_READ, 0, 4096), 0);
	ck_assert_uint_eq(nbd_server_clients(w.server, info, 2), NBD_NEGOTIATING);
	/* and their time is limited, whatever they say meanwhile */
	ck_assert(wire_option(&many[99], NBD_OPT_LIST, NULL, 0));
	for (struct list *l = w.server->clients.next; l != &w.server->clients; l = l->next) {
		struct nbd_client *client = list_entry(l, struct nbd_client, link);

		if (client->state == NBD_SERVING)
			continue;
		ck_assert(loop_timer_is_set(client->deadline));
		loop_timer_set(client->deadline, 1000000);
	}
	world_wait_clients(&w, 1);
	ck_assert_uint_eq(w.server->negotiating, 0);
	ck_assert_uint_eq(ask(&c, NBD_CMD_READ, 0, 4096), 0);
	for (unsigned i = 0; i < 100; i++)
		wire_close(&many[i]);
	world_close(&w);
}
END_TEST

START_TEST(most_clients)
{
	static struct wire many[NBD_CLIENTS];

	world_open(&w, NULL);
	for (unsigned i = 0; i < NBD_CLIENTS; i++) {
		wire_connect(&many[i], &w);
		(void)wire_go(&many[i], WIRE_SIMPLE, "disk");
	}
	wire_connect(&c, &w);
	ck_assert(wire_ends(&c));
	wire_close(&many[7]);
	world_wait_clients(&w, NBD_CLIENTS - 1);
	wire_connect(&c, &w);
	(void)wire_go(&c, WIRE_SIMPLE, "disk");
	for (unsigned i = 0; i < NBD_CLIENTS; i++)
		wire_close(&many[i]);
	world_close(&w);
}
END_TEST

/* Without descriptors new connections wait; the server does not run in circles meanwhile. */
START_TEST(out_of_descriptors)
{
	struct rlimit old, low;
	struct rusage before, after;
	int next;

	world_open(&w, NULL);
	next = dup(0);
	close(next);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)next + 1;
	wire_connect(&c, &w);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	getrusage(RUSAGE_SELF, &before);
	world_run(&w, 300);
	getrusage(RUSAGE_SELF, &after);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	ck_assert_uint_eq(nbd_server_clients(w.server, NULL, 0), 0);
	ck_assert_int_lt((after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 +
				 after.ru_utime.tv_usec - before.ru_utime.tv_usec +
				 (after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000 +
				 after.ru_stime.tv_usec - before.ru_stime.tv_usec,
			 150000);
	(void)wire_go(&c, WIRE_SIMPLE, "disk");
	world_close(&w);
}
END_TEST

/* ── ends ── */

static void count_up(void *arg)
{
	++*(unsigned *)arg;
}

static bool is_positive(void *arg)
{
	return *(unsigned *)arg > 0;
}

START_TEST(stops)
{
	unsigned stopped = 0;
	char path[80];

	world_open(&w, NULL);
	wire_begin(&c, &w);
	wire_begin(&other, &w);
	w.disk->hold = true;
	send_request(&c, NBD_CMD_READ, 0, 4096);
	world_wait_held(&w, 1);
	nbd_server_stop(w.server, UINT64_C(5000000000), count_up, &stopped);
	snprintf(path, sizeof(path), "%s/s", w.dir);
	ck_assert_int_lt(access(path, F_OK), 0);
	ck_assert(wire_ends(&other)); /* had nothing in flight */
	world_run(&w, 20);
	ck_assert_uint_eq(stopped, 0);
	world_let_go(&w);
	ck_assert(wire_read(&c, big, 16 + 4096));
	ck_assert_uint_eq(be32_load(big + 4), 0);
	ck_assert(wire_ends(&c));
	ck_assert(world_until(&w, is_positive, &stopped));
	world_run(&w, 5);
	ck_assert_uint_eq(stopped, 1);
	world_close(&w);
}
END_TEST

/* Requests that came and had to wait are told to go elsewhere. */
START_TEST(stops_with_requests_waiting)
{
	unsigned stopped = 0, served = 0, refused = 0;
	struct wire_chunk chunk;

	world_open(&w, NULL);
	wire_begin(&c, &w);
	w.disk->hold = true;
	for (unsigned i = 0; i < NBD_SLOTS + 20; i++)
		send_request(&c, NBD_CMD_TRIM, i * 4096, 4096);
	world_wait_held(&w, NBD_SLOTS);
	nbd_server_stop(w.server, UINT64_C(5000000000), count_up, &stopped);
	world_run(&w, 5);
	world_let_go(&w);
	while (wire_chunk(&c, WIRE_SIMPLE, &chunk)) {
		served += !chunk.error;
		refused += chunk.error == NBD_ESHUTDOWN;
	}
	ck_assert_uint_eq(served, NBD_SLOTS);
	ck_assert_uint_eq(refused, 20);
	ck_assert(world_until(&w, is_positive, &stopped));
	world_close(&w);
}
END_TEST

START_TEST(stop_runs_out_of_time)
{
	unsigned stopped = 0;

	world_open(&w, NULL);
	wire_begin(&c, &w);
	w.disk->hold = true;
	send_request(&c, NBD_CMD_WRITE, 0, 4096);
	world_wait_held(&w, 1);
	nbd_server_stop(w.server, 2000000, count_up, &stopped);
	ck_assert(world_until(&w, is_positive, &stopped));
	ck_assert(wire_ends(&c));
	/* freed with a request in flight, which ends later */
	nbd_server_free(w.server);
	w.server = NULL;
	world_run(&w, 5);
	world_let_go(&w);
	ck_assert_uint_eq(w.disk->writes, 1);
	world_close(&w);
	ck_assert_uint_eq(stopped, 1);
}
END_TEST

START_TEST(freed_at_once)
{
	world_open(&w, NULL);
	wire_begin(&c, &w);
	wire_open(&other, &w);
	wire_greet(&other, 3);
	wire_begin(&other, &w);
	w.disk->hold = true;
	for (unsigned i = 0; i < 5; i++)
		send_request(&c, NBD_CMD_READ, 0, MIB);
	world_wait_held(&w, 5);
	nbd_server_free(w.server);
	w.server = NULL;
	ck_assert(wire_ends(&c));
	ck_assert(wire_ends(&other));
	world_let_go(&w);
	world_close(&w);
}
END_TEST

START_TEST(export_removed)
{
	world_open(&w, NULL);
	wire_begin(&c, &w);
	wire_open(&other, &w);
	(void)wire_go(&other, WIRE_SIMPLE, "ro");
	w.disk->hold = true;
	send_request(&c, NBD_CMD_WRITE, 0, 4096);
	world_wait_held(&w, 1);
	ck_assert_int_eq(nbd_export_remove(w.server, "nothing"), -ENOENT);
	ck_assert_int_eq(nbd_export_remove(w.server, "disk"), 0);
	ck_assert_int_eq(nbd_export_remove(w.server, "disk"), -ENOENT);
	ck_assert(wire_ends(&c));
	ck_assert_uint_eq(nbd_server_clients(w.server, NULL, 0), 2);
	/* the name can be taken again before the last request of the old one is over */
	ck_assert_int_eq(nbd_export_add(w.server, w.vbd,
					&(struct nbd_export_params){ .name = "disk" }),
			 0);
	ck_assert_int_eq(nbd_export_add(w.server, w.vbd,
					&(struct nbd_export_params){ .name = "disk" }),
			 -EEXIST);
	world_let_go(&w);
	world_wait_clients(&w, 1);
	wire_begin(&c, &w);
	ck_assert_uint_eq(ask(&c, NBD_CMD_READ, 0, 4096), 0);
	ck_assert_uint_eq(ask(&other, NBD_CMD_READ, 0, 4096), 0);
	/* the default is the first of those that are left */
	wire_close(&c);
	wire_open(&c, &w);
	ck_assert_uint_ne(wire_go(&c, WIRE_SIMPLE, "") & NBD_FLAG_READ_ONLY, 0);
	world_close(&w);
}
END_TEST

START_TEST(disk_closed)
{
	world_open(&w, NULL);
	wire_begin(&c, &w);
	ck_assert_uint_eq(ask(&c, NBD_CMD_READ, 0, 4096), 0);
	world_close_vbd(&w);
	ck_assert(wire_ends(&c));
	/* the name stays, there is nothing behind it */
	wire_open(&c, &w);
	wire_greet(&c, 3);
	ck_assert(wire_option(&c, NBD_OPT_INFO, big, wire_name(big, "disk")));
	ck_assert_uint_eq(wire_option_end(&c, NBD_OPT_INFO), NBD_REP_ERR_UNKNOWN);
	nbd_server_free(w.server);
	w.server = NULL;
	world_close(&w);
}
END_TEST

int main(void)
{
	const TTest *tests[] = { vanishes_with_writes_in_flight,
				 partial_write_never_lands,
				 half_closed,
				 stuck_reader,
				 idle_memory,
				 half_open,
				 most_clients,
				 out_of_descriptors,
				 stops,
				 stops_with_requests_waiting,
				 stop_runs_out_of_time,
				 freed_at_once,
				 export_removed,
				 disk_closed,
				 NULL };

	return suite_run("nbd life", tests);
}
