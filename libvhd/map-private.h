/* map-private.h - what the files of the map share
 *
 *   map.c          the interface: look up, reserve, written, and the pump
 *   map-table.c    BAT pages and block records in memory, their loading
 *   map-space.c    where new blocks go: recycling, growing by a footer
 *   map-commit.c   what makes metadata durable, and the final shape
 *
 * Invariants, true whenever no function of the map runs:
 *  M1  a page holds what is durable in that part of the BAT (or, after a
 *      failed commit, what may be); a block whose entry is not durable has a record that
 *      says so (fresh), and the record wins
 *  M2  a record is dirty, or frozen, or has writers, or is fresh, or is in the
 *      clean list (and may be evicted)
 *  M3  bits of a record are set only after their data is on the storage
 *      (images with a parent), and are never cleared
 *  M4  known_full has a block only if its entry is visible and all bits are set
 *  M5  positions handed out are below prepared_end, ascending, each once
 */
#ifndef VHD_MAP_PRIVATE_H
#define VHD_MAP_PRIVATE_H

#include "base/list.h"
#include "batmap.h"
#include "layout.h"
#include "map.h"

#define MAP_PAGE_ENTRIES 1024u
#define MAP_PAGE_BYTES	 4096u
#define MAP_HASH_MIN	 256u
#define MAP_SLOTS	 64u
#define MAP_FULL_MAX	 (1u << 24) /* blocks; above, fullness is not remembered */
#define MAP_DIRTY_BYTES	 (8u << 20) /* of bitmaps waiting: then a commit starts by itself */
#define MAP_NEED	 1	    /* internal: not in memory, loading was started */

struct map_page {
	struct list lru; /* in map->pages_clean when neither loading nor pinned */
	uint32_t index;
	uint32_t pins; /* fresh records in it */
	bool loading;
	uint8_t raw[MAP_PAGE_BYTES];
};

struct map_block {
	struct map_block *hash_next;
	struct list link; /* clean list or dirty list */
	uint32_t block;
	uint32_t entry;	  /* sector of its bitmap */
	uint32_t writers; /* reservations open */
	bool fresh;	  /* entry not durable yet */
	bool visible;	  /* some data is written: lookups see it (always, if not fresh) */
	bool loading;	  /* bits are being read */
	bool dirty;	  /* changed since the last freeze */
	bool frozen;	  /* in the running commit */
	enum { EARLY_NONE, EARLY_QUEUED, EARLY_FLYING, EARLY_DONE } early;
	struct list early_link;
	uint8_t bits[]; /* bitmap_bytes */
};

enum map_slot_kind {
	SLOT_FREE,
	SLOT_PAGE,	  /* subject: page */
	SLOT_BITS,	  /* subject: block */
	SLOT_EARLY,	  /* subject: block */
	SLOT_SPACE,	  /* the step of map-space */
	SLOT_COMMIT,	  /* a write of the commit */
	SLOT_COMMIT_STEP, /* a sync, or a step of the final shape */
};

struct map_slot {
	enum map_slot_kind kind;
	void *subject;
	void *buf; /* owned; NULL when the operation's buffer lives elsewhere */
};

/* What a waiting request waits for: in its ticket. */
enum map_wait { WAIT_PAGE = 1, WAIT_BITS, WAIT_SPACE };
static inline uint64_t map_ticket(enum map_wait what, uint32_t which)
{
	return (uint64_t)what << 32 | which;
}

enum space_state {
	SPACE_UNKNOWN, /* nothing allocated yet since open or quiesce */
	SPACE_PROBE,   /* looking for blocks nobody names */
	SPACE_PUNCH,
	SPACE_PUNCH_SYNC,
	SPACE_READY,
	SPACE_GROW, /* footer at its new place, or zeroes on a device */
	SPACE_GROW_SYNC,
};

struct map_space {
	enum space_state state;
	bool flying;	       /* its one operation has been offered */
	bool wanted;	       /* somebody waits for a position */
	uint64_t next;	       /* sector from which the next position is sought */
	uint64_t prepared_end; /* sector: positions end at or below */
	uint64_t footer;       /* byte offset of the durable end footer */
	uint64_t new_end;      /* bytes: of the growth under way */
	uint64_t end_of_data;  /* bytes: end of the last durable or reserved block */
	uint64_t keep;	       /* bytes: the file is not cut below, an unnamed block may be there */
	uint64_t stale; /* bytes: a footer may be there from a growth or cut that failed; 0: none */
	uint64_t taken; /* positions handed out since open */
	uint64_t probe; /* sector to look at next */
	bool probe_packed;
	uint32_t probes;
	uint8_t probe_buf[VHD_SECTOR];
	uint8_t footer_buf[VHD_FOOTER_BYTES];
};

enum commit_stage {
	COMMIT_IDLE,
	COMMIT_FRESH, /* bitmaps of new blocks */
	COMMIT_SYNC1,
	COMMIT_META, /* BAT sectors, bitmaps of existing blocks */
	COMMIT_SYNC2,
	SHAPE_WRITE, /* batmap, footer at its final place */
	SHAPE_SYNC1,
	SHAPE_CUT, /* batmap header, truncate */
	SHAPE_SYNC2,
};

struct map_commit {
	enum commit_stage stage;
	int err;
	bool failed;		 /* the last one: none starts by itself until asked */
	uint32_t flying;	 /* operations offered and not done */
	struct map_block **list; /* frozen blocks, by block number */
	size_t count, room;
	size_t cursor;	/* next of list to offer; META: twice through it */
	uint8_t *arena; /* frozen bitmaps, bitmap_page bytes each */
	size_t arena_bytes;
	struct map_req *flushes; /* arrived, for the next commit */
	struct map_req *covered; /* of the running commit */
	struct map_req *quiesce; /* arrived */
	uint32_t shape_step;
	uint64_t shape_end;  /* bytes: where the footer goes */
	uint8_t *batmap_buf; /* new map, batmap_bytes */
	bool batmap_dirty;
	enum { CUT_NO, CUT_FLYING, CUT_FAILED, CUT_DONE } cut;
	bool data_outstanding; /* writes since the last sync began */
};

struct vhd_map {
	struct map_params p;
	uint64_t blocks;
	uint32_t bitmap_sectors, stride;
	uint32_t bitmap_bytes; /* of a bitmap */
	uint32_t page_bytes;   /* of the aligned pages that hold a new bitmap */
	uint32_t *bad;	       /* owned, sorted */

	struct map_page **pages; /* by index; each owned */
	struct map_block **hash;
	uint32_t hash_size;
	uint64_t records;
	struct list pages_clean, blocks_clean, dirty;
	uint64_t dirty_count, new_blocks, memory, memory_bound;
	uint8_t *known_full;  /* or NULL */
	uint8_t *disk_batmap; /* or NULL: no batmap */

	struct list load_blocks; /* waiting to be offered as reads: map_block.link */
	struct list load_pages;	 /* map_page.lru */
	struct list early;	 /* map_block.early_link */
	struct map_req *wants;	 /* waiting for metadata */
	struct map_req *writes;	 /* waiting for metadata or space */
	struct map_req *done;	 /* to be told ready() */

	struct map_space space;
	struct map_commit commit;
	struct map_slot slots[MAP_SLOTS];
	uint32_t slots_used;
	uint32_t fault_block, fault_entry;
	uint8_t *early_page; /* what the page of a new bitmap begins as */
	uint64_t need;	     /* ticket of what a MAP_NEED waits for */
};

/* A request is answered: ready() is called at the end of the next map_done or map_next. */
void map_answer(struct vhd_map *map, struct map_req *req, int err);
/* What @ticket names has come (or failed): those who wait for it go on. */
void map_arrived(struct vhd_map *map, uint64_t ticket, int err);
void map_append_req(struct map_req **list, struct map_req *req);
/* A free operation slot as @kind; NULL when all are flying. */
struct map_slot *map_take_slot(struct vhd_map *map, enum map_slot_kind kind, void *subject,
			       struct map_io *io);

/* ── map-table.c ── */
struct map_block *table_find(const struct vhd_map *map, uint32_t block);
/* New record with zero bits, in no list.  NULL: no memory. */
struct map_block *table_add(struct vhd_map *map, uint32_t block, uint32_t entry);
void table_drop(struct vhd_map *map, struct map_block *b);
/* What lookups see: entry or VHD_BAT_UNUSED; MAP_NEED (loading started); negative. */
int table_entry(struct vhd_map *map, uint32_t block, uint32_t *entry);
/* The record with bits of an allocated, not fresh block; MAP_NEED; negative. */
int table_bits(struct vhd_map *map, uint32_t block, uint32_t entry, struct map_block **out);
struct map_page *table_page(const struct vhd_map *map, uint32_t block);
void table_pin(struct vhd_map *map, struct map_page *page);
void table_unpin(struct vhd_map *map, struct map_page *page);
/* Give a record to the clean list if nothing holds it; evict beyond the bound. */
void table_settle(struct vhd_map *map, struct map_block *b);
bool table_is_full(const struct vhd_map *map, uint32_t block);
bool table_next(struct vhd_map *map, struct map_io *io);
void table_done(struct vhd_map *map, struct map_slot *slot, int err);
void table_free(struct vhd_map *map);
/* Sectors of @block that are on the disk. */
uint64_t table_sectors(const struct vhd_map *map, uint32_t block);

/* ── map-space.c ── */
void space_init(struct vhd_map *map);
/* A position for a new block: 0, MAP_NEED (growing), or negative. */
int space_take(struct vhd_map *map, uint32_t *entry);
bool space_next(struct vhd_map *map, struct map_io *io);
void space_done(struct vhd_map *map, int err);
/* After the file got its final shape: the footer is at @footer; @cut: and the
 * file ends there, else the former one may still stand behind. */
void space_reset(struct vhd_map *map, uint64_t footer, bool cut);

/* ── map-commit.c ── */
void commit_mark(struct vhd_map *map, struct map_block *b);
bool commit_next(struct vhd_map *map, struct map_io *io);
void commit_write_done(struct vhd_map *map, int err);
void commit_step_done(struct vhd_map *map, bool is_cut, int err);
/* A block was reserved: offer the first write of its bitmap page, if the caller wants that. */
void commit_early(struct vhd_map *map, struct map_block *b);
void commit_free(struct vhd_map *map);

#endif
