/* check_nbd_loss.c - ORDER 5: a sync that failed is told to clients' flushes, whoever had asked for it, and
 * what was being written meanwhile is written again */
#include <errno.h>
#include <string.h>

#include "nbd-world.h"
#include "tests/lib/suite.h"

static struct world w;
static struct wire a, b;
static uint8_t data[4096];

static uint32_t flush(struct wire *wire)
{
	struct wire_request r = wire_make(NBD_CMD_FLUSH, 0, 0);

	return wire_do(wire, WIRE_SIMPLE, &r, NULL, 0, NULL);
}

static uint32_t write_plainly(struct wire *wire)
{
	struct wire_request r = wire_make(NBD_CMD_WRITE, 0, sizeof(data));

	return wire_do(wire, WIRE_SIMPLE, &r, data, sizeof(data), NULL);
}

static uint32_t write_durably(struct wire *wire)
{
	struct wire_request r = wire_make(NBD_CMD_WRITE, 0, sizeof(data));

	r.flags = NBD_CMD_FLAG_FUA;
	return wire_do(wire, WIRE_SIMPLE, &r, data, sizeof(data), NULL);
}

START_TEST(every_client_hears_once)
{
	world_open(&w, NULL);
	wire_begin(&a, &w);
	wire_begin(&b, &w);
	ck_assert_uint_eq(flush(&a), 0);
	w.disk->disk.lost(&w.disk->disk); /* by age, say */
	/* what is durable by itself is not concerned, nor does it hear for the others */
	ck_assert_uint_eq(write_durably(&a), 0);
	ck_assert_uint_eq(flush(&a), NBD_EIO);
	ck_assert_uint_eq(flush(&a), 0);
	ck_assert_uint_eq(flush(&b), NBD_EIO);
	ck_assert_uint_eq(flush(&b), 0);
	/* somebody knows: no business of one who comes later */
	wire_close(&b);
	wire_begin(&b, &w);
	ck_assert_uint_eq(flush(&b), 0);
	world_close(&w);
}
END_TEST

/* Who was there is gone before it flushed: it may be the same guest that comes again. */
START_TEST(nobody_knew)
{
	world_open(&w, NULL);
	wire_begin(&a, &w);
	w.disk->disk.lost(&w.disk->disk);
	wire_close(&a);
	wire_begin(&a, &w);
	ck_assert_uint_eq(flush(&a), NBD_EIO);
	ck_assert_uint_eq(flush(&a), 0);
	world_close(&w);
}
END_TEST

/* A writer leaves, and his data is lost after that: he, or the next who may write, hears, whoever else
 * was told. */
START_TEST(gone_before_the_loss)
{
	world_open(&w, NULL);
	for (int round = 0; round < 2; round++) {
		wire_begin(&a, &w);
		wire_begin(&b, &w);
		ck_assert_uint_eq(write_plainly(&a), 0);
		if (round) /* durable already */
			ck_assert_uint_eq(flush(&b), 0);
		wire_close(&a);
		world_wait_clients(&w, 1);
		w.disk->disk.lost(&w.disk->disk);
		ck_assert_uint_eq(flush(&b), NBD_EIO);
		wire_begin(&a, &w);
		ck_assert_uint_eq(flush(&a), round ? 0 : NBD_EIO);
		ck_assert_uint_eq(flush(&a), 0);
		wire_close(&a);
		wire_close(&b);
		world_wait_clients(&w, 0);
	}
	world_close(&w);
}
END_TEST

/* Who only reads is told, but that is not enough. */
START_TEST(a_reader_does_not_count)
{
	world_open(&w, NULL);
	wire_begin(&a, &w);
	ck_assert_uint_eq(write_plainly(&a), 0);
	w.disk->disk.lost(&w.disk->disk);
	wire_open(&b, &w);
	(void)wire_go(&b, WIRE_SIMPLE, "ro");
	ck_assert_uint_eq(flush(&b), NBD_EIO);
	wire_close(&a);
	world_wait_clients(&w, 1);
	wire_begin(&a, &w);
	ck_assert_uint_eq(flush(&a), NBD_EIO);
	world_close(&w);
}
END_TEST

START_TEST(a_pause_does_not_forget)
{
	world_open(&w, NULL);
	wire_begin(&a, &w);
	w.disk->disk.lost(&w.disk->disk);
	ck_assert_int_eq(world_pause(&w), 0);
	ck_assert_int_eq(world_unpause(&w), 0);
	ck_assert_uint_eq(flush(&a), NBD_EIO);
	world_close(&w);
}
END_TEST

/* Then the operator is the one to be told: once. */
START_TEST(closing_tells_if_nobody_else_was)
{
	world_open(&w, NULL);
	w.disk->disk.lost(&w.disk->disk);
	ck_assert_int_eq(world_try_close(&w), -EIO);
	ck_assert_int_eq(world_try_close(&w), 0);
	world_close(&w);
}
END_TEST

START_TEST(closing_a_paused_one_tells)
{
	world_open(&w, NULL);
	w.disk->disk.lost(&w.disk->disk);
	ck_assert_int_eq(world_pause(&w), 0);
	ck_assert_int_eq(world_try_close(&w), -EIO);
	ck_assert_int_eq(world_try_close(&w), 0);
	world_close(&w);
}
END_TEST

START_TEST(a_write_under_way_is_carried_out_again)
{
	struct wire_request r = wire_make(NBD_CMD_WRITE, 0, sizeof(data));

	world_open(&w, NULL);
	wire_begin(&a, &w);
	memset(data, 0x3c, sizeof(data));
	w.disk->hold = true;
	ck_assert(wire_request(&a, WIRE_SIMPLE, &r, data, sizeof(data)));
	world_wait_held(&w, 1);
	w.disk->disk.lost(&w.disk->disk);
	world_let_go(&w);
	ck_assert(wire_read(&a, data, 16));
	ck_assert_uint_eq(data[7], 0);
	ck_assert_uint_eq(w.disk->writes, 2);
	world_close(&w);
}
END_TEST

/* Not for ever. */
START_TEST(a_write_that_never_gets_through)
{
	struct wire_request r = wire_make(NBD_CMD_WRITE, 0, sizeof(data));
	unsigned rounds = 0;

	world_open(&w, NULL);
	wire_begin(&a, &w);
	w.disk->hold = true;
	ck_assert(wire_request(&a, WIRE_SIMPLE, &r, data, sizeof(data)));
	for (world_wait_held(&w, 1); w.disk->held_count && rounds < 100; rounds++) {
		w.disk->disk.lost(&w.disk->disk);
		world_let_go(&w);
		w.disk->hold = true;
		world_run(&w, 2);
	}
	ck_assert_uint_gt(rounds, 2);
	ck_assert_uint_lt(rounds, 20);
	ck_assert(wire_read(&a, data, 16));
	ck_assert_uint_eq(data[7], NBD_EIO);
	w.disk->hold = false;
	world_close(&w);
}
END_TEST

int main(void)
{
	const TTest *tests[] = { every_client_hears_once,
				 nobody_knew,
				 gone_before_the_loss,
				 a_reader_does_not_count,
				 a_pause_does_not_forget,
				 closing_tells_if_nobody_else_was,
				 closing_a_paused_one_tells,
				 a_write_under_way_is_carried_out_again,
				 a_write_that_never_gets_through,
				 NULL };

	return suite_run("nbd loss", tests);
}
