/* slots.c - the disks of this process and what is under way with each */
#include "slots.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "libvhd/error.h"
#include "tapdisk/log/log.h"
#include "tapdisk/protocol/rundir.h"

struct slot *slots_find(const struct control *control, unsigned minor)
{
	for (const struct list *l = control->slots.next; l != &control->slots; l = l->next) {
		struct slot *slot = list_entry(l, struct slot, link);

		if (vbd_minor(slot->vbd) == minor)
			return slot;
	}
	return NULL;
}

void slots_event(struct slot *slot, const char *what, const char *text)
{
	struct control *control = slot->control;
	unsigned minor = vbd_minor(slot->vbd);

	log_write(LOG_LEVEL_INFO, what, (int)minor, "%s", text ? text : "");
	for (struct list *l = control->calls.next; l != &control->calls;) {
		struct call *call = list_entry(l, struct call, link);
		json_t *told;

		l = l->next;
		if (!(call->method->flags & METHOD_MORE) ||
		    call_int(call, "minor", minor) != (int64_t)minor)
			continue;
		told = json_string(text ? text : "");
		if (!told) /* no UTF-8 */
			told = json_string("?");
		call_continue(call, json_pack("{s:i, s:s, s:s, s:o}", "minor", (int)minor, "name",
					      vbd_name(slot->vbd), "event", what, "text", told));
	}
}

static void watched_event(struct vbd_watcher *watcher, const char *what, const char *text)
{
	slots_event(list_entry(watcher, struct slot, watcher), what, text);
}

/* Its image is closed though nobody asked: so are its exports, and it can be opened again. */
static void watched_lost(struct vbd_watcher *watcher)
{
	struct slot *slot = list_entry(watcher, struct slot, watcher);

	(void)exports_remove(slot, NULL, NULL);
	slot->holder = NULL;
}

static void insert_by_minor(struct control *control, struct slot *slot)
{
	struct list *before = control->slots.next;

	while (before != &control->slots &&
	       vbd_minor(list_entry(before, struct slot, link)->vbd) < vbd_minor(slot->vbd))
		before = before->next;
	list_append(before, &slot->link); /* in front of that one */
}

int slots_attach(struct control *control, unsigned minor, const char *name, bool hold_marker,
		 struct slot **out, struct vhd_error *err)
{
	struct vbd_params params = { .name = name,
				     .minor = minor,
				     .retry_ns = control->params.retry_ns };
	struct slot *slot;
	int rc;

	if (slots_find(control, minor))
		return error_set(err, -EEXIST, "minor %u is attached to this tapdisk already",
				 minor);
	slot = calloc(1, sizeof(*slot));
	if (!slot)
		return error_set(err, -ENOMEM, "out of memory");
	slot->control = control;
	slot->marker = -1;
	if (hold_marker) {
		rc = rundir_hold(control->params.run_dir, minor, err);
		if (rc < 0)
			goto fail;
		slot->marker = rc;
	}
	rc = vbd_new(control->params.host, &params, &slot->vbd);
	if (rc < 0) {
		error_set(err, rc, "cannot attach minor %u: %s", minor, vhd_strerror(rc));
		goto fail;
	}
	slot->watcher.event = watched_event;
	slot->watcher.lost = watched_lost;
	list_init(&slot->watcher.link);
	vbd_watch(slot->vbd, &slot->watcher);
	insert_by_minor(control, slot);
	*out = slot;
	return 0;
fail:
	if (slot->marker >= 0)
		close(slot->marker);
	free(slot);
	return rc;
}

void slots_detach(struct slot *slot)
{
	vbd_unwatch(slot->vbd, &slot->watcher);
	vbd_free(slot->vbd);
	list_remove(&slot->link);
	if (slot->marker >= 0)
		close(slot->marker); /* lets the marker's lock go; its name stays until `free` */
	free(slot);
}

/* ── pauses that end with their client ── */

bool slots_is_holder(const struct control *control, const struct client *client)
{
	for (const struct list *l = control->slots.next; l != &control->slots; l = l->next)
		if (list_entry(l, struct slot, link)->holder == client)
			return true;
	return false;
}

static void resumed(struct vbd_op *op)
{
	struct slot *slot = op->owner;

	slot->resuming = false;
	loop_defer(slot->control->loop, &slot->control->step_task);
	if (op->err.code)
		log_write(LOG_LEVEL_ERROR, "unpause-failed", (int)vbd_minor(slot->vbd),
			  "the pause's holder has gone, but: %s", op->err.text);
}

/* Nobody else will ask for it. */
static void go_on(struct slot *slot)
{
	if (!(vbd_state(slot->vbd) & VBD_PAUSED))
		return;
	log_write(LOG_LEVEL_WARNING, "holder-gone", (int)vbd_minor(slot->vbd),
		  "whoever paused this disk has gone: it goes on");
	slot->resuming = true;
	slot->op = (struct vbd_op){ .done = resumed, .owner = slot };
	vbd_unpause(slot->vbd, NULL, false, &slot->op);
}

void slots_client_gone(struct control *control, const struct client *client)
{
	for (struct list *l = control->slots.next; l != &control->slots; l = l->next) {
		struct slot *slot = list_entry(l, struct slot, link);

		if (slot->holder != client)
			continue;
		slot->holder = NULL;
		if (slot->busy)
			slot->orphaned = true;
		else
			go_on(slot);
	}
}

void slots_idle(struct slot *slot)
{
	bool orphaned = slot->orphaned;

	slot->busy = NULL;
	slot->orphaned = false;
	/* unless somebody else holds it now */
	if (orphaned && !slot->holder)
		go_on(slot);
}

/* ── the end ── */

void slots_stop(struct control *control)
{
	loop_defer(control->loop, &control->stop_task);
}
