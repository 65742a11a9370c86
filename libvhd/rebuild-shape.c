/* rebuild-shape.c - does a table of such a shape fit what the file holds?
 *
 * With blocks taken to be too large, neighbours overlap; with blocks too small none
 * is as close to the next as writers place them.  A table read from the wrong place has
 * entries that lie nowhere.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "bat.h"
#include "batmap.h"
#include "bitmap.h"
#include "rebuild.h"
#include "zeros.h"

#define PIECE_BYTES (256u << 10)
#define PAD_SECTORS (VHD_ALIGN / VHD_SECTOR)
#define BARE_BYTES  (64u << 10) /* more than locators and what is kept free beside them */

struct shaper {
	uint32_t stride;
	uint64_t last; /* entry of the block before; 0: none */
	bool tight;
};

static bool as_close(uint64_t low, uint64_t high, uint32_t stride)
{
	return high >= low + stride && high < low + stride + PAD_SECTORS;
}

static void measure(struct shaper *s, const uint8_t *raw, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t entry = be32_load(raw + 4ull * i);

		if (entry == VHD_BAT_UNUSED) {
			s->last = 0;
			continue;
		}
		if (s->last)
			s->tight |= as_close(s->last, entry, s->stride) ||
				    as_close(entry, s->last, s->stride);
		s->last = entry;
	}
}

/* What fills the last sector of the table is ones or zeros, and no entries. */
static int look_at_padding(const struct rebuild_spec *spec, const struct vhd_header *h, bool *clean)
{
	uint64_t end = h->table_offset + 4ull * h->max_entries;
	size_t length = (size_t)(number_round_up(end, VHD_SECTOR) - end);
	uint8_t raw[VHD_SECTOR];
	int rc = io_read(spec->io, raw, length, end);

	*clean = true;
	for (size_t i = 0; !rc && i < length; i += 4) {
		uint32_t entry = be32_load(raw + i);

		*clean &= !entry || entry == VHD_BAT_UNUSED;
	}
	return rc;
}

static int feed(const struct rebuild_spec *spec, const struct vhd_header *h, struct bat_scan *scan,
		struct shaper *s)
{
	uint64_t left = 4ull * h->max_entries, at = 0;
	CLEANUP_FREE uint8_t *piece = malloc(PIECE_BYTES);

	if (!piece)
		return -ENOMEM;
	while (left) {
		uint32_t bytes = (uint32_t)number_min(left, PIECE_BYTES);
		int rc = io_read(spec->io, piece, bytes, h->table_offset + at);

		if (rc < 0)
			return rc;
		bat_scan_feed(scan, (uint32_t)(at / 4), piece, bytes / 4);
		measure(s, piece, bytes / 4);
		at += bytes;
		left -= bytes;
	}
	return 0;
}

int rebuild_shape(const struct rebuild_spec *spec, const struct vhd_header *h,
		  struct rebuild_shape *out)
{
	uint32_t sectors = h->block_size / VHD_SECTOR;
	uint64_t behind = batmap_header_offset(h->table_offset, h->max_entries);
	struct shaper s = { .stride = bitmap_stride(sectors) };
	struct bat_shape shape = {
		.entries = h->max_entries,
		.blocks = (uint32_t)number_div_up(spec->footer->current_size, h->block_size),
		.block_sectors = sectors,
		.first_sector = behind / VHD_SECTOR,
		.end_sector = spec->end_offset / VHD_SECTOR,
	};
	struct bat_totals totals;
	struct bat_scan *scan;
	bool clean;
	int rc;

	if (behind > spec->end_offset) {
		*out = (struct rebuild_shape){ .faults = 1 };
		return 0;
	}
	rc = look_at_padding(spec, h, &clean);
	if (rc < 0)
		return rc;
	rc = bat_scan_begin(&shape, true, NULL, NULL, &scan);
	if (rc < 0)
		return rc;
	do {
		rc = feed(spec, h, scan, &s);
	} while (!rc && bat_scan_again(scan));
	bat_scan_end(scan, &totals);
	if (rc < 0)
		return rc;
	*out = (struct rebuild_shape){ totals.allocated, totals.faults + !clean, s.tight };
	if (spec->has_end && totals.allocated)
		out->tight |= as_close(totals.end_sector - s.stride, shape.end_sector, s.stride);
	return 0;
}

/* 1: a bit is set in the map behind the table. */
static int batmap_remembers(const struct rebuild_spec *spec, uint64_t at, uint64_t length)
{
	CLEANUP_FREE uint8_t *piece = malloc(PIECE_BYTES);

	if (!piece)
		return -ENOMEM;
	while (length) {
		size_t n = (size_t)number_min(length, PIECE_BYTES);
		int rc = io_read(spec->io, piece, n, at);

		if (rc < 0)
			return rc;
		if (!zeros_are(piece, n))
			return 1;
		at += n;
		length -= n;
	}
	return 0;
}

int rebuild_is_bare(const struct rebuild_spec *spec, const struct vhd_header *h)
{
	uint64_t at = batmap_header_offset(h->table_offset, h->max_entries), stored = 0;
	uint64_t map = (uint64_t)batmap_sectors(h->max_entries) * VHD_SECTOR;
	uint64_t end = number_min(spec->end_offset, spec->file_bytes), data, data_end;
	struct vhd_batmap_header batmap;
	uint8_t raw[VHD_BATMAP_HEADER_BYTES];
	int rc = rebuild_batmap_there(spec, h->table_offset, h->max_entries);

	if (rc > 0) {
		rc = io_read(spec->io, raw, sizeof(raw), at);
		if (!rc && !batmap_decode(raw, &batmap, NULL) &&
		    number_within(batmap.offset, map, spec->file_bytes))
			rc = batmap_remembers(spec, batmap.offset, map);
		at += sizeof(raw) + 2 * map; /* used in turn */
	}
	if (rc)
		return rc < 0 ? rc : 0;
	while (at < end && stored < BARE_BYTES) {
		rc = io_data(spec->io, at, &data, &data_end);
		if (rc < 0)
			return rc;
		if (data >= data_end || data >= end)
			break;
		at = number_min(data_end, end);
		stored += at - data;
	}
	return stored < BARE_BYTES;
}

int rebuild_batmap_there(const struct rebuild_spec *spec, uint64_t table_offset, uint32_t entries)
{
	uint64_t at = batmap_header_offset(table_offset, entries);
	uint8_t raw[VHD_BATMAP_HEADER_BYTES];
	struct vhd_batmap_header h;
	int rc;

	if (!footer_has_batmap(spec->footer) || !number_within(at, sizeof(raw), spec->file_bytes))
		return 0;
	rc = io_read(spec->io, raw, sizeof(raw), at);
	if (rc < 0)
		return rc;
	return !batmap_decode(raw, &h, NULL) && h.sectors >= batmap_sectors(entries);
}
