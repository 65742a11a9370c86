/* check_reopen.c - storage that failed for long: files are opened anew, under their old descriptors
 *
 * A descriptor is spoiled by putting another one, on which all I/O fails, in its place: with that its
 * locks are gone too, as with a server that forgot its state.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libvhd/cbt.h"
#include "libvhd/io-file.h"
#include "libvhd/lock.h"
#include "tapdisk/drivers/vhd-private.h"
#include "tests/lib/suite.h"
#include "vbd-world.h"

#define BYTES	  (4u << 20)
#define REOPEN_NS UINT64_C(200000000)

static struct vbd_world w;
static struct vbd *vbd;
static uint8_t page[4096], other[4096];
static unsigned reopened, refused, lost;
static bool over;
static int answer;

static void told(struct vbd_watcher *watcher, const char *what, const char *text)
{
	(void)watcher;
	reopened += !strcmp(what, "reopened");
	refused += strstr(text, "cannot be opened anew") != NULL;
	lost += !strcmp(what, "lost");
}

static struct vbd_watcher watcher;
static unsigned gone;

static void told_lost(struct vbd_watcher *unused)
{
	(void)unused;
	gone++;
}

static void set_consistent(const char *log)
{
	const bool yes = true;
	struct vhd_error err;

	ck_assert_int_eq(cbt_set(log, &(struct cbt_change){ .consistent = &yes }, false, &err), 0);
}

static bool is_consistent(const char *log)
{
	struct vhd_error err;
	struct cbt cbt;
	bool yes;

	ck_assert_int_eq(cbt_open(log, false, &cbt, &err), 0);
	yes = cbt.header.consistent;
	cbt_close(&cbt);
	return yes;
}

static void make(const char *name, const char *parent)
{
	struct vhd_create_options create = { .type = VHD_TYPE_DYNAMIC, .size = BYTES };
	struct vhd_snapshot_options snapshot = { .size = 0 };
	char path[128];
	struct vhd_error err;
	int rc;

	snprintf(path, sizeof(path), "%s", vbd_world_path(&w, name));
	rc = parent ? vhd_snapshot(path, vbd_world_path(&w, parent), &snapshot, &err) :
		      vhd_create(path, &create, &err);
	ck_assert_msg(rc == 0, "%s", err.text);
}

static void begin_logged(const char *type, const char *name, const char *log)
{
	struct vbd_params params = { .minor = 0 };

	reopened = refused = lost = gone = 0;
	w.host.reopen_ns = REOPEN_NS;
	ck_assert_int_eq(vbd_new(&w.host, &params, &vbd), 0);
	ck_assert_int_eq(vbd_world_open_image(&w, vbd, type, name, false, log), 0);
	vbd_retry_time(vbd, RETRY_FOREVER);
	watcher = (struct vbd_watcher){ .event = told, .lost = told_lost };
	list_init(&watcher.link);
	vbd_watch(vbd, &watcher);
	memset(page, 0x5a, sizeof(page));
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_WRITE, 0, 8192, sizeof(page), page), 0);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_FLUSH, 0, 0, 0, NULL), 0);
}

static void begin(const char *type, const char *name)
{
	begin_logged(type, name, NULL);
}

static void end(void)
{
	vbd_unwatch(vbd, &watcher);
	ck_assert_int_eq(vbd_world_end(&w, vbd), 0);
}

/* All descriptors on @name.  What the ring still holds of them goes soon, and the locks with it. */
static void spoil(const char *name)
{
	int bad = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	struct stat want, st;

	ck_assert_int_ge(bad, 0);
	ck_assert_int_eq(stat(vbd_world_path(&w, name), &want), 0);
	for (int fd = 3; fd < 256; fd++)
		if (fd != bad && fstat(fd, &st) == 0 && st.st_ino == want.st_ino &&
		    st.st_dev == want.st_dev)
			ck_assert_int_eq(dup3(bad, fd, O_CLOEXEC), fd);
	close(bad);
}

static void done(struct request *req)
{
	answer = req->err;
	over = true;
}

static struct request req;

static void submit(enum request_op op, uint64_t offset)
{
	req = (struct request){
		.op = op, .offset = offset, .length = sizeof(other), .buf = other, .done = done
	};
	over = false;
	vbd_submit(vbd, &req);
}

static void run_for(unsigned ms)
{
	struct loop_timer *timer;

	ck_assert_int_eq(loop_timer_open(w.loop, (void (*)(void *))loop_stop, w.loop, &timer), 0);
	loop_timer_set(timer, ms * UINT64_C(1000000));
	loop_run(w.loop);
	loop_timer_close(timer);
}

/* Is @name locked for writing by somebody, and stays so for @wait_ms? */
static bool is_locked(const char *name, unsigned wait_ms)
{
	struct vhd_error err;
	struct vhd_io *io;
	bool locked;

	ck_assert_int_eq(io_file_open(vbd_world_path(&w, name), IO_FILE_WRITE, &io, &err), 0);
	locked = lock_take(io, LOCK_WRITE, NULL, wait_ms, NULL, &err) < 0;
	io_close(io);
	return locked;
}

/* Leaf and parent, and what is written then is in the file. */
START_TEST(chain_goes_on)
{
	vbd_world_open(&w);
	make("p.vhd", NULL);
	begin("vhd", "p.vhd");
	end();
	make("l.vhd", "p.vhd");
	begin("vhd", "l.vhd");
	ck_assert(is_locked("l.vhd", 0));
	spoil("l.vhd");
	spoil("p.vhd");
	ck_assert(!is_locked("l.vhd", 5000));
	memset(other, 0xa5, sizeof(other));
	submit(REQUEST_WRITE, 65536);
	vbd_world_until(&w, &over);
	ck_assert_int_eq(answer, 0);
	ck_assert_uint_eq(reopened, 1);
	ck_assert(is_locked("l.vhd", 0));
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_READ, 0, 8192, sizeof(page), page), 0);
	ck_assert_uint_eq(page[100], 0x5a);
	end();
	begin("vhd", "l.vhd");
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_READ, 0, 65536, sizeof(page), page), 0);
	ck_assert_uint_eq(page[100], 0xa5);
	end();
	vbd_world_close(&w);
}
END_TEST

START_TEST(raw_goes_on)
{
	vbd_world_open(&w);
	vbd_world_file(&w, "d.raw", BYTES, 0);
	begin("aio", "d.raw");
	spoil("d.raw");
	submit(REQUEST_READ, 8192);
	vbd_world_until(&w, &over);
	ck_assert_int_eq(answer, 0);
	ck_assert_uint_eq(other[7], 0x5a);
	ck_assert_uint_eq(reopened, 1);
	ck_assert(is_locked("d.raw", 0));
	end();
	vbd_world_close(&w);
}
END_TEST

/* Another file under the name, or another image in the file, is not taken; the right one is, later. */
START_TEST(never_another_file)
{
	char from[128], to[128];

	vbd_world_open(&w);
	make("l.vhd", NULL);
	make("o.vhd", NULL);
	begin("vhd", "l.vhd");
	snprintf(from, sizeof(from), "%s", vbd_world_path(&w, "l.vhd"));
	snprintf(to, sizeof(to), "%s", vbd_world_path(&w, "aside.vhd"));
	spoil("l.vhd");
	ck_assert_int_eq(rename(from, to), 0);
	ck_assert_int_eq(link(vbd_world_path(&w, "o.vhd"), from), 0);
	submit(REQUEST_READ, 8192);
	run_for(700);
	ck_assert(!over);
	ck_assert_uint_ge(refused, 2);
	ck_assert_uint_eq(reopened, 0);
	ck_assert_int_eq(unlink(from), 0);
	run_for(400); /* and none at all */
	ck_assert(!over);
	ck_assert_int_eq(rename(to, from), 0);
	vbd_world_until(&w, &over);
	ck_assert_int_eq(answer, 0);
	ck_assert_uint_eq(other[7], 0x5a);
	ck_assert_uint_eq(reopened, 1);
	end();
	vbd_world_close(&w);
}
END_TEST

static void op_done(struct vbd_op *op)
{
	*(bool *)op->owner = true;
}

/* A job is under way: the disk stays until it ends, held by nobody, and lets nothing through. */
static void job_ends_first(void)
{
	bool refused_at_once = false;
	struct vbd_op hold = { .done = op_done, .owner = &refused_at_once };

	run_for(50);
	ck_assert_uint_eq(vbd_state(vbd) & VBD_CLOSED, 0);
	vbd_hold(vbd, 0, &hold);
	vbd_world_until(&w, &refused_at_once);
	ck_assert_int_eq(hold.err.code, -ESTALE);
	ck_assert_int_lt(fdatasync(io_file_fd(vhd_leaf(vhd_disk_of(vbd_disk(vbd)))->img->io)), 0);
	vbd_job_end(vbd);
}

/* Somebody locked it when our lock was gone: it is theirs. */
static void taken(bool job)
{
	struct vhd_error err;
	int ready[2], end_of[2], status;
	char byte, log[128];
	pid_t pid;

	vbd_world_open(&w);
	make("l.vhd", NULL);
	snprintf(log, sizeof(log), "%s", vbd_world_path(&w, "l.log"));
	ck_assert_int_eq(cbt_create(log, BYTES, false, false, &err), 0);
	set_consistent(log);
	begin_logged("vhd", "l.vhd", log);
	spoil("l.vhd");
	ck_assert_int_eq(pipe(ready), 0);
	ck_assert_int_eq(pipe(end_of), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		struct vhd_io *io;

		close(end_of[1]);
		if (io_file_open(vbd_world_path(&w, "l.vhd"), IO_FILE_WRITE, &io, &err) < 0 ||
		    lock_take(io, LOCK_WRITE, NULL, 5000, NULL, &err) < 0 ||
		    write(ready[1], "r", 1) != 1 || read(end_of[0], &byte, 1) != 0)
			_exit(1);
		_exit(0);
	}
	close(end_of[0]);
	close(ready[1]);
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	if (job)
		vbd_job_begin(vbd);
	submit(REQUEST_WRITE, 8192);
	while (!lost)
		run_for(5);
	if (job)
		job_ends_first();
	vbd_world_until(&w, &over);
	ck_assert_int_eq(answer, -ESHUTDOWN);
	ck_assert_uint_eq(lost, 1);
	ck_assert_uint_eq(gone, 1);
	ck_assert_uint_eq(reopened, 0);
	run_for(50);
	ck_assert_uint_eq(vbd_state(vbd), VBD_CLOSED);
	/* the other one does not log here */
	ck_assert(!is_consistent(log));
	close(end_of[1]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	close(ready[0]);
	/* it can be opened again, and has what was flushed */
	ck_assert_int_eq(vbd_world_open_image(&w, vbd, "vhd", "l.vhd", false, log), 0);
	ck_assert_int_eq(vbd_world_do(&w, vbd, REQUEST_READ, 0, 8192, sizeof(page), page), 0);
	ck_assert_uint_eq(page[9], 0x5a);
	end();
	vbd_world_close(&w);
}

START_TEST(taken_meanwhile)
{
	taken(false);
}
END_TEST

START_TEST(taken_during_a_job)
{
	taken(true);
}
END_TEST

/* Opening anew takes nothing from nobody's patience: it ends when it would have. */
START_TEST(patience_goes_on)
{
	char from[128], to[128];

	vbd_world_open(&w);
	make("l.vhd", NULL);
	begin("vhd", "l.vhd");
	vbd_retry_time(vbd, UINT64_C(1000000000));
	snprintf(from, sizeof(from), "%s", vbd_world_path(&w, "l.vhd"));
	snprintf(to, sizeof(to), "%s", vbd_world_path(&w, "aside.vhd"));
	spoil("l.vhd");
	ck_assert_int_eq(rename(from, to), 0);
	submit(REQUEST_READ, 8192);
	vbd_world_until(&w, &over);
	ck_assert_int_eq(answer, -EIO);
	ck_assert_uint_ge(refused, 2);
	ck_assert_int_eq(rename(to, from), 0);
	vbd_retry_time(vbd, RETRY_FOREVER);
	submit(REQUEST_READ, 8192);
	vbd_world_until(&w, &over);
	ck_assert_int_eq(answer, 0);
	end();
	vbd_world_close(&w);
}
END_TEST

/* Two disks on one parent: who notices opens it anew for both, and nobody's lock is lost. */
START_TEST(shared_parent)
{
	struct vbd *second;

	vbd_world_open(&w);
	make("p.vhd", NULL);
	begin("vhd", "p.vhd");
	end();
	make("a.vhd", "p.vhd");
	make("b.vhd", "p.vhd");
	w.host.reopen_ns = REOPEN_NS;
	ck_assert_int_eq(vbd_world_vbd(&w, "vhd", "a.vhd", false, &second), 0);
	reopened = 0;
	ck_assert_int_eq(vbd_world_vbd(&w, "vhd", "b.vhd", false, &vbd), 0);
	vbd_retry_time(vbd, RETRY_FOREVER);
	watcher = (struct vbd_watcher){ .event = told };
	list_init(&watcher.link);
	vbd_watch(vbd, &watcher);
	spoil("p.vhd");
	submit(REQUEST_READ, 8192);
	vbd_world_until(&w, &over);
	ck_assert_int_eq(answer, 0);
	ck_assert_uint_eq(other[9], 0x5a);
	ck_assert_uint_eq(reopened, 1);
	ck_assert_int_eq(vbd_world_do(&w, second, REQUEST_READ, 0, 8192, sizeof(page), page), 0);
	ck_assert_uint_eq(page[9], 0x5a);
	ck_assert_int_eq(vbd_world_end(&w, second), 0);
	submit(REQUEST_READ, 8192);
	vbd_world_until(&w, &over);
	ck_assert_int_eq(answer, 0);
	end();
	vbd_world_close(&w);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { chain_goes_on,	   raw_goes_on,
				       never_another_file, taken_meanwhile,
				       taken_during_a_job, patience_goes_on,
				       shared_parent,	   NULL };

	return suite_run("reopen", tests);
}
