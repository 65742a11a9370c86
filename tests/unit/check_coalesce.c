/* check_coalesce.c - a child larger than its parent: the parent grows, and any crash on the way
 * is finished by the same merge */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libvhd/base/endian.h"
#include "libvhd/layout.h"
#include "libvhd/vhd.h"
#include "tests/lib/rng.h"

#define BLOCK  16384u
#define OLD    (9u * BLOCK + 1024) /* ends within a block */
#define NEW    (21u * BLOCK + 2048)
#define BELOW  (15u * BLOCK + 512)
#define KILLED 66

static char place[] = "/tmp/check_coalesce.XXXXXX";
static uint8_t want[NEW + 1];

static void setup(void)
{
	ck_assert_int_eq(system("rm -rf ./*"), 0);
}

static void ok(int rc, const struct vhd_error *err, const char *what)
{
	ck_assert_msg(rc >= 0, "%s: %d %s", what, rc, err->text);
}

static void put(const char *name, struct rng *r, unsigned count, uint64_t from, uint64_t size,
		uint8_t *model)
{
	struct vhd_open_options o = { .flags = VHD_OPEN_WRITE };
	static uint8_t buf[3 * BLOCK];
	struct vhd_chain *c;
	struct vhd_error err;

	ok(vhd_open(name, &o, &c, &err), &err, name);
	while (count--) {
		uint64_t at = from + rng_below(r, size - from);
		uint64_t n = 1 + rng_below(r, rng_chance(r, 50) ? 2000 : sizeof(buf));

		n = n < size - at ? n : size - at;
		memset(buf, (int)(1 + rng_below(r, 255)), n);
		ok(vhd_write(c, buf, n, at, &err), &err, "write");
		memcpy(model + at, buf, n);
	}
	ok(vhd_close(c, &err), &err, "close");
}

static void expect(const char *name, const uint8_t *model, uint64_t size)
{
	struct vhd_open_options o = { 0 };
	static uint8_t got[NEW + 1];
	uint64_t bad = 0;
	struct vhd_chain *c;
	struct vhd_error err;

	ok(vhd_open(name, &o, &c, &err), &err, name);
	ck_assert_uint_eq(vhd_size(c), size);
	ok(vhd_read(c, got, size, 0, &err), &err, "read");
	while (bad < size && got[bad] == model[bad])
		bad++;
	ck_assert_msg(bad == size, "%s: byte %llu is %u, not %u", name, (unsigned long long)bad,
		      got[bad], model[bad]);
	ok(vhd_close(c, &err), &err, "close");
}

static void expect_clean(const char *name)
{
	struct vhd_check_options o = { .bitmaps = true };
	struct vhd_check_result result;
	struct vhd_error err;

	ok(vhd_check(name, &o, &result, &err), &err, "check");
	ck_assert_msg(!result.damages && !result.warnings, "%s is damaged", name);
}

static int merge(const char *ancestor, const struct vhd_progress *progress, struct vhd_error *err)
{
	struct vhd_coalesce_options o = { .ancestor = ancestor };

	if (progress)
		o.progress = *progress;
	return vhd_coalesce("child.vhd", &o, NULL, err);
}

static void make(const char *name, uint64_t size, uint64_t max, enum vhd_type type)
{
	static const uint8_t id[16] = "sixteen bytes id";
	struct vhd_create_options o = { .type = type,
					.size = size,
					.max_size = max,
					.block_size = BLOCK,
					.id = id,
					.force = true };
	struct vhd_error err;

	ok(vhd_create(name, &o, &err), &err, "create");
}

static void link_to(const char *name, const char *parent, uint64_t size, uint64_t max, bool raw)
{
	struct vhd_snapshot_options o = { .link_empty = true,
					  .size = size,
					  .max_size = max,
					  .block_size = BLOCK,
					  .raw_parent = raw };
	struct vhd_error err;

	ok(vhd_snapshot(name, parent, &o, &err), &err, "snapshot");
}

/* below.vhd <- base.vhd <- child.vhd, or the last two; `want` is the child's disk. */
static void world(struct rng *r, bool below)
{
	memset(want, 0, sizeof(want));
	if (below) {
		/* base.vhd is smaller than its parent, as others can make it */
		make("below.vhd", OLD, 0, VHD_TYPE_DYNAMIC);
		link_to("base.vhd", "below.vhd", OLD, NEW, false);
		make("below.vhd", BELOW, 0, VHD_TYPE_DYNAMIC);
		put("below.vhd", r, 12, 0, BELOW, want);
		memset(want + OLD, 0, NEW - OLD);
	} else {
		make("base.vhd", OLD, NEW, VHD_TYPE_DYNAMIC);
	}
	put("base.vhd", r, 6, 0, OLD, want);
	link_to("child.vhd", "base.vhd", NEW, 0, false);
	put("child.vhd", r, 6, 0, NEW, want);
	put("child.vhd", r, 1, OLD, NEW, want);
}

/* Garbage behind the end of the disk, in the last block, as others may leave it. */
static void soil_tail(const char *name)
{
	uint64_t at = OLD / BLOCK * 4ull;
	uint8_t entry[4], garbage[BLOCK], ones[VHD_SECTOR];
	int fd = open(name, O_RDWR);
	uint32_t sector;

	ck_assert_int_eq(pread(fd, entry, 4, (off_t)(1536 + at)), 4);
	sector = be32_load(entry);
	if (sector != VHD_BAT_UNUSED) {
		memset(garbage, 0xdd, sizeof(garbage));
		memset(ones, 0xff, sizeof(ones));
		ck_assert_int_eq(pwrite(fd, garbage, BLOCK - OLD % BLOCK,
					(off_t)sector * VHD_SECTOR + VHD_SECTOR + OLD % BLOCK),
				 BLOCK - OLD % BLOCK);
		if (OLD % BLOCK == 1024) /* two sectors of the block are on the disk */
			ck_assert_int_eq(pwrite(fd, ones + 4, 3, (off_t)sector * VHD_SECTOR + 1),
					 3);
	}
	close(fd);
}

START_TEST(test_grow)
{
	struct rng r = { (uint64_t)_i };
	struct vhd_error err;

	world(&r, _i % 2);
	if (_i % 4 < 2)
		soil_tail("base.vhd");
	expect("child.vhd", want, NEW);
	ok(merge(NULL, NULL, &err), &err, "coalesce");
	expect("base.vhd", want, NEW);
	expect("child.vhd", want, NEW);
	expect_clean("base.vhd");
	put("base.vhd", &r, 5, 0, NEW, want);
	expect("base.vhd", want, NEW);
	expect_clean("base.vhd");
}
END_TEST

/* The checksum of the batmap covers whole sectors of it, by the size of the disk: it must be
 * right before the size changes and after. */
START_TEST(test_batmap)
{
	const uint64_t old = 4096ull * 4096, new = 3 * old;
	struct vhd_create_options create = {
		.type = VHD_TYPE_DYNAMIC, .size = old, .max_size = new, .block_size = 4096
	};
	struct vhd_snapshot_options snapshot = { .link_empty = true, .size = new };
	struct vhd_open_options o = { .flags = VHD_OPEN_WRITE };
	static uint8_t data[65536];
	struct vhd_chain *c;
	struct vhd_error err;

	memset(data, 0x77, sizeof(data));
	ok(vhd_create("base.vhd", &create, &err), &err, "create");
	ok(vhd_snapshot("child.vhd", "base.vhd", &snapshot, &err), &err, "snapshot");
	ok(vhd_open("child.vhd", &o, &c, &err), &err, "open");
	ok(vhd_write(c, data, sizeof(data), 0, &err), &err, "write");
	ok(vhd_write(c, data, sizeof(data), 2 * old, &err), &err, "write");
	ok(vhd_close(c, &err), &err, "close");
	ok(merge(NULL, NULL, &err), &err, "coalesce");
	expect_clean("base.vhd");
}
END_TEST

/* ── crashes ── */

struct killer {
	int step; /* at which progress stops the process */
};

static int kill_at(void *arg, uint64_t done, uint64_t total)
{
	struct killer *k = arg;

	(void)done;
	(void)total;
	if (k->step-- == 0)
		_exit(KILLED);
	return 0;
}

static bool killed_merge(int step)
{
	struct killer k = { step };
	struct vhd_progress progress = { .step = kill_at, .arg = &k };
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct vhd_error err;

		_exit(merge(NULL, &progress, &err) < 0 ? 1 : 0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_msg(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == KILLED, "status %d",
		      WEXITSTATUS(status));
	return WEXITSTATUS(status) == KILLED;
}

static void refused_as_top(void)
{
	struct vhd_open_options o = { 0 };
	struct vhd_chain *c;
	struct vhd_error err;

	ck_assert_int_eq(vhd_open("base.vhd", &o, &c, &err), -VHD_E_COALESCING);
}

START_TEST(test_killed)
{
	struct rng r = { (uint64_t)_i };
	struct vhd_error err;
	int step = 0;

	world(&r, _i % 2);
	while (killed_merge(step++)) {
		expect("child.vhd", want, NEW);
		refused_as_top();
	}
	ck_assert_int_gt(step, 1);
	ok(merge(NULL, NULL, &err), &err, "coalesce");
	expect("base.vhd", want, NEW);
	expect_clean("base.vhd");
}
END_TEST

/* Copies the note while it is there. */
static int keep_note(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	(void)done;
	(void)total;
	ck_assert_int_eq(system("cp base.vhd.coalesce note"), 0);
	return 0;
}

static void copy_sector(const char *from, off_t from_at, const char *to, off_t to_at)
{
	uint8_t raw[VHD_SECTOR];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY);

	ck_assert_int_eq(pread(in, raw, sizeof(raw), from_at), VHD_SECTOR);
	ck_assert_int_eq(pwrite(out, raw, sizeof(raw), to_at), VHD_SECTOR);
	close(in);
	close(out);
}

/* Power lost before, between (_i & 1) and after the two footers. */
START_TEST(test_footers)
{
	struct rng r = { (uint64_t)_i };
	struct vhd_progress progress = { .step = keep_note };
	struct vhd_error err;
	struct stat st;

	world(&r, _i % 4 >= 2);
	ck_assert_int_eq(system("cp base.vhd before.vhd"), 0);
	ok(merge(NULL, &progress, &err), &err, "coalesce");
	ck_assert_int_eq(stat("base.vhd", &st), 0);
	copy_sector("before.vhd", 0, "base.vhd", 0);
	if (_i % 2)
		copy_sector("before.vhd", 0, "base.vhd", st.st_size - VHD_SECTOR);
	ck_assert_int_eq(system("mv note base.vhd.coalesce"), 0);
	expect("child.vhd", want, NEW);
	refused_as_top();
	ok(merge(NULL, NULL, &err), &err, "coalesce again");
	expect("base.vhd", want, NEW);
	expect_clean("base.vhd");
}
END_TEST

/* Without a note nobody knows which size is right. */
START_TEST(test_unknown)
{
	struct rng r = { 5 };
	struct vhd_error err;

	world(&r, false);
	ck_assert_int_eq(system("cp base.vhd before.vhd"), 0);
	ok(merge(NULL, NULL, &err), &err, "coalesce");
	copy_sector("before.vhd", 0, "base.vhd", 0);
	ck_assert_int_eq(merge(NULL, NULL, &err), -VHD_E_FOOTERS_DIFFER);
}
END_TEST

/* ── who cannot grow ── */

static void expect_refused(enum vhd_type type, const char *advice)
{
	struct vhd_error err;
	struct rng r = { 1 };

	memset(want, 0, sizeof(want));
	make("base.vhd", OLD, 0, type);
	link_to("child.vhd", "base.vhd", NEW, 0, false);
	ok(merge(NULL, NULL, &err), &err, "nothing beyond the end");
	expect("base.vhd", want, OLD);
	put("child.vhd", &r, 1, NEW - BLOCK, NEW, want);
	ck_assert_int_eq(system("cp base.vhd before.vhd"), 0);
	ck_assert_int_eq(merge(NULL, NULL, &err), -VHD_E_RANGE);
	ck_assert_int_eq(vhd_exit_status(err.code), 34);
	ck_assert_msg(strstr(err.text, advice), "%s", err.text);
	ck_assert_int_eq(system("cmp base.vhd before.vhd && ! test -e base.vhd.coalesce"), 0);
}

START_TEST(test_no_room)
{
	if (_i)
		expect_refused(VHD_TYPE_FIXED, "vhd-util resize -n '");
	else
		expect_refused(VHD_TYPE_DYNAMIC, "-s 1 -j JOURNAL");
}
END_TEST

START_TEST(test_spare_entries)
{
	struct rng r = { 3 };
	struct vhd_error err;
	uint8_t entry[4] = { 0, 0, 1, 0 };
	int fd;

	world(&r, false);
	fd = open("base.vhd", O_WRONLY);
	ck_assert_int_eq(pwrite(fd, entry, 4, 1536 + 4 * (NEW / BLOCK)), 4);
	close(fd);
	ck_assert_int_eq(merge(NULL, NULL, &err), -VHD_E_BAT_ENTRY);
	expect("child.vhd", want, NEW);
	ck_assert_int_eq(access("base.vhd.coalesce", F_OK), -1);
}
END_TEST

START_TEST(test_raw)
{
	struct rng r = { (uint64_t)_i };
	struct vhd_error err;
	FILE *f = fopen("disk.raw", "w");

	memset(want, 0, sizeof(want));
	for (int i = 0; i < 100000 + _i; i++) /* not whole sectors either */
		fputc(want[i] = (uint8_t)(i * 7 + 1), f);
	fclose(f);
	link_to("child.vhd", "disk.raw", NEW, 0, true);
	put("child.vhd", &r, 4, 0, NEW, want);
	put("child.vhd", &r, 1, 120000, NEW, want);
	for (int step = 0; killed_merge(step); step++)
		expect("child.vhd", want, NEW);
	ok(merge(NULL, NULL, &err), &err, "coalesce");
	f = fopen("want.raw", "w");
	fwrite(want, 1, NEW, f);
	fclose(f);
	ck_assert_int_eq(system("cmp disk.raw want.raw"), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("coalesce");
	TCase *t = tcase_create("grow");
	SRunner *runner;
	int failed;

	if (!mkdtemp(place) || chdir(place) < 0)
		return 1;
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_loop_test(t, test_grow, 0, 24);
	tcase_add_test(t, test_batmap);
	tcase_add_loop_test(t, test_killed, 0, 6);
	tcase_add_loop_test(t, test_footers, 0, 8);
	tcase_add_test(t, test_unknown);
	tcase_add_loop_test(t, test_no_room, 0, 2);
	tcase_add_test(t, test_spare_entries);
	tcase_add_loop_test(t, test_raw, 0, 3);
	tcase_set_timeout(t, 60);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	if (chdir("/") == 0 && strncmp(place, "/tmp/", 5) == 0) {
		char command[64];

		snprintf(command, sizeof(command), "rm -rf %s", place);
		failed |= system(command);
	}
	return failed ? 1 : 0;
}
