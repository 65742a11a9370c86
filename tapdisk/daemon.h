/* daemon.h - how a server lives with what started it: background, pid file, service manager */
#ifndef TAPDISK_DAEMON_H
#define TAPDISK_DAEMON_H

#include "libvhd/vhd.h"

/* Fork.  The child returns 0 and goes on; the parent waits for daemon_ready or the child's
 * end, prints the pid, and leaves with the status itself: it does not return. */
int daemon_begin(struct vhd_error *err);
/* Everything is open: let the parent go, leave the terminal (@keep_stderr: but for messages). */
void daemon_ready(bool keep_stderr);

int daemon_write_pid(const char *file, struct vhd_error *err);

/* Tell the service manager (NOTIFY_SOCKET), if there is one: "READY=1" and so on. */
void daemon_notify(const char *state);

/* Listening sockets handed over by the environment (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES): their
 * number; the first is descriptor 3.  The environment is cleared. */
unsigned daemon_sockets(void);
/* Is descriptor @index (from 0) named "control"?  After daemon_sockets. */
bool daemon_socket_is_control(unsigned index);

#endif
