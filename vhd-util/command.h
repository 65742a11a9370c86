/* command.h - the commands of vhd-util; what a command is: cli/command.h */
#ifndef VHD_UTIL_COMMAND_H
#define VHD_UTIL_COMMAND_H

#include "cli/command.h"

/* Each in its cmd-<name>.c. */
extern const struct command command_create, command_snapshot, command_query, command_read,
	command_set, command_check, command_coalesce, command_info, command_map, command_convert,
	command_write, command_compare, command_scan;

#endif
