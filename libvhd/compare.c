/* compare.c - are two disks the same?  Across formats and chains
 *
 * What is zero in both, or the same bytes of the same file, is not read; holes
 * of raw and fixed disks are zero.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "chain.h"
#include "error.h"
#include "io-file.h"
#include "zeros.h"

#define PIECE_BYTES (1u << 20)

/* What is known of the holes of one flat file: from @asked to @start there is none but holes, from
 * @start to @end data. */
struct holes {
	unsigned depth; /* of its layer */
	uint64_t asked, start, end;
};

struct comparison {
	struct vhd_chain *a, *b;
	struct holes holes_a, holes_b;
	uint8_t *buf_a, *buf_b;
	uint64_t first;
	struct vhd_error *err;
};

static int open_side(const char *path, enum vhd_format from, const struct vhd_compare_options *o,
		     struct vhd_chain **out, struct vhd_error *err)
{
	struct vhd_open_options options = {
		.flags = CHAIN_KEY_MAYBE,
		.parents = o->parents,
		.key = o->key,
	};
	struct vhd_io *io = NULL;
	int rc = 0;

	if (from == VHD_FORMAT_AUTO) {
		rc = io_file_open(path, 0, &io, err);
		if (rc < 0)
			return rc;
		rc = image_probe(io);
		io_close(io);
		if (rc < 0)
			return error_system(err, rc, "read", path);
	}
	if (from == VHD_FORMAT_RAW || (from == VHD_FORMAT_AUTO && !rc))
		options.flags |= VHD_OPEN_RAW;
	return vhd_open(path, &options, out, err);
}

static bool same_place(const struct comparison *c, const struct vhd_extent *a,
		       const struct vhd_extent *b)
{
	const struct vhd_io *x = c->a->images[a->depth]->io, *y = c->b->images[b->depth]->io;

	return x->inode && x->inode == y->inode && x->device_id == y->device_id &&
	       a->file_offset == b->file_offset;
}

static int found(struct comparison *c, uint64_t at)
{
	c->first = at;
	return error_set(c->err, -VHD_E_DIFFERENT, "'%s' and '%s' differ first at byte %llu",
			 c->a->images[0]->io->name, c->b->images[0]->io->name,
			 (unsigned long long)at);
}

/* Data that is a hole in the file becomes zeros, as far as either reaches. */
static void see_holes(struct vhd_chain *chain, struct holes *h, struct vhd_extent *e)
{
	const struct vhd_image *img;
	uint64_t at = e->file_offset;

	if (e->kind != VHD_EXTENT_DATA)
		return;
	img = chain->images[e->depth];
	if (img->type != VHD_TYPE_RAW && img->type != VHD_TYPE_FIXED)
		return;
	if (h->depth != e->depth || at < h->asked || at >= h->end) {
		*h = (struct holes){ .depth = e->depth, .asked = at };
		if (io_data(img->io, at, &h->start, &h->end) < 0) {
			h->start = at; /* cannot tell: all data */
			h->end = UINT64_MAX;
		} else if (h->start == h->end) {
			h->start = h->end = UINT64_MAX; /* no more */
		}
	}
	if (at < h->start) {
		e->kind = VHD_EXTENT_ZERO;
		e->length = number_min(e->length, h->start - at);
	} else {
		e->length = number_min(e->length, h->end - at);
	}
}

/* One stretch that is one extent on either side. */
static int compare_stretch(struct comparison *c, const struct vhd_extent *a,
			   const struct vhd_extent *b, size_t length)
{
	bool zero_a = a->kind == VHD_EXTENT_ZERO, zero_b = b->kind == VHD_EXTENT_ZERO;
	int rc = 0;

	if ((zero_a && zero_b) || (!zero_a && !zero_b && same_place(c, a, b)))
		return 0;
	if (zero_a)
		memset(c->buf_a, 0, length);
	else
		rc = chain_read_layer(c->a, a->depth, c->buf_a, length, a->file_offset, a->offset,
				      c->err);
	if (rc < 0)
		return rc;
	if (zero_b)
		memset(c->buf_b, 0, length);
	else
		rc = chain_read_layer(c->b, b->depth, c->buf_b, length, b->file_offset, b->offset,
				      c->err);
	if (rc < 0 || !memcmp(c->buf_a, c->buf_b, length))
		return rc;
	for (size_t i = 0; i < length; i++)
		if (c->buf_a[i] != c->buf_b[i])
			return found(c, a->offset + i);
	return 0;
}

static int compare_all(struct comparison *c, const struct vhd_progress *progress)
{
	uint64_t size_a = vhd_size(c->a), size_b = vhd_size(c->b);
	uint64_t size = number_min(size_a, size_b);

	for (uint64_t at = 0; at < size;) {
		struct vhd_extent a, b;
		uint64_t length;
		int rc = vhd_extents(c->a, at, size - at, &a, 1, c->err);

		if (rc > 0)
			rc = vhd_extents(c->b, at, size - at, &b, 1, c->err);
		if (rc < 0)
			return rc;
		see_holes(c->a, &c->holes_a, &a);
		see_holes(c->b, &c->holes_b, &b);
		length = number_min(a.length, b.length);
		if (a.kind == VHD_EXTENT_DATA || b.kind == VHD_EXTENT_DATA)
			length = number_min(length, PIECE_BYTES);
		rc = compare_stretch(c, &a, &b, length);
		if (rc < 0)
			return rc;
		at += length;
		if (progress->step && progress->step(progress->arg, at, size))
			return error_set(c->err, -VHD_E_CANCELLED,
					 "the comparison was interrupted");
	}
	return size_a == size_b ? 0 : found(c, size);
}

int vhd_compare(const char *a, const char *b, const struct vhd_compare_options *o, uint64_t *first,
		struct vhd_error *err)
{
	CLEANUP_FREE uint8_t *buf_a = malloc(PIECE_BYTES);
	CLEANUP_FREE uint8_t *buf_b = malloc(PIECE_BYTES);
	struct comparison c = { .buf_a = buf_a, .buf_b = buf_b, .err = err };
	int rc;

	if (!buf_a || !buf_b)
		return error_system(err, -ENOMEM, "compare", a);
	rc = open_side(a, o->from_a, o, &c.a, err);
	if (!rc)
		rc = open_side(b, o->from_b, o, &c.b, err);
	if (!rc && o->key && !image_is_encrypted(c.a->images[0]) &&
	    !image_is_encrypted(c.b->images[0]))
		rc = error_set(err, -VHD_E_KEY,
			       "cannot use the key: neither '%s' nor '%s' is encrypted", a, b);
	if (!rc) {
		chain_warn(c.a, &o->progress);
		/* the same image on both sides is told once */
		if (strcmp(c.a->warning.text, c.b->warning.text) != 0)
			chain_warn(c.b, &o->progress);
		rc = compare_all(&c, &o->progress);
	}
	vhd_close(c.a, NULL);
	vhd_close(c.b, NULL);
	if (rc == -VHD_E_DIFFERENT && first)
		*first = c.first;
	return rc;
}
