/* cmd-modify.c - vhd-util modify */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "command.h"

static void print_dry_run(const char *path, const struct vhd_modify_options *o)
{
	if (o->zero)
		printf("would drop all data of '%s'\n", path);
	if (o->parent)
		printf("would make '%s' a child of '%s'\n", path, o->parent);
	if (o->physical_size)
		printf("would make '%s' %" PRIu64 " bytes long\n", path, o->physical_size);
}

static int run_modify(struct arguments *args)
{
	struct vhd_modify_options o = { .parents = args->parents };
	const char *path = arguments_image(args);
	struct vhd_error err = { 0 };
	int size;

	if (!path)
		return EINVAL;
	size = arguments_units(args, "physical-size", 1, &o.physical_size);
	if (size < 0)
		return EINVAL;
	o.parent = arguments_get(args, "parent");
	o.raw_parent = arguments_has(args, "raw-parent");
	o.zero = arguments_has(args, "zero");
	o.dry_run = args->dry_run;
	if (size && !o.physical_size)
		return usage_error("a size of 0 bytes makes no sense");
	if (!size && !o.parent && !o.zero)
		return usage_error("nothing to change: -s BYTES, -p PARENT or -z");
	if (o.raw_parent && !o.parent)
		return usage_error("-m needs the parent: -p PARENT");
	if (vhd_modify(path, &o, &err) < 0)
		return print_error(&err);
	if (args->dry_run)
		print_dry_run(path, &o);
	return 0;
}

static const struct option_spec modify_options[] = {
	OPTION_NAME,
	{ 's', "physical-size", "BYTES", "make the file so long, its footer included" },
	{ 'p', "parent", "PARENT", "another parent; what it contains is not looked at" },
	{ 'm', "raw-parent", NULL, "that parent is a raw disk" },
	{ 'z', "zero", NULL, "drop all data: the image becomes empty" },
	OPTION_PARENT_ROOT,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_modify = {
	.name = "modify",
	.summary = "change an image's parent or physical size, or drop its data",
	.operands = "FILE",
	.options = modify_options,
	.run = run_modify,
};
