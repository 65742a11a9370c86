/* cmd-relink.c - vhd-util relink */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "command.h"

static int run_relink(struct arguments *args)
{
	struct vhd_relink_options o = { .parents = args->parents };
	const char *path = arguments_image(args);
	struct vhd_relink_result result;
	struct vhd_error err = { 0 };
	const char **directories;
	int rc;

	if (!path)
		return EINVAL;
	if (!args->count)
		return usage_error("a directory to search is needed: FILE DIR ...");
	directories = calloc((size_t)args->count + 1, sizeof(*directories));
	if (!directories)
		return ENOMEM;
	for (int i = 0; i < args->count; i++)
		directories[i] = args->rest[i];
	o.directories = directories;
	o.dry_run = args->dry_run;
	rc = vhd_relink(path, &o, &result, &err);
	free(directories);
	if (rc < 0)
		return print_error(&err);
	if (result.unchanged)
		printf("the parent of '%s' is where it says: '%s'\n", path, result.parent);
	else
		printf("%s'%s' is a child of '%s'\n", args->dry_run ? "would be: " : "", path,
		       result.parent);
	return 0;
}

static const struct option_spec relink_options[] = {
	OPTION_NAME,
	OPTION_PARENT_ROOT,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_relink = {
	.name = "relink",
	.summary = "find the parent that has moved, by its id, and link to it",
	.operands = "FILE DIR...",
	.min_rest = 1,
	.max_rest = -1,
	.options = relink_options,
	.run = run_relink,
};
