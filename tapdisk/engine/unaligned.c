/* unaligned.c - operations done piece by piece
 *
 * What direct I/O cannot take as it is, and zeroing where the file system offers less than
 * was asked for.  One steps does one operation, one step after the other:
 *
 *   READ           whole sectors into the bounce buffer, then a copy of the part wanted
 *   WRITE          whole sectors from the caller's memory, or by the bounce buffer where
 *                  that memory is not aligned; partial sectors as below
 *   PUNCH, ZERO    fallocate for whole pages, zeros written for the rest; where the file
 *                  system refuses, zeros written for all of it
 *   partial sector read, changed, written back under its span (ORDER 12); where the file
 *                  ends in it, written through the page cache, for a direct write would
 *                  make the file longer than it is to be
 *
 * The page cache and direct I/O meet in one page only under a span that covers the page: the
 * kernel writes the page back before the next direct access.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine-private.h"
#include "libvhd/base/number.h"

#define ZEROS_BYTES 65536u
static _Alignas(4096) const uint8_t zeros[ZEROS_BYTES];

bool unaligned(const struct engine_io *io)
{
	const struct engine_file *file = io->file;

	return (io->op == ENGINE_READ || io->op == ENGINE_WRITE) && file->direct &&
	       (((io->offset | io->length) & (file->align - 1)) ||
		((uintptr_t)io->buf & (file->memory_align - 1)));
}

static void steps_next(struct steps *s);

static void steps_free(struct steps *s)
{
	struct engine *engine = s->io->file->engine;

	span_release(s->io->file, &s->span);
	list_append(&engine->free_steps, &s->link);
	engine->busy--;
	if (!list_empty(&engine->starved))
		engine_requeue(engine, &engine->starved);
}

static void steps_end(struct steps *s, int err)
{
	steps_free(s);
	engine_report(s->io, err);
}

/* From the beginning, by way of the queue. */
static void steps_again(struct steps *s)
{
	struct list one;

	steps_free(s);
	list_init(&one);
	list_append(&one, &s->io->link);
	engine_requeue(s->io->file->engine, &one);
}

/* ── one step ── */

static void go(struct steps *s, enum engine_op op, uint64_t offset, uint64_t length)
{
	struct transfer *t = &s->t;

	t->op = op;
	t->offset = offset;
	t->length = length;
	t->iov = t->vec;
	transfer_go(t);
}

/* Read or write @length bytes of @memory. */
static void go_memory(struct steps *s, enum engine_op op, void *memory, uint64_t offset,
		      uint64_t length)
{
	s->t.vec[0] = (struct iovec){ memory, length };
	s->t.iov_count = 1;
	go(s, op, offset, length);
}

static void go_zeros(struct steps *s, uint64_t offset, uint64_t length)
{
	uint64_t left = length;

	for (s->t.iov_count = 0; left; s->t.iov_count++) {
		uint64_t n = number_min(left, ZEROS_BYTES);

		s->t.vec[s->t.iov_count] = (struct iovec){ (void *)zeros, n };
		left -= n;
	}
	go(s, ENGINE_WRITE, offset, length);
}

/* Where the caller's bytes at s->at are; zeros for those who have none. */
static void *source(const struct steps *s)
{
	if (s->io->op == ENGINE_WRITE)
		return (uint8_t *)s->io->buf + (s->at - s->io->offset);
	return (void *)zeros;
}

/* From s->at on within one sector. */
static void step_partial(struct steps *s)
{
	struct engine_file *file = s->io->file;
	uint64_t sector = number_round_down(s->at, file->align);

	s->piece = number_min(s->end - s->at, sector + file->align - s->at);
	if (file->device || sector + file->align <= file->size) {
		s->modify = true;
		go_memory(s, ENGINE_READ, s->bounce, sector, file->align);
	} else if (file->buffered_fd >= 0) {
		s->t.fd = file->buffered_fd;
		s->t.in_worker = true;
		go_memory(s, ENGINE_WRITE, source(s), s->at, s->piece);
	} else {
		steps_end(s, -EINVAL);
	}
}

/* The sector is in the bounce buffer: change it and write it back. */
static void step_modify(struct steps *s)
{
	const struct engine_file *file = s->io->file;
	uint64_t sector = number_round_down(s->at, file->align);

	s->modify = false;
	memcpy(s->bounce + (s->at - sector), source(s), s->piece);
	go_memory(s, ENGINE_WRITE, s->bounce, sector, file->align);
}

static void step_read(struct steps *s)
{
	uint64_t align = s->io->file->align, from = number_round_down(s->at, align);
	uint64_t length = number_min(number_round_up(s->end - from, align), STEPS_BYTES);

	s->piece = number_min(s->end, from + length) - s->at;
	go_memory(s, ENGINE_READ, s->bounce, from, length);
}

/* @whole: bytes in whole sectors from s->at on. */
static void step_write(struct steps *s, uint64_t whole)
{
	void *memory = source(s);

	if ((uintptr_t)memory & (s->io->file->memory_align - 1)) {
		whole = number_min(whole, STEPS_BYTES);
		memcpy(s->bounce, memory, whole);
		memory = s->bounce;
	}
	s->piece = whole;
	go_memory(s, ENGINE_WRITE, memory, s->at, whole);
}

static void step_zero(struct steps *s, uint64_t whole)
{
	const struct engine_file *file = s->io->file;
	uint64_t unit = file->direct || file->device ? PAGE_BYTES : 1;
	uint64_t pages = number_round_down(s->end - s->at, unit);
	bool punch = s->io->op == ENGINE_PUNCH && !file->no_punch;
	bool by_call = punch || !file->no_zero;

	if (by_call && s->at % unit == 0 && pages) {
		s->piece = pages;
		go(s, punch ? ENGINE_PUNCH : ENGINE_ZERO, s->at, pages);
		return;
	}
	if (by_call && s->at % unit)
		whole = number_min(whole, number_round_up(s->at, unit) - s->at);
	s->piece = number_min(whole, MERGE_BYTES);
	go_zeros(s, s->at, s->piece);
}

static void steps_next(struct steps *s)
{
	struct engine_file *file = s->io->file;
	uint64_t whole = number_round_down(s->end - s->at, file->align);

	s->t.fd = file->fd;
	s->t.in_worker = false;
	if (s->io->op == ENGINE_READ)
		step_read(s);
	else if (s->at % file->align || !whole)
		step_partial(s);
	else if (s->io->op == ENGINE_WRITE)
		step_write(s, whole);
	else
		step_zero(s, whole);
}

/* ── after it ── */

/* fallocate cannot do it here: remember, and go on with what is left. */
static bool refused(struct steps *s, int err)
{
	struct engine_file *file = s->io->file;

	if (err != -EOPNOTSUPP && err != -ENOSYS && !(err == -EINVAL && file->device))
		return false;
	if (s->t.op == ENGINE_PUNCH)
		file->no_punch = true;
	else if (s->t.op == ENGINE_ZERO)
		file->no_zero = true;
	else
		return false;
	return true;
}

static void step_finish(struct transfer *t, int err)
{
	struct steps *s = list_entry(t, struct steps, t);
	struct engine_io *io = s->io;

	if (err < 0) {
		if (refused(s, err)) {
			steps_next(s);
		} else if (t->fd == io->file->fd && engine_learn_align(io->file, t->op, err)) {
			steps_again(s); /* with a span that fits */
		} else {
			steps_end(s, err);
		}
		return;
	}
	if (s->modify) {
		step_modify(s);
		return;
	}
	if (io->op == ENGINE_READ)
		memcpy((uint8_t *)io->buf + (s->at - io->offset),
		       s->bounce + s->at % io->file->align, s->piece);
	s->at += s->piece;
	if (s->at == s->end)
		steps_end(s, 0);
	else
		steps_next(s);
}

/* ── start, pool ── */

bool steps_start(struct engine *engine, struct engine_io *io)
{
	struct engine_file *file = io->file;
	struct list *link = engine->free_steps.prev;
	struct steps *s = list_entry(link, struct steps, link);

	if (list_empty(&engine->free_steps))
		return false;
	list_remove(link);
	engine->busy++;
	s->io = io;
	s->at = io->offset;
	s->end = span_end(io);
	s->modify = false;
	s->t.file = file;
	if (file->direct && io->op != ENGINE_READ)
		span_hold(&s->span, io);
	if (s->at == s->end)
		steps_end(s, 0);
	else
		steps_next(s);
	return true;
}

int steps_open(struct engine *engine)
{
	engine->steps = calloc(STEPS_MAX, sizeof(*engine->steps));
	if (!engine->steps)
		return -ENOMEM;
	/* pages that are never used cost nothing */
	engine->bounce = mmap(NULL, (size_t)STEPS_MAX * STEPS_BYTES, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (engine->bounce == MAP_FAILED) {
		engine->bounce = NULL;
		return -ENOMEM;
	}
	for (unsigned i = 0; i < STEPS_MAX; i++) {
		struct steps *s = &engine->steps[i];

		s->bounce = engine->bounce + (size_t)i * STEPS_BYTES;
		s->t.finish = step_finish;
		list_init(&s->t.riders);
		list_init(&s->t.span.link);
		list_init(&s->span.link);
		list_append(&engine->free_steps, &s->link);
	}
	return 0;
}

void steps_close(struct engine *engine)
{
	if (engine->bounce)
		munmap(engine->bounce, (size_t)STEPS_MAX * STEPS_BYTES);
	free(engine->steps);
}
