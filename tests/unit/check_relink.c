/* check_relink.c - an image gets parent after parent, by paths of all lengths: a model
 *
 * Images of several creators, with other locators, in storage that loses power at every step.  At
 * each instant the parent is the old or the new one, all locators that are there say so, and what
 * was written to the disk is there.
 */
#include <errno.h>
#include <string.h>

#include "libvhd/create.h"
#include "libvhd/image-private.h"
#include "libvhd/locator.h"
#include "libvhd/parent.h"
#include "libvhd/relink.h"
#include "tests/lib/io-mem.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"

#define BLOCKS 32u
#define BLOCK  8192u
#define BYTES  (BLOCKS * BLOCK)

static struct rng rng;
static struct mem_disk *disk;
static uint8_t sector_of[BYTES / 512]; /* what each sector was filled with; 0: not written */
static char old_path[PATH_TEXT_MAX], new_path[PATH_TEXT_MAX];
static uint8_t old_id, new_id;
static unsigned long flips, besides, sectors, refused, cuts, news;

static struct vhd_image *open_image(struct mem_disk *from, bool write)
{
	struct vhd_io *io = mem_disk_open(from, "image", true);
	struct vhd_error err = { 0 };
	struct vhd_image *img;

	ck_assert_msg(!image_open(io, 0, &img, &err), "%s", err.text);
	ck_assert_msg(!image_load(img, 0, &err), "%s", err.text);
	if (write)
		ck_assert_msg(!image_begin_write(img, 0, &err), "%s", err.text);
	return img;
}

/* A path as one says it from a directory: "./d/d/…/name". */
static void make_path(char *out)
{
	static const uint64_t lengths[] = { 8, 60, 250, 600, 1200, 1900 };
	uint64_t length = 6 + rng_below(&rng, lengths[rng_below(&rng, 6)]);
	size_t n = 2;

	memcpy(out, "./", 3);
	while (n < length) {
		out[n] = n % 40 == 39 && n + 5 < length ? '/' : (char)('a' + rng_below(&rng, 26));
		n++;
	}
	out[n] = 0;
}

/* Which parent the image names; all that it says of it agrees. */
static bool names(struct vhd_image *img, uint8_t id, const char *path)
{
	char stored[PATH_TEXT_MAX];
	bool relative = false;

	if (img->header.parent_uuid[0] != id)
		return false;
	ck_assert_int_eq(parent_stored(img, stored, sizeof(stored), NULL), 0);
	ck_assert_str_eq(stored, path);
	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		const struct vhd_locator_entry *e = &img->header.locators[i];
		struct locator_path *text = calloc(1, sizeof(*text));
		uint8_t *data = malloc(LOCATOR_LENGTH_MAX);

		if (e->code) {
			ck_assert(locator_usable(e, img->file_bytes));
			ck_assert_uint_ge(header_locator_room(e), e->length);
			ck_assert_int_eq(io_read(img->io, data, e->length, e->offset), 0);
			ck_assert_int_eq(locator_decode(e->code, data, e->length, text, NULL), 0);
			ck_assert_str_eq(text->text, path);
			relative |= e->code == LOCATOR_W2RU;
		}
		free(text);
		free(data);
	}
	ck_assert(relative);
	return true;
}

static void check_contents(struct vhd_image *img)
{
	uint8_t buf[512];
	struct map_ext e;

	for (uint64_t s = 0; s < BYTES / 512; s++) {
		ck_assert_int_eq(image_lookup(img, s, 1, &e, 1, NULL), 1);
		ck_assert_int_eq(e.kind == EXT_HERE, sector_of[s] != 0);
		if (!sector_of[s])
			continue;
		ck_assert_int_eq(io_read(img->io, buf, sizeof(buf), e.file_sector * 512), 0);
		for (unsigned i = 0; i < sizeof(buf); i++)
			ck_assert_uint_eq(buf[i], sector_of[s]);
	}
}

/* No structure over another one. */
static void check_places(struct vhd_image *img)
{
	struct image_region r[IMAGE_REGIONS_MAX];
	unsigned n = image_regions(img, true, r);

	for (unsigned i = 0; i < n; i++) {
		ck_assert_uint_le(r[i].offset + r[i].length, img->footer_offset);
		for (unsigned k = 0; k < i; k++)
			ck_assert(!(r[i].offset < r[k].offset + r[k].length &&
				    r[k].offset < r[i].offset + r[i].length));
	}
	ck_assert_uint_eq(img->bad_count, 0);
}

/* ── power cuts at every step ── */

static void look(void *arg)
{
	(void)arg;
	for (int how = 0; how < MEM_CUTS; how++) {
		struct mem_disk *left = mem_disk_cut(disk, (enum mem_cut)how, rng_next(&rng));
		struct vhd_image *img = open_image(left, false);
		bool is_new = names(img, new_id, new_path);

		ck_assert(is_new || names(img, old_id, old_path));
		check_contents(img);
		image_close(img);
		img = open_image(left, true); /* mended: the same parent */
		ck_assert_uint_eq(img->header.parent_uuid[0], is_new ? new_id : old_id);
		image_close(img);
		img = open_image(left, false);
		ck_assert_uint_eq(img->problems, 0);
		ck_assert_uint_eq(img->header.parent_uuid[0], is_new ? new_id : old_id);
		check_places(img);
		image_close(img);
		mem_disk_free(left);
		cuts++;
		news += is_new;
	}
}

/* ── steps ── */

static void relink_once(void)
{
	bool beside = rng_chance(&rng, 40);
	struct relink_parent parent = { .timestamp = (uint32_t)rng_below(&rng, 1000) };
	struct vhd_image *img = open_image(disk, !beside);
	struct vhd_error err = { 0 };
	struct relink plan;
	int rc;

	new_id = (uint8_t)(old_id + 1 + rng_below(&rng, 200));
	memset(parent.id, new_id, sizeof(parent.id));
	if (rng_chance(&rng, 20))
		strcpy(new_path, old_path); /* another image at the same place */
	else
		make_path(new_path);
	parent.path = new_path;
	rc = relink_plan(img, &parent, beside, &plan, &err);
	if (rc == -VHD_E_BUSY && beside) {
		refused++;
		relink_release(&plan);
		image_close(img);
		return;
	}
	ck_assert_msg(!rc, "%s", err.text);
	flips += plan.how == RELINK_FLIP;
	besides += plan.how == RELINK_BESIDE;
	sectors += plan.how == RELINK_ONE_SECTOR;
	mem_disk_watch(disk, look, NULL);
	ck_assert_msg(!relink_write(img, &plan, &err), "%s", err.text);
	ck_assert_uint_eq(mem_disk_pending(disk), 0);
	mem_disk_watch(disk, NULL, NULL);
	relink_release(&plan);
	image_close(img);
	old_id = new_id;
	strcpy(old_path, new_path);
	img = open_image(disk, false);
	ck_assert(names(img, old_id, old_path));
	ck_assert_uint_eq(img->problems, 0);
	check_contents(img);
	check_places(img);
	image_close(img);
}

static void write_some(void)
{
	struct vhd_image *img = open_image(disk, true);
	struct vhd_error err = { 0 };

	for (uint64_t n = 1 + rng_below(&rng, 5); n--;) {
		struct map_req req = { .sector = rng_below(&rng, BYTES / 512), .count = 1 };
		uint8_t buf[512], value = (uint8_t)(1 + rng_below(&rng, 255));
		struct map_ext e;

		memset(buf, value, sizeof(buf));
		ck_assert_int_eq(image_reserve(img, &req, &e, 1, &err), 1);
		ck_assert_int_eq(io_write(img->io, buf, sizeof(buf), e.file_sector * 512), 0);
		image_written(img, &req);
		sector_of[req.sector] = value;
	}
	ck_assert_msg(!image_finish(img, &err), "%s", err.text);
	image_close(img);
}

/* As other creators have it: fewer locators, in other orders, ones that nobody here writes. */
static void disfigure(struct plan *p)
{
	for (unsigned i = 0; i < PLAN_LOCATORS; i++)
		if (p->header.locators[i].code != LOCATOR_W2RU && rng_chance(&rng, 40))
			memset(&p->header.locators[i], 0, sizeof(p->header.locators[i]));
	if (rng_chance(&rng, 40)) {
		p->header.locators[7] = p->header.locators[2];
		memset(&p->header.locators[2], 0, sizeof(p->header.locators[2]));
	}
}

static void make(void)
{
	static const char *const creators[] = { NULL, NULL, "win ", "vpc " };
	struct plan_spec spec = { .type = VHD_TYPE_DIFFERENCING,
				  .size = BYTES,
				  .block_size = BLOCK,
				  .creator = creators[rng_below(&rng, 4)],
				  .id = { 1 },
				  .parent_path = old_path };
	struct vhd_error err = { 0 };
	struct vhd_io *io;
	struct plan p;

	memset(sector_of, 0, sizeof(sector_of));
	old_id = 77;
	memset(spec.parent_id, old_id, sizeof(spec.parent_id));
	strcpy(old_path, "./base.vhd");
	ck_assert_int_eq(plan_make(&spec, &p, &err), 0);
	if (spec.creator)
		disfigure(&p);
	disk = mem_disk_new(0, false);
	io = mem_disk_open(disk, "image", true);
	ck_assert_int_eq(create_sparse(io, &p, p.metadata_end, &err), 0);
	io_close(io);
}

START_TEST(model)
{
	unsigned long long seed = suite_seed(1);

	for (unsigned round = 0; round < 12 / suite_stride(3); round++) {
		rng.state = seed + round;
		make();
		for (unsigned step = 0; step < 10; step++)
			if (rng_chance(&rng, 30))
				write_some();
			else
				relink_once();
		ck_assert_uint_lt(mem_disk_size(disk), 2u * BYTES + 300000);
		mem_disk_free(disk);
	}
	printf("%lu flips, %lu beside a server, %lu in one sector, %lu without room; %lu cuts, the "
	       "new "
	       "parent after %lu\n",
	       flips, besides, sectors, refused, cuts, news);
	ck_assert(flips && besides && sectors && refused && news && news < cuts);
}
END_TEST

int main(void)
{
	const TTest *tests[] = { model, NULL };

	return suite_run("relink", tests);
}
