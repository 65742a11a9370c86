/* control.c - start and end of the control service
 *
 *	control_shutdown: listeners stop, answering what they have ── calls under way end ──
 *	images are closed (by force where they cannot be made durable in time) ── done
 */
#include "control.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvhd/error.h"
#include "slots.h"
#include "tapdisk/log/log.h"
#include "tapdisk/protocol/rundir.h"

static void tell_stop(struct loop_task *task)
{
	struct control *control = list_entry(task, struct control, stop_task);

	control->params.stop(control->params.owner);
}

/* ── shutdown, step by step ── */

static void slot_closed(struct vbd_op *op);

static void close_slot(struct slot *slot, bool force)
{
	slot->op = (struct vbd_op){ .done = slot_closed, .owner = slot };
	vbd_close(slot->vbd, force, slot->control->down_timeout_ns, &slot->op);
}

static void slot_closed(struct vbd_op *op)
{
	struct slot *slot = op->owner;
	struct control *control = slot->control;

	/* what had no image cannot be closed, and need not be */
	if (op->err.code && !(vbd_state(slot->vbd) & VBD_CLOSED)) {
		log_write(LOG_LEVEL_ERROR, "close-failed", (int)vbd_minor(slot->vbd), "%s",
			  op->err.text);
		if (!control->down_err.code)
			control->down_err = op->err;
		if (!slot->forced) {
			slot->forced = true;
			close_slot(slot, true);
			return;
		}
	}
	control->closing--;
	loop_defer(control->loop, &control->step_task);
}

static bool is_quiet(const struct control *control)
{
	for (const struct list *l = control->slots.next; l != &control->slots; l = l->next) {
		const struct slot *slot = list_entry(l, struct slot, link);

		if (slot->busy || slot->resuming)
			return false;
	}
	return list_empty(&control->listeners);
}

static void close_slots(struct control *control)
{
	control->closed = true;
	control->closing = 1; /* until all were begun */
	for (struct list *l = control->slots.next; l != &control->slots; l = l->next) {
		/* an image that is just being opened is closed after */
		control->closing++;
		close_slot(list_entry(l, struct slot, link), false);
	}
	control->closing--;
}

/* Those too that an Open or Export made which was under way when the end began. */
static void stop_listeners(struct control *control)
{
	for (struct list *l = control->listeners.next; l != &control->listeners;) {
		struct listener *listener = list_entry(l, struct listener, link);

		l = l->next;
		exports_stop(listener, NULL);
	}
}

static void step(struct loop_task *task)
{
	struct control *control = list_entry(task, struct control, step_task);
	void (*down)(void *owner, const struct vhd_error *err) = control->down;

	if (!down)
		return;
	stop_listeners(control);
	if (!is_quiet(control))
		return;
	if (!control->closed)
		close_slots(control);
	if (control->closing)
		return;
	control->down = NULL;
	while (!list_empty(&control->slots))
		slots_detach(list_entry(control->slots.next, struct slot, link));
	down(control->down_owner, &control->down_err);
}

void control_shutdown(struct control *control, uint64_t timeout_ns,
		      void (*done)(void *owner, const struct vhd_error *err), void *owner)
{
	control->stopping = true;
	control->down = done;
	control->down_owner = owner;
	control->down_timeout_ns = timeout_ns;
	loop_defer(control->loop, &control->step_task);
}

/* ── start ── */

int control_open(const struct control_params *params, struct control **out, struct vhd_error *err)
{
	struct control *control = calloc(1, sizeof(*control));

	if (!control)
		return error_set(err, -ENOMEM, "out of memory");
	if (nbd_memory_open(params->memory_bytes, &control->memory) < 0) {
		free(control);
		return error_set(err, -ENOMEM, "out of memory");
	}
	control->params = *params;
	control->loop = params->host->loop;
	control->stop_task.run = tell_stop;
	control->step_task.run = step;
	list_init(&control->slots);
	list_init(&control->listeners);
	list_init(&control->calls);
	*out = control;
	return 0;
}

int control_listen(struct control *control, struct vhd_error *err)
{
	char path[PATH_MAX];

	rundir_control_path(control->params.run_dir, (int)getpid(), path);
	return server_open(control, path, -1, &control->servers[0], err);
}

int control_listen_fd(struct control *control, int fd, struct vhd_error *err)
{
	if (control->servers[1])
		return error_set(err, -EINVAL, "more than one control socket was handed over");
	return server_open(control, NULL, fd, &control->servers[1], err);
}

int control_attach(struct control *control, unsigned minor, const char *name, struct vbd **out,
		   struct vhd_error *err)
{
	struct slot *slot;
	int rc = slots_attach(control, minor, name, false, &slot, err);

	if (rc >= 0)
		*out = slot->vbd;
	return rc;
}

int control_export_all(struct control *control, const struct nbd_params *params,
		       struct vhd_error *err)
{
	/* the socket that was handed over is the listener's from the first disk on */
	struct nbd_params now = *params;
	struct listener *listener;
	int rc = 0;

	for (struct list *l = control->slots.next; rc >= 0 && l != &control->slots; l = l->next) {
		struct slot *slot = list_entry(l, struct slot, link);

		rc = exports_add(slot, &now, NULL, vbd_read_only(slot->vbd), false, &listener, err);
		if (rc >= 0)
			now.address = nbd_server_address(listener->server);
	}
	return rc;
}

void control_close(struct control *control)
{
	if (!control)
		return;
	server_close(control->servers[0]);
	server_close(control->servers[1]);
	/* calls of clients that are gone: nobody answers them any more */
	while (!list_empty(&control->calls))
		service_drop(list_entry(control->calls.next, struct call, link));
	while (!list_empty(&control->slots))
		slots_detach(list_entry(control->slots.next, struct slot, link));
	loop_undefer(control->loop, &control->stop_task);
	loop_undefer(control->loop, &control->step_task);
	nbd_memory_close(control->memory);
	free(control);
}
