/* changes.c - which blocks of a disk are written: a changed-block log beside a VBD
 *
 *   mark ─► bits, dirty pages ─► wait ─► commit: pages ─► sync ─► done
 *
 * A commit writes the pages that are dirty, one run after the other, from the live array: bits are
 * only ever set, so a page can say too much, never too little; one that changes meanwhile is dirty
 * again.  One commit at a time; who comes while bits are dirty waits for the next.
 *  I1  a bit is in the array before its write goes to the disk
 *  I2  a clean page is in the file, or in the commit under way
 *  I3  there is a commit under way only while somebody waits for it
 */
#include "changes.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/number.h"
#include "libvhd/cbt.h"
#include "libvhd/error.h"
#include "libvhd/io-file.h"

#define PAGE_BYTES 4096u

/* A thread that tells the file's header of a growth.  Shared by it and the log, which may end
 * meanwhile. */
struct growth {
	struct loop_work work;
	pthread_mutex_t lock;
	struct cbt *cbt; /* NULL: ended */
	uint64_t size;
	atomic_bool finished;
	atomic_uint users;
};

struct changes {
	struct cbt cbt;
	uint64_t size;	/* of the disk */
	uint64_t bytes; /* of the bitmap */
	uint8_t *bits;	/* owned */
	bool *dirty;	/* owned; by pages of the bitmap */
	bool any_dirty; /* some page is, or is in the commit under way and changed since */
	bool grown;	/* the file does not know yet */
	bool lost;
	struct growth *growth; /* the last one begun; or NULL */
	struct loop *loop;     /* borrowed */
	struct engine *engine; /* borrowed */
	struct retry *retry;   /* borrowed */
	struct engine_file *file;
	void (*lost_told)(void *owner, const char *text);
	void *owner;
	/* the commit under way */
	bool busy;
	uint64_t page; /* pages before this one are written */
	struct engine_io io;
	struct list current, next; /* who waits for it, and for the one after */
};

static uint64_t pages_of(uint64_t bytes)
{
	return number_div_up(bytes, PAGE_BYTES);
}

/* ── the header of a log that grows ── */

static void growth_put(struct growth *g)
{
	if (!g || atomic_fetch_sub(&g->users, 1) > 1)
		return;
	pthread_mutex_destroy(&g->lock);
	free(g);
}

static void growth_work(struct loop_work *work)
{
	struct growth *g = list_entry(work, struct growth, work);

	pthread_mutex_lock(&g->lock);
	/* what fails is tried again at the end */
	if (g->cbt)
		(void)!cbt_grow(g->cbt, g->size, NULL);
	pthread_mutex_unlock(&g->lock);
	atomic_store(&g->finished, true);
}

static void growth_done(struct loop_work *work)
{
	growth_put(list_entry(work, struct growth, work));
}

/* All bits of the disk as it is now are in the file: the header may say so. */
static void growth_start(struct changes *c)
{
	struct growth *g;

	if (c->growth && (c->growth->size == c->size || !atomic_load(&c->growth->finished)))
		return;
	g = calloc(1, sizeof(*g));
	if (!g)
		return;
	pthread_mutex_init(&g->lock, NULL);
	g->work = (struct loop_work){ .work = growth_work, .done = growth_done };
	g->cbt = &c->cbt;
	g->size = c->size;
	atomic_store(&g->users, 2);
	growth_put(c->growth);
	c->growth = g;
	if (loop_work_start(c->loop, &g->work) < 0)
		growth_put(g); /* nobody does it: the end will */
}

/* Blocking: no thread uses the file any more. */
static void growth_end(struct changes *c)
{
	if (!c->growth)
		return;
	pthread_mutex_lock(&c->growth->lock);
	c->growth->cbt = NULL;
	pthread_mutex_unlock(&c->growth->lock);
	growth_put(c->growth);
	c->growth = NULL;
}

/* ── opening and ending ── */

static void free_changes(struct changes *c)
{
	cbt_close(&c->cbt);
	free(c->bits);
	free(c->dirty);
	free(c);
}

/* Room for a disk of @size bytes: what is new is clear and dirty. */
static int make_room(struct changes *c, uint64_t size)
{
	uint64_t bytes = cbt_bitmap_bytes(size), old = c->bytes;
	uint64_t pages = pages_of(bytes), old_pages = pages_of(old);
	uint8_t *bits = realloc(c->bits, bytes ? bytes : 1);
	bool *dirty = bits ? realloc(c->dirty, pages ? pages * sizeof(*dirty) : 1) : NULL;

	if (bits)
		c->bits = bits;
	if (!dirty)
		return -ENOMEM;
	c->dirty = dirty;
	if (bytes > old)
		memset(bits + old, 0, bytes - old);
	for (uint64_t p = old_pages; p < pages; p++)
		dirty[p] = true;
	if (old % PAGE_BYTES && bytes > old)
		dirty[old_pages - 1] = true;
	c->any_dirty = c->any_dirty || bytes > old;
	c->bytes = bytes;
	c->size = size;
	return 0;
}

/* So that a full disk shows now and not when a guest waits. */
static int reserve(struct changes *c)
{
	int fd = io_file_fd(c->cbt.io), rc;

	if (c->cbt.io->device || fd < 0)
		return 0;
	while ((rc = fallocate(fd, 0, 0, (off_t)(CBT_HEADER_BYTES + c->bytes))) < 0 &&
	       errno == EINTR)
		;
	return rc < 0 && errno == ENOSPC ? -ENOSPC : 0;
}

static int load(struct changes *c, uint64_t size, struct vhd_error *err)
{
	int rc = make_room(c, size);

	if (rc == 0)
		rc = reserve(c);
	if (rc < 0)
		return error_system(err, rc, "log to", c->cbt.io->name);
	rc = cbt_read(&c->cbt, c->bits, c->bytes, 0, err);
	memset(c->dirty, 0, pages_of(c->bytes) * sizeof(*c->dirty));
	c->any_dirty = false;
	/* as in the file; but of one that could not be written at some time that may be only in memory */
	for (uint64_t i = 0; !c->cbt.was_consistent && i < c->bytes; i++) {
		c->dirty[i / PAGE_BYTES] |= c->bits[i] != 0;
		c->any_dirty |= c->bits[i] != 0;
	}
	return rc;
}

int changes_open(const char *path, uint64_t size, struct changes **out, struct vhd_error *err)
{
	struct changes *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return error_system(err, -ENOMEM, "log to", path);
	list_init(&c->current);
	list_init(&c->next);
	rc = cbt_open(path, true, &c->cbt, err);
	if (rc == 0)
		rc = cbt_begin(&c->cbt, size, err);
	if (rc == 0) {
		rc = load(c, size, err);
		/* nothing was logged, nothing missed */
		if (rc < 0)
			(void)!cbt_end(&c->cbt, true, NULL);
	}
	if (rc < 0) {
		free_changes(c);
		return rc;
	}
	*out = c;
	return 0;
}

int changes_start(struct changes *c, struct loop *loop, struct engine *engine, struct retry *retry,
		  void (*lost)(void *owner, const char *text), void *owner)
{
	struct engine_file_params p = {
		.fd = io_file_fd(c->cbt.io),
		.buffered_fd = -1,
		.device = c->cbt.io->device,
		.writable = true,
	};

	c->loop = loop;
	c->engine = engine;
	c->retry = retry;
	c->lost_told = lost;
	c->owner = owner;
	return engine_file_open(engine, &p, &c->file);
}

void changes_distrust(struct changes *c)
{
	c->lost = true;
}

void changes_stop(struct changes *c)
{
	assert(!c->busy);
	engine_file_close(c->file);
	c->file = NULL;
}

/* What is dirty, by plain writes. */
static int write_rest(struct changes *c, struct vhd_error *err)
{
	uint64_t pages = pages_of(c->bytes);
	int rc = 0;

	for (uint64_t p = 0; rc == 0 && p < pages; p++) {
		uint64_t at = p * PAGE_BYTES;

		if (c->dirty[p])
			rc = io_write(c->cbt.io, c->bits + at,
				      number_min(PAGE_BYTES, c->bytes - at), CBT_HEADER_BYTES + at);
	}
	if (rc < 0)
		return error_system(err, rc, "write", c->cbt.io->name);
	/* all that is new is in the file now: a page that was added was dirty */
	return c->grown ? cbt_grow(&c->cbt, c->size, err) : 0;
}

int changes_end(struct changes *c, struct vhd_error *err)
{
	int rc = 0;

	if (!c)
		return 0;
	assert(!c->file);
	growth_end(c);
	if (!c->lost)
		rc = write_rest(c, err);
	if (rc == 0)
		rc = cbt_end(&c->cbt, !c->lost, err);
	free_changes(c);
	return rc;
}

bool changes_is_lost(const struct changes *c)
{
	return c->lost;
}

/* ── bits ── */

void changes_mark(struct changes *c, uint64_t offset, uint64_t length)
{
	uint64_t last = (offset + length - 1) / CBT_BLOCK_BYTES;

	for (uint64_t k = offset / CBT_BLOCK_BYTES; k <= last; k++) {
		uint8_t bit = (uint8_t)(1u << (k % 8));

		if (c->bits[k / 8] & bit)
			continue;
		c->bits[k / 8] |= bit;
		c->dirty[k / 8 / PAGE_BYTES] = true;
		c->any_dirty = true;
	}
}

void changes_grow(struct changes *c, uint64_t size)
{
	assert(!c->busy);
	if (size <= c->size || c->lost)
		return;
	if (cbt_bitmap_bytes(size) > c->bytes && make_room(c, size) < 0) {
		c->lost = true; /* where it ends nothing could be marked */
		c->lost_told(c->owner, "no memory to follow the disk's growth");
		return;
	}
	c->size = size;
	c->grown = true;
}

/* ── commits ── */

static void step(struct changes *c);

static void commit(struct changes *c)
{
	assert(!c->busy && list_empty(&c->current));
	c->busy = true;
	c->any_dirty = false;
	c->page = 0;
	list_splice(&c->current, &c->next);
	step(c);
}

/* It is over, well, or not (@err), or for good. */
static void committed(struct changes *c, int err)
{
	struct list over, *l;

	list_init(&over);
	list_splice(&over, &c->current);
	c->busy = false;
	if (c->grown && !c->lost && !err)
		growth_start(c);
	if (c->lost || err)
		list_splice(&over, &c->next);
	else if (!list_empty(&c->next))
		commit(c);
	while ((l = list_pop(&over))) {
		struct changes_wait *w = list_entry(l, struct changes_wait, link);

		w->err = err;
		w->done(w);
	}
}

/* What was to be written is dirty again. */
static void take_back(struct changes *c)
{
	uint64_t from = (c->io.offset - CBT_HEADER_BYTES) / PAGE_BYTES;

	for (uint64_t p = from; p < c->page; p++)
		c->dirty[p] = true;
	c->any_dirty = true;
}

static void give_up(struct changes *c, int err)
{
	char text[512];

	c->lost = true;
	snprintf(text, sizeof(text), "cannot write the changed-block log '%s': %s; it is given up",
		 c->cbt.io->name, strerror(-err));
	c->lost_told(c->owner, text);
}

static void stepped(struct engine_io *io)
{
	struct changes *c = list_entry(io, struct changes, io);

	if (io->err == -ECANCELED && io->op == ENGINE_WRITE) {
		take_back(c);
		committed(c, -ECANCELED);
		return;
	}
	if (io->err)
		give_up(c, io->err);
	if (io->err || io->op == ENGINE_SYNC)
		committed(c, 0);
	else
		step(c);
}

/* The next run of dirty pages, or the sync after the last. */
static void step(struct changes *c)
{
	uint64_t pages = pages_of(c->bytes), from, to;

	for (from = c->page; from < pages && !c->dirty[from]; from++)
		;
	for (to = from; to < pages && c->dirty[to]; to++)
		c->dirty[to] = false;
	c->page = to;
	c->io = (struct engine_io){ .file = c->file, .done = stepped };
	if (from == to) {
		c->io.op = ENGINE_SYNC;
	} else {
		c->io.op = ENGINE_WRITE;
		c->io.retry = c->retry; /* a sync has none: ORDER 5 */
		c->io.buf = c->bits + from * PAGE_BYTES;
		c->io.offset = CBT_HEADER_BYTES + from * PAGE_BYTES;
		c->io.length = number_min(to * PAGE_BYTES, c->bytes) - from * PAGE_BYTES;
	}
	engine_submit(c->engine, &c->io);
}

bool changes_wait(struct changes *c, struct changes_wait *wait)
{
	if (c->lost || (!c->busy && !c->any_dirty))
		return false;
	/* without dirty bits all are in the commit under way */
	list_append(c->any_dirty ? &c->next : &c->current, &wait->link);
	if (!c->busy)
		commit(c);
	return true;
}
