/* merging.c - see merging.h */
#include "merging.h"

#include "coalesce-state.h"
#include "error.h"
#include "parent.h"

struct asked {
	const struct vhd_image *img;
	const char *verb;
	struct vhd_error *err;
};

static int look_at(void *arg, struct vhd_image *parent)
{
	const struct asked *a = arg;
	struct coalesce_state state = COALESCE_STATE_NONE;
	int rc = coalesce_state_find(parent->io, image_id(parent), &state, a->err);

	if (rc > 0)
		rc = error_set(
			a->err, -VHD_E_COALESCING,
			"cannot %s '%s': data of '%s' is half merged into '%s' below it, and "
			"what is missing there can only come from here; finish with: "
			"vhd-util coalesce -n '%s' -a '%s'",
			a->verb, a->img->io->name, state.child, parent->io->name, state.child,
			parent->io->name);
	coalesce_state_release(&state);
	return rc;
}

int merging_refuse(struct vhd_image *img, const struct vhd_parents *parents, const char *verb,
		   struct vhd_error *err)
{
	struct asked a = { img, verb, err };
	int rc = parent_each(img, parents, look_at, &a);

	return rc < 0 && !error_is_vhd(rc) ? error_system(err, rc, verb, img->io->name) : rc;
}
