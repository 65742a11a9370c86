/* read-tables.c - the tables of an image as text */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cli/print.h"
#include "headers.h"
#include "libvhd/base/bits.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/bitmap.h"
#include "libvhd/error.h"
#include "read.h"

static const char *number(const struct reading *r, uint64_t n, char out[24])
{
	snprintf(out, 24, r->hex ? "0x%" PRIx64 : "%" PRIu64, n);
	return out;
}

static uint32_t block_of(const struct reading *r, uint64_t sector)
{
	return (uint32_t)(sector / r->image->block_sectors);
}

int read_headers(struct reading *r, struct vhd_error *err)
{
	(void)err;
	headers_print(r->image, r->hex);
	return 0;
}

int read_translation(struct reading *r, struct vhd_error *err)
{
	uint32_t entry, bitmap = bitmap_sectors(r->image->block_sectors);
	int rc = read_check_sectors(r, err);

	for (uint64_t sector = r->at; !rc && sector < r->at + r->count; sector++) {
		char a[24], b[24], c[24], d[24];
		uint64_t within = sector % r->image->block_sectors;

		rc = image_bat_entry(r->image, block_of(r, sector), &entry, err);
		if (rc < 0)
			break;
		printf("logical %s: block %s, sector %s, offset %s\n", number(r, sector, a),
		       number(r, block_of(r, sector), b), number(r, within, c),
		       entry == VHD_BAT_UNUSED ?
			       "not allocated" :
			       number(r, (entry + bitmap + within) * VHD_SECTOR, d));
	}
	return rc;
}

int read_bat_entries(struct reading *r, struct vhd_error *err)
{
	int rc = read_check_blocks(r, err);
	uint32_t entry;

	for (uint64_t block = r->at; !rc && block < r->at + r->count; block++) {
		char a[24], b[24];

		rc = image_bat_entry(r->image, (uint32_t)block, &entry, err);
		if (rc < 0)
			break;
		printf("block: %s: offset: %s\n", number(r, block, a),
		       entry == VHD_BAT_UNUSED ? "not allocated" :
						 number(r, (uint64_t)entry * VHD_SECTOR, b));
	}
	return rc;
}

/* The bitmap of the block of a sector, kept from call to call. */
struct bitmap_of {
	uint8_t *bits;
	uint64_t block;
};

static void bitmap_release(struct bitmap_of *b)
{
	free(b->bits);
}

static int bitmap_get(struct reading *r, struct bitmap_of *b, uint64_t block, struct vhd_error *err)
{
	size_t bytes = (size_t)bitmap_sectors(r->image->block_sectors) * VHD_SECTOR;
	int rc;

	if (b->bits && b->block == block)
		return 0;
	if (!b->bits)
		b->bits = malloc(bytes);
	if (!b->bits)
		return error_system(err, -ENOMEM, "read", r->path);
	b->block = UINT64_MAX;
	rc = image_bitmap(r->image, (uint32_t)block, b->bits, err);
	if (rc >= 0)
		b->block = block;
	return rc;
}

int read_bitmap_test(struct reading *r, struct vhd_error *err)
{
	CLEANUP(bitmap_release) struct bitmap_of bitmap = { 0 };
	int rc = read_check_sectors(r, err);

	for (uint64_t sector = r->at; !rc && sector < r->at + r->count; sector++) {
		char a[24], b[24];
		uint64_t within = sector % r->image->block_sectors;

		rc = bitmap_get(r, &bitmap, block_of(r, sector), err);
		if (rc < 0)
			break;
		printf("block %s: sec: %s: %d\n", number(r, block_of(r, sector), a),
		       number(r, within, b), bits_test(bitmap.bits, within));
	}
	return rc;
}

static void print_extent(const struct reading *r, uint64_t start, uint64_t count)
{
	char a[24], b[24];

	if (count)
		printf("%s %s\n", number(r, start, a), number(r, count, b));
}

/* Runs of sectors that this image has itself; they go on across blocks. */
int read_extents(struct reading *r, struct vhd_error *err)
{
	uint64_t sectors = r->image->size / VHD_SECTOR, start = 0, length = 0, end;
	int rc = 0;

	if (r->at < sectors && !r->has_count)
		r->count = sectors - r->at;
	rc = read_check_sectors(r, err);
	if (!rc)
		rc = image_load(r->image, 0, err);
	end = r->at + r->count;
	for (uint64_t sector = r->at; rc >= 0 && sector < end && !print_failed();) {
		struct map_ext ext[16];

		rc = image_lookup(r->image, sector, end - sector, ext, 16, err);
		for (int k = 0; k < rc; k++) {
			sector = ext[k].sector + ext[k].count;
			if (ext[k].kind != EXT_HERE)
				continue;
			if (length && start + length == ext[k].sector) {
				length += ext[k].count;
				continue;
			}
			print_extent(r, start, length);
			start = ext[k].sector;
			length = ext[k].count;
		}
	}
	print_extent(r, start, length);
	return rc < 0 ? rc : 0;
}

int read_batmap_test(struct reading *r, struct vhd_error *err)
{
	int rc = read_check_blocks(r, err);

	for (uint64_t block = r->at; !rc && block < r->at + r->count; block++) {
		char a[24];
		uint8_t byte;

		rc = io_read(r->image->io, &byte, 1, r->image->batmap_header.offset + block / 8);
		if (rc < 0)
			return error_system(err, rc, "read", r->path);
		printf("batmap for block %s: %d\n", number(r, block, a),
		       bits_test(&byte, block % 8));
	}
	return rc;
}
