/* check_revert.c - journals put back: power cuts at every instant, failing calls, hostile entries */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/revert.h"
#include "tests/lib/io-mem.h"
#include "tests/lib/journal-make.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"

static struct mem_disk *original, *journal, *watched;
static unsigned cuts;

static void must_be_original(const struct mem_disk *disk)
{
	static uint8_t a[2200000], b[2200000];
	uint64_t size = mem_disk_size(original);

	ck_assert_uint_eq(mem_disk_size(disk), size);
	mem_disk_peek(disk, a, size, 0);
	mem_disk_peek(original, b, size, 0);
	ck_assert(!memcmp(a, b, size));
}

static int revert(struct mem_disk *image, struct mem_disk *from, struct vhd_error *err)
{
	struct vhd_io *io = mem_disk_open(image, "image", true);
	struct vhd_io *j = mem_disk_open(from, "journal", false);
	struct vhd_revert_result result = { 0 };
	int rc = revert_apply(io, j, false, &result, err);

	ck_assert_int_eq(result.reverted, rc > 0);
	io_close(io);
	io_close(j);
	return rc;
}

static void cut(void *arg)
{
	struct vhd_error err = { 0 };

	(void)arg;
	for (int how = 0; how < MEM_CUTS; how++) {
		struct mem_disk *left = mem_disk_cut(watched, (enum mem_cut)how, cuts++);
		int rc = revert(left, journal, &err);

		ck_assert_msg(rc >= 0, "after a cut: %s", err.text);
		must_be_original(left);
		mem_disk_free(left);
	}
}

static struct mem_disk *interrupted(void)
{
	struct mem_disk *image = mem_disk_copy(original);

	journal_make_interrupted(image);
	return image;
}

START_TEST(test_cuts)
{
	struct vhd_error err = { 0 };

	watched = interrupted();
	mem_disk_watch(watched, cut, NULL);
	ck_assert_msg(revert(watched, journal, &err) == 1, "%s", err.text);
	mem_disk_watch(watched, NULL, NULL);
	must_be_original(watched);
	ck_assert_int_eq(revert(watched, journal, &err), 0); /* nothing to undo */
	ck_assert_uint_gt(cuts, 20);
	mem_disk_free(watched);
}
END_TEST

START_TEST(test_failures)
{
	struct vhd_error err = { 0 };

	for (uint64_t nth = 0;; nth++) {
		struct mem_disk *image = interrupted();
		int rc;

		mem_disk_fail(image, nth, 1, -5);
		rc = revert(image, journal, &err);
		if (!mem_disk_failed(image)) {
			ck_assert_int_eq(rc, 1);
			mem_disk_free(image);
			break;
		}
		ck_assert_int_lt(rc, 0);
		ck_assert(err.text[0]);
		mem_disk_fail(image, 0, 0, 0);
		ck_assert_int_ge(revert(image, journal, &err), 0);
		must_be_original(image);
		mem_disk_free(image);
	}
}
END_TEST

/* Whatever bytes of the journal are others: refused, and nothing was written, or undone. */
START_TEST(test_hostile)
{
	struct rng rng = { suite_seed(1) };
	uint64_t size = mem_disk_size(journal);
	uint8_t *raw = malloc(size);
	struct vhd_error err = { 0 };
	unsigned refused = 0;

	for (unsigned i = 0; i < 400; i++) {
		struct mem_disk *image = interrupted(), *bad = mem_disk_new(size, false);
		uint64_t events = mem_disk_pending(image), at = rng_below(&rng, 3400);
		int rc;

		mem_disk_peek(journal, raw, size, 0);
		raw[at] ^= (uint8_t)(1u << rng_below(&rng, 8));
		if (rng_below(&rng, 2))
			journal_make_seal(raw, 3400);
		mem_disk_poke(bad, raw, size, 0);
		rc = revert(image, bad, &err);
		if (rc < 0) {
			refused++;
			ck_assert_uint_eq(mem_disk_pending(image), events);
		} else {
			ck_assert_uint_eq(mem_disk_size(image), mem_disk_size(original));
		}
		mem_disk_free(image);
		mem_disk_free(bad);
	}
	ck_assert_uint_gt(refused, 200);
	free(raw);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { test_cuts, test_failures, test_hostile, NULL };
	int rc;

	original = journal_make_image();
	journal = journal_make(original);
	rc = suite_run("revert", tests);
	mem_disk_free(original);
	mem_disk_free(journal);
	return rc;
}
