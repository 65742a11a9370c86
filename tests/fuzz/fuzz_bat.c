/* fuzz_bat.c - a block table: 12 bytes for the shape, then entries */
#include "fuzz.h"
#include "libvhd/base/endian.h"
#include "libvhd/bat.h"
#include "libvhd/bitmap.h"

#define ENTRIES_MAX 1024u

struct told {
	uint64_t faults;
	bool bad[ENTRIES_MAX];
};

static void hear(void *arg, enum bat_fault fault, uint32_t block, uint32_t entry, uint32_t other)
{
	struct told *t = arg;

	MUST(block < ENTRIES_MAX && entry != VHD_BAT_UNUSED);
	MUST(fault <= BAT_TORN && (fault == BAT_OVERLAP) == (other != UINT32_MAX));
	t->faults++;
	if (fault != BAT_BEYOND_DISK)
		t->bad[block] = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct told told;
	uint32_t count, stride;
	struct bat_shape shape;
	struct bat_totals totals;
	struct bat_scan *scan;
	unsigned passes = 0;

	if (size < 16)
		return 0;
	memset(&told, 0, sizeof(told));
	count = (uint32_t)(size - 12) / 4;
	shape.entries = count < ENTRIES_MAX ? count : ENTRIES_MAX;
	shape.block_sectors = 8u << data[0] % 15;
	shape.blocks = shape.entries - data[1] % (shape.entries + 1);
	shape.first_sector = 1 + be16_load(data + 2);
	shape.end_sector = be64_load(data + 4) >> 24; /* 40 bits: beyond what entries reach */
	stride = bitmap_stride(shape.block_sectors);
	MUST(!bat_scan_begin(&shape, true, hear, &told, &scan));
	do {
		bat_scan_feed(scan, 0, data + 12, shape.entries);
		MUST(++passes < 2000);
	} while (bat_scan_again(scan));
	bat_scan_end(scan, &totals);
	MUST(totals.faults == told.faults);
	/* those without fault really share nothing */
	for (uint32_t i = 0; i < shape.entries; i++) {
		uint64_t a = be32_load(data + 12 + 4 * i);

		if (a == VHD_BAT_UNUSED || told.bad[i])
			continue;
		MUST(a >= shape.first_sector && a + stride <= shape.end_sector);
		MUST(a >= totals.lowest_sector && a + stride <= totals.end_sector);
		for (uint32_t k = i + 1; k < shape.entries && k < i + 64; k++) {
			uint64_t b = be32_load(data + 12 + 4 * k);

			if (b != VHD_BAT_UNUSED && !told.bad[k])
				MUST((a > b ? a - b : b - a) >= stride);
		}
	}
	return 0;
}
