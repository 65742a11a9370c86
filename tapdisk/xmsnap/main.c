/* main.c - xmsnap: snapshot all disks of a running virtual machine at one point */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/command.h"
#include "cli/print.h"
#include "dump.h"
#include "group.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/error.h"

#define DIRS_MAX      16
#define TIMEOUT_S     30u
#define TIMEOUT_MAX_S 3600u

static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
	interrupted = number;
}

/* No SA_RESTART: a call that waits for a server ends. */
static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = interrupt };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* ── telling ── */

static void print_disk(struct print_json *j, const struct member *m)
{
	print_json_object(j, NULL);
	print_json_text(j, "target", m->disk->target);
	print_json_text(j, "leaf", *m->at.leaf ? m->at.leaf : NULL);
	print_json_text(j, "frozen", *m->base ? m->base : NULL);
	if (m->at.pid) {
		print_json_number(j, "pid", (uint64_t)m->at.pid);
		print_json_number(j, "minor", m->at.minor);
	}
	print_json_text(j, "problem", m->problem.code ? m->problem.text : NULL);
	print_json_close(j);
}

static void print_left_out(struct print_json *j, const struct domain_disk *disk)
{
	print_json_object(j, NULL);
	print_json_text(j, "target", disk->target);
	print_json_text(j, "source", domain_disk_source(disk));
	print_json_text(j, "why", "read-only");
	print_json_close(j);
}

/* @status: that of the program. */
static void tell_json(const struct group *g, int status, bool dry)
{
	struct print_json j;

	print_json_begin(&j, "xmsnap/1");
	print_json_text(&j, "domain", g->domain.name);
	print_json_text(&j, "name", g->name);
	print_json_bool(&j, "dry_run", dry);
	print_json_number(&j, "status", (uint64_t)status);
	print_json_number(&j, "paused_ms", g->paused_us / 1000);
	print_json_array(&j, "disks");
	for (unsigned i = 0; i < g->count; i++)
		print_disk(&j, &g->members[i]);
	print_json_close(&j);
	print_json_array(&j, "left_out");
	for (unsigned i = 0; i < g->domain.count; i++)
		if (g->domain.disks[i].read_only)
			print_left_out(&j, &g->domain.disks[i]);
	print_json_close(&j);
	print_json_end(&j);
}

static void tell_text(const struct group *g, bool dry)
{
	for (unsigned i = 0; i < g->count; i++)
		printf("%s%s -> %s\n", dry ? "would freeze " : "", g->members[i].at.leaf,
		       g->members[i].base);
	for (unsigned i = 0; i < g->domain.count; i++)
		if (g->domain.disks[i].read_only)
			printf("left out %s: read-only\n", domain_disk_source(&g->domain.disks[i]));
}

static void tell_left(const struct vhd_error *err)
{
	print_error(err);
}

/* ── the command ── */

static bool is_name(const char *name)
{
	return *name && !strchr(name, '/') && strlen(name) < GROUP_NAME_BYTES;
}

static int read_name(const struct arguments *args, char *out)
{
	const char *name = arguments_get(args, "name");
	time_t now = time(NULL);
	struct tm utc;

	if (!name) {
		gmtime_r(&now, &utc);
		strftime(out, GROUP_NAME_BYTES, "%Y%m%dT%H%M%SZ", &utc);
		return 0;
	}
	if (!is_name(name))
		return usage_error("--name '%s': a part of a file name is wanted", name);
	strcpy(out, name);
	return 0;
}

static int read_dirs(const struct arguments *args, char *found, const char **dirs)
{
	struct vhd_error err;
	unsigned n = 0;

	for (int i = 0; i < args->seen_count; i++) {
		const struct argument_seen *seen = &args->seen[i];

		if (!seen->option || strcmp(seen->option->name, "run-dir") != 0)
			continue;
		if (n == DIRS_MAX)
			return usage_error("more than %d --run-dir", DIRS_MAX);
		dirs[n++] = seen->value;
	}
	if (!n) {
		if (rundir_find(NULL, found, &err) < 0)
			return print_error(&err);
		dirs[n++] = found;
	}
	dirs[n] = NULL;
	return 0;
}

static int load(const struct arguments *args, struct group *g, struct vhd_error *err)
{
	const char *file = arguments_get(args, "domain-xml");
	CLEANUP_FREE char *xml = NULL;
	size_t length = 0;
	int rc;

	if (args->count > 1) /* the historic call: this file only, whatever disks the VM has */
		return domain_of_file(args->rest[1], &g->domain, err);
	rc = file ? dump_file(file, &xml, &length, err) :
		    dump_virsh(args->rest[0], g->timeout_ms, &xml, &length, err);
	return rc < 0 ? rc : domain_parse(xml, length, &g->domain, err);
}

/* Every disk that cannot be taken is told, the status is that of the first. */
static int tell_problems(const struct group *g, const struct vhd_error *err)
{
	int status = 0;

	for (unsigned i = 0; i < g->count; i++) {
		if (!g->members[i].problem.code)
			continue;
		if (status)
			print_error(&g->members[i].problem);
		else
			status = print_error(&g->members[i].problem);
	}
	return status ? status : print_error(err);
}

static int play(const struct arguments *args, struct group *g)
{
	struct vhd_error err = { 0 };
	int status = 0;

	if (load(args, g, &err) < 0)
		return print_error(&err);
	if (group_find(g, &err) < 0)
		status = tell_problems(g, &err);
	else if (!args->dry_run && group_snapshot(g, tell_left, &err) < 0)
		status = print_error(&err);
	if (args->json)
		tell_json(g, status, args->dry_run);
	else if (!status)
		tell_text(g, args->dry_run);
	return status;
}

static int run(struct arguments *args)
{
	char name[GROUP_NAME_BYTES], found[PATH_MAX];
	const char *dirs[DIRS_MAX + 1];
	uint64_t timeout = TIMEOUT_S;
	struct group g = { .name = name, .dirs = dirs, .interrupted = &interrupted };
	int status = read_name(args, name);

	if (!status)
		status = read_dirs(args, found, dirs);
	if (!status && arguments_number(args, "timeout", &timeout) < 0)
		status = EINVAL;
	if (!status && (!timeout || timeout > TIMEOUT_MAX_S))
		status = usage_error("--timeout: 1 to %u seconds", TIMEOUT_MAX_S);
	if (!status && !args->count == !arguments_has(args, "domain-xml"))
		status = usage_error(
			"give either the name of a virtual machine or --domain-xml FILE");
	if (status)
		return status;
	g.timeout_ms = (unsigned)timeout * 1000;
	g.parents = args->parents;
	catch_signals();
	status = play(args, &g);
	group_release(&g);
	return status;
}

static const struct option_spec options[] = {
	{ 0, "name", "NAME", "part of the frozen nodes' names (default: the UTC time)" },
	{ 0, "domain-xml", "FILE", "read the virtual machine's XML from FILE, not from virsh" },
	{ 't', "timeout", "SECONDS", "longest time to pause and prepare all disks (default 30)" },
	{ 0, "run-dir", "DIR", "run directory of tapdisks (repeatable)" },
	OPTION_PARENT_ROOT,
	OPTION_JSON,
	OPTION_DRY_RUN,
	{ 0 },
};

static const struct command xmsnap_command = {
	.name = "",
	.summary = "Snapshot all disks of a running virtual machine at one point in time.",
	.operands = "VM [FILE]",
	.max_rest = 2,
	.options = options,
	.run = run,
};

const struct program program = { .name = "xmsnap", .only = &xmsnap_command };
