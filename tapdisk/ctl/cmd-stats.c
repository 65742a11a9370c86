/* cmd-stats.c - tap-ctl stats, clients */
#include <errno.h>
#include <stdio.h>

#include "ctl.h"
#include "libvhd/error.h"

#define WAIT_MS 5000

/* The Stats of one disk with pid and name of the export in it; NULL after printing why not. */
static json_t *ask_disk(const char *dir, int pid, json_t *disk)
{
	struct vhd_error err = { 0 };
	json_t *out = NULL, *stats = NULL;
	struct remote remote;
	int rc = remote_open(dir, pid, &remote, &err);

	if (rc >= 0) {
		rc = remote_call(&remote, "Stats",
				 json_pack("{s:O}", "minor", json_object_get(disk, "minor")),
				 WAIT_MS, &out, &err);
		remote_close(&remote);
	}
	if (rc < 0) {
		print_warning(&err);
		return NULL;
	}
	stats = json_incref(json_object_get(out, "stats"));
	json_object_set_new(stats, "pid", json_integer(pid));
	json_object_set(stats, "export", json_object_get(disk, "name"));
	json_decref(out);
	return stats;
}

json_t *ctl_stats_all(const struct target *target)
{
	json_t *processes = ctl_list_all(target->dir, target->pid);
	json_t *all = json_array(), *process, *disk;
	size_t p, d;

	json_array_foreach(processes, p, process)
	{
		int pid = (int)json_integer_value(json_object_get(process, "pid"));

		json_array_foreach(json_object_get(process, "disks"), d, disk)
		{
			json_int_t minor = json_integer_value(json_object_get(disk, "minor"));
			json_t *stats = NULL;

			if (!target->has_minor || minor == (json_int_t)target->minor)
				stats = ask_disk(target->dir, pid, disk);
			if (stats)
				json_array_append_new(all, stats);
		}
	}
	json_decref(processes);
	return all;
}

static int run_openmetrics(struct arguments *args)
{
	struct target target;
	json_t *all;
	int status = target_open(args, 0, &target);

	if (status)
		return status;
	all = ctl_stats_all(&target);
	ctl_print_openmetrics(all);
	json_decref(all);
	return 0;
}

static int run_stats(struct arguments *args)
{
	struct target target;
	json_t *out = NULL, *stats;
	int status;

	if (arguments_has(args, "openmetrics"))
		return run_openmetrics(args);
	status = target_open(args, TARGET_PID | TARGET_MINOR | TARGET_FIND, &target);
	if (!status)
		status = target_call(&target, "Stats", target_parameters(&target), WAIT_MS, &out);
	target_close(&target);
	if (status)
		return status;
	stats = json_object_get(out, "stats");
	if (args->json) {
		target_print_json("tap-stats/1", json_incref(stats));
	} else {
		json_dumpf(stats, stdout, 0);
		putchar('\n');
	}
	json_decref(out);
	return 0;
}

static const struct option_spec stats_options[] = {
	OPTION_PID,
	OPTION_MINOR,
	{ 0, "json", NULL, "with a schema, on several lines" },
	{ 0, "openmetrics", NULL, "in the OpenMetrics format; of all disks if none is named" },
	OPTION_RUN_DIR,
	{ 0 },
};

const struct command command_stats = {
	.name = "stats",
	.summary = "numbers of a disk, as JSON",
	.operands = "",
	.options = stats_options,
	.run = run_stats,
};

static void print_clients(json_t *clients)
{
	json_t *c;
	size_t k;

	json_array_foreach(clients, k, c)
		printf("address=%s export=%s in_flight=%lld requests=%lld in=%lld out=%lld "
		       "tls=%d peer=%s\n",
		       json_string_value(json_object_get(c, "address")),
		       json_string_value(json_object_get(c, "export")),
		       (long long)json_integer_value(json_object_get(c, "in_flight")),
		       (long long)json_integer_value(json_object_get(c, "requests")),
		       (long long)json_integer_value(json_object_get(c, "bytes_in")),
		       (long long)json_integer_value(json_object_get(c, "bytes_out")),
		       json_is_true(json_object_get(c, "tls")),
		       json_string_value(json_object_get(c, "peer")));
}

static int run_clients(struct arguments *args)
{
	struct target target;
	json_t *out = NULL;
	int status = target_open(args, TARGET_PID, &target);

	if (!status)
		status = target_call(&target, "Clients",
				     target.has_minor ? target_parameters(&target) : NULL, WAIT_MS,
				     &out);
	target_close(&target);
	if (status)
		return status;
	if (args->json)
		target_print_json("tap-clients/1", json_incref(out));
	else
		print_clients(json_object_get(out, "clients"));
	json_decref(out);
	return 0;
}

static const struct option_spec clients_options[] = {
	{ 'p', "pid", "PID", "the tapdisk" },
	{ 'm', "minor", "N", "only of this disk" },
	OPTION_JSON,
	OPTION_RUN_DIR,
	{ 0 },
};

const struct command command_clients = {
	.name = "clients",
	.summary = "who is connected to a tapdisk by NBD",
	.operands = "",
	.options = clients_options,
	.run = run_clients,
};
