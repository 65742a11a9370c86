/* judge.c - witnesses for and against bitmaps */
#include "judge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/number.h"
#include "bitmap.h"

#define PIECE_BYTES (1u << 20)
#define WINDOW	    (8 * VHD_SECTOR) /* bits of one sector of a bitmap */
#define NOISE_BITS  1024u	     /* of fewer nothing can be said */

int judge_begin(struct judge *j, struct check *c)
{
	*j = (struct judge){ .c = c };
	j->bitmap_bytes = bitmap_sectors(c->block_sectors) * VHD_SECTOR;
	j->bitmap = malloc(j->bitmap_bytes);
	j->data = malloc(PIECE_BYTES);
	return j->bitmap && j->data ? 0 : -ENOMEM;
}

void judge_end(struct judge *j)
{
	free(j->bitmap);
	free(j->data);
	*j = (struct judge){ .c = NULL };
}

int judge_first_data(struct judge *j, uint32_t entry, uint32_t from, uint32_t count,
		     uint32_t *found)
{
	static const uint8_t zeros[VHD_SECTOR];
	uint64_t at = (uint64_t)entry * VHD_SECTOR + j->bitmap_bytes + (uint64_t)from * VHD_SECTOR;
	uint64_t start = at, end = at + (uint64_t)count * VHD_SECTOR;

	*found = count;
	while (at < end) {
		size_t length;
		int rc = 0;

		if (at >= j->storage_end)
			rc = io_data(j->c->io, at, &j->storage, &j->storage_end);
		if (rc < 0 || j->storage >= j->storage_end) {
			j->storage = at; /* no such knowledge, or the last hole: read it */
			j->storage_end = end;
		}
		at = number_max(at, number_round_down(j->storage, VHD_SECTOR));
		if (at >= end)
			return 0;
		length = (size_t)number_min(end - at, PIECE_BYTES);
		rc = check_read(j->c, j->data, length, at);
		if (rc < 0)
			return rc;
		for (size_t i = 0; i < length; i += VHD_SECTOR)
			if (memcmp(j->data + i, zeros, VHD_SECTOR) != 0) {
				*found = (uint32_t)((at - start + i) / VHD_SECTOR);
				return 0;
			}
		at += length;
	}
	return 0;
}

/* Data under clear bits of [from, end): *@found, or @end. */
static int data_under_clear(struct judge *j, uint32_t entry, uint32_t from, uint32_t end,
			    uint32_t *found)
{
	while (from < end) {
		uint32_t run = (uint32_t)bits_run(j->bitmap, from, end), first;

		if (!bits_test(j->bitmap, from)) {
			int rc = judge_first_data(j, entry, from, run, &first);

			if (rc < 0)
				return rc;
			if (first < run) {
				*found = from + first;
				return 0;
			}
		}
		from += run;
	}
	*found = end;
	return 0;
}

/* A writer's sectors follow each other; and what is behind the last bit is never touched. */
static bool is_noise(const struct judge *j)
{
	uint32_t all = j->c->block_sectors, bits = j->bitmap_bytes * 8, changes = 0;

	if (!bits_all_set(j->bitmap, all, bits - all) &&
	    !bits_all_clear(j->bitmap, all, bits - all))
		return true;
	for (uint32_t at = 0; at < j->sectors; changes++)
		at += (uint32_t)bits_run(j->bitmap, at, j->sectors);
	return j->sectors >= NOISE_BITS && changes > j->sectors * 2 / 5 &&
	       changes < j->sectors / 5 * 3;
}

/* A sector of the bitmap without a bit, and data in its part of the block.  1, 0, negative. */
static int is_wiped(struct judge *j, uint32_t entry, uint32_t *sector)
{
	for (uint32_t from = 0; from < j->sectors; from += WINDOW) {
		uint32_t count = (uint32_t)number_min(j->sectors - from, WINDOW), found;
		int rc;

		if (!bits_all_clear(j->bitmap, from, count))
			continue;
		rc = judge_first_data(j, entry, from, count, &found);
		if (rc < 0)
			return rc;
		*sector = from + found;
		if (found < count)
			return 1;
	}
	return 0;
}

/* This creator's writers set all bits of a block when they allocate it. */
static bool sets_all_bits(const struct vhd_footer *f)
{
	return f->type == VHD_TYPE_DYNAMIC &&
	       (!memcmp(f->creator_app, "qemu", 4) || !memcmp(f->creator_app, "qem2", 4));
}

static int load(struct judge *j, uint32_t block, uint32_t entry)
{
	struct check *c = j->c;
	uint64_t size = c->footer.current_size / VHD_SECTOR;
	uint64_t before = (uint64_t)block * c->block_sectors;

	j->sectors = before >= size ? 0 : (uint32_t)number_min(size - before, c->block_sectors);
	return check_read(c, j->bitmap, j->bitmap_bytes, (uint64_t)entry * VHD_SECTOR);
}

int judge_block(struct judge *j, uint32_t block, uint32_t entry, bool complete, uint32_t *sector)
{
	bool parent = j->c->footer.type == VHD_TYPE_DIFFERENCING;
	int rc = load(j, block, entry);

	*sector = 0;
	if (rc < 0 || bits_all_set(j->bitmap, 0, j->sectors))
		return rc < 0 ? rc : JUDGE_SOUND;
	/* a write that a crash cut off leaves ciphertext that nobody takes for data */
	if (!complete && !parent && j->c->encrypted)
		return JUDGE_SOUND;
	if (complete || !parent) {
		rc = data_under_clear(j, entry, 0, j->sectors, sector);
		if (rc < 0)
			return rc;
		if (*sector < j->sectors)
			return complete || sets_all_bits(&j->c->footer) ? JUDGE_FILL :
									  JUDGE_UNMARKED;
		return complete ? JUDGE_STALE : JUDGE_SOUND;
	}
	rc = is_wiped(j, entry, sector);
	if (rc)
		return rc < 0 ? rc : JUDGE_WIPED;
	return is_noise(j) ? JUDGE_NOISE : JUDGE_SOUND;
}

int judge_begins(struct judge *j, uint32_t block, uint32_t entry)
{
	int rc = load(j, block, entry);
	uint32_t found;

	if (rc < 0)
		return rc;
	if (bits_all_clear(j->bitmap, 0, j->sectors) || is_noise(j))
		return 0;
	rc = data_under_clear(j, entry, 0, j->sectors, &found);
	return rc < 0 ? rc : found == j->sectors;
}
