/* cmd-compare.c - vhd-util compare: 0 the same, 1 different */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/print.h"
#include "command.h"

static int format_of(const char *text, enum vhd_format *out)
{
	if (!text)
		return 0;
	if (!strcmp(text, "raw"))
		*out = VHD_FORMAT_RAW;
	else if (!strcmp(text, "vhd"))
		*out = VHD_FORMAT_DYNAMIC;
	else
		return usage_error("a source is raw or vhd, not '%s'", text);
	return 0;
}

static void print_result(const char *a, const char *b, bool same, uint64_t first)
{
	struct print_json j;

	print_json_begin(&j, "compare/1");
	print_json_text(&j, "a", a);
	print_json_text(&j, "b", b);
	print_json_bool(&j, "same", same);
	if (same)
		print_json_null(&j, "first_difference");
	else
		print_json_number(&j, "first_difference", first);
	print_json_end(&j);
}

static int run_compare(struct arguments *args)
{
	struct vhd_compare_options o = { .parents = args->parents, .key = args->key };
	const char *a = arguments_image(args), *b;
	struct vhd_error err = { 0 };
	uint64_t first = 0;
	int rc;

	if (!a)
		return EINVAL;
	if (args->count != 1)
		return usage_error("two disks are compared: A B");
	b = args->rest[0];
	if (format_of(arguments_get(args, "from-a"), &o.from_a) ||
	    format_of(arguments_get(args, "from-b"), &o.from_b))
		return EINVAL;
	o.progress = progress_begin("comparing", false);
	rc = vhd_compare(a, b, &o, &first, &err);
	progress_end();
	if (rc < 0 && rc != -VHD_E_DIFFERENT)
		return print_error(&err);
	if (args->json)
		print_result(a, b, !rc, first);
	else if (rc)
		printf("%s\n", err.text);
	return rc ? 1 : 0;
}

static const struct option_spec compare_options[] = {
	OPTION_NAME,
	{ 0, "from-a", "FORMAT", "read A as raw or vhd (default: vhd if it has a footer)" },
	{ 0, "from-b", "FORMAT", "read B as raw or vhd" },
	OPTION_KEY_FILE,
	OPTION_PARENT_ROOT,
	OPTION_JSON,
	{ 0 },
};

const struct command command_compare = {
	.name = "compare",
	.summary = "have two disks the same contents?",
	.operands = "A B",
	.min_rest = 1,
	.max_rest = 1,
	.options = compare_options,
	.run = run_compare,
};
