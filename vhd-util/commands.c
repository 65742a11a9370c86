/* commands.c - the table of commands */
#include <stddef.h>

#include "command.h"

static const struct command *const commands[] = {
	/* clang-format off */ /* one a line: each is added alone */
	&command_create,
	&command_snapshot,
	&command_info,
	&command_query,
	&command_map,
	&command_read,
	&command_write,
	&command_set,
	&command_modify,
	&command_rebase,
	&command_relink,
	&command_resize,
	&command_revert,
	&command_fill,
	&command_compact,
	&command_optimize,
	&command_coalesce,
	&command_delta,
	&command_export,
	&command_import,
	&command_convert,
	&command_copy,
	&command_check,
	&command_repair,
	&command_salvage,
	&command_scan,
	&command_compare,
	&command_key,
	NULL,
	/* clang-format on */
};

const struct program program = { .name = "vhd-util", .commands = commands };
