/* grow.c - see grow.h */
#include "grow.h"

#include <string.h>

#include "base/endian.h"
#include "base/number.h"
#include "bitmap.h"
#include "error.h"
#include "geometry.h"
#include "spare.h"

struct spare {
	struct vhd_image *img;
	struct vhd_error *err;
	uint64_t first, end; /* blocks */
	uint64_t block;	     /* found in use */
	uint32_t entry;	     /* VHD_BAT_UNUSED: none */
	uint64_t zeros;	     /* blocks that read as zero */
};

static int look_at_spare(void *arg, uint32_t first, const uint8_t *raw, uint32_t count)
{
	struct spare *s = arg;
	int rc;

	if (first + (uint64_t)count <= s->first)
		return 0;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t block = first + (uint64_t)i;
		uint32_t entry = be32_load(raw + (size_t)i * 4);

		if (block < s->first || block >= s->end || entry == VHD_BAT_UNUSED)
			continue;
		rc = spare_is_zero(s->img->io, entry, s->img->block_sectors,
				   image_has_parent(s->img));
		if (rc < 0)
			return error_system(s->err, rc, "read", s->img->io->name);
		if (rc) {
			s->zeros++;
			continue;
		}
		s->block = block;
		s->entry = entry;
		return IMAGE_WALK_STOP;
	}
	return 0;
}

/* Spare entries that are not empty, nor what an interrupted resize left, come from something we do
 * not know. */
int grow_check_spare(struct vhd_image *img, uint64_t old, uint64_t *zeros, struct vhd_error *err)
{
	struct spare s = { .img = img,
			   .err = err,
			   .first = number_div_up(old, img->header.block_size),
			   .end = img->blocks,
			   .entry = VHD_BAT_UNUSED };
	int rc = s.first < s.end ? image_walk_table(img, look_at_spare, &s, err) : 0;

	*zeros = s.zeros;
	if (rc < 0 || s.entry == VHD_BAT_UNUSED)
		return rc;
	return error_value(err, -VHD_E_BAT_ENTRY, img->header.table_offset + s.block * 4,
			   VHD_BAT_UNUSED, s.entry,
			   "cannot enlarge '%s': the table entry of block %llu, beyond the end of "
			   "the disk, is %u and not empty; see vhd-util check",
			   img->io->name, (unsigned long long)s.block, s.entry);
}

/* What somebody left in the last block behind the end of the disk would come to light. */
int grow_clear_tail(struct vhd_image *img, uint64_t size, struct vhd_error *err)
{
	uint64_t in = size % img->header.block_size;
	uint32_t entry;
	int rc;

	if (!in)
		return 0;
	rc = image_bat_entry(img, (uint32_t)(size / img->header.block_size), &entry, err);
	if (rc < 0 || entry == VHD_BAT_UNUSED)
		return rc;
	rc = io_zero(img->io,
		     ((uint64_t)entry + bitmap_sectors(img->block_sectors)) * VHD_SECTOR + in,
		     img->header.block_size - in);
	if (!rc)
		rc = io_sync(img->io);
	return rc < 0 ? error_system(err, rc, "write", img->io->name) : 0;
}

int grow_begin(struct vhd_image *img, uint64_t old, struct vhd_error *err)
{
	uint64_t zeros;
	int rc = grow_check_spare(img, old, &zeros, err);

	if (!rc && zeros && image_is_encrypted(img)) /* to other readers they are no zeros */
		rc = error_set(
			err, -VHD_E_ENCRYPTED,
			"cannot enlarge '%s': it is encrypted, and an interrupted resize left "
			"blocks of zeros behind its end; vhd-util compact gives them back",
			img->io->name);
	return rc < 0 ? rc : grow_clear_tail(img, old, err);
}

/* The published algorithm rounds down, and qemu takes these two creators at that word: for
 * them a size between two geometries gets the one that means "ask the size". */
static struct vhd_geometry geometry_of(const struct vhd_footer *f, uint64_t size)
{
	struct vhd_geometry g = geometry_for(size / VHD_SECTOR);
	uint64_t chs = (uint64_t)g.cylinders * g.heads * g.sectors_per_track * VHD_SECTOR;
	bool by_chs = !memcmp(f->creator_app, "vpc ", 4) || !memcmp(f->creator_app, "qemu", 4);

	if (by_chs && chs != size)
		g = (struct vhd_geometry){ 65535, 16, 255 };
	return g;
}

int grow_end(struct vhd_image *img, struct vhd_error *err)
{
	struct vhd_geometry g = geometry_of(&img->footer, img->size);

	img->footer.current_size = img->size;
	img->footer.cylinders = g.cylinders;
	img->footer.heads = g.heads;
	img->footer.sectors_per_track = g.sectors_per_track;
	return image_store_footers(img, err);
}
