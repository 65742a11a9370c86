/* image-load.c - the block table of an image: what is wrong in it, and its map
 *
 * The whole table is read once, in pieces; entries at fault make their blocks
 * unreadable (never zeros, never somebody else's data), and the image
 * unwritable.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "base/number.h"
#include "bitmap.h"
#include "error.h"
#include "image-private.h"

#define BAD_MAX 65536u

struct loader {
	struct vhd_image *img;
	struct bat_scan *scan;
	struct image_region above[IMAGE_REGIONS_MAX]; /* metadata that lies among the blocks */
	unsigned regions;
	uint32_t room;
	bool first_pass, failed;
	int rc;
};

static void add_bad(struct loader *l, uint32_t block)
{
	struct vhd_image *img = l->img;

	img->problems |= IMAGE_BAT_FAULTS;
	if (img->bad_count == BAD_MAX) {
		l->rc = -VHD_E_BAT_ENTRY;
		return;
	}
	if (img->bad_count == l->room) {
		uint32_t room = l->room ? l->room * 2 : 64;
		uint32_t *bad = realloc(img->bad, room * sizeof(*bad));

		if (!bad) {
			l->rc = -ENOMEM;
			return;
		}
		img->bad = bad;
		l->room = room;
	}
	img->bad[img->bad_count++] = block;
}

static void note_fault(void *arg, enum bat_fault fault, uint32_t block, uint32_t entry,
		       uint32_t other)
{
	(void)entry;
	(void)other;
	if (fault != BAT_BEYOND_DISK) /* unused room of the table: nothing reads it */
		add_bad(arg, block);
}

/* Entries over a locator or a moved header, and batmap bits without a block. */
static void look_closer(struct loader *l, uint32_t first, const uint8_t *raw, uint32_t count)
{
	struct vhd_image *img = l->img;
	uint64_t bytes = (uint64_t)bitmap_stride(img->block_sectors) * VHD_SECTOR;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t entry = be32_load(raw + (size_t)i * 4);

		if (entry == VHD_BAT_UNUSED) {
			if (img->batmap && bits_test(img->batmap, first + i))
				img->batmap_lies = true;
			continue;
		}
		for (unsigned r = 0; r < l->regions; r++)
			if (number_overlap((uint64_t)entry * VHD_SECTOR, bytes, l->above[r].offset,
					   l->above[r].length))
				add_bad(l, first + i);
	}
}

static int scan_piece(void *arg, uint32_t first, const uint8_t *raw, uint32_t count)
{
	struct loader *l = arg;

	bat_scan_feed(l->scan, first, raw, count);
	if (l->first_pass)
		look_closer(l, first, raw, count);
	return l->rc ? IMAGE_WALK_STOP : 0;
}

static int order(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void sort_bad(struct vhd_image *img)
{
	uint32_t n = 0;

	if (!img->bad_count)
		return;
	qsort(img->bad, img->bad_count, sizeof(*img->bad), order);
	for (uint32_t i = 0; i < img->bad_count; i++)
		if (!n || img->bad[n - 1] != img->bad[i])
			img->bad[n++] = img->bad[i];
	img->bad_count = n;
}

static int scan_table(struct vhd_image *img, struct vhd_error *err)
{
	struct loader l = { .img = img, .first_pass = true };
	struct image_region regions[IMAGE_REGIONS_MAX];
	struct bat_shape shape = image_bat_shape(img);
	unsigned n = image_regions(img, false, regions);
	int rc = bat_scan_begin(&shape, true, note_fault, &l, &l.scan);

	if (rc < 0)
		return error_system(err, rc, "load", img->io->name);
	for (unsigned i = 0; i < n; i++)
		if (regions[i].offset + regions[i].length > img->data_start)
			l.above[l.regions++] = regions[i];
	free(img->bad);
	img->bad = NULL;
	img->bad_count = 0;
	img->problems &= ~(unsigned)IMAGE_BAT_FAULTS;
	do {
		rc = image_walk_table(img, scan_piece, &l, err);
		l.first_pass = false;
	} while (!rc && !l.rc && bat_scan_again(l.scan));
	bat_scan_end(l.scan, &img->totals);
	if (!rc && l.rc)
		rc = l.rc == -ENOMEM ? error_system(err, l.rc, "load", img->io->name) :
				       error_at(err, l.rc, img->header.table_offset,
						"cannot open '%s': more than %u entries of its "
						"block table are "
						"wrong",
						img->io->name, BAD_MAX);
	sort_bad(img);
	return rc;
}

/* A free place as large as the batmap, right behind it: there the next map is
 * written before the header names it. */
static uint64_t batmap_alternate(const struct vhd_image *img, uint64_t map_bytes)
{
	uint64_t first = img->batmap_header_at + VHD_BATMAP_HEADER_BYTES;
	uint64_t second = first + map_bytes;
	uint64_t other = img->batmap_header.offset == first ? second : first;

	if (img->batmap_header.offset != first && img->batmap_header.offset != second)
		return 0;
	return image_is_free(img, other, map_bytes) ? other : 0;
}

static void batmap_params(const struct vhd_image *img, struct map_params *p)
{
	uint64_t map_bytes = (uint64_t)batmap_sectors(img->header.max_entries) * VHD_SECTOR;

	if (!img->batmap)
		return;
	p->batmap = img->batmap;
	p->batmap_bytes = map_bytes;
	p->batmap_header_offset = img->batmap_header_at;
	p->batmap_offset = img->batmap_header.offset;
	/* by the size in the footers, which a growth changes last: beyond, zeros add nothing */
	p->batmap_covered = batmap_covered_bytes(img->footer.current_size, img->header.block_size,
						 map_bytes);
	p->batmap_bounded = img->size != img->footer.current_size;
	p->batmap_alternate = batmap_alternate(img, map_bytes);
	if (p->batmap_alternate) { /* neither a block nor the end footer may come to lie there */
		uint64_t end = p->batmap_alternate + map_bytes;

		p->metadata_end = number_max(p->metadata_end, end);
		p->end_of_data = number_max(p->end_of_data, end);
	}
	memcpy(p->batmap_header, img->batmap_raw, sizeof(p->batmap_header));
}

static uint64_t metadata_end(const struct vhd_image *img)
{
	struct image_region regions[IMAGE_REGIONS_MAX];
	unsigned n = image_regions(img, true, regions);
	uint64_t end = img->data_start, room;

	if (image_parent_room(img, &room))
		end = number_max(end, room + IMAGE_PARENT_ROOM);
	for (unsigned i = 0; i < n; i++)
		end = number_max(end, regions[i].offset + regions[i].length);
	return end;
}

int image_open_map(struct vhd_image *img, bool writable, uint64_t cache_bytes)
{
	uint64_t aligned = number_round_up(bitmap_sectors(img->block_sectors), 8) +
			   number_round_up(img->block_sectors, 8);
	uint64_t last = (img->data_start / VHD_SECTOR) + (img->blocks + 1ull) * aligned;
	struct map_params p = {
		.size_sectors = img->size / VHD_SECTOR,
		.block_sectors = img->block_sectors,
		.max_entries = img->header.max_entries,
		.bat_offset = img->header.table_offset,
		.has_parent = image_has_parent(img),
		.exact_bits = image_is_encrypted(img),
		.writable = writable,
		.device = img->io->device,
		.early_bitmaps = img->early_bitmaps,
		.align = last <= VHD_BAT_LAST,
		.data_start = img->data_start,
		.data_end = img->file_bytes,
		.end_of_data = number_max(image_end_of_data(img), img->keep),
		.metadata_end = number_max(metadata_end(img), img->keep),
		.footer_offset = img->footer_offset,
		.append_only = img->problems != 0,
		.no_reuse = img->no_reuse,
		.bad_blocks = img->bad,
		.bad_count = img->bad_count,
		.cache_bytes = cache_bytes,
	};
	struct map_params *params = &p;

	footer_encode(&img->footer, params->footer);
	if (!img->batmap_lies)
		batmap_params(img, params);
	map_close(img->map);
	img->map = NULL;
	return map_open(params, &img->map);
}

int image_load(struct vhd_image *img, uint64_t cache_bytes, struct vhd_error *err)
{
	int rc;

	if (img->type != VHD_TYPE_DYNAMIC && img->type != VHD_TYPE_DIFFERENCING)
		return 0;
	rc = scan_table(img, err);
	if (rc < 0)
		return rc;
	image_find_trailing(img);
	rc = image_open_map(img, false, cache_bytes);
	return rc < 0 ? error_system(err, rc, "load", img->io->name) : 0;
}

/* ── looking up ── */

int image_perform(struct vhd_io *io, const struct map_io *op)
{
	switch (op->op) {
	case MAP_READ:
		return io_read(io, op->buf, op->length, op->offset);
	case MAP_WRITE:
		return io_write(io, op->buf, op->length, op->offset);
	case MAP_ZERO:
		return io_zero(io, op->offset, op->length);
	case MAP_PUNCH:
		return io_punch(io, op->offset, op->length);
	case MAP_TRUNCATE:
		return io_truncate(io, op->offset);
	case MAP_SYNC:
		return io_sync(io);
	}
	return -EINVAL;
}

void image_wait_over(struct map_req *req)
{
	req->ready = NULL;
}

int image_wait(struct vhd_image *img, struct map_req *req)
{
	struct map_io op;

	while (req->ready) {
		bool more = map_next(img->map, &op);

		assert(more || !req->ready); /* somebody waits for something */
		if (more)
			map_done(img->map, op.tag, image_perform(img->io, &op));
	}
	return req->err;
}

int image_map_error(struct vhd_image *img, int rc, const char *verb, struct vhd_error *err)
{
	uint32_t block, entry;

	switch (rc) {
	case -VHD_E_BAT_ENTRY:
		map_fault(img->map, &block, &entry);
		return error_value(
			err, rc, img->header.table_offset + (uint64_t)block * 4, VHD_BAT_UNUSED,
			entry,
			"cannot %s '%s': the table entry of block %u (at offset %llu) is "
			"%u, which is no place for a block of its own; see vhd-util check",
			verb, img->io->name, block,
			(unsigned long long)img->header.table_offset + block * 4ull, entry);
	case -VHD_E_RANGE:
		return error_set(err, rc, "cannot %s '%s': beyond the end of the disk (%llu bytes)",
				 verb, img->io->name, (unsigned long long)img->size);
	case -VHD_E_TOO_BIG:
		return error_set(err, rc,
				 "cannot %s '%s': the file has reached 2 TiB, the end of what its "
				 "block table can name",
				 verb, img->io->name);
	case -VHD_E_TRUNCATED:
		return error_set(err, rc, "cannot %s '%s': the file ends before data that it names",
				 verb, img->io->name);
	default:
		return error_system(err, rc, verb, img->io->name);
	}
}

int image_lookup(struct vhd_image *img, uint64_t sector, uint64_t count, struct map_ext *out,
		 int max, struct vhd_error *err)
{
	struct map_req req = { .sector = sector };
	int rc;

	if (!img->map) { /* flat */
		if (!number_within(sector, count, number_div_up(img->size, VHD_SECTOR)) || !count)
			return image_map_error(img, -VHD_E_RANGE, "read", err);
		out[0] = (struct map_ext){ EXT_HERE, sector, count, sector };
		return 1;
	}
	for (;;) {
		rc = map_lookup(img->map, sector, count, out, max);
		if (rc != MAP_WAIT)
			return rc < 0 ? image_map_error(img, rc, "read", err) : rc;
		req.ready = image_wait_over;
		map_want(img->map, &req);
		rc = image_wait(img, &req);
		if (rc < 0)
			return image_map_error(img, rc, "read", err);
	}
}

int image_bat_entry(struct vhd_image *img, uint32_t block, uint32_t *entry, struct vhd_error *err)
{
	uint8_t raw[4];
	int rc;

	if (block >= img->header.max_entries)
		return error_set(err, -VHD_E_RANGE, "cannot read '%s': block %u of %u",
				 img->io->name, block, img->header.max_entries);
	rc = io_read(img->io, raw, sizeof(raw), img->header.table_offset + block * 4ull);
	if (rc < 0)
		return error_system(err, rc, "read", img->io->name);
	*entry = be32_load(raw);
	return 0;
}

int image_bitmap(struct vhd_image *img, uint32_t block, uint8_t *bits, struct vhd_error *err)
{
	size_t bytes = bitmap_sectors(img->block_sectors) * VHD_SECTOR;
	uint32_t entry;
	int rc = image_bat_entry(img, block, &entry, err);

	if (rc < 0)
		return rc;
	if (entry == VHD_BAT_UNUSED) {
		memset(bits, 0, bytes);
		return 0;
	}
	rc = io_read(img->io, bits, bytes, (uint64_t)entry * VHD_SECTOR);
	return rc < 0 ? image_map_error(img, rc, "read a bitmap of", err) : 0;
}
