/* calls-life.c - methods that change a disk's life */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "calls.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/base/undumpable.h"
#include "libvhd/error.h"
#include "tapdisk/protocol/rundir.h"

#define NS_PER_MS 1000000ull

static uint64_t timeout_ns(const struct call *call)
{
	return (uint64_t)call_int(call, "timeout_ms", 0) * NS_PER_MS;
}

void call_attach(struct call *call)
{
	struct vhd_error err = { 0 };
	struct slot *slot;
	int rc = slots_attach(call->control, (unsigned)call_int(call, "minor", 0),
			      call_text(call, "name"), true, &slot, &err);

	if (rc < 0)
		call_fail(call, &err);
	else
		call_reply(call, json_pack("{s:s}", "name", vbd_name(slot->vbd)));
}

void call_detach(struct call *call)
{
	struct control *control = call->control;

	if (!(vbd_state(call->slot->vbd) & VBD_CLOSED)) {
		call_refuse(call, -EBUSY, "minor %u has an image: close it first",
			    vbd_minor(call->slot->vbd));
		return;
	}
	exports_remove(call->slot, NULL, NULL);
	slots_detach(call->slot);
	call->slot = NULL;
	call_reply(call, json_object());
	if (list_empty(&control->slots))
		slots_stop(control);
}

/* ── open ── */

/* A disk that cannot be exported is of no use to who opened it. */
static void closed_again(struct vbd_op *op)
{
	struct call *call = op->owner;

	call_fail(call, &call->err);
}

static void opened(struct vbd_op *op)
{
	struct call *call = op->owner;
	struct slot *slot = call->slot;
	struct nbd_params params = { .fd = -1 };
	char path[PATH_MAX], address[PATH_MAX + 8];
	int rc;

	if (op->err.code) {
		call_fail(call, &op->err);
		return;
	}
	rundir_nbd_path(call->control->params.run_dir, (int)getpid(), vbd_minor(slot->vbd), path);
	snprintf(address, sizeof(address), "unix:%s", path);
	params.address = address;
	rc = exports_add(slot, &params, NULL, vbd_read_only(slot->vbd), true, NULL, &call->err);
	if (rc < 0) {
		call->op = (struct vbd_op){ .done = closed_again, .owner = call };
		vbd_close(slot->vbd, true, 0, &call->op);
		return;
	}
	call_reply(call, json_pack("{s:s, s:s, s:I}", "path", path, "name", vbd_name(slot->vbd),
				   "size", (json_int_t)vbd_size(slot->vbd)));
}

/* Never one that could keep us waiting: a file in memory. */
static int take_key(struct call *call, struct vhd_key **out)
{
	CLEANUP_FD int fd = client_take_passed(call->client);

	if (fd < 0 || fcntl(fd, F_GET_SEALS) < 0)
		return error_set(&call->err, -VHD_E_KEY,
				 "no key came along: it has to be in a memfd that is passed");
	process_undumpable();
	return vhd_key_read(fd, "the descriptor passed", out, &call->err);
}

void call_open(struct call *call)
{
	struct disk_params params = call->control->params.disk;
	struct vhd_key *key = NULL;

	if (call_bool(call, "key") && take_key(call, &key) < 0) {
		call_fail(call, &call->err);
		return;
	}
	params.key = key;
	params.read_only = params.read_only || call_bool(call, "read_only");
	params.buffered = params.buffered || call_bool(call, "buffered");
	params.writethrough = params.writethrough || call_bool(call, "writethrough");
	params.force = params.force || call_bool(call, "force");
	if (call_has(call, "timeout_ms"))
		params.lock_wait_ms = (unsigned)call_int(call, "timeout_ms", 0);
	call->op = (struct vbd_op){
		.done = opened,
		.owner = call,
		.log = call_text(call, "changed_log"),
	};
	vbd_open(call->slot->vbd, call_text(call, "args"), &params, &call->op);
	vhd_key_put(key);
}

/* ── close ── */

static void closed(struct vbd_op *op)
{
	struct call *call = op->owner;

	if (op->err.code) {
		call_fail(call, &op->err);
		return;
	}
	call->slot->holder = NULL;
	/* answered when the socket's name is gone: it may be opened again at once */
	if (exports_remove(call->slot, NULL, call) < 0 || !call->waits)
		call_reply(call, json_object());
}

void call_close(struct call *call)
{
	call->op = (struct vbd_op){ .done = closed, .owner = call };
	vbd_close(call->slot->vbd, call_bool(call, "force"), timeout_ns(call), &call->op);
}

/* ── pause, unpause ── */

static void done(struct vbd_op *op)
{
	struct call *call = op->owner;

	if (op->err.code)
		call_fail(call, &op->err);
	else
		call_reply(call, json_pack("{s:i}", "state", (int)vbd_state(call->slot->vbd)));
}

static void paused(struct vbd_op *op)
{
	struct call *call = op->owner;
	struct slot *slot = call->slot;
	bool mine;

	if (op->err.code) {
		call_fail(call, &op->err);
		return;
	}
	/* paused already by a client that has gone meanwhile: now it is this one's */
	mine = !op->flag || slot->orphaned;
	slot->orphaned = false;
	if (mine && call_bool(call, "while_connected")) {
		if (!call->client) {
			/* gone before it was paused: nobody will ask for it to go on */
			call->op = (struct vbd_op){ .done = done, .owner = call };
			vbd_unpause(slot->vbd, NULL, false, &call->op);
			return;
		}
		slot->holder = call->client;
	}
	call_reply(call, json_pack("{s:i, s:I, s:b}", "state", (int)vbd_state(slot->vbd), "pauses",
				   (json_int_t)vbd_pauses(slot->vbd), "already", op->flag));
}

void call_pause(struct call *call)
{
	uint64_t lease = (uint64_t)call_int(call, "lease_ms", 0) * NS_PER_MS;

	call->op = (struct vbd_op){ .done = paused, .owner = call };
	vbd_pause(call->slot->vbd, timeout_ns(call), lease, &call->op);
}

static void unpaused(struct vbd_op *op)
{
	struct call *call = op->owner;

	if (!op->err.code)
		call->slot->holder = NULL;
	done(op);
}

void call_unpause(struct call *call)
{
	call->op = (struct vbd_op){
		.done = unpaused,
		.owner = call,
		.log = call_text(call, "changed_log"),
	};
	vbd_unpause(call->slot->vbd, call_text(call, "args"), call_bool(call, "grow"), &call->op);
}

void call_stop(struct call *call)
{
	struct control *control = call->control;

	call_reply(call, json_object());
	slots_stop(control);
}
