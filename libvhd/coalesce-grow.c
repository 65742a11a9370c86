/* coalesce-grow.c - room for what a grown child has beyond its parent's end */
#include "coalesce-grow.h"

#include <stdio.h>

#include "base/number.h"
#include "error.h"
#include "grow.h"
#include "parent.h"

#define MIB (1ull << 20)

/* Until which byte could the parent of @img shine through where @img has nothing? */
static int size_below(struct vhd_image *img, const char *directory,
		      const struct vhd_coalesce_options *o, uint64_t *bytes, struct vhd_error *err)
{
	struct vhd_image *below;
	int rc;

	*bytes = 0;
	if (!image_has_parent(img))
		return 0;
	rc = parent_find(img, directory, &o->parents, 0, &below, err);
	if (rc < 0)
		return rc;
	*bytes = below->size;
	image_close(below);
	return 0;
}

/* The largest size that the image can be given where it is; 0: none but its own. */
static uint64_t reach(const struct vhd_image *img)
{
	if (img->type == VHD_TYPE_RAW)
		return img->io->device ? 0 : VHD_SIZE_MAX;
	if (img->type == VHD_TYPE_FIXED)
		return 0;
	return (uint64_t)img->header.max_entries * img->header.block_size;
}

int coalesce_grow_plan(struct coalesce_layers *l, const char *directory,
		       const struct vhd_coalesce_options *o, struct vhd_error *err)
{
	struct vhd_image *target = coalesce_layers_target(l);
	uint64_t want = l->images[0]->size, old = target->size, below = 0;
	int rc;

	if (l->state.path)
		image_accept_growth(target);
	if (want <= old || reach(target) < want)
		return 0;
	rc = size_below(target, directory, o, &below, err);
	if (rc < 0)
		return rc;
	l->grow_from = old;
	l->hide_from = number_div_up(old, VHD_SECTOR);
	l->hide_to = number_div_up(number_min(below, want), VHD_SECTOR);
	image_grow(target, want);
	return 0;
}

int coalesce_grow_begin(struct coalesce_layers *l, bool resumed, struct vhd_error *err)
{
	struct vhd_image *target = coalesce_layers_target(l);
	int rc;

	if (!l->grow_from)
		return 0;
	if (target->type == VHD_TYPE_RAW) {
		rc = io_truncate(target->io, target->size);
		return rc < 0 ? error_system(err, rc, "extend", target->io->name) : 0;
	}
	if (resumed) /* what lies there may be the child's by now */
		return 0;
	return grow_begin(target, l->grow_from, err);
}

int coalesce_grow_end(struct coalesce_layers *l, struct vhd_error *err)
{
	struct vhd_image *target = coalesce_layers_target(l);

	if (!l->grow_from || target->type == VHD_TYPE_RAW)
		return 0;
	return grow_end(target, err); /* ORDER 13, 14: the data is durable */
}

int coalesce_grow_refuse(const struct coalesce_layers *l, uint64_t sector, struct vhd_error *err)
{
	const struct vhd_image *child = l->images[0], *target = l->images[l->target];
	unsigned long long mib = number_div_up(child->size, MIB);
	const char *name = target->io->name;
	char advice[4352], why[128];

	if (target->io->device && target->type == VHD_TYPE_RAW) {
		snprintf(why, sizeof(why), "a device cannot grow here");
		snprintf(advice, sizeof(advice), "enlarge the device to %llu MiB first", mib);
	} else if (target->type == VHD_TYPE_FIXED) {
		snprintf(why, sizeof(why), "a fixed image has no room to grow");
		snprintf(advice, sizeof(advice), "first: vhd-util resize -n '%s' -s %llu", name,
			 mib);
	} else {
		snprintf(why, sizeof(why), "its block table has room for %llu bytes only",
			 (unsigned long long)reach(target));
		snprintf(advice, sizeof(advice),
			 "make room first: vhd-util resize -n '%s' -s %llu -j JOURNAL", name, mib);
	}
	return error_set(
		err, -VHD_E_RANGE,
		"cannot coalesce '%s' into '%s': there is data at byte %llu, beyond the end of "
		"the parent's disk (%llu bytes), and %s; %s",
		child->io->name, name, (unsigned long long)sector * VHD_SECTOR,
		(unsigned long long)target->size, why, advice);
}
