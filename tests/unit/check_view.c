/* check_view.c - the view of a chain against a model, sector by sector
 *
 * A seed decides everything (SEED=n repeats one, COUNT=n sets how many).  Each
 * world is a stack of layers of random kinds, sizes and block sizes; real
 * maps over tables and bitmaps that are made up here and served as the maps
 * ask for them, late and in any order, some with errors.  The truth about a
 * sector comes from walking the layers one by one.  Two views share the maps;
 * each is pumped only after something was asked or done through it, or it was
 * kicked.  An error is heard by the view whose operation failed, and by no other; now and then
 * one view's requests are cancelled.  Now and then a layer gains blocks and sectors, as by a coalesce of
 * somebody else's, and all is forgotten.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/bits.h"
#include "libvhd/base/endian.h"
#include "libvhd/base/number.h"
#include "libvhd/bitmap.h"
#include "libvhd/layout.h"
#include "libvhd/map.h"
#include "libvhd/view.h"

#define BAT_OFFSET 4096u
#define LAYERS	   255u
#define CELLS	   6u
#define SECTORS	   (CELLS * VIEW_CELL_SECTORS)
#define FLIGHTS	   64u
#define ASKERS	   24u
#define VIEWS	   2u

static unsigned long long seed;

#define EXPECT(cond, ...)                                                       \
	do {                                                                    \
		if (!(cond)) {                                                  \
			fprintf(stderr, "seed %llu line %d: ", seed, __LINE__); \
			fprintf(stderr, __VA_ARGS__);                           \
			fputc('\n', stderr);                                    \
			exit(1);                                                \
		}                                                               \
	} while (0)

struct block {
	uint32_t entry;
	bool bad;
	uint8_t *bits;
};

struct layer {
	bool flat, has_parent;
	uint64_t size; /* sectors */
	uint32_t block_sectors, blocks, bitmap_bytes;
	struct block *block;
	uint32_t next; /* where its next block goes */
	struct vhd_map *map;
};

struct flight {
	bool used, served, fail;
	unsigned view, layer;
	struct map_io io;
};

struct asker {
	struct map_req req; /* first */
	bool busy, inside, cancelled;
	unsigned view;
};

static struct {
	uint64_t rng;
	struct layer layer[LAYERS];
	unsigned depth;
	struct vhd_view *view[VIEWS];
	bool turn[VIEWS]; /* to be pumped */
	struct flight flight[FLIGHTS];
	struct asker asker[ASKERS];
	unsigned per_mille;	   /* of operations fail */
	bool failed[VIEWS][CELLS]; /* an operation that cell may depend on failed */
	uint64_t checked;
} w;

static uint32_t rnd(uint32_t below)
{
	w.rng ^= w.rng << 13;
	w.rng ^= w.rng >> 7;
	w.rng ^= w.rng << 17;
	return (uint32_t)((w.rng >> 16) % below);
}

/* ── the world ── */

static void make_bits(const struct layer *l, struct block *b)
{
	uint32_t at = 0;
	unsigned kind = rnd(4);

	b->bits = calloc(1, l->bitmap_bytes);
	while (kind && at < l->block_sectors) { /* kind 0: allocated, nothing present */
		uint32_t run = 1 + rnd(kind == 1 ? l->block_sectors : kind == 2 ? 16 : 3);

		run = (uint32_t)number_min(run, l->block_sectors - at);
		if (rnd(2))
			bits_set_range(b->bits, at, run);
		at += run;
	}
}

static void make_layer(struct layer *l, bool last, uint64_t top_size)
{
	static const uint32_t sizes[] = { 8, 64, 256, 1024, 4096, 8192 };
	unsigned density = rnd(5);
	uint32_t next;

	memset(l, 0, sizeof(*l));
	l->flat = last && rnd(2);
	l->size = rnd(3) ? top_size : 1 + rnd(SECTORS);
	if (l->flat)
		return;
	l->has_parent = !last;
	l->block_sectors = sizes[rnd(6)];
	l->blocks = (uint32_t)number_div_up(l->size, l->block_sectors);
	l->bitmap_bytes = bitmap_sectors(l->block_sectors) * VHD_SECTOR;
	l->block = calloc(l->blocks, sizeof(*l->block));
	next = rnd(2) ? 100000 : 4000000000u; /* near what 32 bits reach, too */
	for (uint32_t i = 0; i < l->blocks; i++) {
		struct block *b = &l->block[i];

		b->entry = VHD_BAT_UNUSED;
		if (rnd(5) >= density)
			continue;
		b->entry = next;
		next += bitmap_stride(l->block_sectors) + rnd(3);
		b->bad = !rnd(200);
		make_bits(l, b);
	}
	l->next = next;
}

/* Somebody else makes a layer gain sectors, or a block. */
static void change_layer(void)
{
	struct layer *l = &w.layer[rnd(w.depth)];
	struct block *b = l->flat ? NULL : &l->block[rnd(l->blocks)];
	uint32_t first;

	if (!b || b->bad)
		return;
	if (b->entry == VHD_BAT_UNUSED) {
		b->entry = l->next;
		l->next += bitmap_stride(l->block_sectors);
		make_bits(l, b);
	}
	first = rnd(l->block_sectors);
	bits_set_range(b->bits, first, 1 + rnd(l->block_sectors - first));
	map_forget(l->map);
	for (unsigned v = 0; v < VIEWS; v++) {
		view_forget(w.view[v]);
		w.turn[v] = true;
	}
}

static void open_map(struct layer *l)
{
	uint32_t bad[4096], bad_count = 0;
	struct map_params p = { .size_sectors = l->size,
				.block_sectors = l->block_sectors,
				.max_entries = l->blocks,
				.bat_offset = BAT_OFFSET,
				.has_parent = l->has_parent,
				.data_start = 50000 * VHD_SECTOR,
				.data_end = (uint64_t)UINT32_MAX * VHD_SECTOR,
				.end_of_data = (uint64_t)UINT32_MAX * VHD_SECTOR,
				.cache_bytes = rnd(2) ? 128u << 10 : 1u << 20 };
	int rc;

	for (uint32_t i = 0; i < l->blocks && bad_count < 4096; i++)
		if (l->block[i].bad)
			bad[bad_count++] = i;
	p.bad_blocks = bad;
	p.bad_count = bad_count;
	rc = map_open(&p, &l->map);
	EXPECT(rc == 0, "map_open: %d", rc);
}

static void kicked(void *arg)
{
	*(bool *)arg = true;
}

static void make_world(unsigned depth, uint64_t cache)
{
	struct view_layer layers[LAYERS];
	uint64_t top = 1 + rnd(SECTORS);
	int rc;

	w.depth = depth;
	for (unsigned i = 0; i < depth; i++) {
		make_layer(&w.layer[i], i + 1 == depth, top);
		if (!w.layer[i].flat)
			open_map(&w.layer[i]);
		layers[i].map = w.layer[i].map;
		layers[i].size_sectors = w.layer[i].size;
	}
	for (unsigned v = 0; v < VIEWS; v++) {
		rc = view_open(layers, depth, cache, &w.view[v]);
		EXPECT(rc == 0, "view_open: %d", rc);
		view_set_kick(w.view[v], kicked, &w.turn[v]);
	}
}

static void end_world(void)
{
	for (unsigned v = 0; v < VIEWS; v++) {
		view_close(w.view[v]);
		w.view[v] = NULL;
	}
	for (unsigned i = 0; i < w.depth; i++) {
		struct layer *l = &w.layer[i];

		map_close(l->map);
		for (uint32_t k = 0; k < l->blocks; k++)
			free(l->block[k].bits);
		free(l->block);
		memset(l, 0, sizeof(*l));
	}
}

/* ── the truth ── */

struct truth {
	bool zero, bad;
	unsigned layer;
	uint64_t file_sector;
};

static struct truth truth_of(uint64_t sector)
{
	for (unsigned i = 0; i < w.depth; i++) {
		const struct layer *l = &w.layer[i];
		const struct block *b;
		uint32_t k;

		if (sector >= l->size)
			return (struct truth){ .zero = true };
		if (l->flat)
			return (struct truth){ .layer = i, .file_sector = sector };
		b = &l->block[sector / l->block_sectors];
		k = (uint32_t)(sector % l->block_sectors);
		if (b->bad)
			return (struct truth){ .bad = true };
		if (b->entry != VHD_BAT_UNUSED && bits_test(b->bits, k))
			return (struct truth){ .layer = i,
					       .file_sector = (uint64_t)b->entry +
							      bitmap_sectors(l->block_sectors) +
							      k };
		if (!l->has_parent)
			return (struct truth){ .zero = true };
	}
	return (struct truth){ .zero = true };
}

static bool cell_is_bad(uint64_t cell)
{
	for (uint64_t s = cell * VIEW_CELL_SECTORS; s < (cell + 1) * VIEW_CELL_SECTORS; s++)
		if (truth_of(s).bad)
			return true;
	return false;
}

/* ── the storage ── */

static void taint(unsigned view, const struct layer *l, uint64_t first_block, uint64_t end_block)
{
	uint64_t from = first_block * l->block_sectors / VIEW_CELL_SECTORS;
	uint64_t to = number_div_up(end_block * l->block_sectors, VIEW_CELL_SECTORS);

	for (uint64_t c = from; c < to && c < CELLS; c++)
		w.failed[view][c] = true;
}

/* Serve one read of @view; @fail: say which of its cells may hear of it. */
static void serve(unsigned view, const struct layer *l, const struct map_io *io, bool fail)
{
	uint8_t *out = io->buf;

	EXPECT(io->op == MAP_READ, "a frozen layer's map wants operation %d", io->op);
	if (io->offset < 50000 * VHD_SECTOR) {
		uint64_t first = (io->offset - BAT_OFFSET) / 4;

		EXPECT(io->offset >= BAT_OFFSET, "read at %llu", (unsigned long long)io->offset);
		for (uint64_t i = 0; i < io->length / 4; i++)
			be32_store(out + 4 * i, first + i < l->blocks ? l->block[first + i].entry :
									VHD_BAT_UNUSED);
		if (fail)
			taint(view, l, first, first + io->length / 4);
		return;
	}
	for (uint32_t i = 0; i < l->blocks; i++)
		if ((uint64_t)l->block[i].entry * VHD_SECTOR == io->offset && l->block[i].bits) {
			EXPECT(io->length == l->bitmap_bytes, "bitmap of %llu bytes",
			       (unsigned long long)io->length);
			memcpy(out, l->block[i].bits, l->bitmap_bytes);
			if (fail)
				taint(view, l, i, i + 1);
			return;
		}
	EXPECT(false, "read at %llu, where nothing is", (unsigned long long)io->offset);
}

/* The storage may read long before it reports. */
static void perform(struct flight *f)
{
	f->fail = rnd(1000) < w.per_mille;
	f->served = true;
	serve(f->view, &w.layer[f->layer], &f->io, f->fail);
}

static void complete(struct flight *f)
{
	if (!f->served)
		perform(f);
	f->used = false;
	for (unsigned v = 0; v < VIEWS; v++)
		w.turn[v] = true; /* there is room for what they wait for */
	view_done(w.view[f->view], f->layer, f->io.tag, f->fail ? -EIO : 0);
}

/* An operation of view @v, if it is its turn. */
static bool take(struct flight *f, unsigned v)
{
	f->view = v;
	f->served = false;
	f->used = w.turn[v] && view_next(w.view[v], &f->layer, &f->io);
	w.turn[v] = f->used;
	if (f->used && rnd(2))
		perform(f);
	return f->used;
}

static bool pump(void)
{
	struct flight *f = &w.flight[rnd(FLIGHTS)];

	if (f->used) {
		complete(f);
		return true;
	}
	return take(f, rnd(VIEWS));
}

/* ── those who ask ── */

static void compare(uint64_t sector, uint64_t count, const struct view_ext *ext, int n)
{
	uint64_t at = sector;

	for (int i = 0; i < n; i++) {
		EXPECT(ext[i].sector == at && ext[i].count, "a gap at %llu",
		       (unsigned long long)at);
		for (uint64_t k = 0; k < ext[i].count; k++, at++) {
			struct truth t = truth_of(at);

			EXPECT(!t.bad, "sector %llu is in a bad block", (unsigned long long)at);
			EXPECT((ext[i].kind == VIEW_ZERO) == t.zero, "sector %llu: zero is %d",
			       (unsigned long long)at, t.zero);
			EXPECT(t.zero || (ext[i].layer == t.layer &&
					  ext[i].file_sector + k == t.file_sector),
			       "sector %llu: layer %u at %llu, should be layer %u at %llu",
			       (unsigned long long)at, ext[i].layer,
			       (unsigned long long)(ext[i].file_sector + k), t.layer,
			       (unsigned long long)t.file_sector);
			w.checked++;
		}
	}
	EXPECT(at <= sector + count, "more than asked for");
}

static void answered(struct map_req *req)
{
	struct asker *a = (struct asker *)req;
	uint64_t cell = req->sector / VIEW_CELL_SECTORS;
	struct view_ext ext[16];
	int n;

	EXPECT(a->busy && !a->inside, "ready() while view_want runs, or twice");
	a->busy = false;
	if (req->err == -VHD_E_BAT_ENTRY) {
		EXPECT(cell_is_bad(cell), "cell %llu is sound", (unsigned long long)cell);
		return;
	}
	if (req->err == -ECANCELED) {
		EXPECT(a->cancelled, "nobody cancelled cell %llu", (unsigned long long)cell);
		return;
	}
	EXPECT(!a->cancelled, "cancelled, and the answer is %d", req->err);
	if (req->err) {
		EXPECT(req->err == -EIO && w.failed[a->view][cell], "error %d in cell %llu",
		       req->err, (unsigned long long)cell);
		return;
	}
	n = view_lookup(w.view[a->view], req->sector, req->count, ext, 1 + (int)rnd(16));
	EXPECT(n > 0, "lookup after ready: %d", n);
	compare(req->sector, req->count, ext, n);
}

static void ask(struct asker *a)
{
	struct view_ext ext[8];
	uint64_t sector = rnd(SECTORS - 1), count = 1 + rnd((uint32_t)(SECTORS - sector));
	int n;

	if (rnd(2))
		count = number_min(count, 64);
	a->view = rnd(VIEWS);
	n = view_lookup(w.view[a->view], sector, count, ext, 1 + (int)rnd(8));
	if (n) {
		EXPECT(n > 0, "lookup: %d", n);
		compare(sector, count, ext, n);
		return;
	}
	a->req = (struct map_req){ .sector = sector, .count = count, .ready = answered };
	a->busy = a->inside = true;
	a->cancelled = false;
	view_want(w.view[a->view], &a->req);
	w.turn[a->view] = true;
	a->inside = false;
}

static void cancel(unsigned v)
{
	view_cancel(w.view[v], -ECANCELED);
	w.turn[v] = true;
	for (unsigned i = 0; i < ASKERS; i++)
		if (w.asker[i].busy && w.asker[i].view == v)
			w.asker[i].cancelled = true;
}

static void drain(void)
{
	bool busy = true;

	while (busy) {
		bool moved = false;

		for (unsigned i = 0; i < FLIGHTS; i++) {
			struct flight *f = &w.flight[i];

			if (f->used) {
				complete(f);
				moved = true;
			} else if (take(f, i % VIEWS)) {
				moved = true;
			}
		}
		busy = false;
		for (unsigned i = 0; i < ASKERS; i++)
			busy |= w.asker[i].busy;
		EXPECT(moved || !busy, "requests wait, and there is nothing to do");
		busy |= moved;
	}
}

/* Every sector, through the synchronous loop. */
static void read_all(void)
{
	for (uint64_t at = 0; at < SECTORS;) {
		struct view_ext ext[64];
		int n = view_lookup(w.view[0], at, SECTORS - at, ext, 64);

		EXPECT(n >= 0, "lookup: %d", n);
		compare(at, SECTORS - at, ext, n);
		if (n) {
			at = ext[n - 1].sector + ext[n - 1].count;
			continue;
		}
		w.asker[0].req = (struct map_req){ .sector = at, .count = 1, .ready = answered };
		w.asker[0].busy = true;
		w.asker[0].cancelled = false;
		w.asker[0].view = 0;
		view_want(w.view[0], &w.asker[0].req);
		w.turn[0] = true;
		drain();
		if (w.asker[0].req.err == -VHD_E_BAT_ENTRY)
			at = (at / VIEW_CELL_SECTORS + 1) * VIEW_CELL_SECTORS;
		else
			EXPECT(!w.asker[0].req.err, "an error was remembered: %d",
			       w.asker[0].req.err);
	}
}

static void play(unsigned depth)
{
	static const uint64_t caches[] = { 0, 4096, 65536, 1u << 20, 16u << 20 };
	unsigned steps = depth > 64 ? 300 : 1500;

	w.rng = seed * 0x9e3779b97f4a7c15ull + 1;
	for (unsigned i = 0; i < 8; i++)
		rnd(2);
	memset(w.failed, 0, sizeof(w.failed));
	make_world(depth ? depth : 1 + rnd(rnd(8) ? 6 : 40), caches[rnd(5)]);
	w.per_mille = rnd(3) ? 0 : 50;
	while (steps--) {
		struct asker *a = &w.asker[rnd(ASKERS)];

		if (!a->busy && rnd(3) == 0)
			ask(a);
		else if (rnd(200) == 0)
			change_layer();
		else if (rnd(200) == 0)
			cancel(rnd(VIEWS));
		else
			pump();
	}
	w.per_mille = 0;
	drain();
	read_all();
	end_world();
}

int main(void)
{
	const char *one = getenv("SEED"), *count = getenv("COUNT");
	unsigned long long first = one ? strtoull(one, NULL, 0) : 1;
	unsigned long long n = one ? 1 : count ? strtoull(count, NULL, 0) : 300;

	for (seed = first; seed < first + n; seed++)
		play(seed % 100 == 99 ? LAYERS : 0);
	printf("check_view: %llu worlds from seed %llu, %llu sectors compared, all as the model\n",
	       n, first, (unsigned long long)w.checked);
	return 0;
}
