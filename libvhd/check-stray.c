/* check-stray.c - an end footer with other bytes behind it
 *
 *   ... | last block | end footer | trailing bytes, where the end footer belongs |
 *
 * It is sought backward from the end of the file, and believed only where it fits what else is
 * known: guests can write footers too.
 *
 *   with a copy at the start    a little way, of the same disk as the copy
 *   fixed                       it stands where its disk ends
 *   sparse, no copy             it leads to a whole header, whose table places all blocks before it
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "bitmap.h"
#include "check.h"

#define TAIL_BYTES  (64u << 10) /* with a copy: nothing but its place is to be learned */
#define FAR_BYTES   (4u << 20)
#define PIECE_BYTES (64u << 10)

/* Does the table of @h place all blocks before @end? */
static int blocks_before(struct check *c, const struct vhd_header *h, uint64_t end)
{
	uint64_t table = 4ull * h->max_entries;
	uint32_t sectors = h->block_size / VHD_SECTOR;
	CLEANUP_FREE uint8_t *piece = malloc(PIECE_BYTES);

	if (!piece)
		return -ENOMEM;
	for (uint64_t at = 0; at < table;) {
		size_t n = (size_t)number_min(table - at, PIECE_BYTES);
		int rc = check_read(c, piece, n, h->table_offset + at);

		if (rc < 0)
			return rc;
		for (size_t i = 0; i < n; i += 4) {
			uint64_t entry = be32_load(piece + i);

			if (entry != VHD_BAT_UNUSED &&
			    (entry + bitmap_sectors(sectors) + sectors) * VHD_SECTOR > end)
				return 0;
		}
		at += n;
	}
	return 1;
}

/* The footer @f of a sparse image at @at: 1 if the rest of the file agrees, 0, negative. */
static int sparse_fits(struct check *c, const struct vhd_footer *f, uint64_t at)
{
	static const uint8_t none[VHD_UUID_BYTES];
	uint8_t raw[VHD_HEADER_BYTES];
	struct vhd_header h;
	bool child;
	int rc;

	if (!number_within(f->data_offset, sizeof(raw), at))
		return 0;
	rc = check_read(c, raw, sizeof(raw), f->data_offset);
	if (rc < 0)
		return rc;
	if (header_decode(raw, &h, NULL) < 0 ||
	    header_fits(&h, f->data_offset, f->current_size, at + VHD_FOOTER_BYTES, NULL) < 0)
		return 0;
	child = memcmp(h.parent_uuid, none, sizeof(none)) != 0 || h.locators[0].code;
	if (child != (f->type == VHD_TYPE_DIFFERENCING))
		return 0;
	return blocks_before(c, &h, at);
}

static int fits(struct check *c, const struct vhd_footer *f, const struct vhd_footer *copy,
		uint64_t at)
{
	if (!at)
		return 0;
	if (copy)
		return footer_compare(f, copy) != FOOTER_DIFF_SEVERE;
	return footer_is_sparse(f) ? sparse_fits(c, f, at) :
				     f->type == VHD_TYPE_FIXED && f->current_size == at;
}

int check_seek_stray(struct check *c, const struct vhd_footer *copy)
{
	uint64_t reach = number_min(c->file_bytes, copy ? TAIL_BYTES : FAR_BYTES);
	uint64_t from = number_round_up(c->file_bytes - reach, VHD_SECTOR);
	size_t length = (size_t)(c->file_bytes - from);
	CLEANUP_FREE uint8_t *tail = malloc(length + 1);
	int rc;

	if (!tail)
		return -ENOMEM;
	rc = check_read(c, tail, length, from);
	if (rc < 0)
		return rc;
	for (size_t at = number_round_down(length, VHD_SECTOR); at >= VHD_SECTOR;) {
		struct vhd_footer f;

		at -= VHD_SECTOR;
		if (footer_decode(tail + at, &f, NULL) < 0)
			continue;
		rc = fits(c, &f, copy, from + at);
		if (rc < 0)
			return rc;
		if (!rc)
			continue;
		c->has_stray = true;
		c->stray_offset = from + at;
		c->stray = f;
		return 0;
	}
	return 0;
}
