/* chain.c - opening an image with its parents
 *
 * The leaf is opened and locked first, then parent after parent, each found,
 * identified and locked before the next.  Tables are read when data is first
 * asked for; a leaf that is to be written is made fit for it at once.
 */
#include "chain.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "coalesce-state.h"
#include "confine.h"
#include "error.h"
#include "io-file.h"
#include "parent.h"
#include "revert.h"
#include "unlock.h"

#define LOCK_WAIT_MS  5000
#define CACHE_DEFAULT (16ull << 20)

int chain_find_parent(struct vhd_image *image, const char *leaf_directory,
		      const struct vhd_parents *parents, bool for_write, struct vhd_image **out,
		      struct vhd_error *err)
{
	return parent_find(image, leaf_directory, parents, for_write ? PARENT_WRITE : 0, out, err);
}

int chain_stored_parent(struct vhd_image *image, char *out, size_t room, struct vhd_error *err)
{
	return parent_stored(image, out, room, err);
}

/* One warning is enough: the first image that is not as it should be. */
static void warn(struct vhd_chain *chain, const struct vhd_image *img)
{
	if (!chain->warning.code)
		image_warning(img, &chain->warning);
}

void chain_warn(const struct vhd_chain *chain, const struct vhd_progress *progress)
{
	if (chain->warning.code && progress->warn)
		progress->warn(progress->arg, &chain->warning);
}

static int push(struct vhd_chain *chain, struct vhd_image *img)
{
	struct vhd_image **images = realloc(chain->images,
					    (chain->depth + 1) * sizeof(struct vhd_image *));

	if (!images)
		return -ENOMEM;
	chain->images = images;
	chain->images[chain->depth++] = img;
	/* a leaf to be written is put right now, or refused */
	if (!(chain->flags & VHD_OPEN_WRITE) || chain->depth > 1)
		warn(chain, img);
	return 0;
}

/* ORDER 14: half merged, an image is right through the child being merged only. */
static int check_merging(struct vhd_chain *chain, struct vhd_image *img, struct vhd_error *err)
{
	struct coalesce_state state = COALESCE_STATE_NONE;
	int rc = coalesce_state_find(img->io, image_id(img), &state, err);

	if (rc <= 0)
		return rc;
	rc = 0;
	for (unsigned i = 0; i < chain->depth; i++)
		if (image_id(chain->images[i]) &&
		    !memcmp(image_id(chain->images[i]), state.child_id, VHD_UUID_BYTES))
			goto out;
	rc = coalesce_state_refuse(&state, img->io->name, err);
out:
	coalesce_state_release(&state);
	return rc;
}

static int check_cycle(const struct vhd_chain *chain, const struct vhd_image *parent,
		       struct vhd_error *err)
{
	if (chain->depth >= VHD_CHAIN_MAX)
		return error_set(err, -VHD_E_TOO_DEEP,
				 "cannot open '%s': its chain is deeper than %u images",
				 chain->images[0]->io->name, VHD_CHAIN_MAX);
	for (unsigned i = 0; i < chain->depth; i++) {
		const struct vhd_image *img = chain->images[i];
		bool same_file = parent->io->inode && img->io->inode == parent->io->inode &&
				 img->io->device_id == parent->io->device_id;
		bool same_id = image_id(img) && image_id(parent) &&
			       !memcmp(image_id(img), image_id(parent), VHD_UUID_BYTES);

		if (same_file || same_id)
			return error_set(err, -VHD_E_CYCLE,
					 "cannot open '%s': '%s' is its own ancestor (its parents "
					 "form a cycle)",
					 chain->images[0]->io->name, parent->io->name);
	}
	return 0;
}

/* Lock the parent @img as what @child reads through, and read its metadata again: it was
 * found before it was locked. */
static int lock_parent(struct vhd_chain *chain, const struct vhd_image *child,
		       struct vhd_image **img, struct vhd_error *err)
{
	struct vhd_io *io = (*img)->io;
	int rc = lock_take(io, LOCK_READ_THROUGH, child->footer.uuid, LOCK_WAIT_MS,
			   &chain->locks_unsupported, err);

	if (rc < 0)
		return rc;
	(*img)->io = NULL;
	image_close(*img);
	*img = NULL;
	rc = image_open(io, image_parent_is_raw(child) ? IMAGE_RAW : 0, img, err);
	if (rc < 0) {
		io_close(io);
		return rc;
	}
	if (!image_parent_is_raw(child) &&
	    memcmp((*img)->footer.uuid, child->header.parent_uuid, VHD_UUID_BYTES) != 0)
		return error_set(err, -VHD_E_PARENT_ID,
				 "cannot open the parent of '%s': '%s' has just become another "
				 "image; try again",
				 child->io->name, io->name);
	return chain->flags & VHD_OPEN_FORCE ? 0 : check_merging(chain, *img, err);
}

static int open_parent(struct vhd_chain *chain, const char *directory,
		       const struct vhd_parents *parents, struct vhd_error *err)
{
	struct vhd_image *child = chain->images[chain->depth - 1], *img;
	int rc = parent_find(child, directory, parents,
			     chain->flags & VHD_OPEN_DIRECT ? PARENT_DIRECT : 0, &img, err);

	if (rc < 0)
		return rc;
	rc = check_cycle(chain, img, err);
	if (!rc && !(chain->flags & VHD_OPEN_NO_LOCK))
		rc = lock_parent(chain, child, &img, err);
	if (!rc && (rc = push(chain, img)) < 0)
		error_system(err, rc, "open", img->io->name);
	if (rc < 0)
		image_close(img);
	return rc;
}

static int refuse_leaf(struct vhd_chain *chain, struct vhd_image *img, struct vhd_error *err)
{
	if (chain->flags & (VHD_OPEN_FORCE | VHD_OPEN_NO_LOCK))
		return 0;
	if ((chain->flags & VHD_OPEN_WRITE) && img->type != VHD_TYPE_RAW && img->footer.hidden)
		return error_set(err, -VHD_E_HIDDEN,
				 "cannot write '%s': it is hidden, an inner node of a chain that "
				 "others may read through; --force writes it all the same",
				 img->io->name);
	return check_merging(chain, img, err);
}

static int open_leaf(struct vhd_chain *chain, const char *path, struct vhd_error *err)
{
	bool write = chain->flags & VHD_OPEN_WRITE;
	unsigned flags = write ? IO_FILE_WRITE : 0;
	unsigned image_flags = chain->flags & VHD_OPEN_RAW ? IMAGE_RAW : 0;
	enum lock_role role = write ? LOCK_WRITE : LOCK_READ_TOP;
	struct vhd_image *img;
	int rc;

	if (chain->flags & VHD_OPEN_NO_LOCK)
		role = LOCK_PEEK;
	if (chain->flags & VHD_OPEN_DIRECT)
		flags |= IO_FILE_DIRECT;
	if (chain->flags & VHD_OPEN_NO_LOCK)
		image_flags |= IMAGE_PEEK | IMAGE_ALLOW_POISONED;
	if (write && (chain->flags & CHAIN_DRY_RUN))
		flags |= REVERT_NOTHING;
	rc = revert_open(path, flags, role, image_flags, &chain->locks_unsupported, &img, err);
	if (rc < 0)
		return rc;
	rc = refuse_leaf(chain, img, err);
	if (!rc && (rc = push(chain, img)) < 0)
		error_system(err, rc, "open", path);
	if (rc < 0)
		image_close(img);
	return rc;
}

static int open_all(struct vhd_chain *chain, const char *path, const struct vhd_parents *parents,
		    struct vhd_error *err)
{
	char name[PATH_MAX], directory[PATH_MAX];
	int rc = confine_real_name(path, name);

	if (rc < 0)
		return error_system(err, rc, "open", path);
	confine_directory(name, directory);
	rc = open_leaf(chain, name, err);
	while (!rc && !(chain->flags & VHD_OPEN_NO_PARENTS)) {
		if (!image_has_parent(chain->images[chain->depth - 1])) {
			chain->complete = true;
			break;
		}
		rc = open_parent(chain, directory, parents, err);
	}
	return rc;
}

static int unlock(const struct vhd_chain *chain, struct vhd_error *err)
{
	if (chain->flags & CHAIN_SEALED)
		return 0;
	return unlock_chain(chain->images, chain->depth, chain->key,
			    chain->flags & CHAIN_KEY_MAYBE ? UNLOCK_CLEAR_TOO : 0, err);
}

int vhd_open(const char *path, const struct vhd_open_options *options, struct vhd_chain **out,
	     struct vhd_error *err)
{
	static const struct vhd_open_options none;
	struct vhd_chain *chain = calloc(1, sizeof(*chain));
	int rc;

	if (!options)
		options = &none;
	if (!chain)
		return error_system(err, -ENOMEM, "open", path);
	chain->flags = options->flags;
	chain->key = vhd_key_get(options->key);
	chain->cache_bytes = options->cache_bytes ? options->cache_bytes : CACHE_DEFAULT;
	rc = open_all(chain, path, &options->parents, err);
	if (!rc && (chain->flags & VHD_OPEN_WRITE)) {
		chain->images[0]->early_bitmaps = chain->flags & CHAIN_EARLY_BITMAPS;
		rc = unlock(chain, err); /* before anything is put right in the leaf */
		if (!rc)
			rc = chain->flags & CHAIN_DRY_RUN ?
				     image_may_write(chain->images[0], chain->cache_bytes, err) :
				     image_begin_write(chain->images[0], chain->cache_bytes, err);
		if (!rc)
			rc = chain_prepare(chain, err);
	}
	if (rc < 0) {
		chain->flags &= ~(unsigned)VHD_OPEN_WRITE;
		vhd_close(chain, NULL);
		return rc;
	}
	*out = chain;
	return 0;
}

int vhd_close(struct vhd_chain *chain, struct vhd_error *err)
{
	int rc = 0;

	if (!chain)
		return 0;
	if ((chain->flags & VHD_OPEN_WRITE) && chain->depth && chain->images[0]->writing)
		rc = image_finish(chain->images[0], err);
	view_close(chain->view);
	for (unsigned i = 0; i < chain->depth; i++)
		image_close(chain->images[i]);
	free(chain->images);
	vhd_key_put(chain->key);
	free(chain);
	return rc;
}

static int open_view(struct vhd_chain *chain, struct vhd_error *err)
{
	struct view_layer layers[VHD_CHAIN_MAX];
	int rc;

	if (chain->depth < 2)
		return 0;
	for (unsigned i = 1; i < chain->depth; i++)
		layers[i - 1] = (struct view_layer){
			.map = chain->images[i]->map,
			.size_sectors = number_div_up(chain->images[i]->size, VHD_SECTOR),
		};
	rc = view_open(layers, chain->depth - 1, chain->cache_bytes / 2, &chain->view);
	return rc < 0 ? error_system(err, rc, "open", chain->images[0]->io->name) : 0;
}

int chain_prepare(struct vhd_chain *chain, struct vhd_error *err)
{
	uint64_t cache = chain->cache_bytes / 2 / chain->depth;
	int rc = 0;

	if (chain->prepared)
		return 0;
	rc = unlock(chain, err);
	for (unsigned i = 0; i < chain->depth && !rc; i++)
		if (!chain->images[i]->map)
			rc = image_load(chain->images[i], cache, err);
	if (!rc)
		rc = open_view(chain, err);
	chain->prepared = !rc;
	return rc;
}

uint64_t vhd_size(const struct vhd_chain *chain)
{
	return number_round_up(chain->images[0]->size, VHD_SECTOR);
}

unsigned vhd_depth(const struct vhd_chain *chain)
{
	return chain->depth;
}

int vhd_layer_info(struct vhd_chain *chain, unsigned layer, struct vhd_info *out,
		   struct vhd_error *err)
{
	struct vhd_image *img;
	bool sparse;
	int rc = 0;

	if (layer >= chain->depth)
		return error_set(err, -VHD_E_ARGUMENT, "there is no layer %u: the chain has %u",
				 layer, chain->depth);
	img = chain->images[layer];
	sparse = img->type != VHD_TYPE_RAW && footer_is_sparse(&img->footer);
	if (sparse && !img->map)
		rc = image_load(img, chain->cache_bytes / 2 / chain->depth, err);
	if (rc < 0)
		return rc;
	*out = (struct vhd_info){
		.type = img->type,
		.path = img->io->name,
		.size = img->size,
		.file_size = img->file_bytes,
		.used_size = img->size,
	};
	if (img->type == VHD_TYPE_RAW)
		return 0;
	out->used_size = (sparse ? image_end_of_data(img) : img->size) + VHD_FOOTER_BYTES;
	memcpy(out->creator, img->footer.creator_app, 4);
	out->creator_version = img->footer.creator_version;
	memcpy(out->id, img->footer.uuid, VHD_UUID_BYTES);
	out->created = footer_time_to_unix(img->footer.timestamp);
	out->hidden = img->footer.hidden;
	if (sparse) {
		out->block_size = img->header.block_size;
		out->allocated_blocks = img->totals.allocated + (uint64_t)map_new_blocks(img->map);
		out->total_blocks = img->blocks;
		memcpy(out->parent_id, img->header.parent_uuid, VHD_UUID_BYTES);
	}
	return 0;
}
