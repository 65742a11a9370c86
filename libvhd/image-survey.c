/* image-survey.c - what the block table tells in one pass, without a map
 *
 * Questions that need no block's place of its own: how many there are, where
 * the last ends, is there any at all.  Blocks that share space are not sought
 * here: that is image_load's, and takes many times as long.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "error.h"
#include "image-private.h"

#define PIECE_BYTES (64u << 10)

int image_walk_table(struct vhd_image *img, image_piece_fn *piece, void *arg, struct vhd_error *err)
{
	uint64_t left = (uint64_t)img->header.max_entries * 4, at = 0;
	CLEANUP_FREE uint8_t *raw = malloc(PIECE_BYTES);

	if (!raw)
		return error_system(err, -ENOMEM, "load", img->io->name);
	while (left) {
		uint32_t bytes = (uint32_t)number_min(left, PIECE_BYTES);
		int rc = io_read(img->io, raw, bytes, img->header.table_offset + at);

		if (rc < 0)
			return error_system(err, rc, "read the block table of", img->io->name);
		if (piece(arg, (uint32_t)(at / 4), raw, bytes / 4) == IMAGE_WALK_STOP)
			break;
		at += bytes;
		left -= bytes;
	}
	return 0;
}

struct bat_shape image_bat_shape(const struct vhd_image *img)
{
	uint64_t end = img->problems & IMAGE_END_FOOTER_BAD ? img->file_bytes : img->footer_offset;

	return (struct bat_shape){
		.entries = img->header.max_entries,
		.blocks = img->blocks,
		.block_sectors = img->block_sectors,
		.first_sector = img->data_start / VHD_SECTOR,
		.end_sector = end / VHD_SECTOR,
	};
}

void image_find_trailing(struct vhd_image *img)
{
	uint8_t raw[VHD_FOOTER_BYTES];
	struct vhd_footer found;
	uint64_t at = image_end_of_data(img);

	if (!(img->problems & IMAGE_END_FOOTER_BAD) ||
	    !number_within(at, VHD_FOOTER_BYTES, img->file_bytes) ||
	    io_read(img->io, raw, sizeof(raw), at) < 0 || footer_decode(raw, &found, NULL) < 0 ||
	    footer_compare(&found, &img->footer) >= FOOTER_DIFF_SIZE)
		return;
	img->problems |= IMAGE_TRAILING_BYTES;
	img->footer_offset = at;
}

struct survey {
	struct bat_scan *scan;
	uint32_t bad; /* the first block at fault */
};

static int survey_piece(void *arg, uint32_t first, const uint8_t *raw, uint32_t count)
{
	struct survey *s = arg;

	bat_scan_feed(s->scan, first, raw, count);
	return 0;
}

static void note_first(void *arg, enum bat_fault fault, uint32_t block, uint32_t entry,
		       uint32_t other)
{
	struct survey *s = arg;

	(void)entry;
	(void)other;
	if (fault != BAT_BEYOND_DISK && s->bad == IMAGE_NO_BLOCK)
		s->bad = block;
}

int image_survey(struct vhd_image *img, uint32_t *bad, struct vhd_error *err)
{
	struct survey s = { .bad = IMAGE_NO_BLOCK };
	struct bat_shape shape;
	int rc = 0;

	*bad = IMAGE_NO_BLOCK;
	if (!footer_is_sparse(&img->footer) || img->type == VHD_TYPE_RAW)
		return 0;
	if (img->map) { /* known already */
		*bad = img->bad_count ? img->bad[0] : IMAGE_NO_BLOCK;
		return 0;
	}
	shape = image_bat_shape(img);
	rc = bat_scan_begin(&shape, false, note_first, &s, &s.scan);
	if (rc < 0)
		return error_system(err, rc, "load", img->io->name);
	rc = image_walk_table(img, survey_piece, &s, err);
	bat_scan_end(s.scan, &img->totals);
	if (rc < 0)
		return rc;
	image_find_trailing(img);
	*bad = s.bad;
	return 0;
}

static int find_used(void *arg, uint32_t first, const uint8_t *raw, uint32_t count)
{
	bool *used = arg;

	(void)first;
	for (uint32_t i = 0; i < count && !*used; i++)
		*used = be32_load(raw + (size_t)i * 4) != VHD_BAT_UNUSED;
	return *used ? IMAGE_WALK_STOP : 0;
}

int image_is_empty(struct vhd_image *img, struct vhd_error *err)
{
	bool used = false;
	int rc = image_walk_table(img, find_used, &used, err);

	return rc < 0 ? rc : !used;
}
