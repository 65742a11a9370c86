/* cmd-export.c - vhd-util export and import */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/print.h"
#include "command.h"

static int run_export(struct arguments *args)
{
	struct vhd_export_options o = { .parents = args->parents };
	const char *path = arguments_image(args), *destination;
	struct vhd_export_result result;
	struct vhd_error err = { 0 };
	struct print_json j;
	int rc;

	if (!path)
		return EINVAL;
	destination = arguments_get(args, "output");
	if (!destination)
		destination = "-";
	if (args->json && !args->dry_run && !strcmp(destination, "-"))
		return usage_error("--json needs a file for the archive: -o FILE");
	o.gzip = arguments_has(args, "gzip");
	o.force = arguments_has(args, "force");
	o.dry_run = args->dry_run;
	o.progress = progress_begin("exporting", arguments_has(args, "progress"));
	rc = vhd_export(path, destination, &o, &result, &err);
	progress_end();
	if (rc < 0)
		return print_error(&err);
	if (args->json) {
		print_json_begin(&j, "export/1");
		print_json_text(&j, "file", path);
		print_json_number(&j, "images", result.images);
		print_json_number(&j, "bytes", result.bytes);
		print_json_end(&j);
	} else if (args->dry_run) {
		printf("would export %u images\n", result.images);
	}
	return 0;
}

static int run_import(struct arguments *args)
{
	struct vhd_import_options o = { .dry_run = args->dry_run };
	const char *source = args->rest[0], *directory = args->rest[1];
	struct vhd_import_result result;
	struct vhd_error err = { 0 };
	struct print_json j;
	int rc;

	o.progress = progress_begin("importing", arguments_has(args, "progress"));
	rc = vhd_import(source, directory, &o, &result, &err);
	progress_end();
	if (rc < 0)
		return print_error(&err);
	if (args->json) {
		print_json_begin(&j, "import/1");
		print_json_text(&j, "directory", directory);
		print_json_text(&j, "leaf", result.leaf);
		print_json_number(&j, "images", result.images);
		print_json_number(&j, "relinked", result.relinked);
		print_json_number(&j, "bytes", result.bytes);
		print_json_end(&j);
	} else {
		printf("%s%u images, the leaf is '%s%s%s'\n",
		       args->dry_run ? "would import " : "imported ", result.images, directory,
		       directory[strlen(directory) - 1] == '/' ? "" : "/", result.leaf);
	}
	return 0;
}

static const struct option_spec export_options[] = {
	OPTION_NAME,
	{ 'o', "output", "FILE", "the archive (default: - for standard output)" },
	{ 'z', "gzip", NULL, "compress it, as the suffixes .gz and .tgz do" },
	{ 'p', "progress", NULL, "show progress, even if stderr is no terminal" },
	{ 0, "force", NULL, "replace an existing file" },
	OPTION_PARENT_ROOT,
	OPTION_JSON,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_export = {
	.name = "export",
	.summary = "write an image with all its parents as one stream",
	.operands = "FILE",
	.options = export_options,
	.run = run_export,
};

static const struct option_spec import_options[] = {
	{ 'p', "progress", NULL, "show progress, even if stderr is no terminal" },
	OPTION_JSON,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_import = {
	.name = "import",
	.summary = "make a directory with the images of such a stream",
	.operands = "ARCHIVE DIRECTORY",
	.min_rest = 2,
	.max_rest = 2,
	.options = import_options,
	.run = run_import,
};
