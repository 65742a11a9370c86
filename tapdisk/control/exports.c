/* exports.c - NBD listeners and what they export
 *
 * A listener is one address; it exports any number of disks by name.  One that was made for
 * a disk (its nbd<pid>.<minor>, or an address given to Export) goes with its last export;
 * those of the command line stay.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/error.h"
#include "slots.h"

#define STOP_NS	    (5ull * 1000 * 1000 * 1000)
#define CLIENTS_MAX 512u

static struct listener *find_listener(const struct control *control, const char *address)
{
	for (const struct list *l = control->listeners.next; l != &control->listeners;
	     l = l->next) {
		struct listener *listener = list_entry(l, struct listener, link);

		if (!listener->leaving && address &&
		    !strcmp(nbd_server_address(listener->server), address))
			return listener;
	}
	return NULL;
}

static struct export *find_export(const struct listener *listener, const struct slot *slot)
{
	for (const struct list *l = listener->exports.next; l != &listener->exports; l = l->next) {
		struct export *e = list_entry(l, struct export, link);

		if (e->slot == slot)
			return e;
	}
	return NULL;
}

static int listener_open(struct control *control, const struct nbd_params *params, bool own,
			 struct listener **out, struct vhd_error *err)
{
	struct listener *listener = calloc(1, sizeof(*listener));
	struct nbd_params now = *params;
	int rc;

	if (!listener)
		return error_set(err, -ENOMEM, "out of memory");
	listener->control = control;
	listener->own = own;
	list_init(&listener->exports);
	now.memory = control->memory;
	rc = nbd_server_open(control->loop, &now, &listener->server, err);
	if (rc < 0) {
		free(listener);
		return rc;
	}
	list_append(&control->listeners, &listener->link);
	*out = listener;
	return 0;
}

static void listener_free(struct loop_task *task)
{
	struct listener *listener = list_entry(task, struct listener, task);
	struct control *control = listener->control;
	struct call *waiter = listener->waiter;

	nbd_server_free(listener->server);
	list_remove(&listener->link);
	free(listener);
	if (waiter && --waiter->waits == 0)
		call_reply(waiter, json_object());
	loop_defer(control->loop, &control->step_task);
}

/* Not freed from inside its own callback. */
static void listener_stopped(void *arg)
{
	struct listener *listener = arg;

	listener->task.run = listener_free;
	loop_defer(listener->control->loop, &listener->task);
}

void exports_stop(struct listener *listener, struct call *waiter)
{
	if (listener->leaving)
		return;
	while (!list_empty(&listener->exports)) {
		struct export *e = list_entry(listener->exports.next, struct export, link);

		list_remove(&e->link);
		free(e->name);
		free(e);
	}
	listener->leaving = true;
	listener->waiter = waiter;
	if (waiter)
		waiter->waits++;
	nbd_server_stop(listener->server, STOP_NS, listener_stopped, listener);
}

static void drop(struct listener *listener, struct export *e, struct call *waiter)
{
	(void)nbd_export_remove(listener->server, e->name); /* gone with its VBD already: fine */
	list_remove(&e->link);
	free(e->name);
	free(e);
	if (listener->own && list_empty(&listener->exports))
		exports_stop(listener, waiter);
}

static int add(struct listener *listener, struct slot *slot, const char *name, bool read_only,
	       struct vhd_error *err)
{
	struct nbd_export_params params = { .name = name, .read_only = read_only };
	struct export *e = calloc(1, sizeof(*e));
	int rc = -ENOMEM;

	if (e)
		e->name = strdup(name);
	if (e && e->name)
		rc = nbd_export_add(listener->server, slot->vbd, &params);
	if (rc < 0) {
		if (e)
			free(e->name);
		free(e);
		return error_set(err, rc, "cannot export '%s' at %s: %s", name,
				 nbd_server_address(listener->server),
				 rc == -EEXIST ? "that name is taken; give another" :
						 vhd_strerror(rc));
	}
	e->slot = slot;
	list_append(&listener->exports, &e->link);
	return 0;
}

int exports_add(struct slot *slot, const struct nbd_params *params, const char *name,
		bool read_only, bool own, struct listener **out, struct vhd_error *err)
{
	struct listener *listener = find_listener(slot->control, params->address);
	bool fresh = !listener;
	int rc;

	if (listener && find_export(listener, slot))
		return error_set(err, -EEXIST, "minor %u is exported at %s already",
				 vbd_minor(slot->vbd), params->address);
	if (fresh) {
		rc = listener_open(slot->control, params, own, &listener, err);
		if (rc < 0)
			return rc;
	}
	rc = add(listener, slot, name ? name : vbd_name(slot->vbd), read_only, err);
	if (rc < 0) {
		if (fresh)
			exports_stop(listener, NULL);
		return rc;
	}
	if (out)
		*out = listener;
	return 0;
}

int exports_remove(struct slot *slot, const char *address, struct call *waiter)
{
	struct control *control = slot->control;
	int rc = -ENOENT;

	for (struct list *l = control->listeners.next; l != &control->listeners;) {
		struct listener *listener = list_entry(l, struct listener, link);
		struct export *e;

		l = l->next;
		if (listener->leaving ||
		    (address && strcmp(nbd_server_address(listener->server), address)))
			continue;
		e = find_export(listener, slot);
		if (!e)
			continue;
		drop(listener, e, waiter);
		rc = 0;
	}
	return rc;
}

json_t *exports_json(const struct slot *slot)
{
	const struct control *control = slot->control;
	json_t *all = json_array();

	for (const struct list *l = control->listeners.next; l != &control->listeners;
	     l = l->next) {
		const struct listener *listener = list_entry(l, struct listener, link);
		const struct export *e = listener->leaving ? NULL : find_export(listener, slot);

		if (e)
			json_array_append_new(all, json_pack("{s:s, s:s}", "address",
							     nbd_server_address(listener->server),
							     "name", e->name));
	}
	return all;
}

/* Does the listener's client use @slot's disk? */
static bool uses(const struct listener *listener, const struct nbd_client_info *info,
		 const struct slot *slot)
{
	const struct export *e = find_export(listener, slot);

	return e && !strcmp(e->name, info->export);
}

json_t *exports_clients(const struct control *control, const struct slot *slot)
{
	struct nbd_client_info *infos = calloc(CLIENTS_MAX, sizeof(*infos));
	json_t *all = infos ? json_array() : NULL;

	for (const struct list *l = control->listeners.next; all && l != &control->listeners;
	     l = l->next) {
		const struct listener *listener = list_entry(l, struct listener, link);
		unsigned count = nbd_server_clients(listener->server, infos, CLIENTS_MAX);

		for (unsigned k = 0; k < count && k < CLIENTS_MAX; k++) {
			const struct nbd_client_info *c = &infos[k];

			if (slot && !uses(listener, c, slot))
				continue;
			json_array_append_new(all,
					      json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:b}",
							"address",
							nbd_server_address(listener->server),
							"peer", c->peer, "export", c->export,
							"in_flight", (json_int_t)c->in_flight,
							"bytes_in", (json_int_t)c->bytes_in,
							"bytes_out", (json_int_t)c->bytes_out,
							"requests", (json_int_t)c->requests, "tls",
							c->tls));
		}
	}
	free(infos);
	return all;
}
