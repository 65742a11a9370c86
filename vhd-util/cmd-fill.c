/* cmd-fill.c - vhd-util fill */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cli/print.h"
#include "command.h"

static int range(struct arguments *args, struct vhd_fill_options *o)
{
	int from = arguments_number(args, "from", &o->first);
	int to = from < 0 ? from : arguments_number(args, "to", &o->last);

	if (to < 0)
		return EINVAL;
	if (!o->bitmaps && (from || to))
		return usage_error("-f and -t go with -b: without it all of the disk is filled");
	if (!to)
		o->last = UINT64_MAX;
	return 0;
}

static int run_fill(struct arguments *args)
{
	struct vhd_fill_options o = { .parents = args->parents, .key = args->key };
	const char *path = arguments_image(args);
	struct vhd_fill_result result;
	struct vhd_error err = { 0 };
	struct print_json j;
	int status, rc;

	if (!path)
		return EINVAL;
	o.bitmaps = arguments_has(args, "bitmaps");
	o.dry_run = args->dry_run;
	status = range(args, &o);
	if (status)
		return status;
	o.progress = progress_begin("filling", false);
	rc = vhd_fill(path, &o, &result, &err);
	progress_end();
	if (rc < 0)
		return print_error(&err);
	if (args->json) {
		print_json_begin(&j, "fill/1");
		print_json_text(&j, "file", path);
		print_json_bool(&j, "dry_run", args->dry_run);
		print_json_number(&j, "blocks", result.blocks);
		print_json_number(&j, "sectors", result.sectors);
		print_json_end(&j);
	} else if (args->dry_run) {
		printf("would allocate up to %" PRIu64 " blocks of '%s'\n", result.blocks, path);
	}
	return 0;
}

static const struct option_spec fill_options[] = {
	OPTION_NAME,
	{ 'b', "bitmaps", NULL, "set the bits of sectors, without storage for their data" },
	{ 'f', "from", "SECTOR", "with -b: the first sector" },
	{ 't', "to", "SECTOR", "with -b: the last sector, which belongs to it" },
	OPTION_KEY_FILE,
	OPTION_PARENT_ROOT,
	OPTION_JSON,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_fill = {
	.name = "fill",
	.summary = "allocate every block; the contents stay",
	.operands = "FILE",
	.options = fill_options,
	.run = run_fill,
};
