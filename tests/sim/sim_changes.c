/* sim_changes.c - logs of changed blocks beside a VBD, under power cuts and failing storage
 *
 * A disk of several GiB that holds nothing, its requests answered in any order; two logs in memory.
 * The VBD is paused, resumed with this log, the other, the same or none, on a disk that has grown,
 * closed and opened.  At any instant the power may go; then of each log, as libvhd reads it:
 *
 *   - it is whole, and has the size of the disk before or after a growth
 *   - if it says that it is consistent, each block of which a write was ever answered is marked
 *   - while it is used it does not say so, and what was answered before a flush that was answered
 *     is marked
 *
 * and after a clean end it is consistent exactly if it was before, and could be written.
 *
 * SEED=n plays one world, COUNT=n that many.
 */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core-model.h"
#include "libvhd/base/number.h"
#include "libvhd/cbt.h"
#include "sim.h"
#include "store.h"
#include "tapdisk/core/host.h"

#define LOGS	   2
#define SLOTS	   12
#define BLOCKS_MAX 120000u
#define BITS_BYTES (BLOCKS_MAX / 8)
#define NO_LOG	   (-1)

struct log {
	const char *name;
	bool flag;		   /* when nobody uses it */
	uint64_t size;		   /* at least */
	uint8_t truth[BITS_BYTES]; /* answered since it began to be true */
	/* since it was last opened, or given up: answered; and before a flush that was answered */
	uint8_t fresh[BITS_BYTES], promised[BITS_BYTES];
};

struct slot {
	struct request req; /* first */
	bool busy;
	uint8_t covered[BITS_BYTES]; /* of a flush: what was answered before it was asked for */
};

static struct {
	struct rng rng;
	struct loop *loop;
	struct engine *engine;
	struct host host;
	struct vbd *vbd;
	struct store *store;
	struct log logs[LOGS];
	int now;	       /* the log in use */
	bool used;	       /* it may be written now */
	bool lost;	       /* it was given up */
	uint64_t size;	       /* of the disk */
	struct list with_disk; /* requests, by their link in state */
	struct slot slots[SLOTS];
	unsigned busy;
	struct vbd_op op;
	bool op_busy;
	struct vbd_watcher watcher;
	/* counted over all seeds */
	unsigned long cuts, sound, promises, losses, sessions;
} s;

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "SEED=%llu: ", model_seed);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	abort();
}

static uint64_t below(uint64_t n)
{
	return rng_below(&s.rng, n);
}

static bool chance(unsigned percent)
{
	return rng_chance(&s.rng, percent);
}

/* ── the disk ── */

static int disk_start(struct disk *disk, struct vhd_error *err)
{
	(void)disk;
	(void)err;
	return 0;
}

struct with_disk { /* in a request's state */
	struct list link;
	struct disk *disk;
	struct request *req;
};

static void disk_submit(struct disk *disk, struct request *req)
{
	struct with_disk *w = (struct with_disk *)(void *)req->state;

	*w = (struct with_disk){ .disk = disk, .req = req };
	list_append(&s.with_disk, &w->link);
}

static void disk_quiesce(struct disk *disk, void (*done)(void *arg, int err), void *arg)
{
	(void)disk;
	done(arg, 0);
}

static int disk_park(struct disk *disk, struct vhd_error *err)
{
	(void)disk;
	(void)err;
	return chance(10) ? -EIO : 0;
}

static void disk_stop(struct disk *disk)
{
	(void)disk;
}

static void disk_close(struct disk *disk)
{
	free(disk);
}

static int open_disk(struct host *host, const char *spec, const struct disk_params *params,
		     struct disk **out, struct vhd_error *err)
{
	static const struct disk_ops ops = {
		.name = "none",
		.start = disk_start,
		.submit = disk_submit,
		.quiesce = disk_quiesce,
		.park = disk_park,
		.unpark = disk_park,
		.stop = disk_stop,
		.close = disk_close,
	};
	struct disk *disk;

	(void)host;
	(void)params;
	if (chance(10)) {
		*err = (struct vhd_error){ .code = -ENOENT, .text = "no such image" };
		return -ENOENT;
	}
	disk = calloc(1, sizeof(*disk));
	disk->ops = &ops;
	disk->size = strtoull(spec, NULL, 0);
	disk->can_trim = true;
	*out = disk;
	return 0;
}

/* One of its requests is done. */
static void complete_one(void)
{
	struct list *l = s.with_disk.next;
	struct with_disk *w;

	if (list_empty(&s.with_disk))
		return;
	while (chance(50) && l->next != &s.with_disk)
		l = l->next;
	list_remove(l);
	w = list_entry(l, struct with_disk, link);
	disk_complete(w->disk, w->req, chance(3) ? -EIO : 0);
}

/* ── the guest ── */

static void set_bits(uint8_t *bits, uint64_t offset, uint64_t length)
{
	for (uint64_t k = offset >> 16; k <= (offset + length - 1) >> 16; k++)
		bits[k / 8] |= (uint8_t)(1u << (k % 8));
}

static void answered(struct request *req)
{
	struct slot *slot = (struct slot *)req;
	struct log *log = s.now == NO_LOG ? NULL : &s.logs[s.now];

	slot->busy = false;
	s.busy--;
	if (req->err || !log)
		return;
	if (req->op != REQUEST_FLUSH) {
		set_bits(log->truth, req->offset, req->length);
		set_bits(log->fresh, req->offset, req->length);
	}
	if (req->op == REQUEST_FLUSH && !s.lost) {
		s.promises++;
		for (unsigned i = 0; i < BITS_BYTES; i++)
			log->promised[i] |= slot->covered[i];
	} else if ((req->flags & REQUEST_FUA) && !s.lost) {
		set_bits(log->promised, req->offset, req->length);
	}
}

static void ask(void)
{
	static const enum request_op ops[] = { REQUEST_WRITE, REQUEST_WRITE, REQUEST_ZERO,
					       REQUEST_TRIM };
	static uint8_t bytes[2000];
	struct slot *slot = &s.slots[below(SLOTS)];
	uint64_t sectors = s.size / REQUEST_SECTOR, at = below(sectors);

	if (slot->busy)
		return;
	slot->busy = true;
	s.busy++;
	slot->req = (struct request){ .op = ops[below(4)], .done = answered };
	if (chance(20)) {
		slot->req.op = REQUEST_FLUSH;
		memset(slot->covered, 0, sizeof(slot->covered));
		if (s.now != NO_LOG)
			memcpy(slot->covered, s.logs[s.now].fresh, sizeof(slot->covered));
	} else {
		slot->req.offset = at * REQUEST_SECTOR;
		slot->req.length =
			(1 + below(number_min(sectors - at, chance(90) ? 300 : 900000))) *
			REQUEST_SECTOR;
		slot->req.flags = chance(20) ? REQUEST_FUA : 0;
		if (chance(20)) { /* parts of sectors */
			slot->req.offset = below(s.size - sizeof(bytes));
			slot->req.length = 1 + below(sizeof(bytes));
			slot->req.buf = bytes;
		}
	}
	vbd_submit(s.vbd, &slot->req);
}

/* What a log that was given up missed it never has to have. */
static void forget(struct log *log)
{
	memset(log->fresh, 0, BITS_BYTES);
	memset(log->promised, 0, BITS_BYTES);
	for (int i = 0; i < SLOTS; i++)
		memset(s.slots[i].covered, 0, BITS_BYTES);
}

/* ── the power goes ── */

static void look_at(const struct log *log, bool in_use)
{
	static uint8_t bits[BITS_BYTES];
	struct vhd_error err = { 0 };
	struct cbt c;

	if (cbt_open(log->name, false, &c, &err) || cbt_whole(&c, &err))
		die("%s: %s", log->name, err.text);
	if (c.header.size > s.size || (c.header.size < log->size && !in_use))
		die("%s: that of a disk of %llu bytes", log->name,
		    (unsigned long long)c.header.size);
	memset(bits, 0, sizeof(bits));
	if (cbt_read(&c, bits, cbt_bitmap_bytes(c.header.size), 0, &err))
		die("%s: %s", log->name, err.text);
	/* bits of a growth are in the file already, where the header does not reach yet */
	if (in_use)
		(void)!io_read(c.io, bits, number_min(BITS_BYTES, c.file_bytes - CBT_HEADER_BYTES),
			       CBT_HEADER_BYTES);
	s.cuts++;
	s.sound += c.header.consistent;
	for (unsigned i = 0; i < BITS_BYTES; i++) {
		if (c.header.consistent && (log->truth[i] & ~bits[i]))
			die("%s: it says that it is consistent, and block %u is missing", log->name,
			    i * 8);
		if (in_use && !s.lost && (log->promised[i] & ~bits[i]))
			die("%s: what was flushed is not marked: block %u", log->name, i * 8);
	}
	cbt_close(&c);
}

static void cut(void)
{
	struct store *left = store_cut(s.store, &s.rng);

	store_use(left, &s.rng);
	for (int i = 0; i < LOGS; i++)
		look_at(&s.logs[i], s.used && i == s.now);
	store_use(s.store, &s.rng);
	store_free(left);
}

/* ── the operator ── */

static void event(struct vbd_watcher *w, const char *what, const char *text)
{
	(void)w;
	if (strcmp(what, "changes-lost") != 0)
		return;
	if (!text[0])
		die("lost without a word");
	s.lost = true;
	s.losses++;
}

static void op_done(struct vbd_op *op)
{
	(void)op;
	s.op_busy = false;
}

static void step(void)
{
	if (chance(30))
		complete_one();
	if (chance(2))
		cut();
	if (!sim_step() && !list_empty(&s.with_disk))
		complete_one();
}

static int wait_op(void)
{
	while (s.op_busy)
		step();
	return s.op.err.code;
}

static void begin_op(const char *log)
{
	s.op = (struct vbd_op){ .done = op_done, .log = log };
	s.op_busy = true;
}

/* From now on @log is used; what was lost of it before is not asked for. */
static void session(int log)
{
	s.now = log;
	s.used = log != NO_LOG;
	s.lost = false;
	s.sessions++;
	if (log == NO_LOG)
		return;
	s.logs[log].size = number_max(s.logs[log].size, s.size);
	forget(&s.logs[log]);
}

/* Nobody uses it any more. */
static void session_over(void)
{
	struct vhd_error err;
	struct cbt c;

	if (s.now == NO_LOG)
		return;
	s.used = false;
	if (s.lost)
		s.logs[s.now].flag = false;
	if (cbt_open(s.logs[s.now].name, false, &c, &err))
		die("%s: %s", s.logs[s.now].name, err.text);
	if (c.header.consistent != s.logs[s.now].flag)
		die("%s: after a clean end its flag is %d", s.logs[s.now].name,
		    c.header.consistent);
	if (s.lost)
		s.logs[s.now].size = c.header.size;
	else if (c.header.size != s.size)
		die("%s: it did not grow with its disk", s.logs[s.now].name);
	cbt_close(&c);
}

/* Somebody vouches for a log that nobody uses: what it holds is the truth from now on. */
static void vouch(struct log *log)
{
	const bool yes = true;
	const struct cbt_change change = { .consistent = &yes };
	struct vhd_error err = { 0 };
	struct cbt c;

	if (cbt_set(log->name, &change, false, &err) || cbt_open(log->name, false, &c, &err))
		die("%s: %s", log->name, err.text);
	memset(log->truth, 0, sizeof(log->truth));
	if (cbt_read(&c, log->truth, cbt_bitmap_bytes(c.header.size), 0, &err))
		die("%s: %s", log->name, err.text);
	cbt_close(&c);
	log->flag = true;
}

/* A job holds the disk for a while: what waits for the storage is taken back. */
static void hold_and_release(void)
{
	begin_op(NULL);
	vbd_hold(s.vbd, 0, &s.op);
	if (wait_op() < 0)
		die("it cannot be held: %s", s.op.err.text);
	for (uint64_t n = below(6); n; n--) {
		if (chance(30))
			cut();
		step();
	}
	vbd_release(s.vbd);
}

static void pause_and_go_on(void)
{
	char spec[32];
	int log = s.now, rc;
	const char *name = NULL;

	begin_op(NULL);
	vbd_pause(s.vbd, 0, 0, &s.op);
	rc = wait_op();
	if (!(vbd_state(s.vbd) & VBD_PAUSED)) { /* parking failed, and it resumed by itself */
		if (s.now != NO_LOG && s.lost) {
			s.logs[s.now].flag = false;
			forget(&s.logs[s.now]);
		}
		s.lost = false;
		return;
	}
	(void)rc;
	session_over();
	for (int i = 0; i < LOGS; i++)
		if (!s.logs[i].flag && chance(50))
			vouch(&s.logs[i]);
	if (chance(40)) {
		log = (int)below(LOGS + 1) - 1;
		name = log == NO_LOG ? "" : s.logs[log].name;
	}
	if (chance(20) && s.size < (uint64_t)(BLOCKS_MAX - 20000) * CBT_BLOCK_BYTES)
		s.size += below(20000) * CBT_BLOCK_BYTES + REQUEST_SECTOR * below(100);
	do {
		snprintf(spec, sizeof(spec), "%llu", (unsigned long long)s.size);
		/* from its beginning on the log may be used */
		session(log);
		begin_op(name);
		vbd_unpause(s.vbd, spec, true, &s.op);
	} while (wait_op() < 0);
}

/* ── worlds ── */

static void make_logs(void)
{
	struct vhd_error err;

	s.logs[0].name = "/one.log";
	s.logs[1].name = "/two.log";
	for (int i = 0; i < LOGS; i++) {
		struct log *log = &s.logs[i];
		struct mem_disk *disk = mem_disk_new(CBT_HEADER_BYTES + 1, false);
		uint8_t raw[CBT_HEADER_BYTES];

		memset(log->truth, 0, sizeof(log->truth));
		log->size = CBT_BLOCK_BYTES;
		cbt_encode(&(struct cbt_header){ .size = log->size }, raw);
		mem_disk_poke(disk, raw, sizeof(raw), 0);
		store_put(s.store, log->name, disk);
		log->flag = false;
		(void)err;
		vouch(log);
	}
}

static void open_vbd(void)
{
	static const uint64_t patience[] = { 0, 20000000, RETRY_FOREVER };
	struct vbd_params p = { .minor = 0, .name = "d", .retry_ns = patience[below(3)] };
	struct disk_params params = { 0 };
	char spec[32];

	if (vbd_new(&s.host, &p, &s.vbd) < 0)
		die("no VBD");
	s.watcher = (struct vbd_watcher){ .event = event };
	vbd_watch(s.vbd, &s.watcher);
	snprintf(spec, sizeof(spec), "%llu", (unsigned long long)s.size);
	do {
		session(0);
		begin_op(s.logs[0].name);
		vbd_open(s.vbd, spec, &params, &s.op);
	} while (wait_op() < 0);
}

static void play(void)
{
	unsigned rounds = 1 + (unsigned)below(4);

	s.store = store_new();
	store_use(s.store, &s.rng);
	sim_open(&s.rng, &s.loop, &s.engine);
	host_init(&s.host, s.loop, s.engine);
	s.host.open = open_disk;
	list_init(&s.with_disk);
	s.size = (1 + below(60000)) * CBT_BLOCK_BYTES - REQUEST_SECTOR * below(100);
	make_logs();
	open_vbd();
	while (rounds--) {
		sim_faults(chance(70) ? 0 : chance(50) ? 20 : 500);
		sim_sync_faults(chance(50));
		for (uint64_t n = below(300); n; n--) {
			if (chance(50))
				ask();
			if (chance(1))
				hold_and_release();
			step();
		}
		pause_and_go_on();
	}
	begin_op(NULL);
	vbd_close(s.vbd, false, 0, &s.op);
	if (wait_op() < 0)
		die("it does not close: %s", s.op.err.text);
	session_over();
	if (s.busy)
		die("closed, and %u requests are not answered", s.busy);
	s.now = NO_LOG;
	while (sim_step()) /* a thread that came too late for a growth */
		;
	vbd_unwatch(s.vbd, &s.watcher);
	vbd_free(s.vbd);
	sim_close();
	store_free(s.store);
}

int main(void)
{
	unsigned long long n;

	n = model_play(3000, 20000, &s.rng, play);
	printf("%llu seeds: %lu sessions, %lu logs at a cut, %lu of them consistent, %lu flushes, "
	       "%lu given up\n",
	       n, s.sessions, s.cuts, s.sound, s.promises, s.losses);
	return !s.sound || !s.promises || !s.losses;
}
