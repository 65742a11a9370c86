/* loop.c - turns of the event loop, its clock, and the tasks put off to the end of a turn
 *
 * One turn of libuv: timers, then "prepare" handles, then poll (sleep, then
 * callbacks of descriptors, signals and finished work).  The tasks run in
 * "prepare": after everything that happened, before the loop sleeps again.
 *
 *  L1  with no task queued, no timer set, no event and none expected, the loop sleeps for ever
 *  L2  tasks that keep putting off others cannot starve descriptors: after
 *      TASKS_PER_TURN of them the loop looks for events without sleeping, then
 *      goes on
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "loop-private.h"

/* One of them may be a batch of dozens of writes that complete at once. */
#define TASKS_PER_TURN 16
/* Opening, locking and fallback I/O of many disks; threads that do nothing cost nothing. */
#define WORK_THREADS "16"

static void run_tasks(uv_prepare_t *handle)
{
	struct loop *loop = handle->data;

	for (int i = 0; i < TASKS_PER_TURN && loop->first; i++) {
		struct loop_task *task = loop->first;

		loop->first = task->next;
		if (!loop->first)
			loop->last = &loop->first;
		task->next = NULL;
		task->queued = false;
		loop->now_ns = 0;
		task->run(task);
	}
	loop->now_ns = 0;
}

/* Nothing to do: that it is active keeps the loop from sleeping. */
static void stay_awake(uv_idle_t *handle)
{
	uv_idle_stop(handle);
}

static bool event_is_near(struct loop *loop)
{
	bool near;

	if (!loop->spin.since_ns)
		return false;
	near = spin_goes_on(&loop->spin, loop_now_ns(loop));
	loop->now_ns = 0; /* the callbacks of events are later */
	return near;
}

/* Left-over tasks (L2) and an event that is near must keep poll from sleeping: libuv looks at idle handles only after
 * "prepare" ran, so it is decided here. */
static void before_sleep(uv_prepare_t *handle)
{
	struct loop *loop = handle->data;

	run_tasks(handle);
	if (loop->first || event_is_near(loop))
		uv_idle_start(&loop->no_sleep, stay_awake);
}

int loop_open(struct loop **out)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int rc;

	if (!loop)
		return -ENOMEM;
	loop->last = &loop->first;
	setenv("UV_THREADPOOL_SIZE", WORK_THREADS, 0); /* read when the first work starts */
	rc = uv_loop_init(&loop->uv);
	if (rc < 0) {
		free(loop);
		return rc; /* libuv's codes are -errno here */
	}
	uv_prepare_init(&loop->uv, &loop->before_sleep);
	uv_idle_init(&loop->uv, &loop->no_sleep);
	loop->before_sleep.data = loop;
	uv_prepare_start(&loop->before_sleep, before_sleep);
	*out = loop;
	return 0;
}

static void must_be_closing(uv_handle_t *handle, void *arg)
{
	(void)arg;
	assert(uv_is_closing(handle));
}

void loop_close(struct loop *loop)
{
	int rc;

	if (!loop)
		return;
	uv_close((uv_handle_t *)&loop->before_sleep, NULL);
	uv_close((uv_handle_t *)&loop->no_sleep, NULL);
	uv_walk(&loop->uv, must_be_closing, NULL);
	/* the close callbacks of all objects, and work still in its thread */
	uv_run(&loop->uv, UV_RUN_DEFAULT);
	rc = uv_loop_close(&loop->uv);
	assert(rc == 0);
	(void)rc;
	work_release(loop);
	free(loop);
}

void loop_run(struct loop *loop)
{
	loop->running = true;
	loop->now_ns = 0;
	uv_run(&loop->uv, UV_RUN_DEFAULT);
	loop->running = false;
}

void loop_stop(struct loop *loop)
{
	uv_stop(&loop->uv);
}

uint64_t loop_now_ns(const struct loop *loop)
{
	struct timespec ts;
	uint64_t now_ns;

	if (loop->running && loop->now_ns)
		return loop->now_ns;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	now_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	((struct loop *)loop)->now_ns = now_ns; /* a cache */
	return now_ns;
}

void loop_spin(struct loop *loop, uint64_t max_ns)
{
	loop->spin = (struct spin){ .max_ns = max_ns };
}

void loop_expect(struct loop *loop)
{
	if (loop->spin.max_ns)
		spin_expect(&loop->spin, loop_now_ns(loop));
}

void loop_event(struct loop *loop)
{
	if (!loop->spin.since_ns)
		return;
	loop->now_ns = 0; /* that of before the sleep */
	spin_event(&loop->spin);
}

void loop_defer(struct loop *loop, struct loop_task *task)
{
	if (task->queued)
		return;
	task->queued = true;
	task->next = NULL;
	*loop->last = task;
	loop->last = &task->next;
}

void loop_undefer(struct loop *loop, struct loop_task *task)
{
	struct loop_task **at = &loop->first;

	if (!task->queued)
		return;
	while (*at != task)
		at = &(*at)->next;
	*at = task->next;
	if (loop->last == &task->next)
		loop->last = at;
	task->next = NULL;
	task->queued = false;
}
