/* rebase.c - another parent, and the disk stays as it is
 *
 *   what old and new parents differ in, where the image has nothing itself:
 *   copied into it ─► durable ─► final shape ─► the flip (relink.h)
 *
 * What is copied is what was read there before: killed at any moment the image is right, on the old
 * parent until the flip.  Ranges that both chains take from the same place of the same
 * file are not read.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "chain.h"
#include "error.h"
#include "image-private.h"
#include "relink-parent.h"
#include "relink.h"

#define LOCK_WAIT_MS 5000
#define BUFFER_BYTES (1u << 20)
#define EXTENTS	     64

struct rebase {
	const char *path;
	const struct vhd_rebase_options *o;
	struct vhd_chain *old; /* of the image, written through */
	struct adopted parent; /* the new one */
	uint8_t *was, *will;   /* owned: BUFFER_BYTES each */
	struct vhd_rebase_result *result;
};

/* ── what differs ── */

/* Bytes of the new parent's disk; zeros behind its end. */
static int read_new(struct rebase *r, uint64_t offset, size_t length, struct vhd_error *err)
{
	struct vhd_chain *chain = r->parent.chain;
	uint64_t size = vhd_size(chain);
	size_t there = offset < size ? number_min(length, size - offset) : 0;

	memset(r->will + there, 0, length - there);
	return there ? vhd_read(chain, r->will, there, offset, err) : 0;
}

/* Write the sectors of [offset, offset + length) in which the buffers differ. */
static int copy_runs(struct rebase *r, uint64_t offset, size_t length, struct vhd_error *err)
{
	size_t at = 0;
	int rc = 0;

	while (!rc && at < length) {
		size_t end = at;

		while (end < length && memcmp(r->was + end, r->will + end, VHD_SECTOR) != 0)
			end += VHD_SECTOR;
		if (end > at && !r->o->dry_run)
			rc = vhd_write(r->old, r->was + at, end - at, offset + at, err);
		r->result->copied_bytes += end - at;
		at = end + VHD_SECTOR; /* one that is the same */
	}
	return rc;
}

static int compare_bytes(struct rebase *r, uint64_t offset, uint64_t length, struct vhd_error *err)
{
	int rc = 0;

	while (!rc && length) {
		size_t n = number_min(length, BUFFER_BYTES);

		rc = vhd_read(r->old, r->was, n, offset, err);
		if (!rc)
			rc = read_new(r, offset, n, err);
		if (!rc)
			rc = copy_runs(r, offset, n, err);
		r->result->compared_bytes += n;
		offset += n;
		length -= n;
	}
	return rc;
}

/* Where a chain has [sector, …): one extent.  Behind its end: zeros. */
static int locate(struct vhd_chain *chain, uint64_t sector, uint64_t count, struct chain_ext *out,
		  struct vhd_error *err)
{
	uint64_t end = vhd_size(chain) / VHD_SECTOR;
	int rc;

	*out = (struct chain_ext){ .zero = true, .sector = sector, .count = count };
	if (sector >= end)
		return 0;
	rc = chain_lookup(chain, sector, number_min(count, end - sector), out, 1, err);
	return rc < 0 ? rc : 0;
}

static bool same_place(const struct rebase *r, const struct chain_ext *a, const struct chain_ext *b)
{
	const struct vhd_io *x, *y;

	if (a->zero || b->zero)
		return a->zero && b->zero;
	x = r->old->images[a->layer]->io;
	y = r->parent.chain->images[b->layer]->io;
	return a->file_sector == b->file_sector && x->device_id == y->device_id &&
	       x->inode == y->inode;
}

/* A range that the image has nothing of. */
static int compare_range(struct rebase *r, uint64_t sector, uint64_t count, struct vhd_error *err)
{
	int rc = 0;

	while (!rc && count) {
		struct chain_ext a, b;
		uint64_t n;

		rc = locate(r->old, sector, count, &a, err);
		if (!rc)
			rc = locate(r->parent.chain, sector, count, &b, err);
		if (rc < 0)
			break;
		n = number_min(a.count, b.count);
		if (!same_place(r, &a, &b))
			rc = compare_bytes(r, sector * VHD_SECTOR, n * VHD_SECTOR, err);
		sector += n;
		count -= n;
	}
	return rc;
}

static int step(struct rebase *r, uint64_t sector, uint64_t sectors, struct vhd_error *err)
{
	const struct vhd_progress *p = &r->o->progress;

	if (!p->step || !p->step(p->arg, sector * VHD_SECTOR, sectors * VHD_SECTOR))
		return 0;
	return error_set(
		err, -VHD_E_CANCELLED,
		"rebasing '%s' was interrupted: it contains what it did, on its old parent",
		r->path);
}

static int compare_all(struct rebase *r, struct vhd_error *err)
{
	uint64_t sectors = vhd_size(r->old) / VHD_SECTOR, sector = 0;
	uint32_t piece = BUFFER_BYTES / VHD_SECTOR;
	struct map_ext ext[EXTENTS];
	int rc = chain_prepare(r->old, err);

	if (!rc)
		rc = chain_prepare(r->parent.chain, err);
	while (!rc && sector < sectors) {
		int n = image_lookup(r->old->images[0], sector,
				     number_min(sectors - sector, (uint64_t)piece * 16), ext,
				     EXTENTS, err);

		if (n < 0)
			return n;
		for (int i = 0; i < n && !rc; i++) {
			if (ext[i].kind == EXT_BELOW)
				rc = compare_range(r, ext[i].sector, ext[i].count, err);
			sector = ext[i].sector + ext[i].count;
		}
		if (!rc)
			rc = step(r, sector, sectors, err);
	}
	return rc;
}

/* ── the flip ── */

/* The image as it is on the storage now, on the same descriptor, for its locks. */
static int reopen(struct vhd_chain *chain, struct vhd_error *err)
{
	struct vhd_image **leaf = &chain->images[0], *new;
	int rc = image_finish(*leaf, err);

	if (!rc)
		rc = image_open((*leaf)->io, 0, &new, err);
	if (rc < 0)
		return rc;
	(*leaf)->io = NULL;
	image_close(*leaf);
	*leaf = new;
	return 0;
}

static int flip(struct rebase *r, struct vhd_error *err)
{
	struct relink plan = { .how = RELINK_NOTHING };
	int rc = reopen(r->old, err);
	struct vhd_image *leaf = r->old->images[0];

	if (!rc)
		rc = lock_take(leaf->io, LOCK_SET, NULL, LOCK_WAIT_MS, NULL, err);
	if (!rc)
		rc = image_begin_write(leaf, 0, err);
	if (!rc)
		rc = relink_plan(leaf, &r->parent.link, false, &plan, err);
	if (!rc)
		rc = relink_write(leaf, &plan, err);
	leaf->writing = false; /* it has its final shape */
	relink_release(&plan);
	return rc;
}

/* ── the whole ── */

static int rebase(struct rebase *r, struct vhd_error *err)
{
	const struct vhd_rebase_options *o = r->o;
	struct vhd_image *leaf = r->old->images[0];
	int rc;

	if (!image_has_parent(leaf))
		return error_set(err, -VHD_E_ARGUMENT,
				 "cannot rebase '%s': it has no parent; a child is made with "
				 "vhd-util snapshot",
				 r->path);
	rc = adopt_open(r->path, leaf, o->parent, o->raw_parent ? ADOPT_RAW : 0, &o->parents,
			&r->parent, err);
	if (rc < 0)
		return rc;
	chain_warn(r->old, &o->progress);
	chain_warn(r->parent.chain, &o->progress);
	rc = compare_all(r, err);
	if (!rc && !o->dry_run)
		rc = vhd_flush(r->old, err);
	if (!rc && !o->dry_run)
		rc = flip(r, err);
	adopt_release(&r->parent);
	return rc;
}

static int rebase_safely(struct rebase *r, struct vhd_error *err)
{
	struct vhd_open_options open = { .parents = r->o->parents };
	struct vhd_error close_err;
	int rc, closed;

	if (!r->o->dry_run)
		open.flags |= VHD_OPEN_WRITE;
	if (r->o->force)
		open.flags |= VHD_OPEN_FORCE;
	rc = vhd_open(r->path, &open, &r->old, err);
	if (rc == -VHD_E_PARENT_MISSING && err) {
		size_t used = strlen(err->text);

		strncat(err->text, "; or, if its contents do not matter: --unsafe",
			sizeof(err->text) - used - 1);
	}
	if (rc < 0)
		return rc;
	rc = rebase(r, err);
	closed = vhd_close(r->old, &close_err);
	if (!rc && closed < 0) {
		if (err)
			*err = close_err;
		rc = closed;
	}
	return rc;
}

int vhd_rebase(const char *path, const struct vhd_rebase_options *o,
	       struct vhd_rebase_result *result, struct vhd_error *err)
{
	struct vhd_modify_options modify = { .parent = o->parent,
					     .raw_parent = o->raw_parent,
					     .dry_run = o->dry_run,
					     .parents = o->parents };
	struct vhd_rebase_result own;
	CLEANUP_FREE uint8_t *was = NULL, *will = NULL;
	struct rebase r = { .path = path, .o = o, .result = result ? result : &own };

	memset(r.result, 0, sizeof(*r.result));
	if (o->unsafe)
		return vhd_modify(path, &modify, err);
	r.was = was = malloc(BUFFER_BYTES);
	r.will = will = malloc(BUFFER_BYTES);
	if (!was || !will)
		return error_system(err, -ENOMEM, "rebase", path);
	return rebase_safely(&r, err);
}
