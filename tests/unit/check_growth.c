/* check_growth.c - the power goes at every step of a growth: nothing has to be repaired (ORDER 13)
 *
 * An image with data is grown as a server does.  After each operation that changed something, and
 * for each way in which a cut may leave what was not synced, the image must open for writing
 * with the old or the new size, its data as it was and zeros behind; and with the new size once the
 * growth was said to be over.  Footers that differ in size while there is data between are refused.
 *
 * SEED=n plays one world.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/create.h"
#include "libvhd/growth.h"
#include "libvhd/image-private.h"
#include "tests/lib/io-mem.h"
#include "tests/lib/rng.h"

#define SECTORS_MAX 2048u
#define WORLDS	    300u
#define CUTS	    3u /* of each random kind */

#define EXPECT(cond, ...)                                                        \
	do {                                                                     \
		if (!(cond)) {                                                   \
			fprintf(stderr, "line %d, seed %llu: ", __LINE__, seed); \
			fprintf(stderr, __VA_ARGS__);                            \
			fputc('\n', stderr);                                     \
			exit(1);                                                 \
		}                                                                \
	} while (0)

static unsigned long long seed;
static struct rng rng;
static struct mem_disk *disk;
static uint64_t old_sectors, new_sectors;
static bool over; /* the growth was said to be */
static uint8_t data[SECTORS_MAX][512];
static unsigned long cuts, halves;

static struct vhd_image *open_image(struct mem_disk *from, const char *when)
{
	struct vhd_image *img;
	struct vhd_error err;

	EXPECT(image_open(mem_disk_open(from, "x.vhd", true), 0, &img, &err) == 0, "%s: %s", when,
	       err.text);
	EXPECT(image_begin_write(img, 0, &err) == 0, "%s: %s", when, err.text);
	return img;
}

static void read_sector(struct vhd_image *img, uint64_t n, uint8_t out[512])
{
	struct map_ext ext;
	struct vhd_error err;

	EXPECT(image_lookup(img, n, 1, &ext, 1, &err) == 1, "sector %llu: %s",
	       (unsigned long long)n, err.text);
	memset(out, 0, 512);
	if (ext.kind == EXT_HERE)
		EXPECT(io_read(img->io, out, 512, ext.file_sector * 512) == 0, "read");
}

static void write_sector(struct vhd_image *img, uint64_t n)
{
	struct map_req req = { .sector = n, .count = 1 };
	struct vhd_error err;
	struct map_ext ext;

	for (unsigned i = 0; i < 512; i++)
		data[n][i] = (uint8_t)rng_next(&rng);
	EXPECT(image_reserve(img, &req, &ext, 1, &err) == 1, "write: %s", err.text);
	EXPECT(io_write(img->io, data[n], 512, ext.file_sector * 512) == 0, "write");
	image_written(img, &req);
}

/* One image that a cut now would leave. */
static void look(struct mem_disk *left)
{
	uint8_t first[512], last[512], bytes[512];
	struct vhd_image *img;

	mem_disk_peek(left, first, 512, 0);
	mem_disk_peek(left, last, 512, mem_disk_size(left) - 512);
	halves += memcmp(first, last, 512) != 0;
	img = open_image(left, "after a power cut");
	EXPECT(img->size == old_sectors * 512 || img->size == new_sectors * 512, "%llu bytes",
	       (unsigned long long)img->size);
	EXPECT(!over || img->size == new_sectors * 512, "it was grown, and has the old size");
	for (uint64_t n = 0; n < img->size / 512; n++) {
		read_sector(img, n, bytes);
		EXPECT(!memcmp(bytes, data[n], 512), "sector %llu is not as it was",
		       (unsigned long long)n);
	}
	EXPECT(image_finish(img, NULL) == 0, "finish");
	image_close(img);
	mem_disk_peek(left, first, 512, 0);
	mem_disk_peek(left, last, 512, mem_disk_size(left) - 512);
	EXPECT(!memcmp(first, last, 512), "the footers are not equal after writing");
	mem_disk_free(left);
	cuts++;
}

static void changed(void *arg)
{
	(void)arg;
	look(mem_disk_cut(disk, MEM_CUT_NONE, 0));
	look(mem_disk_cut(disk, MEM_CUT_ALL, 0));
	for (unsigned i = 0; mem_disk_pending(disk) && i < CUTS; i++) {
		look(mem_disk_cut(disk, MEM_CUT_PREFIX, rng_next(&rng)));
		look(mem_disk_cut(disk, MEM_CUT_RANDOM, rng_next(&rng)));
	}
}

static void grow(struct vhd_image *img)
{
	struct map_req req = { .ready = image_wait_over };
	struct vhd_footer footer = img->footer;
	uint8_t raw[VHD_FOOTER_BYTES];
	struct vhd_error err;

	footer.current_size = new_sectors * 512;
	footer_encode(&footer, raw);
	over = false;
	mem_disk_watch(disk, changed, NULL);
	EXPECT(map_resize(img->map, &req, new_sectors, raw) == 0, "resize");
	EXPECT(image_wait(img, &req) == 0, "resize: %d", req.err);
	over = true;
	changed(NULL);
	EXPECT(image_finish(img, &err) == 0, "finish: %s", err.text);
	mem_disk_watch(disk, NULL, NULL);
	image_close(img);
}

static void play(void)
{
	struct plan_spec spec = { .type = VHD_TYPE_DYNAMIC, .max_size = SECTORS_MAX * 512 };
	struct vhd_error err;
	struct vhd_image *img;
	struct vhd_io *io;
	struct plan plan;

	memset(data, 0, sizeof(data));
	old_sectors = 1 + rng_below(&rng, SECTORS_MAX / 2);
	new_sectors = old_sectors + 1 +
		      rng_below(&rng, rng_chance(&rng, 50) ? 16 : SECTORS_MAX / 2);
	spec.size = old_sectors * 512;
	spec.block_size = 4096u << rng_below(&rng, 5);
	spec.creator = rng_chance(&rng, 70) ? NULL : "win ";
	EXPECT(plan_make(&spec, &plan, &err) == 0, "plan: %s", err.text);
	disk = mem_disk_new(0, false);
	io = mem_disk_open(disk, "x.vhd", true);
	EXPECT(create_sparse(io, &plan, plan.metadata_end, &err) == 0, "create: %s", err.text);
	io_close(io);
	img = open_image(disk, "new");
	for (uint64_t n = rng_below(&rng, 40); n > 0; n--)
		write_sector(img, rng_below(&rng, old_sectors));
	if (rng_chance(&rng, 50))
		write_sector(img, old_sectors - 1);
	EXPECT(image_flush(img, &err) == 0, "flush: %s", err.text);
	grow(img);
	mem_disk_free(disk);
}

/* ── what is no growth ── */

/* Blocks of 8 sectors, the last two in use by the larger size only; the copy keeps the smaller. */
static void expect_refused(uint64_t smaller, uint64_t used, bool refused)
{
	struct plan_spec spec = { .type = VHD_TYPE_DYNAMIC, .size = 64 * 512, .block_size = 4096 };
	uint8_t raw[VHD_FOOTER_BYTES];
	struct vhd_footer footer;
	struct vhd_image *img;
	struct vhd_error err;
	struct vhd_io *io;
	struct plan plan;

	EXPECT(plan_make(&spec, &plan, &err) == 0, "plan");
	disk = mem_disk_new(0, false);
	io = mem_disk_open(disk, "x.vhd", true);
	EXPECT(create_sparse(io, &plan, plan.metadata_end, &err) == 0, "create");
	io_close(io);
	img = open_image(disk, "new");
	write_sector(img, used);
	EXPECT(image_finish(img, &err) == 0, "finish");
	image_close(img);
	for (unsigned at_end = 0; at_end < 2; at_end++) {
		struct mem_disk *copy = mem_disk_copy(disk);
		uint64_t place = at_end ? mem_disk_size(disk) - 512 : 0;

		mem_disk_peek(copy, raw, sizeof(raw), place);
		EXPECT(footer_decode(raw, &footer, NULL) == 0, "footer");
		footer.current_size = smaller * 512;
		footer_encode(&footer, raw);
		mem_disk_poke(copy, raw, sizeof(raw), place);
		EXPECT(image_open(mem_disk_open(copy, "x.vhd", true), 0, &img, &err) == 0, "open");
		EXPECT(!!(img->problems & IMAGE_FOOTERS_DIFFER) == refused, "problems %x",
		       img->problems);
		EXPECT(image_warning(img, &err), "two sizes, and readers are not warned");
		EXPECT(image_begin_write(img, 0, &err) == (refused ? -VHD_E_FOOTERS_DIFFER : 0),
		       "writing: %s", err.text);
		EXPECT(image_warning(img, &err) == refused, "warned though it is healed");
		EXPECT(refused || img->size == 64 * 512, "%llu bytes",
		       (unsigned long long)img->size);
		image_close(img);
		mem_disk_free(copy);
	}
	mem_disk_free(disk);
}

int main(void)
{
	const char *one = getenv("SEED");
	unsigned long long first = one ? strtoull(one, NULL, 0) : 1, n = one ? 1 : WORLDS;

	for (seed = first; seed < first + n; seed++) {
		rng.state = seed;
		play();
	}
	expect_refused(32, 63, true); /* a block behind the smaller end */
	expect_refused(32, 3, false);
	expect_refused(61, 62, true); /* data in the block that it ends in */
	expect_refused(61, 60, false);
	expect_refused(61, 3, false);
	EXPECT(halves, "no cut came between the two footers");
	printf("check_growth: %llu worlds, %lu cuts, %lu between the footers\n", n, cuts, halves);
	return 0;
}
