/* check_snapshot.c - which image a child is linked to, what it says of it, what is refused */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/chain.h"
#include "libvhd/io-file.h"
#include "libvhd/path.h"

#define MIB 1048576ull

static char place[] = "/tmp/check_snapshot.XXXXXX";
static struct vhd_error err;

static int clear(void)
{
	return system("rm -rf ./* ./.[a-z]*");
}

static void setup(void)
{
	ck_assert_int_eq(clear(), 0);
	memset(&err, 0, sizeof(err));
}

static void create(const char *name, uint64_t size)
{
	struct vhd_create_options o = { .type = VHD_TYPE_DYNAMIC, .size = size };

	ck_assert_msg(!vhd_create(name, &o, &err), "%s", err.text);
}

static int snap(const char *child, const char *parent)
{
	const struct vhd_snapshot_options o = { 0 };

	return vhd_snapshot(child, parent, &o, &err);
}

static void put(const char *name, const char *text, uint64_t offset)
{
	const struct vhd_open_options o = { .flags = VHD_OPEN_WRITE };
	struct vhd_chain *chain;

	ck_assert_msg(!vhd_open(name, &o, &chain, &err), "%s", err.text);
	ck_assert_int_eq(vhd_write(chain, text, strlen(text), offset, &err), 0);
	ck_assert_int_eq(vhd_close(chain, &err), 0);
}

/* Does the disk of @name hold @text at @offset? */
static bool holds(const char *name, const char *text, uint64_t offset)
{
	struct vhd_chain *chain;
	char seen[64];

	ck_assert_msg(!vhd_open(name, NULL, &chain, &err), "%s", err.text);
	ck_assert_int_eq(vhd_read(chain, seen, strlen(text), offset, &err), 0);
	vhd_close(chain, NULL);
	return !memcmp(seen, text, strlen(text));
}

/* Base name of the parent of @name, its depth and size in *depth, *size. */
static const char *parent_of(const char *name, unsigned *depth, uint64_t *size)
{
	static char base[NAME_MAX + 1];
	struct vhd_chain *chain;

	ck_assert_msg(!vhd_open(name, NULL, &chain, &err), "%s", err.text);
	*depth = vhd_depth(chain);
	*size = vhd_size(chain);
	snprintf(base, sizeof(base), "%s", path_base_name(chain->images[1]->io->name));
	vhd_close(chain, NULL);
	return base;
}

START_TEST(child_of_data)
{
	unsigned depth;
	uint64_t size;

	create("p.vhd", 6 * MIB);
	put("p.vhd", "below", 100);
	ck_assert_int_eq(snap("c.vhd", "p.vhd"), 0);
	ck_assert_str_eq(parent_of("c.vhd", &depth, &size), "p.vhd");
	ck_assert_uint_eq(depth, 2);
	ck_assert_uint_eq(size, 6 * MIB);
	ck_assert(holds("c.vhd", "below", 100));
	put("c.vhd", "above", 100);
	ck_assert(holds("c.vhd", "above", 100));
	ck_assert(holds("p.vhd", "below", 100));
}
END_TEST

START_TEST(past_empty_parents)
{
	const struct vhd_snapshot_options bound = { .link_empty = true };
	unsigned depth;
	uint64_t size;

	create("a.vhd", 6 * MIB);
	put("a.vhd", "data", 0);
	ck_assert_int_eq(vhd_snapshot("b.vhd", "a.vhd", &bound, &err), 0);
	ck_assert_int_eq(vhd_snapshot("c.vhd", "b.vhd", &bound, &err), 0);
	ck_assert_int_eq(snap("d.vhd", "c.vhd"), 0);
	ck_assert_str_eq(parent_of("d.vhd", &depth, &size), "a.vhd");
	ck_assert_uint_eq(depth, 2);
	ck_assert_int_eq(vhd_snapshot("e.vhd", "c.vhd", &bound, &err), 0);
	ck_assert_str_eq(parent_of("e.vhd", &depth, &size), "c.vhd");
	ck_assert_uint_eq(depth, 4);
}
END_TEST

/* The size is that of the parent given, not of the one linked to. */
START_TEST(grown_empty_parent)
{
	const struct vhd_snapshot_options grown = { .link_empty = true, .size = 10 * MIB };
	unsigned depth;
	uint64_t size;

	create("a.vhd", 6 * MIB);
	put("a.vhd", "data", 0);
	ck_assert_int_eq(vhd_snapshot("b.vhd", "a.vhd", &grown, &err), 0);
	ck_assert_int_eq(snap("c.vhd", "b.vhd"), 0);
	ck_assert_str_eq(parent_of("c.vhd", &depth, &size), "a.vhd");
	ck_assert_uint_eq(size, 10 * MIB);
}
END_TEST

/* An empty layer that is shorter than what is below hides its end: no way past it
 * for a child that is longer. */
START_TEST(short_empty_parent)
{
	const struct vhd_snapshot_options grown = { .size = 6 * MIB };
	const struct vhd_snapshot_options bound = { .link_empty = true };
	unsigned depth;
	uint64_t size;

	create("a.vhd", 6 * MIB);
	put("a.vhd", "ghost", 5 * MIB);
	ck_assert_int_eq(vhd_snapshot("b.vhd", "a.vhd", &bound, &err), 0);
	/* as a tool that shrinks leaves it */
	{
		struct vhd_io *io;
		struct vhd_image *img;

		ck_assert_int_eq(io_file_open("b.vhd", IO_FILE_WRITE, &io, &err), 0);
		ck_assert_int_eq(image_open(io, 0, &img, &err), 0);
		img->footer.current_size = 4 * MIB;
		ck_assert_int_eq(image_store_footers(img, &err), 0);
		image_close(img);
	}
	ck_assert_int_eq(vhd_snapshot("c.vhd", "b.vhd", &grown, &err), 0);
	ck_assert_str_eq(parent_of("c.vhd", &depth, &size), "b.vhd");
	ck_assert(!holds("c.vhd", "ghost", 5 * MIB));
	/* a child no longer than it can do without it */
	ck_assert_int_eq(snap("d.vhd", "b.vhd"), 0);
	ck_assert_str_eq(parent_of("d.vhd", &depth, &size), "a.vhd");
	ck_assert_uint_eq(size, 4 * MIB);
}
END_TEST

START_TEST(depth_and_limit)
{
	struct vhd_snapshot_options o = { .link_empty = true };
	char parent[16] = "0.vhd", child[16];

	create(parent, 2 * MIB);
	for (int i = 1; i < 256; i++) {
		snprintf(child, sizeof(child), "%d.vhd", i);
		ck_assert_msg(!vhd_snapshot(child, parent, &o, &err), "%s", err.text);
		strcpy(parent, child);
	}
	ck_assert_int_eq(vhd_snapshot("x.vhd", parent, &o, &err), -VHD_E_TOO_DEEP);
	ck_assert_int_eq(vhd_exit_status(err.code), ELOOP);
	o.limit = 10;
	ck_assert_int_eq(vhd_snapshot("x.vhd", "8.vhd", &o, &err), 0);
	ck_assert_int_eq(vhd_snapshot("y.vhd", "9.vhd", &o, &err), -VHD_E_LIMIT);
	ck_assert_int_eq(vhd_exit_status(err.code), ENOSPC);
	ck_assert_int_ne(access("y.vhd", F_OK), 0);
	o.link_empty = false; /* past all the empty ones: two are few */
	o.limit = 2;
	ck_assert_int_eq(vhd_snapshot("y.vhd", "200.vhd", &o, &err), 0);
}
END_TEST

START_TEST(refused)
{
	const struct vhd_snapshot_options force = { .force = true };
	struct vhd_snapshot_options shrunk = { .size = 2 * MIB };
	struct vhd_image *img;
	struct vhd_io *io;

	create("p.vhd", 6 * MIB);
	ck_assert_int_eq(snap("c.vhd", "absent.vhd"), -ENOENT);
	ck_assert_int_eq(snap("no/c.vhd", "p.vhd"), -ENOENT);
	ck_assert_int_eq(vhd_snapshot("c.vhd", "p.vhd", &shrunk, &err), -VHD_E_ARGUMENT);
	ck_assert_int_eq(vhd_snapshot("p.vhd", "p.vhd", &force, &err), -VHD_E_CYCLE);
	ck_assert_int_eq(snap("c.vhd", "p.vhd"), 0);
	ck_assert_int_eq(snap("c.vhd", "p.vhd"), -EEXIST);
	ck_assert_int_eq(vhd_snapshot("c.vhd", "p.vhd", &force, &err), 0);
	put("c.vhd", "x", 0);
	ck_assert_int_eq(vhd_snapshot("p.vhd", "c.vhd", &force, &err), -VHD_E_CYCLE);
	ck_assert(holds("c.vhd", "x", 0));

	/* an id of zeros is how a raw parent is told */
	ck_assert_int_eq(io_file_open("p.vhd", IO_FILE_WRITE, &io, &err), 0);
	ck_assert_int_eq(image_open(io, 0, &img, &err), 0);
	memset(img->footer.uuid, 0, 16);
	ck_assert_int_eq(image_store_footers(img, &err), 0);
	image_close(img);
	ck_assert_int_eq(snap("z.vhd", "p.vhd"), -VHD_E_PARENT_ID);

	create("a\\b.vhd", 2 * MIB);
	ck_assert_int_eq(snap("z.vhd", "a\\b.vhd"), -VHD_E_NAME);
	create("\xff.vhd", 2 * MIB);
	ck_assert_int_eq(snap("z.vhd", "\xff.vhd"), -VHD_E_NAME);
	ck_assert_int_ne(access("z.vhd", F_OK), 0);
}
END_TEST

/* Write the entry of @block of @name, made with 2 MiB blocks. */
static void set_entry(const char *name, uint32_t block, uint32_t entry)
{
	uint8_t raw[4] = { (uint8_t)(entry >> 24), (uint8_t)(entry >> 16), (uint8_t)(entry >> 8),
			   (uint8_t)entry };
	struct vhd_io *io;

	ck_assert_int_eq(io_file_open(name, IO_FILE_WRITE, &io, &err), 0);
	ck_assert_int_eq(io_write(io, raw, sizeof(raw), 1536 + block * 4ull), 0);
	io_close(io);
}

/* One pass over the parent's table: an entry that points nowhere is refused and told, whichever
 * it is; the very last is enough for an image not to be empty. */
START_TEST(tables)
{
	const uint64_t size = 400ull << 30; /* a table of several pieces */
	const uint32_t last = (uint32_t)(size / (2 * MIB)) - 1;
	struct vhd_snapshot_options bound = { .link_empty = true };
	unsigned depth;

	create("a.vhd", size);
	put("a.vhd", "data", 0);
	ck_assert_int_eq(vhd_snapshot("b.vhd", "a.vhd", &bound, &err), 0);
	put("b.vhd", "data", size - 4);
	ck_assert_int_eq(snap("c.vhd", "b.vhd"), 0);
	ck_assert_str_eq(parent_of("c.vhd", &depth, &(uint64_t){ 0 }), "b.vhd");
	for (uint32_t block = 1; block <= last; block += last / 3) {
		set_entry("b.vhd", block, 7 << 20);
		ck_assert_int_eq(snap("d.vhd", "b.vhd"), -VHD_E_BAT_ENTRY);
		ck_assert_uint_eq(err.offset, 1536 + block * 4ull);
		set_entry("b.vhd", block, UINT32_MAX);
	}
	set_entry("b.vhd", last, 1); /* over the header: damage, and not empty */
	ck_assert_int_eq(snap("d.vhd", "b.vhd"), -VHD_E_BAT_ENTRY);
	ck_assert_int_ne(access("d.vhd", F_OK), 0);
	set_entry("b.vhd", last, UINT32_MAX);
	ck_assert_int_eq(snap("d.vhd", "b.vhd"), 0);
	ck_assert_str_eq(parent_of("d.vhd", &depth, &(uint64_t){ 0 }), "a.vhd");
}
END_TEST

static void count_warning(void *arg, const struct vhd_error *warning)
{
	unsigned *told = arg;

	ck_assert_int_eq(warning->code, -VHD_E_FOOTER_MISSING);
	(*told)++;
}

START_TEST(parent_lacks_a_footer)
{
	unsigned told = 0;
	const struct vhd_snapshot_options o = {
		.force = true, .progress = { .warn = count_warning, .arg = &told }
	};
	struct stat st;

	create("p.vhd", 6 * MIB);
	put("p.vhd", "x", 0);
	ck_assert_int_eq(vhd_snapshot("c.vhd", "p.vhd", &o, &err), 0);
	ck_assert_uint_eq(told, 0);
	ck_assert_int_eq(stat("p.vhd", &st), 0);
	ck_assert_int_eq(truncate("p.vhd", st.st_size - 512), 0);
	ck_assert_int_eq(vhd_snapshot("c.vhd", "p.vhd", &o, &err), 0);
	ck_assert_uint_eq(told, 1);
	ck_assert(holds("c.vhd", "x", 0));
}
END_TEST

START_TEST(parent_in_use)
{
	struct vhd_io *io;

	create("p.vhd", 6 * MIB);
	ck_assert_int_eq(io_file_open("p.vhd", IO_FILE_WRITE, &io, &err), 0);
	ck_assert_int_eq(lock_take(io, LOCK_WRITE, NULL, 0, NULL, &err), 0);
	ck_assert_int_eq(snap("c.vhd", "p.vhd"), -VHD_E_BUSY);
	lock_release(io);
	ck_assert_int_eq(lock_take(io, LOCK_PARKED, NULL, 0, NULL, &err), 0);
	ck_assert_int_eq(snap("c.vhd", "p.vhd"), 0);
	lock_release(io);
	ck_assert_int_eq(vhd_set("p.vhd", VHD_FIELD_HIDDEN, 1, &err), 0);
	ck_assert_int_eq(snap("d.vhd", "p.vhd"), 0);
	io_close(io);
}
END_TEST

START_TEST(raw_parent)
{
	const struct vhd_snapshot_options o = { .raw_parent = true };
	struct vhd_io *io;
	unsigned depth;
	uint64_t size;
	int fd = open("p.img", O_WRONLY | O_CREAT, 0666);

	ck_assert_int_eq((int)pwrite(fd, "raw disk", 8, 3 * MIB), 8); /* no whole sector */
	close(fd);
	ck_assert_int_eq(vhd_snapshot("c.vhd", "p.img", &o, &err), 0);
	ck_assert_str_eq(parent_of("c.vhd", &depth, &size), "p.img");
	ck_assert_uint_eq(size, 3 * MIB + 512);
	ck_assert(holds("c.vhd", "raw disk", 3 * MIB));
	put("c.vhd", "new disk", 3 * MIB);
	ck_assert(holds("c.vhd", "new disk", 3 * MIB));
	ck_assert_int_eq(io_file_open("p.img", IO_FILE_WRITE, &io, &err), 0);
	ck_assert_int_eq(lock_take(io, LOCK_WRITE, NULL, 0, NULL, &err), 0);
	ck_assert_int_eq(vhd_snapshot("d.vhd", "p.img", &o, &err), -VHD_E_BUSY);
	io_close(io);
	ck_assert_int_eq(snap("d.vhd", "p.img"), -VHD_E_NOT_VHD);
	ck_assert_int_eq(vhd_snapshot("d.vhd", ".", &o, &err), -VHD_E_NOT_FILE);
}
END_TEST

/* The stored path is between real directories, whatever links were named. */
START_TEST(through_links)
{
	char stored[PATH_TEXT_MAX];
	struct vhd_image *img;
	struct vhd_io *io;
	unsigned depth;
	uint64_t size;

	ck_assert_int_eq(system("mkdir -p x/y z; ln -s x/y short; ln -s ../z x/there"), 0);
	create("z/p.vhd", 6 * MIB);
	put("z/p.vhd", "data", 0);
	ck_assert_int_eq(symlink("z/p.vhd", "p"), 0);
	ck_assert_int_eq(snap("short/c.vhd", "p"), 0);
	ck_assert_int_eq(io_file_open("x/y/c.vhd", 0, &io, &err), 0);
	ck_assert_int_eq(image_open(io, 0, &img, &err), 0);
	ck_assert_int_eq(chain_stored_parent(img, stored, sizeof(stored), &err), 0);
	ck_assert_str_eq(stored, "../../z/p.vhd");
	image_close(img);
	ck_assert_str_eq(parent_of("x/y/c.vhd", &depth, &size), "p.vhd");
	/* a child that is a link to an empty file: written behind it, named from there */
	ck_assert_int_eq(system(": >x/empty.vhd; ln -s x/empty.vhd child"), 0);
	ck_assert_int_eq(snap("child", "z/p.vhd"), 0);
	ck_assert_str_eq(parent_of("x/empty.vhd", &depth, &size), "p.vhd");
	ck_assert_str_eq(parent_of("child", &depth, &size), "p.vhd");
}
END_TEST

START_TEST(dry_run)
{
	struct vhd_snapshot_options o = { .dry_run = true };

	create("p.vhd", 6 * MIB);
	ck_assert_int_eq(vhd_snapshot("c.vhd", "p.vhd", &o, &err), 0);
	ck_assert_int_ne(access("c.vhd", F_OK), 0);
	ck_assert_int_eq(snap("c.vhd", "p.vhd"), 0);
	ck_assert_int_eq(vhd_snapshot("c.vhd", "p.vhd", &o, &err), -EEXIST);
	ck_assert_int_eq(vhd_snapshot("d.vhd", "absent", &o, &err), -ENOENT);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("snapshot");
	TCase *tc = tcase_create("snapshot");
	SRunner *runner;
	int failed;

	if (!mkdtemp(place) || chdir(place) < 0)
		return 1;
	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, child_of_data);
	tcase_add_test(tc, past_empty_parents);
	tcase_add_test(tc, grown_empty_parent);
	tcase_add_test(tc, short_empty_parent);
	tcase_add_test(tc, depth_and_limit);
	tcase_add_test(tc, refused);
	tcase_add_test(tc, tables);
	tcase_add_test(tc, parent_lacks_a_footer);
	tcase_add_test(tc, parent_in_use);
	tcase_add_test(tc, raw_parent);
	tcase_add_test(tc, through_links);
	tcase_add_test(tc, dry_run);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return clear() || rmdir(place) || failed;
}
