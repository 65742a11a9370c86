/* cmd-repair.c - vhd-util repair: what is damaged and can be mended
 *
 * Changes and losses are kept until it is known that they are made; for JSON each list
 * has to be whole before the next one begins.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/print.h"
#include "command.h"
#include "findings.h"
#include "libvhd/base/number.h"

#define OWNERS_MAX 1024u

struct repair_output {
	const char *path;
	bool want_json, dry_run, begun;
	struct print_json json;
	struct ranges lost;
	bool in_findings;
	uint64_t findings;
};

/* JSON begins with the first change, or at the end: an error before that leaves stdout empty. */
static void begin(struct repair_output *out)
{
	if (!out->want_json || out->begun)
		return;
	out->begun = true;
	print_json_begin(&out->json, "repair/1");
	print_json_text(&out->json, "file", out->path);
	print_json_bool(&out->json, "dry_run", out->dry_run);
	print_json_array(&out->json, "changes");
}

static void on_change(void *arg, const struct vhd_change *change)
{
	struct repair_output *out = arg;

	if (!out->want_json) {
		printf("%s%s%s, at offset %" PRIu64 "\n", out->path,
		       out->dry_run ? ": would change: " : ": ", change->text, change->offset);
		return;
	}
	begin(out);
	print_json_object(&out->json, NULL);
	print_json_number(&out->json, "offset", change->offset);
	print_json_number(&out->json, "length", change->length);
	print_json_text(&out->json, "text", change->text);
	print_json_close(&out->json);
}

static void on_lost(void *arg, const struct vhd_lost *lost)
{
	struct repair_output *out = arg;

	ranges_add(&out->lost, lost);
}

/* Changes are all told; what was lost, then what remains. */
static void begin_findings(struct repair_output *out)
{
	if (out->in_findings)
		return;
	begin(out);
	out->in_findings = true;
	if (out->want_json)
		print_json_close(&out->json);
	ranges_print(&out->lost, out->path, out->want_json ? &out->json : NULL);
	if (out->want_json)
		print_json_array(&out->json, "remaining");
}

static void on_finding(void *arg, const struct vhd_finding *f)
{
	struct repair_output *out = arg;

	begin_findings(out);
	out->findings++;
	if (out->want_json)
		finding_print_json(&out->json, f);
	else
		printf("%s: remains: %s%s\n", f->file,
		       f->severity == VHD_DAMAGE  ? "" :
		       f->severity == VHD_WARNING ? "warning: " :
						    "note: ",
		       f->text);
}

/* @done: to the end; else only what makes the JSON that was begun a whole object. */
static void print_end(struct repair_output *out, const struct vhd_repair_result *r, bool done)
{
	struct print_json *j = &out->json;

	if (!done && (!out->want_json || !out->begun))
		return;
	begin_findings(out);
	if (out->want_json) {
		print_json_close(j);
		print_json_number(j, "lost_bytes", r->lost_bytes);
		print_json_text(j, "backup", r->backup[0] ? r->backup : NULL);
		print_json_bool(j, "valid", done && !r->damages);
		print_json_end(j);
		return;
	}
	if (r->backup[0])
		printf("%s: the sectors as they were are in '%s'; to undo: vhd-util repair -n '%s' "
		       "--undo '%s'\n",
		       out->path, r->backup, out->path, r->backup);
	if (!r->changes && !r->damages)
		printf("%s is valid: nothing to repair\n", out->path);
	else if (!r->damages)
		printf("%s %s valid now\n", out->path, out->dry_run ? "would be" : "is");
}

/* --owner BLOCK, repeatable. */
static int parse_owners(const struct arguments *args, uint32_t *owners, unsigned *count)
{
	*count = 0;
	for (int i = 0; i < args->seen_count; i++) {
		const struct argument_seen *seen = &args->seen[i];
		uint64_t block;

		if (!seen->option || strcmp(seen->option->name, "owner") != 0)
			continue;
		if (!number_parse(seen->value, &block) || block >= UINT32_MAX)
			return usage_error("--owner takes the number of a block, not '%s'",
					   seen->value);
		if (*count == OWNERS_MAX)
			return usage_error("--owner can be given %u times", OWNERS_MAX);
		owners[(*count)++] = (uint32_t)block;
	}
	return 0;
}

static int undo(const char *path, const char *backup, bool dry_run)
{
	struct vhd_error err = { 0 };

	if (vhd_repair_undo(path, backup, dry_run, &err) < 0)
		return print_error(&err);
	if (dry_run)
		printf("would put back into '%s' what '%s' holds\n", path, backup);
	return 0;
}

static int run_repair(struct arguments *args)
{
	static uint32_t owners[OWNERS_MAX];
	const char *path = arguments_image(args);
	struct repair_output out = { .path = path,
				     .want_json = args->json,
				     .dry_run = args->dry_run };
	struct vhd_repair_options o = {
		.backup_footer = arguments_has(args, "backup-footer"),
		.end_footer = arguments_has(args, "end-footer"),
		.drop_lost = arguments_has(args, "drop-lost"),
		.keep_unmarked = arguments_has(args, "keep-unmarked"),
		.trim = arguments_has(args, "trim"),
		.parent = arguments_get(args, "parent"),
		.backup = arguments_get(args, "backup"),
		.dry_run = args->dry_run,
		.owners = owners,
		.change = on_change,
		.lost = on_lost,
		.finding = on_finding,
		.arg = &out,
	};
	struct vhd_repair_result result;
	struct vhd_error err = { 0 };
	int rc;

	if (!path)
		return EINVAL;
	if (o.backup_footer && o.end_footer)
		return usage_error("-b and --end-footer contradict each other");
	if (arguments_has(args, "undo"))
		return undo(path, arguments_get(args, "undo"), args->dry_run);
	rc = parse_owners(args, owners, &o.owner_count);
	if (rc)
		return rc;
	o.progress = progress_begin("repair", false);
	rc = vhd_repair(path, &o, &result, &err);
	progress_end();
	print_end(&out, &result, rc >= 0);
	ranges_release(&out.lost);
	if (rc < 0)
		return print_error(&err);
	return result.damages ? EUCLEAN : 0;
}

static const struct option_spec repair_options[] = {
	OPTION_NAME,
	{ 'b', "backup-footer", NULL, "where the footers differ, the copy at the front is right" },
	{ 0, "end-footer", NULL, "where the footers differ, the one at the end is right" },
	{ 0, "drop-lost", NULL, "give up blocks that are nowhere, and tell which" },
	{ 0, "owner", "BLOCK", "of blocks in one place this one keeps it (repeatable)" },
	{ 0, "keep-unmarked", NULL, "data under clear bits was written (images without parent)" },
	{ 0, "parent", "FILE", "parent of an image whose header lost its id" },
	{ 0, "trim", NULL, "cut off what follows the end footer" },
	{ 0, "backup", "FILE", "keep the changed sectors here (default: IMAGE.repair-UTC)" },
	{ 0, "undo", "FILE", "put back what a repair kept in FILE" },
	OPTION_JSON,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_repair = {
	.name = "repair",
	.summary = "mend the metadata of a damaged image",
	.operands = "FILE",
	.options = repair_options,
	.run = run_repair,
};
