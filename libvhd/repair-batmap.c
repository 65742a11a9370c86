/* repair-batmap.c - the batmap, made anew from the table and the bitmaps
 *
 * What the header keeps beside the map (marker, hash of a key) stays if the header can be read.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "batmap.h"
#include "bitmap.h"
#include "repair-private.h"

struct mapper {
	struct check *c;
	uint8_t *map, *bitmap; /* owned */
};

static int map_piece(void *arg, uint32_t first, const uint8_t *raw, uint32_t count,
		     const uint8_t *batmap)
{
	struct mapper *m = arg;
	struct check *c = m->c;
	uint32_t bytes = bitmap_sectors(c->block_sectors) * VHD_SECTOR;
	uint32_t whole = (uint32_t)(c->footer.current_size / c->header.block_size);

	(void)batmap;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t entry = be32_load(raw + 4ull * i);
		uint64_t at = (uint64_t)entry * VHD_SECTOR;
		int rc;

		if (entry == VHD_BAT_UNUSED)
			continue;
		if (first + i >= whole || check_block_bad(c, first + i) ||
		    !check_block_sound(c, entry))
			continue;
		rc = check_read(c, m->bitmap, bytes, at);
		if (rc == -EIO || rc == -VHD_E_TRUNCATED)
			continue; /* who cannot be read is not complete */
		if (rc < 0)
			return rc;
		if (bits_all_set(m->bitmap, 0, c->block_sectors))
			bits_set(m->map, first + i);
	}
	return check_progress(c, 4ull * (first + count), 4ull * c->entries);
}

/* The header's fields: what can be kept, and a place for the map. */
static int load_header(const struct check *c, uint64_t at, uint64_t bytes,
		       uint8_t raw[VHD_BATMAP_HEADER_BYTES], struct vhd_batmap_header *h)
{
	int rc = io_read(c->io, raw, VHD_BATMAP_HEADER_BYTES, at);

	if (rc < 0)
		return rc;
	if (batmap_decode(raw, h, NULL) < 0) {
		memset(h, 0, sizeof(*h));
		batmap_salvage_key(raw, h);
		memset(raw, 0, VHD_BATMAP_HEADER_BYTES);
		h->version = footer_has_batmap(&c->footer) ? 0x00010002 : 0x00010001;
	}
	if (!c->batmap_offset)
		h->offset = at + VHD_BATMAP_HEADER_BYTES;
	h->sectors = (uint32_t)(bytes / VHD_SECTOR);
	return 0;
}

int repair_batmap(struct repair *r, struct check *c)
{
	uint64_t at = batmap_header_offset(c->header.table_offset, c->header.max_entries);
	uint64_t bytes = (uint64_t)batmap_sectors(c->header.max_entries) * VHD_SECTOR;
	CLEANUP_FREE uint8_t *map = calloc(1, bytes);
	CLEANUP_FREE uint8_t *bitmap = malloc(bitmap_sectors(c->block_sectors) * VHD_SECTOR);
	struct mapper m = { .c = c, .map = map, .bitmap = bitmap };
	uint8_t raw[VHD_BATMAP_HEADER_BYTES];
	struct vhd_batmap_header h;
	int rc = -ENOMEM;

	if (!number_within(at, VHD_BATMAP_HEADER_BYTES, c->end_offset))
		return 0; /* there is no room for one */
	if (edits_full(&r->edits, bytes / VHD_SECTOR + 1)) {
		r->full = true;
		return 0;
	}
	if (map && bitmap)
		rc = load_header(c, at, bytes, raw, &h);
	if (rc < 0)
		return rc;
	if (h.offset < at || !number_within(h.offset, bytes, c->end_offset))
		return 0;
	rc = check_place_free(c, at, h.offset + bytes - at);
	if (rc > 0)
		rc = check_walk_table(c, map_piece, &m);
	else if (!rc)
		return 0;
	if (rc < 0)
		return rc;
	h.checksum = batmap_checksum(map,
				     batmap_covered_bytes(c->footer.current_size,
							  c->header.block_size, bytes),
				     h.version);
	batmap_encode(&h, raw);
	rc = edits_put(&r->edits, EDITS_BATMAP, map, bytes, h.offset);
	if (!rc)
		rc = edits_put(&r->edits, EDITS_BATMAP_HEADER, raw, sizeof(raw), at);
	return rc < 0 ? rc :
			repair_note(r, at, h.offset + bytes - at,
				    "the batmap is made anew from the bitmaps");
}
