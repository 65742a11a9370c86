/* nbd-server.c - the listening socket, the exports, and the end of all
 *
 * Exports come and go; a client holds the one it opened, which is freed when it is
 * removed and the last client is gone.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libvhd/error.h"
#include "nbd-private.h"
#include "tapdisk/log/log.h"

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

/* It is not found any more, and goes with its last client. */
static void export_retire(struct nbd_export *e)
{
	e->removed = true;
	vbd_unwatch(e->vbd, &e->watcher);
	e->vbd = NULL;
	if (!e->clients)
		export_free(e);
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
		drop_clients(e);
		export_retire(e);
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

/* Half-open connections do not keep others out: the oldest one gives way. */
static void make_room(struct nbd_server *server)
{
	for (struct list *l = server->clients.next; l != &server->clients; l = l->next) {
		struct nbd_client *c = list_entry(l, struct nbd_client, link);

		if (c->counted_negotiating) {
			nbd_client_fail(c, "too many negotiate, it is the oldest");
			return;
		}
	}
}

static void take_client(struct nbd_server *server, int fd)
{
	int rc;

	if (server->client_count >= server->max_clients) {
		log_write(LOG_LEVEL_WARNING, "nbd-refused", LOG_NO_MINOR,
			  "a connection at %s refused: there are %u, the most allowed",
			  server->address, server->client_count);
		close(fd);
		return;
	}
	if (server->negotiating >= NBD_NEGOTIATING)
		make_room(server);
	rc = nbd_client_new(server, fd);
	if (rc < 0) {
		log_write(LOG_LEVEL_WARNING, "nbd-refused", LOG_NO_MINOR,
			  "a connection at %s refused: %s", server->address, vhd_strerror(rc));
		close(fd);
	}
}

static void acceptable(void *owner, unsigned events)
{
	struct nbd_server *server = owner;

	(void)events;
	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			take_client(server, fd);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
			   errno == ENOMEM) {
			/* the connection stays where it is, and so would the event */
			log_write(LOG_LEVEL_WARNING, "nbd-refused", LOG_NO_MINOR,
				  "connections at %s wait: %s", server->address,
				  vhd_strerror(-errno));
			loop_fd_watch(server->listener, 0);
			loop_timer_set(server->accept_later, NBD_ACCEPT_NS);
			return;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			return;
		}
	}
}

static void accept_again(void *owner)
{
	struct nbd_server *server = owner;

	loop_fd_watch(server->listener, LOOP_READ);
}

static int take_socket(struct nbd_server *server, const struct nbd_params *params,
		       struct vhd_error *err)
{
	int on = 0, flags, rc;
	socklen_t length = sizeof(on);

	if (params->address) {
		rc = nbd_address_listen(params->address, &server->fd, &server->unix_path,
					&server->address, err);
		if (!rc && server->unix_path)
			server->unix_file = nbd_address_file(server->unix_path);
		return rc;
	}
	if (getsockopt(params->fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &length) < 0 || !on)
		return error_set(err, -EINVAL, "descriptor %d is no listening socket", params->fd);
	flags = fcntl(params->fd, F_GETFL);
	if (flags < 0 || fcntl(params->fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(params->fd, F_SETFD, FD_CLOEXEC) < 0)
		return error_set(err, -errno, "cannot use descriptor %d: %s", params->fd,
				 vhd_strerror(-errno));
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
	server->memory = params->memory;
	server->memory_borrowed = params->memory;
	rc = params->memory ? 0 : nbd_memory_open(0, &server->memory);
	if (rc < 0) {
		free(server);
		return error_set(err, rc, "out of memory");
	}
	nbd_memory_join(server->memory, server->max_clients);
	rc = take_socket(server, params, err);
	if (!rc && params->tls != NBD_TLS_OFF)
		rc = nbd_tls_server_open(params, &server->tls, err);
	if (!rc && !params->address)
		server->fd = params->fd;
	if (!rc) {
		rc = loop_timer_open(loop, accept_again, server, &server->accept_later);
		if (!rc)
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
	struct nbd_file_id file;

	loop_timer_close(server->accept_later);
	server->accept_later = NULL;
	loop_fd_close(server->listener);
	server->listener = NULL;
	if (server->fd >= 0)
		close(server->fd);
	server->fd = -1;
	if (server->unix_path) {
		file = nbd_address_file(server->unix_path);
		/* another server may have taken the name meanwhile */
		if (file.device == server->unix_file.device &&
		    file.inode == server->unix_file.inode)
			unlink(server->unix_path);
	}
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

static void destroy(struct nbd_server *server)
{
	nbd_tls_server_close(server->tls);
	nbd_memory_leave(server->memory, server->max_clients);
	if (!server->memory_borrowed)
		nbd_memory_close(server->memory);
	free(server->address);
	free(server);
}

void nbd_server_client_gone(struct nbd_server *server)
{
	if (!list_empty(&server->clients))
		return;
	if (server->freed)
		destroy(server);
	else if (server->stopping)
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
	server->stop_timer = NULL;
	loop_undefer(server->loop, &server->stop_task);
	server->stopping = false;
	for (struct list *l = server->clients.next, *next; l != &server->clients; l = next) {
		struct nbd_client *c = list_entry(l, struct nbd_client, link);

		next = l->next;
		nbd_client_close(c);
		if (!c->in_flight)
			nbd_client_free(c);
	}
	for (struct list *l = server->exports.next, *next; l != &server->exports; l = next) {
		struct nbd_export *e = list_entry(l, struct nbd_export, link);

		next = l->next;
		if (!e->removed)
			export_retire(e);
	}
	/* requests in flight are ours until the disk lets go of them */
	if (list_empty(&server->clients))
		destroy(server);
	else
		server->freed = true;
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
