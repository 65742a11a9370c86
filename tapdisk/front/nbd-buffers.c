/* nbd-buffers.c - a buddy allocator
 *
 * Free pieces of each order form a ring through an array of page numbers; the first page of a
 * piece carries its order and whether it is free.
 *  B2  bound->resident counts the pages of all buffers that are marked resident: those that may
 *      be backed by memory
 *  B1  a free piece's buddy is not a free piece of the same order
 */
#include "nbd-buffers.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "libvhd/base/list.h"

#define PAGES  (BUFFERS_BYTES / BUFFERS_PAGE)
#define ORDERS 15u /* 4 KiB << 14 = 64 MiB */

struct page {
	struct list link; /* in the ring of its order while free */
	uint8_t order;
	bool free;
	bool resident;
};

struct buffers {
	struct buffers_bound *bound;
	uint8_t *base;
	size_t touched;
	struct list free[ORDERS];
	struct page pages[PAGES];
};

int buffers_open(struct buffers_bound *bound, struct buffers **out)
{
	struct buffers *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->base = mmap(NULL, BUFFERS_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (b->base == MAP_FAILED) {
		free(b);
		return -ENOMEM;
	}
	b->bound = bound;
	for (unsigned i = 0; i < ORDERS; i++)
		list_init(&b->free[i]);
	for (unsigned i = 0; i < PAGES; i++)
		list_init(&b->pages[i].link);
	b->pages[0].order = ORDERS - 1;
	b->pages[0].free = true;
	list_append(&b->free[ORDERS - 1], &b->pages[0].link);
	*out = b;
	return 0;
}

/* Give @count pages back to the system. */
static void drop(struct buffers *b, size_t page, size_t count)
{
	madvise(b->base + page * BUFFERS_PAGE, count * BUFFERS_PAGE, MADV_DONTNEED);
	for (; count; page++, count--) {
		b->bound->resident -= b->pages[page].resident * BUFFERS_PAGE;
		b->pages[page].resident = false;
	}
}

void buffers_close(struct buffers *b)
{
	if (!b)
		return;
	if (b->touched)
		drop(b, 0, b->touched / BUFFERS_PAGE);
	munmap(b->base, BUFFERS_BYTES);
	free(b);
}

/* Put in front: what was given back last is taken first. */
static void give(struct buffers *b, size_t page, unsigned order)
{
	struct page *p = &b->pages[page];
	struct list *head = &b->free[order];

	p->order = (uint8_t)order;
	p->free = true;
	p->link.next = head->next;
	p->link.prev = head;
	head->next->prev = &p->link;
	head->next = &p->link;
}

size_t buffers_piece(size_t bytes)
{
	size_t piece = BUFFERS_PAGE;

	while (piece < bytes)
		piece *= 2;
	return piece;
}

void *buffers_get(struct buffers *b, size_t bytes)
{
	size_t used = (bytes + BUFFERS_PAGE - 1) / BUFFERS_PAGE;
	unsigned order = 0, from;
	size_t page;
	struct page *p;

	assert(bytes && bytes <= BUFFERS_BYTES);
	while (((size_t)BUFFERS_PAGE << order) < bytes)
		order++;
	for (from = order; from < ORDERS && list_empty(&b->free[from]); from++)
		;
	if (from == ORDERS)
		return NULL;
	p = list_entry(list_pop(&b->free[from]), struct page, link);
	page = (size_t)(p - b->pages);
	while (from > order) {
		from--;
		give(b, page + ((size_t)1 << from), from);
	}
	p->order = (uint8_t)order;
	p->free = false;
	if ((page + ((size_t)1 << order)) * BUFFERS_PAGE > b->touched)
		b->touched = (page + ((size_t)1 << order)) * BUFFERS_PAGE;
	for (size_t i = page; i < page + used; i++) {
		b->bound->resident += !b->pages[i].resident * BUFFERS_PAGE;
		b->pages[i].resident = true;
	}
	return b->base + page * BUFFERS_PAGE;
}

size_t buffers_put(struct buffers *b, void *memory)
{
	size_t page = (size_t)((uint8_t *)memory - b->base) / BUFFERS_PAGE;
	unsigned order = b->pages[page].order;
	size_t piece = (size_t)BUFFERS_PAGE << order;

	assert(!b->pages[page].free);
	if (b->bound->resident > b->bound->bytes / BUFFERS_SPARE)
		drop(b, page, piece / BUFFERS_PAGE);
	for (; order < ORDERS - 1; order++) {
		size_t other = page ^ ((size_t)1 << order);
		struct page *buddy = &b->pages[other];

		if (!buddy->free || buddy->order != order)
			break;
		list_remove(&buddy->link);
		buddy->free = false;
		page &= ~((size_t)1 << order);
	}
	give(b, page, order);
	return piece;
}

void buffers_trim(struct buffers *b)
{
	assert(b->pages[0].free && b->pages[0].order == ORDERS - 1);
	if (b->touched)
		drop(b, 0, b->touched / BUFFERS_PAGE);
	b->touched = 0;
}

size_t buffers_touched(const struct buffers *b)
{
	return b->touched;
}
