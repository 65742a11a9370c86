/* cmd-list.c - tap-ctl list: processes, disks, minors
 *
 * For scripts a line each, with the fields that are known:
 *
 *	pid=N minor=N state=0xH args=TYPE:PATH
 *
 * A process without disks has its pid only, a minor that is taken but not attached its
 * minor only.  On a terminal: columns.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/error.h"

#define WAIT_MS 5000

struct filter {
	const struct target *target;
	const char *type, *file, *real; /* file: absolute; real: without links and dots */
	bool columns, headed;
};

/* ── what there is ── */

static json_t *ask_one(const char *dir, int pid)
{
	struct vhd_error err = { 0 };
	struct remote remote;
	json_t *facts = NULL;
	int rc = remote_open(dir, pid, &remote, &err);

	if (rc == -ESRCH)
		return NULL; /* dead: nothing to tell */
	if (rc >= 0) {
		rc = remote_call(&remote, "List", NULL, WAIT_MS, &facts, &err);
		remote_close(&remote);
	}
	if (rc == -ESRCH) /* it ended meanwhile */
		return NULL;
	if (rc >= 0)
		return facts;
	error_prefix(&err, "pid %d", pid);
	print_warning(&err);
	return json_pack("{s:i}", "pid", pid);
}

json_t *ctl_list_all(const char *dir, int only_pid)
{
	struct vhd_error err = { 0 };
	struct rundir_list list;
	json_t *all;

	if (rundir_list(dir, &list, &err) < 0) {
		print_error(&err);
		return NULL;
	}
	all = json_array();
	for (size_t k = 0; k < list.pid_count; k++) {
		json_t *facts = NULL;

		if (only_pid < 0 || only_pid == list.pids[k])
			facts = ask_one(dir, list.pids[k]);
		if (facts)
			json_array_append_new(all, facts);
	}
	rundir_list_release(&list);
	return all;
}

static bool is_listed(json_t *all, unsigned minor)
{
	size_t p, d;
	json_t *process, *disk;

	json_array_foreach(all, p, process)
		json_array_foreach(json_object_get(process, "disks"), d,
				   disk) if (json_integer_value(json_object_get(disk, "minor")) ==
					     (json_int_t)minor) return true;
	return false;
}

/* ── which of it is wanted ── */

/* "TYPE:PATH" against -t and -f. */
static bool args_match(const struct filter *f, const char *args)
{
	const char *colon = args ? strchr(args, ':') : NULL;

	if (f->type && (!colon || strlen(f->type) != (size_t)(colon - args) ||
			strncmp(args, f->type, strlen(f->type))))
		return false;
	return !f->file || (colon && (!strcmp(colon + 1, f->file) || !strcmp(colon + 1, f->real)));
}

static bool disk_matches(const struct filter *f, json_t *disk)
{
	json_int_t minor = json_integer_value(json_object_get(disk, "minor"));

	if (f->target->has_minor && minor != (json_int_t)f->target->minor)
		return false;
	return args_match(f, json_string_value(json_object_get(disk, "args")));
}

static bool wants_bare(const struct filter *f)
{
	return !f->type && !f->file;
}

/* ── lines ── */

static void put_columns(const char *pid, const char *minor, const char *state, const char *args)
{
	printf("%8s %6s %6s  %s\n", pid, minor, state, args);
}

/* @pid, @minor, @state: -1 when not known. */
static void put_line(struct filter *f, int pid, int minor, int state, const char *args)
{
	char texts[3][16] = { "-", "-", "-" };
	const char *space = "";

	if (f->columns) {
		if (!f->headed)
			put_columns("PID", "MINOR", "STATE", "ARGS");
		f->headed = true;
		if (pid >= 0)
			snprintf(texts[0], sizeof(texts[0]), "%d", pid);
		if (minor >= 0)
			snprintf(texts[1], sizeof(texts[1]), "%d", minor);
		if (state >= 0)
			snprintf(texts[2], sizeof(texts[2]), "0x%x", (unsigned)state);
		put_columns(texts[0], texts[1], texts[2], args ? args : "");
		return;
	}
	if (pid >= 0) {
		printf("pid=%d", pid);
		space = " ";
	}
	if (minor >= 0) {
		printf("%sminor=%d", space, minor);
		space = " ";
	}
	if (state >= 0)
		printf("%sstate=0x%x", space, (unsigned)state);
	if (args)
		printf(" args=%s", args);
	putchar('\n');
}

static void put_process(struct filter *f, json_t *process)
{
	int pid = (int)json_integer_value(json_object_get(process, "pid"));
	json_t *disks = json_object_get(process, "disks"), *disk;
	size_t k;

	if (!json_array_size(disks) && wants_bare(f) && !f->target->has_minor)
		put_line(f, pid, -1, -1, NULL);
	json_array_foreach(disks, k, disk) if (disk_matches(f, disk))
		put_line(f, pid, (int)json_integer_value(json_object_get(disk, "minor")),
			 (int)json_integer_value(json_object_get(disk, "state")),
			 json_string_value(json_object_get(disk, "args")));
}

static bool minor_matches(const struct filter *f, json_t *all, unsigned minor)
{
	if (!wants_bare(f) || f->target->pid >= 0 || is_listed(all, minor))
		return false;
	return !f->target->has_minor || f->target->minor == minor;
}

static void print_lines(struct filter *f, json_t *all, const struct rundir_list *list)
{
	json_t *process;
	size_t k;

	json_array_foreach(all, k, process) put_process(f, process);
	for (k = 0; k < list->minor_count; k++)
		if (minor_matches(f, all, list->minors[k]))
			put_line(f, -1, (int)list->minors[k], -1, NULL);
}

static void print_objects(const struct filter *f, json_t *all, const struct rundir_list *list)
{
	json_t *minors = json_array(), *process;
	size_t p;

	json_array_foreach(all, p, process)
	{
		json_t *disks = json_object_get(process, "disks");

		for (size_t d = json_array_size(disks); d-- > 0;)
			if (!disk_matches(f, json_array_get(disks, d)))
				json_array_remove(disks, d);
	}
	for (size_t k = 0; k < list->minor_count; k++)
		json_array_append_new(minors, json_integer(list->minors[k]));
	target_print_json("tap-list/1", json_pack("{s:O, s:o}", "tapdisks", all, "minors", minors));
}

static int run_list(struct arguments *args)
{
	const char *given = arguments_get(args, "file");
	CLEANUP_FREE char *file = NULL, *real = NULL;
	struct target target;
	struct filter f = {
		.target = &target,
		.type = arguments_get(args, "type"),
		.columns = isatty(STDOUT_FILENO) == 1,
	};
	struct vhd_error err = { 0 };
	struct rundir_list list;
	json_t *all;
	int status = target_open(args, 0, &target);

	if (status)
		return status;
	if (given) {
		file = target_path(given);
		if (!file)
			return EINVAL;
		real = realpath(file, NULL);
		f.file = file;
		f.real = real ? real : file;
	}
	all = ctl_list_all(target.dir, target.pid);
	if (!all)
		return ENOMEM;
	if (rundir_list(target.dir, &list, &err) < 0) {
		json_decref(all);
		return print_error(&err);
	}
	if (args->json)
		print_objects(&f, all, &list);
	else
		print_lines(&f, all, &list);
	rundir_list_release(&list);
	json_decref(all);
	return 0;
}

static const struct option_spec list_options[] = {
	{ 'p', "pid", "PID", "only this tapdisk" },
	{ 'm', "minor", "N", "only this disk" },
	{ 't', "type", "TYPE", "only images of this type" },
	{ 'f', "file", "FILE", "only the image with this path" },
	OPTION_JSON,
	OPTION_RUN_DIR,
	{ 0 },
};

const struct command command_list = {
	.name = "list",
	.summary = "tapdisks, their disks, and minors taken",
	.operands = "",
	.options = list_options,
	.run = run_list,
};
