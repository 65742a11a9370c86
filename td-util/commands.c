/* commands.c - td-util: what vhd-util does, with the type of the image as first operand
 *
 *   td-util create   TYPE MiB PATH          -> vhd-util create -n PATH -s MiB
 *   td-util snapshot TYPE CHILD PARENT      -> vhd-util snapshot -n CHILD -p PARENT
 *   td-util query    TYPE [OPTIONS] PATH    -> vhd-util query -n PATH [OPTIONS]
 *   td-util set      TYPE FIELD VALUE PATH  -> vhd-util set -n PATH -f FIELD -v VALUE
 *
 * The operands become options of the command of vhd-util, which does the rest; images of type
 * aio, raw disks, are the business of aio.c.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "libvhd/error.h"
#include "td-util.h"
#include "vhd-util/command.h"

#define CREATE_OPERANDS	  "TYPE MiB FILE"
#define SNAPSHOT_OPERANDS "TYPE FILE PARENT"
#define SET_OPERANDS	  "TYPE FIELD VALUE FILE"

/* The first operand: 'v' vhd, 'a' aio; 0 after the usage error. */
static char take_type(struct arguments *args)
{
	const char *type = args->rest[0];

	args->rest++;
	args->count--;
	if (!strcmp(type, "vhd"))
		return 'v';
	if (!strcmp(type, "aio"))
		return 'a';
	usage_error("'%s' is no type: vhd or aio", type);
	return 0;
}

/* The first operand as if it had been given for the option @name, unless that was given itself. */
static void take_option(struct arguments *args, const char *name)
{
	if (arguments_has(args, name) || !args->count)
		return;
	for (int row = 0; args->specs[row].name; row++) {
		if (strcmp(args->specs[row].name, name) != 0)
			continue;
		args->values[row] = args->rest[0];
		args->by_letter[row] = true;
	}
	args->rest++;
	args->count--;
}

/* What is left must be the image alone.  0, or after the usage error 22. */
static int left_one(const struct arguments *args, const char *operands)
{
	if (args->count == 1)
		return 0;
	return usage_error(args->count ? "too much: it takes %s" : "something is missing: %s",
			   operands);
}

static int not_for_raw(const char *what)
{
	struct vhd_error err;

	error_set(&err, -EOPNOTSUPP,
		  "cannot %s an image of type aio: a raw disk has no metadata; "
		  "convert it with vhd-util",
		  what);
	return print_error(&err);
}

/* ── create ── */

static int run_create(struct arguments *args)
{
	char type = take_type(args);

	if (!type)
		return EINVAL;
	take_option(args, "size");
	if (left_one(args, CREATE_OPERANDS))
		return EINVAL;
	return type == 'v' ? command_create.run(args) : aio_create(args);
}

static const struct option_spec create_options[] = {
	{ 'r', "fixed", NULL, "a fixed image, with all its space reserved" },
	{ 's', "size", "MiB", "the size, instead of the operand" },
	{ 0, "force", NULL, "replace an existing file" },
	OPTION_DRY_RUN,
	{ 0 },
};

static const struct command td_create = {
	.name = "create",
	.summary = "make an empty image",
	.operands = CREATE_OPERANDS,
	.min_rest = 2,
	.max_rest = 3,
	.options = create_options,
	.run = run_create,
};

/* ── snapshot ── */

static int run_snapshot(struct arguments *args)
{
	char type = take_type(args), *child = args->rest[0];
	struct vhd_error err;
	const char *parent;

	if (!type)
		return EINVAL;
	if (type != 'v')
		return not_for_raw("snapshot");
	if (!arguments_has(args, "parent") && args->count > 1) {
		/* the child comes first, and is what stays */
		args->rest[0] = args->rest[1];
		args->rest[1] = child;
		take_option(args, "parent");
	}
	parent = arguments_get(args, "parent");
	if (!parent)
		return usage_error("something is missing: " SNAPSHOT_OPERANDS);
	if (left_one(args, SNAPSHOT_OPERANDS))
		return EINVAL;
	if (access(parent, F_OK) < 0) {
		error_system(&err, -errno, "find the parent", parent);
		return print_error(&err);
	}
	return command_snapshot.run(args);
}

static const struct option_spec snapshot_options[] = {
	{ 'p', "parent", "PARENT", "the parent, instead of the operand" },
	{ 'm', "raw-parent", NULL, "the parent is a raw disk" },
	{ 0, "empty", NULL, "link to the given parent even if it has no data" },
	{ 0, "force", NULL, "replace an existing file" },
	OPTION_PARENT_ROOT,
	OPTION_DRY_RUN,
	{ 0 },
};

static const struct command td_snapshot = {
	.name = "snapshot",
	.summary = "make a differencing child of an image",
	.operands = SNAPSHOT_OPERANDS,
	.min_rest = 2,
	.max_rest = 3,
	.options = snapshot_options,
	.run = run_snapshot,
};

/* ── query ── */

static int run_query(struct arguments *args)
{
	char type = take_type(args);

	if (!type)
		return EINVAL;
	return type == 'v' ? command_query.run(args) : aio_query(args);
}

static const struct option_spec query_options[] = {
	{ 'v', "virtual-size", NULL, "size of the disk in MiB" },
	{ 's', "used-size", NULL, "bytes used by the image" },
	{ 'p', "parent", NULL, "absolute path of the parent" },
	{ 'u', "unresolved", NULL, "with -p: the parent's path as stored" },
	{ 'f', "hidden", NULL, "the hidden byte" },
	{ 'm', "marker", NULL, "the marker byte of the batmap" },
	{ 'd', "depth", NULL, "number of images in the chain" },
	{ 'a', "allocated", NULL, "number of allocated blocks" },
	{ 'S', "max-size", NULL, "largest size in MiB that a fast resize reaches" },
	{ 'b', "backup-footer", NULL, "use the copy of the footer at the start" },
	OPTION_PARENT_ROOT,
	OPTION_JSON,
	{ 0 },
};

static const struct command td_query = {
	.name = "query",
	.summary = "answer questions about an image, one value a line",
	.operands = "TYPE FILE",
	.min_rest = 2,
	.max_rest = 2,
	.options = query_options,
	.run = run_query,
};

/* ── set ── */

static bool is_field(const char *text)
{
	return !strcmp(text, "hidden") || !strcmp(text, "marker");
}

static int run_set(struct arguments *args)
{
	char type = take_type(args), *path;

	if (!type)
		return EINVAL;
	if (type != 'v')
		return not_for_raw("set a field of");
	/* the image may also come first, as very old scripts have it */
	if (args->count == 3 && !is_field(args->rest[0]) && is_field(args->rest[1])) {
		path = args->rest[0];
		args->rest[0] = args->rest[1];
		args->rest[1] = args->rest[2];
		args->rest[2] = path;
	}
	take_option(args, "field");
	take_option(args, "value");
	if (left_one(args, SET_OPERANDS))
		return EINVAL;
	return command_set.run(args);
}

static const struct option_spec set_options[] = {
	{ 'f', "field", "FIELD", "the field, instead of the operand" },
	{ 'v', "value", "N", "its value, instead of the operand" },
	OPTION_DRY_RUN,
	{ 0 },
};

static const struct command td_set = {
	.name = "set",
	.summary = "set the hidden or the marker byte",
	.operands = SET_OPERANDS,
	.min_rest = 2,
	.max_rest = 4,
	.options = set_options,
	.run = run_set,
};

static const struct command *const commands[] = {
	&td_create, &td_snapshot, &td_query, &td_set, NULL,
};

const struct program program = { .name = "td-util", .commands = commands };
