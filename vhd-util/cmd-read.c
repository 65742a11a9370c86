/* cmd-read.c - what is in an image: its structures, its tables, its disk
 *
 * One question a call.  Text is for reading, everything else comes out as the
 * bytes they are, or as a hex dump with -x.  All but -r and -R look at the one
 * image without locks; those read the disk through the chain.
 */
#include <errno.h>
#include <inttypes.h>

#include "libvhd/base/number.h"
#include "libvhd/error.h"
#include "peek.h"
#include "read.h"

int read_beyond(const struct reading *r, const char *what, uint64_t limit, struct vhd_error *err)
{
	return error_set(err, -VHD_E_RANGE,
			 "cannot read '%s': %s %" PRIu64 " is past the end: there are %" PRIu64,
			 r->path, what, number_within(r->at, 1, limit) ? limit : r->at, limit);
}

int read_check_blocks(const struct reading *r, struct vhd_error *err)
{
	if (!number_within(r->at, r->count, r->image->blocks))
		return read_beyond(r, "block", r->image->blocks, err);
	return 0;
}

int read_check_sectors(const struct reading *r, struct vhd_error *err)
{
	uint64_t sectors = r->image->size / VHD_SECTOR;

	if (!number_within(r->at, r->count, sectors))
		return read_beyond(r, "sector", sectors, err);
	return 0;
}

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
	{ "headers", NEEDS_NOTHING, read_headers },
	{ "translate", NEEDS_BLOCKS, read_translation },
	{ "bat", NEEDS_BLOCKS, read_bat_entries },
	{ "bitmap", NEEDS_BLOCKS, read_bitmap },
	{ "test-bitmap", NEEDS_BLOCKS, read_bitmap_test },
	{ "extents", NEEDS_BLOCKS, read_extents },
	{ "bat-bits", NEEDS_BLOCKS, read_bat_bits },
	{ "batmap", NEEDS_BLOCKS | NEEDS_BATMAP, read_batmap },
	{ "test-batmap", NEEDS_BLOCKS | NEEDS_BATMAP, read_batmap_test },
	{ "data", NEEDS_BLOCKS, read_block },
	{ "sectors", THROUGH_CHAIN, read_sectors },
	{ "bytes", THROUGH_CHAIN, read_bytes },
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
	OPTION_KEY_FILE,
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
