/* map-table.c - BAT pages and block records in memory
 *
 * Pages are pieces of the BAT of 4 KiB, records one block's bitmap and state.
 * Both are loaded on demand, kept in lists by last use, and dropped when the
 * bound is passed; what is fresh, dirty, frozen or being written stays.
 */
#include "map-private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "base/number.h"
#include "bitmap.h"

#define CLEAN_BLOCKS_MIN 32u
#define CLEAN_PAGES_MIN	 8u
#define SPARE_BYTES	 (64u << 10)
#define EVICTIONS	 64u

static uint32_t hash_of(const struct vhd_map *map, uint32_t block)
{
	return (block * 2654435761u) & (map->hash_size - 1);
}

struct map_block *table_find(const struct vhd_map *map, uint32_t block)
{
	struct map_block *b = map->hash[hash_of(map, block)];

	while (b && b->block != block)
		b = b->hash_next;
	return b;
}

/* Twice as many chains once there is more than one record a chain; staying as
 * we are when memory is short costs only time. */
static void hash_grow(struct vhd_map *map)
{
	uint32_t old_size = map->hash_size;
	struct map_block **old = map->hash;
	struct map_block **fresh = calloc((size_t)old_size * 2, sizeof(*fresh));

	if (!fresh)
		return;
	map->hash = fresh;
	map->hash_size = old_size * 2;
	map->memory += (uint64_t)old_size * sizeof(*fresh);
	for (uint32_t i = 0; i < old_size; i++) {
		struct map_block *b = old[i], *next;

		for (; b; b = next) {
			uint32_t h = hash_of(map, b->block);

			next = b->hash_next;
			b->hash_next = fresh[h];
			fresh[h] = b;
		}
	}
	free(old);
}

/* Will something have to go soon?  Until then nobody needs to know who was used last, and keeping
 * the lists in that order touches more memory than a lookup. */
static bool fills(const struct vhd_map *map)
{
	return map->memory > map->memory_bound / 4 * 3;
}

static bool longer_than(const struct list *head, unsigned n)
{
	const struct list *l = head->next;

	while (l != head && n) {
		l = l->next;
		n--;
	}
	return l != head;
}

/* One page and a few records are kept to be used again, so that a cache that is full and
 * at work allocates nothing. */
static void drop_page(struct vhd_map *map, struct map_page *page)
{
	map->pages[page->index] = NULL;
	list_remove(&page->lru);
	map->memory -= sizeof(*page);
	if (map->spare_page)
		free(page);
	else
		map->spare_page = page;
}

static struct map_page *new_page(struct vhd_map *map)
{
	struct map_page *page = map->spare_page ? map->spare_page : malloc(sizeof(*page));

	map->spare_page = NULL;
	if (page)
		map->memory += sizeof(*page);
	return page;
}

static struct map_block *new_block(struct vhd_map *map)
{
	size_t bytes = sizeof(struct map_block) + map->bitmap_bytes;
	struct map_block *b = map->spare;

	if (b) {
		map->spare = b->hash_next;
		map->spares--;
		memset(b, 0, bytes);
	} else {
		b = calloc(1, bytes);
	}
	if (b)
		map->memory += bytes;
	return b;
}

static void free_block(struct vhd_map *map, struct map_block *b)
{
	map->memory -= sizeof(*b) + map->bitmap_bytes;
	if ((uint64_t)map->spares * map->bitmap_bytes >= SPARE_BYTES) {
		free(b);
		return;
	}
	b->hash_next = map->spare;
	map->spare = b;
	map->spares++;
}

/* A few of each always stay, however much is pinned: what one request loads must
 * still be there when it goes on.  Much at once, after a lower bound was set, takes several calls:
 * nobody shall wait for it. */
bool table_evict(struct vhd_map *map)
{
	for (unsigned i = 0; i < EVICTIONS && map->memory > map->memory_bound; i++) {
		if (longer_than(&map->blocks_clean, CLEAN_BLOCKS_MIN)) {
			struct list *l = list_pop(&map->blocks_clean);

			table_drop(map, list_entry(l, struct map_block, link));
		} else if (longer_than(&map->pages_clean, CLEAN_PAGES_MIN)) {
			struct map_page *page = list_entry(list_pop(&map->pages_clean),
							   struct map_page, lru);

			drop_page(map, page);
		} else {
			return false;
		}
	}
	return map->memory > map->memory_bound;
}

struct map_block *table_add(struct vhd_map *map, uint32_t block, uint32_t entry)
{
	struct map_block *b;
	uint32_t h;

	if (map->records >= map->hash_size)
		hash_grow(map);
	b = new_block(map);
	if (!b)
		return NULL;
	b->block = block;
	b->entry = entry;
	list_init(&b->link);
	list_init(&b->early_link);
	h = hash_of(map, block);
	b->hash_next = map->hash[h];
	map->hash[h] = b;
	map->records++;
	return b;
}

void table_drop(struct vhd_map *map, struct map_block *b)
{
	struct map_block **p = &map->hash[hash_of(map, b->block)];

	while (*p != b)
		p = &(*p)->hash_next;
	*p = b->hash_next;
	list_remove(&b->link);
	list_remove(&b->early_link);
	map->records--;
	free_block(map, b);
}

void table_settle(struct vhd_map *map, struct map_block *b)
{
	if (b->fresh || b->dirty || b->frozen || b->loading || b->writers ||
	    b->early == EARLY_QUEUED || b->early == EARLY_FLYING)
		return;
	list_remove(&b->link);
	list_append(&map->blocks_clean, &b->link);
	table_evict(map);
}

bool table_is_full(const struct vhd_map *map, uint32_t block)
{
	return map->known_full && bits_test(map->known_full, block);
}

struct map_page *table_page(const struct vhd_map *map, uint32_t block)
{
	struct map_page *page = map->pages[block / MAP_PAGE_ENTRIES];

	return page && !page->loading ? page : NULL;
}

void table_pin(struct vhd_map *map, struct map_page *page)
{
	(void)map;
	if (!page->pins++)
		list_remove(&page->lru);
}

void table_unpin(struct vhd_map *map, struct map_page *page)
{
	assert(page->pins > 0);
	if (!--page->pins)
		list_append(&map->pages_clean, &page->lru);
}

int table_start_page(struct vhd_map *map, uint32_t index)
{
	struct map_page *page = map->pages[index];

	map->need = map_ticket(WAIT_PAGE, index);
	if (page)
		return MAP_NEED;
	page = new_page(map);
	if (!page)
		return -ENOMEM;
	page->index = index;
	page->pins = 0;
	page->loading = true;
	page->again = false;
	list_append(&map->load_pages, &page->lru);
	map->pages[index] = page;
	table_evict(map);
	return MAP_NEED;
}

static int bad_order(const void *key, const void *element)
{
	uint32_t a = *(const uint32_t *)key, b = *(const uint32_t *)element;

	return a < b ? -1 : a > b;
}

/* May this entry be followed?  The table was scanned when the image was
 * opened; the range is checked again because a page may have been read later. */
static bool sound(const struct vhd_map *map, uint32_t block, uint32_t entry)
{
	uint64_t limit = number_max(map->p.data_end, map->space.end_of_data);

	if ((uint64_t)entry * VHD_SECTOR < map->p.data_start ||
	    ((uint64_t)entry + map->stride) * VHD_SECTOR > limit)
		return false;
	return !map->p.bad_count ||
	       !bsearch(&block, map->bad, map->p.bad_count, sizeof(*map->bad), bad_order);
}

int table_entry(struct vhd_map *map, uint32_t block, uint32_t *entry)
{
	struct map_block *b = table_find(map, block);
	struct map_page *page;
	uint32_t value;

	if (b && b->fresh) {
		*entry = b->visible ? b->entry : VHD_BAT_UNUSED;
		return 0;
	}
	page = table_page(map, block);
	if (!page)
		return table_start_page(map, block / MAP_PAGE_ENTRIES);
	if (!page->pins && fills(map)) { /* used now */
		list_remove(&page->lru);
		list_append(&map->pages_clean, &page->lru);
	}
	value = be32_load(page->raw + (size_t)(block % MAP_PAGE_ENTRIES) * 4);
	if (value != VHD_BAT_UNUSED && !sound(map, block, value)) {
		map->fault_block = block;
		map->fault_entry = value;
		return -VHD_E_BAT_ENTRY;
	}
	*entry = value;
	return 0;
}

int table_bits(struct vhd_map *map, uint32_t block, uint32_t entry, struct map_block **out)
{
	struct map_block *b = table_find(map, block);

	if (!b) {
		b = table_add(map, block, entry);
		if (!b)
			return -ENOMEM;
		b->visible = true;
		b->loading = true;
		list_append(&map->load_blocks, &b->link);
		table_evict(map);
	}
	if (b->loading) {
		map->need = map_ticket(WAIT_BITS, block);
		return MAP_NEED;
	}
	if (!b->fresh && !b->dirty && !b->frozen && !b->writers && fills(map)) { /* used now */
		list_remove(&b->link);
		list_append(&map->blocks_clean, &b->link);
	}
	*out = b;
	return 0;
}

int table_full(struct vhd_map *map, uint32_t block, uint32_t entry, struct map_block **out)
{
	struct map_block *b = table_add(map, block, entry);

	if (!b)
		return -ENOMEM;
	b->visible = true;
	bits_set_range(b->bits, 0, map->p.block_sectors);
	list_append(&map->blocks_clean, &b->link);
	*out = b;
	return 0;
}

bool table_next(struct vhd_map *map, struct map_io *io)
{
	if (!list_empty(&map->load_pages)) {
		struct map_page *page = list_entry(map->load_pages.next, struct map_page, lru);
		uint64_t at = (uint64_t)page->index * MAP_PAGE_BYTES;
		uint64_t table = number_round_up((uint64_t)map->p.max_entries * 4, VHD_SECTOR);

		if (!map_take_slot(map, SLOT_PAGE, page, io))
			return false;
		list_remove(&page->lru);
		io->op = MAP_READ;
		io->offset = map->p.bat_offset + at;
		io->length = number_min(MAP_PAGE_BYTES, table - at);
		io->buf = page->raw;
		return true;
	}
	if (!list_empty(&map->load_blocks)) {
		struct map_block *b = list_entry(map->load_blocks.next, struct map_block, link);

		if (!map_take_slot(map, SLOT_BITS, b, io))
			return false;
		list_remove(&b->link);
		io->op = MAP_READ;
		io->offset = (uint64_t)b->entry * VHD_SECTOR;
		io->length = map->bitmap_bytes;
		io->buf = b->bits;
		return true;
	}
	return false;
}

static void page_loaded(struct vhd_map *map, struct map_page *page, int err)
{
	uint32_t index = page->index;

	if (page->again) {
		page->again = false;
		list_append(&map->load_pages, &page->lru);
		return;
	}
	if (err) {
		drop_page(map, page);
	} else {
		page->loading = false;
		list_append(&map->pages_clean, &page->lru);
	}
	map_arrived(map, map_ticket(WAIT_PAGE, index), err);
}

static void bits_loaded(struct vhd_map *map, struct map_block *b, int err)
{
	uint32_t block = b->block;

	if (b->again) {
		b->again = false;
		table_drop(map, b); /* the block may be elsewhere by now: those who wait find out */
		map_arrived(map, map_ticket(WAIT_BITS, block), 0);
		return;
	}
	b->loading = false;
	if (err) {
		table_drop(map, b);
	} else {
		if (map->known_full && bits_all_set(b->bits, 0, map->p.block_sectors))
			bits_set(map->known_full, block);
		list_append(&map->blocks_clean, &b->link);
	}
	map_arrived(map, map_ticket(WAIT_BITS, block), err);
}

void table_done(struct vhd_map *map, struct map_slot *slot, int err)
{
	struct map_block *b = slot->subject;

	switch (slot->kind) {
	case SLOT_PAGE:
		page_loaded(map, slot->subject, err);
		return;
	case SLOT_BITS:
		bits_loaded(map, b, err);
		return;
	default: /* SLOT_EARLY: a failure only means that the commit writes it */
		b->early = err || b->early_lost ? EARLY_NONE : EARLY_DONE;
		b->early_lost = false;
		write_undo(map, b);
	}
}

/* Records that are clean, and pages of which nothing is pinned.  What is being
 * loaded may be what was: it is loaded once more. */
void map_forget(struct vhd_map *map)
{
	struct list asked, *l;

	while (!list_empty(&map->blocks_clean))
		table_drop(map, list_entry(map->blocks_clean.next, struct map_block, link));
	while (!list_empty(&map->pages_clean))
		drop_page(map, list_entry(map->pages_clean.next, struct map_page, lru));
	for (uint64_t i = 0; i < map->page_count; i++)
		if (map->pages[i] && map->pages[i]->loading && !list_linked(&map->pages[i]->lru))
			map->pages[i]->again = true;
	for (uint32_t i = 0; i < MAP_SLOTS; i++)
		if (map->slots[i].kind == SLOT_BITS)
			((struct map_block *)map->slots[i].subject)->again = true;
	list_init(&asked); /* by an entry that may be old */
	list_splice(&asked, &map->load_blocks);
	while ((l = list_pop(&asked))) {
		struct map_block *b = list_entry(l, struct map_block, link);
		uint64_t ticket = map_ticket(WAIT_BITS, b->block);

		table_drop(map, b);
		map_arrived(map, ticket, 0);
	}
	if (map->known_full)
		memset(map->known_full, 0, number_div_up(map->blocks, 8));
}

int table_enlarge(struct vhd_map *map, uint64_t blocks)
{
	uint64_t pages = number_max(number_div_up(blocks, MAP_PAGE_ENTRIES), map->page_count);
	uint64_t old_bytes = number_div_up(map->blocks, 8), bytes = number_div_up(blocks, 8);
	struct map_page **more = calloc(pages, sizeof(struct map_page *));
	uint8_t *full = NULL;

	if (!more)
		return -ENOMEM;
	if (map->known_full && blocks <= MAP_FULL_MAX) {
		full = calloc(1, number_max(bytes, 1));
		if (!full) {
			free(more);
			return -ENOMEM;
		}
		memcpy(full, map->known_full, old_bytes);
		map->memory += bytes - old_bytes;
	}
	memcpy(more, map->pages, map->page_count * sizeof(struct map_page *));
	free(map->pages);
	map->pages = more;
	map->memory += (pages - map->page_count) * sizeof(struct map_page *);
	map->page_count = pages;
	free(map->known_full);
	map->known_full = full;
	return 0;
}

void table_doubt_early(struct vhd_map *map)
{
	for (uint32_t i = 0; i < map->hash_size; i++)
		for (struct map_block *b = map->hash[i]; b; b = b->hash_next)
			if (b->early == EARLY_DONE)
				b->early = EARLY_NONE;
			else if (b->early == EARLY_FLYING)
				b->early_lost = true;
}

uint64_t table_fresh_end(const struct vhd_map *map)
{
	uint64_t end = 0;

	for (uint32_t i = 0; i < map->hash_size; i++)
		for (const struct map_block *b = map->hash[i]; b; b = b->hash_next)
			if (b->fresh && b->entry != VHD_BAT_UNUSED)
				end = number_max(end, (uint64_t)b->entry + map->stride);
	return end * VHD_SECTOR;
}

void table_free(struct vhd_map *map)
{
	struct map_block *spare;

	for (uint32_t i = 0; map->hash && i < map->hash_size; i++) {
		struct map_block *b = map->hash[i], *next;

		for (; b; b = next) {
			next = b->hash_next;
			free(b);
		}
	}
	for (uint64_t i = 0; map->pages && i < map->page_count; i++)
		free(map->pages[i]);
	while ((spare = map->spare)) {
		map->spare = spare->hash_next;
		free(spare);
	}
	free(map->spare_page);
	free(map->hash);
	free(map->pages);
}
