/* coalesce.c - merging a child into one of its parents
 *
 * First all extents of the sources are listed: what cannot be read, or does
 * not fit, is known before anything is written.  Then a note is made beside
 * the target (coalesce-state.h), and the data moves in order: workers read,
 * the owner reserves places, workers write.  Every so often all of it is made
 * durable and the note's cursor moves (ORDER 14).  Last the target gets its
 * final shape and the note goes.
 *  I1  the child is never written; through it the chain is right at every instant
 *  I2  the note exists, durably, from before the first write until after the last sync
 *  I3  the cursor is never ahead of what is durable in the target
 * A crash leaves the note; the same command finishes the work.
 */
#include <errno.h>
#include <string.h>

#include "base/number.h"
#include "bitmap.h"
#include "coalesce-grow.h"
#include "coalesce-layers.h"
#include "copy.h"
#include "error.h"
#include "io-file.h"

#define EXTENTS	  64
#define JOBS	  6u
#define JOB_BYTES (512u << 10) /* about what stays in a processor's cache until it is written */
#define RUN_MAX	  (1u << 20)   /* bytes of one segment */
#ifndef COMMIT_BYTES	       /* smaller in tests */
#define COMMIT_BYTES (512ull << 20)
#endif
#define PUSH_RUN_MIN   (32ull << 10)  /* bytes of a run on average */
#define DIRECT_RUN_MIN (256ull << 10) /* bytes of a run on average */
#define FNV_BASIS      0xcbf29ce484222325ull
#define FNV_PRIME      0x100000001b3ull

struct merge {
	struct coalesce_layers l;
	const struct vhd_coalesce_options *o;
	struct vhd_coalesce_result *result;
	struct vhd_error *err;
	struct copier *copier;
	unsigned flying;
	struct vhd_io *direct; /* owned; the target without cache, for large runs; or NULL */
	uint64_t total;	       /* sectors to write */
	uint64_t runs;	       /* that they lie in */
	uint64_t cursor;       /* sectors: all below is handed out */
	uint64_t uncommitted;  /* bytes written since the last commit */
	uint64_t base_merged;  /* sectors merged before this run */
};

/* ── what is to be done ── */

static uint64_t hash_add(uint64_t hash, const void *data, size_t length)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ p[i]) * FNV_PRIME;
	return hash;
}

/* Changes when a source changes: a merge that finds another one begins anew. */
static uint64_t fingerprint(const struct coalesce_layers *l)
{
	uint64_t hash = FNV_BASIS;

	for (unsigned i = 0; i < l->target; i++) {
		const struct vhd_image *img = l->images[i];

		hash = hash_add(hash, img->footer.uuid, VHD_UUID_BYTES);
		hash = hash_add(hash, &img->size, sizeof(img->size));
		hash = hash_add(hash, &img->totals.allocated, sizeof(img->totals.allocated));
		hash = hash_add(hash, &img->totals.end_sector, sizeof(img->totals.end_sector));
		hash = hash_add(hash, &img->io->mtime, sizeof(img->io->mtime));
	}
	return hash ? hash : 1;
}

/* Must the zero behind a source's end be written?  Not where the target has no
 * block to hide, nor behind its own end. */
static int zero_needed(struct merge *m, uint64_t sector, uint64_t *count, bool *needed)
{
	struct vhd_image *target = coalesce_layers_target(&m->l);
	uint64_t size = number_div_up(target->size, VHD_SECTOR);
	struct map_ext e;
	int rc;

	*needed = false;
	if (sector >= size)
		return 0;
	*count = number_min(*count, size - sector);
	rc = image_lookup(target, sector, *count, &e, 1, m->err);
	if (rc < 0)
		return rc;
	*count = e.count;
	*needed = e.kind != EXT_ZERO;
	return 0;
}

/* List everything once: sectors in sources, and whether they fit. */
static int survey(struct merge *m)
{
	struct vhd_image *target = coalesce_layers_target(&m->l);
	uint64_t end = m->l.images[0]->size / VHD_SECTOR;
	uint64_t room = number_div_up(target->size, VHD_SECTOR);

	for (uint64_t at = 0; at < end;) {
		struct view_ext ext[EXTENTS];
		int n = coalesce_layers_lookup(&m->l, at, end - at, ext, EXTENTS, m->err);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			if (ext[i].kind == VIEW_DATA && ext[i].layer != m->l.target) {
				if (ext[i].sector + ext[i].count > room)
					return coalesce_grow_refuse(&m->l,
								    number_max(ext[i].sector, room),
								    m->err);
				m->total += ext[i].count;
				m->runs++;
			}
			at = ext[i].sector + ext[i].count;
		}
	}
	return 0;
}

/* ── moving ── */

static int step(struct merge *m)
{
	uint64_t done = (m->base_merged + m->result->sectors) * VHD_SECTOR;

	if (!m->o->progress.step ||
	    !m->o->progress.step(m->o->progress.arg, done, m->total * VHD_SECTOR))
		return 0;
	return error_set(
		m->err, -VHD_E_CANCELLED,
		"merging into '%s' was interrupted; run the same command again to finish it",
		coalesce_layers_target(&m->l)->io->name);
}

/* With skip_zeros: zeros are not written where zero is already.  An absent
 * sector of a target with a parent may be anything. */
static bool skippable(struct merge *m, const struct copy_segment *s)
{
	struct map_ext e;

	return s->skip &&
	       image_lookup(coalesce_layers_target(&m->l), s->to_offset / VHD_SECTOR,
			    s->length / VHD_SECTOR, &e, 1, NULL) == 1 &&
	       e.kind == EXT_ZERO && e.count == s->length / VHD_SECTOR;
}

/* Places for what was read.  A segment never crosses a block of the target. */
static int reserve(struct merge *m, struct copy_job *job)
{
	for (unsigned i = 0; i < job->count; i++) {
		struct copy_segment *s = &job->segment[i];
		struct map_req *req = &job->req[job->reqs];
		struct map_ext e;
		int rc;

		if (skippable(m, s))
			continue;
		s->skip = false;
		memset(req, 0, sizeof(*req));
		req->sector = s->to_offset / VHD_SECTOR;
		req->count = s->length / VHD_SECTOR;
		rc = image_reserve(coalesce_layers_target(&m->l), req, &e, 1, m->err);
		if (rc < 0)
			return rc;
		job->reqs++;
		s->to_offset = e.file_sector * VHD_SECTOR;
	}
	return 0;
}

static void cancel(struct merge *m, struct copy_job *job)
{
	for (unsigned i = 0; i < job->reqs; i++)
		image_cancel(coalesce_layers_target(&m->l), &job->req[i]);
	job->reqs = 0;
}

static int collect(struct merge *m)
{
	struct copy_job *job = copy_collect(m->copier);
	int rc = 0;

	m->flying--;
	m->result->bytes_read += job->step == COPY_READ ? job->read : 0;
	if (job->err)
		rc = copy_job_error(job, coalesce_layers_target(&m->l)->io, m->err);
	else if (job->step == COPY_READ)
		rc = reserve(m, job);
	if (!rc && job->step == COPY_READ) {
		job->step = COPY_WRITE;
		copy_submit(m->copier, job);
		m->flying++;
		return 0;
	}
	if (rc < 0) {
		cancel(m, job);
	} else {
		for (unsigned i = 0; i < job->reqs; i++)
			image_written(coalesce_layers_target(&m->l), &job->req[i]);
		m->result->bytes_written += job->written;
		m->uncommitted += job->written;
		m->result->sectors += job->cookie;
		rc = step(m);
	}
	copy_put(m->copier, job);
	return rc;
}

static int drain(struct merge *m)
{
	int rc = 0;

	while (m->flying) {
		int one = collect(m);

		if (!rc)
			rc = one;
	}
	return rc;
}

/* All that was handed out is durable, then the cursor says so. */
static int commit(struct merge *m)
{
	int rc = drain(m);

	if (!rc)
		rc = image_flush(coalesce_layers_target(&m->l), m->err);
	if (!rc)
		rc = coalesce_state_advance(&m->l.state, m->cursor,
					    m->base_merged + m->result->sectors, m->err);
	m->uncommitted = 0;
	return rc;
}

static int take_job(struct merge *m, struct copy_job **job)
{
	while (!(*job = copy_take(m->copier))) {
		int rc = collect(m);

		if (rc < 0)
			return rc;
	}
	(*job)->step = COPY_READ;
	/* the commits wait for all of it; not page by page, which costs more than it saves */
	(*job)->push = m->total >= m->runs * (PUSH_RUN_MIN / VHD_SECTOR);
	(*job)->skip_zeros = m->o->skip_zeros;
	return 0;
}

static int submit(struct merge *m, struct copy_job **job)
{
	if (!*job)
		return 0;
	if ((*job)->count) {
		copy_submit(m->copier, *job);
		m->flying++;
	} else {
		copy_put(m->copier, *job);
	}
	*job = NULL;
	return m->uncommitted >= COMMIT_BYTES ? commit(m) : 0;
}

/* Add [sector, sector + count) of @from (NULL: zeros) to jobs, in segments that
 * do not cross blocks of the target. */
static int add_run(struct merge *m, struct copy_job **job, struct vhd_io *from, uint64_t offset,
		   uint64_t sector, uint64_t count)
{
	const struct vhd_image *target = coalesce_layers_target(&m->l);
	uint64_t unit = target->map ? target->block_sectors : RUN_MAX / VHD_SECTOR;

	while (count) {
		uint64_t n = number_min(number_min(count, unit - sector % unit),
					RUN_MAX / VHD_SECTOR);
		struct copy_segment s = { .from = from,
					  .from_offset = offset,
					  .to = m->direct ? m->direct : target->io,
					  .to_offset = sector * VHD_SECTOR,
					  .length = (uint32_t)n * VHD_SECTOR };
		int rc = *job ? 0 : take_job(m, job);

		if (rc < 0)
			return rc;
		if ((*job)->bytes >= JOB_BYTES || !copy_add(*job, &s)) {
			rc = submit(m, job);
			if (rc < 0)
				return rc;
			continue;
		}
		if (from)
			(*job)->cookie += n;
		sector += n;
		count -= n;
		offset += n * VHD_SECTOR;
		m->cursor = sector;
	}
	return 0;
}

static int add_zeros(struct merge *m, struct copy_job **job, uint64_t sector, uint64_t count)
{
	while (count) {
		uint64_t here = count;
		bool needed = false;
		int rc = zero_needed(m, sector, &here, &needed);

		if (!rc && needed)
			rc = add_run(m, job, NULL, 0, sector, here);
		if (rc < 0)
			return rc;
		sector += here;
		count -= here;
	}
	return 0;
}

/* Beyond the end that the target had, its own parent must not come to light. */
static int hide(struct merge *m, struct copy_job **job, const struct view_ext *e)
{
	uint64_t from = number_max(e->sector, m->l.hide_from);
	uint64_t to = number_min(e->sector + e->count, m->l.hide_to);

	return from < to ? add_zeros(m, job, from, to - from) : 0;
}

static int add_extent(struct merge *m, struct copy_job **job, const struct view_ext *e)
{
	if (e->kind == VIEW_ZERO)
		return add_zeros(m, job, e->sector, e->count);
	if (e->layer == m->l.target)
		return hide(m, job, e);
	return add_run(m, job, m->l.images[e->layer]->io, e->file_sector * VHD_SECTOR, e->sector,
		       e->count);
}

/* The caller said stop: what was begun is completed and recorded, so that the next
 * run goes on from here. */
static void stop_early(struct merge *m, struct copy_job **job)
{
	int rc = 0;

	if (*job && (*job)->count) {
		copy_submit(m->copier, *job);
		m->flying++;
	} else if (*job) {
		copy_put(m->copier, *job);
	}
	*job = NULL;
	while (m->flying) {
		int one = collect(m);

		if (one < 0 && one != -VHD_E_CANCELLED)
			rc = one;
	}
	if (!rc)
		(void)commit(m);
}

static int move(struct merge *m)
{
	uint64_t end = m->l.images[0]->size / VHD_SECTOR;
	struct copy_job *job = NULL;
	int rc = 0;

	for (uint64_t at = m->cursor; at < end && !rc;) {
		struct view_ext ext[EXTENTS];
		int n = coalesce_layers_lookup(&m->l, at, end - at, ext, EXTENTS, m->err);

		if (n < 0)
			rc = n;
		for (int i = 0; i < n && !rc; i++) {
			rc = add_extent(m, &job, &ext[i]);
			at = ext[i].sector + ext[i].count;
		}
	}
	if (!rc)
		rc = submit(m, &job);
	if (rc < 0) {
		struct vhd_error *kept = m->err; /* the first error is the one to tell */

		m->err = NULL;
		if (rc == -VHD_E_CANCELLED)
			stop_early(m, &job);
		if (job)
			copy_put(m->copier, job);
		(void)drain(m);
		m->err = kept;
		return rc;
	}
	return drain(m);
}

/* ── the whole ── */

/* Where to begin: at the cursor of a note that still fits, else at 0. */
static int begin_state(struct merge *m)
{
	struct coalesce_state *s = &m->l.state;
	uint64_t print = fingerprint(&m->l);
	const struct vhd_image *target = coalesce_layers_target(&m->l);
	size_t length = strlen(m->l.images[0]->io->name);

	if (s->path) {
		int rc = coalesce_state_resume(s, m->err);

		if (rc < 0)
			return rc;
		m->result->resumed = true;
		if (s->fingerprint == print) {
			m->cursor = s->cursor;
			m->base_merged = s->merged;
		}
		return 0;
	}
	s->fingerprint = print;
	memcpy(s->child_id, m->l.images[0]->footer.uuid, VHD_UUID_BYTES);
	if (target->type != VHD_TYPE_RAW)
		memcpy(s->target_id, target->footer.uuid, VHD_UUID_BYTES);
	if (length >= sizeof(s->child))
		length = sizeof(s->child) - 1;
	memcpy(s->child, m->l.images[0]->io->name, length);
	s->child[length] = 0;
	return coalesce_state_create(s, target->io, m->err);
}

/* Large runs go past the page cache: the commits then find little to wait for, and the cache
 * keeps what others need.  Small ones are better gathered there, and so are those that
 * would share pages with other things. */
static void open_direct(struct merge *m)
{
	const struct vhd_image *target = coalesce_layers_target(&m->l);
	bool aligned = !target->map || !target->totals.allocated ||
		       (target->totals.lowest_sector + bitmap_sectors(target->block_sectors)) %
				       (VHD_ALIGN / VHD_SECTOR) ==
			       0;

	if (!aligned || m->total < m->runs * (DIRECT_RUN_MIN / VHD_SECTOR) ||
	    io_file_again(target->io, IO_FILE_WRITE | IO_FILE_DIRECT, &m->direct) < 0)
		return;
	if (!m->direct->direct) {
		io_close(m->direct);
		m->direct = NULL;
	}
}

static int run(struct merge *m)
{
	struct vhd_image *target = coalesce_layers_target(&m->l);
	int rc = image_begin_write(target, 0, m->err);

	if (!rc)
		rc = coalesce_grow_begin(&m->l, m->l.state.path, m->err);
	if (!rc)
		rc = begin_state(m);
	if (!rc) {
		open_direct(m);
		rc = copy_start(copy_threads(m->direct ? m->direct : target->io), JOBS, &m->copier);
		if (rc < 0)
			error_system(m->err, rc, "coalesce", target->io->name);
	}
	if (!rc)
		rc = move(m);
	copy_stop(m->copier);
	io_close(m->direct);
	/* after a failure as well: blocks that have data are named, or their space is lost */
	if (!rc)
		rc = image_finish(target, m->err);
	else if (target->writing)
		(void)!image_finish(target, NULL);
	if (!rc)
		rc = coalesce_grow_end(&m->l, m->err);
	if (!rc)
		rc = coalesce_state_remove(&m->l.state, m->err);
	m->result->sectors += m->base_merged;
	return rc;
}

int vhd_coalesce(const char *child, const struct vhd_coalesce_options *options,
		 struct vhd_coalesce_result *result, struct vhd_error *err)
{
	struct vhd_coalesce_result unused;
	struct merge m = { .o = options, .result = result ? result : &unused, .err = err };
	const struct vhd_image *target;
	int rc;

	memset(m.result, 0, sizeof(*m.result));
	rc = coalesce_layers_open(&m.l, child, options, err);
	if (!rc) {
		target = coalesce_layers_target(&m.l);
		strncpy(m.result->into, target->io->name, sizeof(m.result->into) - 1);
		m.result->levels = m.l.target;
		rc = target->type == VHD_TYPE_RAW ?
			     0 :
			     image_load(coalesce_layers_target(&m.l), 0, err);
	}
	if (!rc)
		rc = survey(&m);
	if (!rc && options->dry_run)
		m.result->sectors = m.total;
	else if (!rc)
		rc = run(&m);
	coalesce_layers_release(&m.l);
	return rc;
}
