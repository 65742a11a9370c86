/* cmd-convert.c - vhd-util convert */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/print.h"
#include "command.h"

/* Index of @text in a NULL-terminated list; -1: not there. */
static int index_of(const char *text, const char *const *names)
{
	for (int i = 0; names[i]; i++)
		if (!strcmp(text, names[i]))
			return i;
	return -1;
}

static int formats(struct arguments *args, struct vhd_convert_options *o)
{
	static const char *const sources[] = { "auto", "raw", "vhd", NULL };
	static const char *const targets[] = { "auto", "raw", "fixed", "dynamic", NULL };
	static const char *const platforms[] = { "any", "azure", "hyperv", "xen", "vpc", NULL };
	const char *from = arguments_get(args, "from"), *to = arguments_get(args, "to");
	const char *platform = arguments_get(args, "for");
	int n = from ? index_of(from, sources) : 0;

	if (n < 0)
		return usage_error("a source is raw or vhd, not '%s'", from);
	o->from = n == 2 ? VHD_FORMAT_DYNAMIC : (enum vhd_format)n;
	n = to ? index_of(to, targets) : 0;
	if (n < 0)
		return usage_error("a target is raw, fixed or dynamic, not '%s'", to);
	o->to = (enum vhd_format)n;
	n = platform ? index_of(platform, platforms) : 0;
	if (n < 0)
		return usage_error("no target is called '%s'; use azure, hyperv, xen or vpc",
				   platform);
	o->target = (enum vhd_target)n;
	return 0;
}

static void print_result(const char *destination, const struct vhd_convert_result *r)
{
	struct print_json j;

	print_json_begin(&j, "convert/1");
	print_json_text(&j, "file", destination);
	print_json_number(&j, "virtual_size", r->size);
	print_json_number(&j, "data_bytes", r->data_bytes);
	print_json_number(&j, "file_size", r->file_bytes);
	print_json_end(&j);
}

static int run_convert(struct arguments *args)
{
	struct vhd_convert_options o = { .parents = args->parents, .key = args->key };
	const char *source = arguments_image(args), *destination;
	struct vhd_convert_result result;
	struct vhd_error err = { 0 };
	uint64_t block_size = 0;
	int rc;

	if (!source)
		return EINVAL;
	if (args->count != 1)
		return usage_error("a source and a destination are needed: SRC DST");
	destination = args->rest[0];
	rc = formats(args, &o);
	if (rc)
		return rc;
	if (arguments_size(args, "block-size", &block_size) < 0)
		return EINVAL;
	if (block_size > UINT32_MAX)
		return usage_error("a block size of %llu bytes is too large",
				   (unsigned long long)block_size);
	o.block_size = (uint32_t)block_size;
	o.gzip = arguments_has(args, "gzip");
	o.force = arguments_has(args, "force");
	o.no_sync = arguments_has(args, "no-sync");
	if (args->key && !strcmp(source, "-") && !strcmp(arguments_get(args, "key-file"), "-"))
		return usage_error("standard input is the source: --key-file needs a file");
	if (args->json && !strcmp(destination, "-"))
		return usage_error("--json would mix with the disk on standard output");
	o.dry_run = args->dry_run;
	o.progress = progress_begin("converting", false);
	rc = vhd_convert(source, destination, &o, &result, &err);
	progress_end();
	if (rc < 0)
		return print_error(&err);
	if (args->dry_run)
		printf("would convert '%s' to '%s'\n", source, destination);
	else if (args->json)
		print_result(destination, &result);
	return 0;
}

static const struct option_spec convert_options[] = {
	{ 'n', "name", "FILE", "the source" },
	{ 0, "from", "FORMAT", "read the source as raw or vhd (default: vhd if it has a footer)" },
	{ 0, "to", "FORMAT", "raw, fixed or dynamic (default: by the suffix of DST)" },
	{ 0, "block-size", "SIZE", "of a dynamic target: 4K to 64M (default 2M)" },
	{ 0, "gzip", NULL, "compress the target, as the suffix .gz does" },
	{ 0, "for", "PLATFORM", "as azure, hyperv, xen or vpc takes it" },
	{ 0, "force", NULL, "replace an existing file" },
	{ 0, "no-sync", NULL, "do not wait until the target is on the disk" },
	OPTION_KEY_FILE,
	OPTION_PARENT_ROOT,
	OPTION_JSON,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_convert = {
	.name = "convert",
	.summary = "copy a disk into another format, parents included; - is a pipe",
	.operands = "SRC DST",
	.min_rest = 1,
	.max_rest = 1,
	.options = convert_options,
	.run = run_convert,
};
