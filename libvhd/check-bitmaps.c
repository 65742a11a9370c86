/* check-bitmaps.c - sector bitmaps against the data and the batmap
 *
 * A dynamic image promises zeros where a bit is clear, so that readers which
 * ignore bitmaps agree with those that do not; only clear runs that have
 * storage are read.  What a bitmap is worth: judge.h.
 */
#include <errno.h>

#include "base/bits.h"
#include "base/endian.h"
#include "judge.h"

static int check_block(struct judge *j, uint32_t block, uint32_t entry, bool complete)
{
	struct check *c = j->c;
	struct vhd_finding f = { .code = -VHD_E_BITMAP,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET | VHD_HAS_BLOCK,
				 .offset = (uint64_t)entry * VHD_SECTOR,
				 .block = block };
	uint32_t sector;
	int verdict = judge_block(j, block, entry, complete, &sector);
	uint64_t place = f.offset + j->bitmap_bytes + (uint64_t)sector * VHD_SECTOR;

	if (verdict < 0)
		return verdict;
	c->result->present_sectors += bits_count(j->bitmap, j->sectors);
	switch ((enum judge_verdict)verdict) {
	case JUDGE_SOUND:
		break;
	case JUDGE_STALE:
		f.code = -VHD_E_BATMAP;
		f.repairable = true;
		check_report(c, &f,
			     "the batmap calls it complete, but its bitmap does not: the "
			     "parent's data is hidden");
		break;
	case JUDGE_FILL:
		f.repairable = true;
		f.offset = place;
		check_report(c, &f,
			     "its bitmap is wrong: sector %u has data under a clear bit, and %s",
			     sector,
			     complete ? "the batmap calls the block complete" :
					"the creator of the image sets all bits");
		break;
	case JUDGE_UNMARKED:
		f.offset = place;
		check_report(c, &f,
			     "sector %u has data, but the bitmap says it was never "
			     "written: readers disagree about it; to keep it: vhd-util repair "
			     "--keep-unmarked",
			     sector);
		break;
	case JUDGE_WIPED:
		f.severity = VHD_WARNING;
		f.offset = place;
		check_report(c, &f,
			     "sector %u has data, but no bit says that it is not the parent's: "
			     "perhaps the bitmap was lost",
			     sector);
		break;
	case JUDGE_NOISE:
		f.severity = VHD_WARNING;
		check_report(
			c, &f,
			"its bitmap looks like noise: perhaps it was overwritten, then sectors "
			"of this block and of the parent are mixed up");
		break;
	}
	if (verdict != JUDGE_SOUND && c->more && c->more->bitmap)
		return c->more->bitmap(c->more->arg, j, block, entry, verdict);
	return 0;
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
	struct judge *j = arg;
	struct check *c = j->c;

	for (uint32_t i = 0; i < count && first + i < c->blocks; i++) {
		uint32_t entry = be32_load(raw + 4ull * i);
		int rc;

		if (entry == VHD_BAT_UNUSED || check_block_bad(c, first + i) ||
		    !check_block_sound(c, entry))
			continue;
		rc = check_block(j, first + i, entry, batmap && bits_test(batmap, i));
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
	struct judge j;
	int rc;

	if (!c->has_table)
		return 0;
	rc = judge_begin(&j, c);
	if (!rc)
		rc = check_walk_table(c, check_piece, &j);
	judge_end(&j);
	return rc;
}
