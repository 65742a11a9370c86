/* command.h - the commands of vhd-util; what a command is: cli/command.h */
#ifndef VHD_UTIL_COMMAND_H
#define VHD_UTIL_COMMAND_H

#include "cli/command.h"

/* Each in its cmd-<name>.c. */
extern const struct command command_check;
extern const struct command command_coalesce;
extern const struct command command_compare;
extern const struct command command_compact;
extern const struct command command_convert;
extern const struct command command_copy;
extern const struct command command_create;
extern const struct command command_delta;
extern const struct command command_export;
extern const struct command command_import;
extern const struct command command_fill;
extern const struct command command_info;
extern const struct command command_key;
extern const struct command command_map;
extern const struct command command_modify;
extern const struct command command_optimize;
extern const struct command command_query;
extern const struct command command_read;
extern const struct command command_rebase;
extern const struct command command_relink;
extern const struct command command_repair;
extern const struct command command_resize;
extern const struct command command_revert;
extern const struct command command_salvage;
extern const struct command command_scan;
extern const struct command command_set;
extern const struct command command_snapshot;
extern const struct command command_write;

#endif
