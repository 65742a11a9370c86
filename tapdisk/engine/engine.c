/* engine.c - the queue of this turn, dispatch, results, reports
 *
 * engine_submit appends to the queue and puts off the flush to the end of the
 * turn; the flush sorts everything queued into transfers, hands them to the
 * back end and lets it submit them all at once.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine-private.h"
#include "libvhd/base/number.h"
#include "retry.h"

/* So few at a time that their owner waits for each: what counts then is when the next event is
 * seen.  With more of them there is always one to be worked on, and one that comes while the loop
 * sleeps waits for others, which are cheaper together. */
#define FEW	  2u
#define FEW_TURNS 256u /* with no more than that, until it is believed */

/* ── results ── */

/* @bytes of what was left are done. */
static void advance(struct transfer *t, uint64_t bytes)
{
	t->offset += bytes;
	t->length -= bytes;
	while (bytes) {
		if (bytes < t->iov->iov_len) {
			t->iov->iov_base = (uint8_t *)t->iov->iov_base + bytes;
			t->iov->iov_len -= bytes;
			return;
		}
		bytes -= t->iov->iov_len;
		t->iov++;
		t->iov_count--;
	}
}

/* The file ended: what is left reads as zeros. */
static void fill_zeros(struct transfer *t)
{
	for (unsigned i = 0; i < t->iov_count; i++)
		memset(t->iov[i].iov_base, 0, t->iov[i].iov_len);
}

/* True: @t is finished, with *@err; false: go on with what is left. */
static bool absorb(struct transfer *t, int64_t result, int *err)
{
	uint64_t moved;

	*err = 0;
	if (result == -EINTR)
		return false;
	if (result < 0) {
		*err = (int)result;
		return true;
	}
	if (t->op != ENGINE_READ && t->op != ENGINE_WRITE)
		return true;
	moved = (uint64_t)result;
	if (moved == t->length)
		return true;
	if (t->op == ENGINE_READ) {
		advance(t, moved);
		/* a direct read is short by less than a sector only where the file ends */
		if (moved == 0 || moved % t->file->align) {
			fill_zeros(t);
			return true;
		}
		return false;
	}
	moved = number_round_down(moved, t->fd == t->file->fd ? t->file->align : 1);
	if (moved == 0) {
		*err = -EIO;
		return true;
	}
	advance(t, moved);
	return false;
}

/* A file in memory: the copy is all there is to it, no queue of the kernel helps, and no thread. */
static bool at_once(const struct engine_file *file)
{
	return file->memory && file->engine->memory_at_once;
}

static int64_t move_now(const struct transfer *t)
{
	ssize_t n;

	if (t->op == ENGINE_TRUNCATE)
		n = ftruncate(t->fd, (off_t)t->offset);
	else if (t->iov_count == 1 && t->op == ENGINE_READ)
		n = pread(t->fd, t->iov->iov_base, t->iov->iov_len, (off_t)t->offset);
	else if (t->iov_count == 1)
		n = pwrite(t->fd, t->iov->iov_base, t->iov->iov_len, (off_t)t->offset);
	else if (t->op == ENGINE_READ)
		n = preadv(t->fd, t->iov, (int)t->iov_count, (off_t)t->offset);
	else
		n = pwritev(t->fd, t->iov, (int)t->iov_count, (off_t)t->offset);
	return n < 0 ? -errno : n;
}

void transfer_go(struct transfer *t)
{
	struct engine *engine = t->file->engine;
	int err;

	if (t->in_worker) {
		worker_start(t);
		return;
	}
	if (!at_once(t->file) || list_empty(&t->riders)) {
		engine->backend->start(engine, t);
		engine_wake(engine);
		return;
	}
	while (!absorb(t, move_now(t), &err))
		;
	t->finish(t, err);
}

void transfer_result(struct transfer *t, int64_t result)
{
	int err;

	if (absorb(t, result, &err))
		t->finish(t, err);
	else
		transfer_go(t);
}

/* ── riders ── */

static void note_size(const struct engine_io *io)
{
	struct engine_file *file = io->file;

	if (io->op == ENGINE_WRITE)
		file->size = number_max(file->size, io->offset + io->length);
	else if (io->op == ENGINE_TRUNCATE && !file->device)
		file->size = io->offset;
}

void engine_report(struct engine_io *io, int err)
{
	if (err == 0)
		note_size(io);
	if (err < 0 && io->retry && retry_hold(io->retry, io, err))
		return;
	/* only an abort of the retry cancels: then it would be tried again */
	io->err = err == -ECANCELED ? -EIO : err;
	io->done(io);
}

void engine_requeue(struct engine *engine, struct list *ios)
{
	list_splice(ios, &engine->queue);
	list_splice(&engine->queue, ios);
	engine_wake(engine);
}

void engine_wake(struct engine *engine)
{
	loop_defer(engine->loop, &engine->flush);
}

bool engine_learn_align(struct engine_file *file, enum engine_op op, int err)
{
	if (err != -EINVAL || !file->direct || (op != ENGINE_READ && op != ENGINE_WRITE) ||
	    (file->align >= PAGE_BYTES && file->memory_align >= PAGE_BYTES))
		return false;
	file->align = file->memory_align = PAGE_BYTES;
	return true;
}

/* The kernel tells of writes that it has lost once, to whichever sync asks first: those that came
 * since are about the same writes and must not hear that all is well (ORDER 5).  One at a time, then,
 * and who has waited for one that failed fails with it. */
static void sync_over(struct engine_file *file, struct list *riders, int err)
{
	struct list next;
	struct list *first;

	file->syncing = false;
	if (err < 0) {
		file->losses++;
		list_splice(riders, &file->syncs);
		return;
	}
	first = list_pop(&file->syncs);
	if (!first)
		return;
	list_init(&next);
	list_append(&next, first); /* the others ride with it */
	engine_requeue(file->engine, &next);
}

static void riders_finish(struct transfer *t, int err)
{
	struct engine_file *file = t->file;
	struct engine *engine = file->engine;
	struct list riders;
	struct list *link;

	list_init(&riders);
	list_splice(&riders, &t->riders);
	span_release(file, &t->span);
	list_append(&engine->free_transfers, &t->link);
	engine->busy--;
	if (!list_empty(&engine->queue))
		engine_wake(engine);
	if (t->op == ENGINE_SYNC)
		sync_over(file, &riders, err);
	else if (err < 0 &&
		 (riders.next->next != &riders || engine_learn_align(file, t->op, err))) {
		/* which of them it was, only each alone can tell */
		for (link = riders.next; link != &riders; link = link->next)
			list_entry(link, struct engine_io, link)->state[0] |= IO_SINGLE;
		engine_requeue(engine, &riders);
		return;
	}
	while ((link = list_pop(&riders)))
		engine_report(list_entry(link, struct engine_io, link), err);
}

/* ── dispatch ── */

static void ride(struct engine *engine, struct engine_io *io)
{
	struct list *link = engine->free_transfers.prev; /* the one used last: in the cache */
	struct transfer *t = list_entry(link, struct transfer, link);

	list_remove(link);
	engine->busy++;
	t->file = io->file;
	t->fd = io->file->fd;
	t->op = io->op;
	t->in_worker = io->op == ENGINE_TRUNCATE && !at_once(io->file);
	t->finish = riders_finish;
	io->file->syncing |= io->op == ENGINE_SYNC;
	merge_gather(engine, t, io);
	transfer_go(t);
}

/* Nothing to do in the kernel? */
static bool is_nothing(const struct engine_io *io)
{
	const struct engine_file *file = io->file;

	switch (io->op) {
	case ENGINE_SYNC:
		return at_once(file);
	case ENGINE_TRUNCATE:
		return file->device;
	default:
		return io->length == 0;
	}
}

static void dispatch(struct engine *engine, struct engine_io *io)
{
	bool changes = io->op != ENGINE_READ && io->op != ENGINE_SYNC;
	bool by_steps = io->op == ENGINE_PUNCH || io->op == ENGINE_ZERO || unaligned(io);

	if (is_nothing(io)) {
		engine_report(io, 0);
		return;
	}
	if (changes && io->file->direct && span_blocks(io))
		return;
	if (io->op == ENGINE_SYNC && io->file->syncing)
		list_append(&io->file->syncs, &io->link);
	else if (!by_steps)
		ride(engine, io);
	else if (!steps_start(engine, io))
		list_append(&engine->starved, &io->link);
}

/* @count were dispatched in this turn.  The next event is the completion of one of the few that are
 * under way, or the request that follows their answers. */
static void expect_next(struct engine *engine, unsigned count)
{
	if (count > FEW || engine->busy > FEW)
		engine->many_turns = FEW_TURNS;
	else if (engine->many_turns)
		engine->many_turns--;
	else
		loop_expect(engine->loop);
}

static void flush_run(struct loop_task *task)
{
	struct engine *engine = list_entry(task, struct engine, flush);
	struct list *link;

	unsigned count = 0;

	for (; !list_empty(&engine->free_transfers) && (link = list_pop(&engine->queue)); count++)
		dispatch(engine, list_entry(link, struct engine_io, link));
	engine->backend->flush(engine);
	expect_next(engine, count);
}

void engine_submit(struct engine *engine, struct engine_io *io)
{
	io->state[0] = 0;
	list_append(&engine->queue, &io->link);
	loop_defer(engine->loop, &engine->flush);
}

/* ── life ── */

static int pools_open(struct engine *engine)
{
	engine->transfers = calloc(engine->depth, sizeof(*engine->transfers));
	if (!engine->transfers)
		return -ENOMEM;
	for (unsigned i = 0; i < engine->depth; i++) {
		struct transfer *t = &engine->transfers[i];

		list_init(&t->riders);
		list_init(&t->span.link);
		list_append(&engine->free_transfers, &t->link);
	}
	return steps_open(engine);
}

static int backend_open(struct engine *engine, const struct engine_backend *backend)
{
	int rc;

	engine->backend = backend;
	rc = backend->open(engine);
	if (rc < 0) {
		backend->close(engine);
		engine->backend = NULL;
	}
	return rc;
}

int engine_open(struct loop *loop, enum engine_kind kind, unsigned depth, struct engine **out)
{
	static const struct engine_backend *const backends[] = {
		[ENGINE_URING] = &engine_uring,
		[ENGINE_AIO] = &engine_aio,
		[ENGINE_THREADS] = &engine_threads,
	};
	struct engine *engine = calloc(1, sizeof(*engine));
	int rc;

	if (!engine)
		return -ENOMEM;
	engine->loop = loop;
	engine->depth = depth ? depth : 1;
	engine->memory_at_once = kind == ENGINE_AUTO;
	engine->flush.run = flush_run;
	list_init(&engine->free_transfers);
	list_init(&engine->free_steps);
	list_init(&engine->queue);
	list_init(&engine->starved);
	rc = pools_open(engine);
	if (rc < 0)
		goto fail;
	if (kind != ENGINE_AUTO)
		rc = backend_open(engine, backends[kind]);
	for (unsigned k = ENGINE_URING; kind == ENGINE_AUTO && k <= ENGINE_THREADS; k++) {
		rc = backend_open(engine, backends[k]);
		if (rc == 0)
			break;
	}
	if (rc < 0)
		goto fail;
	*out = engine;
	return 0;
fail:
	engine_close(engine);
	return rc;
}

void engine_close(struct engine *engine)
{
	if (!engine)
		return;
	assert(!engine->busy && list_empty(&engine->queue) && list_empty(&engine->starved));
	loop_undefer(engine->loop, &engine->flush);
	if (engine->backend)
		engine->backend->close(engine);
	steps_close(engine);
	free(engine->transfers);
	free(engine);
}

const char *engine_name(const struct engine *engine)
{
	return engine->backend->name;
}
