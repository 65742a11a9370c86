/* commands.c - the table of commands */
#include <stddef.h>

#include "ctl.h"

static const struct command *const commands[] = {
	&command_list,	 &command_allocate, &command_free,     &command_spawn,
	&command_attach, &command_detach,   &command_open,     &command_close,
	&command_pause,	 &command_unpause,  &command_create,   &command_destroy,
	&command_stats,	 &command_snapshot, &command_resize,   &command_throttle,
	&command_retry,	 &command_export,   &command_unexport, &command_clients,
	&command_events, &command_top,	    &command_major,    NULL,
};

const struct program program = { .name = "tap-ctl", .commands = commands };
