/* check_parent.c - which file is taken for a parent, and which never */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/chain.h"
#include "libvhd/confine.h"
#include "libvhd/io-file.h"
#include "libvhd/locator.h"
#include "tests/lib/edit.h"

#define SIZE (8u << 20)

static struct vhd_error err;

static struct vhd_image *open_image(const char *path)
{
	struct vhd_image *image;
	struct vhd_io *io;

	ck_assert_int_eq(io_file_open(path, 0, &io, &err), 0);
	ck_assert_int_eq(image_open(io, 0, &image, &err), 0);
	return image;
}

/* The parent of @child, with these rules: 0 and its name beneath the test's directory, or
 * the error. */
static int find(const char *child, const char *const *roots, bool beneath_only, bool for_write,
		char *name)
{
	struct vhd_image *image = open_image(child), *parent;
	struct vhd_parents parents = { .roots = roots, .beneath_only = beneath_only };
	char real[PATH_MAX], directory[PATH_MAX];
	size_t skip;
	int rc;

	memset(&err, 0, sizeof(err));
	ck_assert_int_eq(confine_real_name(child, real), 0);
	confine_directory(real, directory);
	rc = chain_find_parent(image, directory, &parents, for_write, &parent, &err);
	image_close(image);
	if (rc < 0) {
		ck_assert_int_eq(err.code, rc);
		ck_assert(err.text[0]);
		return rc;
	}
	ck_assert_int_eq(parent->io->writable, for_write);
	ck_assert_ptr_null(parent->map);
	ck_assert(realpath(edit_directory(), real));
	skip = strlen(real) + 1;
	ck_assert(strlen(parent->io->name) > skip && !strncmp(parent->io->name, real, skip - 1));
	strcpy(name, parent->io->name + skip);
	image_close(parent);
	return 0;
}

static int simple(const char *child, char *name)
{
	return find(child, NULL, false, false, name);
}

static void absolute(const char *name, char *out)
{
	snprintf(out, PATH_MAX, "%s/%s", edit_directory(), name);
}

/*   a/child.vhd -> a/base.vhd,   b/: another directory   */
static void setup(void)
{
	edit_begin("check_parent");
	ck_assert_int_eq(mkdir("a", 0755) | mkdir("a/deep", 0755) | mkdir("b", 0755), 0);
	edit_create("a/base.vhd", SIZE);
	edit_create("a/other.vhd", SIZE);
	edit_snapshot("a/child.vhd", "a/base.vhd");
}

START_TEST(beside_the_child)
{
	char name[PATH_MAX], stored[64];
	struct vhd_image *image = open_image("a/child.vhd");

	ck_assert_int_eq(simple("a/child.vhd", name), 0);
	ck_assert_str_eq(name, "a/base.vhd");
	ck_assert_int_eq(find("a/child.vhd", NULL, true, true, name), 0);
	ck_assert_int_eq(chain_stored_parent(image, stored, sizeof(stored), &err), 0);
	ck_assert_str_eq(stored, "./base.vhd");
	ck_assert_int_eq(chain_stored_parent(image, stored, 4, &err), -ENAMETOOLONG);
	image_close(image);
	/* from another working directory, by a link to the file */
	ck_assert_int_eq(symlink("../a/child.vhd", "b/link.vhd"), 0);
	ck_assert_int_eq(chdir("b"), 0);
	ck_assert_int_eq(find("link.vhd", NULL, true, true, name), 0);
	ck_assert_str_eq(name, "a/base.vhd");
}
END_TEST

START_TEST(every_kind_of_locator)
{
	static const uint32_t relative[] = { LOCATOR_W2RU, LOCATOR_MACX, LOCATOR_W2KU, LOCATOR_WI2R,
					     LOCATOR_WI2K };
	char name[PATH_MAX], path[PATH_MAX];

	ck_assert_int_eq(rename("a/base.vhd", "b/moved.vhd"), 0);
	for (unsigned i = 0; i < sizeof(relative) / sizeof(relative[0]); i++) {
		edit_locator("a/child.vhd", relative[i], "../b/moved.vhd", NULL);
		ck_assert_msg(simple("a/child.vhd", name) == 0, "%u: %s", i, err.text);
		ck_assert_str_eq(name, "b/moved.vhd");
	}
	absolute("b/moved.vhd", path);
	edit_locator("a/child.vhd", LOCATOR_MACX, path, NULL);
	ck_assert_msg(simple("a/child.vhd", name) == 0, "%s", err.text);
}
END_TEST

START_TEST(header_name_is_a_last_resort)
{
	char name[PATH_MAX];

	edit_locator("a/child.vhd", LOCATOR_W2RU, "./gone.vhd", "base.vhd");
	ck_assert_int_eq(simple("a/child.vhd", name), 0);
	ck_assert_str_eq(name, "a/base.vhd");
	/* only its last part, and in the child's directory */
	edit_locator("a/child.vhd", LOCATOR_W2RU, "./gone.vhd", "C:\\images\\base.vhd");
	ck_assert_int_eq(simple("a/child.vhd", name), 0);
	ck_assert_int_eq(rename("a/base.vhd", "b/base.vhd"), 0);
	edit_locator("a/child.vhd", LOCATOR_W2RU, "./gone.vhd", "../b/base.vhd");
	ck_assert_int_eq(simple("a/child.vhd", name), -VHD_E_PARENT_MISSING);
}
END_TEST

START_TEST(another_image_is_passed_over)
{
	char name[PATH_MAX];

	edit_locator("a/child.vhd", LOCATOR_W2RU, "./other.vhd", "base.vhd");
	ck_assert_int_eq(simple("a/child.vhd", name), 0);
	ck_assert_str_eq(name, "a/base.vhd");
	edit_locator("a/child.vhd", LOCATOR_W2RU, "./other.vhd", NULL);
	ck_assert_int_eq(simple("a/child.vhd", name), -VHD_E_PARENT_ID);
	ck_assert_msg(strstr(err.text, "other.vhd"), "%s", err.text);
}
END_TEST

START_TEST(missing_says_what_was_tried)
{
	char name[PATH_MAX];

	edit_locator("a/child.vhd", LOCATOR_W2RU, "./gone.vhd", "lost.vhd");
	ck_assert_int_eq(simple("a/child.vhd", name), -VHD_E_PARENT_MISSING);
	ck_assert_msg(strstr(err.text, "gone.vhd") && strstr(err.text, "lost.vhd") &&
			      strstr(err.text, "--parent-root"),
		      "%s", err.text);
	edit_locator("a/child.vhd", LOCATOR_W2KU, "C:/vm/gone.vhd", NULL);
	ck_assert_int_eq(simple("a/child.vhd", name), -VHD_E_PARENT_MISSING);
}
END_TEST

/* A FIFO does not hold us up, and what is no image is told as such. */
START_TEST(no_image_at_all)
{
	char name[PATH_MAX];

	ck_assert_int_eq(mkfifo("a/fifo.vhd", 0600), 0);
	edit_locator("a/child.vhd", LOCATOR_W2RU, "./fifo.vhd", NULL);
	ck_assert_int_eq(simple("a/child.vhd", name), -VHD_E_NOT_FILE);
	ck_assert_int_eq(find("a/child.vhd", NULL, true, false, name), -VHD_E_NOT_FILE);
	edit_locator("a/child.vhd", LOCATOR_W2RU, "./fifo.vhd", "base.vhd");
	ck_assert_int_eq(simple("a/child.vhd", name), 0);
	edit_file("a/text.vhd", 3000, 'x');
	edit_locator("a/child.vhd", LOCATOR_W2RU, "./text.vhd", NULL);
	ck_assert_int_eq(simple("a/child.vhd", name), -VHD_E_NOT_VHD);
}
END_TEST

START_TEST(outside_is_read_but_not_written)
{
	char name[PATH_MAX], b[PATH_MAX], nowhere[PATH_MAX];
	const char *roots[] = { b, NULL }, *other[] = { nowhere, NULL };

	absolute("b", b);
	absolute("a/deep", nowhere);
	ck_assert_int_eq(rename("a/base.vhd", "b/base.vhd"), 0);
	edit_locator("a/child.vhd", LOCATOR_W2RU, "../b/base.vhd", NULL);
	ck_assert_int_eq(simple("a/child.vhd", name), 0);
	ck_assert_int_eq(find("a/child.vhd", NULL, false, true, name), -VHD_E_PARENT_DENIED);
	ck_assert_msg(strstr(err.text, "--parent-root"), "%s", err.text);
	ck_assert_int_eq(find("a/child.vhd", NULL, true, false, name), -VHD_E_PARENT_DENIED);
	ck_assert_int_eq(find("a/child.vhd", other, false, false, name), -VHD_E_PARENT_DENIED);
	ck_assert_int_eq(find("a/child.vhd", roots, false, true, name), 0);
	ck_assert_str_eq(name, "b/base.vhd");
	/* nobody looks whether something is there */
	edit_locator("a/child.vhd", LOCATOR_W2RU, "../b/none.vhd", NULL);
	ck_assert_int_eq(find("a/child.vhd", NULL, true, false, name), -VHD_E_PARENT_DENIED);
	/* the directory's name is not a prefix of text */
	ck_assert_int_eq(mkdir("b2", 0755) | rename("b/base.vhd", "b2/base.vhd"), 0);
	edit_locator("a/child.vhd", LOCATOR_W2RU, "../b2/base.vhd", NULL);
	ck_assert_int_eq(find("a/child.vhd", roots, false, true, name), -VHD_E_PARENT_DENIED);
}
END_TEST

START_TEST(links_do_not_lead_out)
{
	char name[PATH_MAX], path[PATH_MAX];

	ck_assert_int_eq(rename("a/base.vhd", "b/base.vhd"), 0);
	ck_assert_int_eq(symlink("../b/base.vhd", "a/base.vhd"), 0);
	ck_assert_int_eq(simple("a/child.vhd", name), 0);
	ck_assert_str_eq(name, "b/base.vhd");
	ck_assert_int_eq(find("a/child.vhd", NULL, false, true, name), -VHD_E_PARENT_DENIED);
	ck_assert_int_eq(unlink("a/base.vhd"), 0);
	/* a directory of the way */
	ck_assert_int_eq(symlink("../b", "a/b"), 0);
	edit_locator("a/child.vhd", LOCATOR_W2RU, "./b/base.vhd", NULL);
	ck_assert_int_eq(find("a/child.vhd", NULL, false, true, name), -VHD_E_PARENT_DENIED);
	edit_locator("a/child.vhd", LOCATOR_W2RU, "./deep/../../b/base.vhd", NULL);
	ck_assert_int_eq(find("a/child.vhd", NULL, false, true, name), -VHD_E_PARENT_DENIED);
	/* but links that stay inside are fine, absolute ones too */
	ck_assert_int_eq(rename("b/base.vhd", "a/deep/base.vhd"), 0);
	absolute("a/deep/base.vhd", path);
	ck_assert_int_eq(symlink(path, "a/base.vhd"), 0);
	edit_locator("a/child.vhd", LOCATOR_W2RU, "./base.vhd", NULL);
	ck_assert_int_eq(find("a/child.vhd", NULL, false, true, name), 0);
	ck_assert_str_eq(name, "a/deep/base.vhd");
}
END_TEST

/* A child whose raw parent is any file of the system (a predecessor overwrote it). */
START_TEST(raw_parent_outside_is_never_opened)
{
	char name[PATH_MAX], b[PATH_MAX];
	const char *roots[] = { b, NULL };

	absolute("b", b);
	edit_file("a/raw.img", SIZE, 'r');
	edit_file("b/secret", SIZE, 's');
	edit_snapshot_raw("a/rawchild.vhd", "a/raw.img");
	ck_assert_int_eq(find("a/rawchild.vhd", NULL, false, true, name), 0);
	ck_assert_str_eq(name, "a/raw.img");
	edit_locator("a/rawchild.vhd", LOCATOR_W2RU, "../b/secret", NULL);
	ck_assert_int_eq(simple("a/rawchild.vhd", name), -VHD_E_PARENT_DENIED);
	ck_assert_int_eq(find("a/rawchild.vhd", NULL, false, true, name), -VHD_E_PARENT_DENIED);
	edit_locator("a/rawchild.vhd", LOCATOR_MACX, "/etc/passwd", NULL);
	ck_assert_int_eq(simple("a/rawchild.vhd", name), -VHD_E_PARENT_DENIED);
	/* nor picked from a root by its name alone */
	edit_locator("a/rawchild.vhd", LOCATOR_W2RU, "./secret", NULL);
	ck_assert_int_eq(find("a/rawchild.vhd", roots, false, false, name), -VHD_E_PARENT_MISSING);
	edit_locator("a/rawchild.vhd", LOCATOR_W2RU, "../b/secret", NULL);
	ck_assert_int_eq(find("a/rawchild.vhd", roots, false, true, name), 0);
}
END_TEST

START_TEST(moved_parent_is_found_in_a_root)
{
	char name[PATH_MAX], b[PATH_MAX], link[PATH_MAX];
	const char *roots[] = { "/no/such/root", b, NULL }, *linked[] = { link, NULL };

	absolute("b", b);
	absolute("b-link", link);
	ck_assert_int_eq(symlink("b", "b-link"), 0);
	ck_assert_int_eq(rename("a/base.vhd", "b/base.vhd"), 0);
	ck_assert_int_eq(simple("a/child.vhd", name), -VHD_E_PARENT_MISSING);
	ck_assert_int_eq(find("a/child.vhd", roots, false, true, name), 0);
	ck_assert_str_eq(name, "b/base.vhd");
	ck_assert_int_eq(find("a/child.vhd", linked, false, false, name), 0);
	edit_locator("a/child.vhd", LOCATOR_W2RU, "./other.vhd", NULL);
	ck_assert_int_eq(find("a/child.vhd", roots, false, false, name), -VHD_E_PARENT_ID);
}
END_TEST

START_TEST(whole_system_is_no_directory)
{
	struct confine confine = { .leaf_directory = "/dev", .strict = true };
	const char *roots[] = { "/dev", NULL };
	char name[PATH_MAX];
	int fd;

	ck_assert_int_eq(confine_open(&confine, "/dev/null", false, name), -VHD_E_PARENT_DENIED);
	confine.leaf_directory = "/";
	ck_assert_int_eq(confine_open(&confine, "/etc/passwd", false, name), -VHD_E_PARENT_DENIED);
	confine.roots = roots;
	ck_assert_int_eq(confine_open(&confine, "/dev/null", false, name), -VHD_E_NOT_FILE);
	ck_assert_int_eq(confine_open(&confine, "relative", false, name), -EINVAL);
	roots[0] = "/";
	fd = confine_open(&confine, "/etc/passwd", false, name);
	ck_assert_int_ge(fd, 0);
	close(fd);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("parent");
	TCase *tc = tcase_create("parent");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, edit_end);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, beside_the_child);
	tcase_add_test(tc, every_kind_of_locator);
	tcase_add_test(tc, header_name_is_a_last_resort);
	tcase_add_test(tc, another_image_is_passed_over);
	tcase_add_test(tc, missing_says_what_was_tried);
	tcase_add_test(tc, no_image_at_all);
	tcase_add_test(tc, outside_is_read_but_not_written);
	tcase_add_test(tc, links_do_not_lead_out);
	tcase_add_test(tc, raw_parent_outside_is_never_opened);
	tcase_add_test(tc, moved_parent_is_found_in_a_root);
	tcase_add_test(tc, whole_system_is_no_directory);
	suite_add_tcase(suite, tc);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
