/* aio.c - the libaio back end: direct I/O by io_submit, all else in threads
 *
 * io_submit blocks in the loop for whatever is not direct, so buffered files go
 * to threads altogether; SYNC goes to one where the file system cannot do it here.
 */
#include <errno.h>
#include <libaio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine-private.h"

#define REAP_MAX 64

struct aio {
	io_context_t context;
	int event_fd;
	struct loop_fd *watch;
	struct loop_timer *again;
	struct engine *engine;
	struct iocb *iocbs;    /* one a transfer */
	struct iocb **started; /* not submitted yet */
	unsigned started_count;
	unsigned in_kernel;
	bool no_fdsync;
};

#define RETRY_NS 1000000u

static void event_ready(void *owner, unsigned events)
{
	struct aio *a = owner;
	uint64_t count;

	(void)events;
	if (read(a->event_fd, &count, sizeof(count)) == sizeof(count))
		engine_wake(a->engine);
}

static void try_again(void *owner)
{
	struct aio *a = owner;

	engine_wake(a->engine);
}

static int aio_open(struct engine *engine)
{
	struct aio *a = calloc(1, sizeof(*a));
	unsigned width = engine_width(engine);
	int rc;

	engine->state = a;
	if (!a)
		return -ENOMEM;
	a->engine = engine;
	a->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (a->event_fd < 0)
		return -errno;
	a->iocbs = calloc(width, sizeof(*a->iocbs));
	a->started = calloc(width, sizeof(*a->started));
	if (!a->iocbs || !a->started)
		return -ENOMEM;
	for (unsigned i = 0; i < engine->depth; i++)
		engine->transfers[i].slot = &a->iocbs[i];
	for (unsigned i = 0; i < STEPS_MAX; i++)
		engine->steps[i].t.slot = &a->iocbs[engine->depth + i];
	rc = io_setup((int)width, &a->context);
	if (rc < 0)
		return rc;
	rc = loop_timer_open(engine->loop, try_again, a, &a->again);
	if (rc == 0)
		rc = loop_fd_open(engine->loop, a->event_fd, event_ready, a, &a->watch);
	if (rc == 0)
		loop_fd_watch(a->watch, LOOP_READ);
	return rc;
}

static void aio_close(struct engine *engine)
{
	struct aio *a = engine->state;

	if (!a)
		return;
	loop_fd_close(a->watch);
	loop_timer_close(a->again);
	if (a->context)
		io_destroy(a->context);
	if (a->event_fd >= 0)
		close(a->event_fd);
	free(a->started);
	free(a->iocbs);
	free(a);
	engine->state = NULL;
}

static bool for_kernel(const struct aio *a, const struct transfer *t)
{
	if (!t->file->direct)
		return false;
	return t->op == ENGINE_READ || t->op == ENGINE_WRITE ||
	       (t->op == ENGINE_SYNC && !a->no_fdsync);
}

static void aio_start(struct engine *engine, struct transfer *t)
{
	struct aio *a = engine->state;
	struct iocb *cb = t->slot;

	if (!for_kernel(a, t)) {
		worker_start(t);
		return;
	}
	if (t->op == ENGINE_READ)
		io_prep_preadv(cb, t->fd, t->iov, (int)t->iov_count, (long long)t->offset);
	else if (t->op == ENGINE_WRITE)
		io_prep_pwritev(cb, t->fd, t->iov, (int)t->iov_count, (long long)t->offset);
	else
		io_prep_fdsync(cb, t->fd);
	io_set_eventfd(cb, a->event_fd);
	cb->data = t;
	a->started[a->started_count++] = cb;
}

static void result(struct aio *a, struct iocb *cb, int64_t res)
{
	struct transfer *t = cb->data;

	if (t->op == ENGINE_SYNC && (res == -EINVAL || res == -ENOSYS || res == -EOPNOTSUPP)) {
		a->no_fdsync = true;
		worker_start(t);
		return;
	}
	transfer_result(t, res);
}

static void drop_started(struct aio *a, unsigned count)
{
	a->started_count -= count;
	for (unsigned i = 0; i < a->started_count; i++)
		a->started[i] = a->started[i + count];
}

/* True: go on. */
static bool submit(struct aio *a)
{
	struct iocb *first = a->started[0];
	int rc = io_submit(a->context, a->started_count, a->started);

	if (rc > 0) {
		a->in_kernel += (unsigned)rc;
		drop_started(a, (unsigned)rc);
		return true;
	}
	if (rc == 0 || rc == -EAGAIN || rc == -EINTR) {
		loop_timer_set(a->again, RETRY_NS);
		return false;
	}
	drop_started(a, 1); /* the first one is what it does not like */
	result(a, first, rc);
	return true;
}

static void reap(struct aio *a)
{
	struct io_event events[REAP_MAX];
	struct timespec none = { 0, 0 };
	int n;

	do {
		n = a->in_kernel ? io_getevents(a->context, 0, REAP_MAX, events, &none) : 0;
		for (int i = 0; i < n; i++) {
			a->in_kernel--;
			result(a, events[i].obj, (int64_t)(long)events[i].res);
		}
	} while (n == REAP_MAX);
}

static void aio_flush(struct engine *engine)
{
	struct aio *a = engine->state;
	bool go_on = true;

	do {
		while (a->started_count && go_on)
			go_on = submit(a);
		reap(a);
	} while (a->started_count && go_on);
}

const struct engine_backend engine_aio = {
	.name = "libaio",
	.open = aio_open,
	.close = aio_close,
	.start = aio_start,
	.flush = aio_flush,
};
