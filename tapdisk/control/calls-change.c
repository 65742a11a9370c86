/* calls-change.c - methods that change a disk while it serves */
#include <errno.h>
#include <string.h>

#include "calls.h"
#include "libvhd/error.h"

#define NS_PER_MS	  1000000ull
#define SNAPSHOT_DRAIN_MS 30000

static void snapshotted(struct snapshot_job *job)
{
	struct call *call = job->owner;

	if (job->err.code)
		call_fail(call, &job->err);
	else
		call_reply(call, json_pack("{s:s, s:I}", "leaf", job->leaf, "stall_us",
					   (json_int_t)(job->stall_ns / 1000)));
}

void call_snapshot(struct call *call)
{
	const char *base = call_text(call, "base"), *leaf = call_text(call, "new_leaf");

	if (!base == !leaf) {
		call_refuse(call, -EINVAL,
			    "a snapshot needs one name: of the frozen node or of the new leaf");
		return;
	}
	call->snapshot = (struct snapshot_job){
		.vbd = call->slot->vbd,
		.loop = call->control->loop,
		.base = base,
		.new_leaf = leaf,
		.timeout_ns = (uint64_t)call_int(call, "timeout_ms", SNAPSHOT_DRAIN_MS) * NS_PER_MS,
		.done = snapshotted,
		.owner = call,
	};
	snapshot_start(&call->snapshot);
}

static void resized(struct resize_job *job)
{
	struct call *call = job->owner;

	if (job->err.code)
		call_fail(call, &job->err);
	else
		call_reply(call, json_pack("{s:I}", "size", (json_int_t)vbd_size(call->slot->vbd)));
}

void call_resize(struct call *call)
{
	call->resize = (struct resize_job){
		.vbd = call->slot->vbd,
		.bytes = (uint64_t)call_int(call, "size", 0),
		.timeout_ns = (uint64_t)call_int(call, "timeout_ms", SNAPSHOT_DRAIN_MS) * NS_PER_MS,
		.done = resized,
		.owner = call,
	};
	resize_start(&call->resize);
}

/* What is not given stays. */
static void change(const struct call *call, const char *name, uint64_t *limit)
{
	*limit = (uint64_t)call_int(call, name, (int64_t)*limit);
}

void call_throttle(struct call *call)
{
	struct vbd_limits limits;

	vbd_get_limits(call->slot->vbd, &limits);
	change(call, "iops", &limits.iops);
	change(call, "iops_burst", &limits.iops_burst);
	change(call, "bytes", &limits.bytes);
	change(call, "bytes_burst", &limits.bytes_burst);
	vbd_throttle(call->slot->vbd, &limits);
	call_reply(call,
		   json_pack("{s:I, s:I, s:I, s:I}", "iops", (json_int_t)limits.iops, "iops_burst",
			     (json_int_t)limits.iops_burst, "bytes", (json_int_t)limits.bytes,
			     "bytes_burst", (json_int_t)limits.bytes_burst));
}

void call_retry(struct call *call)
{
	if (call_has(call, "time_ms"))
		vbd_retry_time(call->slot->vbd, (uint64_t)call_int(call, "time_ms", 0) * NS_PER_MS);
	else if (call_bool(call, "forever"))
		vbd_retry_time(call->slot->vbd, RETRY_FOREVER);
	vbd_retry_now(call->slot->vbd);
	call_reply(call, json_object());
}

/* ── exports ── */

static bool is_address(const char *address)
{
	return !strncmp(address, "unix:", 5) || !strncmp(address, "tcp:", 4);
}

void call_export(struct call *call)
{
	const char *address = call_text(call, "address");
	struct nbd_params params = call->control->params.nbd;
	struct slot *slot = call->slot;
	struct vhd_error err = { 0 };
	bool read_only = call_bool(call, "read_only") || vbd_read_only(slot->vbd);
	int rc;

	if (!is_address(address)) {
		call_refuse(call, -EINVAL,
			    "'%s' is no address: unix:PATH or tcp:HOST:PORT is wanted", address);
		return;
	}
	if (vbd_state(slot->vbd) & VBD_CLOSED) {
		call_refuse(call, -EINVAL, "minor %u has no image to export", vbd_minor(slot->vbd));
		return;
	}
	params.address = address;
	rc = exports_add(slot, &params, call_text(call, "name"), read_only, true, &call->listener,
			 &err);
	if (rc < 0)
		call_fail(call, &err);
	else
		call_reply(call, json_pack("{s:s}", "address",
					   nbd_server_address(call->listener->server)));
}

void call_unexport(struct call *call)
{
	const char *address = call_text(call, "address");

	if (exports_remove(call->slot, address, call) < 0)
		call_refuse(call, -ENOENT, "minor %u is not exported%s%s",
			    vbd_minor(call->slot->vbd), address ? " at " : "",
			    address ? address : "");
	else if (!call->waits)
		call_reply(call, json_object());
}
