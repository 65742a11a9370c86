/* edits.c - a list of changed sectors, and the image seen through it */
#include "edits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "layout.h"

int edits_init(struct edits *e, struct vhd_io *io)
{
	*e = (struct edits){ .io = io };
	int rc = io_size(io, &e->old_bytes);

	e->bytes = e->old_bytes;
	return rc;
}

void edits_release(struct edits *e)
{
	for (size_t i = 0; i < e->count; i++)
		free(e->list[i].data);
	free(e->list);
	e->list = NULL;
	e->count = e->room = 0;
}

bool edits_full(const struct edits *e, size_t more)
{
	return e->count + more > EDITS_MAX;
}

/* The first edit at or behind @offset. */
static size_t find(const struct edits *e, uint64_t offset)
{
	size_t low = 0, high = e->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (e->list[middle].offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Bytes of the file as it is; zeros behind its end. */
static int read_old(struct edits *e, void *buf, size_t length, uint64_t offset)
{
	size_t here = offset < e->old_bytes ? (size_t)number_min(length, e->old_bytes - offset) : 0;
	int rc = here ? io_read(e->io, buf, here, offset) : 0;

	if (rc < 0)
		return rc;
	memset((uint8_t *)buf + here, 0, length - here);
	return 0;
}

static int insert(struct edits *e, size_t at, uint64_t offset, enum edits_group group)
{
	struct edit new = { .offset = offset, .group = group, .data = malloc(VHD_SECTOR) };
	size_t room = e->room ? 2 * e->room : 64;
	int rc = new.data ? read_old(e, new.data, VHD_SECTOR, offset) : -ENOMEM;

	if (!rc && e->count == e->room) {
		struct edit *list = realloc(e->list, room * sizeof(*list));

		if (!list) {
			rc = -ENOMEM;
		} else {
			e->list = list;
			e->room = room;
		}
	}
	if (rc < 0) {
		free(new.data);
		return rc;
	}
	memmove(e->list + at + 1, e->list + at, (e->count - at) * sizeof(*e->list));
	e->list[at] = new;
	e->count++;
	e->bytes = number_max(e->bytes, offset + VHD_SECTOR);
	return 0;
}

uint8_t *edits_sector(struct edits *e, enum edits_group group, uint64_t offset, int *rc)
{
	size_t at = find(e, offset);

	*rc = 0;
	if (at == e->count || e->list[at].offset != offset)
		*rc = insert(e, at, offset, group);
	return *rc < 0 ? NULL : e->list[at].data;
}

int edits_put(struct edits *e, enum edits_group group, const void *data, size_t length,
	      uint64_t offset)
{
	for (size_t at = 0; at < length; at += VHD_SECTOR) {
		int rc;
		uint8_t *sector = edits_sector(e, group, offset + at, &rc);

		if (!sector)
			return rc;
		memcpy(sector, (const uint8_t *)data + at, VHD_SECTOR);
	}
	return 0;
}

/* ── the view ── */

struct view {
	struct vhd_io io;
	struct edits *e; /* borrowed */
};

static struct edits *edits_of(struct vhd_io *io)
{
	return ((struct view *)io)->e;
}

static int view_size(struct vhd_io *io, uint64_t *bytes)
{
	*bytes = edits_of(io)->bytes;
	return 0;
}

static int view_read(struct vhd_io *io, void *buf, size_t length, uint64_t offset)
{
	struct edits *e = edits_of(io);
	int rc;

	if (!number_within(offset, length, e->bytes))
		return -VHD_E_TRUNCATED;
	rc = read_old(e, buf, length, offset);
	for (size_t i = find(e, offset < VHD_SECTOR ? 0 : offset - VHD_SECTOR + 1);
	     !rc && i < e->count && e->list[i].offset < offset + length; i++) {
		uint64_t from = number_max(e->list[i].offset, offset);
		uint64_t to = number_min(e->list[i].offset + VHD_SECTOR, offset + length);

		memcpy((uint8_t *)buf + (from - offset),
		       e->list[i].data + (from - e->list[i].offset), to - from);
	}
	return rc;
}

static int view_data(struct vhd_io *io, uint64_t offset, uint64_t *start, uint64_t *end)
{
	struct edits *e = edits_of(io);
	int rc = offset < e->old_bytes ? io_data(e->io, offset, start, end) : 0;
	size_t i = find(e, offset < VHD_SECTOR ? 0 : offset - VHD_SECTOR + 1);

	if (rc < 0)
		return rc;
	if (offset >= e->old_bytes)
		*start = *end = e->bytes;
	if (i < e->count && e->list[i].offset < *start) {
		*start = number_max(e->list[i].offset, offset);
		*end = e->list[i].offset + VHD_SECTOR;
	}
	return 0;
}

static int refuse_write(struct vhd_io *io, const void *buf, size_t length, uint64_t offset)
{
	(void)io;
	(void)buf;
	(void)length;
	(void)offset;
	return -EROFS;
}

static int view_attribute(struct vhd_io *io, const char *name, void *buf, size_t room)
{
	return io_attribute(edits_of(io)->io, name, buf, room);
}

static void view_close(struct vhd_io *io)
{
	free(io);
}

static const struct vhd_io_ops view_ops = {
	.size = view_size,
	.read = view_read,
	.write = refuse_write,
	.data = view_data,
	.attribute = view_attribute,
	.close = view_close,
};

int edits_view(struct edits *e, struct vhd_io **out)
{
	struct view *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	v->io = *e->io;
	v->io.ops = &view_ops;
	v->io.writable = false;
	v->e = e;
	*out = &v->io;
	return 0;
}

/* ── writing ── */

static int write_group(struct edits *e, enum edits_group group)
{
	bool any = false;

	for (size_t i = 0; i < e->count; i++) {
		int rc;

		if (e->list[i].group != group)
			continue;
		rc = io_write(e->io, e->list[i].data, VHD_SECTOR, e->list[i].offset);
		if (rc < 0)
			return rc;
		any = true;
	}
	return any ? io_sync(e->io) : 0;
}

int edits_write(struct edits *e)
{
	int rc = 0;

	for (unsigned group = 0; !rc && group < EDITS_GROUPS; group++)
		rc = write_group(e, (enum edits_group)group);
	if (!rc && e->bytes < e->old_bytes) { /* ORDER 7: what is behind the footer */
		rc = io_truncate(e->io, e->bytes);
		if (!rc)
			rc = io_sync(e->io);
	}
	return rc;
}
