/* merging.c - see merging.h */
#include "merging.h"

#include <limits.h>

#include "coalesce-state.h"
#include "confine.h"
#include "error.h"
#include "parent.h"

/* 1: @parent is half merged. */
static int look_at(const struct vhd_image *img, struct vhd_image *parent, const char *verb,
		   struct vhd_error *err)
{
	const uint8_t *id = parent->type == VHD_TYPE_RAW ? NULL : parent->footer.uuid;
	struct coalesce_state state = COALESCE_STATE_NONE;
	int rc = coalesce_state_find(parent->io, id, &state, err);

	if (rc > 0)
		rc = error_set(
			err, -VHD_E_COALESCING,
			"cannot %s '%s': data of '%s' is half merged into '%s' below it, and "
			"what is missing there can only come from here; finish with: vhd-util "
			"coalesce -n '%s'",
			verb, img->io->name, state.child, parent->io->name, state.child);
	coalesce_state_release(&state);
	return rc;
}

int merging_refuse(struct vhd_image *img, const struct vhd_parents *parents, const char *verb,
		   struct vhd_error *err)
{
	struct vhd_image *child = img, *parent;
	char name[PATH_MAX], directory[PATH_MAX];
	int rc = confine_real_name(img->io->name, name);

	if (rc < 0)
		return error_system(err, rc, "open", img->io->name);
	confine_directory(name, directory);
	for (unsigned depth = 0; !rc && depth < VHD_CHAIN_MAX && image_has_parent(child); depth++) {
		if (parent_find(child, directory, parents, 0, &parent, NULL) < 0)
			break;
		rc = look_at(img, parent, verb, err);
		if (child != img)
			image_close(child);
		child = parent;
	}
	if (child != img)
		image_close(child);
	return rc;
}
