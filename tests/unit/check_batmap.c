/* check_batmap.c - the batmap's header, its place and its two checksums */
#include <string.h>

#include "libvhd/base/endian.h"
#include "libvhd/batmap.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"
#include "tests/lib/vector.h"

START_TEST(vectors)
{
	static const enum vector which[] = { VECTOR_BATMAP, VECTOR_BATMAP_1_1 };

	for (unsigned i = 0; i < 2; i++) {
		uint8_t raw[2 * VHD_SECTOR], again[VHD_SECTOR] = { 0 };
		struct vhd_batmap_header h;

		vector_batmap(which[i], raw);
		ck_assert_int_eq(batmap_decode(raw, &h, NULL), 0);
		ck_assert_uint_eq(h.offset, 0xa00);
		ck_assert_uint_eq(h.sectors, 1);
		ck_assert_uint_eq(h.version, i ? 0x00010001 : 0x00010002);
		ck_assert_uint_eq(h.checksum, i ? 0x3f : 0xffffff3f);
		ck_assert_uint_eq(batmap_checksum(raw + VHD_SECTOR, VHD_SECTOR, h.version),
				  h.checksum);
		batmap_encode(&h, again);
		ck_assert_mem_eq(again, raw, sizeof(again));
	}
}
END_TEST

START_TEST(checksums)
{
	uint8_t map[4096] = { 0 };

	ck_assert_uint_eq(batmap_checksum(map, 512, 0x00010002), 0xffffffff);
	ck_assert_uint_eq(batmap_checksum(map, 512, 0x00010001), 0xffffffff);
	memset(map, 0xff, sizeof(map));
	ck_assert_uint_eq(batmap_checksum(map, 4096, 0x00010002), ~(4096u * 255));
	ck_assert_uint_eq(batmap_checksum(map, 4096, 0x00010001), 4096 - 1); /* each byte is -1 */
	map[0] = 0x7f; /* positive either way */
	ck_assert_uint_eq(batmap_checksum(map, 1, 0x00010001), ~0x7fu);
	ck_assert_uint_eq(batmap_checksum(map, 0, 0x00010002), 0xffffffff);
}
END_TEST

START_TEST(places)
{
	ck_assert_uint_eq(batmap_header_offset(1536, 8), 2048);
	ck_assert_uint_eq(batmap_header_offset(1536, 128), 2048);
	ck_assert_uint_eq(batmap_header_offset(1536, 129), 2560);
	ck_assert_uint_eq(batmap_header_offset(1536, 0), 2048);
	ck_assert_uint_eq(batmap_header_offset(1536, 1044480), 1536 + 4177920);
	ck_assert_uint_eq(batmap_header_offset(1536, UINT32_MAX), 1536 + (1ull << 34));
	ck_assert_uint_eq(batmap_header_offset(UINT64_MAX - 511, 1), UINT64_MAX);
	ck_assert_uint_eq(batmap_sectors(0), 1);
	ck_assert_uint_eq(batmap_sectors(8), 1);
	ck_assert_uint_eq(batmap_sectors(4096), 1);
	ck_assert_uint_eq(batmap_sectors(4097), 2);
	ck_assert_uint_eq(batmap_sectors(1044480), 255);
	ck_assert_uint_eq(batmap_sectors(UINT32_MAX), 1u << 20);
}
END_TEST

/* A bit per block, in whole sectors, the last few bits past 8 GiB borders left out as the
 * format's inventor does; never more than the map. */
START_TEST(covered)
{
	const uint32_t block = 2 << 20;
	const uint64_t gib = 1ull << 30;

	ck_assert_uint_eq(batmap_covered_bytes(16 << 20, block, 512), 512);
	ck_assert_uint_eq(batmap_covered_bytes(512, block, 512), 512);
	ck_assert_uint_eq(batmap_covered_bytes(8 * gib, block, 512), 512);
	ck_assert_uint_eq(batmap_covered_bytes(8 * gib + block, block, 1024), 512);
	ck_assert_uint_eq(batmap_covered_bytes(8 * gib + 8ull * block, block, 1024), 1024);
	ck_assert_uint_eq(batmap_covered_bytes(2040 * gib, block, 255 * 512), 255 * 512);
	ck_assert_uint_eq(batmap_covered_bytes(2040 * gib, block, 512), 512);
	ck_assert_uint_eq(batmap_covered_bytes(UINT64_MAX, 4096, 512), 512);
}
END_TEST

/* @code at @offset after byte @at became @value. */
static void refuses(unsigned at, uint8_t value, uint64_t offset)
{
	uint8_t raw[2 * VHD_SECTOR];
	struct vhd_batmap_header h;
	struct vhd_error err = { 0 };

	vector_batmap(VECTOR_BATMAP, raw);
	raw[at] = value;
	ck_assert_int_eq(batmap_decode(raw, &h, &err), -VHD_E_BATMAP);
	ck_assert(err.code == -VHD_E_BATMAP && err.has & VHD_HAS_OFFSET && err.text[0]);
	ck_assert_uint_eq(err.offset, offset);
}

START_TEST(refused)
{
	for (unsigned i = 0; i < 8; i++)
		refuses(BATMAP_COOKIE + i, '?', BATMAP_COOKIE);
	refuses(BATMAP_VERSION + 3, 0, BATMAP_VERSION);
	refuses(BATMAP_VERSION + 3, 3, BATMAP_VERSION);
	refuses(BATMAP_VERSION, 1, BATMAP_VERSION);
}
END_TEST

/* Unknown bytes of the header stay when fields are written into it. */
START_TEST(keeps_the_rest)
{
	struct rng rng = { suite_seed(1) };

	for (unsigned i = 0; i < 1000; i++) {
		uint8_t raw[VHD_SECTOR], again[VHD_SECTOR];
		struct vhd_batmap_header h;

		for (unsigned k = 0; k < VHD_SECTOR; k++)
			raw[k] = (uint8_t)rng_next(&rng);
		memcpy(raw, VHD_BATMAP_COOKIE, 8);
		be32_store(raw + BATMAP_VERSION, 0x00010001 + (uint32_t)rng_below(&rng, 2));
		memcpy(again, raw, sizeof(raw));
		ck_assert_int_eq(batmap_decode(raw, &h, NULL), 0);
		memset(again, 0, BATMAP_HASH + 32);
		batmap_encode(&h, again);
		ck_assert_mem_eq(again, raw, sizeof(raw));
	}
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		vectors, checksums, places, covered, refused, keeps_the_rest, NULL
	};

	return suite_run("batmap", tests);
}
