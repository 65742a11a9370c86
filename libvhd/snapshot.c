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

#include "base/cleanup.h"
#include "base/number.h"
#include "chain.h"
#include "confine.h"
#include "create.h"
#include "error.h"
#include "io-file.h"
#include "path.h"

#define LOCK_WAIT_MS 5000

/* What the child will say of its parent. */
struct link {
	char path[PATH_MAX]; /* of the image linked to: absolute */
	uint64_t size;	     /* of the parent given */
	uint32_t block_size; /* of the parent given; 0 if it has none */
	unsigned depth;	     /* of the chain linked to, the child not counted */
	uint8_t id[VHD_UUID_BYTES];
	int64_t mtime;
};

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
	struct vhd_io *io = NULL;
	int rc = confine_real_name(parent, out->path);

	if (rc < 0)
		return error_system(err, rc, "open", parent);
	rc = io_file_open(out->path, 0, &io, err);
	if (rc < 0)
		return rc;
	rc = refuse_same(child, io, err);
	if (!rc && (rc = io_size(io, &out->size)) < 0)
		error_system(err, rc, "open", parent);
	out->size = number_round_up(out->size, VHD_SECTOR);
	out->mtime = io->mtime;
	out->depth = 1;
	io_close(io);
	return rc;
}

static bool is_empty(const struct vhd_image *img)
{
	return footer_is_sparse(&img->footer) && !img->totals.allocated;
}

/* The layer to link to: past images without data, to the first that has some. */
static int linked_layer(struct vhd_chain *chain, bool link_empty, unsigned *layer,
			struct vhd_error *err)
{
	unsigned i = 0;

	for (; !link_empty && i + 1 < chain->depth; i++) {
		struct vhd_image *img = chain->images[i];
		int rc = img->map ? 0 : image_load(img, chain->cache_bytes, err);

		if (rc < 0)
			return rc;
		if (!is_empty(img))
			break;
	}
	*layer = i;
	return 0;
}

static int link_layer(struct vhd_chain *chain, unsigned layer, struct link *out,
		      struct vhd_error *err)
{
	static const uint8_t none[VHD_UUID_BYTES];
	const struct vhd_image *img = chain->images[layer];

	if (img->type != VHD_TYPE_RAW && !memcmp(img->footer.uuid, none, sizeof(none)))
		return error_set(
			err, -VHD_E_PARENT_ID,
			"cannot make a child of '%s': its id is zero, which would mean a raw "
			"parent",
			img->io->name);
	if (strlen(img->io->name) >= sizeof(out->path))
		return error_set(err, -VHD_E_NAME, "cannot store the path '%s': too long",
				 img->io->name);
	strcpy(out->path, img->io->name);
	memcpy(out->id, img->footer.uuid, VHD_UUID_BYTES); /* zero if raw */
	out->mtime = img->io->mtime;
	out->depth = chain->depth - layer;
	return 0;
}

static int link_chain(const char *child, const char *parent, const struct vhd_snapshot_options *o,
		      struct link *out, struct vhd_error *err)
{
	struct vhd_open_options options = { .parents = o->parents };
	struct vhd_chain *chain;
	unsigned layer = 0;
	int rc = vhd_open(parent, &options, &chain, err);

	if (rc < 0)
		return rc;
	rc = lock_take(chain->images[0]->io, LOCK_SNAPSHOT_PARENT, NULL, LOCK_WAIT_MS, NULL, err);
	for (unsigned i = 0; !rc && i < chain->depth; i++)
		rc = refuse_same(child, chain->images[i]->io, err);
	if (!rc)
		rc = linked_layer(chain, o->link_empty, &layer, err);
	if (!rc)
		rc = link_layer(chain, layer, out, err);
	out->size = chain->images[0]->size;
	if (footer_is_sparse(&chain->images[0]->footer))
		out->block_size = chain->images[0]->header.block_size;
	vhd_close(chain, NULL);
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

/* Path of the parent from the child's directory, both without symbolic links. */
static int relative_path(const char *child, const char *parent, char *out, size_t room,
			 struct vhd_error *err)
{
	const char *slash = strrchr(child, '/');
	CLEANUP_FREE char *named = slash ? strndup(child, (size_t)(slash - child) + 1) :
					   strdup(".");
	CLEANUP_FREE char *directory = named ? realpath(named, NULL) : NULL;
	int rc;

	if (!directory)
		return error_system(err, -errno, "create", child);
	rc = path_relative(directory, parent, out, room);
	return rc < 0 ? error_system(err, rc, "create", child) : 0;
}

int vhd_snapshot(const char *child, const char *parent, const struct vhd_snapshot_options *o,
		 struct vhd_error *err)
{
	struct plan_spec spec = { .type = VHD_TYPE_DIFFERENCING };
	CLEANUP_FREE struct link *link = calloc(1, sizeof(*link));
	char relative[PATH_TEXT_MAX];
	struct plan plan;
	int rc;

	if (!link)
		return error_system(err, -ENOMEM, "create", child);
	rc = o->raw_parent ? link_raw(child, parent, link, err) :
			     link_chain(child, parent, o, link, err);
	if (!rc)
		rc = check_depth(child, link, o->limit, err);
	if (!rc)
		rc = relative_path(child, link->path, relative, sizeof(relative), err);
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
	rc = plan_make(&spec, &plan, err);
	if (rc < 0) {
		error_prefix(err, "cannot create '%s'", child);
		return rc;
	}
	return create_sparse_file(child, &plan, o->force, err);
}
