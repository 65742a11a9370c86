/* check_cbt.c - changed-block logs: the header's bytes, sizes, who may do what beside a server */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/cbt.h"
#include "tests/lib/edit.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"

#define SIZE (100ull * CBT_BLOCK_BYTES)

static struct vhd_error err;

static struct cbt open_log(const char *path, bool write)
{
	struct cbt c;
	int rc = cbt_open(path, write, &c, &err);

	ck_assert_msg(rc == 0, "%s", err.text);
	return c;
}

static bool flag_of(const char *path)
{
	struct cbt c = open_log(path, false);

	cbt_close(&c);
	return c.header.consistent;
}

static uint64_t size_of(const char *path)
{
	struct cbt c = open_log(path, false);

	cbt_close(&c);
	return c.header.size;
}

static int set(const char *path, int flag, uint64_t size)
{
	bool consistent = flag > 0;
	const struct cbt_change change = {
		.consistent = flag < 0 ? NULL : &consistent,
		.size = size ? &size : NULL,
	};

	return cbt_set(path, &change, false, &err);
}

static void make(const char *path, uint64_t size)
{
	ck_assert_msg(cbt_create(path, size, false, false, &err) == 0, "%s", err.text);
	ck_assert_int_eq(set(path, 1, 0), 0);
}

START_TEST(header)
{
	struct rng rng = { suite_seed(20) };
	uint8_t raw[CBT_HEADER_BYTES], again[CBT_HEADER_BYTES];
	struct cbt_header h, got;

	for (int i = 0; i < 1000; i++) {
		for (unsigned k = 0; k < 16; k++) {
			h.parent[k] = (uint8_t)rng_next(&rng);
			h.child[k] = (uint8_t)rng_next(&rng);
		}
		h.consistent = rng_chance(&rng, 50);
		h.size = rng_next(&rng) >> rng_below(&rng, 64);
		cbt_encode(&h, raw);
		ck_assert_int_eq(cbt_decode(raw, &got, &err), 0);
		cbt_encode(&got, again);
		ck_assert_mem_eq(raw, again, sizeof(raw));
		ck_assert_uint_eq(got.size, h.size);
		/* least significant byte first */
		ck_assert_uint_eq(raw[32], h.consistent);
		ck_assert_uint_eq(raw[40], h.size & 0xff);
		ck_assert_uint_eq(raw[47], h.size >> 56);
	}
	raw[34] = 1;
	ck_assert_int_eq(cbt_decode(raw, &got, &err), -VHD_E_HEADER_FIELD);
}
END_TEST

START_TEST(sizes)
{
	ck_assert_uint_eq(cbt_bitmap_bytes(0), 0);
	ck_assert_uint_eq(cbt_bitmap_bytes(1), 1);
	ck_assert_uint_eq(cbt_bitmap_bytes(8 * CBT_BLOCK_BYTES), 1);
	ck_assert_uint_eq(cbt_bitmap_bytes(8 * CBT_BLOCK_BYTES + 1), 2);
	ck_assert_uint_eq(cbt_bitmap_bytes(UINT64_MAX), 1ull << 45);
}
END_TEST

/* What a server's log forbids, and what not. */
START_TEST(beside_a_server)
{
	const uint8_t id[16] = { 1, 2, 3 };
	const struct cbt_change naming = { .child = id };
	struct cbt c, other;

	edit_begin("check_cbt");
	make("log", SIZE);
	make("older", SIZE);
	c = open_log("log", true);
	ck_assert_int_eq(cbt_begin(&c, SIZE, &err), 0);
	ck_assert(!flag_of("log"));
	/* no second one, and nobody vouches for it or cuts it */
	other = open_log("log", true);
	ck_assert_int_eq(cbt_begin(&other, SIZE, &err), -VHD_E_BUSY);
	cbt_close(&other);
	ck_assert_int_eq(set("log", 1, 0), -VHD_E_BUSY);
	ck_assert_int_eq(set("log", -1, SIZE / 2), -VHD_E_BUSY);
	ck_assert_int_eq(cbt_coalesce("older", "log", false, &err), -VHD_E_BUSY);
	ck_assert_int_eq(cbt_coalesce("log", "older", false, &err), -VHD_E_BUSY);
	ck_assert_int_eq(cbt_create("log", SIZE, true, false, &err), -VHD_E_BUSY);
	/* names and room: as long as it takes */
	ck_assert_int_eq(cbt_set("log", &naming, false, &err), 0);
	ck_assert_int_eq(set("log", 0, 0), 0);
	ck_assert_int_eq(set("log", -1, SIZE * 2), 0);
	ck_assert_int_eq(cbt_end(&c, true, &err), 0);
	cbt_close(&c);
	/* what others changed meanwhile stays */
	ck_assert(flag_of("log"));
	ck_assert_uint_eq(size_of("log"), SIZE * 2);
	c = open_log("log", false);
	ck_assert_mem_eq(c.header.child, id, sizeof(id));
	cbt_close(&c);
	ck_assert_int_eq(set("log", 0, SIZE), 0);
	edit_end();
}
END_TEST

/* Once doubtful, a log stays so, whoever uses it. */
START_TEST(doubtful)
{
	struct cbt c;

	edit_begin("check_cbt");
	make("log", SIZE);
	c = open_log("log", true);
	ck_assert_int_eq(cbt_begin(&c, SIZE, &err), 0);
	cbt_close(&c); /* as after a crash */
	c = open_log("log", true);
	ck_assert_int_eq(cbt_begin(&c, SIZE, &err), 0);
	ck_assert_int_eq(cbt_end(&c, true, &err), 0);
	cbt_close(&c);
	ck_assert(!flag_of("log"));
	ck_assert_int_eq(set("log", 1, 0), 0);
	c = open_log("log", true);
	ck_assert_int_eq(cbt_begin(&c, SIZE, &err), 0);
	ck_assert_int_eq(cbt_end(&c, false, &err), 0);
	cbt_close(&c);
	ck_assert(!flag_of("log"));
	edit_end();
}
END_TEST

START_TEST(other_disks)
{
	struct cbt c;
	uint8_t bits[64] = { 0 };
	struct stat st;

	edit_begin("check_cbt");
	make("log", SIZE);
	c = open_log("log", true);
	ck_assert_int_eq(cbt_begin(&c, SIZE / 2, &err), -VHD_E_ARGUMENT);
	cbt_close(&c);
	ck_assert(flag_of("log"));
	/* the same number of blocks will do */
	c = open_log("log", true);
	ck_assert_int_eq(cbt_begin(&c, SIZE - 512, &err), 0);
	ck_assert_int_eq(cbt_end(&c, true, &err), 0);
	cbt_close(&c);
	/* bits behind the end are no bits of a larger disk */
	c = open_log("log", true);
	memset(bits, 0xff, 13);
	ck_assert_int_eq(io_write(c.io, bits, 64, CBT_HEADER_BYTES), 0);
	ck_assert_int_eq(cbt_begin(&c, SIZE * 3, &err), 0);
	ck_assert_int_eq(cbt_read(&c, bits, 38, 0, &err), 0);
	ck_assert_uint_eq(bits[11], 0xff);
	ck_assert_uint_eq(bits[12], 0x0f);
	for (int i = 13; i < 38; i++)
		ck_assert_uint_eq(bits[i], 0);
	ck_assert_int_eq(cbt_read(&c, bits, 39, 0, &err), -VHD_E_RANGE);
	ck_assert_int_eq(cbt_grow(&c, SIZE * 4, &err), 0);
	ck_assert_uint_eq(size_of("log"), SIZE * 4);
	cbt_close(&c);
	/* one that is cut off is not written */
	ck_assert_int_eq(truncate("log", CBT_HEADER_BYTES + 3), 0);
	c = open_log("log", true);
	ck_assert_int_eq(cbt_begin(&c, SIZE * 4, &err), -VHD_E_TRUNCATED);
	cbt_close(&c);
	ck_assert_int_eq(stat("log", &st), 0);
	ck_assert_int_eq(st.st_size, CBT_HEADER_BYTES + 3);
	edit_end();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		header, sizes, beside_a_server, doubtful, other_disks, NULL,
	};

	return suite_run("cbt", tests);
}
