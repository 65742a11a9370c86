/* target.c - what a command of tap-ctl is about: a process, one of its disks */
#include "target.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvhd/base/cleanup.h"
#include "libvhd/base/number.h"
#include "libvhd/error.h"

#define LIST_WAIT_MS 5000
#define GRACE_MS     10000 /* beyond a call's own time */
#define TIMEOUT_MOST 31536000u

static bool has_minor(json_t *disks, unsigned minor)
{
	size_t k;
	json_t *disk;

	json_array_foreach(disks, k, disk) if (json_integer_value(json_object_get(disk, "minor")) ==
					       (json_int_t)minor) return true;
	return false;
}

/* Does the process have the disk?  What does not answer has not. */
static bool serves(const char *dir, int pid, unsigned minor)
{
	struct remote remote;
	json_t *facts = NULL;
	bool found;

	if (remote_open(dir, pid, &remote, NULL) < 0)
		return false;
	found = remote_call(&remote, "List", NULL, LIST_WAIT_MS, &facts, NULL) >= 0 &&
		has_minor(json_object_get(facts, "disks"), minor);
	json_decref(facts);
	remote_close(&remote);
	return found;
}

/* The only tapdisk that has the minor. */
static int find_pid(struct target *target)
{
	struct rundir_list list;
	struct vhd_error err;
	int found = -1;
	unsigned count = 0;

	if (rundir_list(target->dir, &list, &err) < 0)
		return print_error(&err);
	for (size_t k = 0; k < list.pid_count; k++) {
		if (!serves(target->dir, list.pids[k], target->minor))
			continue;
		found = list.pids[k];
		count++;
	}
	rundir_list_release(&list);
	if (!count)
		error_set(&err, -ENODEV, "no tapdisk has minor %u; see tap-ctl list",
			  target->minor);
	else if (count > 1)
		error_set(&err, -EINVAL, "%u tapdisks have minor %u: say which one by --pid", count,
			  target->minor);
	if (count != 1)
		return print_error(&err);
	target->pid = found;
	return 0;
}

static int parse_numbers(const struct arguments *args, struct target *t)
{
	uint64_t number;
	int rc = arguments_number(args, "pid", &number);

	if (rc > 0 && (!number || number > INT_MAX))
		return usage_error("--pid: no process has the number %llu",
				   (unsigned long long)number);
	if (rc > 0)
		t->pid = (int)number;
	if (rc >= 0)
		rc = arguments_number(args, "minor", &number);
	if (rc > 0 && number >= RUNDIR_MINORS)
		return usage_error("--minor: minors are below %u", RUNDIR_MINORS);
	if (rc > 0) {
		t->minor = (unsigned)number;
		t->has_minor = true;
	}
	return rc < 0 ? EINVAL : 0;
}

int target_open(const struct arguments *args, unsigned wants, struct target *out)
{
	struct target *t = out;
	struct vhd_error err;
	int status;

	*t = (struct target){ .pid = -1, .remote.fd = -1, .key_fd = -1 };
	status = parse_numbers(args, t);
	if (status)
		return status;
	if (wants & TARGET_MINOR && !t->has_minor)
		return usage_error("which disk? --minor N is missing");
	if (wants & TARGET_PID && t->pid < 0 && !(wants & TARGET_FIND))
		return usage_error("which tapdisk? --pid PID is missing");
	if (rundir_find(arguments_get(args, "run-dir"), t->dir, &err) < 0)
		return print_error(&err);
	if (!(wants & TARGET_PID))
		return 0;
	status = t->pid < 0 ? find_pid(t) : 0;
	if (status)
		return status;
	if (remote_open(t->dir, t->pid, &t->remote, &err) < 0)
		return print_error(&err);
	return 0;
}

void target_close(struct target *target)
{
	remote_close(&target->remote);
	if (target->key_fd >= 0)
		close(target->key_fd);
	target->key_fd = -1;
}

json_t *target_parameters(const struct target *target)
{
	return json_pack("{s:i}", "minor", (int)target->minor);
}

int target_call(struct target *target, const char *method, json_t *parameters, int wait_ms,
		json_t **out)
{
	struct vhd_error err = { 0 };

	if (remote_call(&target->remote, method, parameters, wait_ms, out, &err) < 0)
		return print_error(&err);
	return 0;
}

int64_t target_timeout_ms(const struct arguments *args)
{
	uint64_t seconds = 0;
	int rc = arguments_number(args, "timeout", &seconds);

	if (rc >= 0 && seconds <= TIMEOUT_MOST)
		return (int64_t)seconds * 1000;
	if (rc >= 0)
		usage_error("--timeout: more than a year");
	return -1;
}

int target_wait_ms(int64_t timeout_ms)
{
	if (!timeout_ms)
		return REMOTE_FOREVER;
	return timeout_ms > INT_MAX - GRACE_MS ? INT_MAX : (int)timeout_ms + GRACE_MS;
}

/* ── names are the caller's ── */

char *target_path(const char *given)
{
	CLEANUP_FREE char *here = NULL;
	char *path = NULL;

	if (*given == '/')
		path = strdup(given);
	else if ((here = getcwd(NULL, 0)) && asprintf(&path, "%s/%s", here, given) < 0)
		path = NULL;
	if (!path) {
		struct vhd_error err;

		error_set(&err, -errno, "cannot make '%s' absolute: %s", given, strerror(errno));
		print_error(&err);
	}
	return path;
}

static bool begins(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

static char *joined(const char *head, size_t head_length, char *tail)
{
	char *all = NULL;

	if (tail && asprintf(&all, "%.*s%s", (int)head_length, head, tail) < 0)
		all = NULL;
	free(tail);
	return all;
}

char *target_spec(const char *given)
{
	static const char *const files[] = { "vhd:", "aio:", "raw:" };
	const char *comma;

	for (unsigned k = 0; k < sizeof(files) / sizeof(files[0]); k++)
		if (begins(given, files[k]) && given[4])
			return joined(given, 4, target_path(given + 4));
	/* a filter: the image stands behind the comma, the file of a log before it */
	comma = strchr(given, ',');
	if (comma && begins(given, "log:")) {
		CLEANUP_FREE char *file = strndup(given + 4, (size_t)(comma - given - 4));
		CLEANUP_FREE char *path = file ? target_path(file) : NULL;
		CLEANUP_FREE char *inner = path ? target_spec(comma + 1) : NULL;
		char *all = NULL;

		if (!inner || asprintf(&all, "log:%s,%s", path, inner) < 0)
			return NULL;
		return all;
	}
	if (comma && begins(given, "fault:"))
		return joined(given, (size_t)(comma + 1 - given), target_spec(comma + 1));
	return strdup(given); /* ram:SIZE, or what the server refuses */
}

/* ── output ── */

void target_print_json(const char *schema, json_t *object)
{
	json_t *all = json_pack("{s:s}", "schema", schema);

	if (all && object && !json_object_update(all, object) &&
	    !json_dumpf(all, stdout, JSON_INDENT(2)))
		putchar('\n');
	json_decref(all);
	json_decref(object);
}
