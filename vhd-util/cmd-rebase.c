/* cmd-rebase.c - vhd-util rebase */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cli/print.h"
#include "command.h"
#include "libvhd/base/number.h"

static void print_result(const char *path, const char *parent, const struct vhd_rebase_result *r)
{
	struct print_json j;

	print_json_begin(&j, "rebase/1");
	print_json_text(&j, "file", path);
	print_json_text(&j, "parent", parent);
	print_json_number(&j, "compared_bytes", r->compared_bytes);
	print_json_number(&j, "copied_bytes", r->copied_bytes);
	print_json_end(&j);
}

static int run_rebase(struct arguments *args)
{
	struct vhd_rebase_options o = { .parents = args->parents, .key = args->key };
	const char *path = arguments_image(args);
	struct vhd_rebase_result result;
	struct vhd_error err = { 0 };
	char size[16];
	int rc;

	if (!path)
		return EINVAL;
	if (args->count != 1)
		return usage_error("the new parent is needed: FILE PARENT");
	o.parent = args->rest[0];
	o.raw_parent = arguments_has(args, "raw-parent");
	o.unsafe = arguments_has(args, "unsafe");
	o.force = arguments_has(args, "force");
	o.dry_run = args->dry_run;
	o.progress = progress_begin("rebasing", arguments_has(args, "progress"));
	rc = vhd_rebase(path, &o, &result, &err);
	progress_end();
	if (rc < 0)
		return print_error(&err);
	number_format_size(result.copied_bytes, size);
	if (args->json)
		print_result(path, o.parent, &result);
	else if (args->dry_run && o.unsafe)
		printf("would make '%s' a child of '%s'\n", path, o.parent);
	else if (args->dry_run)
		printf("would copy %" PRIu64 " bytes (%s) into '%s'\n", result.copied_bytes, size,
		       path);
	return 0;
}

static const struct option_spec rebase_options[] = {
	OPTION_NAME,
	{ 'm', "raw-parent", NULL, "the new parent is a raw disk" },
	{ 'u', "unsafe", NULL, "compare and copy nothing: only the link changes" },
	{ 'p', "progress", NULL, "show progress, even if stderr is no terminal" },
	{ 0, "force", NULL, "even if the image is hidden" },
	OPTION_KEY_FILE,
	OPTION_PARENT_ROOT,
	OPTION_JSON,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_rebase = {
	.name = "rebase",
	.summary = "give an image another parent; what it contains stays",
	.operands = "FILE PARENT",
	.min_rest = 1,
	.max_rest = 1,
	.options = rebase_options,
	.run = run_rebase,
};
