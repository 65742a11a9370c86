/* check_nbd_vanish.c - ORDER 19: what a client asked for before it vanished is not carried out later, over
 * what others wrote and flushed meanwhile; and its place is free again */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "libvhd/base/endian.h"
#include "nbd-world.h"
#include "tests/lib/suite.h"

#define MIB (1u << 20)

static struct world w;
static struct wire gone, other;
static uint8_t old[MIB], new[4096], back[MIB];

static void send_write(struct wire *wire, uint64_t offset, const void *data, size_t length)
{
	struct wire_request r = wire_make(NBD_CMD_WRITE, offset, length);

	ck_assert(wire_request(wire, WIRE_SIMPLE, &r, data, length));
}

static uint64_t held(void)
{
	struct vbd_stats stats;

	vbd_get_stats(w.vbd, &stats);
	return stats.held;
}

static bool are_held(void *arg)
{
	return held() == *(const unsigned *)arg;
}

static void wait_held(unsigned count)
{
	ck_assert_msg(world_until(&w, are_held, &count), "%u held, not %u", (unsigned)held(),
		      count);
}

/* ── ways to vanish ── */

static void closes(void)
{
	wire_close(&gone);
}

/* The FIN of a TCP connection is no more than this. */
static void sends_no_more(void)
{
	ck_assert_int_eq(shutdown(gone.fd, SHUT_WR), 0);
}

static void says_goodbye(void)
{
	struct wire_request r = wire_make(NBD_CMD_DISC, 0, 0);

	ck_assert(wire_request(&gone, WIRE_SIMPLE, &r, NULL, 0));
	wire_close(&gone);
}

static void (*const ways[])(void) = { closes, sends_no_more, says_goodbye };

/* ── held ── */

START_TEST(held_write_is_dropped)
{
	struct wire_request flush = wire_make(NBD_CMD_FLUSH, 0, 0);

	memset(old, 0x0d, sizeof(old));
	memset(new, 0xee, sizeof(new));
	for (unsigned way = 0; way < 3; way++) {
		world_open(&w, NULL);
		wire_begin(&gone, &w);
		wire_begin(&other, &w);
		ck_assert_int_eq(world_pause(&w), 0);
		send_write(&gone, 0, old, sizeof(old));
		wait_held(1);
		ways[way]();
		wait_held(0);
		send_write(&other, 8192, new, sizeof(new));
		wait_held(1);
		ck_assert_int_eq(world_unpause(&w), 0);
		ck_assert(wire_read(&other, back, 16));
		ck_assert_uint_eq(wire_do(&other, WIRE_SIMPLE, &flush, NULL, 0, NULL), 0);
		world_run(&w, 5);
		ck_assert_mem_eq(w.disk->memory + 8192, new, sizeof(new));
		ck_assert_uint_eq(w.disk->memory[0], 0);
		world_close(&w);
	}
}
END_TEST

/* More than it has slots: the server does not even read them while the disk is paused. */
START_TEST(unread_requests_are_dropped)
{
	for (unsigned way = 0; way < 3; way++) {
		world_open(&w, NULL);
		wire_begin(&gone, &w);
		ck_assert_int_eq(world_pause(&w), 0);
		memset(old, 0x0d, 512);
		for (unsigned i = 0; i < NBD_SLOTS + 40; i++)
			send_write(&gone, i * 512, old, 512);
		wait_held(NBD_SLOTS);
		ways[way]();
		wait_held(0);
		if (way != 1)
			world_wait_clients(&w, 0);
		ck_assert_int_eq(world_unpause(&w), 0);
		world_run(&w, 5);
		ck_assert_uint_eq(w.disk->writes, 0);
		world_close(&w);
	}
}
END_TEST

/* It is with the disk when the client vanishes, and comes back because of a pause. */
START_TEST(no_new_life_by_a_pause)
{
	world_open(&w, NULL);
	wire_begin(&gone, &w);
	w.disk->hold = true;
	send_write(&gone, 0, new, sizeof(new));
	world_wait_held(&w, 1);
	wire_close(&gone);
	world_run(&w, 5);
	w.disk->fail = -ECANCELED;
	world_let_go(&w);
	world_wait_clients(&w, 0);
	ck_assert_uint_eq(w.disk->requests, 1);
	ck_assert_uint_eq(held(), 0);
	w.disk->fail = 0;
	world_close(&w);
}
END_TEST

START_TEST(places_are_free_again)
{
	static struct wire many[NBD_CLIENTS];

	world_open(&w, NULL);
	ck_assert_int_eq(world_pause(&w), 0);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < NBD_CLIENTS; i++) {
			wire_begin(&many[i], &w);
			send_write(&many[i], 0, new, sizeof(new));
		}
		wait_held(NBD_CLIENTS);
		for (unsigned i = 0; i < NBD_CLIENTS; i++)
			wire_close(&many[i]);
		world_wait_clients(&w, 0);
	}
	wire_begin(&other, &w);
	world_close(&w);
}
END_TEST

/* ── with the disk ── */

/* The storage is only slow: what is under way is carried out, and answered if somebody listens. */
START_TEST(what_moves_goes_on)
{
	for (unsigned way = 0; way < 3; way++) {
		world_open(&w, NULL);
		wire_begin(&gone, &w);
		memset(new, 0x70 + (int)way, sizeof(new));
		w.disk->hold = true;
		for (unsigned i = 0; i < 8; i++)
			send_write(&gone, i * 8192 + 100, new, 100); /* parts of sectors */
		world_wait_held(&w, 8);
		ways[way]();
		world_run(&w, 300);
		ck_assert_uint_eq(w.disk->aborts, 0);
		world_let_go(&w);
		if (way == 1)
			for (unsigned i = 0; i < 8; i++) {
				ck_assert(wire_read(&gone, back, 16));
				ck_assert_uint_eq(be32_load(back + 4), 0);
			}
		world_wait_clients(&w, 0);
		for (unsigned i = 0; i < 8; i++)
			ck_assert_mem_eq(w.disk->memory + i * 8192 + 100, new, 100);
		world_close(&w);
	}
}
END_TEST

/* What the kernel has cannot be called back: later writes of its sectors wait for it, no others. */
START_TEST(flying_write_is_waited_for)
{
	world_open(&w, NULL);
	wire_begin(&gone, &w);
	wire_begin(&other, &w);
	memset(old, 0x0d, sizeof(old));
	memset(new, 0xee, sizeof(new));
	w.disk->hold = true;
	send_write(&gone, 0, old, 65536);
	world_wait_held(&w, 1);
	wire_close(&gone);
	world_run(&w, 5);
	send_write(&other, 4096, new, sizeof(new));
	send_write(&other, 65536, new, sizeof(new));
	world_wait_held(&w, 2);
	world_run(&w, 5);
	ck_assert_uint_eq(w.disk->requests, 2);
	w.disk->hold = false; /* from now on what comes is carried out at once */
	world_let_go(&w);
	ck_assert(wire_read(&other, back, 32));
	ck_assert_uint_eq(w.disk->memory[0], 0x0d);
	ck_assert_mem_eq(w.disk->memory + 4096, new, sizeof(new));
	ck_assert_mem_eq(w.disk->memory + 65536, new, sizeof(new));
	world_close(&w);
}
END_TEST

int main(void)
{
	const TTest *tests[] = { held_write_is_dropped,
				 unread_requests_are_dropped,
				 no_new_life_by_a_pause,
				 places_are_free_again,
				 flying_write_is_waited_for,
				 what_moves_goes_on,
				 NULL };

	return suite_run("nbd vanish", tests);
}
