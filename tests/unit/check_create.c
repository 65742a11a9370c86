/* check_create.c - the layout of new images, their reach, and power cuts while they are made */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/bitmap.h"
#include "libvhd/create.h"
#include "libvhd/image.h"
#include "tests/lib/io-mem.h"

#define MIB 1048576ull
#define GIB (1024 * MIB)

static struct plan_spec dynamic(uint64_t size, uint32_t block_size)
{
	return (struct plan_spec){
		.type = VHD_TYPE_DYNAMIC,
		.size = size,
		.block_size = block_size,
		.id = { 7, 7, 7 },
	};
}

/* Everything in its place, nothing over anything else, in the order of plan.h. */
START_TEST(layout)
{
	struct plan_spec spec = dynamic(16 * GIB, 0);
	struct plan p;

	ck_assert_int_eq(plan_make(&spec, &p, NULL), 0);
	ck_assert_uint_eq(p.footer.data_offset, 512);
	ck_assert_uint_eq(p.header.table_offset, 1536);
	ck_assert_uint_eq(p.header.max_entries, 8192);
	ck_assert_uint_eq(p.bat_bytes, 32768);
	ck_assert(p.batmap);
	ck_assert_uint_eq(p.batmap_at, 1536 + 32768);
	ck_assert_uint_eq(p.batmap_bytes, 1024);
	ck_assert_uint_eq(p.metadata_end, p.batmap_at + 512 + 2 * 1024);
	ck_assert_uint_eq(p.locators_at, 0);
	ck_assert(p.align);

	spec.type = VHD_TYPE_DIFFERENCING;
	spec.parent_path = "./p.vhd";
	memset(spec.parent_id, 9, 16);
	ck_assert_int_eq(plan_make(&spec, &p, NULL), 0);
	ck_assert_uint_eq(p.locators_at, p.batmap_at + 512 + 2 * 1024);
	ck_assert_uint_eq(p.metadata_end, p.locators_at + 3 * 1024 + 1024 + 3 * 1024);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(p.header.locators[i].offset, p.locators_at + i * 1024);
		ck_assert_uint_eq(p.header.locators[i].space, 1024);
	}
	ck_assert(!memcmp(p.header.parent_name, "\0p\0.\0v\0h\0d\0\0", 12));
	ck_assert(!memcmp(p.locators[0], "file://./p.vhd", 14));
	ck_assert(!memcmp(p.locators[2], ".\0\\\0p\0.\0v\0", 10));
	ck_assert_uint_eq(p.header.locators[2].code, 0x57327275);
}
END_TEST

/* Other creators: no batmap, no entry too many; geometry never beyond the size. */
START_TEST(other_creators)
{
	const char *const creators[] = { "win ", "qem2", NULL };

	for (unsigned i = 0; i < 3; i++)
		for (uint64_t size = 512; size < 3 * GIB; size = size * 3 + 512) {
			struct plan_spec spec = dynamic(size, 0);
			struct plan p;

			spec.creator = creators[i];
			ck_assert_int_eq(plan_make(&spec, &p, NULL), 0);
			ck_assert(p.batmap == !creators[i]);
			ck_assert(p.batmap == footer_has_batmap(&p.footer));
			ck_assert_uint_eq(p.header.max_entries, (size + 2 * MIB - 1) / (2 * MIB));
			ck_assert_uint_le(footer_chs_bytes(&p.footer), size);
			ck_assert_uint_eq(p.footer.current_size, size);
		}
}
END_TEST

/* The last block of a full image ends where an entry can still name it. */
static bool fits_by_counting(const struct plan *p, bool aligned)
{
	uint32_t sectors = p->header.block_size / 512, stride = bitmap_stride(sectors);
	uint64_t at = p->metadata_end / 512;

	for (uint32_t i = 0; i < p->header.max_entries; i++) {
		if (aligned)
			at = bitmap_align(at, sectors);
		if (at + stride > 0xfffffffeull)
			return false;
		at += stride;
	}
	return true;
}

START_TEST(reach)
{
	static const struct {
		uint64_t size;
		uint32_t block_size;
		bool made, aligned;
	} rows[] = {
		{ 2040 * GIB, 2 * MIB, true, true },
		{ 2040 * GIB + 512, 2 * MIB, false, false },
		{ 2040 * GIB, 64 * MIB, true, true },
		{ 2040 * GIB, 512 << 10, true, false }, /* packed, just so */
		{ 2040 * GIB, 4096, false, false },
		{ 1020 * GIB, 4096, true, true },
		{ 1800 * GIB, 4096, true, false },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct plan_spec spec = dynamic(rows[i].size, rows[i].block_size);
		struct vhd_error err = { 0 };
		struct plan p;
		int rc = plan_make(&spec, &p, &err);

		if (!rows[i].made) {
			ck_assert_int_eq(rc, -VHD_E_TOO_BIG);
			ck_assert_int_eq(vhd_exit_status(rc), ERANGE);
			continue;
		}
		ck_assert_msg(rc == 0, "row %u: %s", i, err.text);
		ck_assert_msg(fits_by_counting(&p, p.align), "row %u does not fit", i);
		if (p.align)
			ck_assert(rows[i].aligned);
		else
			ck_assert_msg(!fits_by_counting(&p, true), "row %u could be aligned", i);
	}
}
END_TEST

/* Room for growth counts: what it promises must be within reach. */
START_TEST(room_to_grow)
{
	struct plan_spec spec = dynamic(GIB, 0);
	struct plan p;

	spec.max_size = 100 * GIB;
	ck_assert_int_eq(plan_make(&spec, &p, NULL), 0);
	ck_assert_uint_eq(p.header.max_entries, 51200);
	ck_assert_uint_eq(p.blocks, 512);
	spec.max_size = 2041 * GIB;
	ck_assert_int_eq(plan_make(&spec, &p, NULL), -VHD_E_TOO_BIG);
	spec.max_size = GIB - 512;
	ck_assert_int_eq(plan_make(&spec, &p, NULL), -VHD_E_ARGUMENT);
}
END_TEST

START_TEST(refused)
{
	static const struct {
		uint64_t size;
		uint32_t block_size;
	} rows[] = { { 0, 0 },	    { 513, 0 },		{ MIB, 3 << 20 },
		     { MIB, 2048 }, { MIB, 128 << 20 }, { MIB, 4097 } };

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct plan_spec spec = dynamic(rows[i].size, rows[i].block_size);
		struct plan p;

		ck_assert_int_eq(plan_make(&spec, &p, NULL), -VHD_E_ARGUMENT);
	}
}
END_TEST

START_TEST(names_of_parents)
{
	char name[600];
	struct plan_spec spec = dynamic(MIB, 0);
	struct plan p;

	spec.type = VHD_TYPE_DIFFERENCING;
	spec.parent_path = name;
	strcpy(name, "./a\\b.vhd");
	ck_assert_int_eq(plan_make(&spec, &p, NULL), -VHD_E_NAME);
	strcpy(name, "./a\xff.vhd");
	ck_assert_int_eq(plan_make(&spec, &p, NULL), -VHD_E_NAME);
	strcpy(name, "./\xc3\xa4\xf0\x9f\x98\x80.vhd");
	ck_assert_int_eq(plan_make(&spec, &p, NULL), 0);
	memset(name, 'a', sizeof(name));
	memcpy(name, "./", 2);
	name[2 + 256] = '\0';
	ck_assert_int_eq(plan_make(&spec, &p, NULL), 0);
	name[2 + 256] = 'a';
	name[2 + 257] = '\0';
	ck_assert_int_eq(plan_make(&spec, &p, NULL), -VHD_E_NAME);
}
END_TEST

/* ── power cuts ── */

static struct {
	struct mem_disk *disk;
	uint64_t seed;
	uint8_t old_id[16];
	unsigned opened, absent;
} cut;

/* What a cut leaves is no image, or this one, whole; never an old one with new tables. */
static void look(void *arg)
{
	(void)arg;
	for (int how = 0; how < MEM_CUTS; how++) {
		struct mem_disk *left = mem_disk_cut(cut.disk, (enum mem_cut)how, cut.seed++);
		struct vhd_io *io = mem_disk_open(left, "left", true);
		struct vhd_image *img = NULL;
		struct vhd_error err = { 0 };

		if (image_open(io, 0, &img, &err) < 0) {
			io_close(io);
			cut.absent++;
		} else {
			int rc = image_load(img, 0, &err);

			if (img->footer.uuid[0] == 7) {
				ck_assert_msg(!rc, "new, and torn: %s", err.text);
				ck_assert(!(img->problems & (IMAGE_BAT_FAULTS | IMAGE_BATMAP_BAD)));
				ck_assert_uint_eq(img->totals.allocated, 0);
				ck_assert_uint_eq(img->size, 80 * MIB);
				cut.opened++;
			} else {
				/* still the old one: only before anything of it was touched */
				ck_assert_uint_eq(img->footer.uuid[0], 3);
				ck_assert_uint_eq(img->size, 64 * MIB);
				ck_assert_uint_eq(img->blocks, 1024);
				ck_assert(!(img->problems & IMAGE_BAT_FAULTS));
			}
			image_close(img);
		}
		mem_disk_free(left);
	}
}

static void cut_everywhere(bool device)
{
	struct plan_spec old = dynamic(64 * MIB, 65536), spec = dynamic(80 * MIB, 4096);
	uint64_t bytes = device ? 4 * MIB : 0;
	struct vhd_error err = { 0 };
	struct vhd_io *io;
	struct plan p;

	for (int repeat = 0; repeat < 50; repeat++) {
		memset(&cut, 0, sizeof(cut));
		cut.seed = (uint64_t)repeat * 1000;
		cut.disk = mem_disk_new(bytes, device);
		io = mem_disk_open(cut.disk, "disk", true);
		if (device) { /* an image is there already */
			old.id[0] = 3;
			ck_assert_int_eq(plan_make(&old, &p, &err), 0);
			ck_assert_int_eq(create_sparse(io, &p, bytes - 512, &err), 0);
		}
		ck_assert_int_eq(plan_make(&spec, &p, &err), 0);
		mem_disk_watch(cut.disk, look, NULL);
		ck_assert_int_eq(create_sparse(io, &p, device ? bytes - 512 : p.metadata_end, &err),
				 0);
		ck_assert_uint_eq(mem_disk_pending(cut.disk), 0);
		mem_disk_watch(cut.disk, NULL, NULL);
		ck_assert_uint_gt(cut.opened, 0);
		ck_assert_uint_gt(cut.absent, 0);
		io_close(io);
		mem_disk_free(cut.disk);
	}
}

START_TEST(cut_on_device)
{
	cut_everywhere(true);
}
END_TEST

START_TEST(cut_in_file)
{
	cut_everywhere(false);
}
END_TEST

/* Each operation fails in turn: told, and nothing is called an image that is none. */
START_TEST(every_operation_fails)
{
	struct plan_spec spec = dynamic(40 * MIB, 4096);
	struct vhd_error err = { 0 };
	struct plan p;
	unsigned n = 0;

	ck_assert_int_eq(plan_make(&spec, &p, &err), 0);
	for (;; n++) {
		struct mem_disk *disk = mem_disk_new(0, false);
		struct vhd_io *io = mem_disk_open(disk, "disk", true);
		bool failed;
		int rc;

		mem_disk_fail(disk, n, 1, -EIO);
		rc = create_sparse(io, &p, p.metadata_end, &err);
		failed = mem_disk_failed(disk);
		ck_assert_int_eq(rc, failed ? -EIO : 0);
		io_close(io);
		mem_disk_free(disk);
		if (!failed)
			break;
		ck_assert_ptr_nonnull(strstr(err.text, "disk"));
	}
	ck_assert_uint_ge(n, 6);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("create");
	TCase *tc = tcase_create("create");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, layout);
	tcase_add_test(tc, other_creators);
	tcase_add_test(tc, reach);
	tcase_add_test(tc, room_to_grow);
	tcase_add_test(tc, refused);
	tcase_add_test(tc, names_of_parents);
	tcase_add_test(tc, cut_on_device);
	tcase_add_test(tc, cut_in_file);
	tcase_add_test(tc, every_operation_fails);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
