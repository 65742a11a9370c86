/* daemon.c - background, pid file, service manager
 *
 * The parent of a daemon stays until the child says that everything is open, so that whoever
 * started it sees errors and their status, and can use the disk when the command returns.
 */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libvhd/base/cleanup.h"
#include "libvhd/base/number.h"
#include "libvhd/error.h"

#define FIRST_SOCKET 3
#define SOCKETS_MAX  64u

static int ready_fd = -1; /* of the child; one daemon a process */
static char *socket_names;

static _Noreturn void parent(pid_t child, int fd)
{
	char byte;
	ssize_t n;
	int status;

	do
		n = read(fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1) {
		printf("%d\n", (int)child);
		exit(fflush(stdout) ? EIO : 0);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	/* it has said why */
	exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : ECHILD);
}

int daemon_begin(struct vhd_error *err)
{
	int ends[2];
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(err, -errno, "cannot go into the background: %s", strerror(errno));
	child = fork();
	if (child < 0) {
		error_set(err, -errno, "cannot go into the background: %s", strerror(errno));
		close(ends[0]);
		close(ends[1]);
		return err->code;
	}
	if (child > 0) {
		close(ends[1]);
		parent(child, ends[0]);
	}
	close(ends[0]);
	ready_fd = ends[1];
	(void)setsid();
	return 0;
}

void daemon_ready(bool keep_stderr)
{
	int null;

	if (ready_fd < 0)
		return;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		if (!keep_stderr)
			dup2(null, STDERR_FILENO);
		close(null);
	}
	(void)!write(ready_fd, "", 1);
	close(ready_fd);
	ready_fd = -1;
}

int daemon_write_pid(const char *file, struct vhd_error *err)
{
	CLEANUP_FD int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	char text[32];
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (fd < 0 || write(fd, text, (size_t)n) != n)
		return error_system(err, -errno, "write", file);
	return 0;
}

void daemon_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	CLEANUP_FD int fd = -1;
	size_t length = path ? strlen(path) : 0;

	if (!length || length >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(address.sun_path, path, length);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		(void)sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
			     (struct sockaddr *)&address,
			     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
}

unsigned daemon_sockets(void)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	const char *names = getenv("LISTEN_FDNAMES");
	uint64_t who = 0, count = 0;

	if (!pid || !fds || !number_parse(pid, &who) || !number_parse(fds, &count) ||
	    who != (uint64_t)getpid())
		return 0;
	socket_names = names ? strdup(names) : NULL;
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	count = number_min(count, SOCKETS_MAX);
	for (unsigned i = 0; i < count; i++) {
		int flags = fcntl(FIRST_SOCKET + (int)i, F_GETFL);

		(void)fcntl(FIRST_SOCKET + (int)i, F_SETFD, FD_CLOEXEC);
		if (flags >= 0)
			(void)fcntl(FIRST_SOCKET + (int)i, F_SETFL, flags | O_NONBLOCK);
	}
	return (unsigned)count;
}

bool daemon_socket_is_control(unsigned index)
{
	const char *name = socket_names;

	while (name && index--) {
		name = strchr(name, ':');
		name = name ? name + 1 : NULL;
	}
	return name && !strncmp(name, "control", 7) && (name[7] == ':' || !name[7]);
}
