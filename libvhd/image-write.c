/* image-write.c - making an image fit for writing, and writing through its map
 *
 * What is restored before the first write, each with its own sync: a missing
 * or different footer, a batmap that does not tell the truth.  After that the
 * map's rules hold (ORDER 1 to 9).
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "bitmap.h"
#include "error.h"
#include "image-private.h"
#include "locator.h"

static int refuse(const struct vhd_image *img, struct vhd_error *err)
{
	const char *name = img->io->name;

	if (!img->io->writable)
		return error_system(err, -EROFS, "write", name);
	if (img->problems & IMAGE_POISONED)
		return error_set(
			err, -VHD_E_POISONED,
			"cannot write '%s': a journalled resize was interrupted; to undo it: "
			"vhd-util revert -n '%s' -j JOURNAL",
			name, name);
	if (img->problems & IMAGE_FOOTERS_DIFFER)
		return error_set(err, -VHD_E_FOOTERS_DIFFER,
				 "cannot write '%s': its two footers contradict each other; see "
				 "vhd-util check, then repair",
				 name);
	if (img->problems & IMAGE_BAT_FAULTS)
		return error_at(err, -VHD_E_BAT_ENTRY,
				img->header.table_offset + img->bad[0] * 4ull,
				"cannot write '%s': %u entries of its block table are wrong, the "
				"first is of block %u; see vhd-util check",
				name, img->bad_count, img->bad[0]);
	return 0;
}

/* A locator that ends behind the file: what is written there later would be its text, and that
 * block be taken for one that lies over metadata. */
static int refuse_behind(const struct vhd_image *img, struct vhd_error *err)
{
	uint64_t stride = bitmap_stride(img->block_sectors) + 2 * VHD_ALIGN / VHD_SECTOR;
	uint64_t reach = img->file_bytes + (img->blocks + 1ull) * stride * VHD_SECTOR;

	for (unsigned i = 0; image_has_parent(img) && i < VHD_LOCATORS; i++) {
		const struct vhd_locator_entry *e = &img->header.locators[i];

		if (!locator_usable(e, img->file_bytes) && locator_usable(e, reach))
			return error_at(err, -VHD_E_LOCATOR,
					img->header_offset + HEADER_LOCATORS +
						i * VHD_LOCATOR_BYTES,
					"cannot write '%s': its parent locator %u names %u bytes "
					"at offset %llu, behind the end of the file, where new "
					"data would go",
					img->io->name, i, e->length, (unsigned long long)e->offset);
	}
	return 0;
}

int image_put_footer(struct vhd_io *io, const struct vhd_footer *footer, uint64_t at)
{
	uint8_t raw[VHD_FOOTER_BYTES];
	int rc;

	footer_encode(footer, raw);
	rc = io_write(io, raw, sizeof(raw), at);
	return rc < 0 ? rc : io_sync(io);
}

int image_store_footers(struct vhd_image *img, struct vhd_error *err)
{
	int rc = image_put_footer(img->io, &img->footer, img->footer_offset);

	/* never both in one unsynced batch: one is whole at every instant */
	if (!rc && footer_is_sparse(&img->footer))
		rc = image_put_footer(img->io, &img->footer, 0);
	if (rc < 0)
		return error_system(err, rc, "write the footer of", img->io->name);
	img->problems &= ~(unsigned)(IMAGE_FOOTERS_BENIGN | IMAGE_COPY_LARGER | IMAGE_GROWTH_HALF |
				     IMAGE_COPY_BAD | IMAGE_NO_BATMAP);
	return 0;
}

int image_move_footer(struct vhd_image *img, uint64_t offset, struct vhd_error *err)
{
	uint64_t old = img->footer_offset;
	int rc;

	if (offset == old)
		return 0;
	rc = image_put_footer(img->io, &img->footer, offset);
	if (rc < 0)
		return error_system(err, rc, "move the footer of", img->io->name);
	img->footer_offset = offset;
	if (offset < old && !img->io->device)
		rc = io_truncate(img->io, offset + VHD_FOOTER_BYTES);
	else if (offset >= old + VHD_FOOTER_BYTES)
		rc = io_zero(img->io, old, VHD_FOOTER_BYTES); /* it is free space now */
	if (!rc)
		rc = io_sync(img->io);
	if (!rc)
		rc = io_size(img->io, &img->file_bytes);
	return rc < 0 ? error_system(err, rc, "move the footer of", img->io->name) : 0;
}

void image_grow(struct vhd_image *img, uint64_t size)
{
	img->size = size;
	if (footer_is_sparse(&img->footer))
		img->blocks = (uint32_t)number_div_up(size, img->header.block_size);
}

void image_accept_growth(struct vhd_image *img)
{
	if (!(img->problems & IMAGE_SIZES_DIFFER))
		return;
	img->problems &= ~(unsigned)(IMAGE_SIZES_DIFFER | IMAGE_FOOTERS_DIFFER);
	img->problems |= IMAGE_COPY_BAD;
}

/* Where a missing end footer goes: over an unusable last sector behind all
 * data, else behind everything there is. */
static uint64_t end_footer_place(const struct vhd_image *img)
{
	uint64_t end = image_end_of_data(img);

	if (img->io->device)
		return number_round_down(img->file_bytes, VHD_SECTOR) - VHD_FOOTER_BYTES;
	if (!(img->problems & IMAGE_TRAILING_BYTES) && img->file_bytes % VHD_SECTOR == 0 &&
	    img->file_bytes >= end + VHD_FOOTER_BYTES)
		return img->file_bytes - VHD_FOOTER_BYTES;
	return number_round_up(number_max(end, img->file_bytes), VHD_SECTOR);
}

static int restore_footers(struct vhd_image *img, struct vhd_error *err)
{
	const unsigned end = IMAGE_END_FOOTER_BAD | IMAGE_SHORT_FOOTER | IMAGE_TORN_FOOTER |
			     IMAGE_END_HEADER_BAD | IMAGE_COPY_LARGER | IMAGE_NO_BATMAP;
	int rc = 0;

	if (img->problems & IMAGE_END_FOOTER_BAD) {
		uint64_t place = end_footer_place(img);

		if (place < image_end_of_data(img)) /* a device ends where it ends */
			return error_at(err, -VHD_E_TRUNCATED, place,
					"cannot write '%s': its end footer is missing, and the "
					"place for one, at offset %llu, is in use",
					img->io->name, (unsigned long long)place);
		img->footer_offset = place;
	}
	if (img->problems & end)
		rc = image_put_footer(img->io, &img->footer, img->footer_offset);
	if (!rc && (img->problems & (IMAGE_COPY_BAD | IMAGE_FOOTERS_BENIGN | IMAGE_NO_BATMAP)))
		rc = image_put_footer(img->io, &img->footer, 0);
	if (rc < 0)
		return error_system(err, rc, "restore the footer of", img->io->name);
	rc = io_size(img->io, &img->file_bytes);
	return rc < 0 ? error_system(err, rc, "examine", img->io->name) : 0;
}

/* A batmap that is broken, or says "full" of a block that is not there, would
 * hide the parent's sectors once that block is allocated: all bits to zero. */
static int restore_batmap(struct vhd_image *img, struct vhd_error *err)
{
	uint64_t bytes = (uint64_t)batmap_sectors(img->header.max_entries) * VHD_SECTOR;
	uint64_t first = img->batmap_header_at + VHD_BATMAP_HEADER_BYTES;
	struct vhd_batmap_header *h = &img->batmap_header;
	CLEANUP_FREE uint8_t *zero = NULL;
	int rc;

	if (!img->has_batmap || !((img->problems & IMAGE_BATMAP_BAD) || img->batmap_lies))
		return 0;
	zero = calloc(1, bytes);
	if (!zero)
		return error_system(err, -ENOMEM, "write", img->io->name);
	if (img->problems & IMAGE_BATMAP_BAD) {
		if (h->sectors != bytes / VHD_SECTOR || h->version == 0)
			h->version = 0x00010002;
		h->offset = first;
		h->sectors = (uint32_t)(bytes / VHD_SECTOR);
	}
	h->checksum = 0xffffffff; /* of no bits, in both versions */
	batmap_encode(h, img->batmap_raw);
	rc = io_write(img->io, zero, bytes, h->offset);
	if (!rc)
		rc = io_write(img->io, img->batmap_raw, sizeof(img->batmap_raw),
			      img->batmap_header_at);
	if (!rc)
		rc = io_sync(img->io);
	if (rc < 0)
		return error_system(err, rc, "restore the batmap of", img->io->name);
	free(img->batmap);
	img->batmap = steal_ptr(&zero);
	img->batmap_lies = false;
	return 0;
}

static bool is_sparse(const struct vhd_image *img)
{
	return img->type == VHD_TYPE_DYNAMIC || img->type == VHD_TYPE_DIFFERENCING;
}

int image_may_write(struct vhd_image *img, uint64_t cache_bytes, struct vhd_error *err)
{
	int rc = 0;

	if (is_sparse(img) && !img->map)
		rc = image_load(img, cache_bytes, err);
	if (!rc)
		rc = refuse(img, err);
	if (!rc && is_sparse(img))
		rc = refuse_behind(img, err);
	return rc;
}

int image_begin_write(struct vhd_image *img, uint64_t cache_bytes, struct vhd_error *err)
{
	bool sparse = is_sparse(img);
	int rc = image_may_write(img, cache_bytes, err);

	if (img->type == VHD_TYPE_RAW) {
		img->writing = !rc;
		return rc;
	}
	if (!rc)
		rc = restore_footers(img, err);
	if (!rc && sparse)
		rc = restore_batmap(img, err);
	if (!rc && sparse) {
		rc = image_open_map(img, true, cache_bytes);
		if (rc < 0)
			return error_system(err, rc, "write", img->io->name);
	}
	if (rc < 0)
		return rc;
	img->problems = 0;
	img->writing = true;
	return 0;
}

int image_reserve(struct vhd_image *img, struct map_req *req, struct map_ext *out, int max,
		  struct vhd_error *err)
{
	int rc;

	if (!img->map) {
		if (!number_within(req->sector, req->count, number_div_up(img->size, VHD_SECTOR)))
			return image_map_error(img, -VHD_E_RANGE, "write", err);
		out[0] = (struct map_ext){ EXT_HERE, req->sector, req->count, req->sector };
		return 1;
	}
	for (;;) {
		req->ready = image_wait_over;
		rc = map_write(img->map, req, out, max);
		if (rc != MAP_WAIT)
			return rc < 0 ? image_map_error(img, rc, "write", err) : rc;
		rc = image_wait(img, req);
		if (rc < 0)
			return image_map_error(img, rc, "write", err);
	}
}

void image_written(struct vhd_image *img, const struct map_req *req)
{
	struct map_io op;

	if (!img->map)
		return;
	map_written(img->map, req);
	/* enough dirty metadata starts a commit by itself; its errors come again
	 * at the next flush */
	while (map_next(img->map, &op))
		map_done(img->map, op.tag, image_perform(img->io, &op));
}

void image_cancel(struct vhd_image *img, const struct map_req *req)
{
	if (img->map)
		map_cancel(img->map, req);
}

int image_flush(struct vhd_image *img, struct vhd_error *err)
{
	struct map_req req = { .ready = image_wait_over };
	int rc;

	if (img->map) {
		map_flush(img->map, &req);
		rc = image_wait(img, &req);
	} else {
		rc = io_sync(img->io);
	}
	return rc < 0 ? image_map_error(img, rc, "flush", err) : 0;
}

int image_finish(struct vhd_image *img, struct vhd_error *err)
{
	struct map_req req = { .ready = image_wait_over };
	int rc;

	if (!img->map)
		return image_flush(img, err);
	map_quiesce(img->map, &req);
	rc = image_wait(img, &req);
	if (rc < 0)
		return image_map_error(img, rc, "finish", err);
	img->footer_offset = map_footer_offset(img->map);
	rc = io_size(img->io, &img->file_bytes);
	return rc < 0 ? error_system(err, rc, "examine", img->io->name) : 0;
}
