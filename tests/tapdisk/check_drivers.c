/* check_drivers.c - names of disks; raw files of odd lengths, holes, modes; turns of VBDs on one host */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/base/number.h"
#include "tests/lib/suite.h"
#include "vbd-world.h"

#define MIB (1u << 20)

static struct vbd_world w;
static unsigned char buf[65536];

/* ── names ── */

START_TEST(test_names)
{
	static const char *const paths[][2] = {
		{ "vhd:/a/b.vhd", "/a/b.vhd" },
		{ "aio:x", "x" },
		{ "raw:/a:b,c", "/a:b,c" },
		{ "ram:64M", "64M" },
		{ "log:/l,vhd:/b.vhd", "/b.vhd" },
		{ "log:/l,x,vhd:/b,c.vhd", "/b,c.vhd" },
		{ "fault:read:err=5;write:range=0-1M,log:/l,raw:/r", "/r" },
		{ "log:/l", NULL },
		{ "qcow2:/x", NULL },
		{ "/x", NULL },
		{ "", NULL },
		{ ":x", NULL },
	};

	for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		const char *got = disk_spec_path(paths[i][0]);

		if (paths[i][1])
			ck_assert_str_eq(got, paths[i][1]);
		else
			ck_assert_ptr_null(got);
	}
}
END_TEST

START_TEST(test_refused)
{
	static const char *const specs[] = { "",       "x",	  "qcow2:/x", "raw:",
					     "ram:",   "ram:0",	  "ram:100",  "ram:x",
					     "ram:1P", "null:-1", "log:/l",   "fault:read:err=5",
					     "vhd:" };
	struct disk_params params = { 0 };
	struct vhd_error err;
	struct disk *disk;

	for (unsigned i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		err.text[0] = '\0';
		ck_assert_int_eq(disk_open(specs[i], &params, &disk, &err), -VHD_E_ARGUMENT);
		ck_assert(err.text[0]);
	}
	ck_assert_int_eq(disk_open("raw:/dev/null", &params, &disk, &err), -VHD_E_NOT_FILE);
	ck_assert_int_eq(disk_open("raw:/tmp", &params, &disk, &err), -VHD_E_NOT_FILE);
	ck_assert_int_eq(disk_open("raw:/none", &params, &disk, &err), -ENOENT);
	ck_assert_int_eq(disk_open("log:/tmp,raw:/none", &params, &disk, &err), -ENOENT);
}
END_TEST

/* ── raw ── */

static uint64_t file_bytes(const char *name, uint64_t *allocated)
{
	struct stat st;

	ck_assert_int_eq(stat(vbd_world_path(&w, name), &st), 0);
	if (allocated)
		*allocated = (uint64_t)st.st_blocks * 512;
	return (uint64_t)st.st_size;
}

START_TEST(test_odd_length)
{
	struct vbd *vbd;

	vbd_world_open(&w);
	vbd_world_file(&w, "a.raw", 1000, 7);
	ck_assert_int_eq(vbd_world_vbd(&w, "raw", "a.raw", false, &vbd), 0);
	ck_assert_uint_eq(vbd_size(vbd), 1024);
	memset(buf, 1, 1024);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_READ, 0, 0, 1024, buf), 0);
	for (unsigned i = 0; i < 1024; i++)
		ck_assert_uint_eq(buf[i], i < 1000 ? 7 : 0);
	ck_assert_uint_eq(file_bytes("a.raw", NULL), 1000);
	/* its last sector is written, by a part of it: the file grows to the sector's end */
	memset(buf, 9, 10);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_WRITE, REQUEST_FUA, 995, 10, buf), 0);
	ck_assert_uint_eq(file_bytes("a.raw", NULL), 1024);
	ck_assert_int_eq(vbd_world_pause(&w, vbd), 0);
	ck_assert_int_eq(vbd_world_unpause(&w, vbd, NULL, false), 0);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_READ, 0, 0, 1024, buf), 0);
	for (unsigned i = 0; i < 1024; i++)
		ck_assert_uint_eq(buf[i], i < 995 ? 7 : i < 1005 ? 9 : 0);
	ck_assert_int_eq(vbd_world_end(&w, vbd), 0);
	vbd_world_close(&w);
}
END_TEST

START_TEST(test_holes)
{
	struct request_extent e[8];
	uint64_t before, after;
	struct vbd *vbd;

	vbd_world_open(&w);
	vbd_world_file(&w, "a.raw", MIB, 3);
	ck_assert_int_eq(truncate(vbd_world_path(&w, "a.raw"), 4 * MIB), 0);
	ck_assert_int_eq(vbd_world_vbd(&w, "raw", "a.raw", false, &vbd), 0);
	ck_assert_uint_eq(vbd_world_status(&w, vbd, 0, 4 * MIB, e, 8), 2);
	ck_assert_uint_eq(e[0].length, MIB);
	ck_assert_uint_eq(e[0].flags, 0);
	ck_assert_uint_eq(e[0].depth, 1);
	ck_assert_uint_eq(e[1].length, 3 * MIB);
	ck_assert_uint_eq(e[1].flags, EXTENT_HOLE | EXTENT_ZERO);
	/* part of it, not at sectors; and no more extents than there is room for */
	ck_assert_uint_eq(vbd_world_status(&w, vbd, 777, 2 * MIB, e, 8), 2);
	ck_assert_uint_eq(e[0].length, MIB - 777);
	ck_assert_uint_eq(e[1].length, MIB + 777);
	ck_assert_uint_eq(vbd_world_status(&w, vbd, 777, 2 * MIB, e, 1), 1);
	file_bytes("a.raw", &before);
	ck_assert(vbd_disk(vbd)->can_trim && vbd_disk(vbd)->fast_zero);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_TRIM, 0, 100, MIB / 2, NULL), 0);
	file_bytes("a.raw", &after);
	ck_assert_uint_le(after, before - MIB / 2 + 8192);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_READ, 0, 0, 200, buf), 0);
	ck_assert(buf[99] == 3 && buf[199] == 3); /* the rest of a sector stays */
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_ZERO, REQUEST_FAST_ZERO, MIB - 1000, 1000,
				      NULL),
			 0);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_ZERO, REQUEST_FAST_ZERO | REQUEST_NO_HOLE,
				      MIB - 4096, 4096, NULL),
			 -ENOTSUP);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_READ, 0, MIB - 1001, 1001, buf), 0);
	ck_assert(buf[0] == 3 && buf[1] == 0 && buf[1000] == 0);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_ZERO, REQUEST_NO_HOLE, MIB - 8193, 8193,
				      NULL),
			 0);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_READ, 0, MIB - 8194, 8194, buf), 0);
	ck_assert(buf[0] == 3 && buf[1] == 0);
	ck_assert_uint_eq(file_bytes("a.raw", NULL), 4 * MIB);
	ck_assert_int_eq(vbd_world_end(&w, vbd), 0);
	vbd_world_close(&w);
}
END_TEST

START_TEST(test_read_only)
{
	struct vbd_stats stats;
	struct vbd *vbd;

	vbd_world_open(&w);
	vbd_world_file(&w, "a.raw", MIB, 3);
	ck_assert_int_eq(vbd_world_vbd(&w, "aio", "a.raw", true, &vbd), 0);
	ck_assert(vbd_read_only(vbd));
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_WRITE, 0, 0, 512, buf), -EROFS);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_ZERO, 0, 0, 512, NULL), -EROFS);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_TRIM, 0, 0, 512, NULL), -EROFS);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_FLUSH, 0, 0, 0, NULL), 0);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_READ, 0, 7, 512, buf), 0);
	vbd_get_stats(vbd, &stats);
	ck_assert_uint_eq(stats.op[REQUEST_READ].count, 1);
	ck_assert_uint_eq(stats.op[REQUEST_READ].bytes, 512);
	ck_assert_uint_eq(stats.op[REQUEST_WRITE].errors, 1);
	ck_assert_uint_eq(stats.op[REQUEST_WRITE].bytes, 0);
	ck_assert_uint_eq(stats.outstanding, 0);
	ck_assert_int_eq(vbd_world_end(&w, vbd), 0);
	vbd_world_close(&w);
}
END_TEST

/* ── turns ── */

struct slow {		  /* a disk that answers when told to */
	struct disk disk; /* first */
	struct list waiting;
	unsigned count;
};

static int slow_start(struct disk *disk, struct vhd_error *err)
{
	(void)disk;
	(void)err;
	return 0;
}

static void slow_submit(struct disk *disk, struct request *req)
{
	struct slow *d = (struct slow *)disk;
	struct list *link = (struct list *)(void *)req->state;

	list_append(&d->waiting, link);
	d->count++;
}

static void slow_quiesce(struct disk *disk, void (*done)(void *arg, int err), void *arg)
{
	(void)disk;
	done(arg, 0);
}

static void slow_stop(struct disk *disk)
{
	(void)disk;
}

static void slow_close(struct disk *disk)
{
	free(disk);
}

static const struct disk_ops slow_ops = { .name = "slow",
					  .start = slow_start,
					  .submit = slow_submit,
					  .quiesce = slow_quiesce,
					  .stop = slow_stop,
					  .close = slow_close };

static int open_slow(struct host *host, const char *spec, const struct disk_params *params,
		     struct disk **out, struct vhd_error *err)
{
	struct slow *d = calloc(1, sizeof(*d));

	(void)host;
	(void)spec;
	(void)params;
	(void)err;
	d->disk.ops = &slow_ops;
	d->disk.size = UINT64_C(1) << 30;
	list_init(&d->waiting);
	*out = &d->disk;
	return 0;
}

static struct slow *slow_of(struct vbd *vbd)
{
	return (struct slow *)vbd_disk(vbd);
}

static void answer(struct vbd *vbd, unsigned n)
{
	struct slow *d = slow_of(vbd);
	struct list *l;

	while (n-- && (l = list_pop(&d->waiting))) {
		d->count--;
		disk_complete(&d->disk,
			      (struct request *)(void *)((char *)l -
							 offsetof(struct request, state)),
			      0);
	}
}

static unsigned answers;

static void counted(struct request *req)
{
	(void)req;
	answers++;
}

#define MANY 2000u

START_TEST(test_turns)
{
	static struct request many[MANY], few[4];
	struct vbd *busy, *quiet;
	unsigned at_most;

	vbd_world_open(&w);
	w.host.open = open_slow;
	ck_assert_int_eq(vbd_world_vbd(&w, "raw", "busy", false, &busy), 0);
	ck_assert_int_eq(vbd_world_vbd(&w, "raw", "quiet", false, &quiet), 0);
	answers = 0;
	for (unsigned i = 0; i < MANY; i++) {
		many[i] = (struct request){
			.op = REQUEST_READ, .length = 4096, .buf = buf, .done = counted
		};
		vbd_submit(busy, &many[i]);
	}
	/* it takes the room, and no more */
	at_most = slow_of(busy)->count;
	ck_assert_uint_eq(at_most, w.host.room);
	/* the other is served at once all the same */
	for (unsigned i = 0; i < 4; i++) {
		few[i] = (struct request){
			.op = REQUEST_READ, .length = 4096, .buf = buf, .done = counted
		};
		vbd_submit(quiet, &few[i]);
		ck_assert_uint_eq(slow_of(quiet)->count, i + 1);
	}
	/* what is answered makes room for as much */
	answer(quiet, 4);
	ck_assert_uint_eq(slow_of(busy)->count, at_most);
	answer(busy, 100);
	ck_assert_uint_eq(slow_of(busy)->count, at_most);
	while (slow_of(busy)->count)
		answer(busy, 1);
	ck_assert_uint_eq(answers, MANY + 4);
	ck_assert_uint_eq(w.host.load, 0);
	ck_assert_int_eq(vbd_world_end(&w, busy), 0);
	ck_assert_int_eq(vbd_world_end(&w, quiet), 0);
	vbd_world_close(&w);
}
END_TEST

/* Two that want more than there is room for get half each. */
START_TEST(test_shares)
{
	static struct request many[2][MANY];
	struct vbd *vbd[2];

	vbd_world_open(&w);
	w.host.open = open_slow;
	for (unsigned k = 0; k < 2; k++)
		ck_assert_int_eq(vbd_world_vbd(&w, "raw", k ? "b" : "a", false, &vbd[k]), 0);
	for (unsigned k = 0; k < 2; k++) {
		for (unsigned i = 0; i < MANY; i++) {
			many[k][i] = (struct request){
				.op = REQUEST_READ, .length = 4096, .buf = buf, .done = counted
			};
			vbd_submit(vbd[k], &many[k][i]);
		}
	}
	for (unsigned i = 0; i < 700; i++) {
		answer(vbd[0], 1);
		answer(vbd[1], 1);
	}
	ck_assert_uint_eq(slow_of(vbd[0])->count, slow_of(vbd[1])->count);
	for (unsigned k = 0; k < 2; k++) {
		while (slow_of(vbd[k])->count)
			answer(vbd[k], 1);
		ck_assert_int_eq(vbd_world_end(&w, vbd[k]), 0);
	}
	vbd_world_close(&w);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { test_names,     test_refused, test_odd_length, test_holes,
				       test_read_only, test_turns,   test_shares,     NULL };

	return suite_run("drivers", tests);
}
