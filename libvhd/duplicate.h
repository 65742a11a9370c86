/* duplicate.h - an image with the same data as another: what is decided before anything is made */
#ifndef VHD_DUPLICATE_H
#define VHD_DUPLICATE_H

#include "chain.h"
#include "plan.h"

struct duplicate {
	struct vhd_chain *chain; /* owned; the source with its parents */
	struct plan plan;	 /* of the target */
	/* borrowed from the chain, or owned by the caller; both NULL: data moves as it is */
	struct crypt *decrypt, *encrypt;
	struct crypt *own; /* owned: encrypt */
};

/* Opens @source, and decides what its copy at @destination looks like.  A flat source has
 * no plan (plan.footer.type is 0).  Release whatever is returned. */
VHD_MUST int duplicate_plan(struct duplicate *d, const char *source, const char *destination,
			    const struct vhd_copy_options *options, struct vhd_error *err);
void duplicate_release(struct duplicate *d);

#endif
