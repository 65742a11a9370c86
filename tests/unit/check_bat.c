/* check_bat.c - scanning a block table against a scan that compares all with all */
#include <string.h>

#include "libvhd/base/endian.h"
#include "libvhd/base/number.h"
#include "libvhd/bat.h"
#include "libvhd/bitmap.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"

#define ENTRIES 200u

struct told {
	unsigned faults;
	unsigned by[BAT_TORN + 1]; /* kinds */
	bool in_fault[ENTRIES];	   /* placed wrongly or overlapping */
	bool beyond[ENTRIES];
	struct {
		enum bat_fault fault;
		uint32_t block, entry, other;
	} first;
};

static void hear(void *arg, enum bat_fault fault, uint32_t block, uint32_t entry, uint32_t other)
{
	struct told *t = arg;

	if (!t->faults++) {
		t->first.fault = fault;
		t->first.block = block;
		t->first.entry = entry;
		t->first.other = other;
	}
	t->by[fault]++;
	if (block < ENTRIES && fault == BAT_BEYOND_DISK)
		t->beyond[block] = true;
	else if (block < ENTRIES)
		t->in_fault[block] = true;
}

/* Feed @entries in pieces of @step until no pass is wanted. */
static struct bat_totals scan(const struct bat_shape *shape, const uint32_t *entries, uint32_t step,
			      bool overlaps, struct told *t)
{
	static uint8_t raw[4 * ENTRIES];
	struct bat_totals totals;
	struct bat_scan *s;
	unsigned passes = 0;

	memset(t, 0, sizeof(*t));
	ck_assert(shape->entries <= ENTRIES);
	for (uint32_t i = 0; i < shape->entries; i++)
		be32_store(raw + 4 * i, entries[i]);
	ck_assert_int_eq(bat_scan_begin(shape, overlaps, hear, t, &s), 0);
	do {
		for (uint32_t i = 0; i < shape->entries; i += step)
			bat_scan_feed(s, i, raw + 4 * i,
				      (uint32_t)number_min(step, shape->entries - i));
		ck_assert(++passes < 100000);
	} while (bat_scan_again(s));
	bat_scan_end(s, &totals);
	ck_assert_uint_eq(totals.faults, t->faults);
	return totals;
}

/* Block 0 at sector 4, block 1 at @entry in the image of doc/format.md: what is told. */
static struct told second(uint32_t entry)
{
	const struct bat_shape shape = { .entries = 8,
					 .blocks = 8,
					 .block_sectors = 4096,
					 .first_sector = 4,
					 .end_sector = 4101 };
	uint32_t entries[8];
	struct told t;

	memset(entries, 0xff, sizeof(entries));
	entries[0] = 4;
	entries[1] = entry;
	scan(&shape, entries, 8, true, &t);
	return t;
}

static void expect_one(uint32_t entry, enum bat_fault fault)
{
	struct told t = second(entry);

	ck_assert_uint_eq(t.faults, 1);
	ck_assert_int_eq(t.first.fault, fault);
	ck_assert_uint_eq(t.first.block, 1);
	ck_assert_uint_eq(t.first.entry, entry);
	ck_assert_uint_eq(t.first.other, UINT32_MAX);
}

START_TEST(vectors)
{
	struct told t;

	ck_assert_uint_eq(second(VHD_BAT_UNUSED).faults, 0);
	expect_one(0, BAT_IN_METADATA);
	expect_one(1, BAT_IN_METADATA);
	expect_one(3, BAT_IN_METADATA);
	t = second(4);
	ck_assert_uint_eq(t.by[BAT_OVERLAP], 2);
	ck_assert(t.in_fault[0] && t.in_fault[1]);
	expect_one(5, BAT_TORN);
	expect_one(4100, BAT_TORN);
	expect_one(4101, BAT_OUTSIDE);
	expect_one(5000, BAT_OUTSIDE);
	expect_one(1u << 31, BAT_OUTSIDE);
	expect_one(0xfffffffe, BAT_OUTSIDE);
}
END_TEST

START_TEST(spare_entries)
{
	const struct bat_shape shape = { .entries = 9,
					 .blocks = 8,
					 .block_sectors = 4096,
					 .first_sector = 4,
					 .end_sector = 100000 };
	uint32_t entries[9];
	struct bat_totals totals;
	struct told t;

	memset(entries, 0xff, sizeof(entries));
	entries[8] = 8000;
	totals = scan(&shape, entries, 4, true, &t);
	ck_assert_uint_eq(t.faults, 1);
	ck_assert(t.first.fault == BAT_BEYOND_DISK && t.first.block == 8);
	/* it is space in use all the same */
	ck_assert_uint_eq(totals.end_sector, 8000 + 4097);
	ck_assert_uint_eq(totals.lowest_sector, 8000);
}
END_TEST

START_TEST(empty)
{
	const struct bat_shape shape = {
		.entries = 3, .blocks = 3, .block_sectors = 8, .first_sector = 7, .end_sector = 100
	};
	const uint32_t entries[] = { VHD_BAT_UNUSED, VHD_BAT_UNUSED, VHD_BAT_UNUSED };
	struct told t;
	struct bat_totals totals = scan(&shape, entries, 1, true, &t);

	ck_assert(!totals.allocated && !totals.faults);
	ck_assert_uint_eq(totals.end_sector, 7);
	ck_assert_uint_eq(totals.lowest_sector, UINT64_MAX);
}
END_TEST

/* Stored pairs overlap or not by one sector, wherever cells begin. */
START_TEST(by_one_sector)
{
	const uint32_t stride = bitmap_stride(8);
	const struct bat_shape shape = { .entries = 2,
					 .blocks = 2,
					 .block_sectors = 8,
					 .first_sector = 4,
					 .end_sector = 100000 };

	for (uint32_t a = 4; a < 100; a++)
		for (uint32_t b = 4; b < 100; b++) {
			const uint32_t entries[] = { a, b };
			bool meet = (a > b ? a - b : b - a) < stride;
			struct told t;

			scan(&shape, entries, 2, true, &t);
			ck_assert_msg(!!t.faults == meet, "%u and %u", a, b);
			scan(&shape, entries, 2, false, &t);
			ck_assert_uint_eq(t.faults, 0);
		}
}
END_TEST

/* The same by comparing every entry with every other, if @overlaps. */
static void expect(const struct bat_shape *s, const uint32_t *e, bool overlaps,
		   const struct bat_totals *totals, const struct told *t)
{
	const uint32_t stride = bitmap_stride(s->block_sectors);
	uint64_t end = s->first_sector, lowest = UINT64_MAX, allocated = 0;

	for (uint32_t i = 0; i < s->entries; i++) {
		bool used = e[i] != VHD_BAT_UNUSED, fault = false;
		bool placed = used && e[i] >= s->first_sector &&
			      (uint64_t)e[i] + stride <= s->end_sector;

		allocated += used;
		if (placed) {
			end = number_max(end, (uint64_t)e[i] + stride);
			lowest = number_min(lowest, e[i]);
		}
		for (uint32_t k = 0; overlaps && placed && k < s->entries; k++)
			if (k != i && e[k] != VHD_BAT_UNUSED && e[k] >= s->first_sector &&
			    (uint64_t)e[k] + stride <= s->end_sector &&
			    (e[k] > e[i] ? e[k] - e[i] : e[i] - e[k]) < stride)
				fault = true;
		ck_assert_msg(t->in_fault[i] == (fault || (used && !placed)), "block %u at %u", i,
			      e[i]);
		ck_assert(t->beyond[i] == (used && i >= s->blocks));
	}
	ck_assert_uint_eq(totals->allocated, allocated);
	ck_assert_uint_eq(totals->end_sector, end);
	ck_assert_uint_eq(totals->lowest_sector, lowest);
}

START_TEST(against_all_pairs)
{
	struct rng rng = { suite_seed(1) };

	for (unsigned n = 0; n < 2000; n++) {
		uint32_t entries[ENTRIES], block_sectors = 8u << rng_below(&rng, 10);
		uint32_t stride = bitmap_stride(block_sectors);
		struct bat_shape shape = { .entries = 1 + (uint32_t)rng_below(&rng, ENTRIES),
					   .block_sectors = block_sectors,
					   .first_sector = 1 + rng_below(&rng, 100) };
		/* some so large that more than one pass is needed */
		uint64_t room = rng_chance(&rng, 20) ? 1ull << 32 : stride * 4ull * shape.entries;
		uint32_t step = 1 + (uint32_t)rng_below(&rng, shape.entries);
		struct bat_totals totals;
		struct told t;

		shape.blocks = shape.entries -
			       (uint32_t)rng_below(&rng, number_min(3, shape.entries));
		shape.end_sector = shape.first_sector + number_max(room, stride);
		for (uint32_t i = 0; i < shape.entries; i++) {
			uint64_t roll = rng_below(&rng, 100);

			if (roll < 20)
				entries[i] = VHD_BAT_UNUSED;
			else if (roll < 30 && i)
				entries[i] = entries[i - 1] + (uint32_t)rng_below(&rng, stride + 2);
			else if (roll < 33)
				entries[i] = (uint32_t)rng_next(&rng);
			else
				entries[i] =
					(uint32_t)(shape.first_sector +
						   rng_below(&rng, 4 * shape.entries) * stride);
		}
		for (int overlaps = 0; overlaps <= 1; overlaps++) {
			totals = scan(&shape, entries, step, overlaps, &t);
			expect(&shape, entries, overlaps, &totals, &t);
		}
	}
}
END_TEST

/* A table of more blocks than one window of cells holds: 4 KiB blocks over 2 TiB of file. */
START_TEST(several_passes)
{
	const uint32_t stride = bitmap_stride(8), far = 0xfffffff0 / stride * stride;
	const struct bat_shape shape = { .entries = 4,
					 .blocks = 4,
					 .block_sectors = 8,
					 .first_sector = 4,
					 .end_sector = 1ull << 32 };
	const uint32_t entries[] = { far - stride, 8, far - 1, 8 + stride - 1 };
	struct told t;

	scan(&shape, entries, 4, true, &t);
	ck_assert_uint_eq(t.by[BAT_OVERLAP], 4);
	ck_assert(t.in_fault[0] && t.in_fault[1] && t.in_fault[2] && t.in_fault[3]);
}
END_TEST

/* The same reach, but all at multiples of a step, as every writer of one image places them: in
 * order, out of order, twice at one place, and one beside the steps. */
START_TEST(on_a_grid)
{
	static const uint32_t steps[] = { 9, 16, 4097 };

	for (unsigned k = 0; k < 3; k++) {
		const struct bat_shape shape = { .entries = 6,
						 .blocks = 6,
						 .block_sectors = k < 2 ? 8 : 4096,
						 .first_sector = 4,
						 .end_sector = 1ull << 32 };
		const uint32_t step = steps[k], far = 0xfff00000 / step;
		uint32_t entries[6] = { 7 + step,	    7 + 2 * step,
					7 + far / 2 * step, 7 + (far - 9) * step,
					VHD_BAT_UNUSED,	    7 + far * step };
		struct told t;

		scan(&shape, entries, 4, true, &t);
		ck_assert_uint_eq(t.faults, 0);
		entries[4] = 7 + (far / 2 + 1) * step; /* out of order */
		scan(&shape, entries, 4, true, &t);
		ck_assert_uint_eq(t.faults, 0);
		for (unsigned other = 0; other < 6; other++) {
			if (other == 4)
				continue;
			entries[4] = entries[other];
			scan(&shape, entries, 4, true, &t);
			ck_assert_uint_eq(t.faults, 2);
			ck_assert(t.in_fault[4] && t.in_fault[other]);
			entries[4] = entries[other] + bitmap_stride(shape.block_sectors) - 1;
			scan(&shape, entries, 4, true, &t);
			ck_assert(t.in_fault[4] && t.in_fault[other]);
		}
	}
}
END_TEST

int main(void)
{
	const TTest *tests[] = { vectors,	    spare_entries,  empty,     by_one_sector,
				 against_all_pairs, several_passes, on_a_grid, NULL };

	return suite_run("bat", tests);
}
