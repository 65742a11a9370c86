/* check_salvage.c - each sector of the metadata wiped, the file cut anywhere; then salvaged
 *
 * What always holds: the source is untouched; the target is an image in which a check finds
 * nothing; each sector of it is what the guest wrote, or in a range that was told; a dry run
 * tells the same.  And not more is lost than must be.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvhd/base/endian.h"
#include "libvhd/base/number.h"
#include "libvhd/layout.h"
#include "tests/lib/edit.h"
#include "tests/lib/seal.h"
#include "tests/lib/suite.h"
#include "wreck.h"

#define TARGET "s.vhd"
#define BLOCK  (2u << 20)

static uint64_t seed = 1;
static struct wreck_lost lost, dry_lost;
static char when[128];

static struct vhd_salvage_options options(const struct wreck *w)
{
	return (struct vhd_salvage_options){ .force = true,
					     .parent = w->kind == WRECK_CHILD ? "p.vhd" : NULL,
					     .lost = wreck_on_lost,
					     .arg = &lost };
}

static int salvage(const struct vhd_salvage_options *o, struct vhd_salvage_result *r)
{
	struct vhd_error err = { 0 };
	int rc;

	lost.count = 0;
	rc = vhd_salvage(WRECK_NAME, TARGET, o, r, &err);
	ck_assert_msg(rc >= 0 || (err.code == rc && err.text[0]), "%s: %d without a text", when,
		      rc);
	return rc;
}

static void same_lost(const char *what)
{
	ck_assert_msg(lost.count == dry_lost.count, "%s: %s: %u ranges, not %u", when, what,
		      lost.count, dry_lost.count);
	for (unsigned i = 0; i < lost.count; i++)
		ck_assert_msg(lost.list[i].offset == dry_lost.list[i].offset &&
				      lost.list[i].length == dry_lost.list[i].length,
			      "%s: %s: another range", when, what);
}

/* Salvage @bytes, a damaged image of @w.  Returns bytes lost. */
static uint64_t rescue(const struct wreck *w, const uint8_t *bytes, uint64_t length, bool guess)
{
	struct vhd_salvage_options o = options(w);
	struct vhd_salvage_result r, dry;
	struct wreck_verdict v;
	uint64_t wrong, at, now, told = 0;
	uint8_t *file;

	wreck_store(bytes, length);
	o.guess = guess;
	o.dry_run = true;
	ck_assert_msg(salvage(&o, &dry) == 0, "%s: refused", when);
	dry_lost = lost;
	o.dry_run = false;
	ck_assert_msg(salvage(&o, &r) == 0, "%s: refused after the dry run", when);
	same_lost("dry run");
	ck_assert(r.size == dry.size && r.data_bytes == dry.data_bytes &&
		  r.lost_bytes == dry.lost_bytes && r.guessed_bytes == dry.guessed_bytes);
	file = wreck_load(WRECK_NAME, &now);
	ck_assert_msg(now == length && !memcmp(file, bytes, now), "%s: the source changed", when);
	free(file);
	for (unsigned i = 0; i < lost.count; i++)
		told += lost.list[i].guessed ? 0 : lost.list[i].length;
	ck_assert_uint_eq(told, r.lost_bytes);
	wreck_check(w, TARGET, &v, NULL);
	ck_assert_msg(!v.damages && !v.bitmap_warnings, "%s: the target: %s", when, v.text);
	wrong = wreck_compare(w, TARGET, &lost, false, &at);
	ck_assert_msg(!wrong, "%s: %lld bytes are wrong, from %llu", when, (long long)wrong,
		      (unsigned long long)at);
	return r.lost_bytes + r.guessed_bytes;
}

/* ── every sector before the data, each bitmap, the end footer ── */

enum fill { FILL_ZEROS, FILL_NOISE, FILL_ONES, FILLS };

static void wipe(struct wreck *w, uint64_t at, enum fill fill, uint64_t may_lose)
{
	uint8_t *bytes = malloc(w->length);
	uint64_t n;

	memcpy(bytes, w->bytes, w->length);
	for (unsigned i = 0; i < VHD_SECTOR; i++)
		bytes[at + i] = fill == FILL_NOISE ? (uint8_t)rng_next(&w->rng) :
				fill == FILL_ONES  ? 0xff :
						     0;
	for (int guess = 0; guess < 2; guess++) {
		snprintf(when, sizeof(when), "seed %llu, kind %d, sector %llu, fill %d, guess %d",
			 (unsigned long long)seed, w->kind, (unsigned long long)at / VHD_SECTOR,
			 (int)fill, guess);
		n = rescue(w, bytes, w->length, guess);
		ck_assert_msg(n <= may_lose, "%s: %llu bytes lost", when, (unsigned long long)n);
	}
	free(bytes);
}

START_TEST(wiped)
{
	enum fill fill = (enum fill)(_i % FILLS);
	struct wreck w;

	wreck_make(&w, (enum wreck_kind)(_i / FILLS), seed + (unsigned)_i);
	/* only the table and the bitmaps of a child cannot be told from the rest; a bitmap of ones is
	 * that of a child's block that is complete */
	for (uint64_t at = 0; at < w.data_start; at += VHD_SECTOR * suite_stride(3))
		wipe(&w, at, fill, at == 1536 ? WRECK_SIZE : 0);
	for (uint32_t i = 0; i < w.blocks; i++)
		if (w.entries[i] != VHD_BAT_UNUSED && (fill != FILL_ONES || w.kind != WRECK_CHILD))
			wipe(&w, (uint64_t)w.entries[i] * VHD_SECTOR, fill,
			     w.kind == WRECK_CHILD ? BLOCK : 0);
	wipe(&w, w.length - VHD_SECTOR, fill, 0);
	wreck_release(&w);
}
END_TEST

/* ── cut everywhere ── */

/* Data of the disk that lies behind @length of the file. */
static uint64_t data_behind(const struct wreck *w, uint64_t length)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < w->blocks; i++) {
		uint64_t end = (uint64_t)w->entries[i] * VHD_SECTOR + VHD_SECTOR + BLOCK;

		if (w->entries[i] != VHD_BAT_UNUSED && end > length)
			n += number_min(end - length, BLOCK);
	}
	return n;
}

START_TEST(cut)
{
	struct wreck w;

	wreck_make(&w, (enum wreck_kind)_i, seed + (unsigned)_i);
	for (uint64_t length = w.length / 65536 * 65536; length >= 65536;
	     length -= number_min(length, 65536 * suite_stride(5))) {
		uint64_t n;

		snprintf(when, sizeof(when), "seed %llu, kind %d, cut to %llu",
			 (unsigned long long)seed, _i, (unsigned long long)length);
		n = rescue(&w, w.bytes, length, false);
		ck_assert_msg(n <= data_behind(&w, length), "%s: %llu bytes lost", when,
			      (unsigned long long)n);
	}
	wreck_release(&w);
}
END_TEST

/* ── more than one thing is lost ── */

/* Both footers: nothing is said of the disk without a guess. */
START_TEST(footers)
{
	struct vhd_salvage_options o;
	struct vhd_salvage_result r;
	struct wreck w;

	for (int kind = 0; kind < WRECK_KINDS; kind++) {
		wreck_make(&w, (enum wreck_kind)kind, seed);
		memset(w.bytes, 0, VHD_SECTOR);
		w.length -= VHD_SECTOR;
		wreck_store(w.bytes, w.length);
		o = options(&w);
		snprintf(when, sizeof(when), "no footer, kind %d", kind);
		unlink(TARGET);
		ck_assert_int_eq(salvage(&o, &r), -VHD_E_NOT_VHD);
		ck_assert(access(TARGET, F_OK) < 0);
		o.guess = true;
		ck_assert_int_eq(salvage(&o, &r), 0);
		ck_assert(r.assumed && r.size == WRECK_SIZE);
		rescue(&w, w.bytes, w.length, true);
		wreck_release(&w);
	}
}
END_TEST

/* The table is gone, and every block of the disk is in the file, in order: by order all comes back. */
START_TEST(order)
{
	struct vhd_create_options c = { .type = VHD_TYPE_DYNAMIC,
					.size = WRECK_SIZE,
					.force = true };
	struct vhd_open_options open = { .flags = VHD_OPEN_WRITE };
	struct vhd_salvage_options o;
	struct vhd_salvage_result r;
	struct vhd_error err = { 0 };
	struct vhd_chain *chain;
	struct wreck w;
	uint64_t at;

	wreck_make(&w, WRECK_OURS, seed);
	ck_assert_int_eq(vhd_create(WRECK_NAME, &c, &err), 0);
	ck_assert_int_eq(vhd_open(WRECK_NAME, &open, &chain, &err), 0);
	for (uint64_t i = 0; i < WRECK_SIZE; i += BLOCK / 2) {
		uint64_t x = i + 1;

		memcpy(w.flat + i, &x, sizeof(x));
		ck_assert_int_eq(vhd_write(chain, w.flat + i, 4096, i, &err), 0);
	}
	memset(w.flat, 0, WRECK_SIZE);
	for (uint64_t i = 0; i < WRECK_SIZE; i += BLOCK / 2)
		ck_assert_int_eq(vhd_read(chain, w.flat + i, 4096, i, &err), 0);
	ck_assert_int_eq(vhd_close(chain, &err), 0);
	free(w.bytes);
	w.bytes = wreck_load(WRECK_NAME, &w.length);
	memset(w.bytes + 1536, 0, VHD_SECTOR);
	wreck_store(w.bytes, w.length);
	o = options(&w);
	snprintf(when, sizeof(when), "in order");
	ck_assert_int_eq(salvage(&o, &r), 0);
	ck_assert_uint_eq(r.lost_bytes, WRECK_SIZE);
	ck_assert_uint_eq(r.unnamed_blocks, WRECK_SIZE / BLOCK);
	o.guess = true;
	ck_assert_int_eq(salvage(&o, &r), 0);
	ck_assert_uint_eq(r.guessed_bytes, WRECK_SIZE);
	ck_assert_uint_eq(r.lost_bytes, 0);
	ck_assert_uint_eq(wreck_compare(&w, TARGET, NULL, false, &at), 0);
	wreck_release(&w);
}
END_TEST

/* Two footers that contradict each other: none is taken in silence. */
START_TEST(contradiction)
{
	struct vhd_salvage_options o;
	struct vhd_salvage_result r;
	struct wreck w;

	wreck_make(&w, WRECK_OURS, seed);
	w.bytes[FOOTER_UUID] ^= 1;
	seal_footer(w.bytes);
	wreck_store(w.bytes, w.length);
	o = options(&w);
	snprintf(when, sizeof(when), "footers differ");
	ck_assert_int_eq(salvage(&o, &r), -VHD_E_FOOTERS_DIFFER);
	for (int i = 0; i < 2; i++) {
		uint8_t *file;
		uint64_t length;

		o.end_footer = i;
		o.backup_footer = !i;
		ck_assert_int_eq(salvage(&o, &r), 0);
		ck_assert_uint_eq(r.lost_bytes, 0);
		file = wreck_load(TARGET, &length);
		ck_assert_uint_eq(file[FOOTER_UUID], w.bytes[FOOTER_UUID] ^ i);
		free(file);
	}
	wreck_release(&w);
}
END_TEST

/* ── targets ── */

START_TEST(targets)
{
	struct vhd_salvage_options o;
	struct vhd_salvage_result r;
	struct wreck w;

	wreck_make(&w, WRECK_OURS, seed);
	wreck_store(w.bytes, w.length);
	o = options(&w);
	o.force = false;
	unlink(TARGET);
	ck_assert_int_eq(salvage(&o, &r), 0);
	ck_assert_int_eq(salvage(&o, &r), -EEXIST);
	o.dry_run = true;
	ck_assert_int_eq(salvage(&o, &r), -EEXIST);
	o.dry_run = false;
	o.force = true;
	ck_assert_int_eq(salvage(&o, &r), 0);
	ck_assert_int_eq(vhd_salvage(WRECK_NAME, "./" WRECK_NAME, &o, &r, NULL), -VHD_E_ARGUMENT);
	ck_assert_int_eq(vhd_salvage("none.vhd", TARGET, &o, &r, NULL), -ENOENT);
	/* a child of another parent than the one named */
	wreck_release(&w);
	wreck_make(&w, WRECK_CHILD, seed);
	o = options(&w);
	o.parent = TARGET;
	ck_assert_int_eq(vhd_salvage(WRECK_NAME, "other.vhd", &o, &r, NULL), -VHD_E_PARENT_ID);
	wreck_release(&w);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("salvage");
	TCase *tc = tcase_create("salvage");
	SRunner *runner;
	int failed;

	seed = suite_seed(1);
	if (!access("/dev/shm", W_OK))
		setenv("TMPDIR", "/dev/shm", 0);
	edit_begin("check_salvage");
	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, wiped, 0, FILLS * WRECK_KINDS);
	tcase_add_loop_test(tc, cut, 0, WRECK_KINDS);
	tcase_add_test(tc, footers);
	tcase_add_test(tc, order);
	tcase_add_test(tc, contradiction);
	tcase_add_test(tc, targets);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	edit_end();
	return failed != 0;
}
