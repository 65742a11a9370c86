/* check_nbd_memory.c - the payloads of all connections together stay in bounds, and nobody starves */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "nbd-world.h"
#include "tapdisk/front/nbd-memory.h"
#include "tapdisk/front/nbd-proto.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"

#define HOLDERS 30u
#define PIECES	8u
#define MIB	(1ull << 20)

/* ── the rules alone ── */

struct piece {
	uint64_t bytes;
	bool shared;
};

static struct user {
	struct nbd_holder holder; /* first */
	struct piece piece[PIECES];
	unsigned count;
	uint64_t wants;	     /* bytes; 0: nothing */
	unsigned long since; /* that step */
	bool called;
} users[HOLDERS];

static void called(struct nbd_holder *h)
{
	((struct user *)h)->called = true;
}

static uint64_t in_use(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < HOLDERS; i++)
		for (unsigned k = 0; k < users[i].count; k++)
			sum += users[i].piece[k].bytes;
	return sum;
}

static void ask(struct user *u)
{
	struct piece *p = &u->piece[u->count];

	u->called = false;
	if (!nbd_holder_take(&u->holder, u->wants, &p->shared)) {
		ck_assert_uint_gt(u->wants, u->holder.memory->own / HOLDERS - u->holder.used);
		return;
	}
	p->bytes = u->wants;
	u->count++;
	u->wants = 0;
}

static void give(struct user *u)
{
	struct piece p = u->piece[0];

	memmove(u->piece, u->piece + 1, --u->count * sizeof(p));
	nbd_holder_give(&u->holder, p.bytes, p.shared);
}

/* Random users: the sum stays in bounds, who is called first comes first, and everybody is served
 * as long as others give back. */
START_TEST(random_users)
{
	unsigned long long seed = suite_seed(1);
	struct rng r = { seed };
	struct nbd_memory *m;

	ck_assert_int_eq(nbd_memory_open(NBD_MEMORY_MIN, &m), 0);
	nbd_memory_join(m, HOLDERS);
	memset(users, 0, sizeof(users));
	for (unsigned i = 0; i < HOLDERS; i++)
		nbd_holder_init(&users[i].holder, m, called);
	for (unsigned long step = 0; step < 200000; step++) {
		struct user *u = &users[rng_below(&r, HOLDERS)];

		if (u->wants) {
			if (u->called || rng_chance(&r, 10))
				ask(u);
			if (u->wants && rng_chance(&r, 1)) { /* its connection ends */
				u->wants = 0;
				nbd_holder_release(&u->holder);
			}
		} else if (u->count < PIECES && rng_chance(&r, 50)) {
			u->wants = 4096ull << rng_below(&r, 14);
			u->since = step;
			ask(u);
		}
		u = &users[rng_below(&r, HOLDERS)];
		if (u->count)
			give(u);
		for (unsigned i = 0; i < HOLDERS; i++)
			if (users[i].wants && step - users[i].since >= 20000)
				ck_abort_msg("seed %llu: one waits for ever", seed);
		ck_assert_uint_le(in_use(), NBD_MEMORY_MIN / 4 * 3);
	}
	for (unsigned i = 0; i < HOLDERS; i++) {
		nbd_holder_release(&users[i].holder);
		while (users[i].count)
			give(&users[i]);
	}
	nbd_memory_leave(m, HOLDERS);
	nbd_memory_close(m);
	nbd_memory_close(NULL);
}
END_TEST

/* ── at work ── */

#define STUCK 60u

static struct world w;
static struct wire stuck[STUCK], good, large;

/* With as little memory as there may be; the caller's to close. */
static struct nbd_memory *open_world(void)
{
	struct nbd_params params = { .fd = -1 };

	ck_assert_int_eq(nbd_memory_open(NBD_MEMORY_MIN, &params.memory), 0);
	world_open(&w, &params);
	return params.memory;
}

static void begin_write(struct wire *c, uint64_t bytes)
{
	struct wire_request r = { .type = NBD_CMD_WRITE, .cookie = 1, .length = bytes };
	uint8_t header[64];
	size_t n = wire_request_put(header, WIRE_SIMPLE, &r);

	ck_assert(wire_send(c, header, n));
	ck_assert(wire_send(c, header, 16)); /* of its payload; the rest does not come */
}

static void begin_writes(unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		wire_open(&stuck[i], &w);
		wire_go(&stuck[i], WIRE_SIMPLE, "disk");
		begin_write(&stuck[i], 8 * MIB);
	}
}

/* Many clients begin large writes and stop.  Another one is served, the memory stays in bounds; a
 * large request gets its turn when one of them goes. */
START_TEST(stuck_payloads)
{
	struct wire_request small = { .type = NBD_CMD_READ, .cookie = 2, .length = 65536 };
	struct wire_request big = { .type = NBD_CMD_READ, .cookie = 3, .length = 8 * MIB };
	uint8_t *data = malloc(8 * MIB);
	struct nbd_memory *m;

	ck_assert_ptr_nonnull(data);
	m = open_world();
	begin_writes(STUCK);
	world_run(&w, 50);
	wire_open(&good, &w);
	wire_go(&good, WIRE_SIMPLE, "disk");
	for (unsigned i = 0; i < 20; i++)
		ck_assert_uint_eq(wire_do(&good, WIRE_SIMPLE, &small, NULL, 0, data), 0);
	ck_assert_uint_le(nbd_memory_used(m), NBD_MEMORY_MIN);
	wire_open(&large, &w);
	wire_go(&large, WIRE_SIMPLE, "disk");
	ck_assert(wire_request(&large, WIRE_SIMPLE, &big, NULL, 0));
	ck_assert(wire_silent(&large));
	for (unsigned i = 0; i < STUCK; i++)
		wire_close(&stuck[i]);
	ck_assert(wire_read(&large, data, 16));
	ck_assert(wire_read(&large, data, 8 * MIB));
	ck_assert_uint_eq(wire_do(&good, WIRE_SIMPLE, &small, NULL, 0, data), 0);
	ck_assert_uint_le(nbd_memory_used(m), NBD_MEMORY_MIN);
	world_close(&w);
	ck_assert_uint_eq(nbd_memory_used(m), 0);
	nbd_memory_close(m);
	free(data);
}
END_TEST

static struct nbd_client *client(unsigned n)
{
	struct list *l = w.server->clients.next;

	while (n--)
		l = l->next;
	return list_entry(l, struct nbd_client, link);
}

/* Time goes by for those that drip. */
static void look_at_all(void)
{
	world_run(&w, 5);
	for (unsigned i = 0; i < 6; i++)
		loop_timer_set(client(i)->deadline, 1000000);
	world_run(&w, 5);
}

/* A payload that drips in, all the time, takes memory from others: not for long, once they wait. */
START_TEST(dripping_payloads)
{
	struct wire_request big = { .type = NBD_CMD_READ, .cookie = 3, .length = 8 * MIB };
	uint8_t *data = malloc(8 * MIB);
	struct nbd_memory *m;

	ck_assert_ptr_nonnull(data);
	m = open_world();
	begin_writes(6);
	world_run(&w, 20);
	/* nobody minds */
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 6; i++) {
			ck_assert(wire_send(&stuck[i], data, 1));
			world_run(&w, 1);
			loop_timer_set(client(i)->deadline, 1000000);
		}
		world_run(&w, 5);
	}
	ck_assert_uint_eq(nbd_server_clients(w.server, NULL, 0), 6);
	wire_open(&large, &w);
	wire_go(&large, WIRE_SIMPLE, "disk");
	ck_assert(wire_request(&large, WIRE_SIMPLE, &big, NULL, 0));
	ck_assert(wire_silent(&large));
	/* one that keeps pace stays */
	ck_assert(wire_send(&stuck[0], data, 6 * MIB));
	look_at_all();
	ck_assert_uint_eq(nbd_server_clients(w.server, NULL, 0), 7);
	ck_assert(wire_send(&stuck[0], data, 1 * MIB));
	look_at_all();
	ck_assert(wire_read(&large, data, 16));
	ck_assert(wire_read(&large, data, 8 * MIB));
	ck_assert(wire_send(&stuck[0], data, 1 * MIB - 16 - 20));
	ck_assert(wire_read(&stuck[0], data, 16));
	world_close(&w);
	nbd_memory_close(m);
	free(data);
}
END_TEST

/* All read as much as they can at once, and keep on: all get their data. */
START_TEST(many_readers)
{
	struct wire_request r = { .type = NBD_CMD_READ, .length = 4 * MIB };
	uint8_t *data = malloc(4 * MIB);
	struct nbd_memory *m;

	ck_assert_ptr_nonnull(data);
	m = open_world();
	for (unsigned i = 0; i < 20; i++) {
		wire_open(&stuck[i], &w);
		wire_go(&stuck[i], WIRE_SIMPLE, "disk");
		wire_deaf(&stuck[i], true);
		for (r.cookie = 0; r.cookie < 6; r.cookie++)
			ck_assert(wire_request(&stuck[i], WIRE_SIMPLE, &r, NULL, 0));
	}
	world_run(&w, 100);
	ck_assert_uint_le(nbd_memory_used(m), NBD_MEMORY_MIN);
	for (unsigned i = 0; i < 20; i++)
		wire_deaf(&stuck[i], false);
	for (unsigned i = 0; i < 20; i++) {
		for (unsigned k = 0; k < 6; k++) {
			ck_assert(wire_read(&stuck[i], data, 16));
			ck_assert(wire_read(&stuck[i], data, 4 * MIB));
			ck_assert_uint_le(nbd_memory_used(m), NBD_MEMORY_MIN);
		}
		wire_close(&stuck[i]);
	}
	world_close(&w);
	ck_assert_uint_eq(nbd_memory_used(m), 0);
	nbd_memory_close(m);
	free(data);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { random_users, stuck_payloads, dripping_payloads,
				       many_readers, NULL };

	return suite_run("nbd_memory", tests);
}
