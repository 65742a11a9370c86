/* image-places.c - what lies where in a file, and what is free */
#include "image-private.h"

#include <string.h>

#include "base/number.h"
#include "layout.h"
#include "locator.h"
#include "plan.h"

unsigned image_regions(const struct vhd_image *img, bool rooms, struct image_region *out)
{
	unsigned n = 0;

	out[n++] = (struct image_region){ 0, VHD_FOOTER_BYTES };
	out[n++] = (struct image_region){ img->header_offset, VHD_HEADER_BYTES };
	out[n++] = (struct image_region){ img->header.table_offset,
					  batmap_header_offset(img->header.table_offset,
							       img->header.max_entries) -
						  img->header.table_offset };
	if (img->has_batmap) {
		uint64_t map = (uint64_t)batmap_sectors(img->header.max_entries) * VHD_SECTOR;

		out[n++] = (struct image_region){ img->batmap_header_at, VHD_BATMAP_HEADER_BYTES };
		if (!(img->problems & IMAGE_BATMAP_BAD))
			out[n++] = (struct image_region){ img->batmap_header.offset, map };
	}
	/* in an image without a parent they mean nothing: some are left by who made it of a child */
	for (unsigned i = 0; image_has_parent(img) && i < VHD_LOCATORS; i++) {
		const struct vhd_locator_entry *e = &img->header.locators[i];
		uint64_t room = rooms ? number_max(header_locator_room(e), e->length) : e->length;

		if (locator_usable(e, img->file_bytes) &&
		    number_within(e->offset, room, img->file_bytes))
			out[n++] = (struct image_region){ e->offset, room };
	}
	return n;
}

_Static_assert(IMAGE_PARENT_ROOM == PLAN_LOCATORS * PLAN_LOCATOR_BYTES + PLAN_SLOT_BYTES,
	       "all of it");

/* Is the header, or a locator as this project writes them, in the @length bytes at @offset? */
static bool room_is_used(const struct vhd_image *img, uint64_t offset, uint64_t length)
{
	if (img->header_offset >= offset && img->header_offset < offset + length)
		return true;
	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		const struct vhd_locator_entry *e = &img->header.locators[i];

		if (e->code && e->space == PLAN_LOCATOR_BYTES && e->offset >= offset &&
		    e->offset < offset + length)
			return true;
	}
	return false;
}

bool image_parent_room(const struct vhd_image *img, uint64_t *offset)
{
	uint64_t at, end;

	if (!image_has_parent(img) || !img->has_batmap)
		return false;
	at = img->batmap_header_at + VHD_BATMAP_HEADER_BYTES +
	     2ull * batmap_sectors(img->header.max_entries) * VHD_SECTOR;
	end = at + IMAGE_PARENT_ROOM;
	if (end > img->footer_offset || !room_is_used(img, at, IMAGE_PARENT_ROOM) ||
	    (img->totals.allocated && img->totals.lowest_sector * VHD_SECTOR < end))
		return false;
	*offset = at;
	return true;
}

bool image_is_free(const struct vhd_image *img, uint64_t offset, uint64_t length)
{
	struct image_region regions[IMAGE_REGIONS_MAX];
	unsigned n = image_regions(img, true, regions);
	uint64_t room;

	if (image_parent_room(img, &room) &&
	    number_overlap(offset, length, room, IMAGE_PARENT_ROOM))
		return false;
	for (unsigned i = 0; i < n; i++)
		if (number_overlap(offset, length, regions[i].offset, regions[i].length))
			return false;
	if (img->totals.lowest_sector != UINT64_MAX && img->totals.allocated &&
	    offset + length > img->totals.lowest_sector * VHD_SECTOR)
		return false;
	return offset + length <= img->footer_offset;
}

uint64_t image_end_of_data(const struct vhd_image *img)
{
	struct image_region regions[IMAGE_REGIONS_MAX];
	unsigned n;
	uint64_t end, room;

	if (!footer_is_sparse(&img->footer))
		return img->size;
	end = number_max(img->data_start, img->totals.end_sector * VHD_SECTOR);
	if (image_parent_room(img, &room))
		end = number_max(end, room + IMAGE_PARENT_ROOM);
	n = image_regions(img, true, regions);
	for (unsigned i = 0; i < n; i++)
		end = number_max(end, regions[i].offset + regions[i].length);
	if (img->map)
		end = number_max(end, map_end_of_data(img->map));
	return number_round_up(end, VHD_SECTOR);
}
