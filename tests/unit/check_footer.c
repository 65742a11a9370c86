/* check_footer.c - the 512 bytes: vectors, every impossible field, what is kept */
#include <string.h>

#include "decoding.h"
#include "libvhd/base/endian.h"
#include "libvhd/error.h"
#include "libvhd/footer.h"
#include "libvhd/geometry.h"
#include "tests/lib/rng.h"
#include "tests/lib/seal.h"
#include "tests/lib/suite.h"
#include "tests/lib/vector.h"

static void good(uint8_t *raw)
{
	vector_footer(VECTOR_DYNAMIC, raw);
}

static int decode(const uint8_t *raw, void *out, struct vhd_error *err)
{
	return footer_decode(raw, out, err);
}

static const struct decoding footer = { sizeof(struct vhd_footer), good, seal_footer, decode };

static void refuses(const uint8_t *raw, int code, uint64_t offset)
{
	decoding_refuses(&footer, raw, code, offset);
}

static struct vhd_footer takes(const uint8_t *raw)
{
	struct vhd_footer out;

	decoding_takes(&footer, raw, &out);
	return out;
}

static void with32(unsigned field, uint32_t value, int code)
{
	decoding_with32(&footer, field, value, code);
}

static void with64(unsigned field, uint64_t value, int code)
{
	decoding_with64(&footer, field, value, code);
}

START_TEST(vectors)
{
	static const struct {
		uint32_t type, timestamp, creator_version, checksum;
		uint64_t size;
		const char *app;
	} want[VECTORS] = {
		{ 2, 0x2d733670, 0x000a0000, 0xffffe6fb, 100 << 20, "win " },
		{ 3, 0x2d733670, 0x000a0000, 0xffffef8e, 16 << 20, "win " },
		{ 4, 0x2d7336b0, 0x000a0000, 0xffffefcc, 16 << 20, "win " },
		{ 3, 0x2d733670, 0x00010003, 0xfffff57a, 16 << 20, "tap" },
		{ 3, 0x2d733670, 0x00010001, 0xfffff57c, 16 << 20, "tap" },
		{ 2, 0x2ec79b96, 0x00070000, 0xffffe747, 5ull << 30, "wa\0" },
	};

	for (int v = 0; v < VECTORS; v++) {
		uint8_t raw[VHD_FOOTER_BYTES], again[VHD_FOOTER_BYTES];
		struct vhd_footer f;
		struct vhd_geometry g;

		vector_footer(v, raw);
		ck_assert_uint_eq(footer_checksum(raw), want[v].checksum);
		f = takes(raw);
		ck_assert_uint_eq(f.type, want[v].type);
		ck_assert_uint_eq(f.timestamp, want[v].timestamp);
		ck_assert_uint_eq(f.creator_version, want[v].creator_version);
		ck_assert_uint_eq(f.current_size, want[v].size);
		ck_assert_uint_eq(f.original_size, want[v].size);
		ck_assert_mem_eq(f.creator_app, want[v].app, 4);
		ck_assert_uint_eq(f.data_offset, f.type == 2 ? VHD_NO_OFFSET : 512);
		ck_assert_uint_eq(f.features, VHD_FEATURE_RESERVED);
		ck_assert_uint_eq(f.version, VHD_VERSION_1_0);
		g = geometry_for(f.current_size / VHD_SECTOR);
		ck_assert(f.cylinders == g.cylinders && f.heads == g.heads &&
			  f.sectors_per_track == g.sectors_per_track);
		ck_assert(!f.poisoned && !f.hidden && !f.saved);
		footer_encode(&f, again);
		ck_assert_mem_eq(again, raw, sizeof(raw));
	}
}
END_TEST

START_TEST(azure)
{
	uint8_t raw[VHD_FOOTER_BYTES];
	struct vhd_footer f;

	vector_footer(VECTOR_AZURE, raw);
	f = takes(raw);
	ck_assert_uint_eq(footer_chs_bytes(&f), 10485216ull * 512);
	ck_assert_int_eq(footer_time_to_unix(f.timestamp), 1731518230); /* 2024-11-13T17:17:10Z */
	ck_assert(!footer_is_tap(&f) && !footer_is_sparse(&f));
}
END_TEST

/* Any single bit that is changed is noticed: the sum cannot stay the same. */
START_TEST(every_bit_counts)
{
	uint8_t raw[VHD_FOOTER_BYTES];
	struct vhd_footer f;

	vector_footer(VECTOR_DYNAMIC, raw);
	for (unsigned bit = 0; bit < 8 * VHD_FOOTER_BYTES; bit++) {
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_msg(footer_decode(raw, &f, NULL) < 0, "bit %u", bit);
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	ck_assert_int_eq(footer_decode(raw, &f, NULL), 0);
}
END_TEST

/* Bytes of a footer that decodes come back as they were, known or not. */
START_TEST(round_trip)
{
	struct rng rng = { suite_seed(1) };

	for (unsigned i = 0; i < 20000; i++) {
		uint8_t raw[VHD_FOOTER_BYTES], again[VHD_FOOTER_BYTES];
		struct vhd_footer f;

		vector_footer((enum vector)rng_below(&rng, VECTORS), raw);
		for (unsigned n = (unsigned)rng_below(&rng, 20); n; n--)
			raw[8 + rng_below(&rng, VHD_FOOTER_BYTES - 8)] = (uint8_t)rng_next(&rng);
		if (rng_chance(&rng, 5))
			memcpy(raw, VHD_COOKIE_POISON, 8);
		seal_footer(raw);
		if (footer_decode(raw, &f, NULL) < 0)
			continue;
		footer_encode(&f, again);
		ck_assert_mem_eq(again, raw, sizeof(raw));
		ck_assert_int_eq(footer_compare(&f, &f), FOOTER_SAME);
	}
}
END_TEST

START_TEST(checksum)
{
	uint8_t raw[VHD_FOOTER_BYTES];

	/* 0x1904 is the sum that doc/format.md works out */
	vector_footer(VECTOR_FIXED, raw);
	ck_assert_uint_eq(~footer_checksum(raw), 0x1904);
	memset(raw, 0xff, sizeof(raw));
	ck_assert_uint_eq(~footer_checksum(raw), 508 * 255);
	vector_footer(VECTOR_DYNAMIC, raw);
	raw[511] = 1;
	refuses(raw, VHD_E_FOOTER_CHECKSUM, FOOTER_CHECKSUM);
	seal_footer(raw);
	ck_assert_uint_eq(takes(raw).reserved[511 - FOOTER_RESERVED], 1);
}
END_TEST

/* Early "tap" hides without a new sum; nobody else may. */
START_TEST(hidden_without_checksum)
{
	uint8_t raw[VHD_FOOTER_BYTES];
	struct vhd_footer f;

	vector_footer(VECTOR_BATMAP_1_1, raw);
	raw[FOOTER_HIDDEN] = 1;
	f = takes(raw);
	ck_assert_uint_eq(f.hidden, 1);
	raw[FOOTER_SAVED] = 1; /* that byte alone is forgiven */
	refuses(raw, VHD_E_FOOTER_CHECKSUM, FOOTER_CHECKSUM);
	vector_footer(VECTOR_BATMAP, raw);
	raw[FOOTER_HIDDEN] = 1;
	refuses(raw, VHD_E_FOOTER_CHECKSUM, FOOTER_CHECKSUM);
	vector_footer(VECTOR_DYNAMIC, raw);
	raw[FOOTER_HIDDEN] = 1;
	refuses(raw, VHD_E_FOOTER_CHECKSUM, FOOTER_CHECKSUM);
}
END_TEST

START_TEST(fields)
{
	for (uint32_t type = 0; type < 300; type++)
		with32(FOOTER_TYPE, type, type >= 2 && type <= 4 ? 0 : VHD_E_FOOTER_FIELD);
	with32(FOOTER_TYPE, 0x03000000, VHD_E_FOOTER_FIELD); /* the other byte order */
	with32(FOOTER_VERSION, 0x00010001, 0);
	with32(FOOTER_VERSION, 0x00020000, VHD_E_UNSUPPORTED);
	with32(FOOTER_VERSION, 0x0000ffff, VHD_E_FOOTER_FIELD);
	with32(FOOTER_VERSION, 0, VHD_E_FOOTER_FIELD);
	with32(FOOTER_FEATURES, 0x00000100, 0);
	with32(FOOTER_FEATURES, 0, 0);
	with32(FOOTER_TIMESTAMP, 0xffffffff, 0);
	with32(FOOTER_GEOMETRY, 0, 0);
	with64(FOOTER_CURRENT_SIZE, 0, VHD_E_FOOTER_FIELD);
	with64(FOOTER_CURRENT_SIZE, (16 << 20) + 1, VHD_E_FOOTER_FIELD);
	with64(FOOTER_CURRENT_SIZE, 1ull << 62, VHD_E_FOOTER_FIELD);
	with64(FOOTER_CURRENT_SIZE, UINT64_MAX - 511, VHD_E_FOOTER_FIELD);
	with64(FOOTER_CURRENT_SIZE, VHD_SIZE_MAX + 512, VHD_E_FOOTER_FIELD);
	with64(FOOTER_CURRENT_SIZE, VHD_SIZE_MAX, 0);
	with64(FOOTER_CURRENT_SIZE, 512, 0);
	with64(FOOTER_ORIGINAL_SIZE, UINT64_MAX, 0); /* nobody relies on it */
	with64(FOOTER_DATA_OFFSET, 0, VHD_E_FOOTER_FIELD);
	with64(FOOTER_DATA_OFFSET, 511, VHD_E_FOOTER_FIELD);
	with64(FOOTER_DATA_OFFSET, 513, VHD_E_FOOTER_FIELD);
	with64(FOOTER_DATA_OFFSET, UINT64_MAX, VHD_E_FOOTER_FIELD);
	with64(FOOTER_DATA_OFFSET, 1ull << 40, 0); /* whether that is in the file: the caller */
}
END_TEST

START_TEST(cookies)
{
	uint8_t raw[VHD_FOOTER_BYTES];

	vector_footer(VECTOR_DYNAMIC, raw);
	raw[0] = 'C';
	seal_footer(raw);
	refuses(raw, VHD_E_NOT_VHD, FOOTER_COOKIE);
	memcpy(raw, VHD_COOKIE_POISON, 8);
	seal_footer(raw);
	ck_assert(takes(raw).poisoned);
	memset(raw, 0, sizeof(raw));
	refuses(raw, VHD_E_NOT_VHD, FOOTER_COOKIE);
	memset(raw, 0xc7, sizeof(raw));
	refuses(raw, VHD_E_NOT_VHD, FOOTER_COOKIE);
}
END_TEST

START_TEST(creators)
{
	static const struct {
		uint32_t version;
		bool taken, must, may;
	} tap[] = {
		{ VHD_TAP_0_1, false, false, false }, { VHD_TAP_1_1, true, false, true },
		{ VHD_TAP_1_2, true, true, false },   { VHD_TAP_1_3, true, true, false },
		{ 0x00010004, false, false, false },  { 0x00020000, false, false, false },
	};
	uint8_t raw[VHD_FOOTER_BYTES];
	struct vhd_footer f;

	for (size_t i = 0; i < sizeof(tap) / sizeof(tap[0]); i++) {
		vector_footer(VECTOR_BATMAP, raw);
		be32_store(raw + FOOTER_CREATOR_VERSION, tap[i].version);
		seal_footer(raw);
		if (!tap[i].taken) {
			refuses(raw, VHD_E_UNSUPPORTED, FOOTER_CREATOR_VERSION);
			continue;
		}
		f = takes(raw);
		ck_assert(footer_is_tap(&f));
		ck_assert_int_eq(footer_has_batmap(&f), tap[i].must);
		ck_assert_int_eq(footer_may_have_batmap(&f), tap[i].may);
	}
	/* a fixed disk has neither bitmaps nor batmap: any version will do */
	vector_footer(VECTOR_FIXED, raw);
	memcpy(raw + FOOTER_CREATOR_APP, "tap", 4);
	be32_store(raw + FOOTER_CREATOR_VERSION, VHD_TAP_0_1);
	seal_footer(raw);
	f = takes(raw);
	ck_assert(footer_is_tap(&f) && !footer_has_batmap(&f) && !footer_may_have_batmap(&f));
}
END_TEST

START_TEST(differences)
{
	uint8_t raw[VHD_FOOTER_BYTES];
	struct vhd_footer a, b;

	vector_footer(VECTOR_DYNAMIC, raw);
	a = takes(raw);
	b = a;
	b.hidden = 1;
	b.timestamp++;
	b.saved = 1;
	b.data_offset = 4096;
	ck_assert_int_eq(footer_compare(&a, &b), FOOTER_DIFF_BENIGN);
	ck_assert_int_eq(footer_compare(&b, &a), FOOTER_DIFF_BENIGN);
	b.uuid[15] ^= 1;
	ck_assert_int_eq(footer_compare(&a, &b), FOOTER_DIFF_SEVERE);
	b = a;
	b.current_size += 512;
	b.heads ^= 1;
	b.hidden = 1;
	ck_assert_int_eq(footer_compare(&a, &b), FOOTER_DIFF_SIZE);
	ck_assert_int_eq(footer_compare(&b, &a), FOOTER_DIFF_SIZE);
	b.original_size += 512;
	ck_assert_int_eq(footer_compare(&a, &b), FOOTER_DIFF_SEVERE);
	b = a;
	b.type = VHD_TYPE_DIFFERENCING;
	ck_assert_int_eq(footer_compare(&a, &b), FOOTER_DIFF_SEVERE);
	b = a;
	b.poisoned = true;
	ck_assert_int_eq(footer_compare(&a, &b), FOOTER_DIFF_SEVERE);
	b = a;
	b.reserved[100] = 1;
	ck_assert_int_eq(footer_compare(&a, &b), FOOTER_DIFF_SEVERE);
	b = a;
	b.checksum = 0; /* as found; says nothing by itself */
	ck_assert_int_eq(footer_compare(&a, &b), FOOTER_SAME);
}
END_TEST

START_TEST(timestamps)
{
	static const struct {
		uint32_t vhd;
		int64_t unix_seconds;
	} times[] = {
		{ 0, 946684800 },	    { 0x12cff780, 1262304000 }, /* 2010-01-01 */
		{ 0x2d733670, 1709210096 },				/* 2024-02-29T12:34:56Z */
		{ 0x4792bc80, 1ll << 31 },  { 0x80000000, 3094168448 }, /* 2068-01-19 */
		{ 0xffffffff, 5241652095 },				/* 2136-02-07T06:28:15Z */
	};

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		ck_assert_int_eq(footer_time_to_unix(times[i].vhd), times[i].unix_seconds);
		ck_assert_uint_eq(footer_time_from_unix(times[i].unix_seconds), times[i].vhd);
	}
	ck_assert_uint_eq(footer_time_from_unix(5241652096), 0xffffffff);
	ck_assert_uint_eq(footer_time_from_unix(INT64_MAX), 0xffffffff);
	ck_assert_uint_eq(footer_time_from_unix(0), 0);
	ck_assert_uint_eq(footer_time_from_unix(INT64_MIN), 0);
}
END_TEST

int main(void)
{
	const TTest *tests[] = { vectors,
				 azure,
				 every_bit_counts,
				 round_trip,
				 checksum,
				 fields,
				 hidden_without_checksum,
				 cookies,
				 creators,
				 timestamps,
				 differences,
				 NULL };

	return suite_run("footer", tests);
}
