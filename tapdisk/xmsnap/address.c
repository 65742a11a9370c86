/* address.c - do a domain's NBD host and a server's address mean the same place? */
#include "address.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "libvhd/base/cleanup.h"

/* All addresses of @text; NULL: it has none.  To be freed by freeaddrinfo. */
static struct addrinfo *look_up(const char *text)
{
	static const struct addrinfo hints = { .ai_family = AF_UNSPEC,
					       .ai_socktype = SOCK_STREAM,
					       .ai_flags = AI_PASSIVE };
	const char *colon = strrchr(text, ':');
	size_t length = colon ? (size_t)(colon - text) : 0;
	struct addrinfo *found = NULL;
	char host[NI_MAXHOST];

	if (!colon || !colon[1])
		return NULL;
	if (length >= 2 && text[0] == '[' && text[length - 1] == ']') {
		text++;
		length -= 2;
	}
	if (length >= sizeof(host))
		return NULL;
	memcpy(host, text, length);
	host[length] = '\0';
	return getaddrinfo(*host ? host : NULL, colon + 1, &hints, &found) ? NULL : found;
}

static bool is_any(const struct sockaddr *a)
{
	if (a->sa_family == AF_INET)
		return ((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr ==
		       htonl(INADDR_ANY);
	return a->sa_family == AF_INET6 &&
	       IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

static in_port_t port_of(const struct sockaddr *a)
{
	return a->sa_family == AF_INET ? ((const struct sockaddr_in *)(const void *)a)->sin_port :
					 ((const struct sockaddr_in6 *)(const void *)a)->sin6_port;
}

/* An address of this machine can be bound, with any port. */
static bool is_local(const struct addrinfo *a)
{
	CLEANUP_FD int fd = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} here;

	if (fd < 0 || a->ai_addrlen > sizeof(here))
		return false;
	memcpy(&here, a->ai_addr, a->ai_addrlen);
	if (a->ai_family == AF_INET)
		here.v4.sin_port = 0;
	else
		here.v6.sin6_port = 0;
	return bind(fd, &here.any, a->ai_addrlen) == 0;
}

static bool means(const struct addrinfo *wanted, const struct addrinfo *served)
{
	if (port_of(wanted->ai_addr) != port_of(served->ai_addr))
		return false;
	if (is_any(served->ai_addr))
		return is_local(wanted);
	return wanted->ai_addrlen == served->ai_addrlen &&
	       !memcmp(wanted->ai_addr, served->ai_addr, wanted->ai_addrlen);
}

bool address_same(const char *wanted, const char *served)
{
	struct addrinfo *a, *b;
	bool same = false;

	if (!strcmp(wanted, served))
		return true;
	a = look_up(wanted);
	b = a ? look_up(served) : NULL;
	for (const struct addrinfo *x = a; x && !same; x = x->ai_next)
		for (const struct addrinfo *y = b; y && !same; y = y->ai_next)
			same = means(x, y);
	if (a)
		freeaddrinfo(a);
	if (b)
		freeaddrinfo(b);
	return same;
}
