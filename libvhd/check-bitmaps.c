/* check-bitmaps.c - sector bitmaps against the data and the batmap
 *
 * A dynamic image promises zeros where a bit is clear, so that readers which
 * ignore bitmaps agree with those that do not; only clear runs that have
 * storage are read, in pieces of up to PIECE_BYTES.  In a differencing image
 * data under clear bits means nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "bitmap.h"
#include "check.h"

#define PIECE_BYTES (1u << 20)

struct bits {
	struct check *c;
	uint32_t bitmap_bytes;
	uint8_t *bitmap;	       /* owned */
	uint8_t *data;		       /* owned; PIECE_BYTES */
	uint64_t storage, storage_end; /* where the file has some, asked last */
};

/* Find the first sector that is not zero in [from, from + count) of a block whose data
 * starts at @data_offset; *@found = count when there is none. */
static int first_dirty(struct bits *b, uint64_t data_offset, uint32_t from, uint32_t count,
		       uint32_t *found)
{
	static const uint8_t zeros[VHD_SECTOR];
	uint64_t at = data_offset + (uint64_t)from * VHD_SECTOR;
	uint64_t start = at, end = at + (uint64_t)count * VHD_SECTOR;

	*found = count;
	while (at < end) {
		size_t length;
		int rc = 0;

		if (at >= b->storage_end)
			rc = io_data(b->c->io, at, &b->storage, &b->storage_end);
		if (rc < 0 || b->storage >= b->storage_end) {
			b->storage = at; /* no such knowledge, or the last hole: read it */
			b->storage_end = end;
		}
		at = number_max(at, number_round_down(b->storage, VHD_SECTOR));
		if (at >= end)
			return 0;
		length = (size_t)number_min(end - at, PIECE_BYTES);
		rc = check_read(b->c, b->data, length, at);
		if (rc < 0)
			return rc;
		for (size_t i = 0; i < length; i += VHD_SECTOR)
			if (memcmp(b->data + i, zeros, VHD_SECTOR) != 0) {
				*found = (uint32_t)((at - start + i) / VHD_SECTOR);
				return 0;
			}
		at += length;
	}
	return 0;
}

/* A dynamic image's block: is all zero where bits are clear? */
static int check_clear(struct bits *b, uint32_t block, uint32_t entry, uint32_t sectors)
{
	uint64_t data = (uint64_t)entry * VHD_SECTOR + b->bitmap_bytes;
	struct vhd_finding f = { .code = -VHD_E_BITMAP,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET | VHD_HAS_BLOCK,
				 .block = block,
				 .repairable = true };
	uint32_t from = 0, found;

	while (from < sectors) {
		uint32_t run = (uint32_t)bits_run(b->bitmap, from, sectors);

		if (!bits_test(b->bitmap, from)) {
			int rc = first_dirty(b, data, from, run, &found);

			if (rc < 0)
				return rc;
			if (found < run) {
				f.offset = data + (uint64_t)(from + found) * VHD_SECTOR;
				check_report(b->c, &f,
					     "sector %u has data, but the bitmap says it was never "
					     "written: readers disagree about it",
					     from + found);
				return 0; /* one finding a block */
			}
		}
		from += run;
	}
	return 0;
}

static int check_block(struct bits *b, uint32_t block, uint32_t entry, bool complete)
{
	struct check *c = b->c;
	uint64_t left = c->footer.current_size / VHD_SECTOR - (uint64_t)block * c->block_sectors;
	uint32_t sectors = (uint32_t)number_min(left, c->block_sectors);
	struct vhd_finding f = { .code = -VHD_E_BATMAP,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET | VHD_HAS_BLOCK,
				 .offset = (uint64_t)entry * VHD_SECTOR,
				 .block = block,
				 .repairable = true };
	int rc = check_read(c, b->bitmap, b->bitmap_bytes, (uint64_t)entry * VHD_SECTOR);

	if (rc < 0)
		return rc;
	c->result->present_sectors += bits_count(b->bitmap, sectors);
	if (bits_all_set(b->bitmap, 0, sectors))
		return 0;
	if (complete)
		check_report(c, &f,
			     "the batmap calls it complete, but its bitmap does not: the "
			     "parent's data is hidden");
	return c->footer.type == VHD_TYPE_DYNAMIC ? check_clear(b, block, entry, sectors) : 0;
}

/* The other blocks are looked at all the same. */
static int report_unreadable(struct check *c, uint32_t block, uint32_t entry)
{
	struct vhd_finding f = { .code = -VHD_E_BITMAP,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET | VHD_HAS_BLOCK,
				 .offset = (uint64_t)entry * VHD_SECTOR,
				 .block = block };

	check_report(c, &f, "its bitmap or data cannot be read from the storage");
	return 0;
}

static int check_piece(void *arg, uint32_t first, const uint8_t *raw, uint32_t count,
		       const uint8_t *batmap)
{
	struct bits *b = arg;
	struct check *c = b->c;

	for (uint32_t i = 0; i < count && first + i < c->blocks; i++) {
		uint32_t entry = be32_load(raw + 4ull * i);
		int rc;

		if (entry == VHD_BAT_UNUSED || !check_block_sound(c, entry))
			continue;
		rc = check_block(b, first + i, entry, batmap && bits_test(batmap, i));
		if (rc == -EIO || rc == -VHD_E_TRUNCATED)
			rc = report_unreadable(c, first + i, entry);
		if (!rc)
			rc = check_progress(c, (first + i + 1ull) * c->header.block_size,
					    (uint64_t)c->blocks * c->header.block_size);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int check_bitmaps(struct check *c)
{
	struct bits b = { .c = c };
	int rc = -ENOMEM;

	if (!c->has_table)
		return 0;
	b.bitmap_bytes = bitmap_sectors(c->block_sectors) * VHD_SECTOR;
	b.bitmap = malloc(b.bitmap_bytes);
	b.data = malloc(PIECE_BYTES);
	if (b.bitmap && b.data)
		rc = check_walk_table(c, check_piece, &b);
	free(b.bitmap);
	free(b.data);
	return rc;
}
