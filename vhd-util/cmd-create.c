/* cmd-create.c - vhd-util create */
#include <errno.h>
#include <stdio.h>

#include "command.h"
#include "libvhd/base/number.h"

#define MIB	    (1ull << 20)
#define SCRIPT_UNIT (2 * MIB) /* sizes given in MiB are rounded up to this */

/* As arguments_units(), whole script units if given by the letter. */
static int one_size(const struct arguments *args, const char *name, uint64_t *out)
{
	int rc = arguments_units(args, name, MIB, out);

	/* what is beyond all sizes is left as it is: rounding up could overflow */
	if (rc > 0 && arguments_by_letter(args, name) && *out <= UINT64_MAX - SCRIPT_UNIT)
		*out = number_round_up(*out, SCRIPT_UNIT);
	return rc;
}

static int sizes(struct arguments *args, struct vhd_create_options *o)
{
	uint64_t block_size = 0;
	int rc = one_size(args, "size", &o->size);

	if (rc == 0)
		return usage_error("a size is needed: --size SIZE, or -s MiB");
	if (rc > 0)
		rc = one_size(args, "max-size", &o->max_size);
	if (rc >= 0)
		rc = arguments_size(args, "block-size", &block_size);
	if (rc < 0)
		return EINVAL;
	if (block_size > UINT32_MAX)
		return usage_error("a block size of %llu bytes is too large",
				   (unsigned long long)block_size);
	o->block_size = (uint32_t)block_size;
	return 0;
}

static int run_create(struct arguments *args)
{
	struct vhd_create_options o = { .type = VHD_TYPE_DYNAMIC };
	struct vhd_error err = { 0 };
	const char *path = arguments_image(args);
	int status, rc;

	if (!path)
		return EINVAL;
	status = sizes(args, &o);
	if (status)
		return status;
	if (arguments_has(args, "fixed")) {
		o.type = VHD_TYPE_FIXED;
		o.reserve = true;
	}
	o.force = arguments_has(args, "force");
	o.dry_run = args->dry_run;
	o.progress = progress_begin("reserving", false);
	rc = vhd_create(path, &o, &err);
	progress_end();
	if (rc < 0)
		return print_error(&err);
	if (args->dry_run)
		printf("would create '%s': %s, %llu bytes\n", path,
		       o.type == VHD_TYPE_FIXED ? "fixed" : "dynamic", (unsigned long long)o.size);
	return 0;
}

static const struct option_spec create_options[] = {
	{ 'n', "name", "FILE", "the image to make" },
	{ 's', "size", "SIZE", "virtual size: -s in MiB, --size in bytes or with K, M, G, T" },
	{ 'S', "max-size", "SIZE", "room in the metadata to grow to this size; units as for size" },
	{ 'r', "fixed", NULL, "a fixed image, with all its space reserved" },
	{ 0, "block-size", "SIZE", "4K to 64M, a power of two (default 2M)" },
	{ 0, "force", NULL, "replace an existing file" },
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_create = {
	.name = "create",
	.summary = "make an empty image",
	.operands = "FILE",
	.options = create_options,
	.run = run_create,
};
