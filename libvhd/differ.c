/* differ.c - where two chains differ */
#include "differ.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "error.h"

int differ_init(struct differ *d, struct vhd_chain *a, struct vhd_chain *b, struct vhd_error *err)
{
	int rc;

	memset(d, 0, sizeof(*d));
	d->a = a;
	d->b = b;
	d->was = malloc(DIFFER_BYTES);
	d->will = malloc(DIFFER_BYTES);
	if (!d->was || !d->will)
		return error_system(err, -ENOMEM, "compare", a->images[0]->io->name);
	rc = chain_prepare(a, err);
	return rc ? rc : chain_prepare(b, err);
}

void differ_release(struct differ *d)
{
	free(d->was);
	free(d->will);
	d->was = d->will = NULL;
}

/* Where a chain has [sector, …): one extent. */
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

static bool same_place(const struct differ *d, const struct chain_ext *a, const struct chain_ext *b)
{
	const struct vhd_io *x, *y;

	if (a->zero || b->zero)
		return a->zero && b->zero;
	x = d->a->images[a->layer]->io;
	y = d->b->images[b->layer]->io;
	return a->file_sector == b->file_sector && x->device_id == y->device_id &&
	       x->inode == y->inode;
}

int differ_run(struct differ *d, uint64_t sector, uint64_t count, bool *same, uint64_t *run,
	       struct vhd_error *err)
{
	struct chain_ext a, b;
	int rc = locate(d->a, sector, count, &a, err);

	if (!rc)
		rc = locate(d->b, sector, count, &b, err);
	if (rc < 0)
		return rc;
	*run = number_min(a.count, b.count);
	*same = same_place(d, &a, &b);
	return 0;
}

static int read_one(struct vhd_chain *chain, uint8_t *buf, uint64_t offset, size_t length,
		    struct vhd_error *err)
{
	uint64_t size = vhd_size(chain);
	size_t there = offset < size ? number_min(length, size - offset) : 0;

	memset(buf + there, 0, length - there);
	return there ? vhd_read(chain, buf, there, offset, err) : 0;
}

int differ_read(struct differ *d, uint64_t offset, size_t length, struct vhd_error *err)
{
	int rc = read_one(d->a, d->was, offset, length, err);

	return rc ? rc : read_one(d->b, d->will, offset, length, err);
}

size_t differ_next(const struct differ *d, size_t at, size_t length, size_t *end)
{
	while (at < length && !memcmp(d->was + at, d->will + at, VHD_SECTOR))
		at += VHD_SECTOR;
	for (*end = at; *end < length; *end += VHD_SECTOR)
		if (!memcmp(d->was + *end, d->will + *end, VHD_SECTOR))
			break;
	return at;
}
