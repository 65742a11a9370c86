/* check_map_edges.c - the map at its bounds: no allocation while it works in its cache, growth
 * that nobody waits for, frees of everything, a batmap whose checksum would change, images that
 * change under it
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#undef MAP_SYNC /* of mmap; an operation of the map here */

#include "libvhd/base/endian.h"
#include "libvhd/base/number.h"
#include "libvhd/batmap.h"
#include "libvhd/bitmap.h"
#include "libvhd/layout.h"
#include "libvhd/map.h"
#include "tests/lib/alloc-count.h"

#define EXPECT(cond, ...)                                       \
	do {                                                    \
		if (!(cond)) {                                  \
			fprintf(stderr, "line %d: ", __LINE__); \
			fprintf(stderr, __VA_ARGS__);           \
			fputc('\n', stderr);                    \
			exit(1);                                \
		}                                               \
	} while (0)

/* ── a file in memory, done at once ── */

#define ROOM (8ull << 30) /* of addresses */

static struct {
	uint8_t *bytes;
	uint64_t size;
	unsigned ops[MAP_SYNC + 1];
	int fail_read; /* errno of reads */
} file;

static int perform(const struct map_io *io)
{
	uint64_t end = io->offset + io->length;

	EXPECT(io->op == MAP_TRUNCATE || end <= ROOM, "beyond the file's room");
	file.ops[io->op]++;
	switch (io->op) {
	case MAP_READ:
		memcpy(io->buf, file.bytes + io->offset, io->length);
		return file.fail_read;
	case MAP_WRITE:
		memcpy(file.bytes + io->offset, io->buf, io->length);
		file.size = number_max(file.size, end);
		break;
	case MAP_ZERO:
	case MAP_PUNCH:
		memset(file.bytes + io->offset, 0, io->length);
		break;
	case MAP_TRUNCATE:
		memset(file.bytes + io->offset, 0, file.size - io->offset);
		file.size = io->offset;
		break;
	default:
		break;
	}
	return 0;
}

static void pump(struct vhd_map *map)
{
	struct map_io io;

	while (map_next(map, &io))
		map_done(map, io.tag, perform(&io));
}

static bool answered;
static void ready(struct map_req *req)
{
	(void)req;
	answered = true;
}

static int finish(struct vhd_map *map, struct map_req *req)
{
	pump(map);
	EXPECT(answered, "not answered");
	answered = false;
	return req->err;
}

static void flush(struct vhd_map *map, bool quiesce)
{
	struct map_req req = { .ready = ready };

	if (quiesce)
		map_quiesce(map, &req);
	else
		map_flush(map, &req);
	EXPECT(finish(map, &req) == 0, "flush");
	EXPECT(map_idle(map) && !map_dirty(map), "idle and clean");
}

/* Reserve and write; returns how often that had to wait. */
static unsigned write_at(struct vhd_map *map, uint64_t sector, uint64_t count)
{
	unsigned waits = 0;

	while (count) {
		struct map_req req = { .sector = sector, .count = count, .ready = ready };
		struct map_ext ext[8];
		int n = map_write(map, &req, ext, 8);

		if (n == MAP_WAIT) {
			waits++;
			EXPECT(finish(map, &req) == 0, "write: %d", req.err);
			continue;
		}
		EXPECT(n > 0, "write: %d", n);
		map_written(map, &req);
		sector += req.count;
		count -= req.count;
	}
	return waits;
}

/* Free; *calls: how often that had to wait.  The last answer. */
static int give_back(struct vhd_map *map, uint64_t sector, uint64_t count, unsigned *calls)
{
	struct map_req req = { .sector = sector, .count = count, .ready = ready };
	int rc;

	*calls = 0;
	while ((rc = map_free(map, &req)) == -EAGAIN) {
		++*calls;
		EXPECT(finish(map, &req) == 0, "free: %d", req.err);
	}
	return rc;
}

/* A batmap with its other place lies behind the table. */
static struct map_params params(uint64_t sectors, uint32_t block_sectors, uint32_t entries)
{
	struct map_params p = { .size_sectors = sectors,
				.block_sectors = block_sectors,
				.max_entries = entries,
				.bat_offset = 1536,
				.writable = true,
				.align = true,
				.early_bitmaps = true };
	uint64_t at = 1536 + number_round_up(entries * 4ull, 512);

	p.batmap_bytes = batmap_sectors(entries) * 512ull;
	p.batmap_header_offset = at;
	p.batmap_offset = at + 512;
	p.batmap_alternate = p.batmap_offset + p.batmap_bytes;
	p.batmap_covered = batmap_covered_bytes(sectors * 512, block_sectors * 512, p.batmap_bytes);
	be32_store(p.batmap_header + BATMAP_VERSION, 0x00010002);
	be32_store(p.batmap_header + BATMAP_CHECKSUM, 0xffffffff);
	be64_store(p.batmap_header + BATMAP_OFFSET, p.batmap_offset);
	p.data_start = p.metadata_end = p.batmap_alternate + p.batmap_bytes;
	p.end_of_data = p.footer_offset = p.data_start;
	p.data_end = p.footer_offset + 512;
	memset(p.footer, 'F', sizeof(p.footer));
	return p;
}

static struct vhd_map *make(struct map_params *p)
{
	uint8_t *none = calloc(1, number_max(p->batmap_bytes, 1));
	struct vhd_map *map;

	if (file.bytes)
		munmap(file.bytes, ROOM);
	file.bytes = mmap(NULL, ROOM, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	EXPECT(file.bytes != MAP_FAILED, "mmap");
	memset(file.ops, 0, sizeof(file.ops));
	file.size = p->footer_offset + 512;
	memset(file.bytes + p->bat_offset, 0xff, number_round_up(p->max_entries * 4ull, 512));
	memcpy(file.bytes + p->footer_offset, p->footer, 512);
	memcpy(file.bytes, p->footer, 512);
	if (p->batmap_bytes)
		memcpy(file.bytes + p->batmap_header_offset, p->batmap_header, 512);
	p->batmap = none;
	EXPECT(map_open(p, &map) == 0, "map_open");
	p->batmap = NULL;
	free(none);
	return map;
}

/* ── the tests ── */

static void test_no_allocation(void)
{
	struct map_params p = params(64 * 512, 64, 512);
	struct vhd_map *map = make(&p);
	uint64_t before;

	write_at(map, 0, p.size_sectors);
	flush(map, false);
	for (unsigned round = 0; round < 3; round++) { /* the first one may still make room */
		before = alloc_count();
		for (uint64_t s = 0; s < p.size_sectors; s += 40) {
			struct map_ext ext[8];
			uint64_t n = number_min(100, p.size_sectors - s);
			unsigned slot;

			map_enter(map, &slot);
			EXPECT(map_lookup(map, s, n, ext, 8) > 0, "lookup");
			map_leave(map, slot);
			EXPECT(write_at(map, s, n) == 0, "waits");
			if (s % 1000 == 0)
				flush(map, false);
		}
	}
	EXPECT(alloc_count() == before, "%llu allocations",
	       (unsigned long long)(alloc_count() - before));
	map_close(map);
}

/* A cache that is too small throws out and loads without allocating, too. */
static void test_small_cache(void)
{
	struct map_params p = params(4096 * 512, 4096, 512);
	struct vhd_map *map;
	uint64_t before = 0;

	p.cache_bytes = 1;
	p.has_parent = true;
	map = make(&p);
	for (uint64_t s = 0; s < p.size_sectors; s += 4096)
		write_at(map, s, 8);
	flush(map, false);
	for (unsigned round = 0; round < 2; round++) {
		before = alloc_count();
		for (uint64_t s = 0; s < p.size_sectors; s += 3 * 4096)
			write_at(map, s, 8);
	}
	EXPECT(alloc_count() == before, "%llu allocations",
	       (unsigned long long)(alloc_count() - before));
	flush(map, false);
	map_close(map);
}

/* What a commit of many blocks took is given back at the end; a lower bound is kept, in time. */
static void test_memory_back(void)
{
	struct map_params p = params(8 * 40000, 8, 40000);
	struct vhd_map *map;
	uint64_t before, full, lower;

	p.has_parent = true;
	p.cache_bytes = 64u << 20;
	map = make(&p);
	before = map_memory(map);
	for (uint64_t s = 0; s < p.size_sectors; s += 8)
		write_at(map, s, 1);
	flush(map, false);
	full = map_memory(map);
	flush(map, true);
	EXPECT(map_memory(map) + 40000 * sizeof(void *) <= full, "%llu bytes, %llu before",
	       (unsigned long long)map_memory(map), (unsigned long long)full);
	map_set_cache(map, 1u << 20);
	lower = map_memory(map);
	EXPECT(lower > full / 2, "all at once: %llu bytes", (unsigned long long)lower);
	for (uint64_t s = 0; s < p.size_sectors && map_memory(map) > before + (1u << 20); s += 80)
		write_at(map, s, 1);
	EXPECT(map_memory(map) <= before + (1u << 20), "%llu bytes of %llu",
	       (unsigned long long)map_memory(map), (unsigned long long)lower);
	flush(map, false);
	map_close(map);
}

/* Half of the space used, the next is being prepared: only the first writer waits. */
static void test_growth(void)
{
	struct map_params p = params(64 * 5000, 64, 5000);
	struct vhd_map *map = make(&p);
	unsigned waits = 0;

	for (uint64_t s = 0; s < p.size_sectors; s += 64) {
		waits += write_at(map, s, 64);
		pump(map);
	}
	EXPECT(waits == 5 + 1, "%u waits", waits); /* pages of the table; the first space */
	EXPECT(file.ops[MAP_SYNC] < 30, "%u syncs", file.ops[MAP_SYNC]);
	flush(map, true);
	EXPECT(file.size == map_end_of_data(map) + 512, "cut behind the data");
	EXPECT(file.size < p.data_start + (5000 * 72 + 1000) * 512ull, "%llu bytes: not tight",
	       (unsigned long long)file.size);
	map_close(map);
}

/* Everything at once: as much as fits a commit, and so on to the end; the file shrinks to its
 * metadata, its batmap tells of no block. */
static void test_free_all(void)
{
	uint32_t size = 8, blocks = 80000;
	struct map_params p = params((uint64_t)size * blocks - 3, size, blocks);
	struct vhd_map *map = make(&p);
	unsigned calls;
	int rc;

	write_at(map, 0, p.size_sectors);
	flush(map, true);
	EXPECT(file.size > p.size_sectors * 512, "a file of %llu bytes",
	       (unsigned long long)file.size);
	EXPECT(map_new_blocks(map) == blocks, "%lld blocks", (long long)map_new_blocks(map));
	rc = give_back(map, 1, p.size_sectors - 1, &calls);
	EXPECT(rc >= 0 && calls > 1 && calls < 100, "%d after %u calls", rc, calls);
	EXPECT(map_new_blocks(map) == 1, "%lld blocks", (long long)map_new_blocks(map));
	EXPECT(map_memory(map) < 64u << 20, "%llu bytes", (unsigned long long)map_memory(map));
	flush(map, true);
	EXPECT(file.size < p.data_start + 64 * 512, "a file of %llu bytes",
	       (unsigned long long)file.size);
	EXPECT(give_back(map, 0, size, &calls) == 1, "the first block");
	EXPECT(give_back(map, 0, size, &calls) == 0, "the first block again");
	flush(map, true);
	EXPECT(file.size == p.data_start + 512, "a file of %llu bytes",
	       (unsigned long long)file.size);
	map_close(map);
}

static const char *order;
static void free_first(struct map_req *req)
{
	(void)req;
	order = order ? order : "free";
}
static void write_first(struct map_req *req)
{
	(void)req;
	order = order ? order : "write";
}

/* Who wants to free a block waits for the writes in flight, but not for those that come later. */
static void test_free_waits(void)
{
	struct map_params p = params(64 * 10, 64, 10);
	struct vhd_map *map = make(&p);
	struct map_req first = { .sector = 70, .count = 8, .ready = ready }, later = first;
	struct map_req give = { .sector = 64, .count = 64, .ready = free_first };
	struct map_ext ext;

	write_at(map, 64, 64);
	EXPECT(map_write(map, &first, &ext, 1) == 1, "write");
	EXPECT(map_free(map, &give) == -EAGAIN, "a write is in flight");
	later.ready = write_first;
	EXPECT(map_write(map, &later, &ext, 1) == MAP_WAIT, "a free is waiting");
	pump(map);
	EXPECT(!order && !map_idle(map), "nothing may happen yet");
	EXPECT(map_lookup(map, 70, 8, &ext, 1) == 1 && ext.kind == EXT_HERE, "still there");
	map_written(map, &first);
	pump(map);
	EXPECT(order && !strcmp(order, "free"), "the free comes first");
	EXPECT(map_free(map, &give) == 1, "free");
	EXPECT(map_lookup(map, 70, 8, &ext, 1) == 1 && ext.kind == EXT_ZERO, "gone at once");
	EXPECT(map_write(map, &later, &ext, 1) == 1, "write");
	map_cancel(map, &later);
	flush(map, false);
	map_close(map);
}

/* Reserve what @req asks for, waiting as needed; the place of its first sector. */
static uint64_t reserve(struct vhd_map *map, struct map_req *req)
{
	struct map_ext ext;

	for (;;) {
		int n = map_write(map, req, &ext, 1);

		if (n == 1)
			return ext.file_sector;
		EXPECT(n == MAP_WAIT, "write: %d", n);
		pump(map);
	}
}

/* A write that failed may have left something at the place of its new block, where nobody may ever
 * read it.  With a parent a bit hides it; without one the place is given back. */
static void test_failed_write(void)
{
	for (int parent = 0; parent < 2; parent++) {
		struct map_params p = params(64 * 10, 64, 10);
		struct map_req req = { .sector = 70, .count = 8, .ready = ready };
		struct map_req other = { .sector = 90, .count = 8, .ready = ready };
		uint64_t count = 8, place;
		struct vhd_map *map;
		struct map_ext ext;

		p.has_parent = parent;
		map = make(&p);
		place = reserve(map, &req) - 70;
		EXPECT(!map_dirty(map), "nothing was written yet");
		map_cancel(map, &req);
		EXPECT(map_lookup(map, 70, 8, &ext, 1) == 1 &&
			       ext.kind == (parent ? EXT_BELOW : EXT_ZERO),
		       "lookups say %d", (int)ext.kind);
		EXPECT(!map_has_remains(map, 70, &count), "remains of what was given back");
		/* not before it is punched */
		EXPECT((reserve(map, &other) - 90 == place) == parent, "used on: %d", !parent);
		map_written(map, &other);
		flush(map, true);
		map_close(map);
	}
}

/* Others write to the same block: it keeps its place, and who zeroes the range has to. */
static void test_failed_beside_others(void)
{
	struct map_params p = params(64 * 10, 64, 10);
	struct map_req req = { .sector = 70, .count = 8, .ready = ready };
	struct map_req other = { .sector = 90, .count = 8, .ready = ready };
	struct vhd_map *map = make(&p);
	uint64_t count = 300, place = reserve(map, &req) - 70;
	struct map_ext ext;

	EXPECT(reserve(map, &other) - 90 == place, "two places of one block");
	map_cancel(map, &req);
	EXPECT(map_has_remains(map, 70, &count) && count == 58, "no remains, or %llu",
	       (unsigned long long)count);
	map_written(map, &other);
	EXPECT(!map_has_remains(map, 70, &count), "remains of a block that shows");
	EXPECT(map_lookup(map, 70, 8, &ext, 1) == 1 && ext.kind == EXT_HERE, "lookups say %d",
	       (int)ext.kind);
	flush(map, true);
	/* both fail: nothing is left */
	req.sector = 140;
	other.sector = 150;
	(void)reserve(map, &req);
	(void)reserve(map, &other);
	map_cancel(map, &other);
	map_cancel(map, &req);
	EXPECT(!map_has_remains(map, 140, &count), "remains of what was given back");
	EXPECT(map_lookup(map, 140, 8, &ext, 1) == 1 && ext.kind == EXT_ZERO, "lookups say %d",
	       (int)ext.kind);
	flush(map, true);
	map_close(map);
}

static bool batmap_sound(const struct map_params *p, uint64_t sectors)
{
	const uint8_t *h = file.bytes + p->batmap_header_offset;
	uint64_t covered = batmap_covered_bytes(sectors * 512, p->block_sectors * 512,
						p->batmap_bytes);

	return be32_load(h + BATMAP_CHECKSUM) ==
	       batmap_checksum(file.bytes + be64_load(h + BATMAP_OFFSET), covered, 0x00010002);
}

/* Growth brings bits under the checksum that were outside: readers of either size find a
 * batmap whose checksum is right. */
static void test_checksum(void)
{
	uint32_t size = 8, old = 4096 + 5, most = 3 * 4096;
	struct map_params p = params((uint64_t)size * old, size, most);
	struct vhd_map *map = make(&p);
	struct map_req req = { .ready = ready };
	uint64_t sectors = (uint64_t)size * most;
	uint8_t footer[512];
	struct map_io io;

	memset(footer, 'G', sizeof(footer));
	write_at(map, (uint64_t)size * 4097, size * 3);
	flush(map, true);
	EXPECT(batmap_sound(&p, p.size_sectors), "before");
	EXPECT(!batmap_sound(&p, sectors), "the test is about nothing");
	EXPECT(map_resize(map, &req, sectors, footer) == 0, "resize");
	EXPECT(map_resize(map, &req, sectors, footer) == -EBUSY, "two at a time");
	while (map_next(map, &io)) {
		map_done(map, io.tag, perform(&io));
		if (file.bytes[0] == 'G' || file.bytes[map_footer_offset(map)] == 'G')
			EXPECT(batmap_sound(&p, sectors), "with a new footer");
	}
	EXPECT(answered && !req.err, "resize: %d", req.err);
	answered = false;
	EXPECT(file.bytes[0] == 'G' && file.bytes[file.size - 1] == 'G', "both footers");
	write_at(map, sectors - 8, 8);
	flush(map, true);
	EXPECT(batmap_sound(&p, sectors), "after");
	map_close(map);
}

/* What the table says beyond the disk's end must be nothing. */
static void test_entry_beyond(void)
{
	struct map_params p = params(64 * 10, 64, 20);
	struct vhd_map *map;
	struct map_req req = { .ready = ready };
	uint32_t block, entry;
	int rc;

	p.footer_offset = p.data_start + 200 * 512;
	p.data_end = p.footer_offset + 512;
	map = make(&p);
	be32_store(file.bytes + p.bat_offset + 15 * 4, (uint32_t)(p.data_start / 512) + 7);
	EXPECT(map_resize(map, &req, 64 * 15, p.footer) == 0, "resize");
	EXPECT(finish(map, &req) == 0, "to before that: %d", req.err);
	EXPECT(map_resize(map, &req, 64 * 16, p.footer) == 0, "resize");
	rc = finish(map, &req);
	map_fault(map, &block, &entry);
	EXPECT(rc == -VHD_E_BAT_ENTRY && block == 15, "error %d, block %u", rc, block);
	file.fail_read = -EIO;
	map_forget(map);
	EXPECT(map_resize(map, &req, 64 * 15 + 1, p.footer) == 0, "resize");
	EXPECT(finish(map, &req) == -EIO, "the table cannot be read: %d", req.err);
	file.fail_read = 0;
	map_close(map);
}

/* A frozen parent into which somebody else merges: entries past the end it had are refused until
 * its new end is told. */
static void test_outside_change(void)
{
	struct map_params p = params(64 * 10, 64, 10);
	struct vhd_map *map;
	struct map_req req = { .sector = 64 * 3, .ready = ready };
	uint32_t at = (uint32_t)(p.data_start / 512) + 100;
	struct map_ext ext;

	p.writable = false;
	map = make(&p);
	map_want(map, &req);
	EXPECT(finish(map, &req) == 0, "want");
	EXPECT(map_lookup(map, 64 * 3, 64, &ext, 1) == 1 && ext.kind == EXT_ZERO, "not there yet");
	be32_store(file.bytes + p.bat_offset + 3 * 4, at);
	memset(file.bytes + at * 512ull, 0xff, 8);
	map_forget(map);
	EXPECT(map_lookup(map, 64 * 3, 64, &ext, 1) == MAP_WAIT, "read again");
	map_want(map, &req);
	EXPECT(finish(map, &req) == -VHD_E_BAT_ENTRY, "past the end: %d", req.err);
	map_data_end(map, (at + 65) * 512ull);
	map_want(map, &req);
	EXPECT(finish(map, &req) == 0, "want: %d", req.err);
	EXPECT(map_lookup(map, 64 * 3, 64, &ext, 1) == 1 && ext.kind == EXT_HERE &&
		       ext.file_sector == at + 1,
	       "there now");
	map_close(map);
}

int main(void)
{
	test_no_allocation();
	test_small_cache();
	test_memory_back();
	test_growth();
	test_free_all();
	test_free_waits();
	test_failed_write();
	test_failed_beside_others();
	test_checksum();
	test_entry_beyond();
	test_outside_change();
	munmap(file.bytes, ROOM);
	printf("check_map_edges: all right%s\n", ALLOC_COUNTED ? "" : " (allocations not counted)");
	return 0;
}
