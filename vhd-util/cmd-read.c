/* cmd-read.c - what is in an image: its structures, its tables, its disk
 *
 * One question a call.  Text is for reading, everything else comes out as the
 * bytes they are, or as a hex dump with -x.  All but -r and -R look at the one
 * image without locks; those read the disk through the chain.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "headers.h"
#include "libvhd/base/bits.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/base/endian.h"
#include "libvhd/base/number.h"
#include "libvhd/bitmap.h"
#include "libvhd/chain.h"
#include "libvhd/error.h"
#include "peek.h"
#include "print.h"

#define PIECE_BYTES (1u << 20)

struct reading {
	const char *path;
	const struct arguments *args;
	struct vhd_image *image;
	uint64_t at;	/* the value of the option that asks */
	uint64_t count; /* of -c, else 1 */
	bool has_count, hex;
};

static const char *number(const struct reading *r, uint64_t n, char out[24])
{
	snprintf(out, 24, r->hex ? "0x%" PRIx64 : "%" PRIu64, n);
	return out;
}

static bool put(const struct reading *r, const uint8_t *data, size_t length, uint64_t place)
{
	return r->hex ? print_hex(data, length, place) : print_bytes(data, length);
}

/* ── ranges ── */

static int beyond(const struct reading *r, const char *what, uint64_t limit, struct vhd_error *err)
{
	return error_set(err, -VHD_E_RANGE,
			 "cannot read '%s': %s %" PRIu64 " is past the end: there are %" PRIu64,
			 r->path, what, number_within(r->at, 1, limit) ? limit : r->at, limit);
}

static int check_blocks(const struct reading *r, struct vhd_error *err)
{
	if (!number_within(r->at, r->count, r->image->blocks))
		return beyond(r, "block", r->image->blocks, err);
	return 0;
}

static int check_sectors(const struct reading *r, struct vhd_error *err)
{
	uint64_t sectors = r->image->size / VHD_SECTOR;

	if (!number_within(r->at, r->count, sectors))
		return beyond(r, "sector", sectors, err);
	return 0;
}

static uint32_t block_of(const struct reading *r, uint64_t sector)
{
	return (uint32_t)(sector / r->image->block_sectors);
}

/* ── tables as text ── */

static int print_headers(struct reading *r, struct vhd_error *err)
{
	(void)err;
	headers_print(r->image, r->hex);
	return 0;
}

static int print_translation(struct reading *r, struct vhd_error *err)
{
	uint32_t entry, bitmap = bitmap_sectors(r->image->block_sectors);
	int rc = check_sectors(r, err);

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

static int print_bat_entries(struct reading *r, struct vhd_error *err)
{
	int rc = check_blocks(r, err);
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

static int print_bitmap_test(struct reading *r, struct vhd_error *err)
{
	CLEANUP(bitmap_release) struct bitmap_of bitmap = { 0 };
	int rc = check_sectors(r, err);

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
static int print_extents(struct reading *r, struct vhd_error *err)
{
	uint64_t sectors = r->image->size / VHD_SECTOR, start = 0, length = 0, end;
	int rc = 0;

	if (r->at < sectors && !r->has_count)
		r->count = sectors - r->at;
	rc = check_sectors(r, err);
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

static int print_batmap_test(struct reading *r, struct vhd_error *err)
{
	int rc = check_blocks(r, err);

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

/* ── bytes ── */

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

static int put_bitmap(struct reading *r, struct vhd_error *err)
{
	size_t bytes = (size_t)bitmap_sectors(r->image->block_sectors) * VHD_SECTOR;
	uint32_t entry;
	int rc = check_blocks(r, err);

	for (uint64_t block = r->at; !rc && block < r->at + r->count; block++) {
		rc = image_bat_entry(r->image, (uint32_t)block, &entry, err);
		if (rc >= 0 && entry == VHD_BAT_UNUSED)
			return not_allocated(r, block, err);
		if (rc >= 0)
			rc = put_file_range(r, (uint64_t)entry * VHD_SECTOR, bytes, 0, err);
	}
	return rc;
}

static int put_block(struct reading *r, struct vhd_error *err)
{
	uint32_t entry, bitmap = bitmap_sectors(r->image->block_sectors);
	int rc = check_blocks(r, err);

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
static int put_bat_bits(struct reading *r, struct vhd_error *err)
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

static int put_batmap(struct reading *r, struct vhd_error *err)
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
		return beyond(r, "byte", vhd_size(chain), err);
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

static int put_bytes(struct reading *r, struct vhd_error *err)
{
	struct vhd_open_options options = { .parents = r->args->parents };
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

static int put_sectors(struct reading *r, struct vhd_error *err)
{
	if (!number_mul(r->at, VHD_SECTOR, &r->at) || !number_mul(r->count, VHD_SECTOR, &r->count))
		return error_set(err, -VHD_E_RANGE, "cannot read '%s': past the end of the disk",
				 r->path);
	return put_bytes(r, err);
}

/* ── which ── */

enum needs {
	NEEDS_NOTHING = 0,
	NEEDS_BLOCKS = 1 << 0,
	NEEDS_BATMAP = 1 << 1,
	THROUGH_CHAIN = 1 << 2
};

static const struct mode {
	const char *option;
	unsigned needs;
	int (*run)(struct reading *r, struct vhd_error *err);
} modes[] = {
	{ "headers", NEEDS_NOTHING, print_headers },
	{ "translate", NEEDS_BLOCKS, print_translation },
	{ "bat", NEEDS_BLOCKS, print_bat_entries },
	{ "bitmap", NEEDS_BLOCKS, put_bitmap },
	{ "test-bitmap", NEEDS_BLOCKS, print_bitmap_test },
	{ "extents", NEEDS_BLOCKS, print_extents },
	{ "bat-bits", NEEDS_BLOCKS, put_bat_bits },
	{ "batmap", NEEDS_BLOCKS | NEEDS_BATMAP, put_batmap },
	{ "test-batmap", NEEDS_BLOCKS | NEEDS_BATMAP, print_batmap_test },
	{ "data", NEEDS_BLOCKS, put_block },
	{ "sectors", THROUGH_CHAIN, put_sectors },
	{ "bytes", THROUGH_CHAIN, put_bytes },
};
#define MODES (sizeof(modes) / sizeof(modes[0]))

static int check_needs(const struct reading *r, const struct mode *mode, struct vhd_error *err)
{
	if ((mode->needs & NEEDS_BLOCKS) && !footer_is_sparse(&r->image->footer))
		return error_set(err, -VHD_E_UNSUPPORTED,
				 "cannot read '%s': a fixed image has no block table", r->path);
	if ((mode->needs & NEEDS_BATMAP) &&
	    (!r->image->has_batmap || !r->image->batmap_header.sectors))
		return error_set(err, -VHD_E_UNSUPPORTED,
				 "cannot read '%s': this image has no batmap", r->path);
	return 0;
}

static int run_mode(struct reading *r, const struct mode *mode, struct vhd_error *err)
{
	int rc;

	if (mode->needs & THROUGH_CHAIN)
		return mode->run(r, err);
	rc = peek_open(r->path, 0, &r->image, err);
	if (rc < 0)
		return rc;
	peek_warn(r->image);
	rc = check_needs(r, mode, err);
	return rc < 0 ? rc : mode->run(r, err);
}

/* The one mode asked for; NULL after the usage error. */
static const struct mode *find_mode(const struct arguments *args)
{
	const struct mode *found = NULL;

	for (size_t k = 0; k < MODES; k++) {
		if (!arguments_has(args, modes[k].option))
			continue;
		if (found) {
			usage_error("--%s and --%s do not go together", found->option,
				    modes[k].option);
			return NULL;
		}
		found = &modes[k];
	}
	if (!found)
		usage_error("nothing was asked");
	return found;
}

static int run_read(struct arguments *args)
{
	struct reading r = { .args = args, .count = 1, .hex = arguments_has(args, "hex") };
	const struct mode *mode;
	struct vhd_error err = { 0 };
	int rc;

	r.path = arguments_image(args);
	mode = r.path ? find_mode(args) : NULL;
	if (!mode)
		return EINVAL;
	if (*arguments_get(args, mode->option) && arguments_size(args, mode->option, &r.at) < 0)
		return EINVAL;
	rc = arguments_size(args, "count", &r.count);
	if (rc < 0)
		return EINVAL;
	r.has_count = rc > 0;
	rc = run_mode(&r, mode, &err);
	image_close(r.image);
	return rc < 0 ? print_error(&err) : 0;
}

static const struct option_spec read_options[] = {
	OPTION_NAME,
	{ 'p', "headers", NULL, "footer, header, locators and batmap in words" },
	{ 't', "translate", "SECTOR", "where a sector of the disk is in the file" },
	{ 'b', "bat", "BLOCK", "entry of the block table" },
	{ 'm', "bitmap", "BLOCK", "sector bitmap of a block" },
	{ 'i', "test-bitmap", "SECTOR", "is a sector in this image?" },
	{ 'e', "extents", "SECTOR", "runs of sectors in this image, from SECTOR on" },
	{ 'B', "bat-bits", NULL, "the block table as bits, 1: allocated" },
	{ 'a', "batmap", NULL, "the batmap" },
	{ 'j', "test-batmap", "BLOCK", "the batmap's bit of a block" },
	{ 'd', "data", "BLOCK", "data of a block, as in the file" },
	{ 'r', "sectors", "SECTOR", "sectors of the disk, through the chain" },
	{ 'R', "bytes", "OFFSET", "bytes of the disk, through the chain" },
	{ 'c', "count", "COUNT", "how many blocks, sectors or bytes (1; -e: to the end)" },
	{ 'x', "hex", NULL, "numbers in hexadecimal, bytes as a hex dump" },
	OPTION_PARENT_ROOT,
	{ 0 },
};

const struct command command_read = {
	.name = "read",
	.summary = "show the structures, tables or contents of an image",
	.operands = "FILE",
	.options = read_options,
	.run = run_read,
};
