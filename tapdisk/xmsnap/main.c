/* main.c - xmsnap: snapshot all disks of a running virtual machine at one point
 *
 *   find all ─► pause all ─► prepare all ─► still paused? ─► switch all ─► resume all
 *
 * Between the last pause and the first resume no disk answers a write: what is frozen is one point in
 * time.  A failure before the end takes everything back; a pause ends with this process's
 * connection, or with its lease, so nothing stays paused whatever happens here.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/command.h"
#include "cli/print.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/base/number.h"
#include "libvhd/error.h"
#include "member.h"

#define DIRS_MAX      16
#define TIMEOUT_S     30u
#define TIMEOUT_MAX_S 3600u

static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
	interrupted = number;
}

struct group {
	struct domain domain;
	struct member *members; /* owned */
	unsigned count;
	char name[128];
	unsigned timeout_ms;
	struct vhd_error err; /* the first failure */
	struct timespec paused;
	double seconds; /* that disks were paused */
	bool taken;	/* all leaves are new ones: the snapshot is there */
};

static double since(const struct timespec *then)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - then->tv_sec) + (double)(now.tv_nsec - then->tv_nsec) / 1e9;
}

/* ── which disks ── */

static int load(const struct arguments *args, const char *vm, struct group *g)
{
	const char *file = arguments_get(args, "domain-xml");
	CLEANUP_FREE char *xml = NULL;
	size_t length = 0;
	int rc = file ? domain_load(file, &xml, &length, &g->err) :
			domain_dump(vm, &xml, &length, &g->err);

	return rc < 0 ? rc : domain_parse(xml, length, &g->domain, &g->err);
}

/* The historic call: this file only, whatever the VM's other disks are. */
static int only_file(const char *file, struct group *g)
{
	g->domain.name = strdup("");
	g->domain.disks = calloc(1, sizeof(*g->domain.disks));
	if (!g->domain.name || !g->domain.disks)
		return error_set(&g->err, -ENOMEM, "out of memory");
	g->domain.count = 1;
	g->domain.disks[0].target = strdup(file);
	g->domain.disks[0].path = strdup(file);
	return g->domain.disks[0].target && g->domain.disks[0].path ?
		       0 :
		       error_set(&g->err, -ENOMEM, "out of memory");
}

static int find_all(struct group *g, const char *const *dirs)
{
	g->members = calloc(g->domain.count, sizeof(*g->members));
	if (!g->members)
		return error_set(&g->err, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < g->domain.count; i++) {
		struct member *m = &g->members[g->count];
		int rc;

		if (g->domain.disks[i].read_only) /* nothing changes in it */
			continue;
		rc = member_find(&g->domain.disks[i], dirs, m, &g->err);
		g->count++;
		if (!rc)
			rc = member_name(m, g->name, &g->err);
		if (rc < 0)
			return rc;
	}
	if (!g->count)
		return error_set(&g->err, -VHD_E_ARGUMENT,
				 "no disk that could be written was found");
	return 0;
}

/* ── the snapshot ── */

static int each(struct group *g, int (*step)(struct member *m, struct vhd_error *err))
{
	int rc = 0;

	for (unsigned i = 0; i < g->count && rc >= 0; i++) {
		rc = interrupted ? error_set(&g->err, -VHD_E_CANCELLED, "interrupted") :
				   step(&g->members[i], &g->err);
	}
	return rc;
}

static int pause_all(struct group *g)
{
	unsigned lease = 2 * g->timeout_ms;
	int rc = 0;

	clock_gettime(CLOCK_MONOTONIC, &g->paused);
	for (unsigned i = 0; i < g->count && rc >= 0; i++)
		rc = interrupted ? error_set(&g->err, -VHD_E_CANCELLED, "interrupted") :
				   member_pause(&g->members[i], g->timeout_ms, lease, &g->err);
	return rc;
}

static int too_slow(struct group *g)
{
	if (since(&g->paused) * 1000 < g->timeout_ms)
		return 0;
	return error_set(&g->err, -ETIMEDOUT,
			 "pausing and preparing all disks took longer than %u s: nothing was done",
			 g->timeout_ms / 1000);
}

static int snapshot(struct group *g)
{
	int rc = pause_all(g);

	if (rc >= 0)
		rc = each(g, member_prepare);
	if (rc >= 0)
		rc = too_slow(g);
	if (rc >= 0)
		rc = each(g, member_still_paused);
	if (rc >= 0)
		rc = each(g, member_switch);
	if (rc < 0)
		return rc;
	g->taken = true;
	/* from here on the snapshot is there: all go on, whatever a single one says */
	for (unsigned i = 0; i < g->count; i++) {
		struct vhd_error err;

		if (member_resume(&g->members[i], &err) < 0 && !g->err.code)
			g->err = err;
	}
	g->seconds = since(&g->paused);
	return g->err.code;
}

static void undo_all(struct group *g)
{
	for (unsigned i = 0; i < g->count; i++) {
		struct member *m = &g->members[i];
		struct vhd_error err;

		member_undo(m, &err);
		if (err.code)
			print_error(&err);
	}
}

/* ── telling ── */

static void tell(const struct group *g, bool json, bool dry)
{
	struct print_json j;

	if (!json) {
		for (unsigned i = 0; i < g->count; i++)
			printf("%s%s -> %s\n", dry ? "would freeze " : "", g->members[i].leaf,
			       g->members[i].base);
		return;
	}
	print_json_begin(&j, "xmsnap/1");
	print_json_text(&j, "domain", g->domain.name);
	print_json_text(&j, "name", g->name);
	print_json_bool(&j, "dry_run", dry);
	print_json_number(&j, "paused_ms", (uint64_t)(g->seconds * 1000));
	print_json_array(&j, "disks");
	for (unsigned i = 0; i < g->count; i++) {
		print_json_object(&j, NULL);
		print_json_text(&j, "target", g->members[i].disk->target);
		print_json_text(&j, "leaf", g->members[i].leaf);
		print_json_text(&j, "frozen", g->members[i].base);
		print_json_number(&j, "pid", (uint64_t)g->members[i].pid);
		print_json_number(&j, "minor", g->members[i].minor);
		print_json_close(&j);
	}
	print_json_close(&j);
	print_json_end(&j);
}

/* ── the command ── */

static int read_name(const struct arguments *args, struct group *g)
{
	const char *name = arguments_get(args, "name");
	time_t now = time(NULL);
	struct tm utc;

	if (!name) {
		gmtime_r(&now, &utc);
		strftime(g->name, sizeof(g->name), "%Y%m%dT%H%M%SZ", &utc);
		return 0;
	}
	if (!*name || strchr(name, '/') || strlen(name) >= sizeof(g->name))
		return usage_error("--name '%s': a part of a file name is wanted", name);
	strcpy(g->name, name);
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

static int play(const struct arguments *args, struct group *g, const char *const *dirs)
{
	const char *vm = args->count > 0 ? args->rest[0] : NULL;
	int rc = args->count > 1 ? only_file(args->rest[1], g) : load(args, vm, g);

	if (rc >= 0)
		rc = find_all(g, dirs);
	if (rc < 0)
		return print_error(&g->err);
	if (args->dry_run) {
		tell(g, args->json, true);
		return 0;
	}
	if (snapshot(g) < 0) {
		struct vhd_error why = g->err;

		if (!g->taken)
			undo_all(g);
		return print_error(&why);
	}
	tell(g, args->json, false);
	return 0;
}

static int run(struct arguments *args)
{
	struct group g = { .count = 0 };
	const char *dirs[DIRS_MAX + 1];
	char found[PATH_MAX];
	uint64_t timeout = TIMEOUT_S;
	int status = read_name(args, &g);

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
	signal(SIGINT, interrupt);
	signal(SIGTERM, interrupt);
	signal(SIGPIPE, SIG_IGN);
	status = play(args, &g, dirs);
	for (unsigned i = 0; i < g.count; i++)
		member_close(&g.members[i]);
	free(g.members);
	domain_release(&g.domain);
	return status;
}

static const struct option_spec options[] = {
	{ 0, "name", "NAME", "part of the frozen nodes' names (default: the UTC time)" },
	{ 0, "domain-xml", "FILE", "read the virtual machine's XML from FILE, not from virsh" },
	{ 't', "timeout", "SECONDS", "longest time to pause and prepare all disks (default 30)" },
	{ 0, "run-dir", "DIR", "run directory of tapdisks (repeatable)" },
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
