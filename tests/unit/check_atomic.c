/* check_atomic.c - a file appears whole or not at all, and never over one in use */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/atomic.h"
#include "libvhd/io-file.h"
#include "libvhd/lock.h"

static char place[] = "/tmp/check_atomic.XXXXXX";

/* The only file in the directory is "t" with @content; NULL: it is empty. */
static void expect_only(const char *content)
{
	char seen[64] = "";
	FILE *f = popen("ls -A", "r");
	size_t n = fread(seen, 1, sizeof(seen) - 1, f);

	pclose(f);
	seen[n] = '\0';
	ck_assert_str_eq(seen, content ? "t\n" : "");
	if (!content)
		return;
	f = fopen("t", "r");
	n = fread(seen, 1, sizeof(seen) - 1, f);
	fclose(f);
	seen[n] = '\0';
	ck_assert_str_eq(seen, content);
}

static void put(const char *name, const char *content)
{
	FILE *f = fopen(name, "w");

	fputs(content, f);
	fclose(f);
}

static int clear(void)
{
	return system("rm -rf ./* ./.[a-z]*");
}

static void setup(void)
{
	ck_assert_int_eq(clear(), 0);
}

/* Begin, write @content; commit if @commit. */
static int make(const char *name, const char *content, bool force, bool commit)
{
	struct vhd_error err = { 0 };
	struct atomic a;
	int rc = atomic_begin(name, force ? ATOMIC_FORCE : 0, &a, &err);

	if (rc < 0) {
		ck_assert_int_eq(err.code, rc);
		ck_assert_ptr_nonnull(strstr(err.text, name));
		return rc;
	}
	ck_assert_int_eq(io_write(a.io, content, strlen(content), 0), 0);
	if (commit)
		return atomic_commit(&a, true, &err);
	atomic_abort(&a);
	atomic_abort(&a); /* harmless */
	return 0;
}

START_TEST(new_file)
{
	ck_assert_int_eq(make("t", "new", false, false), 0);
	expect_only(NULL);
	ck_assert_int_eq(make("t", "new", false, true), 0);
	expect_only("new");
}
END_TEST

START_TEST(existing_file)
{
	put("t", "old");
	ck_assert_int_eq(make("t", "new", false, true), -EEXIST);
	expect_only("old");
	ck_assert_int_eq(make("t", "new", true, false), 0);
	expect_only("old");
	ck_assert_int_eq(make("t", "new", true, true), 0);
	expect_only("new");
}
END_TEST

START_TEST(appears_meanwhile)
{
	struct vhd_error err = { 0 };
	struct atomic a;

	ck_assert_int_eq(atomic_begin("t", 0, &a, &err), 0);
	put("t", "theirs");
	ck_assert_int_eq(atomic_commit(&a, true, &err), -EEXIST);
	expect_only("theirs");
}
END_TEST

START_TEST(empty_file_in_place)
{
	struct stat before, after;

	put("t", "");
	stat("t", &before);
	ck_assert_int_eq(make("t", "new", false, false), 0);
	expect_only("");
	ck_assert_int_eq(make("t", "new", false, true), 0);
	expect_only("new");
	stat("t", &after);
	ck_assert(before.st_ino == after.st_ino);
}
END_TEST

START_TEST(no_file)
{
	ck_assert_int_eq(mkdir("d", 0777), 0);
	ck_assert_int_eq(mkfifo("f", 0666), 0);
	ck_assert_int_eq(make("d", "", true, true), -VHD_E_NOT_FILE);
	ck_assert_int_eq(make("f", "", true, true), -VHD_E_NOT_FILE);
	ck_assert_int_eq(make("/dev/null", "", true, true), -VHD_E_NOT_FILE);
	ck_assert_int_eq(make("no/t", "", true, true), -ENOENT);
}
END_TEST

/* What is used must not be replaced, nor written in place. */
START_TEST(in_use)
{
	const char *const contents[] = { "old", "" };

	for (int i = 0; i < 2; i++) {
		struct vhd_error err = { 0 };
		struct vhd_io *io;

		put("t", contents[i]);
		ck_assert_int_eq(io_file_open("t", IO_FILE_WRITE, &io, &err), 0);
		ck_assert_int_eq(lock_take(io, LOCK_WRITE, NULL, 0, NULL, &err), 0);
		ck_assert_int_eq(make("t", "new", true, true), -VHD_E_BUSY);
		expect_only(contents[i]);
		io_close(io);
		ck_assert_int_eq(make("t", "new", true, true), 0);
		expect_only("new");
	}
}
END_TEST

START_TEST(through_a_link)
{
	char target[8] = "";

	ck_assert_int_eq(mkdir("d", 0777), 0);
	put("d/real", "old");
	ck_assert_int_eq(symlink("d/real", "t"), 0);
	ck_assert_int_eq(make("t", "new", true, true), 0);
	ck_assert_int_eq((int)readlink("t", target, sizeof(target)), 6);
	ck_assert_int_eq(system("grep -qx new d/real && [ `ls -A d` = real ]"), 0);
}
END_TEST

/* A name as long as names can be leaves no room for what is put around it. */
START_TEST(long_name)
{
	char name[256];

	memset(name, 'n', 255);
	name[255] = '\0';
	ck_assert_int_eq(make(name, "new", false, true), 0);
	ck_assert_int_eq(access(name, R_OK), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("atomic");
	TCase *tc = tcase_create("atomic");
	SRunner *runner;
	int failed;

	if (!mkdtemp(place) || chdir(place) < 0)
		return 1;
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, new_file);
	tcase_add_test(tc, existing_file);
	tcase_add_test(tc, appears_meanwhile);
	tcase_add_test(tc, empty_file_in_place);
	tcase_add_test(tc, no_file);
	tcase_add_test(tc, in_use);
	tcase_add_test(tc, through_a_link);
	tcase_add_test(tc, long_name);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return clear() || rmdir(place) || failed;
}
