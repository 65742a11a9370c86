/* check_bitmap.c - how long sector bitmaps are, and where new blocks start */
#include "libvhd/bitmap.h"
#include "libvhd/layout.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"

START_TEST(sizes)
{
	static const struct {
		uint32_t block_bytes, bitmap, stride; /* sectors */
	} want[] = {
		{ 4096, 1, 9 },		 { 8192, 1, 17 },	   { 64 << 10, 1, 129 },
		{ 512 << 10, 1, 1025 },	 { 1 << 20, 1, 2049 },	   { 2 << 20, 1, 4097 },
		{ 4 << 20, 2, 8194 },	 { 8 << 20, 4, 16388 },	   { 16 << 20, 8, 32776 },
		{ 32 << 20, 16, 65552 }, { 64 << 20, 32, 131104 },
	};

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		uint32_t sectors = want[i].block_bytes / VHD_SECTOR;

		ck_assert_uint_eq(bitmap_sectors(sectors), want[i].bitmap);
		ck_assert_uint_eq(bitmap_stride(sectors), want[i].stride);
	}
	ck_assert_uint_eq(bitmap_sectors(0), 1);
}
END_TEST

/* XenServer's places: entries are 7 mod 8, blocks follow each other 4104 sectors apart. */
START_TEST(as_xenserver_places)
{
	ck_assert_uint_eq(bitmap_align(7, 4096), 15); /* its page is shared with what ends at 7 */
	ck_assert_uint_eq(bitmap_align(0, 4096), 7);
	ck_assert_uint_eq(bitmap_align(8, 4096), 15);
	ck_assert_uint_eq(bitmap_align(7 + 4097, 4096), 7 + 4104);
}
END_TEST

START_TEST(alignment)
{
	struct rng rng = { suite_seed(1) };

	for (unsigned i = 0; i < 100000; i++) {
		uint32_t sectors = 8u << rng_below(&rng, 15);
		uint64_t end = rng_below(&rng, 1ull << 33);
		uint64_t at = bitmap_align(end, sectors), bitmap = bitmap_sectors(sectors);

		ck_assert(at >= end);
		ck_assert_uint_eq((at + bitmap) % 8, 0);
		ck_assert(at / 8 * 8 >= end); /* the page of the bitmap's start is its own */
		ck_assert(at - end < 16 + (bitmap > 8 ? 8 : 0)); /* and nothing is wasted */
	}
}
END_TEST

int main(void)
{
	const TTest *tests[] = { sizes, as_xenserver_places, alignment, NULL };

	return suite_run("bitmap", tests);
}
