/* check_lock.c - every pair of roles, played by two processes on one file */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libvhd/io-file.h"
#include "libvhd/lock.h"

static const uint8_t child_a[16] = { 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xff };
static const uint8_t child_b[16] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1 };

struct user {
	const char *name;
	enum lock_role role;
	const uint8_t *child;
};
static const struct user users[] = {
	{ "peek", LOCK_PEEK, NULL },
	{ "read-top", LOCK_READ_TOP, NULL },
	{ "through-a", LOCK_READ_THROUGH, child_a },
	{ "through-b", LOCK_READ_THROUGH, child_b },
	{ "write", LOCK_WRITE, NULL },
	{ "parked", LOCK_PARKED, NULL },
	{ "into-from-a", LOCK_COALESCE_INTO, child_a },
	{ "into-from-b", LOCK_COALESCE_INTO, child_b },
	{ "source", LOCK_COALESCE_SOURCE, NULL },
	{ "snapshot", LOCK_SNAPSHOT_PARENT, NULL },
	{ "header", LOCK_HEADER, NULL },
	{ "set", LOCK_SET, NULL },
	{ "move", LOCK_MOVE, NULL },
};
#define USERS (int)(sizeof(users) / sizeof(users[0]))

/* Row holds, column asks: '.' both, 'X' refused.  Columns in the order of users[]. */
static const char *const table[USERS] = {
	/*                 P T a b W K A B S N H E M */
	/* peek        */ ".............",
	/* read-top    */ "......XX....X",
	/* through-a   */ ".......X....X",
	/* through-b   */ "......X.....X",
	/* write       */ "....X.XXXX.XX",
	/* parked      */ ".....X.......",
	/* into-from-a */ ".X.XX.XXXX.XX",
	/* into-from-b */ ".XX.X.XXXX.XX",
	/* source      */ "....X.XX...XX",
	/* snapshot    */ "....X.XX...XX",
	/* header      */ "..........XXX",
	/* set         */ "....X.XXXXXXX",
	/* move        */ ".XXXX.XXXXXXX",
};

static char path[64];

static struct vhd_io *open_file(void)
{
	struct vhd_error err;
	struct vhd_io *io;

	ck_assert_int_eq(io_file_open(path, IO_FILE_WRITE, &io, &err), 0);
	return io;
}

/* A process that takes @user's locks, says so, and holds them until its input ends. */
struct holder {
	pid_t pid;
	int to, from;
};

static struct holder hold(const struct user *user)
{
	int in[2], out[2];
	struct holder h;
	char answer;

	ck_assert_int_eq(pipe(in), 0);
	ck_assert_int_eq(pipe(out), 0);
	h.pid = fork();
	ck_assert_int_ge(h.pid, 0);
	if (h.pid == 0) {
		struct vhd_io *io;

		close(in[1]);
		close(out[0]);
		answer = io_file_open(path, IO_FILE_WRITE, &io, NULL) == 0 &&
			 lock_take(io, user->role, user->child, 0, NULL, NULL) == 0;
		if (write(out[1], &answer, 1) != 1 || read(in[0], &answer, 1) < 0)
			_exit(1);
		_exit(0);
	}
	close(in[0]);
	close(out[1]);
	h.to = in[1];
	h.from = out[0];
	ck_assert_int_eq(read(h.from, &answer, 1), 1);
	ck_assert_msg(answer, "%s alone was refused", user->name);
	return h;
}

static void let_go(struct holder *h)
{
	close(h->to);
	close(h->from);
	ck_assert_int_eq(waitpid(h->pid, NULL, 0), h->pid);
}

START_TEST(every_pair)
{
	for (int i = 0; i < USERS; i++) {
		struct holder h = hold(&users[i]);
		char who[64];

		snprintf(who, sizeof(who), "(pid %d)", (int)h.pid);
		for (int j = 0; j < USERS; j++) {
			struct vhd_io *io = open_file();
			struct vhd_error err = { 0 };
			int rc = lock_take(io, users[j].role, users[j].child, 0, NULL, &err);
			int expected = table[i][j] == 'X' ? -VHD_E_BUSY : 0;

			ck_assert_msg(rc == expected, "%s beside %s: %d, expected %d: %s",
				      users[j].name, users[i].name, rc, expected, err.text);
			ck_assert_msg(rc == 0 || strstr(err.text, who), "no %s in: %s", who,
				      err.text);
			io_close(io);
		}
		let_go(&h);
	}
}
END_TEST

START_TEST(table_is_symmetric)
{
	for (int i = 0; i < USERS; i++)
		for (int j = 0; j < USERS; j++)
			ck_assert_int_eq(table[i][j], table[j][i]);
}
END_TEST

START_TEST(refused_keeps_nothing)
{
	struct holder h = hold(&users[3]); /* through b: in the way of the last range only */
	struct vhd_io *io = open_file(), *other = open_file();

	ck_assert_int_eq(lock_take(io, LOCK_MOVE, NULL, 0, NULL, NULL), -VHD_E_BUSY);
	ck_assert_int_eq(lock_take(other, LOCK_SET, NULL, 0, NULL, NULL), 0);
	lock_release(other);
	ck_assert_int_eq(lock_take(io, LOCK_SET, NULL, 0, NULL, NULL), 0);
	io_close(other);
	io_close(io);
	let_go(&h);
}
END_TEST

START_TEST(release_and_close_let_others_in)
{
	struct vhd_io *a = open_file(), *b = open_file();

	ck_assert_int_eq(lock_take(a, LOCK_MOVE, NULL, 0, NULL, NULL), 0);
	ck_assert_int_eq(lock_take(b, LOCK_READ_TOP, NULL, 0, NULL, NULL), -VHD_E_BUSY);
	lock_release(a);
	ck_assert_int_eq(lock_take(b, LOCK_MOVE, NULL, 0, NULL, NULL), 0);
	io_close(b);
	ck_assert_int_eq(lock_take(a, LOCK_WRITE, NULL, 0, NULL, NULL), 0);
	io_close(a);
}
END_TEST

START_TEST(killed_holder_is_waited_for)
{
	struct holder h = hold(&users[4]);
	struct vhd_io *io = open_file();

	kill(h.pid, SIGKILL);
	ck_assert_int_eq(lock_take(io, LOCK_WRITE, NULL, 5000, NULL, NULL), 0);
	io_close(io);
	let_go(&h);
}
END_TEST

/* A storage that cannot lock. */
static int no_locks(struct vhd_io *io, enum io_lock_mode mode, uint64_t start, uint64_t length)
{
	(void)io, (void)mode, (void)start, (void)length;
	return -ENOLCK;
}

/* One whose holder is never to be seen, and that lets go at the third try. */
static int tries;
static int slow_lock(struct vhd_io *io, enum io_lock_mode mode, uint64_t start, uint64_t length)
{
	(void)io, (void)mode, (void)start, (void)length;
	return ++tries < 3 ? -EAGAIN : 0;
}
static void nobody(struct vhd_io *io, enum io_lock_mode mode, uint64_t start, uint64_t length,
		   char *buf, size_t room)
{
	(void)io, (void)mode, (void)start, (void)length, (void)room;
	buf[0] = '\0';
}

START_TEST(storage_without_locks)
{
	static const struct vhd_io_ops ops = { .lock = no_locks, .holder = nobody };
	struct vhd_io io = { .ops = &ops, .name = "x" };
	bool unsupported = false;

	ck_assert_int_eq(lock_take(&io, LOCK_MOVE, NULL, 0, &unsupported, NULL), 0);
	ck_assert(unsupported);
	ck_assert_int_eq(lock_take(&io, LOCK_MOVE, NULL, 0, NULL, NULL), 0);
}
END_TEST

START_TEST(unseen_holder)
{
	static const struct vhd_io_ops ops = { .lock = slow_lock, .holder = nobody };
	struct vhd_io io = { .ops = &ops, .name = "x" };
	struct vhd_error err = { 0 };

	tries = 0;
	ck_assert_int_eq(lock_take(&io, LOCK_WRITE, NULL, 1000, NULL, &err), 0);
	tries = -1000;
	ck_assert_int_eq(lock_take(&io, LOCK_WRITE, NULL, 100, NULL, &err), -VHD_E_BUSY);
	ck_assert_msg(strstr(err.text, "another process or host"), "%s", err.text);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("lock");
	TCase *tc = tcase_create("lock");
	SRunner *runner;
	int failed, fd;

	snprintf(path, sizeof(path), "/tmp/check_lock.XXXXXX");
	fd = mkstemp(path);
	if (fd < 0)
		return 1;
	close(fd);
	tcase_add_test(tc, every_pair);
	tcase_add_test(tc, table_is_symmetric);
	tcase_add_test(tc, refused_keeps_nothing);
	tcase_add_test(tc, release_and_close_let_others_in);
	tcase_add_test(tc, killed_holder_is_waited_for);
	tcase_add_test(tc, storage_without_locks);
	tcase_add_test(tc, unseen_holder);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	unlink(path);
	return failed != 0;
}
