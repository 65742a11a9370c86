/* map-reader.c - what must be true of the storage, whatever a cut leaves of it */
#include <string.h>

#include "libvhd/base/bits.h"
#include "libvhd/base/endian.h"
#include "libvhd/base/number.h"
#include "libvhd/batmap.h"
#include "map-world.h"

static uint32_t stride(void)
{
	return bitmap_stride(w.p.block_sectors);
}

static uint32_t entry_in(const uint8_t *image, uint64_t block)
{
	return be32_load(image + w.p.bat_offset + block * 4);
}

/* Is a bit only set for what was written? */
static bool exact(void)
{
	return w.p.has_parent || w.p.exact_bits;
}

static void check_layout(const uint8_t *image)
{
	for (uint64_t i = 0; i < w.p.max_entries; i++) {
		uint32_t e = entry_in(image, i);

		if (e == VHD_BAT_UNUSED)
			continue;
		EXPECT(i < block_count(w.virt), "block %llu is beyond the disk", FMT(i));
		EXPECT(e * 512ull >= w.p.data_start && e + stride() < FILE_SECTORS,
		       "block %llu at %u is outside", FMT(i), e);
		/* ORDER 9: readers that ignore bitmaps see the same */
		EXPECT(exact() || w.foreign || (i + 1) * w.p.block_sectors > w.virt_first ||
			       bits_all_set(image + e * 512ull, 0, w.p.block_sectors),
		       "block %llu at %u: its bitmap is not all ones", FMT(i), e);
		for (uint64_t k = 0; k < i; k++) {
			uint32_t o = entry_in(image, k);

			EXPECT(o == VHD_BAT_UNUSED || o + stride() <= e || e + stride() <= o,
			       "blocks %llu and %llu overlap: %u %u", FMT(k), FMT(i), o, e);
		}
	}
}

/* Where the checksum is right, a set bit means: allocated, all sectors present. */
static void check_batmap(const uint8_t *image)
{
	const uint8_t *h = image + w.p.batmap_header_offset, *map;

	if (!w.p.batmap_bytes)
		return;
	map = image + be64_load(h + BATMAP_OFFSET);
	if (be32_load(h + BATMAP_CHECKSUM) !=
	    batmap_checksum(map, w.p.batmap_covered, be32_load(h + BATMAP_VERSION)))
		return;
	for (uint64_t i = 0; i < w.p.max_entries; i++) {
		uint32_t e = entry_in(image, i);

		if (!bits_test(map, i))
			continue;
		EXPECT(e != VHD_BAT_UNUSED, "the batmap calls block %llu full, it is not there",
		       FMT(i));
		EXPECT(bits_all_set(image + e * 512ull, 0, w.p.block_sectors),
		       "the batmap calls block %llu full, it is not", FMT(i));
	}
}

/* The write number of a sector, 0 where there is none. */
static uint64_t read_back(const uint8_t *image, uint64_t sector, bool *present)
{
	uint64_t block = sector / w.p.block_sectors, k = sector % w.p.block_sectors;
	uint32_t e = entry_in(image, block);

	*present = e != VHD_BAT_UNUSED && bits_test(image + e * 512ull, k);
	if (!*present)
		return 0;
	return be64_load(image + (e + bitmap_sectors(w.p.block_sectors) + k) * 512ull);
}

static bool wrote(uint64_t g, uint64_t s)
{
	const struct event *e = &w.event[g];

	return g && g <= w.events && !e->is_free && s >= e->first && s < e->first + e->count;
}

void reader_after_cut(void)
{
	const uint8_t *image = cut_image(&w.disk);

	EXPECT(be64_load(image) == FOOTER_MAGIC, "the copy at 0 is gone");
	check_layout(image);
	check_batmap(image);
	for (uint64_t s = 0; s < w.virt; s++) {
		bool present;
		uint64_t g = read_back(image, s, &present);

		if (g == 0) { /* never written, or freed since what is known durable */
			EXPECT(w.last_free[s] >= w.flushed[s],
			       "sector %llu is zero, %llu was flushed", FMT(s), FMT(w.flushed[s]));
			/* present, but never written: would hide the parent */
			EXPECT(!present || !exact() || w.doubt[s] || w.was_odd[s],
			       "sector %llu present without data", FMT(s));
			continue;
		}
		EXPECT(g >= w.flushed[s], "sector %llu has write %llu, flushed was %llu", FMT(s),
		       FMT(g), FMT(w.flushed[s]));
		EXPECT(wrote(g, s), "sector %llu has %llu, never written there", FMT(s), FMT(g));
	}
}

void reader_last_sector(void)
{
	uint64_t g = w.disk.size ? be64_load(cut_now(&w.disk, w.disk.size - 1)) : 0;

	EXPECT(g == FOOTER_MAGIC, "the file ends with %llx", FMT(g));
}

bool reader_is_plain_footer(uint64_t s)
{
	return cut_versions(&w.disk, s) == 1 &&
	       be64_load(cut_version(&w.disk, s, 0)) == FOOTER_MAGIC;
}

static bool surely_footer(uint64_t s)
{
	for (unsigned v = 0; v < cut_versions(&w.disk, s); v++) {
		const uint8_t *raw = cut_version(&w.disk, s, v);

		if (raw && be64_load(raw) != FOOTER_MAGIC)
			return false;
	}
	return true;
}

void reader_footers(uint64_t virt)
{
	uint64_t at[] = { 0, w.disk.size - 1 };

	for (unsigned k = 0; k < 2; k++)
		for (unsigned i = 0; i < cut_versions(&w.disk, at[k]); i++) {
			const uint8_t *v = cut_version(&w.disk, at[k], i);

			EXPECT(!v || (be64_load(v) == FOOTER_MAGIC && be64_load(v + 8) == virt),
			       "the footer at %llu may be of another size", FMT(at[k]));
		}
}

void reader_shape(void)
{
	uint64_t end = w.p.data_start / 512;

	reader_last_sector();
	for (uint64_t i = 0; i < w.p.max_entries; i++) {
		uint64_t at = w.p.bat_offset + i * 4;
		uint32_t e = be32_load(cut_now(&w.disk, at / 512) + at % 512);

		if (e != VHD_BAT_UNUSED)
			end = number_max(end, e + stride());
	}
	end = number_max(end, w.p.metadata_end / 512);
	if (w.any_freed && !w.faulty && !w.read_at_quiesce && !w.p.device)
		EXPECT(w.disk.size == end + 1, "the file has %llu sectors, %llu would do",
		       FMT(w.disk.size), FMT(end + 1));
}

/* The block that some state after a cut has in [from, to) at *entry; -1: none. */
static int64_t named(uint64_t from, uint64_t to, uint32_t *entry)
{
	uint64_t per = 512 / 4;

	for (uint64_t i = 0; i < w.p.max_entries; i += per) {
		uint64_t s = w.p.bat_offset / 512 + i / per;

		for (unsigned v = 0; v < cut_versions(&w.disk, s); v++) {
			const uint8_t *raw = cut_version(&w.disk, s, v);

			for (uint64_t k = 0; raw && k < per && i + k < w.p.max_entries; k++) {
				*entry = be32_load(raw + k * 4);
				if (*entry != VHD_BAT_UNUSED && *entry + stride() > from &&
				    *entry < to)
					return (int64_t)(i + k);
			}
		}
	}
	return -1;
}

void reader_unnamed(uint64_t from, uint64_t to, const char *why)
{
	uint32_t entry = 0;
	int64_t block = named(from, to, &entry);

	EXPECT(block < 0, "%s %llu to %llu: a cut may leave block %lld at %u", why, FMT(from),
	       FMT(to), (long long)block, entry);
}

bool reader_is_unnamed(uint64_t from, uint64_t to)
{
	uint32_t entry;

	return named(from, to, &entry) < 0;
}

static void check_no_reader(uint32_t from, uint64_t to)
{
	for (unsigned i = 0; i < READERS; i++) {
		const struct reader *r = &w.reader[i];

		for (int k = 0; r->used && k < r->n; k++)
			EXPECT(r->ext[k].kind != EXT_HERE || r->ext[k].file_sector >= to ||
				       r->ext[k].file_sector + r->ext[k].count <= from,
			       "position %u is used again, somebody reads it", from);
	}
}

void reader_new_position(uint64_t block, uint32_t position)
{
	static const uint8_t zero[512];
	uint64_t end = position + stride(), s;

	if (w.home[block] == position)
		return;
	for (s = position; s < end; s++)
		for (unsigned v = 0; v < cut_versions(&w.disk, s); v++) {
			const uint8_t *raw = cut_version(&w.disk, s, v);

			/* a bitmap is written whole before it counts: there a footer may be, of a
			 * final shape that was given up */
			if (raw && s == position && w.faulty && be64_load(raw) == FOOTER_MAGIC)
				continue;
			EXPECT(!raw || !memcmp(raw, zero, 512),
			       "position %u of block %llu: sector %llu may not be zero", position,
			       FMT(block), FMT(s));
		}
	EXPECT(!w.p.no_reuse || !w.used_once[position], "position %u is used again", position);
	w.used_once[position] = true;
	reader_unnamed(position, end, "new position");
	check_no_reader(position, end);
	for (s = end; s < w.disk.size && !surely_footer(s); s++)
		;
	EXPECT(s < w.disk.size, "position %u has no durable footer behind it", position);
	w.home[block] = position;
}
