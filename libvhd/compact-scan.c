/* compact-scan.c - see compact-scan.h */
#include "compact-scan.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "bitmap.h"
#include "error.h"
#include "zeros.h"

#define EXTENTS	    64
#define PIECE_BYTES (256u << 10) /* stays in a processor's cache while it is looked at */
#define GRAIN_BYTES 4096u
#define RUN_MIN	    (32u << 10) /* shorter ones are not worth a hole */

struct looker {
	struct compact_scan *s;
	uint8_t *buf;
	uint64_t data, data_end; /* storage asked about last */
	/* the block */
	bool any, nonzero;
	uint64_t storage;	 /* bytes of it */
	uint64_t run, run_bytes; /* zeros so far */
	struct image_region *runs;
	size_t count, room;
};

static int add_block(struct compact_scan *s, size_t *room, uint32_t block, uint32_t at)
{
	if (s->count == *room) {
		size_t more = *room ? *room * 2 : 1024;
		void *list = realloc(s->list, more * sizeof(*s->list));

		if (!list)
			return -ENOMEM;
		s->list = list;
		*room = more;
	}
	s->list[s->count++] = (struct compact_block){ .block = block, .at = at };
	return 0;
}

struct lister {
	struct compact_scan *s;
	size_t room;
	int rc;
};

static int list_piece(void *arg, uint32_t first, const uint8_t *raw, uint32_t count)
{
	struct lister *l = arg;

	for (uint32_t i = 0; i < count && !l->rc; i++) {
		uint32_t at = be32_load(raw + (size_t)i * 4);

		if (at != VHD_BAT_UNUSED && first + i < l->s->m->img->blocks)
			l->rc = add_block(l->s, &l->room, first + i, at);
	}
	return l->rc ? IMAGE_WALK_STOP : 0;
}

static int by_position(const void *a, const void *b)
{
	const struct compact_block *x = a, *y = b;

	return x->at < y->at ? -1 : x->at > y->at;
}

int compact_list(struct compact_scan *s)
{
	struct lister l = { .s = s };
	int rc = image_walk_table(s->m->img, list_piece, &l, s->m->err);

	if (!rc && l.rc)
		rc = error_system(s->m->err, l.rc, s->m->verb, s->m->img->io->name);
	if (!rc && s->count)
		qsort(s->list, s->count, sizeof(*s->list), by_position);
	return rc;
}

void compact_scan_release(struct compact_scan *s)
{
	free(s->list);
	s->list = NULL;
}

/* ── zeros ── */

static int end_run(struct looker *l)
{
	uint64_t from = number_round_up(l->run, GRAIN_BYTES);
	uint64_t to = number_round_down(l->run + l->run_bytes, GRAIN_BYTES);

	l->run_bytes = 0;
	if (to < from + RUN_MIN)
		return 0;
	if (l->count == l->room) {
		size_t more = l->room ? l->room * 2 : 64;
		void *runs = realloc(l->runs, more * sizeof(*l->runs));

		if (!runs)
			return -ENOMEM;
		l->runs = runs;
		l->room = more;
	}
	l->runs[l->count++] = (struct image_region){ from, to - from };
	return 0;
}

static int see(struct looker *l, uint64_t at, uint64_t length)
{
	uint64_t done = 0;
	int rc = 0;

	while (!rc && done < length) {
		uint64_t n = number_min(GRAIN_BYTES - (at + done) % GRAIN_BYTES, length - done);

		if (!zeros_are(l->buf + done, n)) {
			l->nonzero = true;
			rc = end_run(l);
		} else if (l->run_bytes && l->run + l->run_bytes == at + done) {
			l->run_bytes += n;
		} else {
			rc = end_run(l);
			l->run = at + done;
			l->run_bytes = n;
		}
		done += n;
	}
	return rc;
}

/* [at, end) of the file, which are data of one block: what has storage is read. */
static int look_range(struct looker *l, uint64_t at, uint64_t end)
{
	struct vhd_io *io = l->s->m->img->io;
	int rc = 0;

	while (!rc && at < end) {
		uint64_t n;

		if (at >= l->data_end) {
			rc = io_data(io, at, &l->data, &l->data_end);
			if (rc < 0)
				return rc;
			if (l->data >= l->data_end)
				l->data = l->data_end = UINT64_MAX;
		}
		at = number_max(at, l->data);
		if (at >= end)
			break;
		n = number_min(number_min(l->data_end, end) - at, PIECE_BYTES - at % PIECE_BYTES);
		rc = io_read(io, l->buf, n, at);
		if (!rc)
			rc = see(l, at, n);
		l->storage += n;
		at += n;
	}
	return rc;
}

/* Is what a parent has at these sectors zero? */
static int below_is_zero(struct looker *l, const struct map_ext *e, bool *zero)
{
	uint64_t at = e->sector * VHD_SECTOR, end = at + e->count * VHD_SECTOR;
	int rc = 0;

	*zero = true;
	while (l->s->below && !rc && *zero && at < end) {
		uint64_t n = end - at;

		rc = below_zero(l->s->below, at, &n, zero, l->s->m->err);
		at += n;
	}
	return rc;
}

/* All of a block that is present.  *same: below reads the same. */
static int look_block(struct looker *l, const struct compact_block *b, bool *same)
{
	struct vhd_image *img = l->s->m->img;
	uint64_t at = (uint64_t)b->block * img->block_sectors;
	uint64_t end = number_min(at + img->block_sectors, img->size / VHD_SECTOR);
	bool below = true;

	while (at < end) {
		struct map_ext ext[EXTENTS];
		int n = image_lookup(img, at, end - at, ext, EXTENTS, l->s->m->err), rc = 0;

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			uint64_t file = ext[i].file_sector * VHD_SECTOR;

			at = ext[i].sector + ext[i].count;
			if (ext[i].kind != EXT_HERE)
				continue;
			l->any = true;
			rc = look_range(l, file, file + ext[i].count * VHD_SECTOR);
			if (rc < 0)
				return error_system(l->s->m->err, rc, "read", img->io->name);
			if (!l->nonzero && below) {
				rc = below_is_zero(l, &ext[i], &below);
				if (rc < 0)
					return rc;
			}
		}
	}
	*same = !l->nonzero && below;
	return 0;
}

/* Zeros to zeros: there is nothing to order. */
static int punch_runs(struct looker *l)
{
	int rc = end_run(l);

	for (size_t i = 0; i < l->count && !rc; i++) {
		l->s->zeros += l->runs[i].length;
		if (l->s->punch)
			rc = io_punch(l->s->m->img->io, l->runs[i].offset, l->runs[i].length);
	}
	return rc < 0 ? error_system(l->s->m->err, rc, l->s->m->verb, l->s->m->img->io->name) : 0;
}

static bool is_cipher(const struct vhd_image *img)
{
	return image_is_encrypted(img);
}

static int look_at_one(struct looker *l, struct compact_block *b)
{
	bool same = false;
	int rc;

	l->any = l->nonzero = false;
	l->storage = l->run_bytes = l->count = 0;
	rc = look_block(l, b, &same);
	if (rc < 0)
		return rc;
	/* zeros that are somebody's cipher text mean something else */
	b->drop = same && (!l->any || !is_cipher(l->s->m->img));
	l->s->dropped += b->drop;
	if (!b->drop)
		return punch_runs(l);
	l->s->zeros += l->storage;
	return 0;
}

int compact_look(struct compact_scan *s)
{
	struct looker l = { .s = s, .buf = aligned_alloc(VHD_ALIGN, PIECE_BYTES) };
	int rc = l.buf ? 0 : error_system(s->m->err, -ENOMEM, s->m->verb, s->m->img->io->name);

	s->m->total = s->count * (uint64_t)s->m->img->header.block_size;
	for (size_t i = 0; i < s->count && !rc; i++) {
		rc = look_at_one(&l, &s->list[i]);
		if (!rc)
			rc = mover_step(s->m, (i + 1) * (uint64_t)s->m->img->header.block_size);
	}
	free(l.buf);
	free(l.runs);
	return rc;
}
