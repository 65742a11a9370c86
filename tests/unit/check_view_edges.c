/* check_view_edges.c - views at their bounds, cut-off chains, more waiting than a map can load */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/endian.h"
#include "libvhd/base/number.h"
#include "libvhd/layout.h"
#include "libvhd/map.h"
#include "libvhd/view-cells.h"
#include "libvhd/view.h"
#include "tests/lib/rng.h"

#define BAT_OFFSET 4096u
#define FIRST	   1000u /* sector of the first block */
#define STRIDE	   4097u
#define VIEWS	   12u
#define BUILDS	   8u

#define EXPECT(cond, ...)                                       \
	do {                                                    \
		if (!(cond)) {                                  \
			fprintf(stderr, "line %d: ", __LINE__); \
			fprintf(stderr, __VA_ARGS__);           \
			fputc('\n', stderr);                    \
			exit(1);                                \
		}                                               \
	} while (0)

struct asker {
	struct map_req req; /* first */
	bool busy;
	int err;
};

static void answered(struct map_req *req)
{
	struct asker *a = (struct asker *)req;

	a->busy = false;
	a->err = req->err;
}

static void ask(struct vhd_view *view, struct asker *a, uint64_t sector)
{
	*a = (struct asker){ .req = { .sector = sector, .count = 1, .ready = answered },
			     .busy = true };
	view_want(view, &a->req);
}

/* A layer of @blocks of a cell each, none or all allocated. */
static struct vhd_map *layer(uint32_t blocks, bool has_parent)
{
	struct map_params p = { .size_sectors = (uint64_t)blocks * VIEW_CELL_SECTORS,
				.block_sectors = VIEW_CELL_SECTORS,
				.max_entries = blocks,
				.bat_offset = BAT_OFFSET,
				.has_parent = has_parent,
				.data_start = FIRST * VHD_SECTOR,
				.data_end = UINT32_MAX * (uint64_t)VHD_SECTOR };
	struct vhd_map *map;

	EXPECT(map_open(&p, &map) == 0, "map_open");
	return map;
}

static void serve(const struct map_io *io, bool allocated)
{
	EXPECT(io->op == MAP_READ, "operation %d", io->op);
	memset(io->buf, 0xff, io->length);
	if (io->offset < FIRST * VHD_SECTOR && allocated)
		for (uint32_t i = 0; i < io->length / 4; i++)
			be32_store((uint8_t *)io->buf + i * 4, FIRST + i * STRIDE);
}

/* A disk of 2040 GiB, all of it looked at: memory stays where it was bounded. */
static void test_memory(void)
{
	uint64_t sectors = VHD_SIZE_MAX / VHD_SECTOR, bound = 1u << 20, most = 0;
	struct view_layer flat = { NULL, sectors };
	struct vhd_view *view;
	struct view_ext ext;
	struct asker a;
	struct map_io io;
	unsigned which;
	int rc;

	EXPECT(view_open(&flat, 1, bound, &view) == 0, "view_open");
	for (uint64_t s = 0; s < sectors; s += 5 * VIEW_CELL_SECTORS) {
		ask(view, &a, s);
		EXPECT(!view_next(view, &which, &io), "a flat layer needs no operation");
		EXPECT(!a.busy && !a.err, "answer %d", a.err);
		EXPECT(view_lookup(view, s, 1, &ext, 1) == 1 && ext.kind == VIEW_DATA &&
			       ext.file_sector == s,
		       "sector %llu", (unsigned long long)s);
		most = number_max(most, view_memory(view));
	}
	EXPECT(most <= bound + (512u << 10), "%llu bytes of memory", (unsigned long long)most);
	rc = view_lookup(view, sectors - 1, 2, &ext, 1);
	EXPECT(rc == 1 || rc == MAP_WAIT, "lookup at the end: %d", rc);
	rc = view_lookup(view, sectors, 100, &ext, 1);
	EXPECT(rc == 1 && ext.kind == VIEW_ZERO && ext.count == 100, "past the end: %d", rc);
	rc = view_lookup(view, UINT64_MAX - 1, 4, &ext, 1);
	EXPECT(rc == -VHD_E_RANGE, "past 64 bits: %d", rc);
	view_forget(view);
	EXPECT(view_lookup(view, 0, 1, &ext, 1) == MAP_WAIT, "known after it was forgotten");
	EXPECT(view_memory(view) < bound / 2, "forgetting gives memory back");
	view_close(view);
}

/* Cells of all kinds, every sector of them: extents spread evenly, all at one end, all but one. */
static void test_search(void)
{
	static struct cell_ext ext[VIEW_CELL_SECTORS];
	struct cells cells;
	struct rng rng = { 1 };

	EXPECT(cells_init(&cells, 1ull << 20, 64u << 20) == 0, "cells_init");
	for (uint32_t k = 0; k < 200; k++) {
		uint32_t most = k % 4 ? 1 + (uint32_t)rng_below(&rng, 400) : VIEW_CELL_SECTORS;
		uint32_t width = k % 3 ? VIEW_CELL_SECTORS : most, n = 1, at;
		const struct cell *cell;

		for (uint32_t s = 1; s < VIEW_CELL_SECTORS && n < most; s++)
			if (rng_below(&rng, width) < most) {
				uint32_t last = VIEW_CELL_SECTORS - most + n;

				ext[n].start = (uint16_t)(k % 5 ? s : last);
				n++;
			}
		EXPECT(cells_add(&cells, k, ext, n) == 0, "cells_add");
		cell = cells_find(&cells, k);
		at = 0;
		for (uint32_t s = 0; s < VIEW_CELL_SECTORS; s++) {
			if (at + 1 < n && ext[at + 1].start <= s)
				at++;
			EXPECT(cell_search(cell, s) == at,
			       "cell %u of %u extents, sector %u: %u, not %u", k, n, s,
			       cell_search(cell, s), at);
		}
	}
	cells_release(&cells);
}

/* A view of no layers is zero everywhere. */
static void test_none(void)
{
	struct vhd_view *view;
	struct view_ext ext;
	int rc = view_open(NULL, 0, 0, &view);

	EXPECT(rc == 0, "view_open: %d", rc);
	rc = view_lookup(view, 12345, 1u << 20, &ext, 1);
	EXPECT(rc == 1 && ext.kind == VIEW_ZERO && ext.count == 1u << 20, "lookup: %d", rc);
	view_close(view);
	view_close(NULL);
}

/* A chain that is cut off above its base: what is below fails, it does not read as zero. */
static void test_no_base(void)
{
	struct view_layer l = { layer(6, true), 6 * VIEW_CELL_SECTORS };
	struct vhd_view *view;
	struct asker a;
	struct map_io io;
	unsigned which;

	EXPECT(view_open(&l, 1, 0, &view) == 0, "view_open");
	ask(view, &a, 7);
	while (view_next(view, &which, &io)) {
		serve(&io, false);
		view_done(view, which, io.tag, 0);
	}
	EXPECT(!a.busy && a.err == -VHD_E_PARENT_MISSING, "below the last layer: %d", a.err);
	EXPECT(view_fault_layer(view) == 0, "fault in layer %u", view_fault_layer(view));
	view_close(view);
	map_close(l.map);
}

static void kicked(void *arg)
{
	*(bool *)arg = true;
}

/* Many views ask one map for more than it loads at a time.  What was loaded is reported to one of
 * them, then all are asked what they can do now: nobody is left waiting. */
static void test_crowd(void)
{
	struct view_layer l = { layer(VIEWS * BUILDS, true), VIEWS * BUILDS * VIEW_CELL_SECTORS };
	struct vhd_view *view[VIEWS];
	static struct asker a[VIEWS * BUILDS];
	static struct map_io io[VIEWS * BUILDS];
	bool turn[VIEWS] = { false };
	unsigned which, n = 0;

	for (unsigned v = 0; v < VIEWS; v++) {
		EXPECT(view_open(&l, 1, 1u << 20, &view[v]) == 0, "view_open");
		view_set_kick(view[v], kicked, &turn[v]);
	}
	ask(view[0], &a[0], 0); /* the table */
	while (view_next(view[0], &which, &io[0])) {
		serve(&io[0], true);
		view_done(view[0], 0, io[0].tag, 0);
	}
	for (unsigned i = 1; i < VIEWS * BUILDS; i++)
		ask(view[i / BUILDS], &a[i], (uint64_t)i * VIEW_CELL_SECTORS);
	for (unsigned v = 1; v < VIEWS; v++) /* as far as the map has room for */
		while (view_next(view[v], &which, &io[n]))
			n++;
	EXPECT(n && n < VIEWS * BUILDS - 1, "%u loads at a time", n);
	while (n--) {
		serve(&io[n], true);
		view_done(view[1], 0, io[n].tag, 0); /* one that waits for nothing later on */
		for (unsigned v = 1; v < VIEWS; v++) /* but the others do */
			while (view_next(view[v], &which, &io[VIEWS * BUILDS - 1])) {
				serve(&io[VIEWS * BUILDS - 1], true);
				view_done(view[v], 0, io[VIEWS * BUILDS - 1].tag, 0);
			}
	}
	for (unsigned i = BUILDS; i < VIEWS * BUILDS; i++)
		EXPECT(!a[i].busy && !a[i].err, "request %u: busy %d, error %d", i, a[i].busy,
		       a[i].err);
	while (view_next(view[0], &which, &io[0])) {
		serve(&io[0], true);
		view_done(view[0], 0, io[0].tag, 0);
	}
	for (unsigned v = 0; v < VIEWS; v++)
		view_close(view[v]);
	map_close(l.map);
}

/* Two views want the same: the read of one fails, or its requests are cancelled.  The other asks
 * again itself, and hears nothing of it. */
static void test_apart(int err)
{
	struct view_layer l = { layer(1, true), VIEW_CELL_SECTORS };
	struct vhd_view *mine, *other;
	bool my_turn = false, turn = false;
	struct asker a, b;
	struct map_io io, none;
	unsigned which;

	EXPECT(view_open(&l, 1, 1u << 20, &mine) == 0, "view_open");
	EXPECT(view_open(&l, 1, 1u << 20, &other) == 0, "view_open");
	view_set_kick(mine, kicked, &my_turn);
	view_set_kick(other, kicked, &turn);
	ask(mine, &a, 0);
	EXPECT(view_next(mine, &which, &io), "no read");
	ask(other, &b, 0);
	EXPECT(!view_next(other, &which, &none), "one read for both");
	if (err == -ECANCELED) {
		view_cancel(mine, err);
		EXPECT(!view_next(mine, &which, &none) && !a.busy && a.err == err, "cancelled: %d",
		       a.err);
	}
	view_done(mine, 0, io.tag, err);
	EXPECT(!a.busy && a.err == err && b.busy && turn, "the other heard: %d", b.err);
	EXPECT(!view_next(mine, &which, &none), "nobody of this view waits, and it reads");
	while (view_next(other, &which, &io)) {
		serve(&io, true);
		memset(io.buf, 0, io.offset < FIRST * VHD_SECTOR ? 0 : io.length);
		view_done(other, 0, io.tag, 0);
	}
	EXPECT(!b.busy && b.err == -VHD_E_PARENT_MISSING, "the other was answered %d", b.err);
	view_close(mine);
	view_close(other);
	map_close(l.map);
}

int main(void)
{
	test_none();
	test_memory();
	test_search();
	test_no_base();
	test_crowd();
	test_apart(-EIO);
	test_apart(-ECANCELED);
	puts("check_view_edges: all right");
	return 0;
}
