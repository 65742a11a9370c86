/* vhd-reopen.c - the files of a chain opened anew, after the storage failed for long
 *
 * What is to be done is written down in the loop's thread: layers that several disks share have one
 * description for reading, locked by the disk that opened it first, and one for the locks of each
 * other disk.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/error.h"
#include "reopen.h"
#include "vhd-private.h"

struct vhd_reopen {
	unsigned count;
	bool lost;
	struct reopen_item items[2 * VHD_CHAIN_MAX];
	uint8_t children[2 * VHD_CHAIN_MAX][VHD_UUID_BYTES];
	struct vhd_source *shared[VHD_CHAIN_MAX]; /* whose locks are another disk's */
	unsigned shared_count;
};

/* The lock that @d has on its layer @index. */
static void set_lock(const struct vhd_disk *d, unsigned index, struct vhd_reopen *r,
		     struct reopen_item *item)
{
	uint8_t *child = r->children[r->count];

	item->locked = true;
	item->wait_ms = d->params.lock_wait_ms;
	item->role = index ? LOCK_READ_THROUGH : d->params.read_only ? LOCK_READ_TOP : LOCK_WRITE;
	if (!index)
		return;
	memcpy(child, d->layers[index - 1]->img->footer.uuid, VHD_UUID_BYTES);
	item->child = child;
}

static struct reopen_item *add(struct vhd_reopen *r, struct vhd_image *img, struct vhd_io *io)
{
	struct reopen_item *item = &r->items[r->count];

	*item = (struct reopen_item){ .io = io, .id = image_id(img) };
	return item;
}

/* The disk that opened @src and uses it still, and as which layer; NULL: it is gone. */
static const struct vhd_layer *opener(const struct vhd_source *src)
{
	for (struct list *l = src->users.next; l != &src->users; l = l->next) {
		const struct vhd_layer *layer = list_entry(l, struct vhd_layer, user);

		if (!layer->own)
			return layer;
	}
	return NULL;
}

static unsigned index_of(const struct vhd_disk *d, const struct vhd_layer *layer)
{
	unsigned i = 0;

	while (d->layers[i] != layer)
		i++;
	return i;
}

static void add_layer(const struct vhd_disk *d, unsigned index, struct vhd_reopen *r)
{
	struct vhd_layer *layer = d->layers[index];
	const struct vhd_layer *first;
	struct reopen_item *item;

	if (layer->own) {
		item = add(r, layer->img, layer->own->io);
		set_lock(d, index, r, item);
		r->count++;
	}
	first = opener(layer->src);
	item = add(r, layer->img, layer->src->img->io);
	item->file = layer->file;
	if (first)
		set_lock(first->disk, index_of(first->disk, first), r, item);
	if (first != layer)
		r->shared[r->shared_count++] = layer->src;
	r->count++;
}

int vhd_reopen_begin(struct disk *disk, void **plan)
{
	const struct vhd_disk *d = vhd_disk_of(disk);
	struct vhd_reopen *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	for (unsigned i = 0; i < d->depth; i++)
		if (!d->layers[i]->img->io->device)
			add_layer(d, i, r);
	if (!r->count) {
		free(r);
		return -ENOTSUP;
	}
	*plan = r;
	return 0;
}

int vhd_reopen(void *plan, bool *lost, struct vhd_error *err)
{
	struct vhd_reopen *r = plan;
	int rc = 0;

	for (unsigned i = 0; i < r->count && !rc; i++)
		rc = reopen_item(&r->items[i], lost, err);
	for (unsigned i = 0; *lost && i < r->count; i++)
		if (r->items[i].role == LOCK_WRITE)
			reopen_disown(&r->items[i]);
	return rc;
}

void vhd_reopen_end(void *plan)
{
	struct vhd_reopen *r = plan;

	/* its disk went away meanwhile */
	for (unsigned i = 0; i < r->shared_count; i++)
		if (!opener(r->shared[i]))
			lock_release(r->shared[i]->img->io);
	free(r);
}

bool vhd_is_idle(const struct disk *disk)
{
	return !((const struct vhd_disk *)disk)->meta_flying;
}
