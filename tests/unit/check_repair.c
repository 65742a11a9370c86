/* check_repair.c - each sector of the metadata wiped, the file cut anywhere; then mended
 *
 * What always holds: a dry run changes nothing; what check calls repairable is gone
 * afterwards, and a second run finds nothing to do; no sector reads as anything but what the
 * guest wrote, unless it was told to be lost; an undo gives the same bytes again.
 */
#include <check.h>
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

static uint64_t seed = 1;
static struct wreck_lost lost;
static char when[128];

static void flip(uint8_t *bytes, struct rng *rng, unsigned fill)
{
	for (unsigned i = 0; i < VHD_SECTOR; i++)
		bytes[i] = fill == 2 ? (uint8_t)rng_next(rng) : fill == 1 ? 0xff : 0;
}

static int repair(const struct vhd_repair_options *o, struct vhd_repair_result *r)
{
	struct vhd_error err = { 0 };
	int rc = vhd_repair(WRECK_NAME, o, r, &err);

	ck_assert_msg(rc >= 0 || (err.code == rc && err.text[0]), "%s: %d without a text", when,
		      rc);
	return rc;
}

static void same_bytes(const uint8_t *bytes, uint64_t length, const char *what)
{
	uint64_t now;
	uint8_t *file = wreck_load(WRECK_NAME, &now);

	ck_assert_msg(now == length && !memcmp(file, bytes, now), "%s: %s: other bytes", when,
		      what);
	free(file);
}

/* All that must hold of @bytes, a damaged image of @w, when it is repaired.  Returns what is
 * lost, without those that were only doubted. */
static uint64_t examine(const struct wreck *w, const uint8_t *bytes, uint64_t length, bool consent)
{
	struct vhd_repair_options o = { .drop_lost = consent,
					.keep_unmarked = consent,
					.parent = consent && w->kind == WRECK_CHILD ? "p.vhd" :
										      NULL,
					.lost = wreck_on_lost,
					.arg = &lost };
	struct vhd_repair_result dry, r;
	struct wreck_verdict before, after;
	struct vhd_error err = { 0 };
	uint64_t wrong, at;
	int rc;

	wreck_store(bytes, length);
	lost.count = 0;
	wreck_check(w, WRECK_NAME, &before, NULL);
	o.dry_run = true;
	rc = repair(&o, &dry);
	same_bytes(bytes, length, "dry run");
	lost.count = 0;
	o.dry_run = false;
	ck_assert_msg(repair(&o, &r) == rc, "%s: another end than the dry run", when);
	if (rc < 0) {
		ck_assert_msg(!before.repairable, "%s: repairable, but refused", when);
		same_bytes(bytes, length, "refused");
		return WRECK_SIZE;
	}
	ck_assert_msg(r.changes == dry.changes && r.damages == dry.damages &&
			      r.lost_bytes == dry.lost_bytes,
		      "%s: other things done than a dry run says", when);
	wreck_check(w, WRECK_NAME, &after, &lost);
	ck_assert_msg(!after.repairable, "%s: repaired, but: %s", when, after.text);
	ck_assert_msg(!!r.damages == !!after.damages, "%s: repair says %u damages, check %u: %s",
		      when, r.damages, after.damages, after.text);
	if (!before.repairable && !consent)
		ck_assert_msg(!r.changes, "%s: %llu changes, though nothing was repairable", when,
			      (unsigned long long)r.changes);
	wrong = wreck_compare(w, WRECK_NAME, &lost, true, &at);
	ck_assert_msg(wrong == UINT64_MAX ? after.damages : !wrong,
		      "%s: %lld bytes are wrong, from %llu", when, (long long)wrong,
		      (unsigned long long)at);
	if (r.changes) {
		o.lost = NULL;
		dry = r;
		ck_assert_int_eq(repair(&o, &r), 0);
		ck_assert_msg(!r.changes && !r.backup[0], "%s: the second run changed something",
			      when);
		ck_assert_msg(!vhd_repair_undo(WRECK_NAME, dry.backup, false, &err), "%s",
			      err.text);
		same_bytes(bytes, length, "undo");
	}
	return dry.lost_bytes;
}

/* ── every sector before the data, each bitmap, the end footer ── */

static void wipe(struct wreck *w, uint64_t at, unsigned fill)
{
	uint8_t *bytes = malloc(w->length);

	for (int consent = 0; consent < 2; consent++) {
		memcpy(bytes, w->bytes, w->length);
		flip(bytes + at, &w->rng, fill);
		snprintf(when, sizeof(when), "seed %llu, kind %d, sector %llu, fill %u, consent %d",
			 (unsigned long long)seed, w->kind, (unsigned long long)at / VHD_SECTOR,
			 fill, consent);
		examine(w, bytes, w->length, consent);
	}
	free(bytes);
}

START_TEST(wiped)
{
	struct wreck w;

	wreck_make(&w, (enum wreck_kind)_i, seed + (unsigned)_i);
	for (unsigned fill = 0; fill < 3; fill += w.kind ? 2 : 1) {
		for (uint64_t at = 0; at < w.data_start; at += VHD_SECTOR * suite_stride(3))
			if (fill != 1 || at != 1536) /* see all_unused */
				wipe(&w, at, fill);
		for (uint32_t i = 0; i < w.blocks; i++)
			if (w.entries[i] != VHD_BAT_UNUSED && (fill != 1 || w.kind != WRECK_CHILD))
				wipe(&w, (uint64_t)w.entries[i] * VHD_SECTOR, fill);
		wipe(&w, w.length - VHD_SECTOR, fill);
	}
	wreck_release(&w);
}
END_TEST

/* ── cut everywhere ── */

START_TEST(cut)
{
	struct wreck w;

	wreck_make(&w, (enum wreck_kind)_i, seed + (unsigned)_i);
	for (uint64_t length = w.length / 65536 * 65536; length >= 65536;
	     length -= number_min(length, 65536 * suite_stride(5)))
		for (int consent = length % (1u << 20) != 0; consent < 2; consent++) {
			uint64_t told, gone = w.length - length + 1024 * 1024;

			snprintf(when, sizeof(when), "seed %llu, kind %d, cut to %llu, consent %d",
				 (unsigned long long)seed, _i, (unsigned long long)length, consent);
			told = examine(&w, w.bytes, length, consent);
			/* blocks that are not full are lost as a whole */
			ck_assert_msg(!consent || told <= gone + (6u << 20), "%s: %llu bytes lost",
				      when, (unsigned long long)told);
		}
	wreck_release(&w);
}
END_TEST

/* ── single entries ── */

struct slip {
	const char *name;
	int block;	/* whose entry is changed; -1: that of a spare one */
	int like;	/* to that of this block, */
	uint32_t entry; /* plus this; like -1: to this */
	bool by_itself, by_consent;
};

/* Blocks lie in the file in the order 3, 1, 9, 10, 11, 30, 31, 17. */
static const struct slip slips[] = {
	{ "behind the file", 10, -1, 0x7fffffff, true, true },
	{ "over the header", 10, -1, 1, true, true },
	{ "a neighbour's place", 10, 11, 0, true, true },
	{ "inside a neighbour", 10, 31, 700, false, false },
	{ "no neighbour knows it, but the batmap", 17, -1, 0x7fffffff, true, true },
	{ "over the last block", 20, 17, 3000, false, true },
};

START_TEST(slipped)
{
	const struct slip *s = &slips[_i];
	struct wreck w;
	uint8_t *bytes;

	wreck_make(&w, WRECK_OURS, seed);
	bytes = malloc(w.length);
	memcpy(bytes, w.bytes, w.length);
	be32_store(bytes + 1536 + 4 * s->block, s->entry + (s->like < 0 ? 0 : w.entries[s->like]));
	for (int consent = 0; consent < 2; consent++) {
		struct vhd_repair_options o = { .drop_lost = consent };
		struct vhd_repair_result r;

		snprintf(when, sizeof(when), "%s, consent %d", s->name, consent);
		examine(&w, bytes, w.length, consent);
		ck_assert_int_eq(repair(&o, &r), 0);
		ck_assert_msg((r.damages == 0) == (consent ? s->by_consent : s->by_itself),
			      "%s: %u damages remain", when, r.damages);
		if (s->by_itself)
			same_bytes(w.bytes, w.length, s->name);
	}
	free(bytes);
	wreck_release(&w);
}
END_TEST

/* A sector of the table is noise, but one entry lies in the file by chance: in the middle of data,
 * where no block begins. */
START_TEST(chance)
{
	struct vhd_repair_options o = { .drop_lost = true, .lost = wreck_on_lost, .arg = &lost };
	struct vhd_repair_result r;
	struct wreck_verdict v;
	struct wreck w;
	uint8_t *bytes;
	uint64_t at;

	for (int kind = 0; kind < WRECK_KINDS; kind++) {
		wreck_make(&w, (enum wreck_kind)kind, seed);
		bytes = malloc(w.length);
		memcpy(bytes, w.bytes, w.length);
		for (unsigned i = 0; i < 128; i++)
			be32_store(bytes + 1536 + 4 * i,
				   0x40000000 + (uint32_t)rng_below(&w.rng, 1u << 30));
		be32_store(bytes + 1536 + 4 * 5, w.entries[9] + 77);
		wreck_store(bytes, w.length);
		wreck_check(&w, WRECK_NAME, &v, NULL);
		ck_assert(v.damages && !v.repairable);
		lost.count = 0;
		ck_assert_int_eq(repair(&o, &r), 0);
		ck_assert_uint_eq(r.damages, 0);
		ck_assert_uint_eq(wreck_compare(&w, WRECK_NAME, &lost, false, &at), 0);
		free(bytes);
		wreck_release(&w);
	}
}
END_TEST

/* A table of ones is one of a new image; but the batmap remembers.  Then nothing is mended, as the
 * batmap would be lost with it. */
START_TEST(all_unused)
{
	struct vhd_repair_options o = { .drop_lost = true };
	struct vhd_repair_result r;
	struct wreck_verdict v;
	struct wreck w;

	wreck_make(&w, WRECK_OURS, seed);
	memset(w.bytes + 1536, 0xff, VHD_SECTOR);
	wreck_store(w.bytes, w.length);
	wreck_check(&w, WRECK_NAME, &v, NULL);
	ck_assert_uint_eq(v.damages, 1);
	ck_assert_uint_eq(v.repairable, 0);
	ck_assert_int_eq(repair(&o, &r), 0);
	ck_assert(r.damages == 1 && !r.changes);
	/* nor is a header made anew for it, as if the file had no blocks, whatever their size was */
	memset(w.bytes + 512, 0xc7, VHD_SECTOR);
	wreck_store(w.bytes, w.length);
	ck_assert_int_eq(repair(&o, &r), 0);
	ck_assert(r.damages && !r.changes);
	wreck_release(&w);
}
END_TEST

/* The caller says whose place it is. */
START_TEST(owner)
{
	const uint32_t owners[] = { 31 };
	struct vhd_repair_options o = {
		.owners = owners, .owner_count = 1, .lost = wreck_on_lost, .arg = &lost
	};
	struct vhd_repair_result r;
	struct wreck w;
	uint8_t *bytes;
	uint64_t at;

	wreck_make(&w, WRECK_OURS, seed);
	bytes = malloc(w.length);
	memcpy(bytes, w.bytes, w.length);
	be32_store(bytes + 1536 + 4 * 10, w.entries[31] + 700);
	wreck_store(bytes, w.length);
	lost.count = 0;
	ck_assert_int_eq(repair(&o, &r), 0);
	ck_assert_uint_eq(r.damages, 0);
	ck_assert_uint_eq(lost.count, 1);
	ck_assert_uint_eq(lost.list[0].offset, 10u << 21);
	ck_assert_uint_eq(lost.list[0].length, 1u << 21);
	ck_assert_uint_eq(wreck_compare(&w, WRECK_NAME, &lost, false, &at), 0);
	free(bytes);
	wreck_release(&w);
}
END_TEST

/* ── footers that contradict each other ── */

START_TEST(contradiction)
{
	struct vhd_repair_options o = { .backup_footer = _i == 1, .end_footer = _i == 2 };
	struct vhd_repair_result r;
	struct wreck w;
	uint8_t *file;
	uint64_t length;

	wreck_make(&w, WRECK_OURS, seed);
	w.bytes[FOOTER_UUID] ^= 1;
	seal_footer(w.bytes);
	wreck_store(w.bytes, w.length);
	ck_assert_int_eq(repair(&o, &r), 0);
	ck_assert_uint_eq(!r.damages, _i != 0);
	ck_assert_uint_eq(r.changes, _i != 0);
	file = wreck_load(WRECK_NAME, &length);
	ck_assert_uint_eq(length, w.length);
	if (_i) /* both are the one that was chosen */
		ck_assert(!memcmp(file, file + length - 512, 512) &&
			  !memcmp(file, w.bytes + (_i == 1 ? 0 : length - 512), 512));
	else
		ck_assert(!memcmp(file, w.bytes, length));
	free(file);
	wreck_release(&w);
}
END_TEST

/* Bytes behind the footer: kept, with a new footer behind them; or cut off. */
START_TEST(trailing)
{
	struct vhd_repair_options o = { .trim = _i };
	struct vhd_repair_result r;
	struct vhd_error err = { 0 };
	struct wreck w;
	uint8_t *bytes, *file;
	uint64_t length;

	wreck_make(&w, WRECK_OURS, seed);
	bytes = malloc(w.length + 700);
	memcpy(bytes, w.bytes, w.length);
	memset(bytes + w.length, 'x', 700);
	wreck_store(bytes, w.length + 700);
	ck_assert_int_eq(repair(&o, &r), 0);
	ck_assert_uint_eq(r.damages, 0);
	file = wreck_load(WRECK_NAME, &length);
	ck_assert_uint_eq(length, _i ? w.length : w.length + 1024 + 512);
	ck_assert(!memcmp(file, bytes, _i ? w.length : w.length + 700));
	free(file);
	snprintf(when, sizeof(when), "trailing, trim %d", _i);
	ck_assert_msg(!vhd_repair_undo(WRECK_NAME, r.backup, false, &err), "%s", err.text);
	same_bytes(bytes, w.length + 700, "undo");
	free(bytes);
	wreck_release(&w);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("repair");
	TCase *tc = tcase_create("repair");
	SRunner *runner;
	int failed;

	seed = suite_seed(1);
	if (!access("/dev/shm", W_OK))
		setenv("TMPDIR", "/dev/shm", 0);
	edit_begin("check_repair");
	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, wiped, 0, WRECK_KINDS);
	tcase_add_loop_test(tc, cut, 0, WRECK_KINDS);
	tcase_add_loop_test(tc, slipped, 0, sizeof(slips) / sizeof(slips[0]));
	tcase_add_test(tc, chance);
	tcase_add_test(tc, all_unused);
	tcase_add_test(tc, owner);
	tcase_add_loop_test(tc, contradiction, 0, 3);
	tcase_add_loop_test(tc, trailing, 0, 2);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	edit_end();
	return failed != 0;
}
