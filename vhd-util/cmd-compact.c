/* cmd-compact.c - vhd-util compact and optimize */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cli/print.h"
#include "command.h"
#include "libvhd/base/number.h"

static void print_result(const char *path, bool order, bool dry_run,
			 const struct vhd_compact_result *r)
{
	struct print_json j;

	print_json_begin(&j, order ? "optimize/1" : "compact/1");
	print_json_text(&j, "file", path);
	print_json_bool(&j, "dry_run", dry_run);
	print_json_number(&j, "dropped_blocks", r->dropped_blocks);
	print_json_number(&j, "moved_blocks", r->moved_blocks);
	print_json_number(&j, "file_before", r->file_before);
	print_json_number(&j, "file_after", r->file_after);
	print_json_number(&j, "storage_before", r->storage_before);
	print_json_number(&j, "storage_after", r->storage_after);
	if (order)
		print_json_number(&j, "out_of_order", r->out_of_order);
	print_json_end(&j);
}

static void say_dry(const char *path, bool order, const struct vhd_compact_result *r)
{
	char a[16], b[16];

	if (order)
		printf("%" PRIu64 " blocks of '%s' do not follow their predecessor\n",
		       r->out_of_order, path);
	else
		printf("would give up %" PRIu64 " blocks of '%s' and move %" PRIu64
		       ": the file from %s to %s, its storage from %" PRIu64 " to at most %" PRIu64
		       " bytes\n",
		       r->dropped_blocks, path, r->moved_blocks,
		       number_format_size(r->file_before, a), number_format_size(r->file_after, b),
		       r->storage_before, r->storage_after);
}

static int run(struct arguments *args, bool order)
{
	struct vhd_compact_options o = { .order = order, .parents = args->parents };
	const char *path = arguments_image(args);
	struct vhd_compact_result result;
	struct vhd_error err = { 0 };
	int rc;

	if (!path)
		return EINVAL;
	o.dry_run = args->dry_run;
	o.progress = progress_begin(order ? "optimizing" : "compacting",
				    arguments_has(args, "progress"));
	rc = vhd_compact(path, &o, &result, &err);
	progress_end();
	if (rc < 0)
		return print_error(&err);
	if (args->json)
		print_result(path, order, args->dry_run, &result);
	else if (args->dry_run)
		say_dry(path, order, &result);
	return 0;
}

static int run_compact(struct arguments *args)
{
	return run(args, false);
}

static int run_optimize(struct arguments *args)
{
	return run(args, true);
}

static const struct option_spec compact_options[] = {
	OPTION_NAME,
	{ 'p', "progress", NULL, "show progress, even if stderr is no terminal" },
	OPTION_PARENT_ROOT,
	OPTION_JSON,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_compact = {
	.name = "compact",
	.summary = "give up zeros, close gaps and cut the file, in place",
	.operands = "FILE",
	.options = compact_options,
	.run = run_compact,
};

static const struct option_spec optimize_options[] = {
	OPTION_NAME, { 'p', "progress", NULL, "show progress, even if stderr is no terminal" },
	OPTION_JSON, OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_optimize = {
	.name = "optimize",
	.summary = "put the blocks of an image in the order of its disk",
	.operands = "FILE",
	.options = optimize_options,
	.run = run_optimize,
};
