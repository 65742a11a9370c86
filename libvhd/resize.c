/* resize.c - disks made larger or smaller
 *
 *   larger:   a longer table, if there are not enough entries (resize-room) ──► what is new reads as
 *             zero ──► the size in the footers
 *   smaller:  nothing but zeros is cut, or it was told to ──► blocks behind the end freed ──► the
 *             size in the footers ──► a table that is as long as it has to be, if it was before
 *   smaller, with a parent: zeros where data is cut ──► the size in the footers ──► blocks behind
 *             the end freed (before, what is below would show) ──► as above
 *
 * Each step leaves an image that needs nothing: a crash anywhere leaves the old size or the new
 * one, and maybe blocks that have been moved already.  So there is no journal to play back; where
 * one is asked for it says what the size was, so that `revert` can return to it.  Only a fixed
 * image that becomes larger needs that itself.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/number.h"
#include "below.h"
#include "error.h"
#include "grow.h"
#include "journal-note.h"
#include "journal.h"
#include "merging.h"
#include "parent.h"
#include "plan.h"
#include "resize-cut.h"
#include "resize-fixed.h"
#include "resize-room.h"
#include "sweep.h"
#include "unlock.h"

#define EXTENTS 64

struct resize {
	struct mover m;
	const struct vhd_resize_options *o;
	struct vhd_resize_result *result;
	struct room room;
	struct below *below; /* whose data the old end hides; or NULL */
	uint64_t old;
	bool exact; /* the table has no spare entries */
	struct vhd_error *err;
};

static bool is_sparse(const struct resize *r)
{
	return footer_is_sparse(&r->m.img->footer);
}

static uint32_t entries_for(const struct resize *r, uint64_t size)
{
	return (uint32_t)number_div_up(size, r->m.img->header.block_size);
}

static int too_big(const char *path, uint64_t size, struct vhd_error *err)
{
	plan_too_big(size, err);
	error_prefix(err, "cannot resize '%s'", path);
	return -VHD_E_TOO_BIG;
}

static int check_size(const char *path, uint64_t size, struct vhd_error *err)
{
	if (!size || size % VHD_SECTOR)
		return error_set(err, -VHD_E_ARGUMENT,
				 "cannot resize '%s' to %llu bytes: the size must be a multiple of "
				 "512, and not 0",
				 path, (unsigned long long)size);
	if (size > VHD_SIZE_MAX)
		return too_big(path, size, err);
	return 0;
}

/* ── larger ── */

static bool is_encrypted(const struct resize *r)
{
	return image_is_encrypted(r->m.img);
}

/* With a key the rest of the last block cannot be made to read as zero. */
static int refuse_cipher(struct resize *r)
{
	const struct vhd_image *img = r->m.img;
	uint32_t entry;
	int rc;

	if (!is_encrypted(r) || !(r->old % img->header.block_size))
		return 0;
	rc = image_bat_entry(r->m.img, entries_for(r, r->old) - 1, &entry, r->err);
	if (rc < 0 || entry == VHD_BAT_UNUSED)
		return rc;
	return error_set(r->err, -VHD_E_ENCRYPTED,
			 "cannot enlarge '%s': it is encrypted, and its last block is not whole; "
			 "copy it to a larger image",
			 img->io->name);
}

static int plan_larger(struct resize *r)
{
	struct vhd_image *img = r->m.img;
	uint32_t entries = entries_for(r, r->o->size);
	int rc = refuse_cipher(r);

	if (!rc && image_has_parent(img))
		rc = below_open(img, &r->o->parents, &r->below, r->err);
	if (rc < 0)
		return rc;
	if (r->below && below_size(r->below) <= r->old) {
		below_close(r->below);
		r->below = NULL;
	}
	if (r->below && is_encrypted(r))
		return error_set(
			r->err, -VHD_E_ENCRYPTED,
			"cannot enlarge '%s': it is encrypted, and zeros would have to "
			"hide what its parent has behind its end; copy it to a larger image",
			img->io->name);
	if (entries <= img->header.max_entries)
		return 0;
	if (r->o->fast)
		return error_set(
			r->err, -ENOSPC,
			"cannot resize '%s' to %llu bytes: its metadata has room for %llu only; "
			"without -f blocks are moved to make room",
			img->io->name, (unsigned long long)r->o->size,
			(unsigned long long)img->header.max_entries * img->header.block_size);
	return room_plan(img, entries, &r->room, r->err);
}

/* What a parent has behind the old end must not come to light: zeros over it. */
static int hide_range(struct resize *r, uint64_t at, uint64_t end)
{
	struct vhd_image *img = r->m.img;

	while (at < end) {
		struct map_req req = { .sector = at / VHD_SECTOR,
				       .count = (end - at) / VHD_SECTOR };
		struct map_ext ext[EXTENTS];
		int n = image_reserve(img, &req, ext, EXTENTS, r->err), rc = 0;

		if (n < 0)
			return n;
		for (int i = 0; i < n && !rc; i++)
			rc = io_zero(img->io, ext[i].file_sector * VHD_SECTOR,
				     ext[i].count * VHD_SECTOR);
		if (rc < 0) {
			image_cancel(img, &req);
			return error_system(r->err, rc, "resize", img->io->name);
		}
		image_written(img, &req);
		at += req.count * VHD_SECTOR;
	}
	return 0;
}

static int hide(struct resize *r)
{
	uint64_t end = r->below ? number_min(below_size(r->below), r->o->size) : 0;
	int rc = 0;

	for (uint64_t at = r->old; !rc && at < end;) {
		uint64_t n = end - at;
		bool zero;

		rc = below_zero(r->below, at, &n, &zero, r->err);
		if (!rc && !zero)
			rc = hide_range(r, at, at + n);
		at += n;
	}
	return rc;
}

/* Zeros that an interrupted run put behind the disk's end. */
static int drop_spare(struct resize *r)
{
	struct vhd_image *img = r->m.img;
	uint64_t first = number_div_up(r->old, img->header.block_size), zeros;
	int rc = grow_check_spare(img, r->old, &zeros, r->err);

	if (rc < 0 || !zeros)
		return rc;
	rc = image_free(img, (uint32_t)first, (uint32_t)(img->blocks - first), r->err);
	return rc < 0 ? rc : mover_commit(&r->m);
}

static int larger(struct resize *r)
{
	struct mover *m = &r->m;
	int rc;

	if (r->room.entries) {
		rc = mover_lock(m, LOCK_MOVE);
		if (!rc)
			rc = mover_begin(m, 0);
		if (!rc)
			rc = room_make(m, &r->room);
		r->result->metadata_moved = !rc;
		r->result->moved_blocks = m->moved;
		if (rc < 0)
			return rc;
	}
	image_grow(m->img, r->o->size);
	rc = mover_begin(m, 0);
	if (!rc && r->below)
		rc = drop_spare(r);
	if (!rc)
		rc = grow_begin(m->img, r->old, r->err);
	if (!rc)
		rc = hide(r);
	rc = mover_end(m, rc);
	return rc < 0 ? rc : grow_end(m->img, r->err);
}

/* ── smaller ── */

/* Where nothing is below, what is freed reads as zero. */
static int cut_by_blocks(struct resize *r)
{
	struct mover *m = &r->m;
	int rc = mover_begin(m, 0);

	if (!rc)
		rc = cut_free(m, r->o->size, &r->result->freed_blocks);
	rc = mover_end(m, rc);
	if (!rc) /* as if it had just been enlarged: footers that differ then mean nothing */
		rc = grow_begin(m->img, r->o->size, r->err);
	if (rc < 0)
		return rc;
	m->img->size = r->o->size;
	return grow_end(m->img, r->err);
}

/* Where a parent is below, no block goes before the disk ends in front of it (ORDER 24). */
static int cut_by_size(struct resize *r)
{
	struct mover *m = &r->m;
	int rc = mover_begin(m, 0);

	if (!rc && r->o->cut_data)
		rc = cut_zero(m, r->o->size);
	rc = mover_end(m, rc);
	if (!rc)
		rc = grow_clear_tail(m->img, r->o->size, r->err);
	if (rc < 0)
		return rc;
	m->img->size = r->o->size;
	rc = grow_end(m->img, r->err);
	if (!rc)
		rc = mover_reopen(m);
	return rc < 0 ? rc : sweep_behind(m, r->old, &r->result->freed_blocks);
}

static int smaller(struct resize *r)
{
	struct mover *m = &r->m;
	int rc = image_has_parent(m->img) ? cut_by_size(r) : cut_by_blocks(r);

	if (rc < 0 || !r->exact)
		return rc;
	/* readers that want a table of just the right length had one */
	rc = mover_reopen(m);
	if (!rc)
		rc = room_plan(m->img, entries_for(r, r->o->size), &r->room, r->err);
	if (!rc)
		rc = mover_begin(m, 0);
	if (!rc)
		rc = room_make(m, &r->room);
	if (rc == -ENOSPC) /* on a device: then it has spare entries */
		rc = 0;
	r->result->moved_blocks = m->moved;
	return rc;
}

/* ── the whole ── */

/* A journal is overwritten, and goes in the end. */
static int refuse_parent(struct resize *r)
{
	struct vhd_image *img = r->m.img;
	struct stat st;
	int rc;

	if (!r->o->journal || stat(r->o->journal, &st) < 0 || S_ISBLK(st.st_mode))
		return 0;
	rc = parent_among(img, &r->o->parents, st.st_dev, st.st_ino);
	if (rc <= 0)
		return rc < 0 ? error_system(r->err, rc, "find the parents of", img->io->name) : 0;
	return error_set(r->err, -EEXIST,
			 "cannot use '%s' as a journal: it is a parent of '%s'; name another file",
			 r->o->journal, img->io->name);
}

static int plan(struct resize *r)
{
	struct vhd_image *img = r->m.img;
	int rc = refuse_parent(r);

	if (!rc && r->o->key) /* is it the right one? */
		rc = unlock_chain(&r->m.img, 1, r->o->key, 0, r->err);
	if (rc < 0)
		return rc;
	r->old = img->size;
	r->result->old_size = r->old;
	r->result->new_size = r->o->size;
	if (r->o->size == r->old)
		return 0;
	if (is_sparse(r))
		r->exact = img->header.max_entries == entries_for(r, r->old);
	if (r->o->size > r->old)
		return is_sparse(r) ? plan_larger(r) : fixed_room(&r->m, r->o->size);
	if (r->o->fast)
		return error_set(r->err, -VHD_E_ARGUMENT,
				 "cannot make '%s' smaller in place (-f): leave that option out",
				 img->io->name);
	rc = merging_refuse(img, &r->o->parents, "cut the end off", r->err);
	if (rc < 0)
		return rc;
	return r->o->cut_data ? 0 : cut_check(&r->m, r->o->size, &r->o->parents, r->o->key);
}

static int work(struct resize *r)
{
	if (!is_sparse(r))
		return fixed_resize(&r->m, r->o->size);
	if (r->o->size == r->old) /* at most a footer is restored, and what is left over goes */
		return image_has_parent(r->m.img) ?
			       sweep_behind(&r->m, r->old, &r->result->freed_blocks) :
			       mover_begin(&r->m, 0);
	return r->o->size > r->old ? larger(r) : smaller(r);
}

/* A fixed image that becomes larger has a note at the default place, whatever else: see
 * journal-note.h.  Its path, or "". */
static int note_beside(struct resize *r, char *path)
{
	const struct vhd_image *img = r->m.img;
	int rc;

	path[0] = '\0';
	if (is_sparse(r) || r->o->size <= r->old || img->io->device)
		return 0;
	rc = journal_default_path(img->io->name, path);
	return rc < 0 ? error_system(r->err, rc, "resize", img->io->name) : 0;
}

/* Could all that be made, and written? */
static int ask(struct resize *r)
{
	char path[PATH_MAX];
	int rc = note_beside(r, path);

	if (!rc && r->o->journal)
		rc = journal_note_ask(r->o->journal, false, r->err);
	if (!rc && path[0])
		rc = journal_note_ask(path, true, r->err);
	if (!rc && r->room.entries)
		rc = mover_lock(&r->m, LOCK_MOVE);
	return rc < 0 ? rc : mover_ask(&r->m);
}

/* Notes of what was, and the work between. */
static int work_noted(struct resize *r)
{
	struct vhd_image *img = r->m.img;
	struct journal_facts was = { img->footer, img->footer_offset, r->o->size };
	struct journal_note asked = { .path = NULL }, beside = { .path = NULL };
	char path[PATH_MAX] = "";
	int rc = note_beside(r, path);

	if (!rc && r->o->journal)
		rc = journal_note_make(&asked, r->o->journal, false, &was, r->err);
	if (!rc && path[0])
		rc = journal_note_make(&beside, path, true, &was, r->err);
	if (!rc)
		rc = work(r);
	rc = journal_note_remove(&beside, rc, r->err);
	return journal_note_remove(&asked, rc, r->err);
}

int vhd_resize(const char *path, const struct vhd_resize_options *o,
	       struct vhd_resize_result *result, struct vhd_error *err)
{
	struct vhd_resize_result unused;
	struct resize r = {
		.m = { .verb = "resize",
		       .progress = &o->progress,
		       .err = err,
		       .dry_run = o->dry_run },
		.o = o,
		.result = result ? result : &unused,
		.err = err,
	};
	int rc = check_size(path, o->size, err);

	memset(r.result, 0, sizeof(*r.result));
	if (rc < 0)
		return rc;
	rc = mover_open(&r.m, path, LOCK_SET);
	if (!rc && r.m.img->size == o->size) /* the trace of the same command, interrupted */
		image_accept_growth(r.m.img);
	if (!rc && o->size < r.m.img->size)
		rc = mover_lock(&r.m, LOCK_MOVE);
	if (!rc)
		rc = plan(&r);
	r.result->moved_blocks = r.room.count;
	if (!rc)
		rc = o->dry_run ? ask(&r) : work_noted(&r);
	below_close(r.below);
	room_release(&r.room);
	mover_close(&r.m);
	return rc;
}
