/* mover.c - see mover.h */
#include "mover.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "base/number.h"
#include "bitmap.h"
#include "coalesce-state.h"
#include "confine.h"
#include "error.h"
#include "io-file.h"
#include "revert.h"
#include "zeros.h"

#define LOCK_WAIT_MS  5000
#define BUFFER_BYTES  (1u << 20)
#define GRAIN_BYTES   4096u
#define PENDING_BYTES (256ull << 20)
#define PENDING_MAX   8192u

/* ── opening ── */

static int refuse(const struct mover *m)
{
	const struct vhd_image *img = m->img;

	if (img->footer.saved)
		return error_set(
			m->err, -VHD_E_BUSY,
			"cannot %s '%s': a suspended machine uses it (saved state); resume "
			"and shut down that machine first",
			m->verb, img->io->name);
	return coalesce_state_refuse_top(img->io, img->footer.uuid, img->io->name, m->err);
}

int mover_open(struct mover *m, const char *path, enum lock_role role)
{
	char name[PATH_MAX];
	int rc = confine_real_name(path, name);

	if (rc < 0)
		return error_system(m->err, rc, "open", path);
	m->buffer = aligned_alloc(VHD_ALIGN, BUFFER_BYTES);
	m->pending = malloc(PENDING_MAX * sizeof(*m->pending));
	if (!m->buffer || !m->pending)
		return error_system(m->err, -ENOMEM, "open", path);
	rc = revert_open(name, IO_FILE_WRITE | (m->dry_run ? REVERT_NOTHING : 0), role, 0, NULL,
			 &m->img, m->err);
	return rc < 0 ? rc : refuse(m);
}

int mover_lock(struct mover *m, enum lock_role role)
{
	return lock_take(m->img->io, role, NULL, LOCK_WAIT_MS, NULL, m->err);
}

int mover_ask(struct mover *m)
{
	return image_may_write(m->img, 0, m->err);
}

int mover_begin(struct mover *m, uint64_t keep)
{
	m->img->no_reuse = true;
	m->img->keep = keep;
	return image_begin_write(m->img, 0, m->err);
}

int mover_reopen(struct mover *m)
{
	return image_reopen(&m->img, m->err);
}

void mover_close(struct mover *m)
{
	image_close(m->img);
	free(m->buffer);
	free(m->pending);
	m->img = NULL;
	m->buffer = NULL;
	m->pending = NULL;
}

/* ── copying ── */

int mover_step(struct mover *m, uint64_t done)
{
	const struct vhd_progress *p = m->progress;

	if (!p || !p->step || !p->step(p->arg, done, m->total))
		return 0;
	return error_set(m->err, -VHD_E_CANCELLED,
			 "it was interrupted: '%s' is whole; the same command goes on",
			 m->img->io->name);
}

/* What is not zero of [buffer, length), in whole grains: the target is. */
static int write_runs(struct mover *m, uint64_t length, uint64_t to)
{
	uint64_t at = 0;
	int rc = 0;

	while (!rc && at < length) {
		uint64_t from = at, n;

		while (at < length && (n = number_min(GRAIN_BYTES, length - at)) &&
		       !zeros_are(m->buffer + at, n))
			at += n;
		if (at > from)
			rc = io_write(m->img->io, m->buffer + from, at - from, to + from);
		else
			at += number_min(GRAIN_BYTES, length - at);
	}
	return rc;
}

/* [from, from + length) to a place that reads as zero. */
static int copy_range(struct mover *m, uint64_t from, uint64_t length, uint64_t to)
{
	struct vhd_io *io = m->img->io;
	uint64_t end = from + length, at = from, start, stop;
	int rc = 0;

	while (!rc && at < end) {
		if (at < m->data || at >= m->data_end)
			rc = io_data(io, at, &m->data, &m->data_end);
		start = m->data;
		if (rc < 0 || start >= m->data_end || start >= end)
			break;
		stop = number_min(m->data_end, end);
		for (at = number_max(at, start); !rc && at < stop;) {
			uint64_t n = number_min(BUFFER_BYTES, stop - at);

			rc = io_read(io, m->buffer, n, at);
			if (!rc)
				rc = write_runs(m, n, to + (at - from));
			m->copied += n;
			at += n;
		}
	}
	return rc;
}

/* The bitmap is the map's business, but it gets its storage now: a full disk must show while the
 * move can be cancelled, not in the commit. */
static int copy_bitmap(struct mover *m, uint64_t from, uint64_t bytes, uint64_t place)
{
	int rc = io_read(m->img->io, m->buffer, bytes, from);

	return rc ? rc : io_write(m->img->io, m->buffer, bytes, place);
}

static int copy_block(struct mover *m, uint64_t from, uint64_t place, bool chosen)
{
	struct vhd_io *io = m->img->io;
	uint64_t bitmap = (uint64_t)bitmap_sectors(m->img->block_sectors) * VHD_SECTOR;
	int rc = 0;

	if (chosen) /* the map's own places read as zero, others may hold anything */
		rc = io_punch(io, place, bitmap + m->img->header.block_size);
	if (!rc)
		rc = copy_bitmap(m, from, bitmap, place);
	if (!rc)
		rc = copy_range(m, from + bitmap, m->img->header.block_size, place + bitmap);
	return rc < 0 ? error_system(m->err, rc, m->verb, io->name) : 0;
}

static void cancel_all(struct mover *m, int lost)
{
	while (m->count) {
		image_move_cancel(m->img, m->pending[--m->count], lost);
		lost = 0;
	}
	m->pending_bytes = 0;
}

int mover_move(struct mover *m, uint32_t block, uint64_t to)
{
	uint64_t from, place;
	int rc = image_move(m->img, block, to, &from, &place, m->err);

	if (rc <= 0)
		return rc;
	m->pending[m->count++] = block;
	m->pending_bytes += m->img->header.block_size;
	m->place = place;
	rc = copy_block(m, from, place, to != 0);
	if (rc == -ENOSPC && m->count > 1) { /* those before it leave theirs: then once more */
		image_move_cancel(m->img, m->pending[--m->count], 0);
		rc = mover_commit(m);
		return rc < 0 ? rc : mover_move(m, block, to);
	}
	if (rc < 0)
		return rc;
	if (m->pending_bytes >= PENDING_BYTES || m->count == PENDING_MAX)
		return mover_commit(m);
	return 0;
}

int mover_commit(struct mover *m)
{
	int rc = m->count ? io_sync(m->img->io) : 0;

	if (rc < 0) { /* ORDER 5, 23: the copies may be lost, and whatever else was written */
		cancel_all(m, rc);
		return error_system(m->err, rc, "flush", m->img->io->name);
	}
	while (m->count && !rc) {
		rc = image_moved(m->img, m->pending[m->count - 1], m->err);
		m->count--;
		m->moved += !rc;
	}
	m->pending_bytes = 0;
	return rc < 0 ? rc : image_settle(m->img, m->err);
}

int mover_end(struct mover *m, int rc)
{
	if (!m->img || !m->img->map || !m->img->writing)
		return rc;
	if (!rc)
		rc = mover_commit(m);
	cancel_all(m, 0);
	if (!rc)
		return image_finish(m->img, m->err);
	(void)!image_finish(m->img, NULL);
	return rc;
}
