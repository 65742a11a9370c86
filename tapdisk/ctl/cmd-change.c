/* cmd-change.c - tap-ctl snapshot, resize, throttle, retry, export, unexport */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "libvhd/base/cleanup.h"

#define A_DISK (TARGET_PID | TARGET_MINOR | TARGET_FIND)

/* Call, print @out with --json or the text of @key, release everything. */
static int call_and_print(struct arguments *args, struct target *target, const char *method,
			  json_t *in, const char *schema, const char *key)
{
	json_t *out = NULL;
	int status = target_call(target, method, in, REMOTE_FOREVER, &out);

	target_close(target);
	if (!status && args->json)
		target_print_json(schema, json_incref(out));
	else if (!status && key)
		printf("%s\n", json_string_value(json_object_get(out, key)));
	json_decref(out);
	return status;
}

static int run_snapshot(struct arguments *args)
{
	const char *base = arguments_get(args, "name"), *leaf = arguments_get(args, "new-leaf");
	int64_t timeout = target_timeout_ms(args);
	CLEANUP_FREE char *path = NULL;
	struct target target;
	json_t *in;
	int status;

	if (timeout < 0)
		return EINVAL;
	if (!base == !leaf)
		return usage_error("either --name BASE or --new-leaf FILE is needed");
	path = target_path(base ? base : leaf);
	if (!path)
		return EINVAL;
	status = target_open(args, A_DISK, &target);
	if (status)
		return status;
	in = target_parameters(&target);
	json_object_set_new(in, base ? "base" : "new_leaf", json_string(path));
	if (timeout)
		json_object_set_new(in, "timeout_ms", json_integer(timeout));
	return call_and_print(args, &target, "Snapshot", in, "tap-snapshot/1", NULL);
}

static const struct option_spec snapshot_options[] = {
	OPTION_PID,
	OPTION_MINOR,
	{ 0, "name", "FILE", "name for the frozen node; the active name stays" },
	{ 0, "new-leaf", "FILE", "name for the new leaf instead; the old one is hidden" },
	{ 't', "timeout", "SECONDS", "longest wait for requests in flight (default 30)" },
	OPTION_JSON,
	OPTION_RUN_DIR,
	{ 0 },
};

const struct command command_snapshot = {
	.name = "snapshot",
	.summary = "snapshot a disk while it serves",
	.operands = "",
	.options = snapshot_options,
	.run = run_snapshot,
};

static int run_resize(struct arguments *args)
{
	struct target target;
	uint64_t size = 0;
	json_t *in;
	int rc = arguments_units(args, "size", 1ull << 20, &size);
	int status;

	if (rc == 0)
		return usage_error("how large? --size SIZE, or -s MiB");
	if (rc < 0 || size > INT64_MAX)
		return rc < 0 ? EINVAL : usage_error("--size: too large");
	status = target_open(args, A_DISK, &target);
	if (status)
		return status;
	in = target_parameters(&target);
	json_object_set_new(in, "size", json_integer((json_int_t)size));
	return call_and_print(args, &target, "Resize", in, "tap-resize/1", NULL);
}

static const struct option_spec resize_options[] = {
	OPTION_PID,
	OPTION_MINOR,
	{ 's', "size", "SIZE", "new virtual size: -s in MiB, --size in bytes or with K, M, G, T" },
	OPTION_JSON,
	OPTION_RUN_DIR,
	{ 0 },
};

const struct command command_resize = {
	.name = "resize",
	.summary = "grow a disk while it serves, in its metadata's room",
	.operands = "",
	.options = resize_options,
	.run = run_resize,
};

/* ── throttle, retry ── */

static int run_throttle(struct arguments *args)
{
	static const char *const limits[][2] = {
		{ "iops", "iops" },
		{ "iops-burst", "iops_burst" },
		{ "bps", "bytes" },
		{ "bps-burst", "bytes_burst" },
	};
	struct target target;
	json_t *in = json_object();
	int status;

	for (size_t k = 0; k < sizeof(limits) / sizeof(limits[0]); k++) {
		uint64_t value;
		int rc = arguments_size(args, limits[k][0], &value);

		if (rc < 0 || (rc > 0 && value > INT64_MAX)) {
			json_decref(in);
			return rc < 0 ? EINVAL : usage_error("--%s: too large", limits[k][0]);
		}
		if (rc > 0)
			json_object_set_new(in, limits[k][1], json_integer((json_int_t)value));
	}
	status = target_open(args, A_DISK, &target);
	if (status) {
		json_decref(in);
		return status;
	}
	json_object_set_new(in, "minor", json_integer(target.minor));
	return call_and_print(args, &target, "Throttle", in, "tap-throttle/1", NULL);
}

static const struct option_spec throttle_options[] = {
	OPTION_PID,
	OPTION_MINOR,
	{ 0, "iops", "N", "requests a second; 0: no limit" },
	{ 0, "iops-burst", "N", "how many at once after a quiet time; 0: one second's" },
	{ 0, "bps", "SIZE", "bytes a second; 0: no limit" },
	{ 0, "bps-burst", "SIZE", "how many bytes at once; 0: one second's" },
	OPTION_JSON,
	OPTION_RUN_DIR,
	{ 0 },
};

const struct command command_throttle = {
	.name = "throttle",
	.summary = "limit a disk's requests and bytes a second",
	.operands = "",
	.options = throttle_options,
	.run = run_throttle,
};

static int run_retry(struct arguments *args)
{
	const char *time = arguments_get(args, "retry-time");
	bool forever = time && !strcmp(time, "forever");
	struct target target;
	uint64_t seconds = 0;
	json_t *in;
	int status;

	if (time && !forever && arguments_number(args, "retry-time", &seconds) < 0)
		return EINVAL;
	if (seconds > INT32_MAX)
		return usage_error("--retry-time: too long; 'forever' is a word for it");
	status = target_open(args, A_DISK, &target);
	if (status)
		return status;
	in = target_parameters(&target);
	if (forever)
		json_object_set_new(in, "forever", json_true());
	else if (time)
		json_object_set_new(in, "time_ms", json_integer((json_int_t)seconds * 1000));
	return call_and_print(args, &target, "Retry", in, "tap-retry/1", NULL);
}

static const struct option_spec retry_options[] = {
	OPTION_PID,
	OPTION_MINOR,
	{ 0, "retry-time", "SECONDS", "and wait so long from now on; or forever" },
	OPTION_JSON,
	OPTION_RUN_DIR,
	{ 0 },
};

const struct command command_retry = {
	.name = "retry",
	.summary = "try at once what waits for the storage",
	.operands = "",
	.options = retry_options,
	.run = run_retry,
};

/* ── exports ── */

/* "unix:PATH" with the path made absolute; else as given. */
static char *absolute_address(const char *given)
{
	CLEANUP_FREE char *path = NULL;
	char *address = NULL;

	if (strncmp(given, "unix:", 5))
		return strdup(given);
	path = target_path(given + 5);
	if (!path || asprintf(&address, "unix:%s", path) < 0)
		return NULL;
	return address;
}

static int run_export(struct arguments *args)
{
	const char *given = arguments_get(args, "nbd");
	const char *name = arguments_get(args, "export-name");
	CLEANUP_FREE char *address = given ? absolute_address(given) : NULL;
	struct target target;
	json_t *in;
	int status;

	if (!address)
		return given ? ENOMEM : usage_error("where? --nbd unix:PATH or tcp:HOST:PORT");
	status = target_open(args, A_DISK, &target);
	if (status)
		return status;
	in = target_parameters(&target);
	json_object_set_new(in, "address", json_string(address));
	if (name)
		json_object_set_new(in, "name", json_string(name));
	json_object_set_new(in, "read_only", json_boolean(arguments_has(args, "read-only")));
	return call_and_print(args, &target, "Export", in, "tap-export/1", "address");
}

static const struct option_spec export_options[] = {
	OPTION_PID,
	OPTION_MINOR,
	{ 0, "nbd", "ADDRESS", "unix:PATH or tcp:HOST:PORT (port 0: any)" },
	{ 0, "export-name", "NAME", "name for clients (default: the disk's)" },
	{ 'R', "read-only", NULL, "refuse writes" },
	OPTION_JSON,
	OPTION_RUN_DIR,
	{ 0 },
};

const struct command command_export = {
	.name = "export",
	.summary = "export a disk at one more address, print it",
	.operands = "",
	.options = export_options,
	.run = run_export,
};

static int run_unexport(struct arguments *args)
{
	const char *given = arguments_get(args, "nbd");
	CLEANUP_FREE char *address = given ? absolute_address(given) : NULL;
	struct target target;
	json_t *in;
	int status;

	if (given && !address)
		return ENOMEM;
	status = target_open(args, A_DISK, &target);
	if (status)
		return status;
	in = target_parameters(&target);
	if (address)
		json_object_set_new(in, "address", json_string(address));
	return call_and_print(args, &target, "Unexport", in, "tap-unexport/1", NULL);
}

static const struct option_spec unexport_options[] = {
	OPTION_PID,  OPTION_MINOR,   { 0, "nbd", "ADDRESS", "only there (default: everywhere)" },
	OPTION_JSON, OPTION_RUN_DIR, { 0 },
};

const struct command command_unexport = {
	.name = "unexport",
	.summary = "take a disk from the network",
	.operands = "",
	.options = unexport_options,
	.run = run_unexport,
};
