/* image.c - opening one image file
 *
 * Which footer is in force: the end footer if valid; else the copy at 0, if
 * its type has one and the header it names is valid.  Bytes at 0 of a fixed
 * image belong to the guest and are never looked at once the end footer is
 * valid.  Nothing here writes.
 */
#include "image.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "bat.h"
#include "bitmap.h"
#include "crypt.h"
#include "error.h"
#include "growth.h"
#include "image-private.h"
#include "journal.h"
#include "locator.h"
#include "plan.h"

#define BATMAP_LOAD_MAX (2u << 20) /* bytes; a larger map is left alone, as if all zero */

/* Both places of the footer as found. */
struct footers {
	struct vhd_footer end, copy;
	int end_rc, copy_rc;
	uint64_t end_offset;
	struct vhd_error end_err;
	bool short_footer, torn;
};

static int read_end(struct vhd_io *io, uint64_t file_bytes, struct footers *f)
{
	uint8_t raw[VHD_FOOTER_BYTES] = { 0 };
	size_t length = file_bytes % VHD_SECTOR == VHD_FOOTER_BYTES - 1 ? VHD_FOOTER_BYTES - 1 :
									  VHD_FOOTER_BYTES;
	int rc;

	f->short_footer = length != VHD_FOOTER_BYTES;
	f->end_offset = file_bytes - length;
	rc = io_read(io, raw, length, f->end_offset);
	if (rc < 0)
		return rc;
	f->torn = true;
	for (size_t i = 0; i < sizeof(raw); i++)
		f->torn &= raw[i] == 0xc7;
	f->end_rc = footer_decode(raw, &f->end, &f->end_err);
	return 0;
}

static int read_footers(struct vhd_io *io, uint64_t file_bytes, struct footers *f)
{
	uint8_t raw[VHD_FOOTER_BYTES];
	int rc;

	memset(f, 0, sizeof(*f));
	rc = read_end(io, file_bytes, f);
	if (rc < 0)
		return rc;
	f->copy_rc = -VHD_E_NOT_VHD;
	if (file_bytes < VHD_FOOTER_BYTES + VHD_HEADER_BYTES)
		return 0;
	rc = io_read(io, raw, sizeof(raw), 0);
	if (rc < 0)
		return rc;
	f->copy_rc = footer_decode(raw, &f->copy, NULL);
	if (!f->copy_rc && !footer_is_sparse(&f->copy))
		f->copy_rc = -VHD_E_NOT_VHD; /* fixed images have none */
	return 0;
}

/* "x.vhd" with an "x.v01" beside it: the first part of a split image. */
static bool looks_split(const char *name)
{
	size_t length = strlen(name);
	CLEANUP_FREE char *sibling = NULL;

	if (length < 4 || strcasecmp(name + length - 4, ".vhd") != 0)
		return false;
	sibling = strdup(name);
	if (!sibling)
		return false;
	memcpy(sibling + length - 4, ".v01", 4);
	return access(sibling, F_OK) == 0;
}

static int no_footer(const struct vhd_io *io, const struct footers *f, struct vhd_error *err)
{
	if (f->end_rc == -VHD_E_NOT_VHD && journal_waits(io))
		return error_at(err, -VHD_E_POISONED, f->end_offset,
				"cannot open '%s': a resize was interrupted; to undo it: vhd-util "
				"revert -n '%s'",
				io->name, io->name);
	if (f->end_rc == -VHD_E_NOT_VHD && looks_split(io->name))
		return error_set(err, -VHD_E_SPLIT,
				 "cannot open '%s': it is the first part of a split image (.v01 "
				 "beside it); join the parts first",
				 io->name);
	if (f->end_rc == -VHD_E_NOT_VHD)
		return error_at(err, -VHD_E_NOT_VHD, f->end_offset,
				"cannot open '%s': not a VHD: no footer in the last 512 bytes (at "
				"offset %llu) and none at the start",
				io->name, (unsigned long long)f->end_offset);
	if (err)
		*err = f->end_err;
	return error_place(err, f->end_rc, io->name, f->end_offset);
}

static int load_header(struct vhd_image *img, const struct vhd_footer *footer, uint64_t file_bytes,
		       struct vhd_error *err)
{
	uint8_t raw[VHD_HEADER_BYTES];
	struct vhd_header header;
	uint64_t offset = footer->data_offset;
	int rc;

	if (!number_within(offset, VHD_HEADER_BYTES, img->file_bytes))
		return error_value(err, -VHD_E_HEADER_FIELD, FOOTER_DATA_OFFSET, img->file_bytes,
				   offset,
				   "cannot open '%s': the footer places the header at offset %llu, "
				   "but the file has %llu bytes",
				   img->io->name, (unsigned long long)offset,
				   (unsigned long long)img->file_bytes);
	rc = io_read(img->io, raw, sizeof(raw), offset);
	if (rc < 0)
		return error_system(err, rc, "read", img->io->name);
	rc = header_decode(raw, &header, err);
	if (!rc)
		rc = header_fits(&header, offset, footer->current_size, file_bytes, err);
	if (rc < 0)
		return error_place(err, rc, img->io->name, offset);
	img->header = header;
	img->header_offset = offset;
	return 0;
}

/* Choose the footer in force, and the header with it. */
static int choose(struct vhd_image *img, struct footers *f, unsigned flags, struct vhd_error *err)
{
	bool end_ok = !f->end_rc && !((flags & IMAGE_BACKUP_FOOTER) && !f->copy_rc);
	bool header_ok = false;
	int rc;

	if (!end_ok && f->copy_rc)
		return no_footer(img->io, f, err);
	if (f->torn)
		img->problems |= IMAGE_TORN_FOOTER;
	if (f->short_footer && end_ok)
		img->problems |= IMAGE_SHORT_FOOTER;
	img->footer = end_ok ? f->end : f->copy;
	img->footer_offset = f->end_offset;
	if (end_ok && !footer_is_sparse(&f->end))
		return 0;
	if (!end_ok) {
		if (f->end_rc)
			img->problems |= IMAGE_END_FOOTER_BAD;
		/* without an end footer the table may end where the file does */
		return load_header(img, &f->copy, img->file_bytes + VHD_FOOTER_BYTES, err);
	}
	rc = load_header(img, &f->end, img->file_bytes, err);
	header_ok = !rc;
	if (f->copy_rc) {
		img->problems |= IMAGE_COPY_BAD;
		return rc;
	}
	switch (footer_compare(&f->end, &f->copy)) {
	case FOOTER_SAME:
		return rc;
	case FOOTER_DIFF_BENIGN:
		img->problems |= IMAGE_FOOTERS_BENIGN;
		if (header_ok)
			return 0;
		img->footer = f->copy; /* ORDER 13: one of the two headers is whole */
		img->problems |= IMAGE_END_HEADER_BAD;
		return load_header(img, &f->copy, img->file_bytes, err);
	case FOOTER_DIFF_SIZE:
		img->problems |= IMAGE_SIZES_DIFFER;
		img->other_size = f->copy.current_size;
		/* fall through */
	default:
		img->problems |= IMAGE_FOOTERS_DIFFER;
		return rc;
	}
}

static int check_fixed(struct vhd_image *img, struct vhd_error *err)
{
	uint64_t room = img->footer_offset;

	if (img->size > room)
		return error_value(err, -VHD_E_TRUNCATED, img->footer_offset + FOOTER_CURRENT_SIZE,
				   img->size, room,
				   "cannot open '%s': its footer says %llu bytes of disk, but only "
				   "%llu bytes come before it; the file is cut off",
				   img->io->name, (unsigned long long)img->size,
				   (unsigned long long)room);
	if (img->size < room && !img->io->device)
		img->problems |= IMAGE_TRAILING_BYTES;
	return 0;
}

/* ── batmap ── */

static bool batmap_placed(const struct vhd_image *img, uint64_t map_bytes)
{
	const struct vhd_batmap_header *h = &img->batmap_header;

	return h->offset % VHD_SECTOR == 0 && h->sectors >= map_bytes / VHD_SECTOR &&
	       h->offset >= img->batmap_header_at + VHD_BATMAP_HEADER_BYTES &&
	       number_within(h->offset, map_bytes, img->file_bytes) &&
	       !number_overlap(h->offset, map_bytes, img->header_offset, VHD_HEADER_BYTES);
}

static int load_map_bytes(struct vhd_image *img, uint64_t map_bytes, struct vhd_error *err)
{
	uint64_t covered = batmap_covered_bytes(img->size, img->header.block_size, map_bytes);
	CLEANUP_FREE uint8_t *map = malloc(map_bytes);
	int rc;

	if (!map)
		return error_system(err, -ENOMEM, "open", img->io->name);
	rc = io_read(img->io, map, map_bytes, img->batmap_header.offset);
	if (rc < 0)
		return error_system(err, rc, "read", img->io->name);
	if (batmap_checksum(map, covered, img->batmap_header.version) !=
	    img->batmap_header.checksum)
		img->problems |= IMAGE_BATMAP_BAD;
	else
		img->batmap = steal_ptr(&map);
	return 0;
}

static int find_foreign(void *arg, uint32_t first, const uint8_t *raw, uint32_t count)
{
	uint64_t *at = arg;

	(void)first;
	if (!bat_names(raw, count, *at))
		return 0;
	*at = 0;
	return IMAGE_WALK_STOP;
}

/* The creator writes a batmap, and where its header belongs, at @at, is none: did a program that
 * knows no batmap write this image, and put its first block, or the end of the file, there? */
static int is_foreign(struct vhd_image *img, uint64_t at, struct vhd_error *err)
{
	int rc;

	if (batmap_has_cookie(img->batmap_raw))
		return 0;
	if (at == img->footer_offset)
		return 1;
	rc = image_walk_table(img, find_foreign, &at, err);
	return rc < 0 ? rc : !at;
}

/* A batmap that cannot be trusted is ignored: it only says what bitmaps say too. */
static int load_batmap(struct vhd_image *img, unsigned flags, struct vhd_error *err)
{
	uint64_t map_bytes = (uint64_t)batmap_sectors(img->header.max_entries) * VHD_SECTOR;
	uint64_t at = batmap_header_offset(img->header.table_offset, img->header.max_entries);
	int rc;

	if (!footer_has_batmap(&img->footer) && !footer_may_have_batmap(&img->footer))
		return 0;
	img->batmap_header_at = at;
	img->has_batmap = footer_has_batmap(&img->footer);
	if (!number_within(at, VHD_BATMAP_HEADER_BYTES, img->file_bytes)) {
		img->problems |= img->has_batmap ? IMAGE_BATMAP_BAD : 0;
		return 0;
	}
	rc = io_read(img->io, img->batmap_raw, sizeof(img->batmap_raw), at);
	if (rc < 0)
		return error_system(err, rc, "read", img->io->name);
	rc = batmap_decode(img->batmap_raw, &img->batmap_header, NULL);
	if (rc < 0 && img->has_batmap) {
		rc = is_foreign(img, at, err);
		if (rc < 0)
			return rc;
		img->has_batmap = !rc;
		if (rc) {
			img->problems |= IMAGE_NO_BATMAP;
			img->footer.creator_version = VHD_TAP_1_1;
			return 0;
		}
		batmap_salvage_key(img->batmap_raw, &img->batmap_header);
		img->problems |= IMAGE_BATMAP_BAD;
		return 0;
	}
	if (rc < 0)
		return 0;
	img->has_batmap = true;
	if (!batmap_placed(img, map_bytes)) {
		img->problems |= IMAGE_BATMAP_BAD;
		return 0;
	}
	if ((flags & IMAGE_BRIEF) || map_bytes > BATMAP_LOAD_MAX)
		return 0;
	return load_map_bytes(img, map_bytes, err);
}

bool image_key_beside(struct vhd_io *io, struct vhd_batmap_header *out)
{
	uint8_t raw[BATMAP_KEY_BYTES];

	if (io_attribute(io, BATMAP_KEY_ATTRIBUTE, raw, sizeof(raw)) != sizeof(raw) || !raw[0])
		return false;
	batmap_decode_key(raw, out);
	return true;
}

/* No block lies below the table and the batmap, which every known writer puts
 * first; what lies elsewhere (locators, a moved header) is compared one by one. */
static uint64_t data_start(const struct vhd_image *img)
{
	uint64_t table_end = batmap_header_offset(img->header.table_offset,
						  img->header.max_entries);
	uint64_t end = table_end;

	if (img->header_offset < img->header.table_offset)
		end = number_max(end, img->header_offset + VHD_HEADER_BYTES);
	if (img->has_batmap)
		end = number_max(end, img->batmap_header_at + VHD_BATMAP_HEADER_BYTES +
					      (uint64_t)batmap_sectors(img->header.max_entries) *
						      VHD_SECTOR);
	return end;
}

static int growth_piece(void *arg, uint32_t first, const uint8_t *raw, uint32_t count)
{
	growth_feed(arg, first, raw, count);
	return 0;
}

/* The copy's size and geometry; false: it does not lead to the same header, or the table is too
 * short for it. */
static bool take_size_of_copy(struct vhd_image *img)
{
	uint8_t raw[VHD_FOOTER_BYTES];
	struct vhd_footer copy;

	if (io_read(img->io, raw, sizeof(raw), 0) < 0 || footer_decode(raw, &copy, NULL) < 0 ||
	    copy.data_offset != img->footer.data_offset ||
	    number_div_up(copy.current_size, img->header.block_size) > img->header.max_entries)
		return false;
	img->footer.current_size = copy.current_size;
	img->footer.cylinders = copy.cylinders;
	img->footer.heads = copy.heads;
	img->footer.sectors_per_track = copy.sectors_per_track;
	img->size = copy.current_size;
	img->blocks = (uint32_t)number_div_up(img->size, img->header.block_size);
	img->problems |= IMAGE_COPY_LARGER;
	return true;
}

/* ORDER 13: where the disk is the same at both sizes a change of size stopped between the two.
 * The larger one is served, and the next writer makes them equal. */
static int judge_sizes(struct vhd_image *img, struct vhd_error *err)
{
	struct growth g;
	bool same;
	int rc;

	growth_begin(&g, img->size, img->other_size, img->block_sectors, image_has_parent(img));
	rc = image_walk_table(img, growth_piece, &g, err);
	same = !rc && growth_is_same(&g, img->io) == 1;
	growth_end(&g);
	if (!same || (img->other_size > img->size && !take_size_of_copy(img)))
		return rc;
	img->problems &= ~(unsigned)(IMAGE_SIZES_DIFFER | IMAGE_FOOTERS_DIFFER);
	img->problems |= IMAGE_FOOTERS_BENIGN | IMAGE_GROWTH_HALF;
	return 0;
}

static int open_sparse(struct vhd_image *img, unsigned flags, struct vhd_error *err)
{
	uint64_t blocks = number_div_up(img->size, img->header.block_size);
	int rc;

	img->block_sectors = img->header.block_size / VHD_SECTOR;
	img->blocks = (uint32_t)blocks; /* header_fits: <= max_entries */
	rc = img->problems & IMAGE_SIZES_DIFFER ? judge_sizes(img, err) : 0;
	if (!rc)
		rc = load_batmap(img, flags, err);
	if (rc < 0)
		return rc;
	if (!img->has_batmap)
		image_key_beside(img->io, &img->batmap_header);
	img->data_start = data_start(img);
	return 0;
}

static int refuse_poisoned(const struct vhd_image *img, const struct footers *f,
			   struct vhd_error *err)
{
	return error_at(err, -VHD_E_POISONED, f->end_offset,
			"cannot open '%s': a journalled resize is under way or was interrupted; to "
			"undo it: vhd-util revert -n '%s' -j JOURNAL",
			img->io->name, img->io->name);
}

static int open_vhd(struct vhd_image *img, unsigned flags, struct vhd_error *err)
{
	struct footers f;
	bool poisoned;
	int rc;

	if (img->file_bytes < VHD_FOOTER_BYTES - 1)
		return error_value(err, -VHD_E_NOT_VHD, 0, VHD_FOOTER_BYTES, img->file_bytes,
				   "cannot open '%s': not a VHD: it has %llu bytes, a footer alone "
				   "has 512",
				   img->io->name, (unsigned long long)img->file_bytes);
	rc = read_footers(img->io, img->file_bytes, &f);
	if (rc < 0)
		return error_system(err, rc, "read", img->io->name);
	/* one is enough, whatever the rest of the metadata looks like meanwhile */
	poisoned = !f.end_rc && f.end.poisoned;
	if (f.end_rc || footer_is_sparse(&f.end)) /* else the bytes at 0 are a guest's */
		poisoned |= !f.copy_rc && f.copy.poisoned;
	if (poisoned && !(flags & IMAGE_ALLOW_POISONED))
		return refuse_poisoned(img, &f, err);
	rc = choose(img, &f, flags, err);
	if (rc < 0)
		return rc;
	img->type = (enum vhd_type)img->footer.type;
	img->size = img->footer.current_size;
	img->problems |= poisoned ? IMAGE_POISONED : 0;
	return footer_is_sparse(&img->footer) ? open_sparse(img, flags, err) :
						check_fixed(img, err);
}

static int open_once(struct vhd_io *io, unsigned flags, struct vhd_image **out,
		     struct vhd_error *err)
{
	struct vhd_image *img = calloc(1, sizeof(*img));
	int rc = -ENOMEM;

	if (!img)
		return error_system(err, rc, "open", io->name);
	img->io = io;
	rc = io_size(io, &img->file_bytes);
	if (rc < 0) {
		error_system(err, rc, "open", io->name);
	} else if (flags & IMAGE_RAW) {
		img->type = VHD_TYPE_RAW;
		img->size = img->file_bytes;
		img->footer_offset = img->file_bytes;
	} else {
		rc = open_vhd(img, flags, err);
	}
	if (rc < 0) {
		img->io = NULL; /* stays the caller's */
		image_close(img);
		return rc;
	}
	*out = img;
	return 0;
}

/* Could this failure be a write of somebody else seen half way? */
static bool may_be_torn(int rc)
{
	return error_is_vhd(rc) && rc != -VHD_E_NOT_VHD && rc != -VHD_E_SPLIT &&
	       rc != -VHD_E_POISONED && rc != -VHD_E_UNSUPPORTED && rc != -VHD_E_BLOCK_SIZE;
}

int image_open(struct vhd_io *io, unsigned flags, struct vhd_image **out, struct vhd_error *err)
{
	const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };
	int rc = open_once(io, flags, out, err);

	for (int tries = 0; (flags & IMAGE_PEEK) && rc < 0 && may_be_torn(rc) && tries < 3;
	     tries++) {
		nanosleep(&pause, NULL);
		rc = open_once(io, flags, out, err);
	}
	return rc;
}

int image_reopen(struct vhd_image **image, struct vhd_error *err)
{
	struct vhd_io *io = (*image)->io;
	int rc;

	(*image)->io = NULL;
	image_close(*image);
	*image = NULL;
	rc = open_once(io, 0, image, err);
	if (rc < 0)
		io_close(io);
	return rc;
}

void image_close(struct vhd_image *img)
{
	if (!img)
		return;
	map_close(img->map);
	free(img->batmap);
	free(img->bad);
	crypt_put(img->crypt);
	io_close(img->io);
	free(img);
}

bool image_warning(const struct vhd_image *img, struct vhd_error *out)
{
	const unsigned missing = IMAGE_END_FOOTER_BAD | IMAGE_COPY_BAD | IMAGE_TORN_FOOTER;

	if (img->problems & IMAGE_FOOTERS_DIFFER)
		error_set(
			out, -VHD_E_FOOTERS_DIFFER,
			"'%s': its two footers contradict each other; the one at the end is used; "
			"see vhd-util check",
			img->io->name);
	else if (img->problems & missing)
		error_set(out, -VHD_E_FOOTER_MISSING,
			  "'%s': one of its two footers is missing or damaged; it is restored when "
			  "the image is next written",
			  img->io->name);
	else if (img->problems & IMAGE_GROWTH_HALF)
		error_set(
			out, -VHD_E_FOOTERS_DIFFER,
			"'%s': its two footers differ in the disk's size, a resize stopped between "
			"them; the larger one is used; they are made equal when the image is next "
			"written",
			img->io->name);
	else if (img->problems & IMAGE_TRAILING_BYTES)
		error_set(out, -VHD_E_TRAILING, "'%s': there are bytes after its footer",
			  img->io->name);
	else
		return false;
	return true;
}

int image_probe(struct vhd_io *io)
{
	struct vhd_image *img;
	int rc = open_once(io, IMAGE_ALLOW_POISONED, &img, NULL);

	if (rc < 0)
		return error_is_vhd(rc) && rc == -VHD_E_NOT_VHD ? 0 : error_is_vhd(rc) ? 1 : rc;
	img->io = NULL;
	image_close(img);
	return 1;
}

bool image_parent_is_raw(const struct vhd_image *img)
{
	static const uint8_t none[VHD_UUID_BYTES];

	return image_has_parent(img) && !memcmp(img->header.parent_uuid, none, sizeof(none));
}
