/* sim.c - simulated loop and engine */
#include "sim.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/number.h"
#include "libvhd/io.h"
#include "store.h"
#include "tapdisk/engine/retry.h"

struct loop {
	uint64_t now;
	struct loop_task *tasks, **tasks_end;
	struct list timers, works;
};

struct loop_timer {
	struct list link; /* of loop->timers, always */
	bool set;
	uint64_t at;
	void (*fire)(void *owner);
	void *owner;
};

struct engine_file {
	uint64_t losses;
	struct list link;
	struct vhd_io *io;
};

struct engine {
	struct list flying; /* engine_io.link */
	unsigned count;
	struct list files;
};

static struct world {
	struct rng *rng;
	struct loop loop;
	struct engine engine;
	unsigned per_mille;
	bool sync_faults;
} w;

struct work_link {
	struct list link;
	struct loop_work *work;
	bool worked; /* not yet told */
};

enum { IO_WAITS, IO_PERFORMED, IO_SHARED }; /* engine_io.state[0] */

void sim_open(struct rng *rng, struct loop **loop, struct engine **engine)
{
	w.rng = rng;
	w.loop = (struct loop){ .now = 1000000000ull };
	w.loop.tasks_end = &w.loop.tasks;
	list_init(&w.loop.timers);
	list_init(&w.loop.works);
	list_init(&w.engine.flying);
	list_init(&w.engine.files);
	w.engine.count = 0;
	w.per_mille = 0;
	w.sync_faults = false;
	*loop = &w.loop;
	*engine = &w.engine;
}

void sim_close(void)
{
	struct list *l;

	assert(!w.engine.count && list_empty(&w.loop.works) && list_empty(&w.loop.timers));
	while ((l = list_pop(&w.engine.files)))
		free(list_entry(l, struct engine_file, link));
}

unsigned sim_flying(void)
{
	return w.engine.count;
}

void sim_faults(unsigned per_mille)
{
	w.per_mille = per_mille;
}

void sim_sync_faults(bool on)
{
	w.sync_faults = on;
}

/* ── loop.h ── */

uint64_t loop_now_ns(const struct loop *loop)
{
	return loop->now;
}

int loop_timer_open(struct loop *loop, void (*fire)(void *owner), void *owner,
		    struct loop_timer **out)
{
	struct loop_timer *t = calloc(1, sizeof(*t));

	t->fire = fire;
	t->owner = owner;
	list_append(&loop->timers, &t->link);
	*out = t;
	return 0;
}

void loop_timer_set(struct loop_timer *t, uint64_t delay_ns)
{
	t->set = true;
	t->at = w.loop.now + delay_ns;
}

void loop_timer_cancel(struct loop_timer *t)
{
	t->set = false;
}

bool loop_timer_is_set(const struct loop_timer *t)
{
	return t->set;
}

void loop_timer_close(struct loop_timer *t)
{
	if (!t)
		return;
	list_remove(&t->link);
	free(t);
}

void loop_defer(struct loop *loop, struct loop_task *task)
{
	if (task->queued)
		return;
	task->queued = true;
	task->next = NULL;
	*loop->tasks_end = task;
	loop->tasks_end = &task->next;
}

void loop_undefer(struct loop *loop, struct loop_task *task)
{
	struct loop_task **p = &loop->tasks;

	if (!task->queued)
		return;
	while (*p != task)
		p = &(*p)->next;
	*p = task->next;
	if (!*p)
		loop->tasks_end = p;
	task->queued = false;
}

int loop_work_start(struct loop *loop, struct loop_work *work)
{
	struct work_link *l = calloc(1, sizeof(*l));

	l->work = work;
	list_append(&loop->works, &l->link);
	return 0;
}

/* ── engine.h ── */

struct engine_file *sim_file(struct vhd_io *io)
{
	struct engine_file *f = calloc(1, sizeof(*f));

	f->io = io;
	list_append(&w.engine.files, &f->link);
	return f;
}

int engine_file_open(struct engine *engine, const struct engine_file_params *params,
		     struct engine_file **out)
{
	(void)engine;
	*out = sim_file(store_io(params->fd));
	return 0;
}

uint64_t engine_file_losses(const struct engine_file *file)
{
	return file->losses;
}

bool engine_file_in_memory(const struct engine_file *file)
{
	(void)file;
	return rng_chance(w.rng, 50);
}

void engine_file_renew(struct engine_file *file)
{
	(void)file;
}

void engine_file_close(struct engine_file *file)
{
	if (!file)
		return;
	list_remove(&file->link);
	free(file);
}

void engine_submit(struct engine *engine, struct engine_io *io)
{
	io->state[0] = IO_WAITS;
	list_append(&engine->flying, &io->link);
	engine->count++;
}

/* Behind the end of the file: zeros. */
static int read_some(struct vhd_io *f, struct engine_io *io)
{
	uint64_t size, have;
	int rc = io_size(f, &size);

	if (rc < 0)
		return rc;
	have = io->offset < size ? number_min(io->length, size - io->offset) : 0;
	memset((uint8_t *)io->buf + have, 0, io->length - have);
	return have ? io_read(f, io->buf, have, io->offset) : 0;
}

static int perform(struct engine_io *io)
{
	struct vhd_io *f = io->file->io;

	if (w.per_mille && rng_below(w.rng, 1000) < w.per_mille && io->op == ENGINE_SYNC &&
	    w.sync_faults)
		mem_io_fail(f, rng_chance(w.rng, 50) ? -EIO :
						       -ENOSPC); /* and what it covers is lost */
	else if (w.per_mille && rng_below(w.rng, 1000) < w.per_mille && io->op != ENGINE_SYNC)
		return rng_chance(w.rng, 50) ? -EIO : -ENOSPC;
	switch (io->op) {
	case ENGINE_READ:
		return read_some(f, io);
	case ENGINE_WRITE:
		return io_write(f, io->buf, io->length, io->offset);
	case ENGINE_SYNC:
		return io_sync(f);
	case ENGINE_PUNCH:
		return io_punch(f, io->offset, io->length);
	case ENGINE_ZERO:
		return io_zero(f, io->offset, io->length);
	case ENGINE_TRUNCATE:
		return io_truncate(f, io->offset);
	}
	return -EINVAL;
}

/* As engine.h says: is another sync of that file not told yet? */
static bool sync_waits(const struct engine_io *io)
{
	for (struct list *l = w.engine.flying.next; l != &w.engine.flying; l = l->next) {
		const struct engine_io *other = list_entry(l, struct engine_io, link);

		if (other->op == ENGINE_SYNC && other->file == io->file &&
		    other->state[0] == IO_PERFORMED)
			return true;
	}
	return false;
}

/* Others that came since fail with it. */
static void share_failure(const struct engine_io *io)
{
	for (struct list *l = w.engine.flying.next; l != &w.engine.flying; l = l->next) {
		struct engine_io *other = list_entry(l, struct engine_io, link);

		if (other->op == ENGINE_SYNC && other->file == io->file) {
			other->state[0] = IO_SHARED;
			other->err = io->err;
		}
	}
}

/* What is done may be told much later, and others come between. */
static void complete_one(void)
{
	uint64_t n = rng_below(w.rng, w.engine.count);
	struct list *l = w.engine.flying.next;
	struct engine_io *io;

	while (n--)
		l = l->next;
	io = list_entry(l, struct engine_io, link);
	if (io->state[0] == IO_WAITS && io->op == ENGINE_SYNC && sync_waits(io))
		return;
	if (io->state[0] == IO_WAITS) {
		io->err = perform(io);
		io->state[0] = IO_PERFORMED;
		if (rng_chance(w.rng, 50))
			return;
	}
	list_remove(l);
	w.engine.count--;
	if (io->err && io->op == ENGINE_SYNC && io->state[0] == IO_PERFORMED) {
		io->file->losses++;
		share_failure(io);
	}
	if (io->err && io->retry && retry_hold(io->retry, io, io->err))
		return;
	io->done(io);
}

static bool fire_timer(void)
{
	struct loop_timer *first = NULL;

	for (struct list *l = w.loop.timers.next; l != &w.loop.timers; l = l->next) {
		struct loop_timer *t = list_entry(l, struct loop_timer, link);

		if (t->set && (!first || t->at < first->at))
			first = t;
	}
	if (!first)
		return false;
	if (first->at > w.loop.now)
		w.loop.now = first->at;
	first->set = false;
	first->fire(first->owner);
	return true;
}

static void do_work(void)
{
	struct work_link *l = list_entry(w.loop.works.next, struct work_link, link);
	struct loop_work *work = l->work;

	if (!l->worked) {
		l->worked = true;
		work->work(work);
		if (rng_chance(w.rng, 50))
			return;
	}
	list_remove(&l->link);
	free(l);
	work->done(work);
}

bool sim_step(void)
{
	struct loop_task *task;
	bool ran = false;

	while ((task = w.loop.tasks)) {
		ran = true;
		w.loop.tasks = task->next;
		if (!w.loop.tasks)
			w.loop.tasks_end = &w.loop.tasks;
		task->queued = false;
		task->run(task);
	}
	w.loop.now += rng_below(w.rng, 100000);
	if (!list_empty(&w.loop.works) && (!w.engine.count || rng_chance(w.rng, 30))) {
		do_work();
		return true;
	}
	/* now and then time flies while operations are in flight */
	if (w.engine.count && !rng_chance(w.rng, 2)) {
		complete_one();
		return true;
	}
	if (fire_timer())
		return true;
	if (w.engine.count) {
		complete_one();
		return true;
	}
	return ran;
}
