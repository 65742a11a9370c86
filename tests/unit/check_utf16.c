/* check_utf16.c - UTF-16 and UTF-8: what is refused, and what comes back as it was */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "libvhd/base/endian.h"
#include "libvhd/utf16.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"
#include "tests/lib/vector.h"

static void both_ways(const char *text, const char *big_endian_hex)
{
	uint8_t want[256], got[256], swapped[256];
	char back[256];
	int units = (int)vector_hex(want, big_endian_hex) / 2;

	ck_assert_int_eq(utf16_encode(text, UTF16_BE, got, 128), units);
	ck_assert_mem_eq(got, want, (size_t)units * 2);
	ck_assert_int_eq(utf16_decode(want, (size_t)units, UTF16_BE, back, sizeof(back)),
			 (int)strlen(text));
	ck_assert_str_eq(back, text);
	for (int i = 0; i < units; i++)
		le16_store(swapped + 2 * i, be16_load(want + 2 * i));
	ck_assert_int_eq(utf16_encode(text, UTF16_LE, got, 128), units);
	ck_assert_mem_eq(got, swapped, (size_t)units * 2);
	ck_assert_int_eq(utf16_decode(swapped, (size_t)units, UTF16_LE, back, sizeof(back)),
			 (int)strlen(text));
	ck_assert_str_eq(back, text);
	ck_assert(utf16_valid_utf8(text));
}

START_TEST(texts)
{
	both_ways("", "");
	both_ways("v2.vhd", "00760032002e007600680064");
	both_ways("\xc3\x9c", "00dc");			   /* U+00DC */
	both_ways("\xc2\xa0", "00a0");			   /* the first after the controls */
	both_ways("\xdf\xbf\xe0\xa0\x80", "07ff0800");	   /* two bytes, three bytes */
	both_ways("\xed\x9f\xbf\xee\x80\x80", "d7ffe000"); /* around the surrogates */
	both_ways("\xef\xbf\xbf", "ffff");		   /* the last of the plane */
	both_ways("\xf0\x90\x80\x80", "d800dc00");	   /* U+10000 */
	both_ways("\xf0\x9f\x98\x80", "d83dde00");	   /* an emoji */
	both_ways("\xf4\x8f\xbf\xbf", "dbffdfff");	   /* U+10FFFF */
}
END_TEST

START_TEST(bad_utf16)
{
	static const char *const bad[] = {
		"d800", "dc00", "d8000041", "d800d800", "dc00d800", "0041dbff", "d83dde00dc00",
		"0001", "000a", "001f",	    "007f",	"0080",	    "009f",
	};
	uint8_t raw[64];
	char out[64];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(utf16_decode(raw, vector_hex(raw, bad[i]) / 2, UTF16_BE, out,
					   sizeof(out)) == -EILSEQ,
			      "%s", bad[i]);
}
END_TEST

START_TEST(bad_utf8)
{
	static const char *const bad[] = {
		"\x80",
		"\xbf",
		"\xc0\x80", /* NUL in two bytes */
		"\xc1\xbf",
		"\xc3",
		"\xc3\x41",
		"\xe0\x9f\xbf",
		"\xe2\x82",
		"\xe2\x41\x82",
		"\xed\xa0\x80", /* a surrogate */
		"\xed\xbf\xbf",
		"\xf0\x8f\xbf\xbf",
		"\xf0\x9f\x98",
		"\xf4\x90\x80\x80",
		"\xf5\x80\x80\x80",
		"\xf8\x88\x80\x80\x80",
		"\xfe",
		"\xff",
		"a\tb",
		"a\n",
		"\x7f",
		"\xc2\x80",
		"\xc2\x9f",
	};
	uint8_t raw[64];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_msg(!utf16_valid_utf8(bad[i]), "%zu", i);
		ck_assert_msg(utf16_encode(bad[i], UTF16_LE, raw, 32) == -EILSEQ, "%zu", i);
	}
}
END_TEST

START_TEST(room)
{
	uint8_t raw[16], guard[16];
	char out[16], exact[4];

	vector_hex(raw, "00610062006320ac");
	/* a NUL ends the text; so do the units given */
	ck_assert_int_eq(utf16_decode(raw, 2, UTF16_BE, out, sizeof(out)), 2);
	ck_assert_str_eq(out, "ab");
	be16_store(raw + 2, 0);
	ck_assert_int_eq(utf16_decode(raw, 4, UTF16_BE, out, sizeof(out)), 1);
	vector_hex(raw, "00610062006320ac");
	ck_assert_int_eq(utf16_decode(raw, 3, UTF16_BE, exact, 4), 3);
	ck_assert_int_eq(utf16_decode(raw, 3, UTF16_BE, exact, 3), -ENAMETOOLONG);
	ck_assert_int_eq(utf16_decode(raw, 4, UTF16_BE, out, 6), -ENAMETOOLONG);
	ck_assert_int_eq(utf16_decode(raw, 4, UTF16_BE, out, 7), 6);
	ck_assert_int_eq(utf16_decode(raw, 0, UTF16_BE, out, 0), -ENAMETOOLONG);
	ck_assert_int_eq(utf16_decode(raw, 0, UTF16_BE, out, 1), 0);
	/* no unit more than fits, and half of a pair is not written */
	memset(guard, 0x5a, sizeof(guard));
	ck_assert_int_eq(utf16_encode("a\xf0\x9f\x98\x80", UTF16_BE, guard, 2), -ENAMETOOLONG);
	ck_assert_uint_eq(guard[2], 0x5a);
	ck_assert_int_eq(utf16_encode("a\xf0\x9f\x98\x80", UTF16_BE, guard, 3), 3);
	ck_assert_uint_eq(guard[6], 0x5a);
	ck_assert_int_eq(utf16_encode("a", UTF16_BE, guard, 0), -ENAMETOOLONG);
	ck_assert_int_eq(utf16_encode("", UTF16_BE, guard, 0), 0);
}
END_TEST

/* Whatever decodes, encodes to the same units. */
START_TEST(round_trip)
{
	struct rng rng = { suite_seed(1) };
	unsigned decoded = 0;

	for (unsigned i = 0; i < 100000; i++) {
		uint8_t raw[32], again[32];
		char text[64];
		size_t units = 1 + rng_below(&rng, 16);
		enum utf16_order order = rng_chance(&rng, 50) ? UTF16_LE : UTF16_BE;
		bool tame = rng_chance(&rng, 50);

		for (size_t k = 0; k < 2 * units; k++)
			raw[k] = (uint8_t)(tame && (k + order) % 2 ? 0x20 : rng_next(&rng));
		if (utf16_decode(raw, units, order, text, sizeof(text)) < 0)
			continue;
		decoded++;
		ck_assert(utf16_valid_utf8(text));
		units = (size_t)utf16_encode(text, order, again, 16);
		ck_assert_mem_eq(again, raw, 2 * units);
	}
	ck_assert_uint_gt(decoded, 10000);
}
END_TEST

int main(void)
{
	const TTest *tests[] = { texts, bad_utf16, bad_utf8, room, round_trip, NULL };

	return suite_run("utf16", tests);
}
