/* check_nbd_bytes.c - the NBD handshake fed with any bytes: cut off anywhere, made of pieces of sense */
#include <string.h>
#include <unistd.h>

#include "libvhd/base/endian.h"
#include "nbd-world.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"

static struct world w;
static struct wire c;
static uint8_t data[64];

/* One world for all; what is left of a test that failed goes with it. */
START_TEST(opens)
{
	world_open(&w, NULL);
}
END_TEST

START_TEST(closes)
{
	world_close(&w);
}
END_TEST

/* Ends after each byte of a whole conversation. */
START_TEST(ends_anywhere)
{
	static const char *const all[] = { "base:allocation", NULL };
	uint8_t talk[512];
	size_t n = 0, part;
	unsigned before = w.disk->writes;

	be32_store(talk, 3);
	n = 4;
	for (unsigned i = 0; i < 3; i++) {
		uint8_t *p = talk + n;

		be64_store(p, NBD_IHAVEOPT);
		be32_store(p + 8, i == 0 ? NBD_OPT_STRUCTURED_REPLY :
				  i == 1 ? NBD_OPT_SET_META_CONTEXT :
					   NBD_OPT_GO);
		part = i == 0 ? 0 :
		       i == 1 ? wire_queries(p + 16, "disk", all) :
				wire_name(p + 16, "disk");
		be32_store(p + 12, (uint32_t)part);
		n += 16 + part;
	}
	n += wire_request_put(talk + n, WIRE_STRUCTURED,
			      &(struct wire_request){ .type = NBD_CMD_WRITE, .length = 16 });
	memset(talk + n, 0xab, 16);
	n += 16;
	for (size_t end = 0; end < n; end++) {
		wire_open(&c, &w);
		ck_assert(wire_send(&c, talk, end));
		wire_close(&c);
		world_wait_clients(&w, 0);
	}
	ck_assert_uint_eq(w.disk->writes, before);
	wire_open(&c, &w);
	ck_assert(wire_send(&c, talk, n));
	ck_assert(!wire_silent(&c));
	wire_close(&c);
	world_wait_clients(&w, 0);
	ck_assert_uint_eq(w.disk->writes, before + 1);
	ck_assert_int_eq(w.disk->last.op, REQUEST_WRITE);
}
END_TEST

/* Pieces of sense in random order, some of them damaged, in random portions: whatever comes, the
 * server lives, and serves the next one. */
START_TEST(random_options)
{
	struct rng rng = { suite_seed(20261125) };

	for (unsigned round = 0; round < 300; round++) {
		wire_open(&c, &w);
		be32_store(data, rng_chance(&rng, 90) ? 3 : (uint32_t)rng_next(&rng));
		(void)wire_send(&c, data, 4);
		for (unsigned i = 0; i < 12; i++) {
			size_t length = rng_below(&rng, 40), whole = 16 + length;

			for (size_t k = 0; k < whole; k++)
				data[k] = (uint8_t)rng_below(&rng, rng_chance(&rng, 60) ? 2 : 256);
			be64_store(data, NBD_IHAVEOPT);
			be32_store(data + 8, (uint32_t)rng_below(&rng, 13));
			be32_store(data + 12, (uint32_t)length);
			if (rng_chance(&rng, 3))
				data[rng_below(&rng, whole)] ^= 1u << rng_below(&rng, 8);
			if (!wire_send(&c, data, whole))
				break;
			if (rng_chance(&rng, 20))
				world_run(&w, 1);
		}
		wire_close(&c);
	}
	world_wait_clients(&w, 0);
	wire_open(&c, &w);
	(void)wire_go(&c, WIRE_EXTENDED, "disk");
	wire_close(&c);
}
END_TEST

int main(void)
{
	const TTest *tests[] = { opens, ends_anywhere, random_options, closes, NULL };

	return suite_run("nbd bytes", tests);
}
