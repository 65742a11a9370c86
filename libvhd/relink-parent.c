/* relink-parent.c - the image that is to become a parent */
#include "relink-parent.h"

#include <string.h>

#include "confine.h"
#include "error.h"
#include "snapshot.h"

#define LOCK_WAIT_MS 5000

/* The child must not be its own ancestor, nor the chain become too long. */
static int check_chain(const struct vhd_chain *chain, const struct vhd_image *child,
		       struct vhd_error *err)
{
	for (unsigned i = 0; i < chain->depth; i++) {
		const struct vhd_image *img = chain->images[i];
		bool same_file = img->io->inode && img->io->inode == child->io->inode &&
				 img->io->device_id == child->io->device_id;

		if (same_file || (img->type != VHD_TYPE_RAW &&
				  !memcmp(img->footer.uuid, child->footer.uuid, VHD_UUID_BYTES)))
			return error_set(
				err, -VHD_E_CYCLE,
				"cannot make '%s' a child of '%s': it is that image itself, "
				"or one of its parents",
				child->io->name, chain->images[0]->io->name);
	}
	if (chain->depth + 1 > VHD_CHAIN_MAX)
		return error_set(err, -VHD_E_TOO_DEEP,
				 "cannot make '%s' a child of '%s': the chain would be %u images "
				 "deep, %u are the most; coalesce some first",
				 child->io->name, chain->images[0]->io->name, chain->depth + 1,
				 VHD_CHAIN_MAX);
	return 0;
}

static int check_id(const struct vhd_image *parent, struct vhd_error *err)
{
	static const uint8_t none[VHD_UUID_BYTES];

	if (parent->type == VHD_TYPE_RAW || memcmp(parent->footer.uuid, none, sizeof(none)) != 0)
		return 0;
	return error_set(err, -VHD_E_PARENT_ID,
			 "cannot make a child of '%s': its id is zero, which would mean a raw "
			 "parent",
			 parent->io->name);
}

int adopt_open(const char *path, const struct vhd_image *child, const char *parent, unsigned flags,
	       const struct vhd_parents *parents, struct adopted *out, struct vhd_error *err)
{
	struct vhd_open_options o = { .parents = *parents };
	const struct vhd_image *top;
	int rc;

	memset(out, 0, sizeof(*out));
	if (flags & ADOPT_RAW)
		o.flags |= VHD_OPEN_RAW;
	if (flags & ADOPT_ALONE)
		o.flags |= VHD_OPEN_NO_PARENTS;
	rc = vhd_open(parent, &o, &out->chain, err);
	if (rc < 0)
		return rc;
	top = out->chain->images[0];
	rc = check_chain(out->chain, child, err);
	if (!rc)
		rc = check_id(top, err);
	if (!rc)
		rc = lock_take(top->io, LOCK_SNAPSHOT_PARENT, NULL, LOCK_WAIT_MS, NULL, err);
	if (!rc && (rc = confine_real_name(parent, out->path)) < 0)
		error_system(err, rc, "open", parent);
	if (!rc)
		rc = snapshot_relative_path(path, out->path, out->relative, sizeof(out->relative),
					    err);
	memcpy(out->link.id, top->footer.uuid, VHD_UUID_BYTES); /* zero if raw */
	out->link.timestamp = footer_time_from_unix(top->io->mtime);
	out->link.path = out->relative;
	if (rc < 0)
		adopt_release(out);
	return rc;
}

void adopt_release(struct adopted *a)
{
	vhd_close(a->chain, NULL);
	a->chain = NULL;
}
