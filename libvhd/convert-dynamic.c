/* convert-dynamic.c - block table, bitmaps and batmap of a dynamic target
 *
 * Written in pieces, so that the smallest blocks of the largest disk, whose table
 * has a gigabyte, take one bit each.
 */
#include "convert-dynamic.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "batmap.h"
#include "bitmap.h"

#ifndef PIECE_BYTES /* smaller in tests */
#define PIECE_BYTES (1u << 20)
#endif

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
	uint64_t need = block / 8 + 1ull;
	uint8_t *used;

	if (need <= d->used_bytes)
		return 0;
	need = number_max(need, number_max(2 * d->used_bytes, VHD_SECTOR));
	used = realloc(d->used, need);
	if (!used)
		return -ENOMEM;
	memset(used + d->used_bytes, 0, need - d->used_bytes);
	d->used = used;
	d->used_bytes = need;
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
	d->first = number_div_up(first, VHD_SECTOR);
	d->next = d->first;
	d->last_entry = VHD_BAT_UNUSED;
	d->page = aligned_alloc(VHD_ALIGN, number_round_up(d->page_bytes, VHD_ALIGN));
	if (!d->page)
		return -ENOMEM;
	set_present(d, d->sectors);
	return 0;
}

int convert_dynamic_init(struct convert_dynamic *d, const struct plan *plan, uint64_t first)
{
	int rc = convert_dynamic_init_growing(d, plan, first);

	if (rc < 0)
		return rc;
	d->used_bytes = plan->header.max_entries / 8 + 1ull;
	d->used = calloc(1, d->used_bytes); /* of the storage only what is touched */
	return d->used ? 0 : -ENOMEM;
}

void convert_dynamic_release(struct convert_dynamic *d)
{
	free(d->used);
	free(d->page);
	d->used = NULL;
	d->page = NULL;
}

/* The place at or after sector @next. */
static uint64_t place(const struct convert_dynamic *d, uint64_t next)
{
	return d->plan->align ? bitmap_align(next, d->sectors) : next;
}

uint32_t convert_dynamic_next(struct convert_dynamic *d)
{
	uint64_t at = place(d, d->next);

	d->next = at + bitmap_stride(d->sectors);
	return (uint32_t)at;
}

bool convert_dynamic_place(struct convert_dynamic *d, uint32_t block, uint32_t *entry)
{
	if (d->last_entry != VHD_BAT_UNUSED && block == d->last) {
		*entry = d->last_entry;
		return false;
	}
	assert(d->last_entry == VHD_BAT_UNUSED || block > d->last);
	bits_set(d->used, block);
	*entry = convert_dynamic_next(d);
	d->last = block;
	d->last_entry = *entry;
	return true;
}

uint32_t convert_dynamic_last(const struct convert_dynamic *d, uint32_t block)
{
	return block == d->last ? d->last_entry : VHD_BAT_UNUSED;
}

uint32_t convert_dynamic_step(const struct convert_dynamic *d, struct convert_dynamic_walk *walk)
{
	uint64_t block = walk->block++, at;

	if (block / 8 >= d->used_bytes || !bits_test(d->used, block))
		return VHD_BAT_UNUSED;
	at = place(d, walk->next ? walk->next : d->first);
	walk->next = at + bitmap_stride(d->sectors);
	return (uint32_t)at;
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

typedef int put_fn(void *arg, const void *data, size_t length, uint64_t offset);

int convert_dynamic_table(const struct convert_dynamic *d, const struct plan *p,
			  int (*put)(void *arg, const void *data, size_t length, uint64_t offset),
			  void *arg)
{
	CLEANUP_FREE uint8_t *piece = malloc(PIECE_BYTES);
	struct convert_dynamic_walk walk = { 0 };
	int rc = piece ? 0 : -ENOMEM;

	for (uint64_t at = 0; at < p->bat_bytes && !rc; at += PIECE_BYTES) {
		size_t n = number_min(p->bat_bytes - at, PIECE_BYTES);

		for (size_t i = 0; i < n; i += 4)
			be32_store(piece + i, convert_dynamic_step(d, &walk));
		rc = put(arg, piece, n, p->header.table_offset + at);
	}
	return rc;
}

/* Bytes of the batmap from @at on: bits of all allocated blocks, but of a partial last one. */
static void batmap_piece(const struct convert_dynamic *d, const struct plan *p, uint64_t at,
			 uint8_t *piece, size_t n)
{
	uint64_t whole = p->footer.current_size / p->header.block_size;
	uint64_t bytes = d->full ? p->batmap_bytes : d->used_bytes;
	uint64_t have = at < bytes ? number_min(n, bytes - at) : 0;

	if (have)
		memcpy(piece, (d->full ? d->full : d->used) + at, have);
	memset(piece + have, 0, n - have);
	if (whole / 8 >= at && whole / 8 < at + n)
		piece[whole / 8 - at] &= (uint8_t)(0xff00 >> whole % 8);
}

/* The complement of a sum: of all pieces together. */
static uint32_t batmap_sum(const struct convert_dynamic *d, const struct plan *p, uint8_t *piece,
			   uint32_t version)
{
	uint64_t covered = batmap_covered_bytes(p->footer.current_size, p->header.block_size,
						p->batmap_bytes);
	uint32_t sum = 0;

	for (uint64_t at = 0; at < covered; at += PIECE_BYTES) {
		size_t n = number_min(covered - at, PIECE_BYTES);

		batmap_piece(d, p, at, piece, n);
		sum += ~batmap_checksum(piece, n, version);
	}
	return ~sum;
}

/* Its header, the map, and zeros where the next one will be. */
static int put_batmap(const struct convert_dynamic *d, const struct plan *p, put_fn *put, void *arg)
{
	CLEANUP_FREE uint8_t *piece = malloc(PIECE_BYTES);
	uint8_t raw[VHD_BATMAP_HEADER_BYTES];
	int rc;

	if (!piece)
		return -ENOMEM;
	plan_batmap_header(p, raw);
	be32_store(raw + BATMAP_CHECKSUM, batmap_sum(d, p, piece, be32_load(raw + BATMAP_VERSION)));
	rc = put(arg, raw, sizeof(raw), p->batmap_at);
	for (uint64_t at = 0; at < 2 * p->batmap_bytes && !rc; at += PIECE_BYTES) {
		size_t n = number_min(2 * p->batmap_bytes - at, PIECE_BYTES);

		batmap_piece(d, p, at, piece, n);
		rc = put(arg, piece, n, p->batmap_at + sizeof(raw) + at);
	}
	return rc;
}

int convert_dynamic_metadata(const struct convert_dynamic *d, const struct plan *p,
			     int (*put)(void *arg, const void *data, size_t length,
					uint64_t offset),
			     void *arg)
{
	uint8_t footer[VHD_FOOTER_BYTES], header[VHD_HEADER_BYTES];
	int rc;

	footer_encode(&p->footer, footer);
	header_encode(&p->header, header);
	rc = put(arg, footer, sizeof(footer), 0);
	if (!rc)
		rc = put(arg, header, sizeof(header), p->footer.data_offset);
	if (!rc)
		rc = convert_dynamic_table(d, p, put, arg);
	return rc || !p->batmap ? rc : put_batmap(d, p, put, arg);
}

int convert_dynamic_put(void *io, const void *data, size_t length, uint64_t offset)
{
	return offset ? io_write(io, data, length, offset) : 0;
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
