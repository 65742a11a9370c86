/* coalesce-layers.h - the images that take part in a merge, opened and locked
 *
 *   images[0 .. target-1]   merged from: the child, and what lies between
 *   images[target]          merged into
 *
 * The view is of the sources with a flat layer below them that stands for
 * everything further down: what the view places there is not in any source.
 * A zero of the view is real: a source that ends before the child hides what
 * is below its end.
 */
#ifndef VHD_COALESCE_LAYERS_H
#define VHD_COALESCE_LAYERS_H

#include "coalesce-state.h"
#include "image.h"
#include "view.h"

struct coalesce_layers {
	unsigned count, target;			 /* target = count - 1 */
	struct vhd_image *images[VHD_CHAIN_MAX]; /* owned */
	struct vhd_view *sources;
	struct coalesce_state state; /* found beside the target; path NULL: none */
	/* coalesce-grow.h */
	uint64_t grow_from;	     /* bytes: the target's old size; 0: it does not grow */
	uint64_t hide_from, hide_to; /* sectors that must be zero where no source has them */
};

/* Open @child and its parents down to the target, take the locks of a merge
 * (doc/locking.md), load the tables.  Refused: a parent in use, one that another child uses, one
 * half merged from somewhere else, one outside the allowed directories, sources that cannot be
 * read in full.  Nothing is written.  @layers is released by the caller in any case. */
VHD_MUST int coalesce_layers_open(struct coalesce_layers *layers, const char *child,
				  const struct vhd_coalesce_options *options,
				  struct vhd_error *err);
/* Closes everything, discarding what was not flushed. */
void coalesce_layers_release(struct coalesce_layers *layers);

static inline struct vhd_image *coalesce_layers_target(const struct coalesce_layers *l)
{
	return l->images[l->target];
}

/* As chain_lookup over the sources.  Extents of layer @l->target: in no source. */
VHD_MUST int coalesce_layers_lookup(struct coalesce_layers *l, uint64_t sector, uint64_t count,
				    struct view_ext *out, int max, struct vhd_error *err);

#endif
