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

#include "base/number.h"
#include "differ.h"
#include "error.h"
#include "image-private.h"
#include "merging.h"
#include "relink-parent.h"
#include "relink.h"

#define LOCK_WAIT_MS 5000
#define STEP_SECTORS 32768u
#define EXTENTS	     64

struct rebase {
	const char *path;
	const struct vhd_rebase_options *o;
	struct vhd_chain *old; /* of the image, written through */
	struct adopted parent; /* the new one */
	struct differ differ;  /* between the two */
	struct vhd_rebase_result *result;
};

/* ── what differs ── */

/* Write the sectors of [offset, offset + length) that differ, as they were. */
static int copy_runs(struct rebase *r, uint64_t offset, size_t length, struct vhd_error *err)
{
	size_t at = 0, end;
	int rc = 0;

	while (!rc && (at = differ_next(&r->differ, at, length, &end)) < length) {
		if (!r->o->dry_run)
			rc = vhd_write(r->old, r->differ.was + at, end - at, offset + at, err);
		r->result->copied_bytes += end - at;
		at = end;
	}
	return rc;
}

static int compare_bytes(struct rebase *r, uint64_t offset, uint64_t length, struct vhd_error *err)
{
	int rc = 0;

	while (!rc && length) {
		size_t n = number_min(length, DIFFER_BYTES);

		rc = differ_read(&r->differ, offset, n, err);
		if (!rc)
			rc = copy_runs(r, offset, n, err);
		r->result->compared_bytes += n;
		offset += n;
		length -= n;
	}
	return rc;
}

/* A range that the image has nothing of. */
static int compare_range(struct rebase *r, uint64_t sector, uint64_t count, struct vhd_error *err)
{
	int rc = 0;

	while (!rc && count) {
		uint64_t n = 0;
		bool same;

		rc = differ_run(&r->differ, sector, count, &same, &n, err);
		if (!rc && !same)
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
	struct map_ext ext[EXTENTS];
	int rc;

	r->parent.chain->key = vhd_key_get(r->o->key);
	r->parent.chain->flags |= CHAIN_KEY_MAYBE; /* it may be clear */
	rc = differ_init(&r->differ, r->old, r->parent.chain, err);

	while (!rc && sector < sectors) {
		int n = image_lookup(r->old->images[0], sector,
				     number_min(sectors - sector, STEP_SECTORS), ext, EXTENTS, err);

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
	rc = merging_refuse(leaf, &o->parents, "rebase", err);
	if (rc < 0)
		return rc;
	rc = adopt_open(r->path, leaf, o->parent, o->raw_parent ? ADOPT_RAW : 0, &o->parents,
			&r->parent, err);
	if (rc < 0)
		return rc;
	chain_warn(r->old, &o->progress);
	chain_warn(r->parent.chain, &o->progress);
	rc = compare_all(r, err);
	differ_release(&r->differ);
	if (!rc && !o->dry_run)
		rc = vhd_flush(r->old, err);
	if (!rc)
		rc = o->dry_run ? lock_take(leaf->io, LOCK_SET, NULL, LOCK_WAIT_MS, NULL, err) :
				  flip(r, err);
	adopt_release(&r->parent);
	return rc;
}

static int rebase_safely(struct rebase *r, struct vhd_error *err)
{
	struct vhd_open_options open = { .flags = VHD_OPEN_WRITE,
					 .parents = r->o->parents,
					 .key = r->o->key };
	struct vhd_error close_err;
	int rc, closed;

	if (r->o->dry_run)
		open.flags |= CHAIN_DRY_RUN;
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
	struct rebase r = { .path = path, .o = o, .result = result ? result : &own };

	memset(r.result, 0, sizeof(*r.result));
	return o->unsafe ? vhd_modify(path, &modify, err) : rebase_safely(&r, err);
}
