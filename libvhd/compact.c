/* compact.c - the same disk in less space, or in order
 *
 *   compact:   blocks that are zero given up ──► zeros inside the others become holes ──► the last
 *              blocks moved into the lowest gaps ──► the file cut behind the last
 *   optimize:  a few places at a time, from the first on: who is there and does not belong there
 *              goes to the end ──► who belongs there comes
 *
 * Everything is made of frees (ORDER 10) and moves (ORDER 23): whatever is interrupted, the image
 * is whole, and smaller or more in order than before.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "bitmap.h"
#include "compact-scan.h"
#include "error.h"
#include "io-file.h"
#include "sweep.h"

#define BATCH_BYTES (256ull << 20)
#define BATCHES_MAX 64u

struct compact {
	struct mover m;
	struct compact_scan scan;
	struct below *below; /* owned */
	const struct vhd_compact_options *o;
	struct vhd_compact_result *result;
	struct image_region regions[IMAGE_REGIONS_MAX + 1]; /* metadata among the blocks */
	unsigned region_count;
	uint64_t stride; /* sectors */
	bool packed;	 /* optimize: there is no room for data on 4 KiB */
};

static uint64_t storage_of(const struct vhd_image *img)
{
	int fd = io_file_fd(img->io);
	struct stat st;

	return fd < 0 || fstat(fd, &st) < 0 || img->io->device ? 0 : (uint64_t)st.st_blocks * 512;
}

/* ── places ── */

static void find_regions(struct compact *c)
{
	const struct vhd_image *img = c->m.img;
	uint64_t room;

	c->region_count = image_regions(img, true, c->regions);
	if (image_parent_room(img, &room))
		c->regions[c->region_count++] = (struct image_region){ room, IMAGE_PARENT_ROOM };
}

/* Lowest sector at or after @from where a block can lie, aligned, below @end and not over metadata;
 * 0: there is none.  Where only an unaligned block fits, that. */
static uint64_t fit(const struct compact *c, uint64_t from, uint64_t end)
{
	uint32_t size = c->m.img->block_sectors;
	uint64_t at = c->packed ? from : bitmap_align(from, size);
	bool moved;

	if (at + c->stride > end)
		at = from;
	do {
		moved = false;
		for (unsigned i = 0; i < c->region_count; i++) {
			const struct image_region *r = &c->regions[i];

			if (!number_overlap(at * VHD_SECTOR, c->stride * VHD_SECTOR, r->offset,
					    r->length))
				continue;
			at = number_div_up(r->offset + r->length, VHD_SECTOR);
			at = c->packed ? at : bitmap_align(at, size);
			moved = true;
		}
	} while (moved);
	return at + c->stride <= end ? at : 0;
}

/* Where the first block may lie: behind the table, and what is kept free behind it. */
static uint64_t first_sector(const struct compact *c)
{
	const struct vhd_image *img = c->m.img;
	uint64_t end = img->data_start;

	if (img->has_batmap) /* the place of the other map */
		end = number_max(end, img->batmap_header_at + VHD_BATMAP_HEADER_BYTES +
					      2ull * batmap_sectors(img->header.max_entries) *
						      VHD_SECTOR);
	return number_div_up(end, VHD_SECTOR);
}

/* ── compact ── */

/* From the lowest gap on, and from the last block back, until they meet: @move is called for each,
 * or NULL only counts.  *end: where the last block ends then. */
static int pack(struct compact *c, bool move, uint64_t *end)
{
	struct compact_block *list = c->scan.list;
	uint64_t from = first_sector(c);
	size_t low = 0, high = c->scan.count;
	int rc = 0;

	*end = 0;
	c->m.total = high * c->stride * VHD_SECTOR;
	while (!rc && low < high) {
		uint64_t place = fit(c, from, list[low].at);

		if (!place || place >= list[high - 1].at) {
			from = (uint64_t)list[low].at + c->stride;
			*end = number_max(*end, from);
			low++;
			continue;
		}
		high--;
		c->result->moved_blocks++;
		from = place + c->stride;
		*end = number_max(*end, from);
		if (move) {
			rc = mover_move(&c->m, list[high].block, place * VHD_SECTOR);
			if (!rc)
				rc = mover_step(&c->m, (c->scan.count - (high - low)) * c->stride *
							       VHD_SECTOR);
		}
	}
	return rc;
}

/* What is given up leaves the list. */
static int drop(struct compact *c, bool really)
{
	struct compact_block *list = c->scan.list;
	size_t n = 0;

	for (size_t i = 0; i < c->scan.count; i++) {
		int rc = 0;

		if (!list[i].drop) {
			list[n++] = list[i];
			continue;
		}
		c->result->dropped_blocks++;
		if (really)
			rc = image_free(c->m.img, list[i].block, 1, c->m.err);
		if (rc < 0)
			return rc;
	}
	c->scan.count = n;
	return 0;
}

static uint64_t length_for(const struct compact *c, uint64_t end_sector)
{
	const struct vhd_image *img = c->m.img;
	uint64_t end = number_max(end_sector, first_sector(c)) * VHD_SECTOR;

	for (unsigned i = 0; i < c->region_count; i++)
		end = number_max(end, c->regions[i].offset + c->regions[i].length);
	return img->io->device ? img->file_bytes : end + VHD_FOOTER_BYTES;
}

static int compact_dry(struct compact *c)
{
	uint64_t end = 0;
	int rc = compact_look(&c->scan);

	if (!rc)
		rc = drop(c, false);
	if (!rc)
		rc = pack(c, false, &end);
	c->result->file_after = length_for(c, end);
	c->result->storage_after = c->result->storage_before -
				   number_min(c->scan.zeros, c->result->storage_before);
	return rc;
}

static int compact(struct compact *c)
{
	uint64_t end;
	int rc;

	c->scan.punch = true;
	rc = compact_look(&c->scan);
	if (!rc)
		rc = drop(c, true);
	if (!rc) /* only now are their places free */
		rc = mover_commit(&c->m);
	if (!rc)
		rc = pack(c, true, &end);
	return mover_end(&c->m, rc);
}

/* ── optimize ── */

static int by_block(const void *a, const void *b)
{
	const struct compact_block *x = a, *y = b;

	return x->block < y->block ? -1 : x->block > y->block;
}

static uint64_t count_disorder(const struct compact *c)
{
	uint64_t n = 0;

	for (size_t i = 1; i < c->scan.count; i++)
		n += c->scan.list[i].at < c->scan.list[i - 1].at;
	return n;
}

static int move_to(struct compact *c, struct compact_block *b, uint64_t place)
{
	int rc = mover_move(&c->m, b->block, place * VHD_SECTOR);

	if (rc < 0)
		return rc;
	b->at = (uint32_t)(c->m.place / VHD_SECTOR);
	c->result->moved_blocks++;
	return 0;
}

/* The places of blocks [k, k + n), from sector @from on. */
static void plan_places(const struct compact *c, uint64_t from, size_t n, uint64_t *places)
{
	for (size_t i = 0; i < n; i++) {
		places[i] = fit(c, from, VHD_BAT_LAST);
		from = places[i] + c->stride;
	}
}

static bool is_at_home(const struct compact *c, size_t k, size_t n, size_t i,
		       const uint64_t *places)
{
	return i >= k && i < k + n && c->scan.list[i].at == places[i - k];
}

/* Who lies in the places of [k, k + n) and does not belong there goes to the end. */
static int evict(struct compact *c, size_t k, size_t n, const uint64_t *places)
{
	uint64_t from = places[0], end = places[n - 1] + c->stride;
	int rc = 0;

	for (size_t i = k; i < c->scan.count && !rc; i++) {
		struct compact_block *b = &c->scan.list[i];

		if (number_overlap(b->at, c->stride, from, end - from) &&
		    !is_at_home(c, k, n, i, places))
			rc = move_to(c, b, 0);
	}
	return rc ? rc : mover_commit(&c->m);
}

static int order_batch(struct compact *c, size_t k, size_t n, const uint64_t *places)
{
	int rc = evict(c, k, n, places);

	for (size_t i = 0; i < n && !rc; i++) {
		struct compact_block *b = &c->scan.list[k + i];

		if (b->at != places[i])
			rc = move_to(c, b, places[i]);
	}
	if (!rc)
		rc = mover_commit(&c->m);
	return rc ? rc : mover_step(&c->m, (k + n) * c->stride * VHD_SECTOR);
}

static uint64_t last_place(const struct compact *c)
{
	uint64_t from = first_sector(c), place = 0;

	for (size_t i = 0; i < c->scan.count; i++) {
		place = fit(c, from, VHD_BAT_LAST);
		from = place + c->stride;
	}
	return place;
}

static int order(struct compact *c)
{
	size_t batch = number_max(BATCH_BYTES / (c->stride * VHD_SECTOR), 1);
	CLEANUP_FREE uint64_t *places = NULL;
	uint64_t from = first_sector(c);
	int rc = 0;

	batch = number_max(batch, c->scan.count / BATCHES_MAX + 1);
	places = malloc(batch * sizeof(*places));
	if (!places)
		return error_system(c->m.err, -ENOMEM, "optimize", c->m.img->io->name);
	c->packed = last_place(c) + c->stride > map_end_of_data(c->m.img->map) / VHD_SECTOR;
	c->m.total = c->scan.count * c->stride * VHD_SECTOR;
	for (size_t k = 0; k < c->scan.count && !rc; k += batch) {
		size_t n = number_min(batch, c->scan.count - k);

		plan_places(c, from, n, places);
		rc = order_batch(c, k, n, places);
		from = places[n - 1] + c->stride;
	}
	return mover_end(&c->m, rc);
}

static int optimize(struct compact *c)
{
	if (c->scan.count)
		qsort(c->scan.list, c->scan.count, sizeof(*c->scan.list), by_block);
	c->result->out_of_order = count_disorder(c);
	if (!c->result->out_of_order || c->o->dry_run)
		return 0;
	return order(c);
}

/* ── the whole ── */

static int begin(struct compact *c)
{
	struct vhd_image *img = c->m.img;
	uint64_t left = 0;
	int rc = 0;

	if (image_has_parent(img))
		rc = sweep_count(&c->m, &left);
	if (rc < 0)
		return rc;
	if (c->o->dry_run) {
		c->result->dropped_blocks = left;
		return mover_ask(&c->m);
	}
	if (left) {
		rc = sweep_behind(&c->m, img->size, &c->result->dropped_blocks);
		if (!rc)
			rc = mover_reopen(&c->m);
	}
	return rc < 0 ? rc : mover_begin(&c->m, 0);
}

static int run(struct compact *c)
{
	struct vhd_image *img = c->m.img;
	int rc;

	c->result->file_before = c->result->file_after = img->file_bytes;
	c->result->storage_before = c->result->storage_after = storage_of(img);
	if (!footer_is_sparse(&img->footer))
		return error_set(c->m.err, -VHD_E_UNSUPPORTED,
				 "cannot %s '%s': a fixed image has no blocks that could be moved; "
				 "convert it to a dynamic one",
				 c->m.verb, img->io->name);
	if (image_has_parent(img) && !c->o->order)
		rc = below_open(img, &c->o->parents, &c->below, c->m.err);
	else
		rc = 0;
	if (!rc)
		rc = begin(c);
	if (rc < 0)
		return rc;
	img = c->m.img;
	c->stride = bitmap_stride(img->block_sectors);
	c->scan.m = &c->m;
	c->scan.below = c->below;
	find_regions(c);
	rc = compact_list(&c->scan);
	if (rc < 0)
		return rc;
	if (c->o->order)
		rc = optimize(c);
	else
		rc = c->o->dry_run ? compact_dry(c) : compact(c);
	if (!c->o->dry_run) {
		c->result->file_after = img->file_bytes;
		c->result->storage_after = storage_of(img);
	}
	return rc;
}

int vhd_compact(const char *path, const struct vhd_compact_options *o,
		struct vhd_compact_result *result, struct vhd_error *err)
{
	struct vhd_compact_result unused;
	struct compact c = {
		.m = { .verb = o->order ? "optimize" : "compact",
		       .progress = &o->progress,
		       .err = err,
		       .dry_run = o->dry_run },
		.o = o,
		.result = result ? result : &unused,
	};
	int rc;

	*c.result = (struct vhd_compact_result){ 0 };
	rc = mover_open(&c.m, path, LOCK_MOVE);
	if (!rc)
		rc = run(&c);
	compact_scan_release(&c.scan);
	below_close(c.below);
	mover_close(&c.m);
	return rc;
}
