/* cmd-create.c - tap-ctl create, destroy: the whole life of a disk in one command each */
#include <errno.h>
#include <stdio.h>

#include "ctl.h"
#include "libvhd/error.h"

/* Undo what create has done; errors of undoing add nothing to why. */
static void undo(struct target *target, bool attached)
{
	int ignored = 0;

	if (attached)
		ignored = remote_call(&target->remote, "Detach", target_parameters(target),
				      REMOTE_WAIT_MS, NULL, NULL);
	else if (target->remote.fd >= 0)
		ignored = remote_call(&target->remote, "Stop", NULL, REMOTE_WAIT_MS, NULL, NULL);
	remote_wait_end(&target->remote, REMOTE_WAIT_MS);
	ignored = rundir_free(target->dir, target->minor, NULL);
	(void)ignored;
}

static int attach_and_open(struct target *target, json_t *in)
{
	int status = target_call(target, "Attach", target_parameters(target), REMOTE_WAIT_MS, NULL);

	if (status) {
		json_decref(in);
		undo(target, false);
		return status;
	}
	status = ctl_call_open(target, in, NULL);
	if (status)
		undo(target, true);
	return status;
}

static int run_create(struct arguments *args)
{
	char path[PATH_MAX];
	struct target target;
	struct vhd_error err;
	json_t *in;
	int status = target_open(args, 0, &target);

	if (status)
		return status;
	in = ctl_open_parameters(args, &target, &status); /* before anything is made */
	if (!in)
		return status;
	if (rundir_make(target.dir, &err) < 0 ||
	    rundir_allocate(target.dir, &target.minor, &err) < 0) {
		json_decref(in);
		return print_error(&err);
	}
	json_object_set_new(in, "minor", json_integer(target.minor));
	status = ctl_spawn(target.dir, &target.pid);
	if (!status && remote_open(target.dir, target.pid, &target.remote, &err) < 0)
		status = print_error(&err);
	if (status) {
		json_decref(in);
		undo(&target, false);
		return status;
	}
	status = attach_and_open(&target, in);
	target_close(&target);
	if (status)
		return status;
	rundir_marker_path(target.dir, target.minor, path);
	printf("%s\n", path);
	return 0;
}

static const struct option_spec create_options[] = {
	OPTION_ARGS, OPTIONS_OPEN, OPTION_TIMEOUT, OPTION_RUN_DIR, { 0 },
};

const struct command command_create = {
	.name = "create",
	.summary = "allocate, spawn, attach and open; print the device path",
	.operands = "",
	.options = create_options,
	.run = run_create,
};

static int run_destroy(struct arguments *args)
{
	int64_t timeout = target_timeout_ms(args);
	struct target target;
	struct vhd_error err;
	json_t *in;
	int status = timeout < 0 ?
			     EINVAL :
			     target_open(args, TARGET_PID | TARGET_MINOR | TARGET_FIND, &target);

	if (status)
		return status;
	in = target_parameters(&target);
	json_object_set_new(in, "timeout_ms", json_integer(timeout));
	status = target_call(&target, "Close", in, target_wait_ms(timeout), NULL);
	if (!status)
		status = ctl_detach(&target);
	target_close(&target);
	if (!status && rundir_free(target.dir, target.minor, &err) < 0 && err.code != -ENOENT)
		status = print_error(&err);
	return status;
}

static const struct option_spec destroy_options[] = {
	OPTION_PID, OPTION_MINOR, OPTION_TIMEOUT, OPTION_RUN_DIR, { 0 },
};

const struct command command_destroy = {
	.name = "destroy",
	.summary = "close, detach and free",
	.operands = "",
	.options = destroy_options,
	.run = run_destroy,
};
