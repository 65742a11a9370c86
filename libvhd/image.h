/* image.h - one image file: its footers, header, batmap, and its map over an io
 *
 * image_open reads and validates everything but the BAT; image_load reads and
 * checks the BAT and makes the map; image_begin_write makes the image fit for
 * writing.  The synchronous user of map.h.
 */
#ifndef VHD_IMAGE_H
#define VHD_IMAGE_H

#include "bat.h"
#include "batmap.h"
#include "footer.h"
#include "header.h"
#include "io.h"
#include "map.h"

/* What is odd about an image that can be read all the same. */
enum image_problem {
	IMAGE_END_FOOTER_BAD = 1 << 0, /* only the copy at 0 is valid */
	IMAGE_COPY_BAD = 1 << 1,       /* only the end footer is valid */
	IMAGE_FOOTERS_BENIGN = 1 << 2, /* they differ as ORDER 13 allows */
	IMAGE_FOOTERS_DIFFER = 1 << 3, /* they differ in what matters: no writing */
	IMAGE_TRAILING_BYTES = 1 << 4, /* after the end footer */
	IMAGE_SHORT_FOOTER = 1 << 5,   /* 511 bytes */
	IMAGE_BATMAP_BAD = 1 << 6,     /* ignored */
	IMAGE_BAT_FAULTS = 1 << 7,     /* after image_load: some blocks cannot be read */
	IMAGE_POISONED = 1 << 8,
	IMAGE_TORN_FOOTER = 1 << 9,   /* end sector is all 0xc7: not cleanly closed */
	IMAGE_SIZES_DIFFER = 1 << 10, /* with FOOTERS_DIFFER: in the disk's size only, and the disk
					 * is not the same at both */
	IMAGE_END_HEADER_BAD = 1 << 11, /* with FOOTERS_BENIGN: the copy is in force, for the end
					 * footer's header is not whole */
	IMAGE_COPY_LARGER = 1 << 12,	/* with FOOTERS_BENIGN: the copy's size is in force */
	IMAGE_GROWTH_HALF = 1 << 13, /* with FOOTERS_BENIGN: they differ in the disk's size, and the
					 * disk is the same at both */
	IMAGE_NO_BATMAP =
		1 << 14, /* its creator writes one; footer says the version that need not */
};

struct vhd_image {
	struct vhd_io *io; /* owned */
	enum vhd_type type;
	unsigned problems; /* enum image_problem */
	uint64_t file_bytes;
	uint64_t size;	     /* virtual, bytes */
	uint64_t other_size; /* of the copy, where only the sizes differ */
	/* VHDs */
	struct vhd_footer footer; /* the one in force */
	uint64_t footer_offset;	  /* of the end footer, or where it belongs */
	/* sparse */
	struct vhd_header header;
	uint64_t header_offset;
	uint32_t blocks; /* entries in use: size / block_size, rounded up */
	uint32_t block_sectors;
	uint64_t data_start; /* end of table and batmap (and of a header before them): no block
			      * lies below; locators and a moved header may lie above */
	bool has_batmap;     /* header found; map valid unless IMAGE_BATMAP_BAD */
	struct vhd_batmap_header batmap_header; /* without a batmap: the key's hash, if any */
	uint64_t batmap_header_at;
	uint8_t batmap_raw[VHD_BATMAP_HEADER_BYTES];
	uint8_t *batmap;	  /* owned; NULL unless valid */
	struct bat_totals totals; /* after image_survey or image_load */
	/* after image_load */
	struct vhd_map *map; /* owned */
	bool writing;
	bool early_bitmaps; /* set before image_begin_write: see map.h; for servers */
	bool no_reuse;	    /* likewise; for who moves blocks */
	uint64_t keep;	    /* likewise: bytes; new blocks lie behind, the file is not cut below */
	uint32_t *bad;	    /* owned: blocks whose entries are at fault, sorted */
	uint32_t bad_count;
	bool batmap_lies;    /* a bit is set for a block that is not allocated */
	struct crypt *crypt; /* owned: of its data, once unlocked (unlock.h); NULL: none */
};

enum image_open_flags {
	IMAGE_RAW = 1 << 0,	       /* no footer expected: a raw disk */
	IMAGE_ALLOW_POISONED = 1 << 1, /* peek */
	IMAGE_BACKUP_FOOTER =
		1 << 2,	      /* use the copy at 0, whatever the end says: to look, not to write */
	IMAGE_PEEK = 1 << 3,  /* try again (3 × 50 ms) when metadata looks torn */
	IMAGE_BRIEF = 1 << 4, /* footers and headers only: no map of the batmap, no image_load */
};

/* @io passes to the image on success only.  Errors name io->name. */
VHD_MUST int image_open(struct vhd_io *io, unsigned flags, struct vhd_image **out,
			struct vhd_error *err);
/* Discards what was not flushed; image_finish first.  NULL is fine. */
void image_close(struct vhd_image *image);

/* What a reader is to be told about an image that it reads all the same; false: nothing. */
bool image_warning(const struct vhd_image *image, struct vhd_error *out);

/* Does the file carry a valid VHD footer (end, or copy with a valid header)?
 * 1 yes, 0 no, negative: could not be read. */
int image_probe(struct vhd_io *io);

/* By which others know it; NULL: a raw disk has none. */
static inline const uint8_t *image_id(const struct vhd_image *image)
{
	return image->type == VHD_TYPE_RAW ? NULL : image->footer.uuid;
}

/* Is it a differencing image; is its parent raw (zero parent id)? */
static inline bool image_has_parent(const struct vhd_image *image)
{
	return image->type == VHD_TYPE_DIFFERENCING;
}
bool image_parent_is_raw(const struct vhd_image *image);
/* Is its data encrypted (doc/format.md, "Encryption")? */
static inline bool image_is_encrypted(const struct vhd_image *image)
{
	return image->batmap_header.keyhash;
}

/* Of an image without a batmap: the hash of its key, if one is kept beside the file (true). */
bool image_key_beside(struct vhd_io *io, struct vhd_batmap_header *out);

/* Read the BAT, find its faults, make the (read-only) map.  Sparse images
 * only; flat ones: 0, nothing to do. */
VHD_MUST int image_load(struct vhd_image *image, uint64_t cache_bytes, struct vhd_error *err);

/* Fill the totals in one pass over the BAT, without a map: for who needs no block.  *bad: the
 * first block whose entry is out of place, or IMAGE_NO_BLOCK; blocks that share
 * space are not sought. */
#define IMAGE_NO_BLOCK UINT32_MAX
VHD_MUST int image_survey(struct vhd_image *image, uint32_t *bad, struct vhd_error *err);
/* Is no entry of the BAT in use?  1, 0 (known from the first that is), or negative.  Sparse
 * images only. */
VHD_MUST int image_is_empty(struct vhd_image *image, struct vhd_error *err);

/* Refuses what must not be written (IMAGE_FOOTERS_DIFFER, BAT faults, poisoned); changes
 * nothing. */
VHD_MUST int image_may_write(struct vhd_image *image, uint64_t cache_bytes, struct vhd_error *err);
/* The same, then restores missing footers, and makes the map writable.  Locks are the
 * caller's business, taken before image_open. */
VHD_MUST int image_begin_write(struct vhd_image *image, uint64_t cache_bytes,
			       struct vhd_error *err);

/* Open the image again on the same io, with its locks: its metadata was changed underneath.  What
 * the map has not flushed is forgotten.  On failure *image is closed and NULL. */
VHD_MUST int image_reopen(struct vhd_image **image, struct vhd_error *err);

/* The disk is to have @size bytes, more than its footers say, at most what the block table has
 * entries for: blocks up to there can be reserved, in entries where nobody looks
 * until image_store_footers has written that size.  Before image_load. */
void image_grow(struct vhd_image *image, uint64_t size);
/* The caller knows of a growth that was interrupted: where only the sizes differ the end footer
 * is right, and the copy is restored at the next writing. */
void image_accept_growth(struct vhd_image *image);

/* ── synchronous use of the map; sectors; flat images answer EXT_HERE ── */

VHD_MUST int image_lookup(struct vhd_image *image, uint64_t sector, uint64_t count,
			  struct map_ext *out, int max, struct vhd_error *err);
/* As map_write, waiting included.  Returns the number of extents. */
VHD_MUST int image_reserve(struct vhd_image *image, struct map_req *req, struct map_ext *out,
			   int max, struct vhd_error *err);
void image_written(struct vhd_image *image, const struct map_req *req);
void image_cancel(struct vhd_image *image, const struct map_req *req);
VHD_MUST int image_flush(struct vhd_image *image, struct vhd_error *err);
/* map_quiesce: the file gets its final shape.  The image may be written on. */
VHD_MUST int image_finish(struct vhd_image *image, struct vhd_error *err);

/* As map_move, waiting included.  Returns 1, 0 (there is no such block) or negative. */
VHD_MUST int image_move(struct vhd_image *image, uint32_t block, uint64_t to, uint64_t *from,
			uint64_t *place, struct vhd_error *err);
VHD_MUST int image_moved(struct vhd_image *image, uint32_t block, struct vhd_error *err);
void image_move_cancel(struct vhd_image *image, uint32_t block, int lost);
/* As map_free of whole blocks, waiting included.  Returns how many were there. */
VHD_MUST int image_free(struct vhd_image *image, uint32_t block, uint32_t count,
			struct vhd_error *err);
/* Flush, and let all that follows from it come to its end: places that blocks have left are
 * punched and may be given to others. */
VHD_MUST int image_settle(struct vhd_image *image, struct vhd_error *err);

/* Perform one operation of a map on @io. */
int image_perform(struct vhd_io *io, const struct map_io *op);

/* ── places ── */

/* End of the last byte that any metadata uses, locator data included; and of blocks.  After
 * image_load or image_survey. */
uint64_t image_end_of_data(const struct vhd_image *image);
struct image_region {
	uint64_t offset, length;
};
#define IMAGE_REGIONS_MAX (5 + VHD_LOCATORS)

/* All metadata structures of a sparse image; returns their number.  Of locators their texts, or
 * with @rooms what is reserved for them: a claim, not to be held against blocks. */
unsigned image_regions(const struct vhd_image *image, bool rooms, struct image_region *out);

/* The whole block table in order, @count entries (big-endian) from @first on at a time, until one
 * says stop. */
#define IMAGE_WALK_STOP 1
typedef int image_piece_fn(void *arg, uint32_t first, const uint8_t *raw, uint32_t count);
VHD_MUST int image_walk_table(struct vhd_image *image, image_piece_fn *piece, void *arg,
			      struct vhd_error *err);

/* Is [offset, offset + length) free of metadata structures (footers, header, BAT, batmap,
 * locators) and, after image_load, of blocks below the lowest one? */
bool image_is_free(const struct vhd_image *image, uint64_t offset, uint64_t length);

/* The room in which this project's differencing images keep their locators and a second header
 * (plan.h): true and its offset, if it is there and no block lies in it. */
#define IMAGE_PARENT_ROOM 7168u /* bytes */
bool image_parent_room(const struct vhd_image *image, uint64_t *offset);

/* The file is to end with its footer at @offset, behind all data: footer, sync, cut, sync (ORDER 6,
 * 7).  A device keeps its size.  After image_begin_write. */
VHD_MUST int image_move_footer(struct vhd_image *image, uint64_t offset, struct vhd_error *err);

/* Write @footer to @at, and sync. */
VHD_MUST int image_put_footer(struct vhd_io *io, const struct vhd_footer *footer, uint64_t at);
/* Write the footer to both places, end first, each followed by a sync, after changing
 * image->footer (hidden, saved).  A single place for fixed images. */
VHD_MUST int image_store_footers(struct vhd_image *image, struct vhd_error *err);

/* Raw bytes of one entry / one bitmap (whole sectors of it), for tools. */
VHD_MUST int image_bat_entry(struct vhd_image *image, uint32_t block, uint32_t *entry,
			     struct vhd_error *err);
VHD_MUST int image_bitmap(struct vhd_image *image, uint32_t block, uint8_t *bits,
			  struct vhd_error *err);

#endif
