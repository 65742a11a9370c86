/* check_map.c - the map against a model disk: random order of completion,
 * failures, and a power cut after any step
 *
 * A seed decides everything (SEED=n repeats one, COUNT=n sets how many).  The
 * storage is memory in 512-byte sectors, each with what is durable and what
 * was written since in order; a cut keeps any one of them.  Every sector of
 * the virtual disk carries the number of the write that made it.  After a cut
 * the image is read by a reader of its own, straight from BAT and bitmaps:
 *   - a sector is at least as new as its last flushed write, and some write
 *     to that very sector (or never written: zero or the parent's);
 *   - no two BAT entries share space, none lies outside the file;
 *   - the file's last sector is the footer, and never guest data.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/bits.h"
#include "libvhd/base/endian.h"
#include "libvhd/bitmap.h"
#include "libvhd/layout.h"
#include "libvhd/map.h"

#define FILE_SECTORS 16384
#define VIRT_MAX     2048
#define VERSIONS     64
#define INFLIGHT     96
#define FOOTER_MAGIC 0x636f6e6563746978ull /* stands for a whole footer */

#define EXPECT(cond, ...)                                                                         \
	do {                                                                                      \
		if (!(cond)) {                                                                    \
			fprintf(stderr, "seed %llu step %u line %d: ", w.seed, w.step, __LINE__); \
			fprintf(stderr, __VA_ARGS__);                                             \
			fputc('\n', stderr);                                                      \
			exit(1);                                                                  \
		}                                                                                 \
	} while (0)

struct sector { /* [0] is durable, the rest was written since, in order */
	uint8_t (*version)[512];
	uint64_t landed[VERSIONS]; /* when */
	unsigned count;
};

struct flight {
	bool used, data, failed_once;
	struct map_io io; /* metadata */
	uint8_t *copy;	  /* what the write carries */
	uint64_t issued;  /* serial, for syncs */
	/* data */
	struct map_req req;
	struct map_ext ext[40];
	int n;
	uint64_t gen;
};

struct flush {
	struct map_req req;
	bool used, quiesce;
	uint64_t want[VIRT_MAX]; /* write number each sector must reach */
	struct flush *self;
};

static struct world {
	unsigned long long seed;
	unsigned step;
	uint64_t rng;
	struct sector disk[FILE_SECTORS];
	uint64_t size; /* sectors now */
	uint64_t durable_size;
	uint64_t serial;
	struct flight flight[INFLIGHT];
	struct flush flush[8];
	struct map_params p;
	struct vhd_map *map;
	uint64_t virt;		    /* sectors */
	uint64_t written[VIRT_MAX]; /* newest completed write */
	uint64_t flushed[VIRT_MAX]; /* newest write known durable */
	bool busy[VIRT_MAX];	    /* a write is in flight */
	uint64_t pending_gen[VIRT_MAX];
	uint64_t gen;
	uint64_t first[4096], count[4096]; /* of write number n */
	unsigned faults;		   /* per thousand, now */
	bool faulty;			   /* they happened in this world */
	bool sync_failed;
	bool quiescing;
} w;

static uint32_t rnd(uint32_t below)
{
	w.rng ^= w.rng << 13;
	w.rng ^= w.rng >> 7;
	w.rng ^= w.rng << 17;
	return (uint32_t)((w.rng >> 16) % below);
}

static const uint8_t *now(uint64_t s)
{
	static const uint8_t zero[512];

	return w.disk[s].count ? w.disk[s].version[w.disk[s].count - 1] : zero;
}

static void store(uint64_t s, const uint8_t *bytes)
{
	struct sector *d = &w.disk[s];

	EXPECT(s < FILE_SECTORS, "the file grows without end");
	if (!d->version)
		d->version = calloc(VERSIONS, 512);
	if (!d->count) { /* durable: zeros */
		memset(d->version[0], 0, 512);
		d->count = 1;
	}
	if (d->count == VERSIONS) { /* forget the oldest but the durable one */
		memmove(d->version[1], d->version[2], (size_t)(VERSIONS - 2) * 512);
		memmove(&d->landed[1], &d->landed[2], (VERSIONS - 2) * sizeof(d->landed[0]));
		d->count--;
	}
	d->landed[d->count] = w.serial;
	memcpy(d->version[d->count++], bytes, 512);
	if (s >= w.size)
		w.size = s + 1;
}

/* Everything that had landed when the sync was issued is durable. */
static void sync_done(uint64_t issued)
{
	for (uint64_t s = 0; s < FILE_SECTORS; s++) {
		struct sector *d = &w.disk[s];
		unsigned v = 0;

		while (v + 1 < d->count && d->landed[v + 1] <= issued)
			v++;
		if (!v)
			continue;
		memmove(d->version[0], d->version[v], (size_t)(d->count - v) * 512);
		memmove(&d->landed[0], &d->landed[v], (d->count - v) * sizeof(d->landed[0]));
		d->count -= v;
	}
	w.durable_size = w.size;
}

/* ── the reader after a cut ── */

static uint64_t stamp_of(const uint8_t *sector)
{
	return be64_load(sector);
}

static const uint8_t *crash_image(void)
{
	static uint8_t image[FILE_SECTORS * 512];
	unsigned mode = rnd(4);

	memset(image, 0, sizeof(image));
	for (uint64_t s = 0; s < FILE_SECTORS; s++) {
		const struct sector *d = &w.disk[s];
		unsigned v;

		if (!d->count)
			continue;
		v = mode == 0 ? 0 : mode == 1 ? d->count - 1 : rnd(d->count);
		memcpy(image + s * 512, d->version[v], 512);
	}
	return image;
}

static void check_layout(const uint8_t *image)
{
	uint32_t stride = bitmap_stride(w.p.block_sectors);
	uint64_t blocks = (w.virt + w.p.block_sectors - 1) / w.p.block_sectors;
	const uint8_t *bat = image + w.p.bat_offset;

	for (uint64_t i = 0; i < blocks; i++) {
		uint32_t e = be32_load(bat + i * 4);

		if (e == VHD_BAT_UNUSED)
			continue;
		EXPECT(e * 512ull >= w.p.data_start && e + stride < FILE_SECTORS,
		       "block %llu at %u is outside", (unsigned long long)i, e);
		for (uint64_t k = 0; k < i; k++) {
			uint32_t o = be32_load(bat + k * 4);

			EXPECT(o == VHD_BAT_UNUSED || o + stride <= e || e + stride <= o,
			       "blocks %llu and %llu overlap: %u %u", (unsigned long long)k,
			       (unsigned long long)i, o, e);
		}
	}
}

static uint64_t read_back(const uint8_t *image, uint64_t sector)
{
	uint64_t block = sector / w.p.block_sectors, k = sector % w.p.block_sectors;
	uint32_t e = be32_load(image + w.p.bat_offset + block * 4);

	if (e == VHD_BAT_UNUSED || !bits_test(image + e * 512ull, k))
		return 0;
	return stamp_of(image + (e + bitmap_sectors(w.p.block_sectors) + k) * 512ull);
}

static void check_after_cut(void)
{
	const uint8_t *image = crash_image();

	check_layout(image);
	for (uint64_t s = 0; s < w.virt; s++) {
		uint64_t g = read_back(image, s);

		/* a zero where the space was never written: no parent, bitmap of ones */
		if (g == 0 && !w.flushed[s])
			continue;
		EXPECT(g >= w.flushed[s], "sector %llu has write %llu, flushed was %llu",
		       (unsigned long long)s, (unsigned long long)g,
		       (unsigned long long)w.flushed[s]);
		EXPECT(g > 0 && g <= w.gen && s >= w.first[g] && s < w.first[g] + w.count[g],
		       "sector %llu has %llu, never written there", (unsigned long long)s,
		       (unsigned long long)g);
		if (w.p.has_parent) /* present, but never written: would hide the parent */
			EXPECT(g != 0, "sector %llu present without data", (unsigned long long)s);
	}
}

/* The end of the file is a footer whenever the map says it is in its final shape. */
static void check_end(void)
{
	EXPECT(be64_load(now(w.size - 1)) == FOOTER_MAGIC, "no footer at the end");
}

/* Between commits the last durable sector of the file may never be guest data. */
static void check_last_sector(void)
{
	uint64_t g;

	if (!w.size)
		return;
	g = be64_load(now(w.size - 1));
	EXPECT(g == FOOTER_MAGIC, "the file ends with %llx", (unsigned long long)g);
}

/* ── what the map asks for ── */

static struct flight *free_flight(void)
{
	for (unsigned i = 0; i < INFLIGHT; i++)
		if (!w.flight[i].used)
			return &w.flight[i];
	return NULL;
}

static void pump(void)
{
	struct flight *f;

	while ((f = free_flight())) {
		memset(f, 0, sizeof(*f));
		if (!map_next(w.map, &f->io))
			return;
		f->used = true;
		f->issued = w.serial++;
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

	EXPECT(io->offset % 512 == 0 && io->length % 512 == 0, "not whole sectors");
	switch (io->op) {
	case MAP_READ:
		for (uint64_t i = 0; i < n; i++)
			memcpy((uint8_t *)io->buf + i * 512, now(first + i), 512);
		break;
	case MAP_WRITE:
		EXPECT(!memcmp(f->copy, io->buf, io->length), "a buffer changed in flight");
		for (uint64_t i = 0; i < n && !(fail && rnd(2)); i++)
			store(first + i, f->copy + i * 512);
		break;
	case MAP_ZERO:
	case MAP_PUNCH:
		for (uint64_t i = 0; i < n; i++)
			if (w.disk[first + i].count)
				store(first + i, zero);
		break;
	case MAP_TRUNCATE:
		for (uint64_t s = first; s < w.size; s++)
			w.disk[s].count = 0;
		w.size = first;
		fail = false;
		break;
	case MAP_SYNC:
		if (!fail)
			sync_done(f->issued);
		else
			w.sync_failed = true;
		break;
	}
	return fail ? -EIO : 0;
}

static void finish_data(struct flight *f)
{
	uint8_t sector[512] = { 0 };

	if (rnd(1000) < w.faults && !f->failed_once) {
		f->failed_once = true; /* part of it may have landed; written again later */
		return;
	}
	be64_store(sector, f->gen);
	for (int i = 0; i < f->n; i++)
		for (uint64_t k = 0; k < f->ext[i].count; k++)
			store(f->ext[i].file_sector + k, sector);
	for (uint64_t s = f->req.sector; s < f->req.sector + f->req.count; s++) {
		w.written[s] = f->gen;
		w.busy[s] = false;
	}
	map_written(w.map, &f->req);
	f->used = false;
}

static void complete_one(void)
{
	unsigned start = rnd(INFLIGHT);

	w.serial++;
	for (unsigned i = 0; i < INFLIGHT; i++) {
		struct flight *f = &w.flight[(start + i) % INFLIGHT];
		int rc;

		if (!f->used || (f->data && f->n <= 0))
			continue;
		if (f->data) {
			finish_data(f);
			return;
		}
		rc = perform(f);
		free(f->copy);
		f->used = false;
		map_done(w.map, f->io.tag, rc);
		return;
	}
}

/* ── what the guest does ── */

static struct flight *flight_of(struct map_req *req)
{
	return (struct flight *)((char *)req - offsetof(struct flight, req));
}

static void try_write(struct flight *f);

static void write_ready(struct map_req *req)
{
	struct flight *f = flight_of(req);

	f->n = -1; /* try again from the main loop: it may not be done in here */
}

static void drop_write(struct flight *f, uint64_t from, uint64_t to)
{
	(void)f;
	for (uint64_t s = from; s < to; s++)
		w.busy[s] = false;
}

static void try_write(struct flight *f)
{
	uint64_t end = f->req.sector + f->req.count;
	int n;

	f->n = 0;
	f->req.ready = write_ready;
	n = map_write(w.map, &f->req, f->ext, 40);
	if (n == MAP_WAIT)
		return;
	EXPECT(n > 0, "map_write: %d", n);
	f->n = n;
	drop_write(f, f->req.sector + f->req.count, end); /* the rest was not taken */
	w.count[f->gen] = f->req.count;
}

static void start_write(void)
{
	struct flight *f = free_flight();
	uint64_t first = rnd((uint32_t)w.virt), count = 1 + rnd(rnd(4) ? 8 : 100);

	if (!f || w.gen + 1 >= 4096 || w.quiescing)
		return;
	if (first + count > w.virt)
		count = w.virt - first;
	for (uint64_t s = first; s < first + count; s++)
		if (w.busy[s])
			return;
	memset(f, 0, sizeof(*f));
	f->used = f->data = true;
	f->gen = ++w.gen;
	w.first[f->gen] = first;
	w.count[f->gen] = count;
	for (uint64_t s = first; s < first + count; s++)
		w.busy[s] = true;
	f->req.sector = first;
	f->req.count = count;
	try_write(f);
}

static void retry_writes(void)
{
	for (unsigned i = 0; i < INFLIGHT; i++) {
		struct flight *f = &w.flight[i];

		if (!f->used || !f->data || f->n != -1)
			continue;
		if (f->req.err && rnd(4) == 0) { /* give up: it was never begun */
			drop_write(f, f->req.sector, f->req.sector + f->req.count);
			f->used = false;
			continue;
		}
		try_write(f);
	}
}

static void flush_ready(struct map_req *req)
{
	struct flush *f = (struct flush *)((char *)req - offsetof(struct flush, req));

	f->used = false;
	if (f->quiesce)
		w.quiescing = false;
	if (req->err) {
		EXPECT(w.faulty, "flush failed: %d", req->err);
		return;
	}
	if (w.sync_failed) /* data since the failed sync is not vouched for (ORDER 5) */
		return;
	for (uint64_t s = 0; s < w.virt; s++)
		if (f->want[s] > w.flushed[s])
			w.flushed[s] = f->want[s];
	if (f->quiesce)
		check_end();
}

static bool writes_in_flight(void)
{
	for (unsigned i = 0; i < INFLIGHT; i++)
		if (w.flight[i].used && w.flight[i].data)
			return true;
	return false;
}

static void start_flush(bool quiesce)
{
	for (unsigned i = 0; i < 8; i++) {
		struct flush *f = &w.flush[i];

		if (f->used)
			continue;
		memset(&f->req, 0, sizeof(f->req));
		f->used = true;
		f->quiesce = quiesce;
		f->req.ready = flush_ready;
		memcpy(f->want, w.written, sizeof(f->want));
		if (quiesce) {
			w.quiescing = true;
			map_quiesce(w.map, &f->req);
		} else {
			map_flush(w.map, &f->req);
		}
		return;
	}
}

/* Lookups see every completed write. */
static void check_lookup(void)
{
	uint64_t sector = rnd((uint32_t)w.virt), count = 1 + rnd(64);
	struct map_ext ext[16];
	int n;

	if (sector + count > w.virt)
		count = w.virt - sector;
	n = map_lookup(w.map, sector, count, ext, 16);
	EXPECT(n >= 0, "lookup: %d", n);
	for (int i = 0; i < n; i++)
		for (uint64_t k = 0; k < ext[i].count; k++) {
			uint64_t s = ext[i].sector + k, g = 0;

			if (ext[i].kind == EXT_HERE)
				g = stamp_of(now(ext[i].file_sector + k));
			EXPECT(w.p.has_parent ? ext[i].kind != EXT_ZERO : ext[i].kind != EXT_BELOW,
			       "wrong kind of absence");
			if (!w.busy[s])
				EXPECT(g == w.written[s], "sector %llu reads %llu, written %llu",
				       (unsigned long long)s, (unsigned long long)g,
				       (unsigned long long)w.written[s]);
		}
}

static void want_ready(struct map_req *req)
{
	req->ready = NULL;
}

static void check_want(void)
{
	static struct map_req req;

	if (req.ready) /* one at a time */
		return;
	memset(&req, 0, sizeof(req));
	req.sector = rnd((uint32_t)w.virt);
	req.ready = want_ready;
	map_want(w.map, &req);
	while (req.ready) { /* alone: the other requests stay in flight */
		pump();
		complete_one();
	}
}

static void setup(unsigned long long seed)
{
	static const uint32_t blocks[] = { 8, 16, 64, 256 };
	uint8_t empty[512];

	memset(&w, 0, sizeof(w));
	w.seed = seed;
	w.rng = seed * 0x9e3779b97f4a7c15ull + 1;
	for (int i = 0; i < 10; i++)
		rnd(2);
	w.p.block_sectors = blocks[rnd(4)];
	w.virt = 64 + rnd(VIRT_MAX - 64);
	w.p.size_sectors = w.virt;
	w.p.max_entries = (uint32_t)((w.virt + w.p.block_sectors - 1) / w.p.block_sectors);
	w.p.bat_offset = 1536;
	w.p.has_parent = rnd(2);
	w.p.writable = true;
	w.p.early_bitmaps = rnd(2);
	w.p.align = rnd(4) != 0;
	w.p.data_start = (1536 + w.p.max_entries * 4ull + 511) / 512 * 512;
	w.p.end_of_data = w.p.data_start;
	w.p.footer_offset = w.p.data_start + 512ull * (rnd(2) ? 0 : rnd(400));
	w.p.data_end = w.p.footer_offset + 512;
	w.p.cache_bytes = rnd(3) ? 1 + rnd(20000) : 0;
	w.faults = rnd(3) ? 0 : 1 + rnd(40);
	w.faulty = w.faults != 0;
	be64_store(w.p.footer, FOOTER_MAGIC);
	memset(empty, 0xff, sizeof(empty));
	for (uint64_t s = 3; s < w.p.data_start / 512; s++)
		store(s, empty);
	store(w.p.footer_offset / 512, w.p.footer);
	w.serial = 1;
	sync_done(w.serial);
	EXPECT(map_open(&w.p, &w.map) == 0, "map_open");
}

static void teardown(void)
{
	w.faults = 0;
	for (unsigned i = 0; i < 20000; i++) {
		bool busy = false;

		pump();
		complete_one();
		retry_writes();
		for (unsigned k = 0; k < INFLIGHT; k++)
			busy |= w.flight[k].used;
		for (unsigned k = 0; k < 8; k++)
			busy |= w.flush[k].used;
		if (!busy)
			break;
		EXPECT(i < 19999, "something never ends");
	}
	start_flush(false); /* once more, so that all of it must be there */
	while (w.flush[0].used) {
		pump();
		complete_one();
	}
	w.sync_failed = false;
	check_after_cut();
	check_last_sector();
	map_close(w.map);
	for (uint64_t s = 0; s < FILE_SECTORS; s++)
		free(w.disk[s].version);
}

static void play(unsigned long long seed)
{
	unsigned steps;

	setup(seed);
	steps = 100 + rnd(500);
	for (w.step = 0; w.step < steps; w.step++) {
		switch (rnd(12)) {
		case 0:
		case 1:
		case 2:
			start_write();
			break;
		case 3:
			start_flush(false);
			break;
		case 4:
			check_lookup();
			break;
		case 5:
			if (!writes_in_flight() && !w.quiescing)
				start_flush(true);
			break;
		case 6:
			check_after_cut();
			break;
		case 7:
			if (rnd(8) == 0)
				check_want();
			break;
		default:
			pump();
			complete_one();
		}
		retry_writes();
		check_last_sector();
	}
	teardown();
}

int main(void)
{
	unsigned long long seed = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 0) : 1;
	unsigned long long count = getenv("SEED") ? 1 : getenv("SOAK") ? 100000 : 4000;

	if (getenv("COUNT"))
		count = strtoull(getenv("COUNT"), NULL, 0);
	printf("check_map: seeds %llu to %llu\n", seed, seed + count - 1);
	for (unsigned long long i = 0; i < count; i++)
		play(seed + i);
	printf("check_map: %llu worlds, all right\n", count);
	return 0;
}
