/* span.c - changes of one sector wait for each other where one of them is partial
 *
 * ORDER 12: a partial sector is read, changed and written back.  A write of another's
 * bytes in the same sector that lands in between would be undone, so the two exclude
 * each other, whoever came first.  Two whole-sector changes do not: their order is
 * their callers' concern.
 *
 * What goes through the page cache beside direct I/O has the file for itself: a change of its
 * size, and a partial sector at its end.  The kernel clears what is behind the old end in that
 * page, and pages may be large; a direct write on its way into one of them would be called lost,
 * and could be (Linux: "Page cache invalidation failure on direct I/O").
 *
 * Only files under direct I/O come here: with the page cache alone the kernel does it.
 */
#include "engine-private.h"
#include "libvhd/base/number.h"

uint64_t span_end(const struct engine_io *io)
{
	const struct engine_file *file = io->file;
	uint64_t end;

	if (io->op == ENGINE_TRUNCATE || !number_add(io->offset, io->length, &end))
		return UINT64_MAX;
	if (io->op != ENGINE_READ && io->op != ENGINE_WRITE && !file->device)
		end = number_max(io->offset, number_min(end, file->size));
	return end;
}

/* Is it done through the page cache, all of it or the sector in which the file ends? */
static bool is_cached(const struct engine_io *io, const struct span *span)
{
	const struct engine_file *file = io->file;

	if (file->device)
		return false;
	return io->op == ENGINE_TRUNCATE ||
	       (span->partial && span->to > number_round_down(file->size, file->align));
}

static void span_of(struct span *span, const struct engine_io *io)
{
	const struct engine_file *file = io->file;
	uint64_t unit = number_max(file->align, PAGE_BYTES);

	span->from = io->offset;
	span->to = span_end(io);
	span->partial = io->op != ENGINE_TRUNCATE &&
			((span->from | span->to) & (file->align - 1)) != 0;
	if (is_cached(io, span)) {
		span->from = 0;
		span->to = UINT64_MAX;
		span->partial = true;
	} else if (span->partial) {
		span->from = number_round_down(span->from, unit);
		span->to = span->to > UINT64_MAX - unit ? UINT64_MAX :
							  number_round_up(span->to, unit);
	}
}

static bool collide(const struct span *a, const struct span *b)
{
	return (a->partial || b->partial) && a->from < b->to && b->from < a->to;
}

bool span_blocks(struct engine_io *io)
{
	struct engine_file *file = io->file;
	struct span mine;
	bool wait = false;

	span_of(&mine, io);
	if (!mine.partial && !file->partials && list_empty(&file->blocked))
		return false;
	for (struct list *l = file->spans.next; l != &file->spans && !wait; l = l->next)
		wait = collide(&mine, list_entry(l, struct span, link));
	/* nor overtake one that waits already, or it might wait for ever */
	for (struct list *l = file->blocked.next; l != &file->blocked && !wait; l = l->next) {
		struct span theirs;

		span_of(&theirs, list_entry(l, struct engine_io, link));
		wait = collide(&mine, &theirs);
	}
	if (wait)
		list_append(&file->blocked, &io->link);
	return wait;
}

void span_hold(struct span *span, struct engine_io *io)
{
	span_of(span, io);
	list_append(&io->file->spans, &span->link);
	if (span->partial)
		io->file->partials++;
}

void span_release(struct engine_file *file, struct span *span)
{
	if (!list_linked(&span->link))
		return;
	list_remove(&span->link);
	if (span->partial)
		file->partials--;
	if (!list_empty(&file->blocked))
		engine_requeue(file->engine, &file->blocked);
}
