/* merge.c - neighbouring requests become one vectored operation
 *
 * Requests of one turn often continue each other: a client's sequential stream, or a
 * large request that was cut at block bounds whose blocks lie side by side.  Clients'
 * streams may be interleaved, so a few requests further down the queue are looked at too.
 */
#include "engine-private.h"

#define WINDOW 8

static void add(struct transfer *t, struct engine_io *io)
{
	struct iovec *last = t->iov_count ? &t->vec[t->iov_count - 1] : NULL;

	list_append(&t->riders, &io->link);
	if (io->op != ENGINE_READ && io->op != ENGINE_WRITE)
		return;
	t->length += io->length;
	if (last && (uint8_t *)last->iov_base + last->iov_len == (uint8_t *)io->buf)
		last->iov_len += io->length; /* neighbours in memory as well */
	else
		t->vec[t->iov_count++] = (struct iovec){ io->buf, io->length };
}

static bool continues(const struct transfer *t, const struct engine_io *io)
{
	return io->file == t->file && io->op == t->op && io->offset == t->offset + t->length &&
	       !(io->state[0] & IO_SINGLE) && t->length + io->length <= MERGE_BYTES && io->length &&
	       !unaligned(io);
}

void merge_gather(struct engine *engine, struct transfer *t, struct engine_io *io)
{
	const struct engine_file *file = io->file;
	struct list *link = engine->queue.next;
	bool write = io->op == ENGINE_WRITE;
	/* where others are blocked by spans, each write asks for itself */
	bool alone = (io->state[0] & IO_SINGLE) || (!write && io->op != ENGINE_READ) ||
		     (write && (file->partials || !list_empty(&file->blocked)));

	t->offset = io->offset;
	t->length = 0;
	t->iov = t->vec;
	t->iov_count = 0;
	add(t, io);
	if (io->op == ENGINE_SYNC)
		list_splice(&t->riders, &io->file->syncs);
	for (unsigned tried = 0; !alone && tried < WINDOW && link != &engine->queue; tried++) {
		struct engine_io *next = list_entry(link, struct engine_io, link);

		link = link->next;
		if (t->iov_count == MERGE_IOV)
			break;
		if (!continues(t, next))
			continue;
		list_remove(&next->link);
		add(t, next);
		tried = 0;
	}
	if (!file->direct || io->op == ENGINE_READ || io->op == ENGINE_SYNC)
		return;
	span_hold(&t->span, io);
	if (write)
		t->span.to = t->offset + t->length;
}
