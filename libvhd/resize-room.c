/* resize-room.c - see resize-room.h */
#include "resize-room.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "bitmap.h"
#include "create.h"
#include "error.h"

#define OBSTACLES (IMAGE_REGIONS_MAX + 3)

static uint64_t table_bytes(uint32_t entries)
{
	return number_round_up((uint64_t)entries * 4, VHD_SECTOR);
}

static uint64_t map_bytes(uint32_t entries)
{
	return (uint64_t)batmap_sectors(entries) * VHD_SECTOR;
}

/* Table, batmap header, map, and the place of another map. */
static uint64_t whole_bytes(const struct vhd_image *img, uint32_t entries)
{
	return table_bytes(entries) +
	       (img->has_batmap ? VHD_BATMAP_HEADER_BYTES + 2 * map_bytes(entries) : 0);
}

/* ── planning ── */

/* What may not be covered: all metadata, and what is kept free for it. */
static unsigned obstacles(const struct vhd_image *img, struct image_region *out)
{
	uint64_t map = map_bytes(img->header.max_entries), room;
	unsigned n = image_regions(img, true, out);

	if (img->has_batmap) { /* the map goes from one place to the other when it is rebuilt */
		uint64_t first = img->batmap_header_at + VHD_BATMAP_HEADER_BYTES;

		out[n++] = (struct image_region){ first, map };
		if (image_is_free(img, first + map, map))
			out[n++] = (struct image_region){ first + map, map };
	}
	if (image_parent_room(img, &room))
		out[n++] = (struct image_region){ room, IMAGE_PARENT_ROOM };
	return n;
}

static bool is_clear(const struct image_region *r, unsigned n, uint64_t at, uint64_t bytes)
{
	for (unsigned i = 0; i < n; i++)
		if (number_overlap(at, bytes, r[i].offset, r[i].length))
			return false;
	return true;
}

/* The lowest place, right behind one of the obstacles. */
static uint64_t lowest_place(const struct image_region *r, unsigned n, uint64_t bytes)
{
	uint64_t best = UINT64_MAX;

	for (unsigned i = 0; i < n; i++) {
		uint64_t at = number_round_up(r[i].offset + r[i].length, VHD_SECTOR);

		if (at < best && is_clear(r, n, at, bytes))
			best = at;
	}
	return best;
}

static bool is_in(uint64_t offset, uint64_t length, uint64_t room)
{
	return offset >= room && offset + length <= room + IMAGE_PARENT_ROOM;
}

/* A place for the header among the locators of the room at @room; 0: there is none. */
static uint64_t header_place(const struct vhd_header *h, uint64_t room)
{
	uint64_t at = room + IMAGE_PARENT_ROOM - VHD_HEADER_BYTES;

	for (; at > room; at -= VHD_HEADER_BYTES) {
		bool free = true;

		for (unsigned i = 0; i < VHD_LOCATORS; i++)
			free &= !h->locators[i].code ||
				!number_overlap(at, VHD_HEADER_BYTES, h->locators[i].offset,
						number_max(header_locator_room(&h->locators[i]),
							   h->locators[i].length));
		if (free)
			return at;
	}
	return 0;
}

static void choose_place(const struct vhd_image *img, struct room *room)
{
	uint64_t old = img->header.table_offset;
	uint32_t entries = img->header.max_entries;
	uint64_t before = table_bytes(entries), after = table_bytes(room->entries), bytes;
	bool same = after == before && map_bytes(entries) == map_bytes(room->entries);
	struct image_region r[OBSTACLES];
	unsigned n = obstacles(img, r);

	if (same || (!img->has_batmap &&
		     (after <= before || is_clear(r, n, old + before, after - before)))) {
		room->place = old;
		room->end = number_max(img->data_start, old + after);
		return;
	}
	room->has_parents = image_parent_room(img, &room->parents_before) &&
			    header_place(&img->header, room->parents_before);
	bytes = whole_bytes(img, room->entries);
	room->place = lowest_place(r, n, bytes + (room->has_parents ? IMAGE_PARENT_ROOM : 0));
	room->end = room->place + bytes;
	if (room->has_parents) {
		room->parents = room->end;
		room->end += IMAGE_PARENT_ROOM;
	}
}

struct seeker {
	struct room *room;
	size_t space;
};

static int find_blocks(void *arg, uint32_t first, const uint8_t *raw, uint32_t count)
{
	struct seeker *s = arg;
	struct room *room = s->room;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t at = (uint64_t)be32_load(raw + (size_t)i * 4) * VHD_SECTOR;

		if (at >= room->end)
			continue;
		if (room->count == s->space) {
			size_t space = s->space ? s->space * 2 : 64;
			uint32_t *more = realloc(room->blocks, space * sizeof(*more));

			if (!more) {
				s->room = NULL;
				return IMAGE_WALK_STOP;
			}
			room->blocks = more;
			s->space = space;
		}
		room->blocks[room->count++] = first + i;
	}
	return 0;
}

/* Can all blocks be named, if there is nothing between them? */
static bool reaches(const struct vhd_image *img, const struct room *room)
{
	uint64_t stride = bitmap_stride(img->block_sectors);

	return room->end / VHD_SECTOR + room->entries * stride <= VHD_BAT_LAST;
}

int room_plan(struct vhd_image *img, uint32_t entries, struct room *out, struct vhd_error *err)
{
	struct seeker s = { .room = out };
	int rc;

	*out = (struct room){ .entries = entries };
	choose_place(img, out);
	if (!reaches(img, out))
		return error_set(err, -VHD_E_TOO_BIG,
				 "cannot resize '%s': %u blocks of %u bytes reach beyond 2 TiB, "
				 "where a block table cannot name them",
				 img->io->name, entries, img->header.block_size);
	if (entries == img->header.max_entries)
		return 0;
	rc = image_walk_table(img, find_blocks, &s, err);
	if (!rc && !s.room)
		rc = error_system(err, -ENOMEM, "resize", img->io->name);
	if (rc < 0)
		room_release(out);
	return rc;
}

void room_release(struct room *room)
{
	free(room->blocks);
	*room = (struct room){ 0 };
}

/* ── writing ── */

struct copier_of_table {
	const struct room *room;
	struct vhd_io *io;
	bool stays; /* where it is: only what follows the last entry is new */
	int rc;
};

/* A piece of the old table in the new one; what follows its last entry in that sector: unused. */
static int copy_piece(void *arg, uint32_t first, const uint8_t *raw, uint32_t count)
{
	struct copier_of_table *c = arg;
	uint64_t at = c->room->place + first * 4ull;
	uint32_t whole;
	uint8_t last[VHD_SECTOR];

	if (first >= c->room->entries)
		return IMAGE_WALK_STOP;
	count = (uint32_t)number_min(count, c->room->entries - first);
	whole = count / (VHD_SECTOR / 4) * (VHD_SECTOR / 4);
	if (whole && !c->stays)
		c->rc = io_write(c->io, raw, whole * 4ull, at);
	if (!c->rc && whole < count) {
		memset(last, 0xff, sizeof(last));
		memcpy(last, raw + whole * 4ull, (count - whole) * 4ull);
		c->rc = io_write(c->io, last, sizeof(last), at + whole * 4ull);
	}
	return c->rc ? IMAGE_WALK_STOP : 0;
}

static int write_table(struct vhd_image *img, const struct room *room, struct vhd_error *err)
{
	struct copier_of_table c = { .room = room,
				     .io = img->io,
				     .stays = room->place == img->header.table_offset };
	uint32_t old = (uint32_t)number_min(img->header.max_entries, room->entries);
	uint64_t written = table_bytes(old);
	int rc = image_walk_table(img, copy_piece, &c, err);

	if (rc < 0)
		return rc;
	if (!c.rc)
		c.rc = create_fill(img->io, room->place + written,
				   table_bytes(room->entries) - written, 0xff);
	return c.rc < 0 ? error_system(err, c.rc, "resize", img->io->name) : 0;
}

/* The same bits, as many as there are blocks; marker and key's hash stay. */
static int write_batmap(struct vhd_image *img, const struct room *room)
{
	uint64_t bytes = map_bytes(room->entries), old = map_bytes(img->header.max_entries);
	uint64_t at = room->place + table_bytes(room->entries);
	uint8_t raw[VHD_BATMAP_HEADER_BYTES];
	CLEANUP_FREE uint8_t *map = calloc(1, bytes);
	struct vhd_batmap_header h = img->batmap_header;
	int rc;

	if (!map)
		return -ENOMEM;
	if (img->batmap)
		memcpy(map, img->batmap, number_min(bytes, old));
	for (uint64_t i = room->entries; i < bytes * 8; i++)
		bits_clear(map, i);
	h.offset = at + VHD_BATMAP_HEADER_BYTES;
	h.sectors = (uint32_t)(bytes / VHD_SECTOR);
	h.checksum = batmap_checksum(map,
				     batmap_covered_bytes(img->footer.current_size,
							  img->header.block_size, bytes),
				     h.version);
	memcpy(raw, img->batmap_raw, sizeof(raw));
	batmap_encode(&h, raw);
	rc = io_write(img->io, raw, sizeof(raw), at);
	if (!rc)
		rc = io_write(img->io, map, bytes, h.offset);
	return rc ? rc : create_fill(img->io, h.offset + bytes, bytes, 0);
}

/* ORDER 24: all that changes is in the first sector, with the checksum. */
static int flip_sector(struct vhd_image *img, const struct vhd_header *h)
{
	uint8_t raw[VHD_HEADER_BYTES];
	int rc;

	header_encode(h, raw);
	rc = io_write(img->io, raw, VHD_SECTOR, img->header_offset);
	return rc ? rc : io_sync(img->io);
}

/* The room for parents moves behind the new batmap, with the locators in it and a complete header;
 * then one footer after the other leads there (ORDER 13). */
static int flip_room(struct vhd_image *img, const struct room *room, struct vhd_header *h,
		     struct vhd_error *err)
{
	uint64_t delta = room->parents - room->parents_before, at;
	uint8_t raw[IMAGE_PARENT_ROOM];
	int rc = io_read(img->io, raw, sizeof(raw), room->parents_before);

	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		struct vhd_locator_entry *e = &h->locators[i];

		if (e->code && is_in(e->offset, e->length, room->parents_before))
			e->offset += delta;
	}
	at = header_place(h, room->parents);
	header_encode(h, raw + (at - room->parents));
	if (!rc)
		rc = io_write(img->io, raw, sizeof(raw), room->parents);
	if (!rc)
		rc = io_sync(img->io);
	if (rc < 0)
		return error_system(err, rc, "resize", img->io->name);
	img->footer.data_offset = at;
	return image_store_footers(img, err);
}

static int flip(struct vhd_image *img, const struct room *room, struct vhd_error *err)
{
	struct vhd_header h = img->header;
	int rc;

	h.table_offset = room->place;
	h.max_entries = room->entries;
	if (room->has_parents)
		return flip_room(img, room, &h, err);
	rc = flip_sector(img, &h);
	return rc < 0 ? error_system(err, rc, "resize", img->io->name) : 0;
}

/* Nothing is to be taken for metadata that is none any more. */
static int clear_old(struct vhd_image *img, const struct room *room)
{
	uint64_t table = table_bytes(img->header.max_entries);
	int rc = io_punch(img->io, img->header.table_offset,
			  img->has_batmap ? table + VHD_BATMAP_HEADER_BYTES : table);

	if (!rc && img->has_batmap)
		rc = io_punch(img->io, img->batmap_header.offset,
			      map_bytes(img->header.max_entries));
	if (!rc && room->has_parents)
		rc = io_punch(img->io, room->parents_before, IMAGE_PARENT_ROOM);
	return rc;
}

/* Table and batmap, all but the naming of them; durable. */
static int write_new(struct vhd_image *img, const struct room *room, bool moves,
		     struct vhd_error *err)
{
	int rc = 0;

	if (moves || room->entries > img->header.max_entries)
		rc = write_table(img, room, err);
	if (rc < 0)
		return rc;
	if (moves && img->has_batmap)
		rc = write_batmap(img, room);
	if (!rc)
		rc = io_sync(img->io);
	return rc < 0 ? error_system(err, rc, "resize", img->io->name) : 0;
}

static int write_all(struct vhd_image *img, const struct room *room, struct vhd_error *err)
{
	bool moves = room->place != img->header.table_offset;
	int rc = write_new(img, room, moves, err);

	if (rc < 0) { /* a full disk, most likely: nobody names what was written */
		if (moves)
			(void)!io_punch(img->io, room->place, room->end - room->place);
		return rc;
	}
	rc = flip(img, room, err);
	if (rc < 0 || !moves)
		return rc;
	rc = clear_old(img, room);
	return rc < 0 ? error_system(err, rc, "resize", img->io->name) : 0;
}

/* ORDER 6: the file reaches behind what is to be written, with a footer at its end. */
static int extend(struct vhd_image *img, uint64_t end, struct vhd_error *err)
{
	int rc;

	if (img->footer_offset >= end)
		return 0;
	if (img->io->device)
		return error_value(err, -ENOSPC, 0, end + VHD_FOOTER_BYTES, img->file_bytes,
				   "cannot resize '%s': its metadata needs %llu bytes, the device "
				   "has %llu; enlarge it first",
				   img->io->name, (unsigned long long)end + VHD_FOOTER_BYTES,
				   (unsigned long long)img->file_bytes);
	rc = image_put_footer(img->io, &img->footer, end);
	return rc < 0 ? error_system(err, rc, "extend", img->io->name) : 0;
}

/* Between the metadata and the first block there is nothing any more: what blocks, their edges,
 * old tables and a former footer left goes back to the file system. */
static int clear_gap(struct mover *m, const struct room *room)
{
	struct vhd_image *img = m->img;
	uint64_t end = img->footer_offset;
	uint32_t bad;
	int rc = image_survey(img, &bad, m->err);

	if (rc < 0)
		return rc;
	if (img->totals.allocated)
		end = number_min(end, img->totals.lowest_sector * VHD_SECTOR);
	if (end > room->end && image_is_free(img, room->end, end - room->end))
		rc = io_punch(img->io, room->end, end - room->end);
	return rc < 0 ? error_system(m->err, rc, "resize", img->io->name) : 0;
}

int room_make(struct mover *m, const struct room *room)
{
	bool stays = room->place == m->img->header.table_offset && !room->count;
	int rc;

	if (room->entries == m->img->header.max_entries)
		return 0;
	rc = extend(m->img, room->end, m->err);
	if (!rc)
		rc = mover_reopen(m);
	if (!rc)
		rc = mover_begin(m, room->end);
	if (rc < 0)
		return rc;
	m->total = room->count * (uint64_t)m->img->header.block_size;
	for (size_t i = 0; i < room->count && !rc; i++) {
		rc = mover_move(m, room->blocks[i], 0);
		if (!rc)
			rc = mover_step(m, (i + 1) * (uint64_t)m->img->header.block_size);
	}
	rc = mover_end(m, rc);
	if (!rc)
		rc = mover_reopen(m);
	if (!rc)
		rc = write_all(m->img, room, m->err);
	if (!rc)
		rc = mover_reopen(m);
	return rc < 0 || stays ? rc : clear_gap(m, room);
}
