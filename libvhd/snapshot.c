/* snapshot.c - a differencing child of an image or of a raw disk
 *
 * The parent is only read.  The child appears whole, under its name, with
 * everything in it durable.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "atomic.h"
#include "base/cleanup.h"
#include "base/number.h"
#include "chain.h"
#include "coalesce-state.h"
#include "confine.h"
#include "create.h"
#include "error.h"
#include "io-file.h"
#include "path.h"
#include "snapshot.h"

#define LOCK_WAIT_MS 5000

/* What the child will say of its parent.  The parent stays open, and locked, until the
 * child is there: nobody writes to it meanwhile. */
struct link {
	struct vhd_chain *chain; /* owned; of the parent given */
	struct vhd_io *raw;	 /* owned; with a raw parent, instead */
	char path[PATH_MAX];	 /* of the image linked to: absolute */
	uint64_t size;		 /* of the parent given */
	uint32_t block_size;	 /* of the parent given; 0 if it has none */
	unsigned depth;		 /* of the chain linked to, the child not counted */
	uint8_t id[VHD_UUID_BYTES];
	int64_t mtime;
	const struct vhd_batmap_header *key; /* of the parent given, if it is encrypted: the child
					      * is, too; borrowed */
};

static void link_release(struct link *link)
{
	vhd_close(link->chain, NULL);
	io_close(link->raw);
}

static int refuse_same(const char *child, const struct vhd_io *io, struct vhd_error *err)
{
	struct stat st;

	if (stat(child, &st) < 0 || st.st_dev != io->device_id || st.st_ino != io->inode)
		return 0;
	return error_set(err, -VHD_E_CYCLE,
			 "cannot create '%s': it is the parent itself, or one of its parents",
			 child);
}

static int link_raw(const char *child, const char *parent, struct link *out, struct vhd_error *err)
{
	int rc = confine_real_name(parent, out->path);

	if (rc < 0)
		return error_system(err, rc, "open", parent);
	rc = io_file_open(out->path, 0, &out->raw, err);
	if (!rc)
		rc = lock_take(out->raw, LOCK_SNAPSHOT_PARENT, NULL, LOCK_WAIT_MS, NULL, err);
	if (!rc)
		rc = refuse_same(child, out->raw, err);
	if (!rc)
		rc = coalesce_state_refuse_top(out->raw, NULL, parent, err);
	if (rc < 0)
		return rc;
	rc = io_size(out->raw, &out->size);
	if (rc < 0)
		return error_system(err, rc, "open", parent);
	out->size = number_round_up(out->size, VHD_SECTOR);
	out->mtime = out->raw->mtime;
	out->depth = 1;
	return 0;
}

/* Is @img a layer that a child of @size bytes can do without?  Where it is shorter than both,
 * it hides the end of the one below. */
static int is_transparent(struct vhd_image *img, const struct vhd_image *below, uint64_t size,
			  struct vhd_error *err)
{
	if (!footer_is_sparse(&img->footer) || img->size < number_min(size, below->size))
		return 0;
	return image_is_empty(img, err);
}

/* The layer to link to: past images without data, to the first that has some. */
static int linked_layer(struct vhd_chain *chain, const struct vhd_snapshot_options *o,
			unsigned *layer, struct vhd_error *err)
{
	uint64_t size = o->size ? o->size : chain->images[0]->size;
	unsigned i = 0;

	while (!o->link_empty && i + 1 < chain->depth) {
		int rc = is_transparent(chain->images[i], chain->images[i + 1], size, err);

		if (rc < 0)
			return rc;
		if (!rc)
			break;
		i++;
	}
	*layer = i;
	return 0;
}

/* A child would freeze what is wrong with its parent: what one pass over the table finds is
 * told now.  Blocks that share space are left to check: to seek them would take longer than
 * all the rest, and whoever reads them is told. */
static int check_table(struct vhd_image *img, struct vhd_error *err)
{
	uint32_t bad;
	int rc = image_survey(img, &bad, err);

	if (rc < 0 || bad == IMAGE_NO_BLOCK)
		return rc;
	return error_at(err, -VHD_E_BAT_ENTRY, img->header.table_offset + bad * 4ull,
			"cannot make a child of '%s': entries of its block table are wrong, the "
			"first is of block %u; see vhd-util check",
			img->io->name, bad);
}

/* @path: where the parent is, or will be. */
static int link_image(const struct vhd_image *img, const char *path, struct link *out,
		      struct vhd_error *err)
{
	static const uint8_t none[VHD_UUID_BYTES];

	if (img->type != VHD_TYPE_RAW && !memcmp(img->footer.uuid, none, sizeof(none)))
		return error_set(
			err, -VHD_E_PARENT_ID,
			"cannot make a child of '%s': its id is zero, which would mean a raw "
			"parent",
			img->io->name);
	if (strlen(path) >= sizeof(out->path))
		return error_set(err, -VHD_E_NAME, "cannot store the path '%s': too long", path);
	strcpy(out->path, path);
	memcpy(out->id, img->footer.uuid, VHD_UUID_BYTES); /* zero if raw */
	out->mtime = img->io->mtime;
	return 0;
}

static int link_chain(const char *child, const char *parent, const struct vhd_snapshot_options *o,
		      struct link *out, struct vhd_error *err)
{
	struct vhd_open_options options = { .parents = o->parents };
	const struct vhd_image *top;
	unsigned layer = 0;
	int rc = vhd_open(parent, &options, &out->chain, err);

	if (rc < 0)
		return rc;
	chain_warn(out->chain, &o->progress);
	top = out->chain->images[0];
	rc = lock_take(top->io, LOCK_SNAPSHOT_PARENT, NULL, LOCK_WAIT_MS, NULL, err);
	for (unsigned i = 0; !rc && i < out->chain->depth; i++)
		rc = refuse_same(child, out->chain->images[i]->io, err);
	if (!rc)
		rc = linked_layer(out->chain, o, &layer, err);
	if (!rc)
		rc = check_table(out->chain->images[layer], err);
	if (!rc)
		rc = link_image(out->chain->images[layer], out->chain->images[layer]->io->name, out,
				err);
	out->depth = out->chain->depth - layer;
	out->size = top->size;
	out->block_size = footer_is_sparse(&top->footer) ? top->header.block_size : 0;
	out->key = image_is_encrypted(top) ? &top->batmap_header : NULL;
	return rc;
}

static int check_depth(const char *child, const struct link *link, unsigned limit,
		       struct vhd_error *err)
{
	if (link->depth + 1 > VHD_CHAIN_MAX)
		return error_set(
			err, -VHD_E_TOO_DEEP,
			"cannot create '%s': the chain would be %u images deep, %u are the "
			"most; coalesce some first",
			child, link->depth + 1, VHD_CHAIN_MAX);
	if (limit && link->depth + 1 > limit)
		return error_set(err, -VHD_E_LIMIT,
				 "cannot create '%s': the chain would be %u images deep, the limit "
				 "is %u; coalesce some first",
				 child, link->depth + 1, limit);
	return 0;
}

int snapshot_relative_path(const char *child, const char *parent, char *out, size_t room,
			   struct vhd_error *err)
{
	CLEANUP_FREE char *directory = malloc(PATH_MAX), *real = malloc(PATH_MAX);
	int rc = -ENOMEM;

	if (!directory || !real)
		return error_system(err, rc, "create", child);
	rc = confine_real_name(child, real);
	if (!rc) {
		confine_directory(real, directory);
	} else if (rc == -ENOENT) {
		confine_directory(child, directory);
		rc = realpath(directory, real) ? 0 : -errno;
		strcpy(directory, real);
	}
	if (!rc)
		rc = path_relative(directory, parent, out, room);
	return rc < 0 ? error_system(err, rc, "create", child) : 0;
}

static int plan_child(const char *child, const struct link *link,
		      const struct vhd_snapshot_options *o, struct plan *out, struct vhd_error *err)
{
	struct plan_spec spec = { .type = VHD_TYPE_DIFFERENCING };
	char relative[PATH_TEXT_MAX];
	int rc = snapshot_relative_path(child, link->path, relative, sizeof(relative), err);

	if (rc < 0)
		return rc;
	spec.size = o->size ? o->size : link->size;
	if (spec.size < link->size)
		return error_set(
			err, -VHD_E_ARGUMENT,
			"cannot create '%s': its %llu bytes are fewer than the parent's %llu",
			child, (unsigned long long)spec.size, (unsigned long long)link->size);
	spec.max_size = o->max_size;
	spec.block_size = o->block_size ? o->block_size : link->block_size;
	spec.timestamp = create_now();
	create_id(spec.id);
	memcpy(spec.parent_id, link->id, VHD_UUID_BYTES);
	spec.parent_timestamp = footer_time_from_unix(link->mtime);
	spec.parent_path = relative;
	spec.key = link->key;
	rc = plan_make(&spec, out, err);
	if (rc < 0)
		error_prefix(err, "cannot create '%s'", child);
	return rc;
}

int snapshot_plan(const char *child, const char *parent, struct vhd_image *img, struct plan *out,
		  struct vhd_error *err)
{
	CLEANUP_FREE struct link *link = calloc(1, sizeof(*link));
	struct vhd_snapshot_options none = { .size = 0 };
	int rc;

	if (!link)
		return error_system(err, -ENOMEM, "create", child);
	rc = link_image(img, parent, link, err);
	if (rc < 0)
		return rc;
	link->size = img->size;
	if (footer_is_sparse(&img->footer)) {
		link->block_size = img->header.block_size;
		/* as much room to grow as the parent has */
		none.max_size = number_min((uint64_t)img->header.max_entries * link->block_size,
					   VHD_SIZE_MAX);
	}
	link->key = image_is_encrypted(img) ? &img->batmap_header : NULL;
	return plan_child(child, link, &none, out, err);
}

static int make_child(const char *child, const struct link *link,
		      const struct vhd_snapshot_options *o, struct vhd_error *err)
{
	struct plan plan;
	int rc = plan_child(child, link, o, &plan, err);

	if (rc < 0)
		return rc;
	return o->dry_run ? atomic_check(child, o->force, err) :
			    create_sparse_file(child, &plan, o->force, err);
}

int vhd_snapshot(const char *child, const char *parent, const struct vhd_snapshot_options *o,
		 struct vhd_error *err)
{
	CLEANUP_FREE struct link *link = calloc(1, sizeof(*link));
	int rc;

	if (!link)
		return error_system(err, -ENOMEM, "create", child);
	rc = o->raw_parent ? link_raw(child, parent, link, err) :
			     link_chain(child, parent, o, link, err);
	if (!rc)
		rc = check_depth(child, link, o->limit, err);
	if (!rc)
		rc = make_child(child, link, o, err);
	link_release(link);
	return rc;
}
