/* nbd-address.c - where a server listens
 *
 * A Unix socket is bound under a temporary mode of 0600 by umask-free means: fchmod before
 * listen, so nobody else ever connects.  A file in its place that is a socket nobody listens on
 * is replaced.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "libvhd/base/cleanup.h"
#include "libvhd/error.h"
#include "nbd-private.h"

#define BACKLOG 64

static int new_socket(int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

/* Is a socket at @path that nobody answers on? */
static int remove_dead(const struct sockaddr_un *address, struct vhd_error *err)
{
	CLEANUP_FD int fd = -1;
	struct stat st;

	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 :
					 error_system(err, -errno, "listen at", address->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return error_set(err, -EADDRINUSE,
				 "cannot listen at '%s': something is there that is no socket; "
				 "remove it, or choose another name",
				 address->sun_path);
	fd = new_socket(AF_UNIX);
	if (fd < 0)
		return error_system(err, fd, "listen at", address->sun_path);
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
		return error_set(err, -EADDRINUSE,
				 "cannot listen at '%s': a server is listening there already",
				 address->sun_path);
	if (errno != ECONNREFUSED)
		return error_system(err, -errno, "listen at", address->sun_path);
	return unlink(address->sun_path) < 0 ?
		       error_system(err, -errno, "replace", address->sun_path) :
		       0;
}

static int listen_unix(const char *path, int *out, char **unix_path, char **bound,
		       struct vhd_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	CLEANUP_FD int fd = -1;
	int rc;

	if (!*path || strlen(path) >= sizeof(address.sun_path))
		return error_set(err, *path ? -ENAMETOOLONG : -VHD_E_ARGUMENT,
				 "cannot listen at '%s': the path of a socket has 1 to %zu bytes",
				 path, sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	rc = remove_dead(&address, err);
	if (rc < 0)
		return rc;
	fd = new_socket(AF_UNIX);
	if (fd < 0)
		return error_system(err, fd, "listen at", path);
	/* the mode of the file comes from that of the unbound socket */
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return error_system(err, -errno, "listen at", path);
	if (chmod(path, 0600) < 0 || listen(fd, BACKLOG) < 0) {
		rc = -errno;
		unlink(path);
		return error_system(err, rc, "listen at", path);
	}
	*unix_path = strdup(path);
	if (!*unix_path || asprintf(bound, "unix:%s", path) < 0) {
		unlink(path);
		return error_system(err, -ENOMEM, "listen at", path);
	}
	*out = steal_fd(&fd);
	return 0;
}

struct nbd_file_id nbd_address_file(const char *path)
{
	struct nbd_file_id id = { 0, 0 };
	struct stat st;

	if (lstat(path, &st) == 0)
		id = (struct nbd_file_id){ st.st_dev, st.st_ino };
	return id;
}

/* HOST:PORT, [V6]:PORT, :PORT into two pieces of @text. */
static int split(char *text, char **host, char **port)
{
	char *colon = strrchr(text, ':');

	if (!colon || !colon[1])
		return -EINVAL;
	*colon = '\0';
	*port = colon + 1;
	*host = text;
	if (text[0] == '[') {
		char *end = strchr(text, ']');

		if (!end || end[1])
			return -EINVAL;
		*end = '\0';
		*host = text + 1;
	}
	return 0;
}

static int listen_one(const struct addrinfo *a)
{
	CLEANUP_FD int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, off = 0;

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (a->ai_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return steal_fd(&fd);
}

void nbd_address_text(const struct sockaddr *address, socklen_t length, char *out, size_t room)
{
	char host[NI_MAXHOST], port[NI_MAXSERV];

	if (address->sa_family == AF_UNIX) {
		const struct sockaddr_un *un = (const struct sockaddr_un *)address;

		snprintf(out, room, "unix:%s", un->sun_path);
	} else if (getnameinfo(address, length, host, sizeof(host), port, sizeof(port),
			       NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
		snprintf(out, room, strchr(host, ':') ? "tcp:[%s]:%s" : "tcp:%s:%s", host, port);
	} else {
		snprintf(out, room, "unknown");
	}
}

char *nbd_address_of(int fd)
{
	struct sockaddr_storage address = { .ss_family = AF_UNSPEC };
	socklen_t length = sizeof(address);
	char text[256];

	if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
		return NULL;
	nbd_address_text((struct sockaddr *)&address, length, text, sizeof(text));
	return strdup(text);
}

static int listen_tcp(const char *where, int *out, char **bound, struct vhd_error *err)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
	CLEANUP_FREE char *text = strdup(where);
	struct addrinfo *list = NULL;
	char *host, *port;
	int rc;

	if (!text)
		return error_system(err, -ENOMEM, "listen at", where);
	if (split(text, &host, &port) < 0)
		return error_set(err, -VHD_E_ARGUMENT,
				 "cannot listen at 'tcp:%s': give HOST:PORT, or [V6]:PORT", where);
	rc = getaddrinfo(*host ? host : NULL, port, &hints, &list);
	if (rc)
		return error_set(err, -VHD_E_ARGUMENT, "cannot listen at 'tcp:%s': %s", where,
				 gai_strerror(rc));
	rc = -EADDRNOTAVAIL;
	/* without a host: at every address, and one socket for both families is of IPv6 */
	for (const struct addrinfo *a = list; a && rc < 0 && !*host; a = a->ai_next)
		rc = a->ai_family == AF_INET6 ? listen_one(a) : rc;
	for (const struct addrinfo *a = list; a && rc < 0; a = a->ai_next)
		rc = listen_one(a);
	freeaddrinfo(list);
	if (rc < 0)
		return error_system(err, rc, "listen at", where);
	*out = rc;
	*bound = nbd_address_of(rc);
	if (!*bound) {
		close(rc);
		return error_system(err, -ENOMEM, "listen at", where);
	}
	return 0;
}

int nbd_address_listen(const char *address, int *fd, char **unix_path, char **bound,
		       struct vhd_error *err)
{
	*unix_path = NULL;
	if (!strncmp(address, "unix:", 5))
		return listen_unix(address + 5, fd, unix_path, bound, err);
	if (!strncmp(address, "tcp:", 4))
		return listen_tcp(address + 4, fd, bound, err);
	return error_set(err, -VHD_E_ARGUMENT,
			 "cannot listen at '%s': give unix:PATH or tcp:HOST:PORT", address);
}
