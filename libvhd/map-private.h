/* map-private.h - what the files of the map share
 *
 *   map.c          open, look up, requests, and the pump
 *   map-write.c    reserve, written, cancel
 *   map-table.c    BAT pages and block records in memory, their loading
 *   map-space.c    where new blocks go: recycling, growing by a footer
 *   map-commit.c   what makes metadata durable
 *   map-full.c     the batmap: its place, header and contents
 *   map-shape.c    the final shape: batmap, footer, cut
 *   map-move.c     blocks given another place
 *   map-free.c     blocks given back: from the BAT to a position that is used again
 *   map-resize.c   live growth of the virtual disk
 *
 * Invariants, true whenever no function of the map runs:
 *  M1  a page holds what is durable in that part of the BAT (or, after a
 *      failed commit, what may be); a block of which lookups or writers see something else
 *      (new, moved, freed) has a record that says so (fresh), and the record wins
 *  M2  a record is dirty, or frozen, or has writers, or is fresh, or is in the
 *      clean list (and may be evicted)
 *  M3  bits of a record are set only after their data is on the storage
 *      (images with a parent), and are cleared only when the block is freed
 *  M4  known_full has a block only if its entry is visible and all bits are set
 *  M5  a position belongs to one holder: prepared space, a record, one list of map_free
 *      (from the moment a record lets go of it until it may be used again), or the heap
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
#define MAP_DIRTY_BYTES	 (2u << 20) /* of bitmaps waiting: then a commit starts by itself */
#define MAP_NEED	 1	    /* internal: not in memory, loading was started */
#define MAP_MOVE_FOUND	 2	    /* internal: see map-move.c */

struct map_page {
	struct list lru; /* in map->pages_clean when neither loading nor pinned */
	uint32_t index;
	uint32_t pins; /* fresh records in it */
	bool loading;
	bool again; /* forgotten while loading: what comes is old, read it once more */
	uint8_t raw[MAP_PAGE_BYTES];
};

struct map_block {
	struct map_block *hash_next;
	struct list link; /* clean list or dirty list */
	uint32_t block;
	uint32_t entry;	  /* sector of its bitmap; VHD_BAT_UNUSED: freed, none yet */
	uint32_t writers; /* reservations open */
	bool fresh;	  /* entry not durable yet */
	bool named;	  /* a commit that failed may have stored the entry: no longer new */
	bool visible;	  /* some data is written: lookups see it (always, if not fresh) */
	bool loading;	  /* bits are being read */
	bool again;	  /* as map_page.again */
	bool dirty;	  /* changed since the last freeze */
	bool frozen;	  /* in the running commit, with what is below */
	bool frozen_fresh;
	bool frozen_new; /* its bitmap goes before the entry, nobody can read it yet */
	uint32_t
		frozen_entry; /* what the commit makes the BAT say; frozen_fresh only, else entry */
	bool recycled;	      /* position used before: the sectors before it may be a neighbour's */
	bool refusing;	      /* a free or a move waits for the writers, or moves: no new ones */
	bool moving_chosen;   /* the place is the caller's own */
	uint32_t moving;      /* place it is being copied to; 0: it is not */
	uint64_t moving_losses; /* map->losses when that began */
	enum { EARLY_NONE, EARLY_QUEUED, EARLY_FLYING, EARLY_DONE } early;
	bool remains; /* a write to it failed before it was visible: its place may have some of that */
	bool early_lost; /* FLYING, and a sync failed meanwhile: it may have been before that */
	struct list early_link;
	uint8_t bits[]; /* bitmap_bytes */
};

enum map_slot_kind {
	SLOT_FREE,
	SLOT_PAGE,	  /* subject: page */
	SLOT_BITS,	  /* subject: block */
	SLOT_EARLY,	  /* subject: block */
	SLOT_SPACE,	  /* the step of map-space */
	SLOT_FREED,	  /* a punch, or the sync after punches */
	SLOT_RESIZE,	  /* the step of map-resize */
	SLOT_COMMIT,	  /* a write of the commit */
	SLOT_COMMIT_STEP, /* a sync, or a step of the final shape */
};

struct map_slot {
	enum map_slot_kind kind;
	void *subject;
	void *buf; /* owned; NULL when the operation's buffer lives elsewhere */
};

/* What a waiting request waits for: in its ticket. */
enum map_wait { WAIT_PAGE = 1, WAIT_BITS, WAIT_SPACE, WAIT_BLOCK, WAIT_COMMIT, WAIT_RESIZE };
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
	bool unasked;	       /* nobody did when the growth under way began */
	int lost;	       /* a sync failed meanwhile: what the next one covers may be gone */
	bool ahead_failed;     /* growing ahead of need did: only who waits makes it try again */
	uint64_t next;	       /* sector from which the next position is sought */
	uint64_t prepared_end; /* sector: positions end at or below */
	uint64_t ahead;	       /* the piece after that one, behind the old footer */
	uint64_t ahead_end;    /* 0: there is none */
	uint64_t room;	       /* blocks that were to be had when space was last prepared */
	uint64_t grow;	       /* blocks of the next growth */
	uint64_t footer;       /* byte offset of the durable end footer */
	uint64_t new_end;      /* bytes: of the growth under way */
	uint64_t end_of_data;  /* bytes: end of the last durable or reserved block */
	uint64_t keep;	       /* bytes: the file is not cut below, an unnamed block may be there */
	uint64_t stale; /* bytes: a footer may be there from a growth or cut that failed; 0: none */
	uint64_t taken; /* prepared positions handed out since open */
	uint64_t probe; /* sector to look at next */
	bool probe_packed;
	uint32_t probes;
	uint8_t probe_buf[VHD_SECTOR];
	uint8_t footer_buf[VHD_FOOTER_BYTES];
};

/* Positions, growing as needed. */
struct map_list {
	uint32_t *at; /* owned */
	size_t count, room;
};

/* The way of a position (ORDER 10):
 *   retired ─freeze─► frozen ─commit─► unnamed ─► batch: punch, sync ─► punched ─► grace ─► heap
 *      ▲                │ failed: the disk may still name it
 *      └────────────────┘ */
struct map_free {
	struct map_list retired, frozen, unnamed, batch, punched, grace;
	struct map_list heap; /* to be used again, the lowest on top */
	bool syncing;	      /* batch: all is punched */
	size_t cursor;	      /* batch: next to punch */
	uint32_t flying;
	int err;	     /* the batch is given up, when nothing of it flies any more */
	uint64_t leaked_end; /* sector: of those given up, which somebody may still read */
	bool flipped;	     /* grace: only the lookups of the other epoch are waited for */
	bool any;	     /* freed since the file got its shape: its end must be sought */
	unsigned epoch;	     /* of lookups that enter now */
	uint64_t readers[2]; /* inside, by epoch */
};

enum commit_stage {
	COMMIT_IDLE,
	COMMIT_FRESH, /* bitmaps of new blocks; the batmap to zero */
	COMMIT_SYNC1,
	COMMIT_BATMAP, /* its header */
	COMMIT_BATMAP_SYNC,
	COMMIT_META, /* BAT sectors, bitmaps of existing blocks */
	COMMIT_SYNC2,
	SHAPE_SCAN,  /* reading the BAT: where does the last block end */
	SHAPE_WRITE, /* batmap, footer at its final place */
	SHAPE_SYNC1,
	SHAPE_CUT, /* batmap header, truncate */
	SHAPE_SYNC2,
};

struct map_commit {
	enum commit_stage stage;
	int err;
	int lost;		 /* a sync failed and no flush heard of it yet */
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
	bool zeroing;		 /* this commit zeroes the batmap */
	bool data_outstanding;	 /* writes since the last sync began */
};

struct map_batmap {
	uint8_t *disk;	/* owned: as on disk; NULL: none, or fullness is not remembered */
	uint8_t *image; /* owned: the next one, p.batmap_bytes */
	bool dirty;	/* image is to be written */
	bool zero;	/* the one on disk has been zeroed, by us */
	bool zero_wanted;
};

struct map_shape {
	uint32_t step;
	uint64_t end;	  /* bytes: where the footer goes */
	uint8_t *table;	  /* owned: a piece of the BAT, while scanning */
	uint64_t scanned; /* bytes of the BAT */
	uint64_t found;	  /* bytes: end of the last block seen so far */
	bool held;	  /* lookups that last keep the end higher */
	bool plain;	  /* as the file is, without a new batmap */
	enum { CUT_NO, CUT_FLYING, CUT_FAILED, CUT_DONE } cut;
};

enum resize_state {
	RESIZE_IDLE,
	RESIZE_CHECK, /* are the entries beyond the old size unused */
	RESIZE_CLEAR, /* the rest of the last block */
	RESIZE_BATMAP,
	RESIZE_END,   /* footer at the end */
	RESIZE_STALE, /* and where a growth or cut that failed may have left one */
	RESIZE_SYNC1,
	RESIZE_COPY, /* footer at 0 */
	RESIZE_SYNC2,
};

struct map_resize {
	enum resize_state state;
	bool flying, waiting;
	int lost;		/* as map_space.lost */
	bool doubt;		/* the footers on disk may differ: made equal by the next shape */
	struct map_req *client; /* whose it is */
	struct map_req req;	/* to wait for pages and the commit */
	uint64_t size_sectors, blocks;
	uint64_t block; /* to check next */
	uint8_t footer[VHD_FOOTER_BYTES];
};

struct vhd_map {
	struct map_params p;
	uint64_t blocks;
	uint32_t bitmap_sectors, stride;
	uint32_t bitmap_bytes; /* of a bitmap */
	uint32_t page_bytes;   /* of the aligned pages that hold a new bitmap */
	uint32_t *bad;	       /* owned, sorted */

	struct map_page **pages; /* by index; each owned */
	uint64_t page_count;
	struct map_block **hash;
	uint32_t hash_size;
	uint64_t records;
	struct list pages_clean, blocks_clean, dirty;
	uint64_t dirty_count, memory, memory_bound;
	uint64_t memory_base; /* what cannot be evicted, when opened */
	int64_t new_blocks;
	uint8_t *known_full;	     /* or NULL */
	struct map_block *spare;     /* records to use again, by hash_next */
	struct map_page *spare_page; /* or NULL */
	uint32_t spares;

	struct list load_blocks; /* waiting to be offered as reads: map_block.link */
	struct list load_pages;	 /* map_page.lru */
	struct list early;	 /* map_block.early_link */
	struct map_req *wants;	 /* waiting for metadata */
	struct map_req *writes;	 /* waiting for metadata or space */
	struct map_req *done;	 /* to be told ready() */

	struct map_space space;
	struct map_commit commit;
	struct map_batmap batmap;
	struct map_shape shape;
	struct map_free freed;
	struct map_resize resize;
	struct map_slot slots[MAP_SLOTS];
	uint32_t slots_used;
	uint32_t moves;	 /* under way */
	uint64_t losses; /* syncs that failed, ever */
	uint32_t fault_block, fault_entry;
	uint8_t *early_page; /* what the page of a new bitmap begins as */
	uint64_t need;	     /* ticket of what a MAP_NEED waits for */
};

/* ORDER 9: does all of a new block count as written? */
static inline bool map_fills(const struct vhd_map *map)
{
	return !map->p.has_parent && !map->p.exact_bits;
}

/* A request is answered: ready() is called at the end of the next map_done or map_next. */
void map_answer(struct vhd_map *map, struct map_req *req, int err);
/* What @ticket names has come (or failed): those who wait for it go on. */
void map_arrived(struct vhd_map *map, uint64_t ticket, int err);
void map_append_req(struct map_req **list, struct map_req *req);
/* Add an extent, joined to the last one where it continues it.  False: full. */
bool map_add_ext(struct map_ext *out, int max, int *n, const struct map_ext *e);
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
/* A record for a block known to be full that has none; nothing is read.  -ENOMEM. */
int table_full(struct vhd_map *map, uint32_t block, uint32_t entry, struct map_block **out);
struct map_page *table_page(const struct vhd_map *map, uint32_t block);
void table_pin(struct vhd_map *map, struct map_page *page);
void table_unpin(struct vhd_map *map, struct map_page *page);
/* Give a record to the clean list if nothing holds it; evict beyond the bound. */
void table_settle(struct vhd_map *map, struct map_block *b);
bool table_is_full(const struct vhd_map *map, uint32_t block);
bool table_next(struct vhd_map *map, struct map_io *io);
void table_done(struct vhd_map *map, struct map_slot *slot, int err);
void table_free(struct vhd_map *map);

/* Begin to load a page of the BAT, unless it is loading: MAP_NEED; -ENOMEM. */
int table_start_page(struct vhd_map *map, uint32_t index);
/* Keep to the bound; true: more is to be dropped, in another call. */
bool table_evict(struct vhd_map *map);
/* Room for the pages and fullness of @blocks in all. */
int table_enlarge(struct vhd_map *map, uint64_t blocks);
/* No early bitmap counts as written any more: it may be lost. */
void table_doubt_early(struct vhd_map *map);
/* End of the last block that has a record with a position the BAT need not name, bytes. */
uint64_t table_fresh_end(const struct vhd_map *map);

/* ── map-space.c ── */
void space_init(struct vhd_map *map);
/* A position for a new block: 0, MAP_NEED (growing), or negative. */
int space_take(struct vhd_map *map, uint32_t *entry, bool *recycled);
bool space_next(struct vhd_map *map, struct map_io *io);
void space_done(struct vhd_map *map, int err);
/* Between two steps: nothing of it is under way. */
bool space_rests(const struct vhd_map *map);
/* ORDER 5, for these three: what was written and not synced yet may be lost, whatever the
 * next sync says. */
void space_lost(struct vhd_map *map, int err);
void freed_lost(struct vhd_map *map, int err);
void resize_lost(struct vhd_map *map, int err);
/* After the file got its final shape: the footer is at @footer; @cut: and the
 * file ends there, else the former one may still stand behind. */
void space_reset(struct vhd_map *map, uint64_t footer, bool cut);

/* ── map-write.c ── */
/* A write to @b failed, or its early bitmap has landed: is its place to be given back?  @b may be gone
 * then. */
void write_undo(struct vhd_map *map, struct map_block *b);

/* ── map-commit.c ── */
void commit_mark(struct vhd_map *map, struct map_block *b);
bool commit_next(struct vhd_map *map, struct map_io *io);
void commit_write_done(struct vhd_map *map, int err);
void commit_step_done(struct vhd_map *map, bool is_cut, int err);
/* A block was reserved: offer the first write of its bitmap page, if the caller wants that. */
void commit_early(struct vhd_map *map, struct map_block *b);
/* ORDER 5: a sync of whatever kind failed. */
void commit_lost(struct vhd_map *map, int err);
/* Answer all of a list. */
void commit_answer(struct vhd_map *map, struct map_req **list, int err);
/* A write of the commit, or a step of the final shape that is not the cut. */
bool commit_offer(struct vhd_map *map, struct map_io *io, enum map_op op, uint64_t offset,
		  uint64_t length, void *buf);
bool commit_offer_sync(struct vhd_map *map, struct map_io *io, enum commit_stage stage);
/* None is running: the memory for its copies is given back. */
void commit_shrink(struct vhd_map *map);
void commit_free(struct vhd_map *map);

/* ── map-full.c ── */
int full_init(struct vhd_map *map);
/* Where the next map goes: the other place, so that the header flips between two whole
 * maps; over itself where there is none. */
uint64_t full_target(const struct vhd_map *map);
/* Is it to be zeroed before this commit may go on (a block was freed)? */
bool full_must_zero(const struct vhd_map *map);
/* The map as it is now true on disk, in image; sets dirty. */
void full_render(struct vhd_map *map);
/* The header that names image, or zeros, at the target: into p.batmap_header. */
void full_render_header(struct vhd_map *map, bool zero);
/* The header is durable. */
void full_stored(struct vhd_map *map, bool zero);
void full_release(struct vhd_map *map);

/* ── map-shape.c ── */
bool shape_begin(struct vhd_map *map);
bool shape_next(struct vhd_map *map, struct map_io *io);
/* A piece of the BAT was read. */
void shape_scanned(struct vhd_map *map, int err);
void shape_release(struct vhd_map *map);

/* ── map-free.c ── */
/* The position of @b is let go; no commit that may name it is behind us (ORDER 10). */
void freed_retire(struct vhd_map *map, uint32_t entry);
void freed_freeze(struct vhd_map *map);
void freed_committed(struct vhd_map *map, bool ok);
bool freed_next(struct vhd_map *map, struct map_io *io);
void freed_done(struct vhd_map *map, int err);
/* Nothing to punch, nothing of it flies. */
bool freed_rests(const struct vhd_map *map);
/* Lowest position that may be used again; false: none. */
bool freed_take(struct vhd_map *map, uint32_t *entry);
/* End of the last position that a lookup inside may still read from, bytes. */
uint64_t freed_end(struct vhd_map *map);
/* Positions that end behind sector @end, of those that may be used again, exist no longer. */
void freed_cut(struct vhd_map *map, uint64_t end);
/* Is something of the block (NULL: without a record) under way that must end before it is freed
 * or moved, or too much that waits for a commit?  Its ticket, or 0. */
uint64_t freed_busy(struct vhd_map *map, struct map_block *b);
/* Does the image get another size or its final shape, which blocks that are freed or moved must not
 * meet?  What that waits for is map->need. */
bool freed_reshaping(struct vhd_map *map);
/* @req waits for map->need: -EAGAIN. */
int freed_wait(struct vhd_map *map, struct map_req *req);
/* A writer or an early bitmap of @b ended: who waits to free or move it may
 * come. */
void freed_unblock(struct vhd_map *map, struct map_block *b);
void freed_release(struct vhd_map *map);

/* ── map-resize.c ── */
bool resize_next(struct vhd_map *map, struct map_io *io);
void resize_done(struct vhd_map *map, int err);

#endif
