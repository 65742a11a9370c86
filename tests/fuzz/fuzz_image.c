/* fuzz_image.c - a whole image in memory: opened, loaded, looked up, read; then written
 *
 *   byte 0  bits of OPTION_*      bytes 1, 2  which sectors
 *
 * What is written must be there after opening again, and nothing else changed; what is
 * refused must not have changed a byte.
 */
#include <errno.h>

#include "fuzz.h"
#include "libvhd/base/number.h"
#include "libvhd/bitmap.h"
#include "libvhd/image.h"
#include "tests/lib/io-mem.h"
#include "tests/lib/seal.h"

#define IMAGE_BYTES_MAX (256u << 10)
#define CACHE_BYTES	(1u << 20)
#define SECTORS_MAX	64u /* at the start of the disk that are compared */
#define EXTS		16

enum {
	OPTION_SEAL = 1,
	OPTION_WRITE = 2,
	OPTION_POISONED = 4,
	OPTION_BACKUP = 8,
	OPTION_DEVICE = 16
};

struct disk_start {
	uint64_t count;
	bool here[SECTORS_MAX];
	uint8_t data[SECTORS_MAX][VHD_SECTOR];
};

/* Extents tile the range and lie in the file. */
static void lookup(struct vhd_image *image, uint64_t sector, uint64_t count,
		   struct disk_start *keep)
{
	struct vhd_error err = { 0 };
	struct map_ext ext[EXTS];

	while (count) {
		int n = image_lookup(image, sector, count, ext, EXTS, &err);

		if (n < 0) { /* a bad block; go on behind this sector */
			MUST(err.code == n && err.text[0]);
			sector++;
			count--;
			continue;
		}
		MUST(n > 0 && n <= EXTS);
		for (int i = 0; i < n; i++) {
			MUST(ext[i].sector == sector && ext[i].count && ext[i].count <= count);
			for (uint64_t k = 0; ext[i].kind == EXT_HERE && k < ext[i].count; k++) {
				uint8_t data[VHD_SECTOR];
				uint64_t at = (ext[i].file_sector + k) * VHD_SECTOR;

				if (image->map)
					MUST(at >= image->data_start);
				if (io_read(image->io, data, VHD_SECTOR, at) < 0)
					MUST(!image->map && image->problems);
				else if (keep && sector + k < SECTORS_MAX) {
					keep->here[sector + k] = true;
					memcpy(keep->data[sector + k], data, VHD_SECTOR);
				}
			}
			sector += ext[i].count;
			count -= ext[i].count;
		}
	}
}

static struct vhd_image *open_image(struct mem_disk *disk, unsigned flags, bool writable)
{
	struct vhd_io *io = mem_disk_open(disk, "image.vhd", writable);
	struct vhd_error err = { 0 };
	struct vhd_image *image;
	int rc;

	(void)image_probe(io);
	rc = image_open(io, flags, &image, &err);
	if (rc < 0) {
		MUST(err.code == rc && err.text[0]);
		io_close(io);
		return NULL;
	}
	MUST(image->size && image->size <= VHD_SIZE_MAX);
	return image;
}

static void examine(struct vhd_image *image, uint64_t where, struct disk_start *keep)
{
	uint64_t sectors = number_div_up(image->size, VHD_SECTOR);
	struct vhd_error err = { 0 };
	struct map_ext ext;

	(void)image_parent_is_raw(image);
	memset(keep, 0, sizeof(*keep));
	if (image_load(image, CACHE_BYTES, &err) < 0) {
		MUST(err.code < 0 && err.text[0]);
		return;
	}
	keep->count = number_min(sectors, SECTORS_MAX);
	lookup(image, 0, keep->count, keep);
	where = where * (sectors / 65536 + 1) % sectors;
	lookup(image, where, number_min(sectors - where, SECTORS_MAX), NULL);
	MUST(image_lookup(image, sectors, 1, &ext, 1, &err) < 0);
	if (!image->map)
		return;
	MUST(image_end_of_data(image) % VHD_SECTOR == 0);
	MUST(!image_is_free(image, 0, VHD_SECTOR));
	for (uint32_t block = 0; block < number_min(image->blocks, 20); block++) {
		uint8_t *bits = malloc(bitmap_sectors(image->block_sectors) * VHD_SECTOR);
		uint32_t entry;

		if (image_bat_entry(image, block, &entry, &err) < 0)
			MUST(err.text[0]);
		if (image_bitmap(image, block, bits, &err) < 0)
			MUST(err.text[0]);
		free(bits);
	}
}

/* False: there is no room, on a device or within the reach of entries. */
static bool write_sector(struct vhd_image *image, uint64_t sector, int fill)
{
	uint8_t data[VHD_SECTOR];
	struct map_req req = { .sector = sector, .count = 1 };
	struct vhd_error err = { 0 };
	struct map_ext ext;
	int n;

	memset(data, fill, sizeof(data));
	n = image_reserve(image, &req, &ext, 1, &err);
	if (n < 0) {
		MUST(err.code == n && err.text[0]);
		MUST(n == -ENOSPC || n == -VHD_E_TOO_BIG);
		return false;
	}
	MUST(n == 1);
	MUST(ext.kind == EXT_HERE && ext.sector == sector && ext.count == 1);
	MUST(!io_write(image->io, data, sizeof(data), ext.file_sector * VHD_SECTOR));
	image_written(image, &req);
	MUST(!image_finish(image, NULL));
	return true;
}

/* Write one of the first sectors of what @before was read from; then open it anew. */
static void write_image(struct mem_disk *disk, unsigned flags, unsigned where,
			const struct disk_start *before)
{
	struct mem_disk *old = mem_disk_copy(disk);
	struct vhd_image *image = open_image(disk, flags, true);
	struct disk_start after;
	struct vhd_error err = { 0 };
	uint64_t sector = where % before->count;
	bool written = false;
	int rc = image_load(image, CACHE_BYTES, &err);

	if (!rc)
		rc = image_begin_write(image, CACHE_BYTES, &err);
	if (!rc && image->map)
		written = write_sector(image, sector, 0xda);
	image_close(image);
	if (rc < 0) {
		uint8_t a[VHD_SECTOR], b[VHD_SECTOR];

		MUST(err.code == rc && err.text[0]);
		MUST(mem_disk_size(disk) == mem_disk_size(old));
		for (uint64_t at = 0; at < mem_disk_size(old); at += sizeof(a)) {
			mem_disk_peek(disk, a, sizeof(a), at);
			mem_disk_peek(old, b, sizeof(b), at);
			MUST(!memcmp(a, b, sizeof(a)));
		}
	} else {
		image = open_image(disk, 0, false);
		MUST(image);
		examine(image, 0, &after);
		MUST(!image->map || !(image->problems & IMAGE_BAT_FAULTS));
		for (uint64_t i = 0; image->map && i < before->count; i++) {
			if (i == sector && written)
				MUST(after.here[i] && after.data[i][0] == 0xda);
			else if (before->here[i])
				MUST(after.here[i] &&
				     !memcmp(after.data[i], before->data[i], VHD_SECTOR));
			else if (after.here[i]) /* a new block of an image without a parent */
				MUST(!image_has_parent(image) && !after.data[i][0] &&
				     !after.data[i][VHD_SECTOR - 1]);
		}
		image_close(image);
	}
	mem_disk_free(old);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned options, where, flags = 0;
	struct mem_disk *disk;
	struct vhd_image *image;
	struct disk_start start;
	uint8_t *bytes;

	if (size < 4 || size > IMAGE_BYTES_MAX)
		return 0;
	options = data[0];
	where = data[1] | data[2] << 8;
	size -= 3;
	bytes = malloc(size);
	memcpy(bytes, data + 3, size);
	if (options & OPTION_SEAL)
		seal_image(bytes, size);
	if (options & OPTION_POISONED)
		flags |= IMAGE_ALLOW_POISONED;
	if (options & OPTION_BACKUP)
		flags |= IMAGE_BACKUP_FOOTER;
	disk = mem_disk_new(size, options & OPTION_DEVICE);
	mem_disk_poke(disk, bytes, size, 0);
	free(bytes);
	image = open_image(disk, flags, false);
	if (image) {
		examine(image, where, &start);
		image_close(image);
		/* the copy alone is for looking */
		if (options & OPTION_WRITE && !(options & OPTION_BACKUP) && start.count)
			write_image(disk, flags, where, &start);
	}
	mem_disk_free(disk);
	return 0;
}
