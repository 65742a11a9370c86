/* vhd-source.c - the images of a running chain, and those that several chains have in common
 *
 * A disk opens all its layers itself: that is how they are found, checked and locked.  When it
 * starts, a frozen layer that another running disk has open already is taken from there: one
 * map, one cache, one file in the engine.  What was opened stays for its locks.
 *
 *  S1  a source lives as long as a running layer counts it; refs change in the loop's thread only
 *  S2  a map that a second disk begins to use is read anew: an outside coalesce may have written
 *      to that file since, where no earlier user looks (locking.md)
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/number.h"
#include "libvhd/io-file.h"
#include "vhd-private.h"

struct vhd_layer *source_layer(struct vhd_image *img, struct engine_file *file)
{
	struct vhd_layer *layer = calloc(1, sizeof(*layer));
	struct vhd_source *src = calloc(1, sizeof(*src));

	if (!layer || !src) {
		free(layer);
		free(src);
		return NULL;
	}
	*src = (struct vhd_source){ .refs = 1, .img = img, .file = file, .file_borrowed = file };
	list_init(&src->users);
	list_init(&layer->user);
	layer->src = src;
	layer->img = img;
	layer->crypt = crypt_get(img->crypt);
	layer->file = file;
	layer->size_sectors = number_div_up(img->size, VHD_SECTOR);
	return layer;
}

static bool same(const struct vhd_image *a, const struct vhd_image *b)
{
	return a != b && a->map && b->map && a->io->inode && a->io->inode == b->io->inode &&
	       a->io->device_id == b->io->device_id && a->size == b->size &&
	       !memcmp(a->footer.uuid, b->footer.uuid, VHD_UUID_BYTES);
}

static struct vhd_source *find(const struct vhd_disk *d, const struct vhd_image *img)
{
	if (!d->disk.peers)
		return NULL;
	for (struct list *l = d->disk.peers->next; l != d->disk.peers; l = l->next) {
		struct disk *disk = list_entry(l, struct disk, peer);
		const struct vhd_disk *peer = vhd_disk_of(disk);

		if (!vhd_disk_is(disk) || peer->params.buffered != d->params.buffered)
			continue;
		for (unsigned i = 1; i < peer->depth; i++)
			if (peer->layers[i]->src && peer->layers[i]->src->file &&
			    same(peer->layers[i]->img, img))
				return peer->layers[i]->src;
	}
	return NULL;
}

static void share(struct vhd_layer *layer, struct vhd_source *src)
{
	struct vhd_image *own = layer->img;

	free(layer->src);
	layer->own = own;
	map_close(own->map);
	own->map = NULL;
	src->refs++;
	layer->src = src;
	layer->img = src->img;
	layer->file = src->file;
	src->img->file_bytes = number_max(src->img->file_bytes, own->file_bytes);
	map_data_end(src->img->map, src->img->file_bytes);
	map_forget(src->img->map); /* S2 */
}

static void use(struct vhd_disk *d, struct vhd_layer *layer)
{
	layer->disk = d;
	list_append(&layer->src->users, &layer->user);
}

int source_start(struct vhd_disk *d, struct vhd_layer *layer, bool frozen)
{
	struct vhd_io *io = layer->img->io;
	struct engine_file_params p = { .fd = io_file_fd(io),
					.buffered_fd = -1,
					.device = io->device,
					.writable = io->writable };
	struct vhd_source *src;
	int rc;

	if (layer->file) {
		use(d, layer);
		return 0;
	}
	src = frozen ? find(d, layer->img) : NULL;
	if (src) {
		share(layer, src);
		use(d, layer);
		return 0;
	}
	rc = engine_file_open(d->disk.engine, &p, &layer->src->file);
	layer->file = layer->src->file;
	if (!rc)
		use(d, layer);
	return rc;
}

void source_stop(struct vhd_layer *layer)
{
	struct vhd_source *src = layer->src;

	layer->file = NULL;
	list_remove(&layer->user);
	if (src->refs > 1) {
		src->refs--;
		if (!layer->own) /* it was opened, and locked, for this disk */
			lock_release(src->img->io);
		layer->src = NULL;
		layer->img = layer->own;
		return;
	}
	if (!src->file_borrowed)
		engine_file_close(src->file);
	src->file = NULL;
}

void source_kick(struct vhd_layer *layer)
{
	struct list *users = &layer->src->users;

	for (struct list *l = users->next; l != users; l = l->next)
		pump_soon(list_entry(l, struct vhd_layer, user)->disk);
}

void source_free(struct vhd_layer *layer)
{
	if (!layer)
		return;
	if (layer->src)
		image_close(layer->src->img);
	free(layer->src);
	image_close(layer->own);
	crypt_put(layer->crypt);
	free(layer);
}
