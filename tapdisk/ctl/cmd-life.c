/* cmd-life.c - tap-ctl attach, detach, open, close, pause, unpause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/key.h"
#include "ctl.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/error.h"

#define END_WAIT_MS 10000
#define A_DISK	    (TARGET_PID | TARGET_MINOR | TARGET_FIND)

/* A command that is one call with these parameters (taken) and no output. */
static int just_call(struct target *target, const char *method, json_t *parameters, int wait_ms)
{
	int status = target_call(target, method, parameters, wait_ms, NULL);

	target_close(target);
	return status;
}

static int run_attach(struct arguments *args)
{
	struct target target;
	const char *name = arguments_get(args, "export-name");
	int status = target_open(args, TARGET_PID | TARGET_MINOR, &target);
	json_t *in;

	if (status)
		return status;
	in = target_parameters(&target);
	if (name)
		json_object_set_new(in, "name", json_string(name));
	return just_call(&target, "Attach", in, REMOTE_WAIT_MS);
}

static const struct option_spec attach_options[] = {
	{ 'p', "pid", "PID", "the tapdisk" },
	OPTION_MINOR,
	{ 0, "export-name", "NAME", "name for NBD clients (default: the image's without suffix)" },
	OPTION_RUN_DIR,
	{ 0 },
};

const struct command command_attach = {
	.name = "attach",
	.summary = "give a minor to a tapdisk",
	.operands = "",
	.options = attach_options,
	.run = run_attach,
};

int ctl_detach(struct target *target)
{
	struct vhd_error err = { 0 };
	json_t *facts = NULL;
	bool last = false;
	int status;

	if (remote_call(&target->remote, "List", NULL, REMOTE_WAIT_MS, &facts, &err) < 0)
		return print_error(&err);
	last = json_array_size(json_object_get(facts, "disks")) == 1;
	json_decref(facts);
	status = target_call(target, "Detach", target_parameters(target), REMOTE_WAIT_MS, NULL);
	if (!status && last)
		remote_wait_end(&target->remote, END_WAIT_MS);
	return status;
}

static int run_detach(struct arguments *args)
{
	struct target target;
	int status = target_open(args, A_DISK, &target);

	if (!status)
		status = ctl_detach(&target);
	target_close(&target);
	return status;
}

static const struct option_spec detach_options[] = {
	OPTION_PID,
	OPTION_MINOR,
	OPTION_RUN_DIR,
	{ 0 },
};

const struct command command_detach = {
	.name = "detach",
	.summary = "take a minor from its tapdisk; the last one ends it",
	.operands = "",
	.options = detach_options,
	.run = run_detach,
};

/* ── open ── */

/* Options that old scripts may give and this program does not do. */
static int refuse_unknown(const struct arguments *args)
{
	static const struct {
		const char *option, *what;
	} refused[] = {
		{ "secondary", "a secondary image (mirroring)" },
		{ "standby", "standby" },
		{ "parent-minor", "reading the parents through another tapdisk" },
	};
	struct vhd_error err;

	for (size_t k = 0; k < sizeof(refused) / sizeof(refused[0]); k++) {
		if (!arguments_has(args, refused[k].option))
			continue;
		error_set(&err, -EOPNOTSUPP, "--%s: %s is not supported", refused[k].option,
			  refused[k].what);
		return print_error(&err);
	}
	return 0;
}

/* The log's name made absolute, as a parameter of @in.  An exit status. */
static int add_log(const struct arguments *args, json_t *in)
{
	const char *given = arguments_get(args, "changed-log");
	CLEANUP_FREE char *path = NULL;

	if (!given)
		return 0;
	path = *given ? target_path(given) : strdup("");
	if (!path)
		return EINVAL;
	json_object_set_new(in, "changed_log", json_string(path));
	return 0;
}

/* With the key on standard input, if there is one. */
json_t *ctl_open_parameters(const struct arguments *args, struct target *target, int *status)
{
	static const char *const flags[][2] = {
		{ "read-only", "read_only" },
		{ "buffered", "buffered" },
		{ "writethrough", "writethrough" },
		{ "force", "force" },
	};
	const char *given = arguments_get(args, "args");
	int64_t timeout = target_timeout_ms(args);
	CLEANUP_FREE char *spec = NULL;
	json_t *in;

	*status = EINVAL;
	if (timeout < 0)
		return NULL;
	if (!given) {
		usage_error("which image? --args TYPE:PATH is missing");
		return NULL;
	}
	*status = refuse_unknown(args);
	if (*status)
		return NULL;
	*status = EINVAL;
	spec = target_spec(given);
	if (!spec)
		return NULL;
	if (arguments_has(args, "key")) {
		*status = key_hand_over(&target->key_fd);
		if (*status)
			return NULL;
	}
	in = target_parameters(target);
	json_object_set_new(in, "args", json_string(spec));
	if (target->key_fd >= 0)
		json_object_set_new(in, "key", json_true());
	for (size_t k = 0; k < sizeof(flags) / sizeof(flags[0]); k++)
		if (arguments_has(args, flags[k][0]))
			json_object_set_new(in, flags[k][1], json_true());
	if (timeout)
		json_object_set_new(in, "timeout_ms", json_integer(timeout));
	*status = add_log(args, in);
	if (!*status)
		return in;
	json_decref(in);
	return NULL;
}

int ctl_call_open(struct target *target, json_t *in, json_t **out)
{
	target->remote.pass = target->key_fd >= 0 ? &target->key_fd : NULL;
	return target_call(target, "Open", in, REMOTE_FOREVER, out);
}

static int run_open(struct arguments *args)
{
	struct target target;
	json_t *in = NULL, *out = NULL;
	int status = target_open(args, A_DISK, &target);

	if (!status)
		in = ctl_open_parameters(args, &target, &status);
	if (in)
		status = ctl_call_open(&target, in, &out);
	if (!status)
		printf("%s\n", json_string_value(json_object_get(out, "path")));
	json_decref(out);
	target_close(&target);
	return status;
}

static const struct option_spec open_options[] = {
	OPTION_PID, OPTION_MINOR, OPTION_ARGS, OPTIONS_OPEN, OPTION_TIMEOUT, OPTION_RUN_DIR, { 0 },
};

const struct command command_open = {
	.name = "open",
	.summary = "open an image and export it, print the NBD socket",
	.operands = "",
	.options = open_options,
	.run = run_open,
};

/* ── close, pause, unpause ── */

static int run_close(struct arguments *args)
{
	int64_t timeout = target_timeout_ms(args);
	struct target target;
	json_t *in;
	int status = timeout < 0 ? EINVAL : target_open(args, A_DISK, &target);

	if (status)
		return status;
	in = target_parameters(&target);
	json_object_set_new(in, "timeout_ms", json_integer(timeout));
	json_object_set_new(in, "force", json_boolean(arguments_has(args, "force")));
	return just_call(&target, "Close", in, target_wait_ms(timeout));
}

static const struct option_spec close_options[] = {
	OPTION_PID,	OPTION_MINOR,	{ 'f', "force", NULL, "even if it cannot be made durable" },
	OPTION_TIMEOUT, OPTION_RUN_DIR, { 0 },
};

const struct command command_close = {
	.name = "close",
	.summary = "drain, commit and close the image",
	.operands = "",
	.options = close_options,
	.run = run_close,
};

static int run_pause(struct arguments *args)
{
	int64_t timeout = target_timeout_ms(args);
	uint64_t lease = 0;
	struct target target;
	json_t *in;
	int rc = arguments_number(args, "lease", &lease);
	int status = timeout < 0 || rc < 0 ? EINVAL : target_open(args, A_DISK, &target);

	if (status)
		return status;
	if (lease > INT_MAX)
		lease = INT_MAX;
	in = target_parameters(&target);
	json_object_set_new(in, "timeout_ms", json_integer(timeout));
	json_object_set_new(in, "lease_ms", json_integer((json_int_t)lease * 1000));
	return just_call(&target, "Pause", in, target_wait_ms(timeout));
}

static const struct option_spec pause_options[] = {
	OPTION_PID,	OPTION_MINOR,
	OPTION_TIMEOUT, { 0, "lease", "SECONDS", "go on by itself after (default: never)" },
	OPTION_RUN_DIR, { 0 },
};

const struct command command_pause = {
	.name = "pause",
	.summary = "drain, commit and hold: the files may be changed",
	.operands = "",
	.options = pause_options,
	.run = run_pause,
};

static int run_unpause(struct arguments *args)
{
	const char *given = arguments_get(args, "args");
	CLEANUP_FREE char *spec = NULL;
	struct target target;
	json_t *in;
	int status = target_timeout_ms(args) < 0 ? EINVAL : refuse_unknown(args);

	if (!status && given) {
		spec = target_spec(given);
		status = spec ? 0 : EINVAL;
	}
	if (!status)
		status = target_open(args, A_DISK, &target);
	if (status)
		return status;
	in = target_parameters(&target);
	if (spec)
		json_object_set_new(in, "args", json_string(spec));
	json_object_set_new(in, "grow", json_boolean(arguments_has(args, "grow")));
	status = add_log(args, in);
	if (status) {
		json_decref(in);
		target_close(&target);
		return status;
	}
	return just_call(&target, "Unpause", in, REMOTE_FOREVER);
}

static const struct option_spec unpause_options[] = {
	OPTION_PID,
	OPTION_MINOR,
	OPTION_ARGS,
	{ 0, "grow", NULL, "the image may be larger than the one before" },
	{ 'c', "changed-log", "FILE", "log of changed blocks from now on; '': none" },
	{ '2', "secondary", "TYPE:PATH", "mirror writes to it" },
	{ 'E', "key", NULL, "accepted for old scripts; a disk keeps its key while it is paused" },
	{ 't', "timeout", "SECONDS", "accepted for old scripts; locks are waited for as by open" },
	OPTION_RUN_DIR,
	{ 0 },
};

const struct command command_unpause = {
	.name = "unpause",
	.summary = "go on, on another image if one is named",
	.operands = "",
	.options = unpause_options,
	.run = run_unpause,
};
