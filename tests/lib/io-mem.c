/* io-mem.c - storage in memory that can lose power and fail
 *
 * Contents are tables of 4 KiB pages, absent where zero.  The log holds one
 * entry a sector; what it carries is copied.  Every public function and every
 * operation takes the disk's mutex: operations of one image come from several
 * threads.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "io-mem.h"
#include "libvhd/base/number.h"
#include "rng.h"

#define SECTOR 512u
#define PAGE   4096u
#define CHUNK  512u /* pages of one second-level table */

struct content {
	uint8_t ***chunks;
	uint64_t chunk_count;
	uint64_t size;
};

enum event_kind { EVENT_WRITE, EVENT_ZERO, EVENT_SIZE };
struct event {
	enum event_kind kind;
	uint64_t at; /* sector; EVENT_SIZE: bytes */
	uint8_t *data;
};

struct mem_disk {
	pthread_mutex_t mutex;
	bool device;
	uint64_t inode, limit;
	struct content now, durable;
	struct event *log;
	uint64_t events, room;
	uint64_t operations;
	uint64_t fail_from, fail_times;
	int fail_code;
	bool failed;
	void (*watch)(void *arg);
	void *watch_arg;
};

struct mem_io {
	struct vhd_io base;
	struct mem_disk *disk;
	char *name;
};

static void *need(void *p)
{
	if (!p)
		abort();
	return p;
}

/* ── contents ── */

static uint8_t *page_find(const struct content *c, uint64_t page)
{
	uint64_t chunk = page / CHUNK;

	if (chunk >= c->chunk_count || !c->chunks[chunk])
		return NULL;
	return c->chunks[chunk][page % CHUNK];
}

static uint8_t *page_make(struct content *c, uint64_t page)
{
	uint64_t chunk = page / CHUNK;
	uint8_t **p;

	if (chunk >= c->chunk_count) {
		uint64_t count = chunk + 1 + chunk / 2;

		c->chunks = need(realloc(c->chunks, count * sizeof(*c->chunks)));
		memset(c->chunks + c->chunk_count, 0,
		       (count - c->chunk_count) * sizeof(*c->chunks));
		c->chunk_count = count;
	}
	if (!c->chunks[chunk])
		c->chunks[chunk] = need(calloc(CHUNK, sizeof(**c->chunks)));
	p = &c->chunks[chunk][page % CHUNK];
	if (!*p)
		*p = need(calloc(1, PAGE));
	return *p;
}

static void content_free(struct content *c)
{
	for (uint64_t i = 0; i < c->chunk_count; i++) {
		if (!c->chunks[i])
			continue;
		for (unsigned k = 0; k < CHUNK; k++)
			free(c->chunks[i][k]);
		free(c->chunks[i]);
	}
	free(c->chunks);
	memset(c, 0, sizeof(*c));
}

static void content_copy(struct content *to, const struct content *from)
{
	memset(to, 0, sizeof(*to));
	to->size = from->size;
	for (uint64_t i = 0; i < from->chunk_count; i++) {
		for (unsigned k = 0; from->chunks[i] && k < CHUNK; k++) {
			if (from->chunks[i][k])
				memcpy(page_make(to, i * CHUNK + k), from->chunks[i][k], PAGE);
		}
	}
}

static void content_get(const struct content *c, void *buf, size_t length, uint64_t offset)
{
	uint8_t *out = buf;

	while (length) {
		size_t in = offset % PAGE, n = PAGE - in < length ? PAGE - in : length;
		const uint8_t *page = page_find(c, offset / PAGE);

		if (page)
			memcpy(out, page + in, n);
		else
			memset(out, 0, n);
		out += n;
		offset += n;
		length -= n;
	}
}

static void content_put(struct content *c, const void *buf, size_t length, uint64_t offset)
{
	const uint8_t *from = buf;

	while (length) {
		size_t in = offset % PAGE, n = PAGE - in < length ? PAGE - in : length;

		memcpy(page_make(c, offset / PAGE) + in, from, n);
		from += n;
		offset += n;
		length -= n;
	}
}

/* Zero [offset, end), pages that are there only. */
static void content_clear(struct content *c, uint64_t offset, uint64_t end)
{
	while (offset < end) {
		uint64_t chunk = offset / PAGE / CHUNK;
		uint64_t in = offset % PAGE, n = number_min(PAGE - in, end - offset);
		uint8_t *page;

		if (chunk >= c->chunk_count)
			return;
		if (!c->chunks[chunk]) {
			offset = (chunk + 1) * CHUNK * PAGE;
			continue;
		}
		page = page_find(c, offset / PAGE);
		if (page)
			memset(page + in, 0, n);
		offset += n;
	}
}

static void content_resize(struct content *c, uint64_t bytes)
{
	if (bytes < c->size)
		content_clear(c, bytes, c->size);
	c->size = bytes;
}

/* ── the log ── */

static void log_event(struct mem_disk *d, enum event_kind kind, uint64_t at, const uint8_t *data)
{
	struct event *e;

	if (d->events == d->room) {
		d->room = d->room ? d->room * 2 : 256;
		d->log = need(realloc(d->log, d->room * sizeof(*d->log)));
	}
	e = &d->log[d->events++];
	*e = (struct event){ .kind = kind, .at = at };
	if (data) {
		e->data = need(malloc(SECTOR));
		memcpy(e->data, data, SECTOR);
	}
}

/* Log sectors [offset, end) as they are now. */
static void log_sectors(struct mem_disk *d, uint64_t offset, uint64_t end)
{
	uint8_t data[SECTOR];

	for (uint64_t s = offset / SECTOR; s * SECTOR < end; s++) {
		content_get(&d->now, data, SECTOR, s * SECTOR);
		log_event(d, EVENT_WRITE, s, data);
	}
}

static void event_apply(struct content *c, const struct event *e)
{
	static const uint8_t zero[SECTOR];

	if (e->kind == EVENT_SIZE)
		content_resize(c, e->at);
	else if (e->kind == EVENT_WRITE)
		content_put(c, e->data, SECTOR, e->at * SECTOR);
	else if (page_find(c, e->at * SECTOR / PAGE))
		content_put(c, zero, SECTOR, e->at * SECTOR);
}

/* Bytes beyond the end, of sectors kept although the growth was not, are no more. */
static void content_settle(struct content *c)
{
	content_clear(c, c->size, c->chunk_count * CHUNK * PAGE);
}

static void log_drop(struct mem_disk *d, bool keep_sizes)
{
	uint64_t kept = 0;

	for (uint64_t i = 0; i < d->events; i++) {
		if (keep_sizes && d->log[i].kind == EVENT_SIZE)
			d->log[kept++] = d->log[i];
		else
			free(d->log[i].data);
	}
	d->events = kept;
}

/* ── operations ── */

/* Counts one operation; its ordered failure or 0. */
static int step(struct mem_disk *d)
{
	uint64_t n = d->operations++;

	if (!d->fail_times || n < d->fail_from || n - d->fail_from >= d->fail_times)
		return 0;
	d->failed = true;
	return d->fail_code;
}

static void resize(struct mem_disk *d, uint64_t bytes)
{
	if (bytes == d->now.size)
		return;
	log_event(d, EVENT_SIZE, bytes, NULL);
	content_resize(&d->now, bytes);
}

static struct mem_disk *lock_disk(struct vhd_io *io)
{
	struct mem_disk *d = ((struct mem_io *)io)->disk;

	pthread_mutex_lock(&d->mutex);
	return d;
}

/* The watcher may look at the disk: it is called without the mutex. */
static int unlock_disk(struct mem_disk *d, bool changed, int rc)
{
	void (*watch)(void *arg) = changed ? d->watch : NULL;
	void *arg = d->watch_arg;

	pthread_mutex_unlock(&d->mutex);
	if (watch)
		watch(arg);
	return rc;
}

static int mem_size(struct vhd_io *io, uint64_t *bytes)
{
	struct mem_disk *d = lock_disk(io);

	*bytes = d->now.size;
	return unlock_disk(d, false, 0);
}

static int mem_read(struct vhd_io *io, void *buf, size_t length, uint64_t offset)
{
	struct mem_disk *d = lock_disk(io);
	int rc = step(d);

	if (!rc && !number_within(offset, length, d->now.size))
		rc = -VHD_E_TRUNCATED;
	if (!rc)
		content_get(&d->now, buf, length, offset);
	return unlock_disk(d, false, rc);
}

static int mem_write(struct vhd_io *io, const void *buf, size_t length, uint64_t offset)
{
	struct mem_disk *d = lock_disk(io);
	uint64_t end = offset + length;
	int rc = io->writable ? step(d) : -EBADF;

	if (rc == -EBADF)
		return unlock_disk(d, false, rc);
	if (rc) {
		length = number_round_down(length / 2, SECTOR);
		end = offset + length;
	} else if (end > d->now.size && (d->device || (d->limit && end > d->limit))) {
		return unlock_disk(d, false, -ENOSPC);
	}
	if (length) {
		if (end > d->now.size)
			resize(d, end);
		content_put(&d->now, buf, length, offset);
		log_sectors(d, offset, end);
	}
	return unlock_disk(d, true, rc);
}

static int mem_sync(struct vhd_io *io)
{
	struct mem_disk *d = lock_disk(io);
	int rc = step(d);

	if (!rc) {
		for (uint64_t i = 0; i < d->events; i++)
			event_apply(&d->durable, &d->log[i]);
		content_settle(&d->durable);
	}
	log_drop(d, rc != 0);
	return unlock_disk(d, true, rc);
}

static int mem_truncate(struct vhd_io *io, uint64_t bytes)
{
	struct mem_disk *d = lock_disk(io);
	int rc = io->writable ? step(d) : -EBADF;

	if (!rc && bytes > d->now.size && (d->device || (d->limit && bytes > d->limit)))
		rc = -ENOSPC;
	if (!rc && !d->device)
		resize(d, bytes);
	return unlock_disk(d, !rc, rc);
}

static int mem_zero(struct vhd_io *io, uint64_t offset, uint64_t length)
{
	struct mem_disk *d = lock_disk(io);
	int rc = io->writable ? step(d) : -EBADF;
	uint64_t end = number_min(offset + length, d->now.size);

	if (rc || offset >= end)
		return unlock_disk(d, false, rc);
	assert(offset % SECTOR == 0);
	content_clear(&d->now, offset, end);
	for (uint64_t s = offset / SECTOR; s * SECTOR < end; s++) {
		if (page_find(&d->now, s * SECTOR / PAGE))
			log_event(d, EVENT_ZERO, s, NULL);
	}
	return unlock_disk(d, true, 0);
}

static int mem_data(struct vhd_io *io, uint64_t offset, uint64_t *start, uint64_t *end)
{
	struct mem_disk *d = lock_disk(io);
	uint64_t size = d->now.size, at = number_min(offset, size);

	while (at < size && !page_find(&d->now, at / PAGE))
		at = number_min(number_round_down(at, PAGE) + PAGE, size);
	*start = at;
	while (at < size && page_find(&d->now, at / PAGE))
		at = number_min(number_round_down(at, PAGE) + PAGE, size);
	*end = at;
	return unlock_disk(d, false, 0);
}

static int mem_lock(struct vhd_io *io, enum io_lock_mode mode, uint64_t start, uint64_t length)
{
	(void)io;
	(void)mode;
	(void)start;
	(void)length;
	return 0;
}

static void mem_holder(struct vhd_io *io, enum io_lock_mode mode, uint64_t start, uint64_t length,
		       char *buf, size_t room)
{
	(void)io;
	(void)mode;
	(void)start;
	(void)length;
	if (room)
		buf[0] = '\0';
}

static void mem_close(struct vhd_io *io)
{
	free(((struct mem_io *)io)->name);
	free(io);
}

static const struct vhd_io_ops mem_ops = {
	.size = mem_size,
	.read = mem_read,
	.write = mem_write,
	.sync = mem_sync,
	.truncate = mem_truncate,
	.punch = mem_zero,
	.zero = mem_zero,
	.data = mem_data,
	.lock = mem_lock,
	.holder = mem_holder,
	.close = mem_close,
};

/* ── disks ── */

struct mem_disk *mem_disk_new(uint64_t bytes, bool device)
{
	static uint64_t made;
	struct mem_disk *d = need(calloc(1, sizeof(*d)));

	pthread_mutex_init(&d->mutex, NULL);
	d->inode = __atomic_add_fetch(&made, 1, __ATOMIC_RELAXED);
	d->device = device;
	d->now.size = d->durable.size = bytes;
	return d;
}

struct mem_disk *mem_disk_copy(const struct mem_disk *disk)
{
	struct mem_disk *d = mem_disk_new(0, disk->device);

	content_copy(&d->now, &disk->now);
	content_copy(&d->durable, &disk->now);
	d->inode = disk->inode;
	return d;
}

void mem_disk_free(struct mem_disk *d)
{
	if (!d)
		return;
	log_drop(d, false);
	free(d->log);
	content_free(&d->now);
	content_free(&d->durable);
	pthread_mutex_destroy(&d->mutex);
	free(d);
}

struct vhd_io *mem_disk_open(struct mem_disk *disk, const char *name, bool writable)
{
	struct mem_io *io = calloc(1, sizeof(*io));

	if (!io)
		return NULL;
	io->name = strdup(name);
	if (!io->name) {
		free(io);
		return NULL;
	}
	io->disk = disk;
	io->base = (struct vhd_io){
		.ops = &mem_ops,
		.name = io->name,
		.writable = writable,
		.device = disk->device,
		.sector_bytes = SECTOR,
		.device_id = 1,
		.inode = disk->inode,
		.mtime = 1700000000,
	};
	return &io->base;
}

struct mem_disk *mem_disk_cut(const struct mem_disk *disk, enum mem_cut how, uint64_t seed)
{
	struct mem_disk *d = mem_disk_new(0, disk->device);
	struct rng rng = { seed };
	uint64_t sizes = 0, keep_sizes, keep, seen = 0;

	for (uint64_t i = 0; i < disk->events; i++)
		sizes += disk->log[i].kind == EVENT_SIZE;
	keep = how == MEM_CUT_PREFIX ? rng_below(&rng, disk->events + 1) : disk->events;
	keep_sizes = how == MEM_CUT_RANDOM ? rng_below(&rng, sizes + 1) : sizes;
	content_copy(&d->now, &disk->durable);
	for (uint64_t i = 0; i < keep && how != MEM_CUT_NONE; i++) {
		const struct event *e = &disk->log[i];

		if (e->kind == EVENT_SIZE ? seen++ < keep_sizes :
					    how != MEM_CUT_RANDOM || rng_chance(&rng, 50))
			event_apply(&d->now, e);
	}
	content_settle(&d->now);
	content_copy(&d->durable, &d->now);
	d->inode = disk->inode;
	return d;
}

uint64_t mem_disk_inode(const struct mem_disk *disk)
{
	return disk->inode;
}

void mem_io_set_name(struct vhd_io *io, char *name)
{
	struct mem_io *m = (struct mem_io *)io;

	free(m->name);
	m->name = name;
	io->name = name;
}

uint64_t mem_disk_pending(const struct mem_disk *disk)
{
	return disk->events;
}

uint64_t mem_disk_operations(const struct mem_disk *disk)
{
	return disk->operations;
}

void mem_disk_fail(struct mem_disk *disk, uint64_t nth, uint64_t times, int code)
{
	disk->fail_from = disk->operations + nth;
	disk->fail_times = times;
	disk->fail_code = code;
	disk->failed = false;
}

void mem_io_fail(struct vhd_io *io, int code)
{
	mem_disk_fail(((struct mem_io *)io)->disk, 0, 1, code);
}

bool mem_disk_failed(const struct mem_disk *disk)
{
	return disk->failed;
}

void mem_disk_limit(struct mem_disk *disk, uint64_t bytes)
{
	disk->limit = bytes;
}

void mem_disk_watch(struct mem_disk *disk, void (*fn)(void *arg), void *arg)
{
	disk->watch = fn;
	disk->watch_arg = arg;
}

uint64_t mem_disk_size(const struct mem_disk *disk)
{
	return disk->now.size;
}

void mem_disk_peek(const struct mem_disk *disk, void *buf, size_t length, uint64_t offset)
{
	content_get(&disk->now, buf, length, offset);
}

void mem_disk_poke(struct mem_disk *disk, const void *buf, size_t length, uint64_t offset)
{
	if (offset + length > disk->now.size)
		disk->now.size = offset + length;
	if (offset + length > disk->durable.size)
		disk->durable.size = offset + length;
	content_put(&disk->now, buf, length, offset);
	content_put(&disk->durable, buf, length, offset);
}
