/* check_engine_model.c - random operations on every back end and kind of file, beside a model
 *
 * Up to SLOTS operations at a time, none overlapping another's bytes but often in the same
 * sector; each changes the model when it is submitted.  Reads are compared when done, the file
 * when all is over: by the engine and by plain reads.  ENGINE_SEED repeats a run.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tapdisk/engine/engine-private.h"
#include "tests/lib/rng.h"

#define SLOTS	  24
#define MAX_BYTES (1u << 20)
#define MAX_OP	  200000u

struct slot {
	struct engine_io io;
	bool busy;
	uint8_t *memory; /* aligned, MAX_OP + 4096 */
};

static struct loop *loop;
static struct engine *engine;
static struct engine_file *file;
static struct slot slots[SLOTS];
static struct rng rng;
static uint8_t model[MAX_BYTES];
static uint64_t size; /* of the model */
static bool device;
static unsigned unit; /* offsets and lengths are multiples of it */
static unsigned busy, left, wrong;
static struct loop_task more;
static char path[64], loop_device[64]; /* "": none */

static bool overlaps(uint64_t offset, uint64_t length)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (slots[i].busy && slots[i].io.offset < offset + length &&
		    offset < slots[i].io.offset + slots[i].io.length)
			return true;
	return false;
}

static void done(struct engine_io *io)
{
	struct slot *slot = list_entry(io, struct slot, io);

	if (io->err) {
		fprintf(stderr, "op %d at %llu + %llu: error %d\n", io->op,
			(unsigned long long)io->offset, (unsigned long long)io->length, io->err);
		wrong++;
	}
	if (io->op == ENGINE_READ && memcmp(io->buf, model + io->offset, io->length) != 0) {
		fprintf(stderr, "read at %llu + %llu differs\n", (unsigned long long)io->offset,
			(unsigned long long)io->length);
		wrong++;
	}
	slot->busy = false;
	busy--;
	loop_defer(loop, &more);
}

static uint64_t pick_length(void)
{
	uint64_t n = rng_chance(&rng, 70) ? 1 + rng_below(&rng, 12) :
					    1 + rng_below(&rng, MAX_OP / unit);

	return n * unit > MAX_OP ? MAX_OP / unit * unit : n * unit;
}

static enum engine_op pick_op(void)
{
	uint64_t n = rng_below(&rng, 100);

	if (n < 35)
		return ENGINE_READ;
	if (n < 80)
		return ENGINE_WRITE;
	if (n < 85)
		return ENGINE_SYNC;
	return n < 93 ? ENGINE_PUNCH : ENGINE_ZERO;
}

/* What @io will do, to the model. */
static void apply(const struct engine_io *io)
{
	uint64_t end = io->offset + io->length;

	if (io->op == ENGINE_WRITE) {
		memcpy(model + io->offset, io->buf, io->length);
		if (end > size)
			size = end;
	} else if (io->op == ENGINE_PUNCH || io->op == ENGINE_ZERO) {
		memset(model + io->offset, 0, io->length);
	}
}

static bool start_one(void)
{
	struct slot *slot = slots;
	struct engine_io *io;
	enum engine_op op = pick_op();
	uint64_t length = pick_length(), offset = rng_below(&rng, MAX_BYTES / unit) * unit;

	while (slot->busy)
		slot++;
	io = &slot->io;
	if (op == ENGINE_SYNC)
		offset = length = 0;
	if (offset + length > MAX_BYTES || overlaps(offset, length))
		return false;
	memset(io, 0xee, sizeof(*io)); /* the engine's fields need not be set */
	io->file = file;
	io->op = op;
	io->offset = offset;
	io->length = length;
	io->retry = NULL;
	io->done = done;
	io->buf = slot->memory + (rng_chance(&rng, 30) ? rng_below(&rng, 4096) : 0);
	if (op == ENGINE_WRITE)
		for (uint64_t i = 0; i < length; i++)
			((uint8_t *)io->buf)[i] = (uint8_t)(i % 251 + length + slot->io.offset);
	else
		memset(io->buf, 0xa5, length);
	apply(io);
	slot->busy = true;
	busy++;
	engine_submit(engine, io);
	return true;
}

static void start_more(struct loop_task *task)
{
	(void)task;
	for (unsigned tries = 0; left && busy < SLOTS && tries < 100; tries++)
		if (start_one())
			left--;
	if (!busy) {
		if (left)
			loop_defer(loop, &more);
		else
			loop_stop(loop);
	}
}

static void run(unsigned operations)
{
	left = operations;
	loop_defer(loop, &more);
	loop_run(loop);
}

/* One operation alone. */
static void alone(enum engine_op op, uint64_t offset, uint64_t length, void *buf)
{
	struct slot *slot = slots;

	slot->io = (struct engine_io){
		.file = file, .op = op, .offset = offset, .length = length, .buf = buf, .done = done
	};
	slot->busy = true;
	busy++;
	left = 0;
	engine_submit(engine, &slot->io);
	loop_run(loop);
}

static void compare_all(int fd)
{
	static uint8_t whole[MAX_BYTES];
	struct stat st;

	memset(whole, 0xa5, sizeof(whole));
	alone(ENGINE_READ, 0, MAX_BYTES, whole); /* compared with the model, zeros past its end */
	memset(whole, 0, sizeof(whole));
	if (!device) {
		ck_assert_int_eq(fstat(fd, &st), 0);
		ck_assert_uint_eq((uint64_t)st.st_size, size);
	}
	ck_assert_int_ge(pread(fd, whole, sizeof(whole), 0), 0);
	ck_assert_int_eq(memcmp(whole, model, sizeof(whole)), 0);
	ck_assert_uint_eq(wrong, 0);
}

/* @align: of sectors, pretended; 0: what it is. */
static void play(const char *name, enum engine_kind kind, int flags, unsigned align, unsigned step,
		 unsigned operations)
{
	int fd = open(name, O_RDWR | O_CLOEXEC | flags), plain = open(name, O_RDWR | O_CLOEXEC);
	struct engine_file_params params = {
		.fd = fd, .buffered_fd = -1, .device = device, .writable = true
	};

	ck_assert_int_ge(plain, 0);
	ck_assert_int_ge(fd, 0);
	unit = step;
	wrong = 0;
	if (!device)
		ck_assert_int_eq(ftruncate(plain, 0), 0);
	size = 0;
	memset(model, 0, sizeof(model));
	ck_assert_int_eq(loop_open(&loop), 0);
	/* not deep, so that some wait in the queue */
	ck_assert_int_eq(engine_open(loop, kind, 8, &engine), 0);
	ck_assert_int_eq(engine_file_open(engine, &params, &file), 0);
	if (align && file->direct) {
		file->align = align;
		file->memory_align = align;
	}
	if (device)
		alone(ENGINE_ZERO, 0, MAX_BYTES, NULL);
	for (int round = 0; round < 3; round++) {
		run(operations);
		compare_all(plain);
		if (!device) {
			size = rng_below(&rng, size / unit + 1) * unit;
			memset(model + size, 0, MAX_BYTES - size);
			alone(ENGINE_TRUNCATE, size, 0, NULL);
		}
	}
	compare_all(plain);
	ck_assert_uint_eq(file->partials, 0);
	ck_assert(list_empty(&file->spans) && list_empty(&file->blocked));
	engine_file_close(file);
	engine_close(engine);
	loop_close(loop);
	close(fd);
	close(plain);
}

static const enum engine_kind kinds[] = { ENGINE_URING, ENGINE_AIO, ENGINE_THREADS, ENGINE_AUTO };

/* After a failure too. */
static void remove_files(void)
{
	char command[128];

	if (loop_device[0]) {
		snprintf(command, sizeof(command), "losetup -d %s", loop_device);
		if (system(command) != 0)
			fprintf(stderr, "cannot do: %s\n", command);
	}
	loop_device[0] = 0;
	if (path[0])
		unlink(path);
	path[0] = 0;
}

static void make_file(const char *folder)
{
	int fd;

	sprintf(path, "%s/check_engine.XXXXXX", folder);
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	close(fd);
}

static void files_in(const char *folder, enum engine_kind kind, unsigned operations)
{
	device = false;
	make_file(folder);
	play(path, kind, O_DIRECT, 0, 4096, operations);
	play(path, kind, O_DIRECT, 0, 512, operations);
	play(path, kind, O_DIRECT, 0, 1, operations);
	play(path, kind, O_DIRECT, 4096, 512, operations); /* as on disks with large sectors */
	play(path, kind, O_DIRECT, 4096, 1, operations);
	play(path, kind, 0, 0, 1, operations);
}

START_TEST(files_on_disk)
{
	files_in("/var/tmp", kinds[_i], 150);
}
END_TEST

/* ── where a file ends ── */

#define END_ROUNDS 400
#define END_WRITES 6

static void end_done(struct engine_io *io)
{
	wrong += io->err != 0;
	if (--busy == 0)
		loop_stop(loop);
}

static void end_submit(struct slot *slot, enum engine_op op, uint64_t offset, uint64_t length)
{
	slot->io = (struct engine_io){ .file = file,
				       .op = op,
				       .offset = offset,
				       .length = length,
				       .buf = slot->memory,
				       .done = end_done };
	busy++;
	engine_submit(engine, &slot->io);
}

/* A file grows, or is cut, while sectors of its last page are written: then the kernel clears
 * the rest of that page in the page cache, and where a direct write is on its way into it says with the
 * next sync that something was lost. */
START_TEST(growth_at_the_end)
{
	uint64_t end = 512;
	struct engine_file_params params = { .buffered_fd = -1, .writable = true };

	device = false;
	make_file("/var/tmp");
	params.fd = open(path, O_RDWR | O_CLOEXEC | O_DIRECT);
	ck_assert_int_ge(params.fd, 0);
	ck_assert_int_eq(ftruncate(params.fd, (off_t)end), 0);
	ck_assert_int_eq(loop_open(&loop), 0);
	ck_assert_int_eq(engine_open(loop, kinds[_i], 8, &engine), 0);
	ck_assert_int_eq(engine_file_open(engine, &params, &file), 0);
	wrong = 0;
	for (unsigned round = 0; round < END_ROUNDS; round++) {
		uint64_t page = (end - 1) / 4096 * 4096;
		unsigned way = round % 4;

		for (unsigned i = 0; i < END_WRITES; i++)
			if (page + 512 * (i + 1ull) <= end)
				end_submit(&slots[i], ENGINE_WRITE, page + 512 * i, 512);
		if (way == 0) { /* whole sectors, with a gap */
			end_submit(&slots[SLOTS - 1], ENGINE_WRITE, end + 5120, 512);
			end += 5632;
		} else if (way == 1) { /* a part of one */
			end = end / 512 * 512 + 8192 + 3584;
			end_submit(&slots[SLOTS - 1], ENGINE_WRITE, end - 100, 100);
		} else if (way == 2) {
			end += 8192;
			end_submit(&slots[SLOTS - 1], ENGINE_TRUNCATE, end, 0);
		} else if (end % 4096 > 1024) {
			end -= 512;
			end_submit(&slots[SLOTS - 1], ENGINE_TRUNCATE, end, 0);
		}
		end_submit(&slots[SLOTS - 2], ENGINE_SYNC, 0, 0);
		loop_run(loop);
		end_submit(&slots[SLOTS - 2], ENGINE_SYNC, 0, 0);
		loop_run(loop);
	}
	ck_assert_uint_eq(wrong, 0);
	engine_file_close(file);
	engine_close(engine);
	loop_close(loop);
	close(params.fd);
}
END_TEST

START_TEST(files_in_memory)
{
	files_in("/dev/shm", kinds[_i], 300);
}
END_TEST

/* The last line of what @command prints; false: it failed. */
static bool run_command(const char *command, char *out, size_t bytes)
{
	FILE *f = popen(command, "r");
	bool ok;

	if (!f)
		return false;
	ok = fgets(out, (int)bytes, f) != NULL;
	out[strcspn(out, "\n")] = 0;
	return pclose(f) == 0 && ok;
}

START_TEST(large_sectors)
{
	char command[256], *dev = loop_device;
	int sector = 0, fd;

	make_file("/var/tmp");
	ck_assert_int_eq(truncate(path, MAX_BYTES), 0);
	snprintf(command, sizeof(command),
		 "losetup -f --show -b 4096 --direct-io=on %s 2>/dev/null", path);
	if (geteuid() != 0 || !run_command(command, dev, sizeof(loop_device))) {
		fprintf(stderr, "no loop devices here: not tried\n");
		dev[0] = 0;
		return;
	}
	fd = open(dev, O_RDONLY);
	ck_assert_int_eq(ioctl(fd, BLKSSZGET, &sector), 0);
	close(fd);
	ck_assert_int_eq(sector, 4096);
	device = true;
	play(dev, kinds[_i], O_DIRECT, 0, 4096, 100);
	play(dev, kinds[_i], O_DIRECT, 0, 512, 100);
	play(dev, kinds[_i], O_DIRECT, 0, 1, 100);
	play(dev, kinds[_i], 0, 0, 512, 100);
}
END_TEST

int main(void)
{
	const char *seed = getenv("ENGINE_SEED");
	int count = sizeof(kinds) / sizeof(kinds[0]);
	Suite *suite = suite_create("engine-model");
	TCase *tc = tcase_create("engine-model");
	SRunner *runner;
	int failed;

	rng.state = seed ? strtoull(seed, NULL, 0) : (uint64_t)getpid();
	printf("ENGINE_SEED=%llu\n", (unsigned long long)rng.state);
	for (unsigned i = 0; i < SLOTS; i++)
		slots[i].memory = aligned_alloc(4096, 4096 * ((MAX_OP + 8191) / 4096));
	more.run = start_more;
	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, NULL, remove_files);
	tcase_add_loop_test(tc, files_on_disk, 0, count);
	tcase_add_loop_test(tc, growth_at_the_end, 0, count);
	tcase_add_loop_test(tc, files_in_memory, 0, count);
	tcase_add_loop_test(tc, large_sectors, 0, count);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	for (unsigned i = 0; i < SLOTS; i++)
		free(slots[i].memory);
	return failed != 0;
}
