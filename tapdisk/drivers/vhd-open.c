/* vhd-open.c - a chain becomes a disk: files, locks, tables
 *
 * libvhd opens and locks the leaf and its parents, beneath the leaf's directory or
 * the allowed roots only, reads the tables, and makes the leaf fit for writing; then the
 * images pass to the driver, and their descriptors to the engine at start.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/error.h"
#include "libvhd/io-file.h"
#include "vhd-private.h"

#define CACHE_DEFAULT (64ull << 20)

/* Of the memory for metadata: with parents half is the leaf's, 3/8 the view's, and 1/8 is for the
 * layers below together, which are only asked once for each cell of the view. */
static uint64_t cache_of_view(const struct vhd_disk *d)
{
	return d->params.cache_bytes / 8 * 3;
}

void vhd_share_cache(struct vhd_disk *d)
{
	uint64_t all = d->params.cache_bytes;

	for (unsigned i = 0; i < d->depth; i++) {
		struct vhd_map *map = d->layers[i]->img->map;

		if (map && d->depth == 1)
			map_set_cache(map, all);
		else if (map)
			map_set_cache(map, i ? all / 8 / (d->depth - 1) : all / 2);
	}
	loop_defer(d->disk.loop, &d->trim_task);
}

/* A leaf that was frozen had more; little by little, for requests are served meanwhile. */
static void trim(struct loop_task *task)
{
	struct vhd_disk *d = list_entry(task, struct vhd_disk, trim_task);
	bool more = false;

	for (unsigned i = 0; i < d->depth; i++)
		if (d->layers[i]->img->map && map_trim(d->layers[i]->img->map))
			more = true;
	if (more)
		loop_defer(d->disk.loop, &d->trim_task);
}

int vhd_make_view(const struct vhd_disk *d, struct vhd_layer *const *layers, unsigned depth,
		  struct vhd_view **out)
{
	struct view_layer below[VHD_CHAIN_MAX];

	*out = NULL;
	if (depth < 2)
		return 0;
	for (unsigned i = 1; i < depth; i++)
		below[i - 1] = (struct view_layer){ .map = layers[i]->img->map,
						    .size_sectors = layers[i]->size_sectors };
	return view_open(below, depth - 1, cache_of_view(d), out);
}

/* Images stay the caller's until all is made. */
static int make_layers(struct vhd_disk *d, struct vhd_image **images, unsigned depth,
		       struct engine_file **files)
{
	for (; d->depth < depth; d->depth++) {
		d->layers[d->depth] = source_layer(images[d->depth],
						   files ? files[d->depth] : NULL);
		if (!d->layers[d->depth])
			return -ENOMEM;
	}
	return 0;
}

int vhd_disk_wrap(struct vhd_image **images, unsigned depth, struct engine_file **files,
		  const struct disk_params *params, struct disk **out, struct vhd_error *err)
{
	struct vhd_disk *d = calloc(1, sizeof(*d));

	if (!d)
		return error_system(err, -ENOMEM, "open", images[0]->io->name);
	d->params = *params;
	d->params.key = NULL; /* the layers have what they need of it */
	if (!d->params.cache_bytes)
		d->params.cache_bytes = CACHE_DEFAULT;
	d->path = strdup(images[0]->io->name);
	if (!d->path || make_layers(d, images, depth, files) < 0) {
		for (unsigned i = 0; i < d->depth; i++) {
			free(d->layers[i]->src);
			crypt_put(d->layers[i]->crypt);
			free(d->layers[i]);
		}
		free(d->path);
		free(d);
		return error_system(err, -ENOMEM, "open", images[0]->io->name);
	}
	d->map = images[0]->map;
	d->trim_task.run = trim;
	d->has_parent = depth > 1;
	list_init(&d->disk.peer);
	d->disk.ops = &vhd_disk_ops;
	d->disk.size = vhd_leaf(d)->size_sectors * VHD_SECTOR;
	d->disk.read_only = params->read_only;
	d->disk.can_trim = !params->read_only;
	d->disk.fast_zero = !params->read_only && !vhd_leaf(d)->crypt;
	d->disk.block_bytes = vhd_leaf(d)->img->block_sectors * VHD_SECTOR;
	*out = &d->disk;
	return 0;
}

/* What is written from now on counts: a change of names that brought this one about must not be
 * undone by a crash (ORDER 17). */
static int keep_name(const struct vhd_io *io, struct vhd_error *err)
{
	int rc = io->device ? 0 : io_file_sync_directory(io->name);

	if (rc == 0 || rc == -EINVAL || rc == -ENOTSUP || rc == -EACCES)
		return 0; /* some file systems have no such thing, or do not let us */
	return error_system(err, rc, "sync the directory of", io->name);
}

int vhd_disk_open(const char *path, const struct disk_params *params, struct disk **out,
		  struct vhd_error *err)
{
	struct vhd_open_options options = { .parents = params->parents, .key = params->key };
	struct vhd_chain *chain;
	int rc;

	options.parents.beneath_only = true;
	options.cache_bytes = params->cache_bytes ? params->cache_bytes : CACHE_DEFAULT;
	options.flags = CHAIN_EARLY_BITMAPS;
	if (!params->read_only)
		options.flags |= VHD_OPEN_WRITE;
	if (!params->buffered)
		options.flags |= VHD_OPEN_DIRECT;
	if (params->force)
		options.flags |= VHD_OPEN_FORCE;
	rc = vhd_open(path, &options, &chain, err);
	if (rc < 0)
		return rc;
	if (!params->read_only)
		rc = keep_name(chain->images[0]->io, err);
	if (rc < 0) {
		vhd_close(chain, NULL);
		return rc;
	}
	rc = chain_prepare(chain, err);
	if (!rc)
		rc = vhd_disk_wrap(chain->images, chain->depth, NULL, params, out, err);
	if (!rc) { /* they are the disk's now */
		view_close(chain->view);
		chain->view = NULL;
		chain->depth = 0;
	}
	vhd_close(chain, NULL);
	return rc;
}

bool vhd_disk_is(const struct disk *disk)
{
	return disk->ops == &vhd_disk_ops;
}
