/* vbd-ops.c - changes of life in their order: asked for, begun, timed out, told
 *
 * Calls only queue a struct vbd_op.  The task begins the first one when nothing else is
 * under way and no job holds the VBD; it is also what reacts to "nothing is with the
 * disk any more" and to the end of quiescing.
 *
 *   vbd_pause() … ─► ops ─► task ─► vbd_begin ─► … ─► vbd_finish ─► done()
 *                     │                    │ vbd_give_up
 *                     └── too late ────────┴────────────────────► done()
 *
 * done() is the last thing of whoever calls it: the VBD may be gone then.
 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vbd-private.h"

#define LEASE_AGAIN_NS 1000000000ull

/* ── ends ── */

void vbd_again(struct vbd *vbd)
{
	loop_defer(vbd->host->loop, &vbd->task);
}

static void op_end(struct vbd_op *op)
{
	free(op->spec);
	op->spec = NULL;
	if (op->params) {
		vbd_free_params(op->params);
		free(op->params);
		op->params = NULL;
	}
	op->done(op);
}

void vbd_finish(struct vbd *vbd)
{
	struct vbd_op *op = vbd->op;

	vbd->op = NULL;
	vbd_again(vbd);
	op_end(op);
}

void vbd_op_error(struct vbd_op *op, int code, const char *format, ...)
{
	va_list args;

	op->err = (struct vhd_error){ .code = code };
	va_start(args, format);
	vsnprintf(op->err.text, sizeof(op->err.text), format, args);
	va_end(args);
}

/* ── one after the other ── */

/* Is there a close that does not wait for what is under way? */
static bool is_superseded(const struct vbd *vbd)
{
	const struct vbd_op *now = vbd->op;

	if (!now || (now->kind == VBD_OP_CLOSE && now->flag))
		return false;
	for (struct list *l = vbd->ops.next; l != &vbd->ops; l = l->next) {
		const struct vbd_op *op = list_entry(l, struct vbd_op, link);

		if (op->kind == VBD_OP_CLOSE && (now->kind != VBD_OP_CLOSE || op->flag))
			return true;
	}
	return false;
}

static void refuse_holds(struct vbd *vbd)
{
	struct list refused, *next;

	list_init(&refused);
	for (struct list *l = vbd->ops.next; l != &vbd->ops; l = next) {
		struct vbd_op *op = list_entry(l, struct vbd_op, link);

		next = l->next;
		if (op->kind != VBD_OP_HOLD)
			continue;
		vbd_op_error(op, -ESTALE, "somebody else has taken '%s'", vbd_name(vbd));
		list_remove(l);
		list_append(&refused, l);
	}
	while ((next = list_pop(&refused)))
		op_end(list_entry(next, struct vbd_op, link));
}

static void advance(struct loop_task *task)
{
	struct vbd *vbd = list_entry(task, struct vbd, task);
	struct vbd_op *op = vbd->op;
	struct list *link;

	if (vbd->phase == PHASE_DRAIN && !vbd->flying) {
		vbd_drained(vbd);
	} else if (vbd->phase == PHASE_QUIESCE && vbd->quiesced) {
		vbd_after_quiesce(vbd);
	} else if (vbd->phase == PHASE_LOST) {
		refuse_holds(vbd); /* they are what the jobs wait for */
		if (!vbd->jobs)
			vbd_lost(vbd);
	} else if (is_superseded(vbd) && vbd_give_up(vbd, -ESHUTDOWN, "it is to be closed")) {
		vbd->op = NULL;
		vbd_again(vbd);
		op_end(op);
	} else if (vbd->phase == PHASE_IDLE && vbd->life != LIFE_HELD) {
		link = list_pop(&vbd->ops);
		if (!link)
			return;
		vbd->op = list_entry(link, struct vbd_op, link);
		vbd_begin(vbd);
	}
}

/* ── time ── */

static void set_deadline(struct vbd *vbd)
{
	uint64_t now = vbd_now(vbd), first = UINT64_MAX;

	if (vbd->op && vbd->op->deadline_ns > now)
		first = vbd->op->deadline_ns;
	for (struct list *l = vbd->ops.next; l != &vbd->ops; l = l->next) {
		const struct vbd_op *op = list_entry(l, struct vbd_op, link);

		if (op->deadline_ns > now && op->deadline_ns < first)
			first = op->deadline_ns;
	}
	if (first == UINT64_MAX)
		loop_timer_cancel(vbd->deadline);
	else
		loop_timer_set(vbd->deadline, first - now);
}

static void deadline_fired(void *owner)
{
	struct vbd *vbd = owner;
	uint64_t now = vbd_now(vbd);
	struct list late, *next;

	list_init(&late);
	for (struct list *l = vbd->ops.next; l != &vbd->ops; l = next) {
		struct vbd_op *op = list_entry(l, struct vbd_op, link);

		next = l->next;
		if (!op->deadline_ns || op->deadline_ns > now)
			continue;
		vbd_op_error(op, -ETIMEDOUT, "'%s' is still %s: timed out", vbd_name(vbd),
			     vbd_state_text(vbd));
		list_remove(l);
		list_append(&late, l);
	}
	if (vbd->op && vbd->op->deadline_ns && vbd->op->deadline_ns <= now &&
	    vbd_give_up(vbd, -ETIMEDOUT, "timed out; it goes on")) {
		list_append(&late, &vbd->op->link);
		vbd->op = NULL;
	}
	set_deadline(vbd);
	vbd_again(vbd);
	while ((next = list_pop(&late)))
		op_end(list_entry(next, struct vbd_op, link));
}

static void lease_over(struct vbd_op *op)
{
	struct vbd *vbd = op->owner;

	vbd->lease_busy = false;
	if (vbd->life == LIFE_PAUSED && vbd->leased)
		loop_timer_set(vbd->lease, LEASE_AGAIN_NS);
}

static void lease_fired(void *owner)
{
	struct vbd *vbd = owner;

	if (vbd->lease_busy || vbd->life != LIFE_PAUSED)
		return;
	vbd->lease_busy = true;
	vbd_event(vbd, "lease", "nobody resumed it in time");
	vbd->lease_op.done = lease_over;
	vbd->lease_op.owner = vbd;
	vbd_unpause(vbd, NULL, false, &vbd->lease_op);
}

/* ── asked for ── */

static void enqueue(struct vbd *vbd, struct vbd_op *op, enum vbd_op_kind kind, uint64_t timeout_ns)
{
	op->vbd = vbd;
	op->kind = kind;
	op->deadline_ns = timeout_ns ? vbd_now(vbd) + timeout_ns : 0;
	list_append(&vbd->ops, &op->link);
	if (timeout_ns)
		set_deadline(vbd);
	vbd_again(vbd);
}

static void prepare(struct vbd_op *op)
{
	op->err = (struct vhd_error){ 0 };
	op->flag = false;
	op->lease_ns = 0;
	op->spec = NULL;
	op->params = NULL;
}

/* It ends with that when its turn comes. */
static void no_memory(struct vbd_op *op)
{
	vbd_op_error(op, -ENOMEM, "out of memory");
}

void vbd_open(struct vbd *vbd, const char *spec, const struct disk_params *params,
	      struct vbd_op *op)
{
	prepare(op);
	op->spec = strdup(spec);
	op->params = calloc(1, sizeof(*op->params));
	if (!op->spec || !op->params || vbd_copy_params(op->params, params) < 0)
		no_memory(op);
	enqueue(vbd, op, VBD_OP_OPEN, 0);
}

void vbd_close(struct vbd *vbd, bool force, uint64_t timeout_ns, struct vbd_op *op)
{
	prepare(op);
	op->flag = force;
	enqueue(vbd, op, VBD_OP_CLOSE, timeout_ns);
}

void vbd_pause(struct vbd *vbd, uint64_t timeout_ns, uint64_t lease_ns, struct vbd_op *op)
{
	prepare(op);
	op->lease_ns = lease_ns;
	enqueue(vbd, op, VBD_OP_PAUSE, timeout_ns);
}

void vbd_unpause(struct vbd *vbd, const char *spec, bool grow, struct vbd_op *op)
{
	prepare(op);
	op->flag = grow;
	op->spec = spec ? strdup(spec) : NULL;
	if (spec && !op->spec)
		no_memory(op);
	enqueue(vbd, op, VBD_OP_UNPAUSE, 0);
}

void vbd_hold(struct vbd *vbd, uint64_t timeout_ns, struct vbd_op *op)
{
	prepare(op);
	enqueue(vbd, op, VBD_OP_HOLD, timeout_ns);
}

void vbd_release(struct vbd *vbd)
{
	assert(vbd->life == LIFE_HELD);
	vbd_go_on(vbd);
	vbd_again(vbd);
}

void vbd_job_begin(struct vbd *vbd)
{
	vbd->jobs++;
}

void vbd_job_end(struct vbd *vbd)
{
	vbd->jobs--;
	vbd_again(vbd);
}

static void reopen_over(struct vbd_op *op)
{
	struct vbd *vbd = op->owner;

	vbd->reopen_busy = false;
}

void vbd_too_long(void *owner)
{
	struct vbd *vbd = owner;

	if (vbd->reopen_busy || vbd->op || !list_empty(&vbd->ops) || vbd->life != LIFE_RUNNING)
		return; /* the next time, if need be */
	vbd->reopen_busy = true;
	prepare(&vbd->reopen_op);
	vbd->reopen_op.done = reopen_over;
	vbd->reopen_op.owner = vbd;
	enqueue(vbd, &vbd->reopen_op, VBD_OP_REOPEN, 0);
}

/* ── made and freed ── */

int vbd_new(struct host *host, const struct vbd_params *params, struct vbd **out)
{
	struct vbd *vbd;
	int rc = -ENOMEM;

	if (host_find(host, params->minor))
		return -EEXIST;
	vbd = calloc(1, sizeof(*vbd));
	if (!vbd)
		return -ENOMEM;
	vbd->host = host;
	vbd->minor = params->minor;
	vbd->retry_ns = params->retry_ns;
	vbd->name_given = params->name;
	vbd->task.run = advance;
	list_init(&vbd->link);
	list_init(&vbd->ops);
	list_init(&vbd->watchers);
	vbd->watch_next = &vbd->watchers;
	request_init(vbd);
	if (params->name) {
		vbd->name = strdup(params->name);
		if (!vbd->name)
			goto fail;
	}
	rc = loop_timer_open(host->loop, deadline_fired, vbd, &vbd->deadline);
	if (rc == 0)
		rc = loop_timer_open(host->loop, lease_fired, vbd, &vbd->lease);
	if (rc == 0)
		rc = loop_timer_open(host->loop, request_tokens, vbd, &vbd->tokens);
	if (rc == 0)
		rc = loop_timer_open(host->loop, request_withdrawal, vbd, &vbd->withdrawal);
	if (rc == 0)
		rc = loop_timer_open(host->loop, (void (*)(void *))vbd_again, vbd, &vbd->later);
	if (rc < 0)
		goto fail;
	host_add(host, vbd);
	*out = vbd;
	return 0;
fail:
	vbd_free(vbd);
	return rc;
}

void vbd_free(struct vbd *vbd)
{
	if (!vbd)
		return;
	assert(vbd->life == LIFE_CLOSED && list_empty(&vbd->ops) && !vbd->op);
	host_remove(vbd);
	loop_undefer(vbd->host->loop, &vbd->task);
	loop_undefer(vbd->host->loop, &vbd->readmit);
	loop_timer_close(vbd->deadline);
	loop_timer_close(vbd->lease);
	loop_timer_close(vbd->tokens);
	loop_timer_close(vbd->later);
	loop_timer_close(vbd->withdrawal);
	free(vbd->name);
	free(vbd);
}
