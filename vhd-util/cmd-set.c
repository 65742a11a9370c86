/* cmd-set.c - vhd-util set */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "libvhd/set.h"

static int run_set(struct arguments *args)
{
	const char *path = arguments_image(args), *field;
	struct vhd_error err = { 0 };
	enum vhd_field which;
	uint64_t value = 0;
	int rc;

	if (!path)
		return EINVAL;
	field = arguments_get(args, "field");
	if (!field || (strcmp(field, "hidden") != 0 && strcmp(field, "marker") != 0))
		return usage_error("a field is needed: -f hidden or -f marker");
	rc = arguments_number(args, "value", &value);
	if (rc < 0)
		return EINVAL;
	if (!rc || value > UINT8_MAX)
		return usage_error("a value from 0 to 255 is needed: -v N");
	which = strcmp(field, "hidden") ? VHD_FIELD_MARKER : VHD_FIELD_HIDDEN;
	if (set_field(path, which, (uint8_t)value, args->dry_run, &err) < 0)
		return print_error(&err);
	if (args->dry_run)
		printf("would set %s of '%s' to %u\n", field, path, (unsigned)value);
	return 0;
}

static const struct option_spec set_options[] = {
	OPTION_NAME,
	{ 'f', "field", "FIELD", "hidden or marker" },
	{ 'v', "value", "N", "0 to 255" },
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_set = {
	.name = "set",
	.summary = "set the hidden or the marker byte",
	.operands = "FILE",
	.options = set_options,
	.run = run_set,
};
