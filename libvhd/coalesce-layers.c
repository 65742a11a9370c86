/* coalesce-layers.c - finding, locking and loading what a merge works on */
#include "coalesce-layers.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "coalesce-grow.h"
#include "confine.h"
#include "error.h"
#include "image-private.h"
#include "io-file.h"
#include "lock.h"
#include "parent.h"
#include "siblings.h"
#include "unlock.h"

#define LOCK_WAIT_MS 5000
#define VIEW_CACHE   (8u << 20)
#define MAP_CACHE    (8u << 20)

/* Is @img the image that --ancestor names?  Without one the first parent is. */
static int is_target(const struct vhd_image *img, const char *ancestor, struct vhd_error *err)
{
	struct stat st;

	if (!ancestor)
		return 1;
	if (stat(ancestor, &st) < 0)
		return error_system(err, -errno, "open", ancestor);
	if (S_ISBLK(st.st_mode))
		return img->io->inode == st.st_ino || !strcmp(img->io->name, ancestor);
	return img->io->inode == st.st_ino && img->io->device_id == st.st_dev;
}

/* Read the metadata once more, now that nobody can change it. */
static int read_again(struct vhd_image **img, struct vhd_error *err)
{
	struct vhd_image *old = *img;
	unsigned flags = old->type == VHD_TYPE_RAW ? IMAGE_RAW : 0;
	int rc = image_open(old->io, flags, img, err);

	if (rc < 0) {
		*img = old;
		return rc;
	}
	old->io = NULL;
	image_close(old);
	return 0;
}

static int open_child(struct coalesce_layers *l, const char *child, struct vhd_error *err)
{
	char name[PATH_MAX];
	struct vhd_io *io = NULL;
	int rc = confine_real_name(child, name);

	if (rc < 0)
		return error_system(err, rc, "open", child);
	rc = io_file_open(name, 0, &io, err);
	if (!rc)
		rc = lock_take(io, LOCK_COALESCE_SOURCE, NULL, LOCK_WAIT_MS, NULL, err);
	if (!rc)
		rc = image_open(io, 0, &l->images[0], err);
	if (rc < 0) {
		io_close(io);
		return rc;
	}
	l->count = 1;
	if (!image_has_parent(l->images[0]))
		return error_set(err, -VHD_E_ARGUMENT,
				 "cannot coalesce '%s': it has no parent to be merged into", child);
	return 0;
}

static bool is_pushed(const struct coalesce_layers *l, const struct vhd_image *parent)
{
	for (unsigned i = 0; i < l->count; i++)
		if (parent->io->inode == l->images[i]->io->inode &&
		    parent->io->device_id == l->images[i]->io->device_id)
			return true;
	return false;
}

static int refuse_cycle(const struct coalesce_layers *l, const struct vhd_image *again,
			struct vhd_error *err)
{
	return error_set(err, -VHD_E_CYCLE, "cannot coalesce '%s': '%s' is its own ancestor",
			 l->images[0]->io->name, again->io->name);
}

static int check_cycle(const struct coalesce_layers *l, const struct vhd_image *parent,
		       struct vhd_error *err)
{
	if (l->count == VHD_CHAIN_MAX)
		return error_set(err, -VHD_E_TOO_DEEP,
				 "cannot coalesce '%s': its chain is deeper than %u images",
				 l->images[0]->io->name, VHD_CHAIN_MAX);
	return is_pushed(l, parent) ? refuse_cycle(l, parent, err) : 0;
}

static int find_pushed(void *arg, struct vhd_image *parent)
{
	struct coalesce_layers *l = arg;

	return is_pushed(l, parent);
}

/* The way down may come back behind the target, too. */
static int check_below(struct coalesce_layers *l, const struct vhd_parents *parents,
		       struct vhd_error *err)
{
	struct vhd_image *target = coalesce_layers_target(l);
	int rc = image_has_parent(target) ? parent_each(target, parents, find_pushed, l) : 0;

	if (rc <= 0)
		return rc < 0 ? error_system(err, rc, "find the parents of", target->io->name) : 0;
	return refuse_cycle(l, target, err);
}

static int refuse_siblings(const struct vhd_image *parent, const struct vhd_image *child,
			   struct vhd_error *err)
{
	CLEANUP_FREE struct sibling *other = calloc(1, sizeof(*other));
	int rc = other ? siblings_find(parent, child, other, err) :
			 error_system(err, -ENOMEM, "coalesce", child->io->name);

	if (rc <= 0)
		return rc;
	return error_set(
		err, -VHD_E_SHARED_PARENT,
		"cannot coalesce '%s' into '%s': '%s' is another child of it and would read "
		"wrong afterwards; --force does it all the same",
		child->io->name, parent->io->name, other->path);
}

static int push_parent(struct coalesce_layers *l, const char *directory,
		       const struct vhd_coalesce_options *o, struct vhd_error *err)
{
	struct vhd_image *child = l->images[l->count - 1], *img;
	int rc;

	if (!image_has_parent(child))
		return error_set(err, -VHD_E_ARGUMENT,
				 "cannot coalesce '%s': '%s' is not one of its ancestors",
				 l->images[0]->io->name, o->ancestor);
	/* what is written because an image names it must lie where the user allows */
	rc = parent_find(child, directory, &o->parents, PARENT_WRITE, &img, err);
	if (rc < 0)
		return rc;
	rc = check_cycle(l, img, err);
	if (!rc)
		rc = lock_take(img->io, LOCK_COALESCE_INTO, child->footer.uuid, LOCK_WAIT_MS, NULL,
			       err);
	if (!rc)
		rc = read_again(&img, err);
	if (!rc && !o->force)
		rc = refuse_siblings(img, child, err);
	if (rc < 0) {
		image_close(img);
		return rc;
	}
	l->images[l->count++] = img;
	return 0;
}

/* A merge that was begun may only be finished by the child that began it. */
static int find_state(struct coalesce_layers *l, const struct vhd_coalesce_options *o,
		      struct vhd_error *err)
{
	struct vhd_image *target = coalesce_layers_target(l);
	int rc = coalesce_state_find(target->io, image_id(target), &l->state, err);

	if (rc <= 0)
		return rc;
	if (!memcmp(l->state.child_id, l->images[0]->footer.uuid, VHD_UUID_BYTES))
		return 0;
	/* --force is for what cannot be finished any more */
	if (!o->force || !access(l->state.child, F_OK))
		return coalesce_state_refuse(&l->state, target->io->name, err);
	coalesce_state_release(&l->state);
	l->state = (struct coalesce_state)COALESCE_STATE_NONE;
	return 0;
}

/* Damage is found before anything is written, not half way. */
static int load_source(struct vhd_image *img, struct vhd_error *err)
{
	int rc = image_load(img, MAP_CACHE, err);

	if (!rc && (img->problems & IMAGE_BAT_FAULTS))
		rc = error_at(err, -VHD_E_BAT_ENTRY, img->header.table_offset + img->bad[0] * 4ull,
			      "cannot coalesce '%s': %u entries of its block table are wrong, the "
			      "first is of block %u; nothing was written; see vhd-util check",
			      img->io->name, img->bad_count, img->bad[0]);
	return rc;
}

/* Data moves as it is: ciphertext stays what it was, at its place on the disk. */
static int check_keys(const struct coalesce_layers *l, const struct vhd_key *key,
		      struct vhd_error *err)
{
	const struct vhd_image *target = coalesce_layers_target(l);
	int rc = 0;

	for (unsigned i = 0; i < l->target && !rc; i++)
		rc = unlock_same(l->images[i], target, key, err);
	if (rc < 0)
		error_prefix(err, "cannot coalesce '%s' into '%s'", l->images[0]->io->name,
			     target->io->name);
	return rc;
}

/* What a source that is smaller than the target hid of it shows in children that are larger, once
 * they have the target as their parent. */
static void warn_of_hidden(const struct coalesce_layers *l, const struct vhd_progress *progress)
{
	const struct vhd_image *target = coalesce_layers_target(l);
	struct vhd_error warning;

	if (l->grow_from)
		return;
	for (unsigned i = 0; i < l->target; i++) {
		const struct vhd_image *img = l->images[i];

		if (img->size >= target->size)
			continue;
		error_set(&warning, -VHD_E_HEADER_FIELD,
			  "'%s' ends at byte %llu of the disk, before '%s': what that has behind "
			  "it stays; a child of '%s' that is larger would show it: use rebase "
			  "for such a one, not modify",
			  img->io->name, (unsigned long long)img->size, target->io->name,
			  img->io->name);
		progress->warn(progress->arg, &warning);
		return;
	}
}

/* A target without room is as large as before, for all that has the child's place next. */
static void warn_of_size(const struct coalesce_layers *l, const struct vhd_progress *progress)
{
	const struct vhd_image *target = coalesce_layers_target(l), *child = l->images[0];
	struct vhd_error warning;

	if (l->grow_from || child->size <= target->size)
		return;
	error_set(
		&warning, -VHD_E_RANGE,
		"'%s' stays a disk of %llu bytes, as it has no room for the %llu of '%s'; vhd-util "
		"resize makes it as large",
		target->io->name, (unsigned long long)target->size, (unsigned long long)child->size,
		child->io->name);
	progress->warn(progress->arg, &warning);
}

/* The target is put right; of the sources one is told. */
static void warn(const struct coalesce_layers *l, const struct vhd_progress *progress)
{
	struct vhd_error warning;

	if (!progress->warn)
		return;
	warn_of_hidden(l, progress);
	warn_of_size(l, progress);
	for (unsigned i = 0; i < l->target; i++)
		if (image_warning(l->images[i], &warning)) {
			progress->warn(progress->arg, &warning);
			return;
		}
}

static int open_view(struct coalesce_layers *l, struct vhd_error *err)
{
	struct view_layer layers[VHD_CHAIN_MAX];
	int rc = 0;

	for (unsigned i = 0; i < l->target && !rc; i++) {
		rc = load_source(l->images[i], err);
		layers[i] = (struct view_layer){
			.map = l->images[i]->map,
			.size_sectors = l->images[i]->size / VHD_SECTOR,
		};
	}
	if (rc < 0)
		return rc;
	layers[l->target] = (struct view_layer){ .size_sectors = VHD_SIZE_MAX / VHD_SECTOR };
	rc = view_open(layers, l->count, VIEW_CACHE, &l->sources);
	return rc < 0 ? error_system(err, rc, "coalesce", l->images[0]->io->name) : 0;
}

int coalesce_layers_open(struct coalesce_layers *l, const char *child,
			 const struct vhd_coalesce_options *o, struct vhd_error *err)
{
	char directory[PATH_MAX];
	int rc, found = 0;

	memset(l, 0, sizeof(*l));
	l->state = (struct coalesce_state)COALESCE_STATE_NONE;
	rc = open_child(l, child, err);
	if (rc < 0)
		return rc;
	confine_directory(l->images[0]->io->name, directory);
	while (!rc && !found) {
		rc = push_parent(l, directory, o, err);
		if (!rc)
			found = is_target(l->images[l->count - 1], o->ancestor, err);
		if (found < 0)
			return found;
	}
	if (rc < 0)
		return rc;
	l->target = l->count - 1;
	rc = check_below(l, &o->parents, err);
	if (!rc)
		rc = find_state(l, o, err);
	if (!rc)
		rc = coalesce_grow_plan(l, directory, o, err);
	if (!rc)
		rc = check_keys(l, o->key, err);
	if (!rc)
		warn(l, &o->progress);
	return rc < 0 ? rc : open_view(l, err);
}

void coalesce_layers_release(struct coalesce_layers *l)
{
	view_close(l->sources);
	coalesce_state_release(&l->state);
	for (unsigned i = 0; i < l->count; i++)
		image_close(l->images[i]);
	memset(l, 0, sizeof(*l));
	l->state.fd = -1;
}

static int view_wait(struct coalesce_layers *l, struct map_req *req)
{
	struct map_io op;
	unsigned layer;

	while (req->ready) {
		bool more = view_next(l->sources, &layer, &op);

		assert(more || !req->ready);
		if (more)
			view_done(l->sources, layer, op.tag,
				  image_perform(l->images[layer]->io, &op));
	}
	return req->err;
}

int coalesce_layers_lookup(struct coalesce_layers *l, uint64_t sector, uint64_t count,
			   struct view_ext *out, int max, struct vhd_error *err)
{
	struct map_req req = { .sector = sector };
	int rc;

	for (;;) {
		rc = view_lookup(l->sources, sector, count, out, max);
		if (rc == MAP_WAIT) {
			req.ready = image_wait_over;
			view_want(l->sources, &req);
			rc = view_wait(l, &req);
			if (!rc)
				continue;
		}
		if (rc >= 0)
			return rc;
		return image_map_error(l->images[view_fault_layer(l->sources)], rc, "read", err);
	}
}
