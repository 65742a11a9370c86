/* check_nbd_listen.c - where an NBD server listens: sockets that are there already, bad addresses, both
 * families of TCP, a descriptor handed over */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "nbd-world.h"
#include "tests/lib/suite.h"

static struct world w;

static int listen_at(const char *address, struct nbd_server **out, struct vhd_error *err)
{
	struct nbd_params params = { .address = address, .fd = -1 };

	err->text[0] = '\0';
	return nbd_server_open(w.loop, &params, out, err);
}

START_TEST(unix_socket)
{
	struct nbd_server *server;
	struct vhd_error err;
	char path[80], address[96];
	struct stat st;
	int fd;

	world_open(&w, NULL);
	snprintf(path, sizeof(path), "%s/s", w.dir);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	/* a live one */
	ck_assert_int_eq(listen_at(nbd_server_address(w.server), &server, &err), -EADDRINUSE);
	ck_assert_ptr_nonnull(strstr(err.text, path));
	/* a file that is none */
	snprintf(path, sizeof(path), "%s/f", w.dir);
	snprintf(address, sizeof(address), "unix:%s", path);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_eq(listen_at(address, &server, &err), -EADDRINUSE);
	ck_assert_int_eq(access(path, F_OK), 0);
	close(fd);
	unlink(path);
	/* a dead one */
	struct sockaddr_un dead = { .sun_family = AF_UNIX };
	strcpy(dead.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&dead, sizeof(dead)), 0);
	close(fd);
	ck_assert_int_eq(listen_at(address, &server, &err), 0);
	ck_assert_str_eq(nbd_server_address(server), address);
	/* another one took its place: left alone */
	unlink(path);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	nbd_server_free(server);
	ck_assert_int_eq(access(path, F_OK), 0);
	close(fd);
	unlink(path);
	world_close(&w);
}
END_TEST

START_TEST(bad_addresses)
{
	static const char *const bad[] = { "unix:",
					   "/tmp/x",
					   "tcp:",
					   "tcp:localhost",
					   "tcp:[::1]",
					   "tcp:[::1:80",
					   "tcp:x:",
					   "udp:localhost:1",
					   "tcp:localhost:no-such-port",
					   "unix:/no/such/dir/s" };
	struct nbd_server *server = NULL;
	struct vhd_error err;
	char address[300];

	world_open(&w, NULL);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		ck_assert_int_lt(listen_at(bad[i], &server, &err), 0);
		ck_assert_msg(strlen(err.text) > 10, "%s: %s", bad[i], err.text);
	}
	memset(address, 'x', sizeof(address));
	memcpy(address, "unix:/", 6);
	address[5 + 108] = '\0';
	ck_assert_int_eq(listen_at(address, &server, &err), -ENAMETOOLONG);
	ck_assert_ptr_nonnull(strstr(err.text, "107"));
	world_close(&w);
}
END_TEST

/* Bound at @address, its port taken; a client comes through over @family. */
static void over_tcp(const char *address, int family, const char *bound)
{
	struct nbd_server *server;
	struct vhd_error err;
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
	uint8_t greeting[18];
	const char *text;
	uint16_t port;
	int fd;

	ck_assert_msg(listen_at(address, &server, &err) == 0, "%s: %s", address, err.text);
	text = nbd_server_address(server);
	ck_assert_msg(!strncmp(text, bound, strlen(bound)), "%s", text);
	port = htons((uint16_t)atoi(strrchr(text, ':') + 1));
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	in.sin_port = in6.sin6_port = port;
	fd = socket(family, SOCK_STREAM, 0);
	ck_assert_int_eq(family == AF_INET ? connect(fd, (struct sockaddr *)&in, sizeof(in)) :
					     connect(fd, (struct sockaddr *)&in6, sizeof(in6)),
			 0);
	world_run(&w, 20);
	ck_assert_int_eq(recv(fd, greeting, sizeof(greeting), MSG_DONTWAIT), sizeof(greeting));
	close(fd);
	nbd_server_free(server);
	world_run(&w, 1);
}

START_TEST(tcp)
{
	world_open(&w, NULL);
	over_tcp("tcp:127.0.0.1:0", AF_INET, "tcp:127.0.0.1:");
	over_tcp("tcp:[::1]:0", AF_INET6, "tcp:[::1]:");
	/* everywhere: both families */
	over_tcp("tcp::0", AF_INET, "tcp:[::]:");
	over_tcp("tcp::0", AF_INET6, "tcp:[::]:");
	world_close(&w);
}
END_TEST

/* Handed over by whoever started the server, blocking as it may be. */
START_TEST(descriptor)
{
	struct nbd_params params = { .fd = -1 };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct nbd_server *server = NULL;
	struct vhd_error err;
	uint8_t greeting[18];
	int fd, client;

	world_open(&w, NULL);
	params.fd = open("/dev/null", O_RDONLY);
	ck_assert_int_eq(nbd_server_open(w.loop, &params, &server, &err), -EINVAL);
	ck_assert_int_eq(close(params.fd), 0); /* still ours */
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/h", w.dir);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(fd, 5), 0);
	params.fd = fd;
	ck_assert_int_eq(nbd_server_open(w.loop, &params, &server, &err), 0);
	client = socket(AF_UNIX, SOCK_STREAM, 0);
	ck_assert_int_eq(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
	world_run(&w, 20);
	ck_assert_int_eq(recv(client, greeting, 18, MSG_DONTWAIT), 18);
	close(client);
	nbd_server_free(server);
	/* not its file */
	ck_assert_int_eq(unlink(address.sun_path), 0);
	world_close(&w);
}
END_TEST

int main(void)
{
	const TTest *tests[] = { unix_socket, bad_addresses, tcp, descriptor, NULL };

	return suite_run("nbd listen", tests);
}
