/* below.c - see below.h */
#include "below.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "chain.h"
#include "confine.h"
#include "error.h"
#include "parent.h"

struct below {
	struct vhd_chain *chain; /* owned */
	uint64_t size;
};

int below_open(struct vhd_image *img, const struct vhd_parents *parents, struct below **out,
	       struct vhd_error *err)
{
	CLEANUP_FREE struct below *b = calloc(1, sizeof(*b));
	struct vhd_open_options o = { .flags = CHAIN_SEALED, .parents = *parents };
	char directory[PATH_MAX];
	struct vhd_image *parent;
	int rc;

	if (!b)
		return error_system(err, -ENOMEM, "open the parents of", img->io->name);
	confine_directory(img->io->name, directory);
	rc = parent_find(img, directory, parents, 0, &parent, err);
	if (rc < 0)
		return rc;
	if (image_parent_is_raw(img))
		o.flags |= VHD_OPEN_RAW;
	rc = vhd_open(parent->io->name, &o, &b->chain, err);
	image_close(parent);
	if (rc < 0)
		return rc;
	b->size = vhd_size(b->chain);
	*out = steal_ptr(&b);
	return 0;
}

void below_unlock(struct below *b, struct vhd_key *key)
{
	vhd_key_put(b->chain->key);
	b->chain->key = vhd_key_get(key);
	b->chain->flags &= ~CHAIN_SEALED;
	b->chain->flags |= CHAIN_KEY_MAYBE;
}

void below_close(struct below *b)
{
	if (!b)
		return;
	vhd_close(b->chain, NULL);
	free(b);
}

uint64_t below_size(const struct below *b)
{
	return b->size;
}

int below_zero(struct below *b, uint64_t at, uint64_t *length, bool *zero, struct vhd_error *err)
{
	struct vhd_extent e;
	int rc;

	*zero = true;
	if (at >= b->size)
		return 0;
	*length = number_min(*length, b->size - at);
	rc = vhd_extents(b->chain, at, *length, &e, 1, err);
	if (rc < 0)
		return rc;
	*length = e.length;
	*zero = e.kind == VHD_EXTENT_ZERO;
	return 0;
}

int below_read(struct below *b, void *buf, uint64_t length, uint64_t at, struct vhd_error *err)
{
	uint64_t there = at < b->size ? number_min(length, b->size - at) : 0;

	memset((uint8_t *)buf + there, 0, length - there);
	return there ? vhd_read(b->chain, buf, there, at, err) : 0;
}
