/* request.c - a request's way from a front-end to the disk and back
 *
 *   submit ─► gate ─► tokens ─► turn ─► range ─► disk ─► done
 *              │        │        │        │        │
 *            held   throttled  ready   blocked     │ -ECANCELED while the gate is closed
 *              ▲        │        │        │        ▼
 *              └────────┴────────┴────────┴──── returned (in front of held)
 *                 the gate closes: pause, hold, close
 *
 * A stage without anybody in it lets a request through at once: a call of submit
 * usually reaches the disk.
 *
 * Range locks (ORDER 12): a write that covers part of a sector is read, changed and written by
 * partial.c; no other write, zero or trim may touch its sectors meanwhile.  Nor those of a write
 * whose client is gone (ORDER 19): it would land on what came after it.  While there
 * is none of these kinds (alone == 0), and that is the rule, nothing is compared.
 * A blocked one also blocks later ones that overlap it, so none waits for ever.
 *
 * What lives in request.core: [0] flags, [1] what it weighs, [2] losses when it went to the disk (of a
 * flush: writes before it); partial.c has its own use of [3].
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "libvhd/base/number.h"
#include "vbd-private.h"

#define WITHDRAWAL_NS UINT64_C(200000000)

/* A write that syncs which fail keep undoing fails, too. */
#define TIMES_AGAIN 8u

enum core_flags {
	CORE_CHARGED = 1 << 0,	 /* its tokens are taken */
	CORE_ALONE = 1 << 1,	 /* a writer that shares no sector with another */
	CORE_WITHDRAWN = 1 << 2, /* nobody waits for it: it is not held */
	CORE_AGAIN = 1 << 8,	 /* from here on: how often it was carried out anew, was_lost() */
};

static struct request *request_of(struct list *link)
{
	return list_entry(link, struct request, link);
}

static bool is_writer(const struct request *req)
{
	return req->op == REQUEST_WRITE || req->op == REQUEST_ZERO || req->op == REQUEST_TRIM;
}

static bool is_throttled(const struct request *req)
{
	return req->op == REQUEST_READ || is_writer(req);
}

static void finish(struct vbd *vbd, struct request *req, int err)
{
	req->err = err;
	if (!err && is_writer(req)) {
		vbd->writes++;
		if (req->client)
			req->client->last_write = vbd->writes;
	}
	vbd->stats.outstanding--;
	stats_record(&vbd->stats, req, vbd_now(vbd));
	req->done(req);
}

/* ── range locks ── */

static uint64_t first_sector(const struct request *req)
{
	return req->offset / REQUEST_SECTOR;
}

static uint64_t sectors(const struct request *req)
{
	return number_div_up(req->offset + req->length, REQUEST_SECTOR) - first_sector(req);
}

/* Do they share a sector, and does one of them not share? */
static bool meet(const struct request *a, const struct request *b)
{
	return ((a->core[0] | b->core[0]) & CORE_ALONE) &&
	       number_overlap(first_sector(a), sectors(a), first_sector(b), sectors(b));
}

/* Must @req wait for a writer with the disk, or for one of the blocked before @before? */
static bool must_wait(struct vbd *vbd, const struct request *req, const struct list *before)
{
	for (struct list *l = vbd->writing.next; l != &vbd->writing; l = l->next) {
		if (meet(req, request_of(l)))
			return true;
	}
	for (struct list *l = vbd->blocked.next; l != before; l = l->next) {
		/* a plain one among the blocked overlaps one before it that is alone */
		if (meet(req, request_of(l)))
			return true;
	}
	return false;
}

static void start(struct vbd *vbd, struct request *req)
{
	req->core[2] = vbd->losses;
	if (req->op == REQUEST_FLUSH)
		req->core[2] = vbd->writes;
	vbd->flying++;
	list_append(is_writer(req) ? &vbd->writing : &vbd->reading, &req->link);
	if (is_writer(req)) {
		/* ORDER 20: marked before it is written */
		if (vbd->changes)
			changes_mark(vbd->changes, req->offset, req->length);
	}
	if (partial_is(req))
		partial_start(vbd, req);
	else
		vbd->disk->ops->submit(vbd->disk, req);
}

/* Start what no longer has to wait.  A start may be over before it returns. */
static void unblock(struct vbd *vbd)
{
	vbd->unblock_again = true;
	if (vbd->unblocking)
		return;
	vbd->unblocking = true;
	while (vbd->unblock_again && vbd->gate == GATE_OPEN) {
		vbd->unblock_again = false;
		for (struct list *l = vbd->blocked.next, *next; l != &vbd->blocked; l = next) {
			struct request *req = request_of(l);

			next = l->next;
			if (must_wait(vbd, req, l))
				continue;
			list_remove(l);
			host_count(vbd, req->core[1]);
			start(vbd, req);
			/* the list may be another one now */
			vbd->unblock_again = true;
			break;
		}
	}
	vbd->unblocking = false;
}

static void keep_alone(struct vbd *vbd, struct request *req)
{
	vbd->alone += !(req->core[0] & CORE_ALONE);
	req->core[0] |= CORE_ALONE;
}

static void share_again(struct vbd *vbd, struct request *req)
{
	vbd->alone -= !!(req->core[0] & CORE_ALONE);
	req->core[0] &= ~(uint64_t)CORE_ALONE;
}

/* It has its turn and counts in the host's load. */
static void lock_and_start(struct vbd *vbd, struct request *req)
{
	if (is_writer(req)) {
		if (partial_is(req) || (req->core[0] & CORE_WITHDRAWN))
			keep_alone(vbd, req);
		if (vbd->alone && must_wait(vbd, req, &vbd->blocked)) {
			list_append(&vbd->blocked, &req->link);
			host_leave(vbd, req->core[1]);
			return;
		}
	}
	start(vbd, req);
}

/* ── tokens and turns ── */

static void take_turn(struct vbd *vbd, struct request *req)
{
	bool moves = req->op == REQUEST_READ || req->op == REQUEST_WRITE;

	req->core[1] = 1 + (moves ? req->length >> 16 : 0);
	if (!list_empty(&vbd->ready) || !host_enter(vbd, req->core[1]))
		list_append(&vbd->ready, &req->link);
	else
		lock_and_start(vbd, req);
}

bool request_turn(struct vbd *vbd)
{
	struct list *link = list_pop(&vbd->ready);

	if (link) {
		struct request *req = request_of(link);

		host_count(vbd, req->core[1]);
		lock_and_start(vbd, req);
	}
	return !list_empty(&vbd->ready);
}

/* Take tokens for @req; false: none, the timer is set. */
static bool charge(struct vbd *vbd, struct request *req)
{
	bool moves = req->op == REQUEST_READ || req->op == REQUEST_WRITE;
	uint64_t wait = throttle_take(&vbd->throttle, moves ? req->length : 0, vbd_now(vbd));

	if (wait) {
		loop_timer_set(vbd->tokens, wait);
		return false;
	}
	req->core[0] |= CORE_CHARGED;
	return true;
}

void request_tokens(void *owner)
{
	struct vbd *vbd = owner;

	while (vbd->gate == GATE_OPEN && !list_empty(&vbd->throttled)) {
		struct request *req = request_of(vbd->throttled.next);

		if (!charge(vbd, req))
			break;
		list_remove(&req->link);
		vbd->stats.throttled--;
		take_turn(vbd, req);
	}
}

static void admit(struct vbd *vbd, struct request *req)
{
	if (throttle_is_on(&vbd->throttle) && is_throttled(req) && !(req->core[0] & CORE_CHARGED)) {
		if (!list_empty(&vbd->throttled) || !charge(vbd, req)) {
			list_append(&vbd->throttled, &req->link);
			vbd->stats.throttled++;
			return;
		}
	}
	take_turn(vbd, req);
}

/* ── in and out ── */

static void hold(struct vbd *vbd, struct list *where, struct request *req)
{
	list_append(where, &req->link);
	vbd->stats.held++;
}

void vbd_submit(struct vbd *vbd, struct request *req)
{
	req->vbd = vbd;
	req->started_ns = vbd_now(vbd);
	req->err = 0;
	req->extent_count = 0;
	req->failing_ns = 0;
	req->all_zero = false;
	memset(req->core, 0, sizeof(req->core));
	vbd->stats.outstanding++;
	if (vbd->gate == GATE_SHUT) {
		finish(vbd, req, -ESHUTDOWN);
		return;
	}
	assert(number_within(req->offset, req->length, vbd->size));
	if (is_writer(req) && vbd->read_only)
		finish(vbd, req, -EROFS);
	else if (!req->length && req->op != REQUEST_FLUSH)
		finish(vbd, req, 0);
	else if (vbd->gate == GATE_HOLD)
		hold(vbd, &vbd->held, req);
	else
		admit(vbd, req);
}

/* One that was cancelled: nothing of it counts. */
static void come_back(struct vbd *vbd, struct request *req)
{
	if (vbd->gate == GATE_SHUT || (req->core[0] & CORE_WITHDRAWN)) {
		finish(vbd, req, -ESHUTDOWN);
		return;
	}
	if (vbd->gate != GATE_OPEN)
		req->failing_ns = 0; /* patience begins anew after a pause */
	hold(vbd, &vbd->returned, req);
	if (vbd->gate == GATE_OPEN)
		loop_defer(vbd->host->loop, &vbd->readmit);
}

/* A sync failed while it was with the disk: what of it the kernel had already may be lost (ORDER 5), and
 * its client, who has no answer yet, will not write it again.  We have all of it still. */
static bool was_lost(const struct vbd *vbd, const struct request *req)
{
	return is_writer(req) && req->core[2] != vbd->losses;
}

/* @err: what it ended with, perhaps because of that sync.  Then once, for its time may have run out. */
static bool may_go_again(const struct request *req, int err)
{
	return req->core[0] < (err ? 1 : TIMES_AGAIN) * CORE_AGAIN &&
	       (!err || retry_is_transient(err));
}

static void over(struct vbd *vbd, struct request *req, int err)
{
	bool writer = is_writer(req);

	assert(vbd->flying);
	vbd->flying--;
	list_remove(&req->link);
	share_again(vbd, req);
	if (writer && !list_empty(&vbd->blocked))
		unblock(vbd);
	host_leave(vbd, req->core[1]);
	if (!vbd->flying && vbd->phase == PHASE_DRAIN)
		loop_defer(vbd->host->loop, &vbd->task);
	if (err == -ECANCELED)
		come_back(vbd, req);
	else
		finish(vbd, req, err);
}

static void logged(struct changes_wait *wait)
{
	struct request *req = wait->owner;

	over(req->vbd, req, wait->err);
}

/* Does its answer say that what was written is durable? */
static bool is_promise(const struct vbd *vbd, const struct request *req)
{
	return req->op == REQUEST_FLUSH ||
	       (is_writer(req) && ((req->flags & REQUEST_FUA) || vbd->params.writethrough));
}

void vbd_client_init(const struct vbd *vbd, struct vbd_client *client, bool reads_only)
{
	bool inherits = vbd->owed && !reads_only;

	*client = (struct vbd_client){ .heard = inherits ? vbd->owed - 1 : vbd->told,
				       .reads_only = reads_only,
				       .inherits = inherits };
}

void vbd_client_left(struct vbd *vbd, const struct vbd_client *client)
{
	if (client->reads_only)
		return;
	if (client->heard != vbd->losses)
		vbd->owed = vbd->losses;
	vbd->absent = number_max(vbd->absent, client->last_write);
}

/* @client, who may be NULL, has heard of all. */
static void told(struct vbd *vbd, struct vbd_client *client)
{
	if (client && client->inherits) {
		vbd->owed = 0;
		client->inherits = false;
	}
	if (client)
		client->heard = vbd->losses;
	if (!client || !client->reads_only)
		vbd->told = vbd->losses;
}

/* ORDER 5: @err, or what a flush has to say of syncs that failed, which its client has not heard of. */
static int tell_losses(struct vbd *vbd, struct request *req, int err)
{
	struct vbd_client *client = req->client;

	if (err == -ECANCELED)
		return err;
	if (!err && vbd->losses != (client ? client->heard : vbd->told))
		err = -EIO;
	if (!err)
		vbd->flushed = number_max(vbd->flushed, req->core[2]);
	if (err && !(req->core[0] & CORE_WITHDRAWN))
		told(vbd, client);
	return err;
}

void request_over(struct vbd *vbd, struct request *req, int err)
{
	/* the disk has done with it: its place is free */
	struct changes_wait *wait = (struct changes_wait *)(void *)req->state;

	_Static_assert(sizeof(*wait) <= REQUEST_STATE_BYTES, "room in a request");
	if (err != -ECANCELED && was_lost(vbd, req)) {
		err = may_go_again(req, err) ? -ECANCELED : err ? err : -EIO;
		req->core[0] += CORE_AGAIN;
	}
	if (req->op == REQUEST_FLUSH)
		err = tell_losses(vbd, req, err);
	if (!err && vbd->changes && is_promise(vbd, req)) {
		/* ORDER 20: the bits are durable no later than what they stand for */
		*wait = (struct changes_wait){ .done = logged, .owner = req };
		if (changes_wait(vbd->changes, wait))
			return;
	}
	over(vbd, req, err);
}

void request_completed(struct disk *disk, struct request *req, int err)
{
	if (!partial_completed(req, err))
		request_over(disk->owner, req, err);
}

/* ── the gate ── */

static unsigned count(const struct list *list)
{
	unsigned n = 0;

	for (const struct list *l = list->next; l != list; l = l->next)
		n++;
	return n;
}

static bool is_withdrawn(const struct request *req, const struct vbd_client *client)
{
	(void)client;
	return req->core[0] & CORE_WITHDRAWN;
}

static bool is_of(const struct request *req, const struct vbd_client *client)
{
	return req->client == client;
}

/* Those of @held, a list of held ones, that nobody waits for end. */
static void drop(struct vbd *vbd, struct list *held,
		 bool (*unwanted)(const struct request *req, const struct vbd_client *client),
		 const struct vbd_client *client)
{
	struct list gone, *next;

	list_init(&gone);
	for (struct list *l = held->next; l != held; l = next) {
		next = l->next;
		if (!unwanted(request_of(l), client))
			continue;
		list_remove(l);
		list_append(&gone, l);
		vbd->stats.held--;
	}
	while ((next = list_pop(&gone)))
		finish(vbd, request_of(next), -ESHUTDOWN);
}

/* Mark those of @client in @list, and keep writers @alone.  True: some were not marked before. */
static bool mark(struct vbd *vbd, const struct list *list, const struct vbd_client *client,
		 bool alone)
{
	bool any = false;

	for (const struct list *l = list->next; l != list; l = l->next) {
		struct request *req = list_entry(l, struct request, link);

		if (!is_of(req, client) || (req->core[0] & CORE_WITHDRAWN))
			continue;
		req->core[0] |= CORE_WITHDRAWN;
		if (alone && is_writer(req))
			keep_alone(vbd, req);
		any = true;
	}
	return any;
}

static bool any_withdrawn(const struct list *list)
{
	for (const struct list *l = list->next; l != list; l = l->next)
		if (list_entry(l, struct request, link)->core[0] & CORE_WITHDRAWN)
			return true;
	return false;
}

void request_withdrawal(void *owner)
{
	struct vbd *vbd = owner;

	vbd->quiet = false;
	if (vbd->stalled && vbd->retry && !retry_reason(vbd->retry))
		vbd_stalled(vbd, 0);
	if (!any_withdrawn(&vbd->writing) && !any_withdrawn(&vbd->reading))
		return;
	if (vbd->gate == GATE_OPEN && retry_reason(vbd->retry)) {
		/* what waits in the retry comes back; that of others is admitted again */
		vbd->quiet = true;
		vbd_cancel_stalled(vbd);
	}
	/* the storage may come to fail yet */
	loop_timer_set(vbd->withdrawal, WITHDRAWAL_NS);
}

void vbd_withdraw(struct vbd *vbd, const struct vbd_client *client)
{
	bool flying;

	mark(vbd, &vbd->throttled, client, false);
	mark(vbd, &vbd->ready, client, false);
	mark(vbd, &vbd->blocked, client, true);
	flying = mark(vbd, &vbd->writing, client, true);
	flying |= mark(vbd, &vbd->reading, client, false);
	if (flying)
		request_withdrawal(vbd);
	drop(vbd, &vbd->returned, is_of, client);
	drop(vbd, &vbd->held, is_of, client);
}

void request_hold_all(struct vbd *vbd)
{
	struct list all;

	list_init(&all);
	for (struct list *l = vbd->blocked.next; l != &vbd->blocked; l = l->next)
		share_again(vbd, request_of(l));
	list_splice(&all, &vbd->blocked);
	list_splice(&all, &vbd->ready);
	list_splice(&all, &vbd->throttled);
	vbd->stats.held += count(&all);
	vbd->stats.throttled = 0;
	list_splice(&all, &vbd->held);
	list_splice(&vbd->held, &all);
	host_forget_turn(vbd);
	loop_timer_cancel(vbd->tokens);
	vbd->gate = GATE_HOLD;
	drop(vbd, &vbd->held, is_withdrawn, NULL);
}

/* All that is held, what came back first. */
static void take_held(struct vbd *vbd, struct list *all)
{
	list_init(all);
	list_splice(all, &vbd->returned);
	list_splice(all, &vbd->held);
	vbd->stats.held = 0;
}

void request_admit_all(struct vbd *vbd)
{
	struct list all, *l;

	vbd->gate = GATE_OPEN;
	take_held(vbd, &all);
	while ((l = list_pop(&all)))
		admit(vbd, request_of(l));
}

void request_fail_all(struct vbd *vbd)
{
	struct list all, *l;

	vbd->gate = GATE_SHUT;
	take_held(vbd, &all);
	while ((l = list_pop(&all)))
		finish(vbd, request_of(l), -ESHUTDOWN);
}

static void readmit(struct loop_task *task)
{
	struct vbd *vbd = list_entry(task, struct vbd, readmit);

	if (vbd->gate == GATE_OPEN)
		request_admit_all(vbd);
}

void request_init(struct vbd *vbd)
{
	list_init(&vbd->held);
	list_init(&vbd->returned);
	list_init(&vbd->throttled);
	list_init(&vbd->ready);
	list_init(&vbd->blocked);
	list_init(&vbd->writing);
	list_init(&vbd->reading);
	list_init(&vbd->turn);
	vbd->readmit = (struct loop_task){ .run = readmit };
}
