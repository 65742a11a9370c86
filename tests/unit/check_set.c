/* check_set.c - hidden and marker: which bytes change, and what a power cut leaves */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/create.h"
#include "libvhd/image.h"
#include "libvhd/io-file.h"
#include "libvhd/lock.h"
#include "tests/lib/io-mem.h"

#define MIB	   1048576ull
#define FILE_BYTES 4096u /* the images here are smaller, and padded by zeros */

static char place[] = "/tmp/check_set.XXXXXX";

static void make(const char *creator, enum vhd_type type)
{
	struct vhd_create_options o = {
		.type = type,
		.size = type == VHD_TYPE_FIXED ? 2048 : 16 * MIB,
		.creator = creator,
		.force = true,
	};
	struct vhd_error err = { 0 };

	ck_assert_msg(!vhd_create("t", &o, &err), "%s", err.text);
}

/* The file's bytes; its length. */
static size_t load(uint8_t bytes[FILE_BYTES])
{
	int fd = open("t", O_RDONLY);
	ssize_t n = read(fd, memset(bytes, 0, FILE_BYTES), FILE_BYTES);

	close(fd);
	ck_assert_int_gt(n, 0);
	return (size_t)n;
}

/* Do @a and @b differ in no bytes but those of the hidden flag and checksum of a footer at @at? */
static bool only_hidden(uint8_t *a, const uint8_t *b, size_t at)
{
	memcpy(a + at + FOOTER_CHECKSUM, b + at + FOOTER_CHECKSUM, 4);
	a[at + FOOTER_HIDDEN] = b[at + FOOTER_HIDDEN];
	return !memcmp(a + at, b + at, 512);
}

START_TEST(hidden)
{
	uint8_t before[FILE_BYTES], after[FILE_BYTES];
	struct vhd_footer f;
	size_t bytes;

	make(NULL, VHD_TYPE_DYNAMIC);
	bytes = load(before);
	ck_assert_int_eq(vhd_set("t", VHD_FIELD_HIDDEN, 1, NULL), 0);
	ck_assert_uint_eq(load(after), bytes);
	ck_assert_int_eq(footer_decode(after, &f, NULL), 0);
	ck_assert_uint_eq(f.hidden, 1);
	ck_assert_int_eq(footer_decode(after + bytes - 512, &f, NULL), 0);
	ck_assert_uint_eq(f.hidden, 1);
	ck_assert(only_hidden(before, after, 0) && only_hidden(before, after, bytes - 512));
	ck_assert(!memcmp(before, after, bytes));
	ck_assert_int_eq(vhd_set("t", VHD_FIELD_HIDDEN, 0, NULL), 0);
	load(after);
	ck_assert_int_eq(footer_decode(after, &f, NULL), 0);
	ck_assert_uint_eq(f.hidden, 0);
}
END_TEST

/* One footer is all a fixed image has; its data begins at 0. */
START_TEST(hidden_of_fixed)
{
	uint8_t before[FILE_BYTES], after[FILE_BYTES];

	make(NULL, VHD_TYPE_FIXED);
	ck_assert_uint_eq(load(before), 2560);
	ck_assert_int_eq(vhd_set("t", VHD_FIELD_HIDDEN, 1, NULL), 0);
	load(after);
	ck_assert_uint_eq(after[2048 + FOOTER_HIDDEN], 1);
	ck_assert(!memcmp(before, after, 2048));
}
END_TEST

/* One byte; nothing else, the map least of all. */
START_TEST(marker)
{
	uint8_t before[FILE_BYTES], after[FILE_BYTES];
	size_t bytes, changed = 0, at = 0;

	make(NULL, VHD_TYPE_DYNAMIC);
	bytes = load(before);
	ck_assert_int_eq(vhd_set("t", VHD_FIELD_MARKER, 0xa5, NULL), 0);
	ck_assert_uint_eq(load(after), bytes);
	for (size_t i = 0; i < bytes; i++)
		if (before[i] != after[i]) {
			changed++;
			at = i;
		}
	ck_assert_uint_eq(changed, 1);
	ck_assert_uint_eq(at, 2048 + BATMAP_MARKER);
	ck_assert_uint_eq(after[at], 0xa5);
}
END_TEST

START_TEST(no_place_for_a_marker)
{
	uint8_t before[FILE_BYTES], after[FILE_BYTES];
	struct vhd_error err = { 0 };

	make("win ", VHD_TYPE_DYNAMIC);
	load(before);
	ck_assert_int_eq(vhd_set("t", VHD_FIELD_MARKER, 1, &err), -VHD_E_UNSUPPORTED);
	ck_assert_int_eq(vhd_exit_status(err.code), EOPNOTSUPP);
	load(after);
	ck_assert(!memcmp(before, after, FILE_BYTES));
	make(NULL, VHD_TYPE_FIXED);
	ck_assert_int_eq(vhd_set("t", VHD_FIELD_MARKER, 1, &err), -VHD_E_UNSUPPORTED);
}
END_TEST

/* A footer that is missing comes back, with the new value. */
START_TEST(restores_a_footer)
{
	uint8_t bytes[FILE_BYTES];
	struct vhd_footer f;
	size_t length;

	make(NULL, VHD_TYPE_DYNAMIC);
	length = load(bytes);
	ck_assert_int_eq(truncate("t", (off_t)length - 512), 0);
	ck_assert_int_eq(vhd_set("t", VHD_FIELD_HIDDEN, 1, NULL), 0);
	length = load(bytes);
	ck_assert_int_eq(footer_decode(bytes + length - 512, &f, NULL), 0);
	ck_assert_uint_eq(f.hidden, 1);
	ck_assert(!memcmp(bytes, bytes + length - 512, 512));
}
END_TEST

START_TEST(in_use)
{
	struct vhd_error err = { 0 };
	struct vhd_io *io;

	make(NULL, VHD_TYPE_DYNAMIC);
	ck_assert_int_eq(io_file_open("t", IO_FILE_WRITE, &io, &err), 0);
	ck_assert_int_eq(lock_take(io, LOCK_WRITE, NULL, 0, NULL, &err), 0);
	ck_assert_int_eq(vhd_set("t", VHD_FIELD_HIDDEN, 1, &err), -VHD_E_BUSY);
	ck_assert_int_eq(vhd_set("t", VHD_FIELD_MARKER, 1, &err), -VHD_E_BUSY);
	lock_release(io);
	ck_assert_int_eq(lock_take(io, LOCK_READ_TOP, NULL, 0, NULL, &err), 0);
	ck_assert_int_eq(vhd_set("t", VHD_FIELD_HIDDEN, 1, &err), 0);
	io_close(io);
	ck_assert_int_eq(vhd_set("absent", VHD_FIELD_HIDDEN, 1, &err), -ENOENT);
}
END_TEST

/* ── power cuts: at every instant it opens, hidden or not ── */

static struct mem_disk *disk;
static uint64_t seed;
static unsigned differed;

static void look(void *arg)
{
	(void)arg;
	for (int how = 0; how < MEM_CUTS; how++) {
		struct mem_disk *left = mem_disk_cut(disk, (enum mem_cut)how, seed++);
		struct vhd_io *io = mem_disk_open(left, "left", true);
		struct vhd_image *img;
		struct vhd_error err = { 0 };

		ck_assert_msg(!image_open(io, 0, &img, &err), "%s", err.text);
		ck_assert_int_eq(image_load(img, 0, &err), 0);
		ck_assert(!(img->problems & ~(unsigned)IMAGE_FOOTERS_BENIGN));
		differed += img->problems != 0;
		ck_assert_uint_le(img->footer.hidden, 1);
		/* healed by the next writer */
		ck_assert_int_eq(image_begin_write(img, 0, &err), 0);
		image_close(img);
		ck_assert_int_eq(image_open(mem_disk_open(left, "left", true), 0, &img, &err), 0);
		ck_assert_uint_eq(img->problems, 0);
		image_close(img);
		mem_disk_free(left);
	}
}

START_TEST(power_cuts)
{
	struct plan_spec spec = { .type = VHD_TYPE_DYNAMIC, .size = 16 * MIB, .id = { 1 } };
	struct vhd_error err = { 0 };
	struct vhd_image *img;
	struct vhd_io *io;
	struct plan p;

	disk = mem_disk_new(0, false);
	io = mem_disk_open(disk, "disk", true);
	ck_assert_int_eq(plan_make(&spec, &p, &err), 0);
	ck_assert_int_eq(create_sparse(io, &p, p.metadata_end, &err), 0);
	ck_assert_int_eq(image_open(io, 0, &img, &err), 0);
	mem_disk_watch(disk, look, NULL);
	for (uint8_t i = 1; i <= 20; i++) {
		img->footer.hidden = i % 2;
		ck_assert_int_eq(image_store_footers(img, &err), 0);
		ck_assert_uint_eq(mem_disk_pending(disk), 0);
	}
	ck_assert_uint_gt(differed, 0); /* the watch saw the instant between */
	mem_disk_watch(disk, NULL, NULL);
	image_close(img);
	mem_disk_free(disk);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("set");
	TCase *tc = tcase_create("set");
	SRunner *runner;
	int failed;

	if (!mkdtemp(place) || chdir(place) < 0)
		return 1;
	tcase_add_test(tc, hidden);
	tcase_add_test(tc, hidden_of_fixed);
	tcase_add_test(tc, marker);
	tcase_add_test(tc, no_place_for_a_marker);
	tcase_add_test(tc, restores_a_footer);
	tcase_add_test(tc, in_use);
	tcase_add_test(tc, power_cuts);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	unlink("t");
	rmdir(place);
	return failed != 0;
}
