/* slots.h - the disks of this process and what is under way with each: inside the control
 * service only
 */
#ifndef TAPDISK_CONTROL_SLOTS_H
#define TAPDISK_CONTROL_SLOTS_H

#include "call.h"

struct slot {
	struct list link; /* of control->slots, by minor */
	struct control *control;
	struct vbd *vbd;
	struct vbd_watcher watcher;
	int marker;	       /* descriptor that holds it; -1: none */
	const char *busy;      /* the method under way; NULL: none */
	struct client *holder; /* of a pause "while connected" */
	bool orphaned;	       /* that client went while something else was under way */
	struct vbd_op op;      /* of the service itself: unpause for a vanished holder; shutdown */
	bool resuming;
	bool forced; /* shutdown: closed by force */
};

struct control {
	struct control_params params;
	struct loop *loop;
	struct nbd_memory *memory; /* owned */
	struct list slots, listeners, calls;
	struct server *servers[2];  /* ctl<pid>; one handed over.  NULL: there is none */
	struct loop_task stop_task; /* tells the owner */
	struct loop_task step_task; /* the shutdown may go on */
	bool stopping;		    /* nothing new is begun */
	/* of control_shutdown */
	void (*down)(void *owner, const struct vhd_error *err);
	void *down_owner;
	uint64_t down_timeout_ns;
	struct vhd_error down_err; /* the first */
	unsigned closing;	   /* slots whose images are being closed */
	bool closed;
};

struct slot *slots_find(const struct control *control, unsigned minor);
int slots_attach(struct control *control, unsigned minor, const char *name, bool hold_marker,
		 struct slot **out, struct vhd_error *err);
/* CLOSED, not busy, no exports. */
void slots_detach(struct slot *slot);
/* Its client has gone: pauses it held "while connected" end. */
void slots_client_gone(struct control *control, const struct client *client);
/* Nothing is under way with it any more. */
void slots_idle(struct slot *slot);
bool slots_is_holder(const struct control *control, const struct client *client);
/* Tell all who listen to Events. */
void slots_event(struct slot *slot, const char *what, const char *text);
/* The process shall end, once this turn is over. */
void slots_stop(struct control *control);

/* ── exports.c ── */

/* Of all disks of this process: listeners, each with its exports. */
struct listener {
	struct list link;
	struct control *control;
	struct nbd_server *server;
	struct list exports;
	bool own;     /* made for one disk: goes with its last export */
	bool leaving; /* stops, then is freed */
	struct call *waiter;
	struct loop_task task;
};
struct export
{
	struct list link;
	struct slot *slot;
	char *name;
};

/* Export @slot's disk at the address of @params: a listener there already is used.  @own as in
 * struct listener.  @name NULL: the VBD's. */
int exports_add(struct slot *slot, const struct nbd_params *params, const char *name,
		bool read_only, bool own, struct listener **out, struct vhd_error *err);
/* Undo: at @address, or everywhere (NULL).  -ENOENT: it was not exported (there).  @waiter, if
 * not NULL, is answered when the listeners that go with it are gone: its `waits` counts them, 0
 * after this: none. */
int exports_remove(struct slot *slot, const char *address, struct call *waiter);
/* Stop a listener whatever it exports; @waiter as above. */
void exports_stop(struct listener *listener, struct call *waiter);
/* A JSON array of its exports. */
json_t *exports_json(const struct slot *slot);
/* All clients, or those of @slot; a JSON array. */
json_t *exports_clients(const struct control *control, const struct slot *slot);

/* ── stats.c ── */

json_t *stats_disk(const struct slot *slot);  /* facts, as in List */
json_t *stats_numbers(const struct vbd *vbd); /* as in Stats */

#endif
