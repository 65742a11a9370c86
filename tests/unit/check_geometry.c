/* check_geometry.c - cylinders, heads, sectors: published values, and what holds for all */
#include "libvhd/geometry.h"
#include "libvhd/layout.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"

static const struct {
	uint64_t sectors;
	uint16_t cylinders;
	uint8_t heads, per_track;
	uint64_t lost; /* sectors behind the last cylinder; UINT64_MAX: not written down */
} vectors[] = {
	{ 0, 0, 4, 17, 0 },
	{ 1, 0, 4, 17, 1 },
	{ 67, 0, 4, 17, 67 },
	{ 68, 1, 4, 17, 0 },
	{ 2048, 30, 4, 17, 8 },
	{ 6144, 90, 4, 17, 24 },
	{ 8192, 120, 4, 17, 32 },
	{ 32768, 481, 4, 17, 60 },
	{ 65536, 963, 4, 17, 52 },
	{ 69631, 1023, 4, 17, 67 },
	{ 69632, 140, 16, 31, 192 },
	{ 86700, 1020, 5, 17, 0 },
	{ 87039, 1023, 5, 17, 84 },
	{ 87040, 175, 16, 31, 240 },
	{ 104448, 210, 16, 31, 288 },
	{ 204800, 1003, 12, 17, 188 },
	{ 262144, 963, 16, 17, 208 },
	{ 278256, 1023, 16, 17, 0 },
	{ 278527, 1023, 16, 17, 271 },
	{ 278528, 561, 16, 31, 272 },
	{ 507408, 1023, 16, 31, 0 },
	{ 507903, 1023, 16, 31, 495 },
	{ 507904, 503, 16, 63, 880 },
	{ 1048576, 1040, 16, 63, 256 },
	{ 2097152, 2080, 16, 63, 512 },
	{ 4194304, 4161, 16, 63, 16 },
	{ 10485760, 10402, 16, 63, 544 },
	{ 41943040, 41610, 16, 63, 160 },
	{ 66059279, 65534, 16, 63, 1007 },
	{ 66059280, 16191, 16, 255, 0 },
	{ 66059281, 16191, 16, 255, 1 },
	{ 67108864, 16448, 16, 255, 1024 },
	{ 134217728, 32896, 16, 255, 2048 },
	{ 266338304, 65278, 16, 255, 4064 },
	{ 267382799, 65534, 16, 255, 4079 },
	{ 267382800, 65535, 16, 255, 0 },
	{ 267382801, 65535, 16, 255, 1 },
	{ 4278190080, 65535, 16, 255, UINT64_MAX },
	/* what qemu-img writes for the sizes it rounds up to */
	{ 3168256 / 512, 91, 4, 17, 0 },
	{ 16781312 / 512, 482, 4, 17, 0 },
	{ 1073995776 / 512, 2081, 16, 63, 0 },
};

static uint64_t product(struct vhd_geometry g)
{
	return (uint64_t)g.cylinders * g.heads * g.sectors_per_track;
}

START_TEST(published)
{
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		uint64_t n = vectors[i].sectors;
		struct vhd_geometry g = geometry_for(n);

		ck_assert_msg(g.cylinders == vectors[i].cylinders && g.heads == vectors[i].heads &&
				      g.sectors_per_track == vectors[i].per_track,
			      "%llu sectors: %u/%u/%u", (unsigned long long)n, g.cylinders, g.heads,
			      g.sectors_per_track);
		if (vectors[i].lost != UINT64_MAX)
			ck_assert_uint_eq(n - product(g), vectors[i].lost);
	}
}
END_TEST

/* The disk described is never larger than the real one, and lacks less than a cylinder. */
START_TEST(never_larger)
{
	struct rng rng = { suite_seed(1) };

	for (unsigned i = 0; i < 200000; i++) {
		uint64_t n = rng_below(&rng, 1ull << (1 + rng_below(&rng, 33)));
		struct vhd_geometry g = geometry_for(n);
		uint64_t cylinder = (uint64_t)g.heads * g.sectors_per_track;

		ck_assert_msg(product(g) <= n, "%llu", (unsigned long long)n);
		ck_assert(g.heads >= 4 && g.heads <= 16);
		ck_assert(g.sectors_per_track == 17 || g.sectors_per_track == 31 ||
			  g.sectors_per_track == 63 || g.sectors_per_track == 255);
		if (n < 267382800)
			ck_assert_msg(n - product(g) < cylinder, "%llu", (unsigned long long)n);
	}
}
END_TEST

/* A size that is a product of its own geometry keeps it: rounding up twice is rounding once. */
START_TEST(stable)
{
	struct rng rng = { suite_seed(2) };

	for (unsigned i = 0; i < 20000; i++) {
		uint64_t n = product(geometry_for(68 + rng_below(&rng, 267382733)));

		if (n > 278528) /* below, fewer heads would do for the shorter disk */
			ck_assert_msg(n - product(geometry_for(n)) < 16 * 255, "%llu",
				      (unsigned long long)n);
	}
}
END_TEST

START_TEST(beyond)
{
	struct vhd_geometry g = geometry_for(UINT64_MAX);

	ck_assert(g.cylinders == 65535 && g.heads == 16 && g.sectors_per_track == 255);
	g = geometry_for((1ull << 32) + 1);
	ck_assert(g.cylinders == 65535 && g.heads == 16 && g.sectors_per_track == 255);
}
END_TEST

int main(void)
{
	const TTest *tests[] = { published, never_larger, stable, beyond, NULL };

	return suite_run("geometry", tests);
}
