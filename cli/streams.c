/* streams.c - descriptors 0, 1 and 2 as a program wants to find them
 *
 * A parent that works with events leaves its ends of pipes non-blocking; the child
 * that inherits one would fail with EAGAIN as soon as it is faster than the other
 * side, and to scripts that status means: try the whole command again.
 */
#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* A descriptor that is closed would be given to the next image opened, and messages would be
 * written into it. */
static void keep(int fd)
{
	if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
		/* the wrong way round, so that using it fails */
		(void)!open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

/* The flag belongs to everybody who shares the descriptor, so it is left alone where the pipe
 * can be opened once more, for us. */
static void open_again(int fd, int flags)
{
	char name[32];
	int fresh;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	/* without waiting for another side that may be gone */
	fresh = open(name, (flags & (O_ACCMODE | O_APPEND)) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fresh < 0)
		return;
	if (!fcntl(fresh, F_SETFL, flags & ~O_NONBLOCK))
		dup2(fresh, fd);
	close(fresh);
}

static void make_blocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	struct stat st;

	if (flags < 0 || !(flags & O_NONBLOCK) || fstat(fd, &st) < 0)
		return;
	if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))
		open_again(fd, flags);
	flags = fcntl(fd, F_GETFL);
	if (flags >= 0 && (flags & O_NONBLOCK)) /* sockets cannot be */
		(void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}

void streams_prepare(void)
{
	for (int fd = 0; fd < 3; fd++) {
		keep(fd);
		make_blocking(fd);
	}
}
