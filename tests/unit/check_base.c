/* check_base.c - bits, numbers, byte orders, lists: against the plainest code that does the same */
#include <string.h>

#include "libvhd/base/bits.h"
#include "libvhd/base/endian.h"
#include "libvhd/base/list.h"
#include "libvhd/base/number.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"

/* ── bits ── */

#define BITS 400u

static void fill_runs(struct rng *rng, uint8_t *map, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		map[i] = rng_chance(rng, 40) ? 0xff :
			 rng_chance(rng, 60) ? 0 :
					       (uint8_t)rng_next(rng);
}

START_TEST(bit_order)
{
	uint8_t map[2] = { 0 };

	bits_set(map, 0);
	ck_assert_uint_eq(map[0], 0x80);
	bits_set(map, 9);
	ck_assert_uint_eq(map[1], 0x40);
	ck_assert(bits_test(map, 0) && bits_test(map, 9) && !bits_test(map, 8));
	bits_clear(map, 0);
	ck_assert_uint_eq(map[0], 0);
}
END_TEST

/* The map ends where the bits do: a sanitizer sees a byte too many. */
START_TEST(bit_runs)
{
	struct rng rng = { suite_seed(1) };

	for (unsigned i = 0; i < 20000; i++) {
		uint64_t end = 1 + rng_below(&rng, BITS), from = rng_below(&rng, end);
		size_t bytes = (size_t)(end + 7) / 8;
		uint8_t *map = malloc(bytes), *set = malloc(bytes);
		uint64_t k, count = 0;

		fill_runs(&rng, map, bytes);
		for (k = from; k < end && bits_test(map, k) == bits_test(map, from);)
			k++;
		ck_assert_uint_eq(bits_run(map, from, end), k - from);
		ck_assert_int_eq(bits_all_set(map, from, end - from),
				 bits_test(map, from) && k == end);
		ck_assert_int_eq(bits_all_clear(map, from, end - from),
				 !bits_test(map, from) && k == end);
		ck_assert(bits_all_set(map, from, 0) && bits_all_clear(map, from, 0));
		for (k = 0; k < end; k++)
			count += bits_test(map, k);
		ck_assert_uint_eq(bits_count(map, end), count);
		memcpy(set, map, bytes);
		bits_set_range(set, from, end - from);
		for (k = 0; k < 8 * bytes; k++)
			if (bits_test(set, k) != (bits_test(map, k) || (k >= from && k < end)))
				ck_abort_msg("bit %llu of %llu to %llu", (unsigned long long)k,
					     (unsigned long long)from, (unsigned long long)end);
		free(map);
		free(set);
	}
}
END_TEST

/* ── byte orders ── */

START_TEST(byte_orders)
{
	const uint8_t raw[] = { 0xfe, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef };
	uint8_t out[8];

	ck_assert_uint_eq(be16_load(raw + 1), 0x0123);
	ck_assert_uint_eq(be32_load(raw + 1), 0x01234567);
	ck_assert_uint_eq(be64_load(raw + 1), 0x0123456789abcdefull);
	ck_assert_uint_eq(le16_load(raw + 1), 0x2301);
	ck_assert_uint_eq(be32_load(raw), 0xfe012345u); /* no sign */
	be64_store(out, 0x0123456789abcdefull);
	ck_assert_mem_eq(out, raw + 1, 8);
	be32_store(out, 0x01234567);
	ck_assert_mem_eq(out, raw + 1, 4);
	be16_store(out, 0x0123);
	ck_assert_mem_eq(out, raw + 1, 2);
	le16_store(out, 0x2301);
	ck_assert_mem_eq(out, raw + 1, 2);
}
END_TEST

/* ── lists ── */

struct item {
	int n;
	struct list link;
};

static int first_of(struct list *l)
{
	return list_empty(l) ? -1 : list_entry(l->next, struct item, link)->n;
}

START_TEST(lists)
{
	struct item items[4] = { { .n = 0 }, { .n = 1 }, { .n = 2 }, { .n = 3 } };
	struct list a, b, *l;

	list_init(&a);
	list_init(&b);
	ck_assert(list_empty(&a) && !list_pop(&a));
	for (unsigned i = 0; i < 4; i++) {
		list_init(&items[i].link);
		ck_assert(!list_linked(&items[i].link));
		list_append(i < 2 ? &a : &b, &items[i].link);
		ck_assert(list_linked(&items[i].link));
	}
	list_splice(&a, &b);
	ck_assert(list_empty(&b));
	list_splice(&a, &b); /* nothing moves */
	list_splice(&b, &a); /* to an empty one */
	ck_assert(list_empty(&a));
	ck_assert_int_eq(first_of(&b), 0);
	list_remove(&items[1].link);
	list_remove(&items[1].link);
	ck_assert(!list_linked(&items[1].link));
	for (int want = 0; (l = list_pop(&b)); want += want ? 1 : 2)
		ck_assert_int_eq(list_entry(l, struct item, link)->n, want);
	ck_assert(list_empty(&b) && !list_linked(&items[3].link));
}
END_TEST

/* ── numbers ── */

START_TEST(checked)
{
	uint64_t out = 7;

	ck_assert(!number_add(UINT64_MAX, 1, &out) && out == 7);
	ck_assert(number_add(UINT64_MAX, 0, &out) && out == UINT64_MAX);
	ck_assert(!number_mul(1ull << 32, 1ull << 32, &out) && out == UINT64_MAX);
	ck_assert(number_mul(1ull << 32, (1ull << 32) - 1, &out) && out == UINT64_MAX - UINT32_MAX);
	ck_assert(number_within(0, 0, 0) && number_within(10, 0, 10) && number_within(5, 5, 10));
	ck_assert(!number_within(5, 6, 10) && !number_within(11, 0, 10));
	ck_assert(!number_within(UINT64_MAX, 1, 10) && !number_within(1, UINT64_MAX, 10));
	ck_assert(number_overlap(0, 10, 9, 1) && !number_overlap(0, 10, 10, 1));
	ck_assert(!number_overlap(5, 0, 0, 10) && !number_overlap(0, 10, 5, 0));
	ck_assert(number_is_power_of_two(1) && number_is_power_of_two(1ull << 63));
	ck_assert(!number_is_power_of_two(0) && !number_is_power_of_two(3));
	ck_assert_uint_eq(number_round_up(0, 512), 0);
	ck_assert_uint_eq(number_round_up(1, 512), 512);
	ck_assert_uint_eq(number_round_down(1023, 512), 512);
	ck_assert_uint_eq(number_div_up(UINT64_MAX, 2), 1ull << 63); /* no wrap */
	ck_assert_uint_eq(number_div_up(0, 512), 0);
}
END_TEST

START_TEST(parse)
{
	static const struct {
		const char *text;
		bool ok;
		uint64_t value;
	} numbers[] = {
		{ "0", true, 0 },
		{ "18446744073709551615", true, UINT64_MAX },
		{ "18446744073709551616", false, 0 },
		{ "99999999999999999999999", false, 0 },
		{ "0xffffffffffffffff", true, UINT64_MAX },
		{ "0x10000000000000000", false, 0 },
		{ "0X1b", true, 27 },
		{ "010", true, 10 }, /* not octal */
		{ "", false, 0 },
		{ "0x", false, 0 },
		{ "-1", false, 0 },
		{ "+1", false, 0 },
		{ " 1", false, 0 },
		{ "1 ", false, 0 },
		{ "1a", false, 0 },
		{ "1.0", false, 0 },
		{ "x", false, 0 },
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		uint64_t out = 4711;

		ck_assert_msg(number_parse(numbers[i].text, &out) == numbers[i].ok, "%s",
			      numbers[i].text);
		ck_assert_uint_eq(out, numbers[i].ok ? numbers[i].value : 4711);
	}
}
END_TEST

START_TEST(parse_sizes)
{
	static const struct {
		const char *text;
		bool ok;
		uint64_t value;
	} sizes[] = {
		{ "0", true, 0 },
		{ "512", true, 512 },
		{ "512b", true, 512 },
		{ "512B", true, 512 },
		{ "8s", true, 4096 },
		{ "4K", true, 4096 },
		{ "4k", true, 4096 },
		{ "4KiB", true, 4096 },
		{ "4kB", true, 4096 },
		{ "1.5G", true, 3ull << 29 },
		{ "0.5K", true, 512 },
		{ "0.0009765625K", true, 1 },
		{ "1.000000000000000000000000K", true, 1024 },
		{ "2040G", true, 2190433320960 },
		{ "2T", true, 2ull << 40 },
		{ "16383P", true, 16383ull << 50 },
		{ "0x200", true, 512 },
		{ "0x1b", true, 27 },
		{ "16384P", false, 0 },
		{ "18446744073709551615K", false, 0 },
		{ "0.3", false, 0 },
		{ "0.3K", false, 0 },
		{ "1.", false, 0 },
		{ ".5K", false, 0 },
		{ "1.5.5K", false, 0 },
		{ "1S", false, 0 },
		{ "1KK", false, 0 },
		{ "1KiBx", false, 0 },
		{ "1iB", false, 0 },
		{ "1E", false, 0 },
		{ "0x10K", false, 0 },
		{ "-1K", false, 0 },
		{ "K", false, 0 },
		{ "", false, 0 },
		{ "1 K", false, 0 },
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t out = 4711;

		ck_assert_msg(number_parse_size(sizes[i].text, &out) == sizes[i].ok, "%s",
			      sizes[i].text);
		ck_assert_uint_eq(out, sizes[i].ok ? sizes[i].value : 4711);
	}
}
END_TEST

START_TEST(format_sizes)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} sizes[] = {
		{ 0, "0 B" },
		{ 1023, "1023 B" },
		{ 1024, "1 KiB" },
		{ 1536, "1.5 KiB" },
		{ 10 << 10, "10 KiB" },
		{ (1 << 20) - 1, "1 MiB" },
		{ 3ull << 29, "1.5 GiB" },
		{ 2190433320960, "1.99 TiB" },
		{ 1234567, "1.18 MiB" },
		{ 123456789, "118 MiB" },
		{ UINT64_MAX, "16 EiB" },
	};
	struct rng rng = { suite_seed(1) };
	char buf[16];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		ck_assert_str_eq(number_format_size(sizes[i].bytes, buf), sizes[i].text);
	for (unsigned i = 0; i < 100000; i++) { /* about right, and in its room */
		uint64_t n = rng_next(&rng) >> rng_below(&rng, 64);
		double value;
		char unit[8];

		number_format_size(n, buf);
		ck_assert_uint_lt(strlen(buf), 16);
		ck_assert_int_eq(sscanf(buf, "%lf %7s", &value, unit), 2);
		for (const char *u = "BKMGTPE"; *u && *u != unit[0]; u++)
			value *= 1024;
		ck_assert_msg(value >= (double)n * 0.99 - 1 && value <= (double)n * 1.01 + 1,
			      "%llu: %s", (unsigned long long)n, buf);
	}
}
END_TEST

int main(void)
{
	const TTest *tests[] = { bit_order, bit_runs,	 byte_orders,  lists, checked,
				 parse,	    parse_sizes, format_sizes, NULL };

	return suite_run("base", tests);
}
