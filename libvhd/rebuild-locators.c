/* rebuild-locators.c - parent locators, found again by their texts
 *
 * The texts lie in sectors of their own between the table and the first block.  Which entry
 * named which is known from how the writers of this format arrange them; the checksum
 * of the header tells the right arrangement.  A wrong one does no harm: who follows a
 * locator compares the parent's id.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "batmap.h"
#include "locator.h"
#include "rebuild.h"

#define LOOK_BYTES (64u << 10)

struct text {
	bool wide, relative;
	uint64_t offset;
	uint32_t length;
};

struct texts {
	struct text list[VHD_LOCATORS];
	unsigned count;
};

/* Bytes of the UTF-16 or 8-bit text at @data, up to its first NUL. */
static uint32_t text_length(const uint8_t *data, size_t room, bool wide)
{
	uint32_t n = 0, step = wide ? 2 : 1;

	while (n + step <= room && (data[n] || (wide && data[n + 1])))
		n += step;
	return n;
}

/* Batmaps are no names, though many of them are text: names have a dot or a slash. */
static bool looks_like_path(const uint8_t *data, uint32_t length, bool wide)
{
	for (uint32_t i = 0; i < length; i += wide ? 2 : 1)
		if ((data[i] == '.' || data[i] == '\\' || data[i] == '/') &&
		    (!wide || !data[i + 1]))
			return length >= 4;
	return false;
}

/* Is there a path at @data, one of @code, and nothing but zeros behind it in its sector? */
static bool reads_as(uint32_t code, const uint8_t *data, size_t room, struct locator_path *path,
		     struct text *out)
{
	uint32_t edge;

	out->wide = code != LOCATOR_MACX;
	out->length = text_length(data, room, out->wide);
	if (!looks_like_path(data, out->length, out->wide) ||
	    locator_decode(code, data, out->length, path, NULL) < 0)
		return false;
	edge = (uint32_t)number_min(number_round_up(out->length, VHD_SECTOR), room);
	for (uint32_t i = out->length; i < edge; i++)
		if (data[i])
			return false;
	out->relative = path->relative;
	return true;
}

static int find_texts(const struct rebuild_spec *spec, const struct vhd_header *h, struct texts *t)
{
	uint64_t from = batmap_header_offset(h->table_offset, h->max_entries);
	uint64_t room = from < spec->end_offset ? spec->end_offset - from : 0;
	size_t length = (size_t)number_min(room, LOOK_BYTES);
	CLEANUP_FREE struct locator_path *path = malloc(sizeof(*path));
	CLEANUP_FREE uint8_t *data = malloc(length + 1);
	int rc = path && data ? 0 : -ENOMEM;

	if (!rc && length)
		rc = io_read(spec->io, data, length, from);
	for (size_t at = 0; !rc && at + VHD_SECTOR <= length && t->count < VHD_LOCATORS;) {
		struct text *x = &t->list[t->count];

		x->offset = from + at;
		if ((!memcmp(data + at, "file:", 5) &&
		     reads_as(LOCATOR_MACX, data + at, length - at, path, x)) ||
		    reads_as(LOCATOR_W2RU, data + at, length - at, path, x)) {
			at += number_round_up(x->length, VHD_SECTOR);
			t->count++;
		} else {
			at += VHD_SECTOR;
		}
	}
	return rc;
}

/* @order: codes by slot; of each kind the texts are given out in order. */
static bool arrange(const struct texts *t, const uint32_t order[VHD_LOCATORS], uint32_t space,
		    struct vhd_header *h)
{
	unsigned used = 0;

	memset(h->locators, 0, sizeof(h->locators));
	for (unsigned slot = 0; slot < VHD_LOCATORS; slot++) {
		if (!order[slot])
			continue;
		if (used == t->count || t->list[used].wide != (order[slot] != LOCATOR_MACX))
			return false;
		h->locators[slot] = (struct vhd_locator_entry){ .code = order[slot],
								.space = space,
								.length = t->list[used].length,
								.offset = t->list[used].offset };
		used++;
	}
	return used == t->count;
}

/* No arrangement is confirmed: each text by what it says. */
static void as_they_read(const struct texts *t, struct vhd_header *h)
{
	memset(h->locators, 0, sizeof(h->locators));
	for (unsigned i = 0; i < t->count; i++) {
		const struct text *x = &t->list[i];

		h->locators[i] = (struct vhd_locator_entry){
			.code = !x->wide    ? LOCATOR_MACX :
				x->relative ? LOCATOR_W2RU :
					      LOCATOR_W2KU,
			.space = (uint32_t)number_round_up(x->length, VHD_SECTOR),
			.length = x->length,
			.offset = x->offset,
		};
	}
}

int rebuild_locators(const struct rebuild_spec *spec, struct vhd_header *h,
		     bool (*fits)(const struct vhd_header *, void *), void *arg)
{
	static const uint32_t orders[][VHD_LOCATORS] = {
		{ LOCATOR_MACX, LOCATOR_W2KU, LOCATOR_W2RU },
		{ LOCATOR_W2KU, LOCATOR_W2RU },
		{ LOCATOR_W2RU, LOCATOR_W2KU },
		{ LOCATOR_W2RU, LOCATOR_W2KU, LOCATOR_MACX },
		{ LOCATOR_W2RU },
		{ LOCATOR_W2KU },
		{ LOCATOR_MACX },
		{ 0, 0, 0, 0, 0, 0, LOCATOR_W2RU, LOCATOR_W2KU },
		{ 0, 0, 0, 0, 0, 0, LOCATOR_W2KU, LOCATOR_W2RU },
	};
	static const uint32_t spaces[] = { 1024, 512, 2, 1 };
	struct texts t = { .count = 0 };
	int rc = find_texts(spec, h, &t);

	if (rc < 0)
		return rc;
	for (size_t o = 0; fits && o < sizeof(orders) / sizeof(orders[0]); o++)
		for (size_t s = 0; s < sizeof(spaces) / sizeof(spaces[0]); s++)
			if (arrange(&t, orders[o], spaces[s], h) && fits(h, arg))
				return 1;
	as_they_read(&t, h);
	return 0;
}

/* The path that locator @i leads to; false: none that can be read. */
static bool read_path(struct vhd_io *io, const struct vhd_locator_entry *e, uint64_t file_bytes,
		      struct locator_path *path)
{
	CLEANUP_FREE uint8_t *data = NULL;

	if (!locator_usable(e, file_bytes))
		return false;
	data = malloc(e->length);
	return data && !io_read(io, data, e->length, e->offset) &&
	       !locator_decode(e->code, data, e->length, path, NULL) && !path->windows_absolute;
}

int rebuild_locator_text(struct vhd_io *io, const struct vhd_header *h, uint64_t file_bytes,
			 unsigned i, uint8_t *text)
{
	const struct vhd_locator_entry *lost = &h->locators[i];
	CLEANUP_FREE struct locator_path *path = malloc(sizeof(*path));

	if (!path)
		return -ENOMEM;
	for (unsigned k = 0; k < VHD_LOCATORS; k++) {
		if (k == i || !read_path(io, &h->locators[k], file_bytes, path))
			continue;
		if (locator_encode(lost->code, path->text, text, lost->length, NULL) ==
		    (int)lost->length)
			return 1;
	}
	return 0;
}
