/* check_tar.c - headers and records of archives: what is written is read, and nothing else is */
#include <errno.h>
#include <string.h>

#include "libvhd/tar.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"

START_TEST(headers)
{
	struct rng rng = { suite_seed(1) };
	uint8_t raw[TAR_BLOCK];
	struct tar_header h;

	for (unsigned i = 0; i < 20000; i++) {
		uint64_t size = rng_next(&rng) >> (31 + rng_below(&rng, 33));
		char name[101] = { 0 };

		for (uint64_t n = 1 + rng_below(&rng, 100); n--;)
			name[n] = (char)('!' + rng_below(&rng, 90));
		tar_header_encode(name, i % 2 ? '0' : 'x', size, (int64_t)i, raw);
		ck_assert_int_eq(tar_header_decode(raw, &h), 0);
		ck_assert_str_eq(h.name, name);
		ck_assert(h.type == (i % 2 ? '0' : 'x') && h.size == size && h.mtime == i);
		raw[rng_below(&rng, 148)] ^= (uint8_t)(1 + rng_below(&rng, 255));
		ck_assert_int_eq(tar_header_decode(raw, &h), -EUCLEAN);
	}
	memset(raw, 0, sizeof(raw));
	ck_assert_int_eq(tar_header_decode(raw, &h), 1);
}
END_TEST

/* A record counts its own length, also where that gets one digit more. */
START_TEST(records)
{
	static char out[2000], value[300];

	for (size_t n = 1; n <= TAR_NAME_MAX; n++) {
		struct tar_member m = { .size = 7 };
		bool has_size = false;
		size_t used, more;

		memset(value, 'v', n);
		value[n] = 0;
		used = tar_record(out, sizeof(out), 0, "path", value);
		ck_assert_uint_eq(used, strlen(out));
		ck_assert_uint_eq(used, strtoul(out, NULL, 10));
		more = tar_record(out, sizeof(out), used, "size", "8589934592");
		ck_assert_uint_eq(more, strlen(out));
		more = tar_record(out, sizeof(out), more, "mtime", "1.5");
		ck_assert_int_eq(tar_records_decode(out, more, &m, &has_size), 0);
		ck_assert_str_eq(m.name, value);
		ck_assert(has_size && m.stored == 8589934592ull && m.size == 7 && !m.sparse);
		ck_assert_uint_eq(tar_record(out, used, 0, "path", value), 0);
		ck_assert_int_eq(tar_records_decode(out, more - 1, &m, &has_size), -EUCLEAN);
	}
}
END_TEST

START_TEST(wrong_records)
{
	static const char *const wrong[] = {
		"",
		"x",
		"5 a=b",
		"6 a=b\n6",
		"0 a=b\n",
		"7 a=b\n",
		"5 a=b\n",
		"999999 a=b\n",
		"6 aab\n",
		"9 size=\n",
		"11 size=x\n",
		"12 size=0x\n",
		"13 size=-1\n",
		"8 path=\n",
		"4294967301 a=b\n",
		"22 GNU.sparse.major=2\n",
		"22 GNU.sparse.minor=1\n",
		"20 GNU.sparse.map=1\n",
	};
	struct tar_member m = { .size = 0 };
	bool has_size;

	for (size_t i = 1; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ck_assert_msg(tar_records_decode(wrong[i], strlen(wrong[i]), &m, &has_size) ==
				      -EUCLEAN,
			      "%s", wrong[i]);
	ck_assert_int_eq(tar_records_decode("6 a=b\n", 6, &m, &has_size), 0);
	ck_assert_int_eq(tar_records_decode("10 a=b\nc=\n", 10, &m, &has_size), 0);
}
END_TEST

START_TEST(names)
{
	ck_assert(tar_name_is_plain("a") && tar_name_is_plain("..a") && tar_name_is_plain("ä b"));
	ck_assert(!tar_name_is_plain("") && !tar_name_is_plain(".") && !tar_name_is_plain(".."));
	ck_assert(!tar_name_is_plain("a/b") && !tar_name_is_plain("/") &&
		  !tar_name_is_plain("a\n"));
	ck_assert(!tar_name_is_plain("\xff"));
}
END_TEST

int main(void)
{
	const TTest *tests[] = { headers, records, wrong_records, names, NULL };

	return suite_run("tar", tests);
}
