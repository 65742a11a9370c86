/* map-world.c - the storage under the map: what it asks for is done late, in any order, and may
 * fail
 */
#include "map-world.h"

#include <errno.h>
#include <string.h>

#include "libvhd/base/bits.h"
#include "libvhd/base/endian.h"
#include "libvhd/base/number.h"
#include "libvhd/batmap.h"

struct world w;

void world_footer(uint8_t raw[512], uint64_t virt)
{
	memset(raw, 0, 512);
	be64_store(raw, FOOTER_MAGIC);
	be64_store(raw + 8, virt);
}

void world_store(uint64_t s, const uint8_t *bytes)
{
	EXPECT(cut_store(&w.disk, s, bytes, w.serial), "the file grows without end");
}

struct flight *world_flight(void)
{
	for (unsigned i = 0; i < INFLIGHT; i++)
		if (w.flight[i].kind == FLIGHT_NONE)
			return &w.flight[i];
	return NULL;
}

/* ── what the map asks for ── */

static void check_op(const struct map_io *io)
{
	uint64_t first = io->offset / 512, end = first + io->length / 512;
	uint64_t footer = w.disk.size - 1;

	EXPECT(io->offset % 512 == 0 && io->length % 512 == 0, "not whole sectors");
	if (io->op == MAP_PUNCH)
		reader_unnamed(first, end, "punch");
	if (io->op == MAP_TRUNCATE) {
		EXPECT(!w.p.device, "a device cannot be cut");
		memset(w.used_once + first, 0, FILE_SECTORS - first);
		reader_unnamed(first - 1, FILE_SECTORS, "cut");
		EXPECT(reader_is_plain_footer(first - 1), "cut to where no footer is for sure");
	}
	if (io->op != MAP_WRITE || be64_load(io->buf) != FOOTER_MAGIC || w.faulty)
		return; /* after a failure one of them may be in doubt for ever */
	if (be64_load((uint8_t *)io->buf + 8) == be64_load(cut_now(&w.disk, footer) + 8) && first)
		return;
	/* another size: the two places one after the other (ORDER 13) */
	EXPECT(reader_is_plain_footer(first ? 0 : footer), "both footers change in one batch");
}

void world_pump(void)
{
	struct flight *f;

	while ((f = world_flight())) {
		memset(f, 0, sizeof(*f));
		if (!map_next(w.map, &f->io))
			return;
		f->kind = FLIGHT_MAP;
		f->issued = w.serial++;
		check_op(&f->io);
		if (f->io.op == MAP_WRITE) {
			f->copy = malloc(f->io.length);
			memcpy(f->copy, f->io.buf, f->io.length);
		}
	}
}

static int perform(struct flight *f)
{
	static const uint8_t zero[512];
	struct map_io *io = &f->io;
	uint64_t first = io->offset / 512, n = io->length / 512;
	bool fail = rnd(1000) < w.faults;

	switch (io->op) {
	case MAP_READ:
		for (uint64_t i = 0; i < n; i++)
			memcpy((uint8_t *)io->buf + i * 512, cut_now(&w.disk, first + i), 512);
		break;
	case MAP_WRITE:
		EXPECT(!memcmp(f->copy, io->buf, io->length), "a buffer changed in flight");
		for (uint64_t i = 0; i < n && !(fail && rnd(2)); i++)
			world_store(first + i, f->copy + i * 512);
		break;
	case MAP_ZERO:
	case MAP_PUNCH:
		for (uint64_t i = 0; i < n && !(fail && rnd(2)); i++)
			if (first + i < w.disk.size)
				world_store(first + i, zero);
		break;
	case MAP_TRUNCATE:
		cut_truncate(&w.disk, first);
		fail = false;
		break;
	case MAP_SYNC:
		if (!fail) {
			cut_sync(&w.disk, f->issued);
		} else {
			cut_sync_failed(&w.disk, f->issued);
			guest_sync_failed();
		}
		break;
	}
	return fail ? -EIO : 0;
}

void world_complete(void)
{
	unsigned start = rnd(INFLIGHT);

	w.serial++;
	for (unsigned i = 0; i < INFLIGHT; i++) {
		struct flight *f = &w.flight[(start + i) % INFLIGHT];
		int rc;

		if (f->kind == FLIGHT_NONE || (f->kind == FLIGHT_DATA && f->n <= 0))
			continue;
		if (f->kind == FLIGHT_DATA) {
			guest_data_done(f);
			return;
		}
		rc = perform(f);
		free(f->copy);
		f->kind = FLIGHT_NONE;
		map_done(w.map, f->io.tag, rc);
		return;
	}
}

/* ── the image at first ── */

/* A block as others leave them: packed, some sectors present, old bytes in the rest and, in
 * the last block, behind the end of the disk. */
static void foreign_block(uint64_t block, uint64_t at)
{
	uint64_t start = block * w.p.block_sectors, data = at + bitmap_sectors(w.p.block_sectors);
	uint8_t bits[512] = { 0 }, sector[512] = { 0 };
	bool full = rnd(3) == 0;
	uint64_t g = ++w.events;

	w.event[g] = (struct event){ false, start, w.p.block_sectors };
	for (uint64_t k = 0; k < w.p.block_sectors; k++) {
		bool inside = start + k < w.virt, there = full || rnd(2);

		be64_store(sector, inside ? g : GARBAGE);
		if (there)
			bits_set(bits, k);
		if (there || !inside)
			world_store(data + k, sector);
		if (there && inside)
			w.written[start + k] = w.flushed[start + k] = g;
		if (!inside && start + k < VIRT_MAX)
			w.was_odd[start + k] = true;
	}
	world_store(at, bits);
	w.visible[block] = true;
	w.home[block] = (uint32_t)at;
}

static uint64_t foreign_blocks(void)
{
	uint64_t at = w.p.data_start / 512, n = rnd(12);
	uint8_t table[512];

	if (!w.foreign)
		return at;
	for (; n; n--) {
		uint64_t block = rnd(3) ? rnd(block_count(w.virt)) : block_count(w.virt) - 1;
		uint64_t s = w.p.bat_offset / 512 + block / 128;

		if (w.visible[block])
			continue;
		at += rnd(4) ? 0 : rnd(20);
		foreign_block(block, at);
		memcpy(table, cut_now(&w.disk, s), 512);
		be32_store(table + block % 128 * 4, (uint32_t)at);
		world_store(s, table);
		at += bitmap_stride(w.p.block_sectors);
	}
	return at;
}

/* Some of the blocks that are full are called so. */
static void make_batmap(uint8_t map[512])
{
	uint8_t *h = w.p.batmap_header;

	memset(map, 0, 512);
	if (!w.p.batmap_bytes)
		return;
	for (uint64_t i = 0; i < block_count(w.virt); i++)
		if (w.visible[i] && rnd(2) &&
		    bits_all_set(cut_now(&w.disk, w.home[i]), 0, w.p.block_sectors))
			bits_set(map, i);
	be32_store(h + BATMAP_VERSION, 0x00010002);
	be64_store(h + BATMAP_OFFSET, w.p.batmap_offset);
	be32_store(h + BATMAP_CHECKSUM, batmap_checksum(map, w.p.batmap_covered, 0x00010002));
	world_store(w.p.batmap_header_offset / 512, h);
	world_store(w.p.batmap_offset / 512, map);
}

/* A device has its size, and what it was used for before. */
static void old_bytes(void)
{
	uint8_t sector[512];

	memset(sector, 0xdb, sizeof(sector));
	w.p.footer_offset = w.p.end_of_data + 512ull * rnd(4000);
	for (uint64_t s = w.p.end_of_data / 512; s < w.p.footer_offset / 512; s++)
		world_store(s, sector);
}

static void choose(void)
{
	static const uint32_t sizes[] = { 8, 16, 64, 256 };
	struct map_params *p = &w.p;
	uint64_t at;

	p->block_sectors = sizes[rnd(4)];
	w.virt = 64 + rnd(VIRT_MAX - 64);
	p->size_sectors = w.virt;
	p->max_entries = (uint32_t)(block_count(w.virt) + (rnd(2) ? 0 : rnd(40)));
	p->max_entries = (uint32_t)number_min(p->max_entries, BLOCKS_MAX);
	p->max_entries = (uint32_t)number_max(p->max_entries, block_count(w.virt));
	p->bat_offset = 1536;
	p->has_parent = rnd(3) == 0;
	p->writable = true;
	p->early_bitmaps = rnd(2);
	p->align = rnd(4) != 0;
	at = (1536 + p->max_entries * 4ull + 511) / 512 * 512;
	if (rnd(2)) { /* header, map, and maybe the place of another */
		p->batmap_bytes = 512;
		p->batmap_header_offset = at;
		p->batmap_offset = at + 512;
		p->batmap_covered = 512;
		p->batmap_alternate = rnd(2) ? at + 1024 : 0;
		at += 1536;
	}
	p->data_start = at;
	p->metadata_end = at + (rnd(3) ? 0 : 512ull * rnd(50)); /* a locator among the blocks */
	p->cache_bytes = rnd(3) ? 1 + rnd(20000) : 0;
	p->device = rnd(8) == 0;
	p->no_reuse = rnd(8) == 0;
	p->exact_bits = rnd(3) == 0;
	w.foreign = rnd(3) == 0 && p->metadata_end == at;
	w.faults = rnd(3) ? 0 : 1 + rnd(40);
	w.faulty = w.faults != 0;
}

void world_begin(unsigned long long seed)
{
	uint8_t unused[512], map[512];

	memset(&w, 0, sizeof(w));
	w.seed = seed;
	w.rng.state = seed;
	cut_init(&w.disk, FILE_SECTORS, &w.rng);
	w.serial = 1;
	choose();
	world_footer(w.p.footer, w.virt);
	world_store(0, w.p.footer);
	memset(unused, 0xff, sizeof(unused));
	for (uint64_t s = 3; s < (1536 + w.p.max_entries * 4ull + 511) / 512; s++)
		world_store(s, unused);
	w.p.end_of_data = number_max(512 * foreign_blocks(), w.p.metadata_end);
	w.p.footer_offset = w.p.end_of_data + 512ull * (rnd(2) ? 0 : rnd(400));
	if (w.p.device)
		old_bytes();
	w.p.data_end = w.p.footer_offset + 512;
	make_batmap(map);
	w.p.batmap = map;
	world_store(w.p.footer_offset / 512, w.p.footer);
	cut_sync(&w.disk, w.serial);
	EXPECT(map_open(&w.p, &w.map) == 0, "map_open");
	w.p.batmap = NULL;
	w.virt_first = w.virt;
}

/* ── the end ── */

void world_settle(void)
{
	for (unsigned i = 0; guest_waits() || !map_idle(w.map); i++) {
		EXPECT(i < 20000, "something never ends");
		world_pump();
		world_complete();
		guest_retry();
	}
}

void world_end(void)
{
	w.faults = 0;
	world_settle();
	for (unsigned i = 0; i < READERS; i++)
		if (w.reader[i].used)
			map_leave(w.map, w.reader[i].slot);
	for (unsigned i = 0; i < 2; i++) { /* the first may have to tell of a sync that failed */
		guest_flush(false);
		world_settle();
	}
	EXPECT(!map_dirty(w.map), "dirty after a flush");
	for (uint64_t s = 0; s < w.virt; s++)
		EXPECT(w.flushed[s] == w.written[s] || w.written[s] <= w.doubt[s],
		       "sector %llu is not vouched for", FMT(s));
	reader_after_cut();
	reader_last_sector();
	map_close(w.map);
	cut_release(&w.disk);
}
