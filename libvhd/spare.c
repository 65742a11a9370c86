/* spare.c - see spare.h */
#include "spare.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/number.h"
#include "bitmap.h"
#include "layout.h"
#include "zeros.h"

#define PIECE_BYTES (256u << 10)

/* Of @n bytes at @piece, whose sectors begin with number @first of the block. */
static bool counts_as_zero(const uint8_t *piece, size_t n, const uint8_t *bits, uint64_t first)
{
	if (zeros_are(piece, n))
		return true;
	if (!bits)
		return false;
	for (size_t i = 0; i < n / VHD_SECTOR; i++)
		if (bits_test(bits, first + i) && !zeros_are(piece + i * VHD_SECTOR, VHD_SECTOR))
			return false;
	return true;
}

static int look(struct vhd_io *io, uint64_t data, uint32_t block_sectors, const uint8_t *bits)
{
	CLEANUP_FREE uint8_t *piece = malloc(PIECE_BYTES);
	uint64_t end = data + (uint64_t)block_sectors * VHD_SECTOR, start, stop;

	if (!piece)
		return -ENOMEM;
	for (uint64_t at = data; at < end;) {
		size_t n = (size_t)number_min(end - at, PIECE_BYTES);
		int rc = io_data(io, at, &start, &stop);

		if (rc < 0)
			return rc;
		if (start >= stop || start >= end)
			return 1; /* a hole */
		rc = io_read(io, piece, n, at);
		if (rc < 0)
			return rc == -VHD_E_TRUNCATED ? 0 : rc;
		if (!counts_as_zero(piece, n, bits, (at - data) / VHD_SECTOR))
			return 0;
		at += n;
	}
	return 1;
}

int spare_is_zero(struct vhd_io *io, uint32_t entry, uint32_t block_sectors, bool by_bits)
{
	uint32_t map_sectors = bitmap_sectors(block_sectors);
	uint64_t data = ((uint64_t)entry + map_sectors) * VHD_SECTOR, bytes;
	CLEANUP_FREE uint8_t *bits = NULL;
	int rc = io_size(io, &bytes);

	if (rc < 0 || !entry || !number_within(data, (uint64_t)block_sectors * VHD_SECTOR, bytes))
		return rc < 0 ? rc : 0;
	if (by_bits) {
		bits = malloc((size_t)map_sectors * VHD_SECTOR);
		rc = bits ? io_read(io, bits, (size_t)map_sectors * VHD_SECTOR,
				    (uint64_t)entry * VHD_SECTOR) :
			    -ENOMEM;
	}
	return rc < 0 ? rc : look(io, data, block_sectors, bits);
}
