/* read-bytes.c - parts of an image, and the disk itself, as bytes or as a hex dump */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cli/print.h"
#include "libvhd/base/bits.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/base/endian.h"
#include "libvhd/base/number.h"
#include "libvhd/bitmap.h"
#include "libvhd/chain.h"
#include "libvhd/error.h"
#include "read.h"

#define PIECE_BYTES (1u << 20)

static bool put(const struct reading *r, const uint8_t *data, size_t length, uint64_t place)
{
	return r->hex ? print_hex(data, length, place) : print_bytes(data, length);
}

/* [offset, offset + length) of the image file; places in a hex dump from @place. */
static int put_file_range(struct reading *r, uint64_t offset, uint64_t length, uint64_t place,
			  struct vhd_error *err)
{
	CLEANUP_FREE uint8_t *piece = malloc(PIECE_BYTES);

	if (!piece)
		return error_system(err, -ENOMEM, "read", r->path);
	for (uint64_t at = 0; at < length;) {
		size_t now = number_min(length - at, PIECE_BYTES);
		int rc = io_read(r->image->io, piece, now, offset + at);

		if (rc < 0)
			return error_system(err, rc, "read", r->path);
		if (!put(r, piece, now, place + at))
			return 0; /* told at the end */
		at += now;
	}
	return 0;
}

static int not_allocated(const struct reading *r, uint64_t block, struct vhd_error *err)
{
	return error_set(err, -ENODATA, "cannot read '%s': block %" PRIu64 " is not allocated",
			 r->path, block);
}

int read_bitmap(struct reading *r, struct vhd_error *err)
{
	size_t bytes = (size_t)bitmap_sectors(r->image->block_sectors) * VHD_SECTOR;
	uint32_t entry;
	int rc = read_check_blocks(r, err);

	for (uint64_t block = r->at; !rc && block < r->at + r->count; block++) {
		rc = image_bat_entry(r->image, (uint32_t)block, &entry, err);
		if (rc >= 0 && entry == VHD_BAT_UNUSED)
			return not_allocated(r, block, err);
		if (rc >= 0)
			rc = put_file_range(r, (uint64_t)entry * VHD_SECTOR, bytes, 0, err);
	}
	return rc;
}

int read_block(struct reading *r, struct vhd_error *err)
{
	uint32_t entry, bitmap = bitmap_sectors(r->image->block_sectors);
	int rc = read_check_blocks(r, err);

	for (uint64_t block = r->at; !rc && block < r->at + r->count; block++) {
		rc = image_bat_entry(r->image, (uint32_t)block, &entry, err);
		if (rc >= 0 && entry == VHD_BAT_UNUSED)
			return not_allocated(r, block, err);
		if (rc >= 0)
			rc = put_file_range(r, ((uint64_t)entry + bitmap) * VHD_SECTOR,
					    r->image->header.block_size,
					    block * r->image->header.block_size, err);
	}
	return rc;
}

/* The table as bits: allocated or not, as many blocks as the disk has. */
int read_bat_bits(struct reading *r, struct vhd_error *err)
{
	uint8_t raw[4096], bits[sizeof(raw) / 32];

	for (uint64_t block = 0; block < r->image->blocks;) {
		uint64_t now = number_min(r->image->blocks - block, sizeof(raw) / 4);
		int rc = io_read(r->image->io, raw, now * 4,
				 r->image->header.table_offset + block * 4);

		if (rc < 0)
			return error_system(err, rc, "read", r->path);
		memset(bits, 0, sizeof(bits));
		for (uint64_t k = 0; k < now; k++)
			if (be32_load(raw + k * 4) != VHD_BAT_UNUSED)
				bits_set(bits, k);
		if (!put(r, bits, number_div_up(now, 8), block / 8))
			return 0;
		block += now;
	}
	return 0;
}

int read_batmap(struct reading *r, struct vhd_error *err)
{
	return put_file_range(r, r->image->batmap_header.offset,
			      (uint64_t)batmap_sectors(r->image->header.max_entries) * VHD_SECTOR,
			      0, err);
}

/* ── the disk, through the chain ── */

static int put_disk_range(struct reading *r, struct vhd_chain *chain, struct vhd_error *err)
{
	CLEANUP_FREE uint8_t *piece = malloc(PIECE_BYTES);

	if (!piece)
		return error_system(err, -ENOMEM, "read", r->path);
	if (!number_within(r->at, r->count, vhd_size(chain)))
		return read_beyond(r, "byte", vhd_size(chain), err);
	for (uint64_t done = 0; done < r->count;) {
		size_t now = number_min(r->count - done, PIECE_BYTES);
		int rc = vhd_read(chain, piece, now, r->at + done, err);

		if (rc < 0)
			return rc;
		if (!put(r, piece, now, r->at + done))
			return 0;
		done += now;
	}
	return 0;
}

int read_bytes(struct reading *r, struct vhd_error *err)
{
	struct vhd_open_options options = { .parents = r->args->parents, .key = r->args->key };
	struct vhd_chain *chain;
	struct vhd_error closing;
	int rc = vhd_open(r->path, &options, &chain, err);

	if (rc < 0)
		return rc;
	if (chain->warning.code)
		print_warning(&chain->warning);
	rc = put_disk_range(r, chain, err);
	if (vhd_close(chain, &closing) < 0 && rc >= 0) {
		*err = closing;
		rc = closing.code;
	}
	return rc;
}

int read_sectors(struct reading *r, struct vhd_error *err)
{
	if (!number_mul(r->at, VHD_SECTOR, &r->at) || !number_mul(r->count, VHD_SECTOR, &r->count))
		return error_set(err, -VHD_E_RANGE, "cannot read '%s': past the end of the disk",
				 r->path);
	return read_bytes(r, err);
}
