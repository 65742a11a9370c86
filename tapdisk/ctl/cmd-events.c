/* cmd-events.c - tap-ctl events: what happens to the disks of a tapdisk, as it happens */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "libvhd/error.h"

static void print_event(const struct arguments *args, int pid, json_t *event)
{
	json_t *minor = json_object_get(event, "minor");
	const char *text = json_string_value(json_object_get(event, "text"));

	if (args->json) {
		json_t *all = json_pack("{s:s, s:i}", "schema", "tap-events/1", "pid", pid);

		json_object_update(all, event);
		json_dumpf(all, stdout, JSON_COMPACT);
		json_decref(all);
		putchar('\n');
		return;
	}
	printf("pid=%d", pid);
	if (minor)
		printf(" minor=%lld", (long long)json_integer_value(minor));
	printf(" event=%s", json_string_value(json_object_get(event, "event")));
	if (text)
		printf(" text=%s", text);
	putchar('\n');
}

/* Until the server ends, stdout fails, or @count events were told (0: no end). */
static int follow(const struct arguments *args, struct target *target, uint64_t count)
{
	struct vhd_error err = { 0 };
	json_t *event;
	int rc;

	for (uint64_t k = 0; !count || k <= count; k++) {
		rc = remote_next(&target->remote, REMOTE_FOREVER, &event, &err);
		if (rc == -ESRCH && k)
			return 0; /* the process has ended, and with it what there is to tell */
		if (rc < 0)
			return print_error(&err);
		print_event(args, target->pid, event);
		json_decref(event);
		if (fflush(stdout))
			return 0; /* told at the end of the program */
	}
	return 0;
}

static int run_events(struct arguments *args)
{
	struct vhd_error err = { 0 };
	struct target target;
	uint64_t count = 0;
	int status = arguments_number(args, "count", &count) < 0 ?
			     EINVAL :
			     target_open(args, TARGET_PID, &target);

	if (status)
		return status;
	if (remote_ask(&target.remote, "Events",
		       target.has_minor ? target_parameters(&target) : NULL, true, &err) < 0)
		status = print_error(&err);
	else
		status = follow(args, &target, count);
	target_close(&target);
	return status;
}

static const struct option_spec events_options[] = {
	{ 'p', "pid", "PID", "the tapdisk" },
	{ 'm', "minor", "N", "only of this disk" },
	{ 0, "count", "N", "end after so many" },
	{ 0, "json", NULL, "a JSON object a line" },
	OPTION_RUN_DIR,
	{ 0 },
};

const struct command command_events = {
	.name = "events",
	.summary = "tell what happens to the disks of a tapdisk",
	.operands = "",
	.options = events_options,
	.run = run_events,
};
