/* td-util.h - operations on raw disks, type aio; operands as commands.c leaves them */
#ifndef TD_UTIL_H
#define TD_UTIL_H

#include "cli/command.h"

/* Both return an exit status. */
int aio_create(struct arguments *args);
int aio_query(struct arguments *args);

#endif
