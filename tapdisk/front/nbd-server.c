/* nbd-server.c - the listening socket, the exports, and the end of all
 *
 * Exports come and go; a client holds the one it opened, which is freed when it is
 * removed and the last client is gone.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libvhd/error.h"
#include "nbd-private.h"

#define ACCEPTS_A_TURN 16

/* ── exports ── */

static void export_free(struct nbd_export *e)
{
	if (e->vbd)
		vbd_unwatch(e->vbd, &e->watcher);
	list_remove(&e->link);
	free(e->name);
	free(e->description);
	free(e);
}

static void drop_clients(struct nbd_export *e)
{
	struct nbd_server *server = e->server;

	for (struct list *l = server->clients.next, *next; l != &server->clients; l = next) {
		struct nbd_client *c = list_entry(l, struct nbd_client, link);

		next = l->next;
		if (c->export == e && c->state == NBD_SERVING)
			nbd_client_close(c);
		if (c->meta_export == e)
			c->meta_export = NULL;
	}
}

static void vbd_closing(struct vbd_watcher *w)
{
	drop_clients(list_entry(w, struct nbd_export, watcher));
}

bool nbd_export_ready(const struct nbd_export *e)
{
	return !e->removed && vbd_size(e->vbd) > 0;
}

struct nbd_export *nbd_export_find(struct nbd_server *server, const char *name, size_t length)
{
	for (struct list *l = server->exports.next; l != &server->exports; l = l->next) {
		struct nbd_export *e = list_entry(l, struct nbd_export, link);

		if (e->removed)
			continue;
		if (!length || (strlen(e->name) == length && !memcmp(e->name, name, length)))
			return nbd_export_ready(e) ? e : NULL;
	}
	return NULL;
}

int nbd_export_add(struct nbd_server *server, struct vbd *vbd,
		   const struct nbd_export_params *params)
{
	struct nbd_export *e;

	for (struct list *l = server->exports.next; l != &server->exports; l = l->next) {
		e = list_entry(l, struct nbd_export, link);
		if (!e->removed && !strcmp(e->name, params->name))
			return -EEXIST;
	}
	if (strlen(params->name) > NBD_STRING_MAX ||
	    (params->description && strlen(params->description) > NBD_STRING_MAX))
		return -ENAMETOOLONG;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	list_init(&e->link);
	e->server = server;
	e->read_only = params->read_only;
	e->name = strdup(params->name);
	e->description = params->description ? strdup(params->description) : NULL;
	if (!e->name || (params->description && !e->description)) {
		export_free(e);
		return -ENOMEM;
	}
	e->vbd = vbd;
	e->watcher = (struct vbd_watcher){ .closing = vbd_closing };
	vbd_watch(vbd, &e->watcher);
	list_append(&server->exports, &e->link);
	return 0;
}

int nbd_export_remove(struct nbd_server *server, const char *name)
{
	for (struct list *l = server->exports.next; l != &server->exports; l = l->next) {
		struct nbd_export *e = list_entry(l, struct nbd_export, link);

		if (e->removed || strcmp(e->name, name) != 0)
			continue;
		e->removed = true;
		e->clients++; /* stays while clients are dropped */
		drop_clients(e);
		vbd_unwatch(e->vbd, &e->watcher);
		e->vbd = NULL;
		if (!--e->clients)
			export_free(e);
		return 0;
	}
	return -ENOENT;
}

void nbd_export_leave(struct nbd_export *e)
{
	if (!--e->clients && e->removed)
		export_free(e);
}

/* ── accepting ── */

static void acceptable(void *owner, unsigned events)
{
	struct nbd_server *server = owner;

	(void)events;
	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			return; /* what is wrong with one client is not the server's trouble */
		if (server->stopping || server->client_count >= server->max_clients ||
		    server->negotiating >= NBD_NEGOTIATING || nbd_client_new(server, fd) < 0)
			close(fd);
	}
}

static int take_socket(struct nbd_server *server, const struct nbd_params *params,
		       struct vhd_error *err)
{
	int on = 0;
	socklen_t length = sizeof(on);

	if (params->address)
		return nbd_address_listen(params->address, &server->fd, &server->unix_path,
					  &server->address, err);
	if (getsockopt(params->fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &length) < 0 || !on)
		return error_set(err, -EINVAL, "descriptor %d is no listening socket", params->fd);
	server->address = nbd_address_of(params->fd);
	return server->address ? 0 : error_set(err, -ENOMEM, "out of memory");
}

int nbd_server_open(struct loop *loop, const struct nbd_params *params, struct nbd_server **out,
		    struct vhd_error *err)
{
	struct nbd_server *server = calloc(1, sizeof(*server));
	int rc;

	if (!server)
		return error_set(err, -ENOMEM, "out of memory");
	server->loop = loop;
	server->fd = -1;
	list_init(&server->exports);
	list_init(&server->clients);
	server->max_clients = params->max_clients ? params->max_clients : NBD_CLIENTS;
	server->tls_mode = params->tls;
	rc = take_socket(server, params, err);
	if (!rc && params->tls != NBD_TLS_OFF)
		rc = nbd_tls_server_open(params, &server->tls, err);
	if (!rc && !params->address)
		server->fd = params->fd;
	if (!rc) {
		rc = loop_fd_open(loop, server->fd, acceptable, server, &server->listener);
		if (rc < 0)
			error_set(err, rc, "cannot listen at '%s': out of memory", server->address);
	}
	if (rc < 0) {
		if (!params->address)
			server->fd = -1;
		nbd_server_free(server);
		return rc;
	}
	loop_fd_watch(server->listener, LOOP_READ);
	*out = server;
	return 0;
}

const char *nbd_server_address(const struct nbd_server *server)
{
	return server->address;
}

/* ── the end ── */

static void stop_listening(struct nbd_server *server)
{
	loop_fd_close(server->listener);
	server->listener = NULL;
	if (server->fd >= 0)
		close(server->fd);
	server->fd = -1;
	if (server->unix_path)
		unlink(server->unix_path);
	free(server->unix_path);
	server->unix_path = NULL;
}

static void tell_stopped(struct loop_task *task)
{
	struct nbd_server *server = list_entry(task, struct nbd_server, stop_task);
	void (*stopped)(void *arg) = server->stopped;

	server->stopped = NULL;
	loop_timer_close(server->stop_timer);
	server->stop_timer = NULL;
	if (stopped)
		stopped(server->stopped_arg);
}

void nbd_server_client_gone(struct nbd_server *server)
{
	if (server->stopping && list_empty(&server->clients))
		loop_defer(server->loop, &server->stop_task);
}

static void out_of_patience(void *owner)
{
	struct nbd_server *server = owner;

	for (struct list *l = server->clients.next, *next; l != &server->clients; l = next) {
		next = l->next;
		nbd_client_close(list_entry(l, struct nbd_client, link));
	}
	loop_defer(server->loop, &server->stop_task);
}

void nbd_server_stop(struct nbd_server *server, uint64_t timeout_ns, void (*done)(void *arg),
		     void *arg)
{
	server->stopping = true;
	server->stopped = done;
	server->stopped_arg = arg;
	server->stop_task.run = tell_stopped;
	stop_listening(server);
	for (struct list *l = server->clients.next, *next; l != &server->clients; l = next) {
		struct nbd_client *c = list_entry(l, struct nbd_client, link);

		next = l->next;
		if (c->state != NBD_SERVING || (!c->in_flight && list_empty(&c->replies)))
			nbd_client_close(c);
		else
			c->finishing = true;
	}
	if (list_empty(&server->clients))
		loop_defer(server->loop, &server->stop_task);
	else if (loop_timer_open(server->loop, out_of_patience, server, &server->stop_timer) == 0)
		loop_timer_set(server->stop_timer, timeout_ns);
	else
		out_of_patience(server);
}

void nbd_server_free(struct nbd_server *server)
{
	if (!server)
		return;
	stop_listening(server);
	loop_timer_close(server->stop_timer);
	loop_undefer(server->loop, &server->stop_task);
	server->stopping = false;
	for (struct list *l = server->clients.next, *next; l != &server->clients; l = next) {
		next = l->next;
		nbd_client_close(list_entry(l, struct nbd_client, link));
	}
	/* the disks were closed before: nothing is in flight that could keep a client */
	assert(list_empty(&server->clients));
	while (!list_empty(&server->exports))
		export_free(list_entry(server->exports.next, struct nbd_export, link));
	nbd_tls_server_close(server->tls);
	free(server->address);
	free(server);
}

unsigned nbd_server_clients(const struct nbd_server *server, struct nbd_client_info *out,
			    unsigned max)
{
	unsigned n = 0;

	for (struct list *l = server->clients.next; l != &server->clients; l = l->next) {
		const struct nbd_client *c = list_entry(l, struct nbd_client, link);

		if (n < max)
			out[n] = (struct nbd_client_info){ .peer = c->peer,
							   .export = c->export ? c->export->name :
										 "",
							   .in_flight = c->in_flight,
							   .bytes_in = c->bytes_in,
							   .bytes_out = c->bytes_out,
							   .requests = c->requests,
							   .tls = c->tls_on };
		n++;
	}
	return n;
}
