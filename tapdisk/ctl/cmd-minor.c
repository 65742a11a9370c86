/* cmd-minor.c - tap-ctl allocate, free, major */
#include <errno.h>
#include <stdio.h>

#include "ctl.h"
#include "libvhd/error.h"

static int run_allocate(struct arguments *args)
{
	char path[PATH_MAX];
	struct target target;
	struct vhd_error err;
	unsigned minor;
	int status = target_open(args, 0, &target);

	if (status)
		return status;
	if (rundir_make(target.dir, &err) < 0 || rundir_allocate(target.dir, &minor, &err) < 0)
		return print_error(&err);
	rundir_marker_path(target.dir, minor, path);
	printf("%s\n", path);
	return 0;
}

static const struct option_spec allocate_options[] = { OPTION_RUN_DIR, { 0 } };

const struct command command_allocate = {
	.name = "allocate",
	.summary = "take the lowest free minor, print its device path",
	.operands = "",
	.options = allocate_options,
	.run = run_allocate,
};

static int run_free(struct arguments *args)
{
	struct target target;
	struct vhd_error err;
	int status = target_open(args, TARGET_MINOR, &target);

	if (status)
		return status;
	return rundir_free(target.dir, target.minor, &err) < 0 ? print_error(&err) : 0;
}

static const struct option_spec free_options[] = { OPTION_MINOR, OPTION_RUN_DIR, { 0 } };

const struct command command_free = {
	.name = "free",
	.summary = "give a minor back",
	.operands = "",
	.options = free_options,
	.run = run_free,
};

static int run_major(struct arguments *args)
{
	struct vhd_error err;

	(void)args;
	error_set(&err, -EOPNOTSUPP,
		  "disks are exported by NBD, not as devices of a driver: there is no major");
	return print_error(&err);
}

static const struct option_spec major_options[] = { { 0 } };

const struct command command_major = {
	.name = "major",
	.summary = "the major number of the devices",
	.operands = "",
	.options = major_options,
	.run = run_major,
};
