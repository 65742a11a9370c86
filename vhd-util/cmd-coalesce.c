/* cmd-coalesce.c - vhd-util coalesce */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cli/print.h"
#include "command.h"

static void print_result(const char *path, const struct vhd_coalesce_result *r)
{
	struct print_json j;

	print_json_begin(&j, "coalesce/1");
	print_json_text(&j, "file", path);
	print_json_text(&j, "into", r->into);
	print_json_number(&j, "levels", r->levels);
	print_json_number(&j, "coalesced_sectors", r->sectors);
	print_json_number(&j, "bytes_read", r->bytes_read);
	print_json_number(&j, "bytes_written", r->bytes_written);
	print_json_bool(&j, "resumed", r->resumed);
	print_json_end(&j);
}

static int run_coalesce(struct arguments *args)
{
	struct vhd_coalesce_options o = { .parents = args->parents, .key = args->key };
	const char *path = arguments_image(args);
	struct vhd_coalesce_result result;
	struct vhd_error err = { 0 };
	int rc;

	if (!path)
		return EINVAL;
	o.ancestor = arguments_get(args, "ancestor");
	o.skip_zeros = arguments_has(args, "sparse");
	o.force = arguments_has(args, "force");
	o.dry_run = args->dry_run;
	o.progress = progress_begin("coalescing", arguments_has(args, "progress"));
	rc = vhd_coalesce(path, &o, &result, &err);
	progress_end();
	if (rc < 0)
		return print_error(&err);
	if (args->json)
		print_result(path, &result);
	else if (args->dry_run)
		printf("would coalesce %" PRIu64 " sectors into '%s'\n", result.sectors,
		       result.into);
	else
		printf("Coalesced %" PRIu64 " sectors\n", result.sectors);
	return 0;
}

static const struct option_spec coalesce_options[] = {
	{ 'n', "name", "FILE", "the child to merge into its parent" },
	{ 'a', "ancestor", "FILE", "merge into this ancestor, with all that lies between" },
	{ 's', "sparse", NULL, "do not write zeros where zero is already" },
	{ 'p', "progress", NULL, "show progress, even if stderr is no terminal" },
	{ 0, "force", NULL, "even if another child uses the parent" },
	OPTION_KEY_FILE,
	OPTION_PARENT_ROOT,
	OPTION_JSON,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_coalesce = {
	.name = "coalesce",
	.summary = "merge a child into its parent; the child stays as it is",
	.operands = "FILE",
	.options = coalesce_options,
	.run = run_coalesce,
};
