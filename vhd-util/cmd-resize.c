/* cmd-resize.c - vhd-util resize */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cli/print.h"
#include "command.h"
#include "libvhd/base/number.h"

#define MIB	    (1ull << 20)
#define SCRIPT_UNIT (2 * MIB) /* sizes given in MiB are rounded up to this */

static int size_asked(struct arguments *args, uint64_t *size)
{
	int rc = arguments_units(args, "size", MIB, size);

	if (!rc)
		return usage_error("a size is needed: --size SIZE, or -s MiB");
	if (rc > 0 && arguments_by_letter(args, "size") && *size <= UINT64_MAX - SCRIPT_UNIT)
		*size = number_round_up(*size, SCRIPT_UNIT);
	return rc < 0 ? EINVAL : 0;
}

static void print_result(const char *path, const struct vhd_resize_result *r, bool dry_run)
{
	struct print_json j;

	print_json_begin(&j, "resize/1");
	print_json_text(&j, "file", path);
	print_json_bool(&j, "dry_run", dry_run);
	print_json_number(&j, "old_size", r->old_size);
	print_json_number(&j, "new_size", r->new_size);
	print_json_number(&j, "moved_blocks", r->moved_blocks);
	print_json_number(&j, "freed_blocks", r->freed_blocks);
	print_json_end(&j);
}

static int run_resize(struct arguments *args)
{
	struct vhd_resize_options o = { .parents = args->parents, .key = args->key };
	const char *path = arguments_image(args);
	struct vhd_resize_result result;
	struct vhd_error err = { 0 };
	int status, rc;

	if (!path)
		return EINVAL;
	status = size_asked(args, &o.size);
	if (status)
		return status;
	o.journal = arguments_get(args, "journal");
	o.fast = arguments_has(args, "fast");
	o.cut_data = arguments_has(args, "cut-data");
	o.dry_run = args->dry_run;
	if (o.fast && o.journal)
		return usage_error("-f moves nothing, so -j has nothing to say: leave one out");
	o.progress = progress_begin("resizing", false);
	rc = vhd_resize(path, &o, &result, &err);
	progress_end();
	if (rc < 0)
		return print_error(&err);
	if (args->json)
		print_result(path, &result, args->dry_run);
	else if (args->dry_run)
		printf("would resize '%s' from %" PRIu64 " to %" PRIu64 " bytes, moving %" PRIu64
		       " blocks\n",
		       path, result.old_size, result.new_size, result.moved_blocks);
	return 0;
}

static const struct option_spec resize_options[] = {
	OPTION_NAME,
	{ 's', "size", "SIZE", "new size of the disk; -s: in MiB, --size: with K, M, G, T" },
	{ 'j', "journal", "FILE", "keep the old size there until done, for revert" },
	{ 'f', "fast", NULL, "only within the room that the metadata has; move nothing" },
	{ 0, "cut-data", NULL, "smaller: lose the data behind the new end" },
	OPTION_KEY_FILE,
	OPTION_PARENT_ROOT,
	OPTION_JSON,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_resize = {
	.name = "resize",
	.summary = "make a disk larger or smaller",
	.operands = "FILE",
	.options = resize_options,
	.run = run_resize,
};
