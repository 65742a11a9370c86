/* check_io_file.c - files and devices: any alignment, buffered and direct, against memory */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "libvhd/io-file.h"

#define ROOM (3u << 20)

static char directory[64];
static uint8_t model[ROOM], got[ROOM + 64];

/* Of devices; the odd ones share a page with something else. */
static unsigned clears, odd_clears;

/* Before the C library's: what is a device asked to clear? */
int fallocate(int fd, int mode, off_t offset, off_t length)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISBLK(st.st_mode)) {
		clears++;
		odd_clears += (offset | length) % 4096 != 0;
	}
	return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

static const char *in_directory(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static struct vhd_io *make(const char *name, unsigned flags)
{
	struct vhd_error err;
	struct vhd_io *io;
	const char *path = in_directory(name);

	unlink(path);
	ck_assert_msg(io_file_open(path, IO_FILE_WRITE | IO_FILE_CREATE | flags, &io, &err) == 0,
		      "%s", err.text);
	return io;
}

/* Random transfers of all alignments on @io; @size is what it holds, @fixed that it stays. */
static void play(struct vhd_io *io, uint64_t size, bool fixed, unsigned seed)
{
	srand(seed);
	for (int step = 0; step < 400; step++) {
		size_t length = (size_t)rand() % (step % 10 ? 9000 : ROOM / 2) + 1;
		uint64_t offset = (uint64_t)rand() % (ROOM - length), now;
		unsigned shift = (unsigned)rand() % 64, what = (unsigned)rand() % 8;

		if (rand() % 3 == 0) { /* whole sectors, as most are */
			offset &= ~511ull;
			length = (length & ~(size_t)511) + 512;
		}
		if (offset + length > ROOM)
			continue;
		if (what < 4) {
			memset(got + shift, rand(), length);
			memcpy(model + offset, got + shift, length);
			ck_assert_int_eq(io_write(io, got + shift, length, offset), 0);
			if (offset + length > size)
				size = offset + length;
		} else if (what < 6) {
			int rc = what == 4 ? io_punch(io, offset, length) :
					     io_zero(io, offset, length);

			ck_assert_int_eq(rc, 0);
			if (offset < size)
				memset(model + offset, 0,
				       offset + length < size ? length : size - offset);
		} else {
			int rc = io_read(io, got + shift, length, offset);

			ck_assert_int_eq(rc, offset + length <= size ? 0 : -VHD_E_TRUNCATED);
			ck_assert(rc || !memcmp(got + shift, model + offset, length));
		}
		ck_assert_int_eq(io_size(io, &now), 0);
		ck_assert_uint_eq(now, size);
		ck_assert(!fixed || now == ROOM);
	}
	ck_assert_int_eq(io_sync(io), 0);
	ck_assert_int_eq(io_read(io, got, size, 0), 0);
	ck_assert(!memcmp(got, model, size));
}

START_TEST(any_alignment)
{
	static const unsigned flags[] = { 0, IO_FILE_DIRECT };

	for (unsigned i = 0; i < 6; i++) {
		struct vhd_io *io = make("play", flags[i % 2]);

		memset(model, 0, sizeof(model));
		play(io, 0, false, 100 + i);
		io_close(io);
	}
}
END_TEST

/* What was written through O_DIRECT is in the file, not in somebody's cache only. */
START_TEST(direct_is_exact)
{
	struct vhd_io *io = make("direct", IO_FILE_DIRECT);
	struct stat st;
	FILE *f;

	memset(got, 0x5a, 5000);
	ck_assert_int_eq(io_write(io, got + 1, 4999, 3), 0);
	io_close(io);
	ck_assert_int_eq(stat(in_directory("direct"), &st), 0);
	ck_assert_int_eq(st.st_size, 5002);
	f = fopen(in_directory("direct"), "r");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fread(got, 1, 5002, f), 5002);
	fclose(f);
	ck_assert(got[0] == 0 && got[2] == 0 && got[3] == 0x5a && got[5001] == 0x5a);
}
END_TEST

START_TEST(shape)
{
	struct vhd_io *io = make("shape", 0);
	uint64_t size, start, end;

	ck_assert_int_eq(io_truncate(io, 1 << 20), 0);
	memset(got, 1, 8192);
	ck_assert_int_eq(io_write(io, got, 8192, 512 << 10), 0);
	ck_assert_int_eq(io_data(io, 0, &start, &end), 0);
	ck_assert(start <= 512 << 10 && end >= (512 << 10) + 8192);
	ck_assert_int_eq(io_data(io, 1 << 20, &start, &end), 0);
	ck_assert(start == 1 << 20 && end == 1 << 20);
	ck_assert_int_eq(io_punch(io, 0, 4 << 20), 0);
	ck_assert_int_eq(io_zero(io, (1 << 20) - 5, 100), 0);
	ck_assert_int_eq(io_zero(io, 2 << 20, 100), 0);
	ck_assert_int_eq(io_size(io, &size), 0);
	ck_assert_uint_eq(size, 1 << 20);
	ck_assert_int_eq(io_data(io, 0, &start, &end), 0);
	ck_assert_msg(start == 1 << 20, "the hole was not punched: data at %llu",
		      (unsigned long long)start);
	ck_assert_int_eq(io_truncate(io, 100), 0);
	ck_assert_int_eq(io_sync(io), 0);
	ck_assert_int_eq(io_read(io, got, 100, 1), -VHD_E_TRUNCATED);
	ck_assert_int_eq(io_read(io, got, 100, 0), 0);
	ck_assert_int_eq(io_read(io, got, 1, 1ull << 40), -VHD_E_TRUNCATED);
	io_close(io);
}
END_TEST

START_TEST(only_files_and_block_devices)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct vhd_io *io = NULL;
	struct vhd_error err;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), pipes[2];

	ck_assert_int_eq(mkfifo(in_directory("fifo"), 0600), 0);
	int length = snprintf(address.sun_path, sizeof(address.sun_path), "%s",
			      in_directory("socket"));

	ck_assert_int_lt(length, (int)sizeof(address.sun_path));
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	for (unsigned flags = 0; flags <= IO_FILE_WRITE; flags++) {
		ck_assert_int_eq(io_file_open(directory, flags, &io, &err), -VHD_E_NOT_FILE);
		ck_assert_int_eq(io_file_open("/dev/null", flags, &io, &err), -VHD_E_NOT_FILE);
		ck_assert_int_eq(io_file_open(in_directory("fifo"), flags, &io, &err),
				 -VHD_E_NOT_FILE);
		ck_assert_int_eq(io_file_open(in_directory("socket"), flags, &io, &err),
				 -VHD_E_NOT_FILE);
	}
	ck_assert_int_eq(io_file_open(in_directory("nothing"), 0, &io, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "nothing"));
	ck_assert_int_eq(pipe(pipes), 0);
	ck_assert_int_eq(io_file_from_fd(pipes[0], "pipe", 0, &io, &err), -VHD_E_NOT_FILE);
	ck_assert_int_eq(fcntl(pipes[0], F_GETFD) < 0, 0); /* still ours */
	close(pipes[0]);
	close(pipes[1]);
	ck_assert_ptr_null(io);
}
END_TEST

START_TEST(creation_is_exclusive)
{
	struct vhd_io *io = make("new", 0), *second;

	ck_assert_int_eq(io_file_open(in_directory("new"), IO_FILE_WRITE | IO_FILE_CREATE, &second,
				      NULL),
			 -EEXIST);
	ck_assert_int_eq(fcntl(io_file_fd(io), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	ck_assert_int_eq(fcntl(io_file_fd(io), F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_eq(io_file_sync_directory(in_directory("new")), 0);
	ck_assert_int_eq(io_file_sync_directory("/no/such/place"), -ENOENT);
	io_close(io);
	ck_assert_int_eq(io_file_open(in_directory("new"), 0, &io, NULL), 0);
	ck_assert(!io->writable && !io->device && io->inode);
	ck_assert_int_eq(io_write(io, got, 1, 0), -EBADF);
	io_close(io);
}
END_TEST

/* On loop devices, where we may make them. */
START_TEST(block_devices)
{
	static const char *const sectors[] = { "512", "4096" };
	char command[256], node[64], link[128];

	for (int i = 0; i < 4; i++) {
		struct vhd_io *io = make("backing", 0);
		struct vhd_error err;
		uint64_t size;
		FILE *f;

		ck_assert_int_eq(io_truncate(io, ROOM), 0);
		io_close(io);
		snprintf(command, sizeof(command), "losetup -f --show -b %s %s 2>/dev/null",
			 sectors[i / 2], in_directory("backing"));
		f = popen(command, "r");
		ck_assert_ptr_nonnull(f);
		node[0] = '\0';
		if (!fgets(node, sizeof(node), f)) {
			pclose(f);
			printf("check_io_file: no loop devices here: that part is skipped\n");
			return;
		}
		pclose(f);
		node[strcspn(node, "\n")] = '\0';
		snprintf(link, sizeof(link), "%s", in_directory("link"));
		unlink(link);
		ck_assert_int_eq(symlink(node, link), 0);
		ck_assert_msg(io_file_open(link, IO_FILE_WRITE | (i % 2 ? IO_FILE_DIRECT : 0), &io,
					   &err) == 0,
			      "%s", err.text);
		/* takes effect when the last user closes it, however this ends */
		snprintf(command, sizeof(command), "losetup -d %s", node);
		ck_assert_int_eq(system(command), 0);
		ck_assert(io->device);
		ck_assert_uint_eq(io->sector_bytes, (unsigned)atoi(sectors[i / 2]));
		ck_assert_int_eq(io_size(io, &size), 0);
		ck_assert_uint_eq(size, ROOM);
		memset(model, 0, sizeof(model));
		clears = odd_clears = 0;
		play(io, ROOM, true, 200 + (unsigned)i);
		ck_assert_uint_gt(clears, 0);
		ck_assert_uint_eq(odd_clears, 0);
		ck_assert_int_eq(io_truncate(io, 512), 0);
		ck_assert_int_eq(io_truncate(io, ROOM + 512), -ENOSPC);
		ck_assert_int_eq(io_write(io, got, 4096, ROOM), -ENOSPC);
		io_close(io);
	}
}
END_TEST

static int run_in(const char *parent)
{
	Suite *suite = suite_create(parent);
	TCase *tc = tcase_create("io-file");
	SRunner *runner;
	char command[96];
	int failed;

	snprintf(directory, sizeof(directory), "%s/check_io_file.XXXXXX", parent);
	if (!mkdtemp(directory))
		return 1;
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, any_alignment);
	tcase_add_test(tc, direct_is_exact);
	tcase_add_test(tc, shape);
	tcase_add_test(tc, only_files_and_block_devices);
	tcase_add_test(tc, creation_is_exclusive);
	tcase_add_test(tc, block_devices);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	snprintf(command, sizeof(command), "rm -r '%s'", directory);
	return system(command) != 0 || failed;
}

int main(void)
{
	/* a disk's file system, and one without ZERO_RANGE and with large direct I/O */
	return run_in("/tmp") | run_in("/dev/shm");
}
