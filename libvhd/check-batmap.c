/* check-batmap.c - the batmap: its header, its place, its checksum
 *
 * What its bits say of blocks is compared where those are: check-blocks.c, check-bitmaps.c.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "bat.h"
#include "batmap.h"
#include "bitmap.h"
#include "check.h"
#include "image.h"

#define BATMAP_PIECE (64u << 10)

struct place {
	uint64_t offset, length; /* bytes */
	uint64_t first;		 /* where blocks may begin */
	uint64_t stride;
	bool taken;
};

static int place_piece(void *arg, uint32_t first, const uint8_t *raw, uint32_t count,
		       const uint8_t *batmap)
{
	struct place *p = arg;

	(void)first;
	(void)batmap;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t at = (uint64_t)be32_load(raw + 4ull * i) * VHD_SECTOR;

		p->taken |= at >= p->first && at != (uint64_t)VHD_BAT_UNUSED * VHD_SECTOR &&
			    number_overlap(at, p->stride, p->offset, p->length);
	}
	return 0;
}

int check_place_free(struct check *c, uint64_t offset, uint64_t length)
{
	struct place p = { offset, length,
			   batmap_header_offset(c->header.table_offset, c->header.max_entries),
			   (uint64_t)bitmap_stride(c->block_sectors) * VHD_SECTOR, false };
	int rc = c->has_table ? check_walk_table(c, place_piece, &p) : 0;

	return rc < 0 ? rc : c->has_table && !p.taken;
}

/* Does the map's checksum hold?  *@zero: not a bit is set. */
static int sum_batmap(struct check *c, const struct vhd_batmap_header *h, uint64_t bytes,
		      bool *good, bool *zero)
{
	uint64_t covered = batmap_covered_bytes(c->footer.current_size, c->header.block_size,
						bytes);
	CLEANUP_FREE uint8_t *piece = malloc(BATMAP_PIECE);
	uint32_t sum = 0;

	if (!piece)
		return -ENOMEM;
	*zero = true;
	for (uint64_t at = 0; at < bytes; at += BATMAP_PIECE) {
		size_t length = (size_t)number_min(bytes - at, BATMAP_PIECE);
		size_t summed = at < covered ? (size_t)number_min(covered - at, length) : 0;
		int rc = check_read(c, piece, length, h->offset + at);

		if (rc < 0)
			return rc;
		/* the checksum is the complement of a sum: sums of pieces add up */
		sum += ~batmap_checksum(piece, summed, h->version);
		for (size_t i = 0; i < length && *zero; i++)
			*zero = !piece[i];
	}
	*good = ~sum == h->checksum;
	return 0;
}

/* Is there room behind the table, where nothing lies that would be in its way? */
static int can_rebuild(struct check *c, uint64_t at)
{
	uint64_t map = (uint64_t)batmap_sectors(c->header.max_entries) * VHD_SECTOR;
	uint64_t length = VHD_BATMAP_HEADER_BYTES + map;

	/* a file that was cut off before: the end footer is put behind that room, if at all */
	return number_within(at, length, c->end_offset) ? check_place_free(c, at, length) : 0;
}

static int check_batmap_map(struct check *c, const struct vhd_batmap_header *h, uint64_t at)
{
	uint64_t bytes = (uint64_t)batmap_sectors(c->header.max_entries) * VHD_SECTOR;
	struct vhd_finding f = { .code = -VHD_E_BATMAP,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET | VHD_HAS_VALUES,
				 .offset = at };
	const struct check_range *hit;
	bool good, zero;
	int rc = can_rebuild(c, at);

	if (rc < 0)
		return rc;
	f.repairable = rc;
	f.expected = bytes / VHD_SECTOR;
	f.found = h->sectors;
	if (h->sectors < bytes / VHD_SECTOR) {
		check_report(c, &f, "the batmap has %u sectors, the table needs %llu", h->sectors,
			     (unsigned long long)(bytes / VHD_SECTOR));
		return 0;
	}
	f.has = VHD_HAS_OFFSET;
	hit = check_hit(c, h->offset, bytes);
	if (hit || h->offset % VHD_SECTOR || !number_within(h->offset, bytes, c->end_offset)) {
		check_report(c, &f, "the batmap is said to lie at offset %llu, %s %s",
			     (unsigned long long)h->offset, hit ? "over the" : "outside",
			     hit ? hit->name : "the file");
		return 0;
	}
	rc = sum_batmap(c, h, bytes, &good, &zero);
	if (rc < 0)
		return rc;
	/* as for readers: a map that is not right there lies nowhere */
	if (good) {
		check_add_range(c, h->offset, bytes, "batmap");
		c->batmap_offset = h->offset;
	}
	c->has_batmap = good;
	f.offset = at + BATMAP_CHECKSUM;
	if (!good) {
		/* ORDER 10: zeroed before its header is written; says nothing, hides nothing */
		f.severity = zero ? VHD_NOTE : VHD_DAMAGE;
		check_report(c, &f, "the checksum of the batmap is wrong; %s",
			     zero ? "it is empty, so nothing is lost" : "it is ignored");
	}
	return 0;
}

static int foreign_piece(void *arg, uint32_t first, const uint8_t *raw, uint32_t count,
			 const uint8_t *batmap)
{
	struct place *p = arg;

	(void)first;
	(void)batmap;
	p->taken |= bat_names(raw, count, p->offset);
	return 0;
}

/* As readers see it (image.c): the first block, or the end footer, lies where the header would, at
 * @at.  The version of the creator that may have no batmap, and is the same otherwise, is then right. */
static int check_foreign(struct check *c, uint64_t at, bool *foreign)
{
	struct vhd_finding f = { .code = -VHD_E_BATMAP,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET,
				 .offset = at,
				 .repairable = true };
	struct place p = { .offset = at, .taken = c->has_end && c->end_offset == at };
	uint8_t cookie[VHD_BATMAP_HEADER_BYTES];
	int rc = 0;

	if (!p.taken && number_within(at, sizeof(cookie), c->end_offset)) {
		rc = check_read(c, cookie, sizeof(cookie), at);
		if (!rc && !batmap_has_cookie(cookie))
			rc = check_walk_table(c, foreign_piece, &p);
	}
	*foreign = p.taken;
	if (rc < 0 || !p.taken)
		return rc;
	check_report(
		c, &f,
		"the creator of the image writes a batmap behind the table, but its data begins "
		"there: a program that knows no batmap wrote it; nothing is lost by that");
	c->no_batmap = true;
	c->footer.creator_version = VHD_TAP_1_1;
	return 0;
}

int check_batmap(struct check *c)
{
	uint64_t at = batmap_header_offset(c->header.table_offset, c->header.max_entries);
	struct vhd_finding f = {
		.code = -VHD_E_BATMAP, .severity = VHD_DAMAGE, .has = VHD_HAS_OFFSET, .offset = at
	};
	uint8_t raw[VHD_BATMAP_HEADER_BYTES];
	struct vhd_batmap_header h;
	struct vhd_error e = { 0 };
	const struct check_range *hit;
	bool foreign = false;
	int rc = 0;

	c->encrypted = image_key_beside(c->io, &h);
	if (!footer_may_have_batmap(&c->footer) && !footer_has_batmap(&c->footer))
		return 0;
	if (footer_has_batmap(&c->footer))
		rc = check_foreign(c, at, &foreign);
	if (rc < 0 || foreign)
		return rc;
	hit = check_hit(c, at, sizeof(raw));
	if (hit || !number_within(at, sizeof(raw), c->end_offset)) {
		if (footer_has_batmap(&c->footer))
			check_report(c, &f,
				     "the creator of the image writes a batmap after the "
				     "table, but there is no room for one");
		return 0;
	}
	rc = check_read(c, raw, sizeof(raw), at);
	if (rc < 0)
		return rc;
	rc = batmap_decode(raw, &h, &e);
	c->encrypted |= rc < 0 ? batmap_salvage_key(raw, &h) : h.keyhash;
	if (rc < 0) {
		int can = footer_has_batmap(&c->footer) ? can_rebuild(c, at) : 0;

		if (can >= 0 && footer_has_batmap(&c->footer))
			check_report_decoding(c, rc, at, &e, can);
		return can < 0 ? can : 0;
	}
	check_add_range(c, at, sizeof(raw), "batmap header");
	return check_batmap_map(c, &h, at);
}
