/* cmd-check.c - is an image sound?  All findings, the most severe first
 *
 * Damage is printed as it is found: there may be a finding for each of a million
 * blocks.  Warnings and notes are few; they are kept until all damage is told.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/print.h"
#include "command.h"
#include "findings.h"
#include "libvhd/base/list.h"
#include "libvhd/error.h"

#define KEPT_MAX 10000u /* the rest is counted */

static const struct option_spec check_options[] = {
	OPTION_NAME,
	{ 'i', "ignore-footer", NULL, "do not mind a missing end footer" },
	{ 'I', "ignore-parent-id", NULL, "do not mind that the parent has another id" },
	{ 't', "ignore-timestamps", NULL, "do not mind when the parent was last changed" },
	{ 'p', "parents", NULL, "check all parents too" },
	{ 'b', "bitmaps", NULL, "compare bitmaps with the data" },
	{ 'B', "no-overlap", NULL, "do not look for blocks that share space" },
	{ 's', "statistics", NULL, "print statistics, if the image is valid" },
	{ 0, "for", "TARGET", "explain what azure, hyperv, xen or vpc would refuse" },
	OPTION_PARENT_ROOT,
	OPTION_JSON,
	{ 0 },
};

struct kept {
	struct list link;
	struct vhd_finding finding;
	char text[]; /* the text; then, behind its NUL, the file */
};

struct check_output {
	const char *path;
	bool want_json, begun;
	struct print_json json;
	struct list warnings, notes; /* of struct kept */
	unsigned kept;
	uint64_t dropped;
	int status; /* of the damage found so far */
};

static const char *severity_name(enum vhd_severity severity)
{
	return severity == VHD_DAMAGE ? "damage" : severity == VHD_WARNING ? "warning" : "note";
}

/* JSON begins with the first finding, or at the end: a file that cannot be opened
 * leaves stdout empty. */
static void begin_json(struct check_output *out)
{
	if (out->begun)
		return;
	out->begun = true;
	print_json_begin(&out->json, "check/1");
	print_json_text(&out->json, "file", out->path);
	print_json_array(&out->json, "findings");
}

static void print_finding(struct check_output *out, const struct vhd_finding *f)
{
	struct print_json *j = &out->json;

	if (!out->want_json) {
		if (f->severity == VHD_DAMAGE)
			printf("%s: %s\n", f->file, f->text);
		else
			printf("%s: %s: %s\n", f->file, severity_name(f->severity), f->text);
		return;
	}
	begin_json(out);
	finding_print_json(j, f);
}

/* Damage is 117, unless nothing is wrong but something with a status of its own. */
static int damage_status(int code)
{
	switch (-code) {
	case VHD_E_PARENT_MISSING:
	case VHD_E_PARENT_DENIED:
	case VHD_E_CYCLE:
	case VHD_E_TOO_DEEP:
	case VHD_E_POISONED:
	case EACCES:
		return vhd_exit_status(code);
	default:
		return EUCLEAN;
	}
}

static void keep(struct check_output *out, const struct vhd_finding *f)
{
	size_t text = strlen(f->text) + 1, file = strlen(f->file) + 1;
	struct kept *k = out->kept < KEPT_MAX ? malloc(sizeof(*k) + text + file) : NULL;

	if (!k) {
		out->dropped++;
		return;
	}
	out->kept++;
	k->finding = *f;
	memcpy(k->text, f->text, text);
	memcpy(k->text + text, f->file, file);
	k->finding.text = k->text;
	k->finding.file = k->text + text;
	list_append(f->severity == VHD_WARNING ? &out->warnings : &out->notes, &k->link);
}

static void on_finding(void *arg, const struct vhd_finding *f)
{
	struct check_output *out = arg;
	int status;

	if (f->severity != VHD_DAMAGE) {
		keep(out, f);
		return;
	}
	status = damage_status(f->code);
	if (!out->status || status == EUCLEAN)
		out->status = status;
	print_finding(out, f);
}

static void print_kept(struct check_output *out, struct list *kept, bool print)
{
	struct list *link;

	while ((link = list_pop(kept))) {
		struct kept *k = list_entry(link, struct kept, link);

		if (print)
			print_finding(out, &k->finding);
		free(k);
	}
}

static void print_statistics(const struct vhd_check_result *r)
{
	printf("blocks: %" PRIu64 " total, %" PRIu64 " allocated; sectors: %" PRIu64
	       " present; leaked bytes: %" PRIu64 "; warnings: %u\n",
	       r->total_blocks, r->allocated_blocks, r->present_sectors, r->leaked_bytes,
	       r->warnings);
}

static int parse_target(const struct arguments *args, enum vhd_target *out)
{
	static const char *const names[] = { [VHD_FOR_AZURE] = "azure",
					     [VHD_FOR_HYPERV] = "hyperv",
					     [VHD_FOR_XEN] = "xen",
					     [VHD_FOR_VPC] = "vpc" };
	const char *given = arguments_get(args, "for");

	*out = VHD_FOR_ANY;
	if (!given)
		return 0;
	for (unsigned i = VHD_FOR_AZURE; i <= VHD_FOR_VPC; i++)
		if (!strcmp(given, names[i])) {
			*out = (enum vhd_target)i;
			return 0;
		}
	return usage_error("no target is called '%s'; use azure, hyperv, xen or vpc", given);
}

/* What follows the damage. */
static void print_text_rest(struct check_output *out, const struct vhd_check_result *r,
			    bool statistics)
{
	if (!r->damages && statistics)
		print_statistics(r);
	else if (!r->damages)
		printf("%s is valid\n", out->path);
	print_kept(out, &out->warnings, true);
	print_kept(out, &out->notes, true);
	if (out->dropped)
		printf("%s: %" PRIu64 " more warnings and notes\n", out->path, out->dropped);
}

static void print_json_rest(struct check_output *out, const struct vhd_check_result *r,
			    bool statistics)
{
	struct print_json *j = &out->json;

	begin_json(out);
	print_kept(out, &out->warnings, true);
	print_kept(out, &out->notes, true);
	print_json_close(j);
	print_json_bool(j, "valid", !r->damages);
	print_json_number(j, "leaked_bytes", r->leaked_bytes);
	if (statistics) {
		print_json_number(j, "total_blocks", r->total_blocks);
		print_json_number(j, "allocated_blocks", r->allocated_blocks);
		print_json_number(j, "present_sectors", r->present_sectors);
	}
	print_json_end(j);
}

/* The examination could not be finished; what was found so far makes a whole object. */
static void abandon(struct check_output *out)
{
	print_kept(out, &out->warnings, false);
	print_kept(out, &out->notes, false);
	if (!out->begun)
		return;
	print_json_close(&out->json);
	print_json_bool(&out->json, "valid", false);
	print_json_end(&out->json);
}

static int run_check(struct arguments *args)
{
	const char *path = arguments_image(args);
	bool statistics = arguments_has(args, "statistics");
	struct check_output out = { .path = path, .want_json = args->json };
	struct vhd_check_options options = {
		.parents_too = arguments_has(args, "parents"),
		.bitmaps = arguments_has(args, "bitmaps") || statistics,
		.no_overlap = arguments_has(args, "no-overlap"),
		.ignore_footer = arguments_has(args, "ignore-footer"),
		.ignore_parent_id = arguments_has(args, "ignore-parent-id"),
		.ignore_timestamps = arguments_has(args, "ignore-timestamps"),
		.parents = args->parents,
		.finding = on_finding,
		.arg = &out,
	};
	struct vhd_check_result result;
	struct vhd_error err = { 0 };
	int rc;

	if (!path)
		return EINVAL;
	rc = parse_target(args, &options.target);
	if (rc)
		return rc;
	list_init(&out.warnings);
	list_init(&out.notes);
	options.progress = progress_begin("check", false);
	rc = vhd_check(path, &options, &result, &err);
	progress_end();
	if (rc < 0) {
		abandon(&out);
		return print_error(&err);
	}
	if (args->json)
		print_json_rest(&out, &result, statistics);
	else
		print_text_rest(&out, &result, statistics);
	return out.status;
}

const struct command command_check = {
	.name = "check",
	.summary = "find what is wrong with an image",
	.operands = "FILE",
	.options = check_options,
	.run = run_check,
};
