/* dump.c - where a domain's XML comes from: a file, or virsh, run without a shell */
#include "dump.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "domain.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/error.h"

#define NO_PROGRAM 127 /* a shell's word for it; virsh ends with 0 or 1 */

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Everything up to the end of @fd, until @until_ms (-1: no limit). */
static int read_all(int fd, const char *what, int64_t until_ms, char **out, size_t *length,
		    struct vhd_error *err)
{
	CLEANUP_FREE char *text = malloc(DOMAIN_XML_MAX + 1);
	size_t used = 0;
	ssize_t n;

	if (!text)
		return error_set(err, -ENOMEM, "out of memory");
	do {
		struct pollfd ready = { .fd = fd, .events = POLLIN };
		int64_t left = until_ms < 0 ? -1 : until_ms - now_ms();
		int rc = poll(&ready, 1, until_ms < 0 ? -1 : left > 0 ? (int)left : 0);

		if (!rc)
			return error_set(err, -ETIMEDOUT, "%s: no answer in time", what);
		n = rc < 0 ? -1 : read(fd, text + used, DOMAIN_XML_MAX + 1 - used);
		if (n < 0)
			return errno == EINTR ? error_set(err, -VHD_E_CANCELLED, "interrupted") :
						error_system(err, -errno, "read", what);
		used += (size_t)n;
	} while (n && used <= DOMAIN_XML_MAX);
	if (used > DOMAIN_XML_MAX)
		return error_set(err, -VHD_E_ARGUMENT, "%s: the domain XML is larger than %u bytes",
				 what, DOMAIN_XML_MAX);
	*out = steal_ptr(&text);
	*length = used;
	return 0;
}

int dump_file(const char *file, char **out, size_t *length, struct vhd_error *err)
{
	CLEANUP_FD int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_system(err, -errno, "read", file);
	return read_all(fd, file, -1, out, length, err);
}

/* In the child. */
static void become_virsh(const char *vm, int output)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	signal(SIGPIPE, SIG_DFL);
	if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0)
		execlp("virsh", "virsh", "dumpxml", "--", vm, (char *)NULL);
	_exit(NO_PROGRAM);
}

static int outcome(const char *vm, int status, struct vhd_error *err)
{
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_PROGRAM)
		return error_set(err, -ENOENT,
				 "cannot ask for the disks of '%s': there is no virsh; give "
				 "--domain-xml FILE",
				 vm);
	return error_set(err, -ENOENT, "cannot ask for the disks of '%s': virsh failed (%s %d)", vm,
			 WIFEXITED(status) ? "status" : "signal",
			 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

int dump_virsh(const char *vm, unsigned wait_ms, char **out, size_t *length, struct vhd_error *err)
{
	CLEANUP_FREE char *text = NULL;
	int ends[2], status = 0, rc;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(err, -errno, "cannot run virsh: %s", strerror(errno));
	pid = fork();
	if (!pid)
		become_virsh(vm, ends[1]);
	close(ends[1]);
	rc = pid < 0 ? error_set(err, -errno, "cannot run virsh: %s", strerror(errno)) :
		       read_all(ends[0], "virsh dumpxml", now_ms() + wait_ms, &text, length, err);
	close(ends[0]);
	if (pid > 0 && rc < 0)
		kill(pid, SIGKILL);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!rc)
		rc = outcome(vm, status, err);
	if (!rc)
		*out = steal_ptr(&text);
	return rc;
}
