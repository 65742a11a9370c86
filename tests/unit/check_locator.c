/* check_locator.c - texts behind parent locators: which are taken, and as what */
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/endian.h"
#include "libvhd/error.h"
#include "libvhd/locator.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"
#include "tests/lib/vector.h"

/* ASCII to UTF-16LE; returns the bytes. */
static size_t wide(const char *text, uint8_t *out)
{
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i++)
		le16_store(out + 2 * i, (uint8_t)text[i]);
	return 2 * n;
}

static void taken(uint32_t code, const uint8_t *data, size_t bytes, const char *path, bool relative,
		  bool windows_absolute)
{
	uint8_t *exact = malloc(bytes); /* so that a sanitizer sees a step over the end */
	struct locator_path p;
	struct vhd_error err = { 0 };
	int rc;

	memcpy(exact, data, bytes);
	rc = locator_decode(code, exact, bytes, &p, &err);
	ck_assert_msg(!rc, "%s", err.text);
	ck_assert_str_eq(p.text, path);
	ck_assert_int_eq(p.relative, relative);
	ck_assert_int_eq(p.windows_absolute, windows_absolute);
	free(exact);
}

static void refused(uint32_t code, const uint8_t *data, size_t bytes)
{
	uint8_t *exact = malloc(bytes ? bytes : 1);
	struct locator_path p, before;
	struct vhd_error err = { 0 };

	memcpy(exact, data, bytes);
	memset(&p, 0x5a, sizeof(p));
	before = p;
	ck_assert_int_eq(locator_decode(code, exact, bytes, &p, &err), -VHD_E_LOCATOR);
	ck_assert(err.code == -VHD_E_LOCATOR && err.text[0]);
	ck_assert_mem_eq(&p, &before, sizeof(p));
	free(exact);
}

static void taken_wide(uint32_t code, const char *text, const char *path, bool relative,
		       bool absolute)
{
	uint8_t data[512];

	taken(code, data, wide(text, data), path, relative, absolute);
}

static void taken_bytes(uint32_t code, const char *text, const char *path, bool relative,
			bool absolute)
{
	taken(code, (const uint8_t *)text, strlen(text), path, relative, absolute);
}

START_TEST(vectors)
{
	uint8_t data[64];

	taken(LOCATOR_W2RU, data, vector_hex(data, "2e005c00760032002e00760068006400"), "./v2.vhd",
	      true, false);
	taken(LOCATOR_W2KU, data,
	      vector_hex(data, "43003a005c0076006d005c00760032002e00760068006400"), "C:/vm/v2.vhd",
	      false, true);
	taken(LOCATOR_MACX, data,
	      vector_hex(data, "66696c653a2f2f6c6f63616c686f73742f766d2f76322e766864"),
	      "/vm/v2.vhd", false, false);
}
END_TEST

START_TEST(kinds)
{
	uint8_t data[64];

	taken_wide(LOCATOR_W2RU, "v2.vhd", "v2.vhd", true, false);
	taken_wide(LOCATOR_W2RU, "..\\a\\v2.vhd", "../a/v2.vhd", true, false);
	taken_wide(LOCATOR_W2KU, ".\\v2.vhd", "./v2.vhd", true, false); /* as XenServer stores it */
	taken_wide(LOCATOR_W2RU, "\\\\server\\share\\v2.vhd", "//server/share/v2.vhd", false, true);
	taken_wide(LOCATOR_W2RU, "\\v2.vhd", "/v2.vhd", false, false);
	taken_wide(LOCATOR_W2RU, "/srv/v2.vhd", "/srv/v2.vhd", false, false);
	taken_bytes(LOCATOR_WI2R, ".\\v2.vhd", "./v2.vhd", true, false);
	taken_bytes(LOCATOR_WI2K, "C:\\v2.vhd", "C:/v2.vhd", false, true);
	taken_bytes(LOCATOR_MACX, "file://./xs.vhd", "./xs.vhd", true, false);
	taken_bytes(LOCATOR_MACX, "file://./%C3%9C.vhd", "./\xc3\x9c.vhd", true, false);
	/* padding of NULs; the other byte order */
	taken(LOCATOR_WI2R, (const uint8_t *)"v.vhd\0\0\0", 8, "v.vhd", true, false);
	memset(data, 0, sizeof(data));
	wide("v.vhd", data);
	taken(LOCATOR_W2RU, data, 20, "v.vhd", true, false);
	taken(LOCATOR_W2RU, data, vector_hex(data, "002e005c0076002e007600680064"), "./v.vhd", true,
	      false);
}
END_TEST

START_TEST(hostile)
{
	static const uint32_t all[] = { LOCATOR_W2RU,
					LOCATOR_W2KU,
					LOCATOR_WI2R,
					LOCATOR_WI2K,
					LOCATOR_MACX,
					LOCATOR_MAC,
					0,
					0x41424344 };
	uint8_t data[256];

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		refused(all[i], data, 0);
		refused(all[i], (const uint8_t *)"\0\0\0\0", 4);
		refused(all[i], (const uint8_t *)"\xff\xfe\xff", 3);
	}
	refused(LOCATOR_MAC, (const uint8_t *)"x.vhd", 5);
	refused(LOCATOR_W2RU, data, wide("odd", data) - 1);
	refused(LOCATOR_W2RU, data, vector_hex(data, "76000000780000002e007600")); /* NUL inside */
	refused(LOCATOR_W2RU, data, vector_hex(data, "760000d87800"));		   /* half a pair */
	refused(LOCATOR_W2RU, data, vector_hex(data, "76000a007800"));		   /* a line feed */
	refused(LOCATOR_WI2R, (const uint8_t *)"a\0b", 3);
	refused(LOCATOR_WI2R, (const uint8_t *)"a\nb", 3);
	refused(LOCATOR_WI2R, (const uint8_t *)"a\xff", 2);
	refused(LOCATOR_MACX, (const uint8_t *)"file://./a%00b", 14);
	refused(LOCATOR_MACX, (const uint8_t *)"file://./a%0Ab", 14);
	refused(LOCATOR_MACX, (const uint8_t *)"file://./a%FFb", 14);
	refused(LOCATOR_MACX, (const uint8_t *)"file://host/ab", 14);
	refused(LOCATOR_MACX, (const uint8_t *)"http://./abcde", 14);
	refused(LOCATOR_MACX, (const uint8_t *)"file://", 7);
}
END_TEST

START_TEST(too_long)
{
	uint8_t *data = malloc(LOCATOR_LENGTH_MAX);

	memset(data, 'a', LOCATOR_LENGTH_MAX);
	refused(LOCATOR_WI2R, data, LOCATOR_LENGTH_MAX);
	refused(LOCATOR_WI2R, data, PATH_TEXT_MAX);
	for (size_t i = 0; i < LOCATOR_LENGTH_MAX / 2; i++)
		le16_store(data + 2 * i, 'a');
	refused(LOCATOR_W2RU, data, LOCATOR_LENGTH_MAX);
	refused(LOCATOR_W2RU, data, 2 * PATH_TEXT_MAX);
	free(data);
}
END_TEST

START_TEST(usable)
{
	static const struct {
		uint32_t code, length;
		uint64_t offset;
		bool usable;
	} entries[] = {
		{ LOCATOR_W2RU, 16, 2048, true },
		{ LOCATOR_W2RU, 15, 2048, false },
		{ LOCATOR_W2RU, 0, 2048, false },
		{ LOCATOR_W2RU, 0x7fffffff, 2048, false },
		{ LOCATOR_W2RU, 65536, 2048, true },
		{ LOCATOR_W2RU, 65538, 2048, false },
		{ LOCATOR_W2RU, 16, (1ull << 63) - 256, false },
		{ LOCATOR_W2RU, 16, UINT64_MAX, false },
		{ LOCATOR_W2RU, 16, UINT64_MAX - 8, false },
		{ LOCATOR_W2RU, 16, 99984, true },
		{ LOCATOR_W2RU, 16, 99986, false },
		{ LOCATOR_W2KU, 15, 2048, false },
		{ LOCATOR_MACX, 15, 2048, true },
		{ LOCATOR_WI2R, 15, 2048, true },
		{ LOCATOR_MACX, 65537, 2048, false },
		{ LOCATOR_MAC, 16, 2048, false },
		{ 0, 16, 2048, false },
		{ 0x41424344, 16, 2048, false },
	};

	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		struct vhd_locator_entry e = { .code = entries[i].code,
					       .length = entries[i].length,
					       .offset = entries[i].offset };

		ck_assert_msg(locator_usable(&e, 100000) == entries[i].usable, "%zu", i);
	}
}
END_TEST

/* What we store, we read back: every code, names of any kind. */
START_TEST(round_trip)
{
	static const uint32_t codes[] = { LOCATOR_MACX, LOCATOR_W2KU, LOCATOR_W2RU };
	static const char *const parts[] = {
		"a", "..",  "\xc3\x9c", "\xe7\xa3\x81", "\xf0\x9f\x98\x80",
		" ", "%41", "#x",	"c:",		"'"
	};
	struct rng rng = { suite_seed(1) };

	for (unsigned i = 0; i < 20000; i++) {
		char path[256];
		uint8_t data[1024];
		struct locator_path p;
		uint32_t code = codes[rng_below(&rng, 3)];
		int bytes;

		strcpy(path, rng_chance(&rng, 70) ? "./" : "../");
		for (unsigned n = 1 + (unsigned)rng_below(&rng, 6); n; n--) {
			strcat(path, parts[rng_below(&rng, 10)]);
			strcat(path, n > 1 && rng_chance(&rng, 50) ? "/" : "x");
		}
		bytes = locator_encode(code, path, data, sizeof(data), NULL);
		ck_assert_int_gt(bytes, 0);
		ck_assert_int_eq(locator_decode(code, data, (size_t)bytes, &p, NULL), 0);
		ck_assert(p.relative && !p.windows_absolute);
		/* a URL says where it starts from: ../x becomes ./../x */
		ck_assert_str_eq(p.text + (!strncmp(path, "../", 3) && p.text[1] == '/' ? 2 : 0),
				 path);
	}
}
END_TEST

START_TEST(encoding)
{
	uint8_t data[64];
	struct vhd_error err = { 0 };

	/* as XenServer's tools store them */
	ck_assert_int_eq(locator_encode(LOCATOR_MACX, "./xs.vhd", data, 64, NULL), 15);
	ck_assert_mem_eq(data, "file://./xs.vhd", 15);
	ck_assert_int_eq(locator_encode(LOCATOR_W2RU, "./xs.vhd", data, 64, NULL), 16);
	ck_assert_mem_eq(data, ".\0\\\0x\0s\0.\0v\0h\0d\0", 16);
	ck_assert_int_eq(locator_encode(LOCATOR_W2RU, "./xs.vhd", data, 15, &err), -VHD_E_NAME);
	ck_assert_int_eq(locator_encode(LOCATOR_MACX, "./xs.vhd", data, 14, &err), -VHD_E_NAME);
	ck_assert_int_eq(locator_encode(LOCATOR_W2RU, "./a\\b", data, 64, &err), -VHD_E_NAME);
	ck_assert_int_eq(err.code, -VHD_E_NAME);
	ck_assert_int_eq(locator_encode(LOCATOR_W2RU, "./a\xff", data, 64, NULL), -VHD_E_NAME);
	ck_assert_int_eq(locator_encode(LOCATOR_MACX, "./a\nb", data, 64, NULL), -VHD_E_NAME);
	ck_assert_int_eq(locator_encode(LOCATOR_MAC, "./a", data, 64, NULL), -VHD_E_NAME);
}
END_TEST

START_TEST(names)
{
	char buf[16];

	ck_assert_str_eq(locator_name(0, buf), "none");
	ck_assert_str_eq(locator_name(LOCATOR_MACX, buf), "MacX");
	ck_assert_str_eq(locator_name(LOCATOR_W2RU, buf), "W2ru");
	ck_assert_str_eq(locator_name(0x4d163258, buf), "0x4d163258");
}
END_TEST

int main(void)
{
	const TTest *tests[] = { vectors,    kinds,    hostile, too_long, usable,
				 round_trip, encoding, names,	NULL };

	return suite_run("locator", tests);
}
