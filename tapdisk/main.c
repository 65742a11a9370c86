/* main.c - tapdisk: from start to end
 *
 *   options ─► (background) ─► loop, engine, control ─► disks opened, one after the other
 *      ─► NBD listens ─► control socket ─► ready ─► … ─► SIGTERM: shut down ─► exit
 *
 * Nothing is served before all that was asked for is open; a failure on the way closes
 * what was opened, says why, and ends with its status.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "libvhd/error.h"
#include "options.h"
#include "tapdisk/control/control.h"
#include "tapdisk/protocol/rundir.h"

#define ENGINE_DEPTH 256u
#define SHUTDOWN_NS  (60ull * 1000000000)
#define FIRST_SOCKET 3
#define SIGNALS	     3

struct tapdisk {
	struct options options;
	struct loop *loop;
	struct engine *engine;
	struct host host;
	struct control *control;
	char run_dir[PATH_MAX];
	bool has_run_dir;
	struct loop_signal *signals[SIGNALS];
	unsigned opened; /* disks */
	struct vbd_op op;
	unsigned sockets; /* handed over */
	struct vhd_error err;
	bool ending, up;
};

static void keep_error(struct tapdisk *t, const struct vhd_error *err)
{
	if (err && err->code && !t->err.code)
		t->err = *err;
}

/* ── the end ── */

static void down(void *owner, const struct vhd_error *err)
{
	struct tapdisk *t = owner;

	keep_error(t, err);
	loop_stop(t->loop);
}

static void end(void *owner)
{
	struct tapdisk *t = owner;

	if (t->ending)
		return;
	t->ending = true;
	daemon_notify("STOPPING=1");
	log_write(LOG_LEVEL_INFO, "stopping", LOG_NO_MINOR, "closing all disks");
	control_shutdown(t->control, SHUTDOWN_NS, down, t);
}

static void fail(struct tapdisk *t, const struct vhd_error *err)
{
	keep_error(t, err);
	end(t);
}

/* ── the start ── */

static int listen_all(struct tapdisk *t, struct vhd_error *err)
{
	struct nbd_params handed = options_listener(&t->options);
	int rc = 0;

	for (unsigned i = 0; i < t->options.listen_count && rc >= 0; i++)
		rc = control_export_all(t->control, &t->options.listen[i], err);
	for (unsigned i = 0; i < t->sockets && rc >= 0; i++) {
		handed.fd = FIRST_SOCKET + (int)i;
		rc = daemon_socket_is_control(i) ? control_listen_fd(t->control, handed.fd, err) :
						   control_export_all(t->control, &handed, err);
	}
	if (rc >= 0 && t->has_run_dir)
		rc = control_listen(t->control, err);
	return rc;
}

static void ready(struct tapdisk *t)
{
	struct vhd_error err;
	char status[64];

	if (listen_all(t, &err) < 0 ||
	    (t->options.pid_file && daemon_write_pid(t->options.pid_file, &err) < 0)) {
		fail(t, &err);
		return;
	}
	t->up = true;
	snprintf(status, sizeof(status), "READY=1\nSTATUS=serving %u disks", t->opened);
	daemon_notify(status);
	log_write(LOG_LEVEL_INFO, "ready", LOG_NO_MINOR, "%u disks, %s", t->opened,
		  engine_name(t->engine));
	daemon_ready(!t->options.to_syslog);
}

static void open_next(struct tapdisk *t);

static void opened(struct vbd_op *op)
{
	struct tapdisk *t = op->owner;

	if (t->ending) /* told to end meanwhile: that it came to nothing is no failure */
		return;
	if (op->err.code) {
		fail(t, &op->err);
		return;
	}
	t->opened++;
	open_next(t);
}

static void open_next(struct tapdisk *t)
{
	struct disk_params params = t->options.disk;
	struct vhd_error err;
	struct vbd *vbd;

	if (t->ending)
		return;
	if (t->opened == t->options.disk_count) {
		ready(t);
		return;
	}
	if (control_attach(t->control, t->opened, t->options.disks[t->opened].name, &vbd, &err) <
	    0) {
		fail(t, &err);
		return;
	}
	if (t->options.limits.iops || t->options.limits.bytes)
		vbd_throttle(vbd, &t->options.limits);
	t->op = (struct vbd_op){ .done = opened, .owner = t };
	params.key = t->options.disks[t->opened].key;
	vbd_open(vbd, t->options.disks[t->opened].spec, &params, &t->op);
}

static int catch_signals(struct tapdisk *t)
{
	static const int numbers[SIGNALS] = { SIGTERM, SIGINT, SIGHUP };
	int rc = 0;

	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < SIGNALS && rc >= 0; i++)
		rc = loop_signal_open(t->loop, numbers[i], end, t, &t->signals[i]);
	return rc;
}

/* The run directory is needed by tap-ctl only: a server in the foreground does without. */
static int find_run_dir(struct tapdisk *t, struct vhd_error *err)
{
	int rc = rundir_find(t->options.run_dir, t->run_dir, err);

	if (!rc)
		rc = rundir_make(t->run_dir, err);
	t->has_run_dir = !rc;
	if (rc < 0 && !t->options.run_dir && !t->options.empty) {
		log_write(LOG_LEVEL_WARNING, "no-control", LOG_NO_MINOR, "no control socket: %s",
			  err->text);
		return 0;
	}
	return rc;
}

static int begin(struct tapdisk *t, struct vhd_error *err)
{
	struct control_params params = { .host = &t->host,
					 .run_dir = t->run_dir,
					 .disk = t->options.disk,
					 .retry_ns = t->options.retry_ns,
					 .nbd = options_listener(&t->options),
					 .memory_bytes = t->options.memory_bytes,
					 .stop = end,
					 .owner = t };
	int rc = find_run_dir(t, err);

	if (rc < 0)
		return rc;
	rc = loop_open(&t->loop);
	if (!rc)
		loop_spin(t->loop, t->options.spin_ns);
	if (!rc)
		rc = engine_open(t->loop, t->options.engine, ENGINE_DEPTH, &t->engine);
	if (!rc)
		rc = catch_signals(t);
	if (rc < 0)
		return error_set(err, rc, "cannot start: %s", vhd_strerror(rc));
	host_init(&t->host, t->loop, t->engine);
	return control_open(&params, &t->control, err);
}

static void release(struct tapdisk *t)
{
	control_close(t->control);
	for (int i = 0; i < SIGNALS; i++)
		loop_signal_close(t->signals[i]);
	engine_close(t->engine);
	loop_close(t->loop);
	if (t->up && t->options.pid_file)
		unlink(t->options.pid_file);
	options_release(&t->options);
}

static int run(struct arguments *args)
{
	static struct tapdisk t; /* large, and one a process */
	struct vhd_error err = { .code = 0 };
	int status = options_read(args, &t.options);

	if (status) {
		options_release(&t.options);
		return status;
	}
	t.sockets = daemon_sockets();
	if (!t.options.listen_count && !t.sockets && !t.options.empty)
		return usage_error(
			"nobody could use the disk: give --nbd unix:PATH or tcp:HOST:PORT");
	log_open("tapdisk", t.options.to_syslog, t.options.log_level);
	if (t.options.daemon && daemon_begin(&err) < 0)
		return print_error(&err);
	if (begin(&t, &err) < 0) {
		keep_error(&t, &err);
	} else {
		open_next(&t);
		loop_run(t.loop);
	}
	release(&t);
	return t.err.code ? print_error(&t.err) : 0;
}

static const struct command tapdisk_command = {
	.name = "",
	.summary = "Serve disk images over NBD.",
	.operands = "[[--name N] TYPE:PATH]...",
	.max_rest = -1,
	.keys_apart = true,
	.options = tapdisk_options,
	.run = run,
};

const struct program program = { .name = "tapdisk", .only = &tapdisk_command };
