/* cmd-spawn.c - tap-ctl spawn: start a tapdisk without disks
 *
 * The program: TAPDISK of the environment, else the one beside tap-ctl, else that of
 * PATH.  It goes into the background by itself once its control socket
 * listens, and prints its pid.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/base/number.h"
#include "libvhd/error.h"

static void find_program(char *out)
{
	const char *given = getenv("TAPDISK");
	ssize_t length;
	char *slash;

	if (given && *given) {
		snprintf(out, PATH_MAX, "%s", given);
		return;
	}
	length = readlink("/proc/self/exe", out, PATH_MAX - sizeof("/tapdisk"));
	if (length > 0) {
		out[length] = 0;
		slash = strrchr(out, '/');
		strcpy(slash ? slash + 1 : out, "tapdisk");
		if (!access(out, X_OK))
			return;
	}
	strcpy(out, "tapdisk");
}

/* In the child: only async-signal-safe calls. */
static _Noreturn void become(const char *path, const char *dir, int out)
{
	if (dup2(out, STDOUT_FILENO) < 0)
		_exit(EMFILE);
	signal(SIGPIPE, SIG_DFL);
	execlp(path, "tapdisk", "--empty", "--daemon", "--log", "syslog", "--run-dir", dir,
	       (char *)NULL);
	_exit(errno == ENOENT ? 127 : errno & 0xff);
}

static int no_program(const char *path, int why)
{
	struct vhd_error err;

	error_set(&err, -why, "cannot start '%s': %s; TAPDISK may name the program", path,
		  strerror(why));
	return print_error(&err);
}

static int read_pid(int fd, int *pid)
{
	char text[32];
	size_t used = 0;
	uint64_t number;
	ssize_t got;

	while (used < sizeof(text) - 1) {
		got = read(fd, text + used, sizeof(text) - 1 - used);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		used += (size_t)got;
	}
	text[used] = 0;
	text[strcspn(text, "\n")] = 0;
	if (!number_parse(text, &number) || !number || number > INT_MAX)
		return -EPROTO;
	*pid = (int)number;
	return 0;
}

int ctl_spawn(const char *dir, int *pid)
{
	CLEANUP_FREE char *absolute = target_path(dir);
	char path[PATH_MAX];
	int ends[2], status, rc;
	pid_t child;

	if (!absolute)
		return ENOMEM;
	find_program(path);
	if (pipe2(ends, O_CLOEXEC))
		return no_program(path, errno);
	child = fork();
	if (!child)
		become(path, absolute, ends[1]);
	close(ends[1]);
	rc = child < 0 ? -errno : read_pid(ends[0], pid);
	close(ends[0]);
	if (child < 0)
		return no_program(path, -rc);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return no_program(path, ENOENT);
	if (!WIFEXITED(status) || WEXITSTATUS(status)) /* it said why */
		return WIFEXITED(status) ? WEXITSTATUS(status) : ECHILD;
	return rc < 0 ? no_program(path, -rc) : 0;
}

static int run_spawn(struct arguments *args)
{
	struct target target;
	int pid, status = target_open(args, 0, &target);

	if (!status)
		status = ctl_spawn(target.dir, &pid);
	if (!status)
		printf("%d\n", pid);
	return status;
}

static const struct option_spec spawn_options[] = { OPTION_RUN_DIR, { 0 } };

const struct command command_spawn = {
	.name = "spawn",
	.summary = "start a tapdisk, print its pid",
	.operands = "",
	.options = spawn_options,
	.run = run_spawn,
};
