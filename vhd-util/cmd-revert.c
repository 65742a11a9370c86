/* cmd-revert.c - vhd-util revert */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cli/print.h"
#include "command.h"

static void print_result(const char *path, const struct vhd_revert_result *r, bool dry_run)
{
	struct print_json j;

	print_json_begin(&j, "revert/1");
	print_json_text(&j, "file", path);
	print_json_bool(&j, "dry_run", dry_run);
	print_json_bool(&j, "reverted", r->reverted);
	print_json_number(&j, "size", r->old_size);
	print_json_number(&j, "restored_bytes", r->restored);
	print_json_end(&j);
}

static int run_revert(struct arguments *args)
{
	const char *path = arguments_image(args);
	struct vhd_revert_result result;
	struct vhd_error err = { 0 };

	if (!path)
		return EINVAL;
	if (vhd_revert(path, arguments_get(args, "journal"), args->dry_run, &result, &err) < 0)
		return print_error(&err);
	if (args->json)
		print_result(path, &result, args->dry_run);
	else if (args->dry_run && result.reverted)
		printf("would return '%s' to %" PRIu64 " bytes\n", path, result.old_size);
	else if (args->dry_run)
		printf("nothing to undo in '%s'\n", path);
	return 0;
}

static const struct option_spec revert_options[] = {
	OPTION_NAME,
	{ 'j', "journal", "FILE",
	  "journal of the resize; default: .FILE.journal beside the image" },
	OPTION_JSON,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_revert = {
	.name = "revert",
	.summary = "undo a resize that was interrupted",
	.operands = "FILE",
	.options = revert_options,
	.run = run_revert,
};
