/* chain-data.c - reading and writing the disk that a chain is
 *
 * A read asks the leaf's map, and the view of the layers below for what the
 * leaf does not have.  A write goes to the leaf; bytes that share a sector
 * with it are read through the chain first (ORDER 12).
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "chain.h"
#include "crypt.h"
#include "error.h"
#include "image-private.h"
#include "unlock.h"

#define EXTENTS	       64
#define SECRET_SECTORS 128u /* encrypted and written at once */

/* ── looking up ── */

static int view_wait(struct vhd_chain *chain, struct map_req *req)
{
	struct map_io op;
	unsigned layer;

	while (req->ready) {
		bool more = view_next(chain->view, &layer, &op);

		assert(more || !req->ready); /* somebody waits for something */
		if (more)
			view_done(chain->view, layer, op.tag,
				  image_perform(chain->images[layer + 1]->io, &op));
	}
	return req->err;
}

/* Extents of the layers below the leaf, appended; the number in all. */
static int lookup_below(struct vhd_chain *chain, uint64_t sector, uint64_t count,
			struct chain_ext *out, int n, int max, struct vhd_error *err)
{
	struct map_req req = { .sector = sector };
	struct view_ext ext[EXTENTS];
	int rc;

	if (!chain->view)
		return error_set(
			err, -VHD_E_PARENT_MISSING,
			"cannot read '%s': this part is in its parent, which was not opened",
			chain->images[0]->io->name);
	for (;;) {
		rc = view_lookup(chain->view, sector, count, ext,
				 (int)number_min(EXTENTS, (uint64_t)(max - n)));
		if (rc != MAP_WAIT)
			break;
		req.ready = image_wait_over;
		view_want(chain->view, &req);
		rc = view_wait(chain, &req);
		if (rc < 0)
			break;
	}
	if (rc < 0)
		return image_map_error(chain->images[view_fault_layer(chain->view) + 1], rc, "read",
				       err);
	for (int i = 0; i < rc; i++)
		out[n + i] = (struct chain_ext){ .zero = ext[i].kind == VIEW_ZERO,
						 .layer = ext[i].layer + 1,
						 .sector = ext[i].sector,
						 .count = ext[i].count,
						 .file_sector = ext[i].file_sector };
	return n + rc;
}

int chain_lookup(struct vhd_chain *chain, uint64_t sector, uint64_t count, struct chain_ext *out,
		 int max, struct vhd_error *err)
{
	struct map_ext ext[EXTENTS];
	int rc = chain_prepare(chain, err), n = 0, found;

	if (rc < 0)
		return rc;
	found = image_lookup(chain->images[0], sector, count, ext,
			     (int)number_min(EXTENTS, (uint64_t)max), err);
	if (found < 0)
		return found;
	for (int i = 0; i < found && n < max; i++) {
		const struct map_ext *e = &ext[i];
		uint64_t end = e->sector + e->count;

		if (e->kind != EXT_BELOW) {
			out[n++] = (struct chain_ext){ .zero = e->kind == EXT_ZERO,
						       .sector = e->sector,
						       .count = e->count,
						       .file_sector = e->file_sector };
			continue;
		}
		rc = lookup_below(chain, e->sector, e->count, out, n, max, err);
		if (rc < 0) /* what came before is an answer; the error comes when asked for */
			return n ? n : rc;
		n = rc;
		if (out[n - 1].sector + out[n - 1].count < end)
			break;
	}
	return n;
}

int vhd_extents(struct vhd_chain *chain, uint64_t offset, uint64_t length, struct vhd_extent *out,
		int max, struct vhd_error *err)
{
	struct chain_ext ext[EXTENTS];
	uint64_t end;
	int n;

	if (!number_add(offset, length, &end) || end > vhd_size(chain) || !length)
		return error_set(err, -VHD_E_RANGE, "cannot read '%s': beyond the end of the disk",
				 chain->images[0]->io->name);
	n = chain_lookup(chain, offset / VHD_SECTOR,
			 number_div_up(end, VHD_SECTOR) - offset / VHD_SECTOR, ext,
			 (int)number_min(EXTENTS, (uint64_t)max), err);
	for (int i = 0; i < n; i++) {
		uint64_t start = number_max(ext[i].sector * VHD_SECTOR, offset);
		uint64_t stop = number_min((ext[i].sector + ext[i].count) * VHD_SECTOR, end);
		uint64_t skipped = start - ext[i].sector * VHD_SECTOR;

		out[i] = (struct vhd_extent){
			.offset = start,
			.length = stop - start,
			.kind = ext[i].zero ? VHD_EXTENT_ZERO : VHD_EXTENT_DATA,
			.depth = ext[i].layer,
			.file_offset = ext[i].zero ? 0 : ext[i].file_sector * VHD_SECTOR + skipped,
		};
	}
	return n;
}

/* ── reading ── */

static int read_file(struct vhd_image *img, void *buf, size_t length, uint64_t offset,
		     struct vhd_error *err)
{
	size_t have = length;
	int rc;

	if (img->type == VHD_TYPE_RAW && offset + length > img->file_bytes) {
		have = offset < img->file_bytes ? (size_t)(img->file_bytes - offset) : 0;
		memset((uint8_t *)buf + have, 0, length - have);
	}
	rc = have ? io_read(img->io, buf, have, offset) : 0;
	if (rc == -VHD_E_TRUNCATED)
		return error_at(
			err, rc, offset,
			"cannot read '%s': the file ends before the data at offset %llu that "
			"its block table names",
			img->io->name, (unsigned long long)offset);
	return rc < 0 ? error_system(err, rc, "read", img->io->name) : 0;
}

/* Whole sectors of ciphertext, and the disk's. */
static int read_secret(struct vhd_image *img, void *buf, size_t length, uint64_t file_offset,
		       uint64_t offset, struct vhd_error *err)
{
	int rc = read_file(img, buf, length, file_offset, err);

	if (rc < 0)
		return rc;
	rc = crypt_decrypt(img->crypt, buf, buf, offset / VHD_SECTOR, length / VHD_SECTOR);
	return rc < 0 ? error_system(err, rc, "decrypt", img->io->name) : 0;
}

int chain_read_layer(struct vhd_chain *chain, unsigned layer, void *buf, size_t length,
		     uint64_t file_offset, uint64_t offset, struct vhd_error *err)
{
	struct vhd_image *img = chain->images[layer];
	uint8_t whole[VHD_SECTOR], *at = buf;

	if (!img->crypt && image_is_encrypted(img))
		return unlock_chain(&chain->images[layer], 1, NULL, 0, err); /* says so */
	if (!img->crypt)
		return read_file(img, buf, length, file_offset, err);
	while (length) {
		size_t in = offset % VHD_SECTOR, n = number_round_down(length, VHD_SECTOR);
		int rc;

		if (in || !n) { /* part of a sector, from the whole of it */
			n = number_min(length, VHD_SECTOR - in);
			rc = read_secret(img, whole, VHD_SECTOR, file_offset - in, offset - in,
					 err);
			memcpy(at, whole + in, n);
		} else {
			rc = read_secret(img, at, n, file_offset, offset, err);
		}
		if (rc < 0)
			return rc;
		at += n;
		file_offset += n;
		offset += n;
		length -= n;
	}
	return 0;
}

int vhd_read(struct vhd_chain *chain, void *buf, size_t length, uint64_t offset,
	     struct vhd_error *err)
{
	uint8_t *at = buf;

	if (!number_within(offset, length, vhd_size(chain)))
		return error_set(
			err, -VHD_E_RANGE,
			"cannot read '%s': %zu bytes at offset %llu are beyond the end of the "
			"disk (%llu bytes)",
			chain->images[0]->io->name, length, (unsigned long long)offset,
			(unsigned long long)vhd_size(chain));
	while (length) {
		struct vhd_extent ext[EXTENTS];
		int n = vhd_extents(chain, offset, length, ext, EXTENTS, err), rc;

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			if (ext[i].kind == VHD_EXTENT_ZERO) {
				memset(at, 0, ext[i].length);
			} else {
				rc = chain_read_layer(chain, ext[i].depth, at, ext[i].length,
						      ext[i].file_offset, ext[i].offset, err);
				if (rc < 0)
					return rc;
			}
			at += ext[i].length;
			offset += ext[i].length;
			length -= ext[i].length;
		}
	}
	return 0;
}

/* ── writing ── */

/* Encrypted beside the caller's buffer, a piece at a time. */
static int write_secret(struct vhd_image *leaf, const uint8_t *buf, const struct map_ext *e,
			uint8_t *piece)
{
	for (uint64_t done = 0, n; done < e->count; done += n) {
		int rc;

		n = number_min(e->count - done, SECRET_SECTORS);
		rc = crypt_encrypt(leaf->crypt, piece, buf + done * VHD_SECTOR, e->sector + done,
				   n);
		if (!rc)
			rc = io_write(leaf->io, piece, n * VHD_SECTOR,
				      (e->file_sector + done) * VHD_SECTOR);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int write_extent(struct vhd_image *leaf, const uint8_t *buf, const struct map_ext *e)
{
	CLEANUP_FREE uint8_t *piece = NULL;

	if (!leaf->crypt)
		return io_write(leaf->io, buf, e->count * VHD_SECTOR, e->file_sector * VHD_SECTOR);
	piece = aligned_alloc(VHD_ALIGN, SECRET_SECTORS * VHD_SECTOR);
	return piece ? write_secret(leaf, buf, e, piece) : -ENOMEM;
}

/* Whole sectors into the leaf. */
static int write_sectors(struct vhd_chain *chain, const uint8_t *buf, uint64_t sector,
			 uint64_t count, struct vhd_error *err)
{
	struct vhd_image *leaf = chain->images[0];

	while (count) {
		struct map_req req = { .sector = sector, .count = count };
		struct map_ext ext[EXTENTS];
		int n = image_reserve(leaf, &req, ext, EXTENTS, err), rc = 0;

		if (n < 0)
			return n;
		for (int i = 0; i < n && !rc; i++)
			rc = write_extent(leaf, buf + (ext[i].sector - sector) * VHD_SECTOR,
					  &ext[i]);
		if (rc < 0) {
			image_cancel(leaf, &req);
			return error_system(err, rc, "write", leaf->io->name);
		}
		image_written(leaf, &req);
		buf += req.count * VHD_SECTOR;
		sector += req.count;
		count -= req.count;
	}
	return 0;
}

/* Part of one sector: read it through the chain, change it, write it. */
static int write_part(struct vhd_chain *chain, const uint8_t *buf, size_t length, uint64_t offset,
		      struct vhd_error *err)
{
	uint8_t whole[VHD_SECTOR];
	uint64_t sector = offset / VHD_SECTOR;
	int rc = vhd_read(chain, whole, sizeof(whole), sector * VHD_SECTOR, err);

	if (rc < 0)
		return rc;
	memcpy(whole + offset % VHD_SECTOR, buf, length);
	return write_sectors(chain, whole, sector, 1, err);
}

int vhd_write(struct vhd_chain *chain, const void *buf, size_t length, uint64_t offset,
	      struct vhd_error *err)
{
	const uint8_t *at = buf;

	if (!(chain->flags & VHD_OPEN_WRITE))
		return error_system(err, -EROFS, "write", chain->images[0]->io->name);
	if (!number_within(offset, length, vhd_size(chain)))
		return error_set(
			err, -VHD_E_RANGE,
			"cannot write '%s': %zu bytes at offset %llu are beyond the end of "
			"the disk (%llu bytes)",
			chain->images[0]->io->name, length, (unsigned long long)offset,
			(unsigned long long)vhd_size(chain));
	while (length) {
		size_t in = offset % VHD_SECTOR, n;
		int rc;

		if (in || length < VHD_SECTOR) {
			n = number_min(length, VHD_SECTOR - in);
			rc = write_part(chain, at, n, offset, err);
		} else {
			n = number_round_down(length, VHD_SECTOR);
			rc = write_sectors(chain, at, offset / VHD_SECTOR, n / VHD_SECTOR, err);
		}
		if (rc < 0)
			return rc;
		at += n;
		offset += n;
		length -= n;
	}
	return 0;
}

int vhd_flush(struct vhd_chain *chain, struct vhd_error *err)
{
	if (!(chain->flags & VHD_OPEN_WRITE))
		return 0;
	return image_flush(chain->images[0], err);
}
