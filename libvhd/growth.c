/* growth.c - is the disk the same at two sizes? */
#include "growth.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "bitmap.h"
#include "layout.h"
#include "spare.h"
#include "zeros.h"

#define PIECE_BYTES (256u << 10)

void growth_begin(struct growth *g, uint64_t size, uint64_t other, uint32_t block_sectors,
		  bool by_bits)
{
	*g = (struct growth){ .smaller = number_min(size, other),
			      .block_sectors = block_sectors,
			      .by_bits = by_bits,
			      .last = VHD_BAT_UNUSED };
}

static void remember(struct growth *g, uint32_t entry)
{
	if (g->count == g->room && !g->rc) {
		size_t room = g->room ? 2 * g->room : 64;
		uint32_t *bigger = realloc(g->beyond, room * sizeof(*bigger));

		g->rc = bigger ? 0 : -ENOMEM;
		g->beyond = bigger ? bigger : g->beyond;
		g->room = bigger ? room : g->room;
	}
	if (!g->rc)
		g->beyond[g->count++] = entry;
}

void growth_feed(struct growth *g, uint32_t first, const uint8_t *raw, uint32_t count)
{
	uint64_t block = (uint64_t)g->block_sectors * VHD_SECTOR;
	uint64_t whole = g->smaller / block, used = number_div_up(g->smaller, block);

	for (uint32_t i = 0; i < count; i++) {
		uint32_t entry = be32_load(raw + (size_t)i * 4);

		if (entry == VHD_BAT_UNUSED)
			continue;
		if (first + (uint64_t)i >= used)
			remember(g, entry);
		else if (first + (uint64_t)i >= whole)
			g->last = entry;
	}
}

/* 1: yes */
static int beyond_is_zero(const struct growth *g, struct vhd_io *io)
{
	int rc = g->rc < 0 ? g->rc : 1;

	for (size_t i = 0; i < g->count && rc == 1; i++)
		rc = spare_is_zero(io, g->beyond[i], g->block_sectors, g->by_bits);
	return rc;
}

int growth_is_same(const struct growth *g, struct vhd_io *io)
{
	uint64_t block = (uint64_t)g->block_sectors * VHD_SECTOR;
	uint64_t data = ((uint64_t)g->last + bitmap_sectors(g->block_sectors)) * VHD_SECTOR;
	CLEANUP_FREE uint8_t *piece = NULL;
	uint64_t at;
	int same = beyond_is_zero(g, io);

	if (same != 1)
		return same;
	if (g->last == VHD_BAT_UNUSED)
		return 1;
	piece = malloc(PIECE_BYTES);
	if (!piece)
		return -ENOMEM;
	for (at = g->smaller % block; at < block;) {
		size_t n = (size_t)number_min(block - at, PIECE_BYTES);
		int rc = io_read(io, piece, n, data + at);

		if (rc == -VHD_E_TRUNCATED)
			return 0; /* a block that is cut off: others say so */
		if (rc < 0)
			return rc;
		if (!zeros_are(piece, n))
			return 0;
		at += n;
	}
	return 1;
}

void growth_end(struct growth *g)
{
	free(g->beyond);
	g->beyond = NULL;
}
