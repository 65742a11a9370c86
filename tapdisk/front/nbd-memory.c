/* nbd-memory.c - the payloads' memory, shared fairly */
#include "nbd-memory.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "libvhd/base/number.h"

int nbd_memory_open(uint64_t bytes, struct nbd_memory **out)
{
	struct nbd_memory *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	assert(!bytes || bytes >= NBD_MEMORY_MIN);
	m->bound.bytes = bytes ? bytes : NBD_MEMORY_DEFAULT;
	m->shared = m->own = m->bound.bytes / 8 * 3;
	list_init(&m->waiting);
	*out = m;
	return 0;
}

void nbd_memory_close(struct nbd_memory *m)
{
	assert(!m || (!m->connections && !m->shared_used && !m->bound.resident &&
		      list_empty(&m->waiting)));
	free(m);
}

uint64_t nbd_memory_used(const struct nbd_memory *m)
{
	return m->bound.resident;
}

void nbd_memory_join(struct nbd_memory *m, unsigned connections)
{
	m->connections += connections;
}

void nbd_memory_leave(struct nbd_memory *m, unsigned connections)
{
	m->connections -= connections;
}

void nbd_holder_init(struct nbd_holder *h, struct nbd_memory *memory,
		     void (*ready)(struct nbd_holder *holder))
{
	*h = (struct nbd_holder){ .memory = memory, .ready = ready };
	list_init(&h->turn);
}

/* Whoever is first asks again: it may fit now. */
static void call_first(struct nbd_memory *m)
{
	struct nbd_holder *first;

	if (list_empty(&m->waiting))
		return;
	first = list_entry(m->waiting.next, struct nbd_holder, turn);
	first->ready(first);
}

void nbd_holder_release(struct nbd_holder *h)
{
	if (!list_linked(&h->turn))
		return;
	list_remove(&h->turn);
	call_first(h->memory);
}

bool nbd_holder_take(struct nbd_holder *h, uint64_t bytes, bool *shared)
{
	struct nbd_memory *m = h->memory;
	bool first = list_empty(&m->waiting) || m->waiting.next == &h->turn;

	*shared = h->used + bytes > m->own / m->connections;
	if (!*shared) {
		h->used += bytes;
	} else if (first && m->shared_used + bytes <= m->shared) {
		m->shared_used += bytes;
		h->shared += bytes;
	} else {
		if (!list_linked(&h->turn))
			list_append(&m->waiting, &h->turn);
		return false;
	}
	/* who has been served stands at the end of the line the next time */
	nbd_holder_release(h);
	return true;
}

bool nbd_memory_wanted(const struct nbd_holder *h)
{
	const struct list *first = h->memory->waiting.next;

	if (first == &h->turn)
		first = first->next;
	return first != &h->memory->waiting;
}

void nbd_holder_give(struct nbd_holder *h, uint64_t bytes, bool shared)
{
	struct nbd_memory *m = h->memory;

	if (shared) {
		m->shared_used -= bytes;
		h->shared -= bytes;
	} else {
		h->used -= bytes;
	}
	call_first(m);
}
