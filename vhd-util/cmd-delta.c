/* cmd-delta.c - vhd-util delta: create, apply, arrived */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/print.h"
#include "command.h"
#include "libvhd/base/number.h"

static void print_created(const char *old, const char *new, const struct vhd_delta_result *r)
{
	struct print_json j;

	print_json_begin(&j, "delta/1");
	print_json_text(&j, "action", "create");
	print_json_text(&j, "old", old);
	print_json_text(&j, "new", new);
	print_json_number(&j, "blocks", r->blocks);
	print_json_number(&j, "changed_bytes", r->changed_bytes);
	print_json_number(&j, "bytes", r->bytes);
	print_json_end(&j);
}

static int run_create(struct arguments *args, char **operands)
{
	struct vhd_delta_options o = { .parents = args->parents, .key = args->key };
	const char *destination = arguments_get(args, "output");
	struct vhd_delta_result result;
	struct vhd_error err = { 0 };
	uint64_t block_size = 0;
	char size[16];
	int rc;

	if (arguments_size(args, "block-size", &block_size) < 0 ||
	    arguments_size(args, "skip", &o.skip) < 0)
		return EINVAL;
	if (block_size > UINT32_MAX)
		return usage_error("the block size is too large");
	if (!destination)
		destination = "-";
	if (args->json && !args->dry_run && !strcmp(destination, "-"))
		return usage_error("--json needs a file for the delta: -o FILE");
	if (o.skip && strcmp(destination, "-") != 0)
		return usage_error("--skip is for a delta that goes to standard output");
	o.block_size = (uint32_t)block_size;
	o.log = arguments_get(args, "log");
	o.raw_old = arguments_has(args, "raw-parent");
	o.gzip = arguments_has(args, "gzip");
	o.force = arguments_has(args, "force");
	o.dry_run = args->dry_run;
	o.progress = progress_begin("delta", arguments_has(args, "progress"));
	rc = vhd_delta_create(operands[0], operands[1], destination, &o, &result, &err);
	progress_end();
	if (rc < 0)
		return print_error(&err);
	if (args->json)
		print_created(operands[0], operands[1], &result);
	else if (args->dry_run)
		printf("would make a delta of %" PRIu64 " bytes (%s), %" PRIu64 " blocks\n",
		       result.bytes, number_format_size(result.bytes, size), result.blocks);
	return 0;
}

static void print_applied(const char *path, const struct vhd_apply_result *r)
{
	struct print_json j;

	print_json_begin(&j, "delta/1");
	print_json_text(&j, "action", "apply");
	print_json_text(&j, "file", path);
	print_json_number(&j, "bytes", r->bytes);
	print_json_number(&j, "resumed_bytes", r->resumed_bytes);
	print_json_end(&j);
}

static int run_apply(struct arguments *args, char **operands)
{
	struct vhd_apply_options o = { .parents = args->parents };
	struct vhd_apply_result result;
	struct vhd_error err = { 0 };
	int rc;

	if (args->key)
		return usage_error("apply needs no key: it takes the data as it is");
	o.raw_parent = arguments_has(args, "raw-parent");
	o.resume = arguments_has(args, "resume");
	o.force = arguments_has(args, "force");
	o.dry_run = args->dry_run;
	o.progress = progress_begin("delta", arguments_has(args, "progress"));
	rc = vhd_delta_apply(operands[0], operands[1], operands[2], &o, &result, &err);
	progress_end();
	if (rc < 0)
		return print_error(&err);
	if (args->json)
		print_applied(operands[2], &result);
	else if (args->dry_run)
		printf("would make '%s' from %" PRIu64 " bytes, which are right\n", operands[2],
		       result.bytes);
	return 0;
}

static int run_arrived(struct arguments *args, char **operands)
{
	struct vhd_error err = { 0 };
	struct print_json j;
	uint64_t bytes;

	if (vhd_delta_arrived(operands[0], &bytes, &err) < 0)
		return print_error(&err);
	if (!args->json) {
		printf("%" PRIu64 "\n", bytes);
		return 0;
	}
	print_json_begin(&j, "delta/1");
	print_json_text(&j, "action", "arrived");
	print_json_text(&j, "file", operands[0]);
	print_json_number(&j, "bytes", bytes);
	print_json_end(&j);
	return 0;
}

static int run_delta(struct arguments *args)
{
	static const struct {
		const char *name, *operands;
		int count;
		int (*run)(struct arguments *args, char **operands);
	} actions[] = {
		{ "create", "OLD NEW", 2, run_create },
		{ "apply", "DELTA PARENT FILE", 3, run_apply },
		{ "arrived", "FILE", 1, run_arrived },
	};

	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
		if (strcmp(args->rest[0], actions[i].name) != 0)
			continue;
		if (args->count - 1 != actions[i].count)
			return usage_error("delta %s needs %s", actions[i].name,
					   actions[i].operands);
		return actions[i].run(args, args->rest + 1);
	}
	return usage_error("delta does not know '%s': create, apply or arrived", args->rest[0]);
}

static const struct option_spec delta_options[] = {
	{ 'o', "output", "FILE", "create: the delta (default: - for standard output)" },
	{ 'm', "raw-parent", NULL, "OLD or PARENT is a raw disk" },
	{ 'l', "log", "FILE", "create: a changed-block log since OLD; the rest is not compared" },
	{ 'z', "gzip", NULL, "create: compress it, as the suffix .gz does" },
	{ 'r', "resume", NULL, "apply: go on with what has arrived" },
	{ 'p', "progress", NULL, "show progress, even if stderr is no terminal" },
	{ 0, "skip", "BYTES", "create: leave out the first bytes, which have arrived" },
	{ 0, "block-size", "SIZE", "create: 4K to 64M (default: 64K, more for large disks)" },
	{ 0, "force", NULL, "replace an existing file" },
	{ 0, "key-file", "FILE", "create: key of encrypted images; - is standard input" },
	OPTION_PARENT_ROOT,
	OPTION_JSON,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_delta = {
	.name = "delta",
	.summary = "send what changed between two images, and receive it",
	.operands = "create OLD NEW | apply DELTA PARENT FILE | arrived FILE",
	.min_rest = 2,
	.max_rest = 4,
	.options = delta_options,
	.run = run_delta,
};
