/* relink-place.c - free places among the metadata of an image */
#include "relink-place.h"

#include "base/number.h"

static void use(struct places *p, uint64_t offset, uint64_t length)
{
	if (length && p->count < PLACES_MAX)
		p->used[p->count++] = (struct image_region){ offset, length };
}

/* Whatever a locator claims: its text, and its room where that is said in a way that makes sense.
 * Codes that nobody here reads included. */
static void use_locators(struct places *p)
{
	const struct vhd_image *img = p->img;

	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		const struct vhd_locator_entry *e = &img->header.locators[i];
		uint64_t room = header_locator_room(e);

		if (!e->code || !number_within(e->offset, e->length, img->file_bytes))
			continue;
		if (!number_within(e->offset, room, img->file_bytes))
			room = 0;
		use(p, e->offset, number_max(room, e->length));
	}
}

void places_begin(struct places *p, const struct vhd_image *img, bool behind)
{
	*p = (struct places){ .img = img, .behind = behind, .end = img->footer_offset };
	p->room = img->io->device ? img->footer_offset : UINT64_MAX;
	p->count = image_regions(img, true, p->used);
	use_locators(p);
	if (img->has_batmap) /* the other place of the map, too */
		use(p, img->batmap_header_at,
		    VHD_BATMAP_HEADER_BYTES +
			    2ull * batmap_sectors(img->header.max_entries) * VHD_SECTOR);
}

/* The first free @length bytes of [@start, @end); 0: none. */
static uint64_t find(const struct places *p, uint64_t length, uint64_t start, uint64_t end)
{
	uint64_t at = number_round_up(start, VHD_SECTOR);
	bool moved;

	do {
		moved = false;
		for (unsigned i = 0; i < p->count; i++) {
			const struct image_region *r = &p->used[i];

			if (!number_overlap(at, length, r->offset, r->length))
				continue;
			at = number_round_up(r->offset + r->length, VHD_SECTOR);
			moved = true;
		}
	} while (moved);
	return number_within(at, length, end) ? at : 0;
}

/* Where the last block ends, and with it all that is written by others. */
static uint64_t blocks_end(const struct vhd_image *img)
{
	return number_max(img->data_start, img->totals.end_sector * VHD_SECTOR);
}

uint64_t places_take(struct places *p, uint64_t length)
{
	const struct vhd_image *img = p->img;
	uint64_t room, at = 0;

	/* the header's usual place, after it has moved from there */
	if (length == VHD_HEADER_BYTES)
		at = find(p, length, VHD_FOOTER_BYTES, VHD_FOOTER_BYTES + VHD_HEADER_BYTES);
	if (!at && image_parent_room(img, &room))
		at = find(p, length, room, room + IMAGE_PARENT_ROOM);
	if (!at && p->behind)
		at = find(p, length, blocks_end(img), p->room);
	if (!at)
		return 0;
	use(p, at, length);
	p->end = number_max(p->end, at + length);
	return at;
}
