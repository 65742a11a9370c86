/* cmd-snapshot.c - vhd-util snapshot */
#include <errno.h>
#include <stdio.h>

#include "command.h"
#include "libvhd/layout.h"

#define MIB (1ull << 20)

static int numbers(struct arguments *args, struct vhd_snapshot_options *o)
{
	uint64_t limit = 0, block_size = 0;
	int rc = arguments_number(args, "limit", &limit);

	if (rc >= 0)
		rc = arguments_units(args, "max-size", MIB, &o->max_size);
	if (rc >= 0)
		rc = arguments_size(args, "size", &o->size);
	if (rc >= 0)
		rc = arguments_size(args, "block-size", &block_size);
	if (rc < 0)
		return EINVAL;
	if (limit > UINT32_MAX || block_size > UINT32_MAX)
		return usage_error("a limit or block size is too large");
	o->limit = (unsigned)limit;
	o->block_size = (uint32_t)block_size;
	return 0;
}

static int run_snapshot(struct arguments *args)
{
	struct vhd_snapshot_options o = { .parents = args->parents };
	const char *path = arguments_image(args);
	const char *parent;
	struct vhd_error err = { 0 };
	int status;

	if (!path)
		return EINVAL;
	parent = arguments_get(args, "parent");
	if (!parent)
		return usage_error("a parent is needed: -p PARENT");
	status = numbers(args, &o);
	if (status)
		return status;
	o.raw_parent = arguments_has(args, "raw-parent");
	o.link_empty = arguments_has(args, "empty");
	o.force = arguments_has(args, "force");
	o.dry_run = args->dry_run;
	o.progress = progress_warnings();
	if (vhd_snapshot(path, parent, &o, &err) < 0)
		return print_error(&err);
	if (args->dry_run)
		printf("would create '%s' as a child of '%s'\n", path, parent);
	return 0;
}

static const struct option_spec snapshot_options[] = {
	{ 'n', "name", "FILE", "the child to make" },
	{ 'p', "parent", "PARENT", "its parent" },
	{ 'l', "limit", "DEPTH", "refuse a chain deeper than this, the child included" },
	{ 'm', "raw-parent", NULL, "the parent is a raw disk" },
	{ 'S', "max-size", "SIZE", "room in the metadata to grow: -S in MiB, else as --size" },
	{ 'e', "empty", NULL, "link to the given parent even if it has no data" },
	{ 0, "size", "SIZE", "virtual size of the child (default: the parent's)" },
	{ 0, "block-size", "SIZE", "4K to 64M, a power of two (default: the parent's)" },
	{ 0, "force", NULL, "replace an existing file" },
	OPTION_PARENT_ROOT,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_snapshot = {
	.name = "snapshot",
	.summary = "make a differencing child of an image",
	.operands = "FILE",
	.options = snapshot_options,
	.run = run_snapshot,
};
