/* map-world.h - one world of check_map: a map, its storage, and the model it is held against
 *
 *   check_map.c    what happens when, seed by seed
 *   map-guest.c    writes, frees, flushes, lookups, growth: what the map is asked for
 *   map-mover.c    blocks that are given other places
 *   map-world.c    the storage: what the map asks for, done late and in any order
 *   map-reader.c   what must be true of the storage, read by means of its own
 *
 * Every sector of the virtual disk carries the number of the write that made it, the sector
 * model the number of the last thing that happened to it (a write, or a free: reads zero).
 */
#ifndef TEST_MAP_WORLD_H
#define TEST_MAP_WORLD_H

#include <stdio.h>
#include <stdlib.h>

#include "libvhd/bitmap.h"
#include "libvhd/layout.h"
#include "libvhd/map.h"
#include "tests/lib/cut-disk.h"

#define FILE_SECTORS 32768
#define VIRT_MAX     2048u
#define BLOCKS_MAX   (VIRT_MAX / 8)
#define INFLIGHT     96u
#define FLUSHES	     8u
#define READERS	     6u
#define FREES	     4u
#define MOVERS	     3u
#define EVENTS	     8192u
#define EXTENTS	     40
#define FOOTER_MAGIC 0x636f6e6563746978ull /* stands for a whole footer; behind it the size */
#define GARBAGE	     0xdeadull		   /* behind the end of the disk, in the last block */

#define EXPECT(cond, ...)                                                                 \
	do {                                                                              \
		if (!(cond)) {                                                            \
			fprintf(stderr, "seed %llu step %u line %s:%d: ", w.seed, w.step, \
				__FILE__, __LINE__);                                      \
			fprintf(stderr, __VA_ARGS__);                                     \
			fputc('\n', stderr);                                              \
			exit(1);                                                          \
		}                                                                         \
	} while (0)

#define FMT(x) ((unsigned long long)(x))

enum flight_kind { FLIGHT_NONE, FLIGHT_MAP, FLIGHT_DATA };
struct flight {
	enum flight_kind kind;
	bool failed_once;
	/* the map's own */
	struct map_io io;
	uint8_t *copy;	 /* what the write carries */
	uint64_t issued; /* for syncs */
	/* data */
	struct map_req req;
	struct map_ext ext[EXTENTS];
	int n; /* extents; 0: waits for the map; -1: to be tried again */
};

struct flush {
	struct map_req req;
	bool used, quiesce;
	bool must_fail;		 /* a sync failed that it stands behind */
	uint64_t want[VIRT_MAX]; /* event each sector must have reached */
};

struct reader { /* a lookup that lasts */
	bool used;
	unsigned slot;
	struct map_ext ext[EXTENTS];
	int n;
};

struct freer {
	struct map_req req;
	bool used, ready;
};

enum move_phase { MOVE_NONE, MOVE_HELD, MOVE_COPIED, MOVE_SYNCED };
struct mover {
	struct map_req req;
	bool used, ready;
	enum move_phase phase;
	uint64_t from, place; /* sectors */
	uint64_t losses;
};

struct event {
	bool is_free;
	uint64_t first, count; /* sectors */
};

struct world {
	unsigned long long seed;
	unsigned step;
	struct rng rng;
	struct cut_disk disk;
	uint64_t serial;
	struct flight flight[INFLIGHT];
	struct flush flush[FLUSHES];
	struct reader reader[READERS];
	struct freer freer[FREES];
	struct mover mover[MOVERS];
	struct map_params p;
	struct vhd_map *map;
	uint64_t virt, virt_first;    /* sectors: now, and at first */
	struct event event[EVENTS];   /* by number */
	uint64_t events;	      /* so far */
	uint64_t written[VIRT_MAX];   /* newest event */
	uint64_t last_free[VIRT_MAX]; /* newest free */
	uint64_t flushed[VIRT_MAX];   /* newest event known durable */
	uint64_t doubt[VIRT_MAX];     /* data up to this event may be lost: a sync failed */
	bool busy[VIRT_MAX];	      /* a write is in flight */
	bool visible[BLOCKS_MAX];     /* allocated, and known to lookups */
	uint32_t home[BLOCKS_MAX];    /* position last reserved; 0: none */
	bool used_once[FILE_SECTORS]; /* a block was there, and the file not cut before it since */
	bool was_odd[VIRT_MAX];	      /* behind the end of a disk that grew: bits may be set */
	struct map_req resize;
	uint64_t losses;    /* syncs that failed */
	uint64_t resize_to; /* 0: none is under way */
	bool foreign;	    /* some blocks are somebody else's: packed, with any bits */
	unsigned faults;    /* per thousand, now */
	bool faulty;	    /* they happened in this world */
	bool any_freed, unheard, quiescing, read_at_quiesce;
};

extern struct world w;

static inline uint32_t rnd(uint64_t below)
{
	return (uint32_t)rng_below(&w.rng, below);
}

static inline uint64_t block_count(uint64_t sectors)
{
	return (sectors + w.p.block_sectors - 1) / w.p.block_sectors;
}

/* ── map-world.c ── */
void world_begin(unsigned long long seed);
/* All comes to its end, without faults; then all that was written must be there. */
void world_end(void);
/* All that is under way comes to its end. */
void world_settle(void);
void world_pump(void);
/* One operation or write, any. */
void world_complete(void);
struct flight *world_flight(void); /* a free one, or NULL */
void world_store(uint64_t s, const uint8_t *bytes);
void world_footer(uint8_t raw[512], uint64_t virt);

/* ── map-reader.c ── */
void reader_after_cut(void);
/* The file's last sector is a footer, never guest data. */
void reader_last_sector(void);
/* After a quiesce: footers, and nothing behind the last block. */
void reader_shape(void);
/* The block's data may go to @position from now on. */
void reader_new_position(uint64_t block, uint32_t position);
/* Nothing a cut may leave names a block in [from, to) sectors of the file. */
void reader_unnamed(uint64_t from, uint64_t to, const char *why);
bool reader_is_unnamed(uint64_t from, uint64_t to);
/* All footers that a cut may leave have the size @virt. */
void reader_footers(uint64_t virt);
bool reader_is_plain_footer(uint64_t s); /* one version only, and that is a footer */

/* ── map-guest.c ── */
void guest_write(void);
void guest_data_done(struct flight *f);
void guest_retry(void);
void guest_free(void);
void guest_flush(bool quiesce);
void guest_lookup(void);
void guest_enter(void);
void guest_leave(void);
void guest_want(void);
void guest_resize(void);
bool guest_waits(void);
bool guest_writes(void); /* in flight */
bool guest_reads(void);	 /* lookups that last */
void guest_sync_failed(void);

/* ── map-mover.c ── */
void guest_move(void);
void guest_move_on(void);
bool guest_moves(void); /* under way */

#endif
