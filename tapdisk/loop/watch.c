/* watch.c - descriptors, timers and signals of the loop
 *
 * Each object is one libuv handle; its memory is freed by the handle's close
 * callback, at the end of the turn in which it was closed.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "loop-private.h"

#define NS_PER_MS 1000000u

/* ── descriptors ── */

struct loop_fd {
	uv_poll_t uv; /* first: freed through it */
	unsigned watched;
	void (*ready)(void *owner, unsigned events); /* NULL: closed */
	void *owner;
};

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

static void poll_event(uv_poll_t *handle, int status, int events);

static void poll_arm(struct loop_fd *fd)
{
	int events = (fd->watched & LOOP_READ ? UV_READABLE : 0) |
		     (fd->watched & LOOP_WRITE ? UV_WRITABLE : 0) |
		     (fd->watched & LOOP_LEFT ? UV_DISCONNECT : 0);

	if (events)
		uv_poll_start(&fd->uv, events, poll_event);
	else
		uv_poll_stop(&fd->uv);
}

static void poll_event(uv_poll_t *handle, int status, int events)
{
	struct loop_fd *fd = (struct loop_fd *)handle;
	unsigned got = (events & UV_READABLE ? LOOP_READ : 0u) |
		       (events & UV_WRITABLE ? LOOP_WRITE : 0u) |
		       (events & UV_DISCONNECT ? LOOP_LEFT : 0u);

	loop_event(handle->data);
	if (status < 0)
		got = fd->watched;
	got &= fd->watched;
	if (got)
		fd->ready(fd->owner, got);
	/* after an error libuv has stopped watching; we promised level semantics */
	if (status < 0 && fd->ready && fd->watched)
		poll_arm(fd);
}

int loop_fd_open(struct loop *loop, int fd, void (*ready)(void *owner, unsigned events),
		 void *owner, struct loop_fd **out)
{
	struct loop_fd *f = calloc(1, sizeof(*f));
	int rc;

	if (!f)
		return -ENOMEM;
	rc = uv_poll_init(&loop->uv, &f->uv, fd);
	if (rc < 0) {
		free(f);
		return rc;
	}
	f->uv.data = loop;
	f->ready = ready;
	f->owner = owner;
	/* libuv's table of descriptors grows on the first start: have that now */
	rc = uv_poll_start(&f->uv, UV_READABLE, poll_event);
	if (rc < 0) {
		loop_fd_close(f);
		return rc;
	}
	uv_poll_stop(&f->uv);
	*out = f;
	return 0;
}

void loop_fd_watch(struct loop_fd *fd, unsigned events)
{
	if (fd->watched == events)
		return;
	fd->watched = events;
	poll_arm(fd);
}

void loop_fd_close(struct loop_fd *fd)
{
	if (!fd)
		return;
	fd->watched = 0;
	fd->ready = NULL;
	uv_close((uv_handle_t *)&fd->uv, free_handle);
}

/* ── timers ── */

struct loop_timer {
	uv_timer_t uv; /* first */
	void (*fire)(void *owner);
	void *owner;
};

int loop_timer_open(struct loop *loop, void (*fire)(void *owner), void *owner,
		    struct loop_timer **out)
{
	struct loop_timer *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	uv_timer_init(&loop->uv, &t->uv);
	t->uv.data = loop;
	t->fire = fire;
	t->owner = owner;
	*out = t;
	return 0;
}

static void timer_event(uv_timer_t *handle)
{
	struct loop_timer *t = (struct loop_timer *)handle;
	struct loop *loop = handle->data;

	loop->now_ns = 0;
	t->fire(t->owner);
}

void loop_timer_set(struct loop_timer *timer, uint64_t delay_ns)
{
	struct loop *loop = timer->uv.data;
	uint64_t due_ns, due_ms, now_ms = uv_now(&loop->uv);

	/* libuv counts whole milliseconds of the same clock, as of its last look at it: by
	 * the absolute time, rounded up, it never fires early */
	if (__builtin_add_overflow(loop_now_ns(loop), delay_ns, &due_ns))
		due_ns = UINT64_MAX;
	due_ms = due_ns / NS_PER_MS + (due_ns % NS_PER_MS != 0);
	/* at least 1: a timer that sets itself again with 0 would keep libuv in its timers */
	uv_timer_start(&timer->uv, timer_event, due_ms > now_ms ? due_ms - now_ms : 1, 0);
}

void loop_timer_cancel(struct loop_timer *timer)
{
	uv_timer_stop(&timer->uv);
}

bool loop_timer_is_set(const struct loop_timer *timer)
{
	return uv_is_active((const uv_handle_t *)&timer->uv);
}

void loop_timer_close(struct loop_timer *timer)
{
	if (timer)
		uv_close((uv_handle_t *)&timer->uv, free_handle);
}

/* ── signals ── */

struct loop_signal {
	uv_signal_t uv; /* first */
	void (*caught)(void *owner);
	void *owner;
};

static void signal_event(uv_signal_t *handle, int number)
{
	struct loop_signal *s = (struct loop_signal *)handle;

	(void)number;
	s->caught(s->owner);
}

int loop_signal_open(struct loop *loop, int number, void (*caught)(void *owner), void *owner,
		     struct loop_signal **out)
{
	struct loop_signal *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return -ENOMEM;
	rc = uv_signal_init(&loop->uv, &s->uv);
	if (rc < 0) {
		free(s);
		return rc;
	}
	s->caught = caught;
	s->owner = owner;
	rc = uv_signal_start(&s->uv, signal_event, number);
	if (rc < 0) {
		loop_signal_close(s);
		return rc;
	}
	*out = s;
	return 0;
}

void loop_signal_close(struct loop_signal *signal)
{
	if (signal)
		uv_close((uv_handle_t *)&signal->uv, free_handle);
}
