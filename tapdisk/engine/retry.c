/* retry.c - operations that failed for a time wait here, with their buffers
 *
 *            retry_hold                   timer, retry_now
 *   engine ─────────────► waiting ──────────────────────────► engine again
 *                            │ retry_abort                     │        │
 *                            ▼                                 ▼        ▼
 *                        -ECANCELED                     held again   done: got through,
 *                                                                    or gave up
 *
 * One timer for all: 10 ms after the first began to wait, then doubling to 1 s while any is
 * stalled.  An operation is stalled from its first failure until it is done; its done() is ours
 * meanwhile, so nothing need tell us of successes and this works over any engine.
 *
 *  R1  while nothing is stalled no timer is set
 *  R2  done() of a caller is never called from retry_hold, retry_now or retry_abort
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "libvhd/base/number.h"
#include "retry.h"

#define DELAY_FIRST_NS UINT64_C(10000000)
#define DELAY_MAX_NS   UINT64_C(1000000000)
#define SOON_NS	       UINT64_C(10000000000)

struct retry {
	struct loop *loop;
	struct engine *engine;
	struct retry_params params;
	struct loop_timer *timer;
	struct loop_task cancel;
	struct list waiting;   /* for the timer */
	struct list cancelled; /* for the task */
	unsigned waiting_count, trying_count;
	uint64_t delay_ns, count;
	int reason;
	bool aborted;
	unsigned epoch;			   /* > 0 */
	uint64_t since_ns, told_ns;	   /* of the stall: begin, last too_long */
	uint64_t carry_ns, carry_until_ns; /* retry_resume_stalled */
	uint64_t carry_told_ns, carry_told_until_ns;
};

bool retry_is_transient(int err)
{
	switch (err < 0 ? -err : err) {
	case EIO:
	case ENOSPC:
	case EDQUOT:
	case ESTALE:
	case ETIMEDOUT:
	case EAGAIN:
	case EINTR:
	case ENOMEM: /* of the kernel's, for this moment */
	case ENOBUFS:
	case EBUSY:
	case ENODEV: /* a device set off line: it may be set on again */
	/* the network on the way to the store */
	case ENETUNREACH:
	case ENETDOWN:
	case ENETRESET:
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case ECONNRESET:
	case ECONNREFUSED:
	case ECONNABORTED:
	case ENOTCONN:
	case EPIPE:
	case ENOLINK:	/* the block layer's: transport */
	case EREMOTEIO: /* target */
		return true;
	default:
		/* what is wrong with the request, the file's format or reach stays wrong */
		return false;
	}
}

/* ── states ── */

/* When an operation that fails now for the first time began to fail. */
static uint64_t since(const struct retry *retry)
{
	uint64_t now = loop_now_ns(retry->loop);

	return now < retry->carry_until_ns ? retry->carry_ns : now;
}

static void begin_stall(struct retry *retry, int err)
{
	bool first = retry->reason == 0;

	retry->reason = err;
	if (!first)
		return;
	retry->delay_ns = DELAY_FIRST_NS;
	retry->told_ns = loop_now_ns(retry->loop);
	if (retry->told_ns < retry->carry_told_until_ns)
		retry->told_ns = retry->carry_told_ns;
	retry->since_ns = since(retry);
	if (retry->params.stalled)
		retry->params.stalled(retry->params.owner, err);
}

static void end_stall(struct retry *retry)
{
	if (retry->reason == 0 || retry->waiting_count || retry->trying_count)
		return;
	retry->reason = 0;
	loop_timer_cancel(retry->timer);
	if (retry->params.stalled)
		retry->params.stalled(retry->params.owner, 0);
}

static uint64_t deadline(const struct retry *retry, const struct engine_io *io)
{
	uint64_t at;

	return number_add(io->since_ns, retry->params.time_ns, &at) ? at : UINT64_MAX;
}

/* In the back-off's time, but not later than the first of them may give up. */
static void set_timer(struct retry *retry)
{
	uint64_t now = loop_now_ns(retry->loop), delay = retry->delay_ns;

	for (struct list *l = retry->waiting.next; l != &retry->waiting; l = l->next) {
		uint64_t at = deadline(retry, list_entry(l, struct engine_io, link));

		delay = number_min(delay, at > now ? at - now : 0);
	}
	loop_timer_set(retry->timer, delay);
}

/* An operation tried again is done, one way or the other. */
static void tried_done(struct engine_io *io)
{
	struct retry *retry = io->retry;

	io->done = io->retry_done;
	retry->trying_count--;
	if (!io->err)
		retry->carry_until_ns = 0;
	end_stall(retry);
	io->done(io);
}

static void fire(void *owner)
{
	struct retry *retry = owner;
	uint64_t now = loop_now_ns(retry->loop);

	retry->delay_ns = number_min(retry->delay_ns * 2, DELAY_MAX_NS);
	retry_now(retry);
	if (retry->params.long_ns && now - retry->told_ns >= retry->params.long_ns) {
		retry->told_ns = now;
		retry->params.too_long(retry->params.owner);
	}
}

void retry_now(struct retry *retry)
{
	struct list *link;

	loop_timer_cancel(retry->timer);
	while ((link = list_pop(&retry->waiting))) {
		retry->waiting_count--;
		retry->trying_count++;
		retry->count++;
		engine_submit(retry->engine, list_entry(link, struct engine_io, link));
	}
}

bool retry_hold(struct retry *retry, struct engine_io *io, int err)
{
	bool again = io->done == tried_done;

	if (io->op == ENGINE_SYNC || !retry_is_transient(err)) /* ORDER 5 */
		return false;
	if (!again) {
		if (retry->params.time_ns == 0)
			return false;
		io->since_ns = io->failing_ns ? io->failing_ns : since(retry);
		io->retry_done = io->done;
		io->done = tried_done;
	} else if (loop_now_ns(retry->loop) >= deadline(retry, io)) {
		return false; /* tried_done reports it */
	} else {
		retry->trying_count--;
	}
	io->err = err;
	retry->waiting_count++;
	begin_stall(retry, err);
	if (retry->aborted || (io->retry_epoch && io->retry_epoch != retry->epoch)) {
		list_append(&retry->cancelled, &io->link);
		loop_defer(retry->loop, &retry->cancel);
		return true;
	}
	list_append(&retry->waiting, &io->link);
	if (!loop_timer_is_set(retry->timer))
		set_timer(retry);
	return true;
}

/* ── abort ── */

static void cancel_run(struct loop_task *task)
{
	struct retry *retry = list_entry(task, struct retry, cancel);
	struct list *link;

	while ((link = list_pop(&retry->cancelled))) {
		struct engine_io *io = list_entry(link, struct engine_io, link);

		io->err = -ECANCELED;
		retry->waiting_count--;
		retry->trying_count++;
		tried_done(io);
	}
}

void retry_abort(struct retry *retry)
{
	retry->aborted = true;
	retry->epoch++;
	if (!retry->epoch)
		retry->epoch = 1;
	loop_timer_cancel(retry->timer);
	if (list_empty(&retry->waiting))
		return;
	list_splice(&retry->cancelled, &retry->waiting);
	loop_defer(retry->loop, &retry->cancel);
}

void retry_resume_stalled(struct retry *retry)
{
	retry->carry_ns = retry->since_ns;
	retry->carry_until_ns = loop_now_ns(retry->loop) + SOON_NS;
	retry_resume(retry);
}

void retry_resume_withdrawn(struct retry *retry)
{
	if (retry->reason) {
		retry->carry_told_ns = retry->told_ns;
		retry->carry_told_until_ns = loop_now_ns(retry->loop) + SOON_NS;
	}
	retry_resume(retry);
}

void retry_resume(struct retry *retry)
{
	retry->aborted = false;
}

bool retry_is_aborted(const struct retry *retry)
{
	return retry->aborted;
}

unsigned retry_epoch(const struct retry *retry)
{
	return retry->epoch;
}

/* ── the rest ── */

int retry_open(struct loop *loop, struct engine *engine, const struct retry_params *params,
	       struct retry **out)
{
	struct retry *retry = calloc(1, sizeof(*retry));
	int rc;

	if (!retry)
		return -ENOMEM;
	retry->loop = loop;
	retry->engine = engine;
	retry->params = *params;
	retry->cancel.run = cancel_run;
	retry->epoch = 1;
	list_init(&retry->waiting);
	list_init(&retry->cancelled);
	rc = loop_timer_open(loop, fire, retry, &retry->timer);
	if (rc < 0) {
		free(retry);
		return rc;
	}
	*out = retry;
	return 0;
}

void retry_close(struct retry *retry)
{
	if (!retry)
		return;
	assert(!retry->waiting_count && !retry->trying_count);
	loop_timer_close(retry->timer);
	free(retry);
}

void retry_set_time(struct retry *retry, uint64_t time_ns)
{
	retry->params.time_ns = time_ns;
	if (!list_empty(&retry->waiting))
		set_timer(retry);
}

unsigned retry_waiting(const struct retry *retry)
{
	return retry->waiting_count + retry->trying_count;
}

uint64_t retry_count(const struct retry *retry)
{
	return retry->count;
}

int retry_reason(const struct retry *retry)
{
	return retry->reason;
}
