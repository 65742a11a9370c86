/* read-all.c - see read-all.h */
#include "read-all.h"

#include <errno.h>
#include <unistd.h>

ssize_t read_all(int fd, void *buf, size_t room)
{
	size_t have = 0;

	while (have < room) {
		ssize_t n = read(fd, (char *)buf + have, room - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}
