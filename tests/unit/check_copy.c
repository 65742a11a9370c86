/* check_copy.c - jobs: turns of place functions, zeros by grains, heads, what failed */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvhd/copy.h"
#include "libvhd/io-file.h"
#include "tests/lib/io-mem.h"
#include "tests/lib/rng.h"

#define SECTOR	512u
#define DISK	(4u << 20)
#define PIECE	(64u << 10)
#define GRAIN	4096u
#define HEAD	512u
#define PIECES	(DISK / PIECE)
#define SPACING (PIECE + HEAD)

/* Pieces are laid one behind the other in the order of their turns, each behind a head. */
struct layout {
	uint64_t next, above;
	unsigned turns, inside;
	uint64_t at[PIECES];
	int refuse; /* this turn fails */
};

static int place(struct copy_job *job, void *arg)
{
	struct layout *l = arg;
	bool first = true;

	ck_assert_uint_eq(l->inside++, 0);
	ck_assert_uint_ge(job->cookie, l->above); /* in the order of submission */
	l->above = job->cookie + 1;
	if ((int)l->turns++ == l->refuse) {
		l->inside--;
		return -EDOM;
	}
	l->at[job->cookie] = l->next;
	for (unsigned i = 0; i < job->count; i++) {
		struct copy_segment *s = &job->segment[i];

		s->to_offset = l->next + HEAD + s->to_offset % PIECE;
		if (!s->skip && first && s->to_offset == l->next + HEAD) {
			memset(job->buffer - HEAD, 0xee, HEAD);
			job->head = HEAD;
		}
		first = first && s->skip;
	}
	l->next += SPACING;
	l->inside--;
	return 0;
}

/* Zeros and data in runs of sectors. */
static uint8_t *make_disk(struct rng *r)
{
	uint8_t *disk = calloc(1, DISK);

	for (uint32_t at = 0; at < DISK;) {
		uint32_t run = (uint32_t)(1 + rng_below(r, 20)) * SECTOR;
		bool data = rng_chance(r, 40);

		for (; run && at < DISK; run -= SECTOR, at += SECTOR)
			memset(disk + at, data ? (int)(1 + rng_below(r, 255)) : 0, SECTOR);
	}
	return disk;
}

static void fill(struct copy_job *job, struct vhd_io *from, struct vhd_io *to, unsigned piece,
		 struct layout *l, struct rng *r)
{
	uint32_t at = 0;

	while (at < PIECE) {
		uint32_t n = (uint32_t)(1 + rng_below(r, 8)) * SECTOR;
		struct copy_segment s = { .from = from,
					  .from_offset = (uint64_t)piece * PIECE + at,
					  .to = to,
					  .to_offset = (uint64_t)piece * PIECE + at };

		s.length = n < GRAIN - at % GRAIN ? n : GRAIN - at % GRAIN;
		ck_assert(copy_add(job, &s));
		at += s.length;
	}
	job->cookie = piece;
	job->skip_zeros = true;
	job->grain = GRAIN;
	job->place = place;
	job->place_arg = l;
}

static void collect_one(struct copier *c, int *err, enum copy_fault *fault)
{
	struct copy_job *job = copy_collect(c);

	if (job->err && !*err) {
		*err = job->err;
		*fault = job->fault;
	}
	copy_put(c, job);
}

/* All pieces through @threads; the first error. */
static int run(unsigned threads, struct vhd_io *from, struct vhd_io *to, struct layout *l,
	       uint64_t seed, enum copy_fault *fault)
{
	struct rng r = { seed };
	struct copier *c;
	unsigned flying = 0;
	int err = 0;

	ck_assert_int_eq(copy_start(threads, 4, &c), 0);
	*fault = COPY_OK;
	for (unsigned i = 0; i < PIECES; i++) {
		struct copy_job *job;

		while (!(job = copy_take(c))) {
			collect_one(c, &err, fault);
			flying--;
		}
		fill(job, from, to, i, l, &r);
		copy_submit(c, job);
		flying++;
	}
	for (; flying; flying--)
		collect_one(c, &err, fault);
	ck_assert_ptr_null(copy_collect(c));
	copy_stop(c);
	return err;
}

static bool all_zero(const uint8_t *p, size_t n)
{
	while (n--)
		if (*p++)
			return false;
	return true;
}

/* The target began as 0xcc: grains of zeros were left alone, all others are there. */
static void verify(const uint8_t *disk, struct vhd_io *to, const struct layout *l)
{
	uint8_t got[SPACING];

	for (unsigned p = 0; p < PIECES; p++) {
		const uint8_t *want = disk + p * PIECE;

		ck_assert_int_eq(io_read(to, got, SPACING, l->at[p]), 0);
		ck_assert_int_eq(got[0], all_zero(want, GRAIN) ? 0xcc : 0xee);
		ck_assert_int_eq(got[HEAD - 1], got[0]);
		for (unsigned g = 0; g < PIECE; g += GRAIN) {
			const uint8_t *have = got + HEAD + g;

			if (!all_zero(want + g, GRAIN))
				ck_assert_mem_eq(have, want + g, GRAIN);
			else
				ck_assert_int_eq(have[rand() % GRAIN], 0xcc);
		}
	}
}

static void fill_target(struct vhd_io *to)
{
	uint8_t *cc = malloc(PIECES * SPACING);

	memset(cc, 0xcc, PIECES * SPACING);
	ck_assert_int_eq(io_write(to, cc, PIECES * SPACING, 0), 0);
	free(cc);
}

static struct vhd_io *temp_file(void)
{
	char path[] = "/tmp/check_copy.XXXXXX";
	struct vhd_io *io;
	int fd = mkstemp(path);

	unlink(path);
	ck_assert_int_eq(io_file_from_fd(fd, "temp", IO_FILE_WRITE, &io, NULL), 0);
	return io;
}

START_TEST(test_turns)
{
	unsigned threads = (unsigned)_i % 5;
	struct rng r = { (uint64_t)_i };
	struct layout l = { .refuse = -1 };
	uint8_t *disk = make_disk(&r);
	struct vhd_io *from = temp_file(), *to = temp_file();
	enum copy_fault fault;

	ck_assert_int_eq(io_write(from, disk, DISK, 0), 0);
	fill_target(to);
	ck_assert_msg(run(threads, from, to, &l, (uint64_t)_i, &fault) == 0, "seed %d", _i);
	ck_assert_uint_eq(l.turns, PIECES);
	verify(disk, to, &l);
	io_close(from);
	io_close(to);
	free(disk);
}
END_TEST

/* A turn that is refused fails its own job; those behind still get theirs. */
START_TEST(test_refused)
{
	struct rng r = { 7 };
	struct layout l = { .refuse = 5 };
	uint8_t *disk = make_disk(&r);
	struct vhd_io *from = temp_file(), *to = temp_file();
	enum copy_fault fault;

	ck_assert_int_eq(io_write(from, disk, DISK, 0), 0);
	fill_target(to);
	ck_assert_int_eq(run((unsigned)_i, from, to, &l, 7, &fault), -EDOM);
	ck_assert_int_eq(fault, COPY_FAULT_PLACE);
	ck_assert_uint_eq(l.turns, PIECES);
	io_close(from);
	io_close(to);
	free(disk);
}
END_TEST

/* Which side failed is told, and a read that failed keeps nobody from their turn. */
START_TEST(test_faults)
{
	struct mem_disk *a = mem_disk_new(DISK, false), *b = mem_disk_new(0, false);
	struct vhd_io *from = mem_disk_open(a, "a", true), *to = mem_disk_open(b, "b", true);
	struct rng r = { 9 };
	struct layout l = { .refuse = -1 };
	uint8_t *disk = make_disk(&r);
	enum copy_fault fault;

	ck_assert_int_eq(io_write(from, disk, DISK, 0), 0);
	fill_target(to);
	mem_disk_fail(_i ? b : a, 3, 1, -EIO);
	ck_assert_int_eq(run(0, from, to, &l, 9, &fault), -EIO);
	ck_assert_int_eq(fault, _i ? COPY_FAULT_WRITE : COPY_FAULT_READ);
	ck_assert_uint_eq(l.turns, _i ? PIECES : PIECES - 1);
	io_close(from);
	io_close(to);
	mem_disk_free(a);
	mem_disk_free(b);
	free(disk);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("copy");
	TCase *t = tcase_create("copy");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(t, test_turns, 0, 25);
	tcase_add_loop_test(t, test_refused, 0, 3);
	tcase_add_loop_test(t, test_faults, 0, 2);
	tcase_set_timeout(t, 60);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
