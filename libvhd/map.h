/* map.h - one sparse image: where is this sector, where may it be written,
 * and what must be committed in which order
 *
 * A state machine that performs no I/O.  Callers say what they want; the map
 * offers the I/O that is allowed now (map_next); they perform it, in any order
 * and number at a time, and report (map_done).  Barriers never cross this
 * interface: an operation is offered only when its turn has come.
 * The synchronous user: while (map_next(m, &io)) map_done(m, io.tag, do(&io));
 *
 * One owner calls everything.  Rules cited as ORDER n are in doc/ordering.md.
 */
#ifndef VHD_MAP_H
#define VHD_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "vhd.h"

struct vhd_map;

enum map_kind { EXT_HERE, EXT_BELOW, EXT_ZERO };
struct map_ext {
	enum map_kind kind;
	uint64_t sector, count; /* on the virtual disk */
	uint64_t file_sector;	/* EXT_HERE: where in the image file */
};

enum map_op { MAP_READ, MAP_WRITE, MAP_ZERO, MAP_PUNCH, MAP_TRUNCATE, MAP_SYNC };
struct map_io {
	enum map_op op;
	uint64_t offset, length; /* bytes; MAP_TRUNCATE: offset is the new size */
	void *buf;		 /* stays as it is until map_done */
	bool once; /* if it fails the map does without: not worth trying again, on a full disk say */
	uint32_t tag;
};

/* Lives in the caller's request; untouched by the caller while it waits. */
struct map_req {
	struct map_req *next;
	uint64_t sector, count;
	int err;			 /* set before ready() */
	void (*ready)(struct map_req *); /* never called before the function that took it returns */
	uint64_t ticket;		 /* the map's */
};

enum { MAP_WAIT = 0 };

struct map_params {
	uint64_t size_sectors; /* virtual size */
	uint32_t block_sectors;
	uint32_t max_entries;
	uint64_t bat_offset; /* bytes */
	bool has_parent;     /* absent sectors are below, not zero */
	bool exact_bits; /* without a parent, too, a sector is here only once it was written: its zeros
			  * on the disk are not what it would read as (encrypted images) */
	bool writable;
	bool device;	       /* the storage cannot grow, and is not zero */
	bool early_bitmaps;    /* write a new block's bitmap page beside its first data (ORDER 9) */
	bool align;	       /* data of new blocks on 4 KiB */
	uint64_t data_start;   /* first byte a block may lie at */
	uint64_t data_end;     /* bytes; entries past it are faults (file size when opened) */
	uint64_t end_of_data;  /* bytes: end of the last block by the BAT */
	uint64_t metadata_end; /* bytes: end of whatever else lies among the blocks (locators, a
				* header, the next batmap): the file is not cut below, and no
				* new block lies below */
	uint64_t footer_offset; /* of the end footer on disk */
	bool append_only;	/* do not recycle [end_of_data, footer) (ORDER 8) */
	bool no_reuse; /* nor positions that are freed: somebody else reads the image (ORDER 10) */
	uint8_t footer[512]; /* what every end footer written shall be */
	/* batmap; batmap_bytes = 0: none.  @batmap is copied; all zero if not valid */
	const uint8_t *batmap;
	uint64_t batmap_bytes;
	uint64_t batmap_header_offset;
	uint64_t batmap_offset;	    /* of the map in use */
	uint64_t batmap_alternate;  /* a free place for another map; 0: none */
	uint64_t batmap_covered;    /* bytes under the checksum */
	bool batmap_bounded;	    /* bits behind those stay zero on disk */
	uint8_t batmap_header[512]; /* as on disk */
	bool batmap_stale;	    /* not valid on disk: rewrite at quiesce */
	/* blocks not to be trusted: lookups in them fail; sorted; copied */
	const uint32_t *bad_blocks;
	uint32_t bad_count;
	uint64_t cache_bytes; /* bound for clean BAT pages and bitmaps; 0: 4 MiB */
};

VHD_MUST int map_open(const struct map_params *params, struct vhd_map **out);
/* Asserts that nothing is in flight; what was not flushed is forgotten. */
void map_close(struct vhd_map *map);

/* Extents of [sector, sector + count) into @out, at most @max, from @sector
 * on without gaps; their number, or MAP_WAIT when metadata of the first block
 * is not in memory (then map_want), or -VHD_E_BAT_ENTRY, -VHD_E_RANGE.
 * Neighbouring extents that continue each other are joined. */
int map_lookup(struct vhd_map *map, uint64_t sector, uint64_t count, struct map_ext *out, int max);

/* Load the metadata of the block at @req->sector.  ready() follows, with err
 * 0 or the read's error. */
void map_want(struct vhd_map *map, struct map_req *req);
/* Of one given to map_want whose ready() was not called: it is not waited for any more. */
void map_unwant(struct vhd_map *map, struct map_req *req);

/* Reserve room for writing [req->sector, req->sector + req->count).  Returns
 * the number of extents (all EXT_HERE), req->count shortened to what they
 * cover: write the data there, then map_written, or map_cancel if that failed.  MAP_WAIT: ready() follows; call again unless req->err.
 * -VHD_E_BAT_ENTRY, -VHD_E_RANGE, -VHD_E_TOO_BIG. */
int map_write(struct vhd_map *map, struct map_req *req, struct map_ext *out, int max);

/* The data of a reservation is on the storage: visible to lookups from now. */
void map_written(struct vhd_map *map, const struct map_req *req);
/* Its write failed: undone where ORDER 4 lets it be.  Any sector of it may be old or new; the next
 * map_flush syncs, and what it is then it stays. */
void map_cancel(struct vhd_map *map, const struct map_req *req);
/* Image without a parent: is the block of @sector not there, but would show, once a write that is under
 * way makes it, what is left of another that failed?  Then *count is cut to its end. */
bool map_has_remains(const struct vhd_map *map, uint64_t sector, uint64_t *count);

/* Give blocks back: all that lie wholly inside [req->sector, +count), the disk's partial last
 * one too if the range reaches its end.  Where there is a parent the caller vouches that
 * the same is below.  Returns the number
 * of those that were allocated; from now on lookups answer EXT_ZERO (EXT_BELOW) for them and writes take
 * new positions; durable with the next map_flush.  The old positions are punched and used
 * again as ORDER 10 allows.
 * -EAGAIN: writes to a block are in flight, metadata is not in memory, or too much waits for
 * a commit.  @req was advanced: what lay before req->sector is freed, the rest not yet;
 * ready() follows, call again with @req unless req->err.  New map_write()s to the block
 * waited for are held until then.
 * -VHD_E_BAT_ENTRY, -VHD_E_RANGE, -ENOMEM. */
int map_free(struct vhd_map *map, struct map_req *req);

/* Give the block at @req->sector, where it is allocated, another place.  @to: a byte offset that
 * the caller vouches for (no_reuse maps only): nothing on the storage names it, nobody reads
 * it, and what this map freed or moved away from there was followed by a map_flush() and
 * then by map_idle(); or 0: a place as a new block gets.  1: copy the block's data from *from to *place (bytes, both of
 * the bitmap, which is not the caller's business), with the bytes that are zero there as well,
 * make that durable, and say map_moved() with the same sector; else map_move_cancel().
 * Meanwhile writes and frees of the block wait, lookups answer the old place.
 * 0: there is no block.  -EAGAIN: ready() follows, call again unless req->err.
 * -VHD_E_BAT_ENTRY, -VHD_E_RANGE, -VHD_E_TOO_BIG, -ENOSPC, -ENOMEM. */
int map_move(struct vhd_map *map, struct map_req *req, uint64_t to, uint64_t *from,
	     uint64_t *place);
/* The copy is durable: lookups answer the new place from now on, the block table says so with the
 * next map_flush; then the old place goes the way of freed ones (ORDER 10).  -EIO: a sync
 * failed since map_move(), the copy may be lost: cancelled. */
VHD_MUST int map_moved(struct vhd_map *map, const struct map_req *req);
/* @lost: 0, or the error of a sync of the caller's that failed: what others wrote may be lost with
 * the copy (ORDER 5). */
void map_move_cancel(struct vhd_map *map, const struct map_req *req, int lost);

/* A lookup whose result is used for a while (read from) stands between these: what it returned
 * before a block was freed is not used for another before it has left. */
void map_enter(struct vhd_map *map, unsigned *slot);
void map_leave(struct vhd_map *map, unsigned slot);

/* Grow the virtual disk to @size_sectors; @footer is what all footers shall be then.  0: taken,
 * ready() follows; with err 0 lookups and writes reach the new size from then on.  After an
 * error the old size is served, but the disk may already have the new footers: try again, or
 * quiesce, which makes the footers equal.  -VHD_E_TOO_BIG: the table has no room for it;
 * -VHD_E_ARGUMENT: smaller; -EBUSY: another one is under way; -ENOMEM.  In req->err also
 * -VHD_E_BAT_ENTRY: the table names a block beyond the old end (map_fault). */
int map_resize(struct vhd_map *map, struct map_req *req, uint64_t size_sectors,
	       const uint8_t footer[512]);

/* ready() when all that was map_written() and map_free()d before this call is durable.
 * After a sync of whatever kind failed, one flush at least, those that have come or the next
 * one, fails: who sent it must not believe that earlier data is there (ORDER 5). */
void map_flush(struct vhd_map *map, struct map_req *req);

/* Flush, then batmap, then the footer behind the last block and the file cut
 * there (ORDER 7).  No reservation may be open.  The map stays usable. */
void map_quiesce(struct vhd_map *map, struct map_req *req);

/* Nothing is in flight, and the caller has written both footers: they are @footer from now on.  Not
 * @written: in that it failed, and the next map_quiesce makes them so. */
void map_set_footer(struct vhd_map *map, const uint8_t footer[512], bool written);

/* The next operation that may be issued now; false when there is none. */
bool map_next(struct vhd_map *map, struct map_io *io);
/* @err: 0 or negative.  May call ready() of any waiting request. */
void map_done(struct vhd_map *map, uint32_t tag, int err);

/* Somebody else made the file longer (coalesces into this frozen image): entries up to there
 * are sound from now on. */
void map_data_end(struct vhd_map *map, uint64_t bytes);
/* Read again from the disk whatever is not waiting to be written. */
void map_forget(struct vhd_map *map);
/* As map_params.cache_bytes; what is too much goes a little with each thing asked, and by map_trim. */
void map_set_cache(struct vhd_map *map, uint64_t bytes);
/* Drop a little of what is beyond the bound; true: there is more. */
bool map_trim(struct vhd_map *map);

/* Nothing is in flight, nothing waits, map_next() has nothing. */
bool map_idle(const struct vhd_map *map);
/* Would a flush have anything to do: metadata to commit, data to sync? */
bool map_dirty(const struct vhd_map *map);
/* Is metadata waiting for a commit?  How many blocks are involved. */
uint64_t map_dirty_blocks(const struct vhd_map *map);
/* Blocks allocated since open, less those freed. */
int64_t map_new_blocks(const struct vhd_map *map);
/* The entry that made a lookup fail: block and its BAT value. */
void map_fault(const struct vhd_map *map, uint32_t *block, uint32_t *entry);
/* Bytes: end of the last block, and place of the end footer, as they are now. */
uint64_t map_end_of_data(const struct vhd_map *map);
uint64_t map_footer_offset(const struct vhd_map *map);
/* Bytes of memory held. */
uint64_t map_memory(const struct vhd_map *map);

#endif
