/* convert-dynamic.c - block table, bitmaps and batmap of a dynamic target */
#include "convert-dynamic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "batmap.h"
#include "bitmap.h"

static void set_present(struct convert_dynamic *d, uint64_t present)
{
	uint32_t bytes = bitmap_sectors(d->sectors) * VHD_SECTOR;

	if (d->present == present)
		return;
	memset(d->page, 0, d->page_bytes);
	bits_set_range(d->page + d->page_bytes - bytes, 0, present);
	d->present = present;
}

int convert_dynamic_reach(struct convert_dynamic *d, uint32_t block)
{
	uint64_t need = number_round_up((block + 1ull) * 4, VHD_SECTOR);
	uint8_t *bat;

	if (need <= d->bat_bytes)
		return 0;
	if (d->bat_bytes && need < 2 * d->bat_bytes)
		need = 2 * d->bat_bytes;
	bat = realloc(d->bat, need);
	if (!bat)
		return -ENOMEM;
	memset(bat + d->bat_bytes, 0xff, need - d->bat_bytes);
	d->bat = bat;
	d->bat_bytes = need;
	return 0;
}

int convert_dynamic_init_growing(struct convert_dynamic *d, const struct plan *plan, uint64_t first)
{
	uint32_t bytes;

	memset(d, 0, sizeof(*d));
	d->plan = plan;
	d->sectors = plan->header.block_size / VHD_SECTOR;
	bytes = bitmap_sectors(d->sectors) * VHD_SECTOR;
	d->page_bytes = plan->align ? (uint32_t)number_round_up(bytes, VHD_ALIGN) : bytes;
	d->next = number_div_up(first, VHD_SECTOR);
	d->page = aligned_alloc(VHD_ALIGN, number_round_up(d->page_bytes, VHD_ALIGN));
	if (!d->page)
		return -ENOMEM;
	set_present(d, d->sectors);
	return 0;
}

int convert_dynamic_init(struct convert_dynamic *d, const struct plan *plan, uint64_t first)
{
	int rc = convert_dynamic_init_growing(d, plan, first);

	return rc < 0 ? rc : convert_dynamic_reach(d, plan->header.max_entries - 1);
}

void convert_dynamic_release(struct convert_dynamic *d)
{
	free(d->bat);
	free(d->page);
	d->bat = NULL;
	d->page = NULL;
}

uint32_t convert_dynamic_entry(const struct convert_dynamic *d, uint32_t block)
{
	return be32_load(d->bat + block * 4ull);
}

uint32_t convert_dynamic_next(struct convert_dynamic *d)
{
	uint64_t at = d->plan->align ? bitmap_align(d->next, d->sectors) : d->next;

	d->next = at + bitmap_stride(d->sectors);
	return (uint32_t)at;
}

bool convert_dynamic_place(struct convert_dynamic *d, uint32_t block, uint32_t *entry)
{
	*entry = convert_dynamic_entry(d, block);
	if (*entry != VHD_BAT_UNUSED)
		return false;
	*entry = convert_dynamic_next(d);
	be32_store(d->bat + block * 4ull, *entry);
	return true;
}

uint64_t convert_dynamic_data(const struct convert_dynamic *d, uint32_t entry)
{
	return ((uint64_t)entry + bitmap_sectors(d->sectors)) * VHD_SECTOR;
}

void convert_dynamic_page(struct convert_dynamic *d, uint32_t block, uint64_t size)
{
	uint64_t start = (uint64_t)block * d->sectors;

	set_present(d, number_min(d->sectors, size / VHD_SECTOR - start));
}

uint64_t convert_dynamic_end(const struct convert_dynamic *d)
{
	return d->next * VHD_SECTOR;
}

/* Bits of all allocated blocks, but of a partial last one. */
static uint8_t *batmap_make(const struct convert_dynamic *d, const struct plan *p)
{
	uint8_t *map = calloc(1, 2 * p->batmap_bytes);

	for (uint32_t b = 0; map && b < p->footer.current_size / p->header.block_size; b++)
		if (d->full ? bits_test(d->full, b) : convert_dynamic_entry(d, b) != VHD_BAT_UNUSED)
			bits_set(map, b);
	return map;
}

int convert_dynamic_metadata(const struct convert_dynamic *d, const struct plan *p,
			     int (*put)(void *arg, const void *data, size_t length,
					uint64_t offset),
			     void *arg)
{
	uint8_t footer[VHD_FOOTER_BYTES], header[VHD_HEADER_BYTES], raw[VHD_BATMAP_HEADER_BYTES];
	CLEANUP_FREE uint8_t *map = p->batmap ? batmap_make(d, p) : NULL;
	uint64_t covered;
	int rc;

	if (p->batmap && !map)
		return -ENOMEM;
	footer_encode(&p->footer, footer);
	header_encode(&p->header, header);
	rc = put(arg, footer, sizeof(footer), 0);
	if (!rc)
		rc = put(arg, header, sizeof(header), p->footer.data_offset);
	if (!rc)
		rc = put(arg, d->bat, p->bat_bytes, p->header.table_offset);
	if (rc || !map)
		return rc;
	covered = batmap_covered_bytes(p->footer.current_size, p->header.block_size,
				       p->batmap_bytes);
	plan_batmap_header(p, raw);
	be32_store(raw + BATMAP_CHECKSUM,
		   batmap_checksum(map, covered, be32_load(raw + BATMAP_VERSION)));
	rc = put(arg, raw, sizeof(raw), p->batmap_at);
	return rc ? rc : put(arg, map, 2 * p->batmap_bytes, p->batmap_at + sizeof(raw));
}

int convert_dynamic_footers(struct vhd_io *io, const uint8_t footer[VHD_FOOTER_BYTES], uint64_t end,
			    bool in_place)
{
	int rc = in_place ? io_sync(io) : 0;

	if (!rc)
		rc = io_write(io, footer, VHD_FOOTER_BYTES, end);
	if (!rc && in_place)
		rc = io_sync(io);
	return rc ? rc : io_write(io, footer, VHD_FOOTER_BYTES, 0);
}
