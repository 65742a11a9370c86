/* rebuild-parent.c - what a header with a wrong checksum says of its parent
 *
 * The sum of 1024 bytes tells that something is wrong, and little of what it was: a right id beside a
 * wrong sum must not be taken for a wrong one, nor the other way round.  So an id is proven by a
 * file that has it where the header names its parent, or by one whose id is nearly the same and
 * gives the old sum.  The name and the time of the parent are put right in the
 * same way.
 */
#include <string.h>

#include "parent.h"
#include "rebuild.h"

/* Bytes: ids that differ in more are of different images, whatever the sum. */
#define ID_DAMAGE_MAX 4

struct parent_proof {
	struct vhd_header *header;
	uint32_t sum; /* that it had */
	bool others;  /* files of other ids are where it names its parent */
	bool renewed; /* the name or the time was wrong */
};

/* The id is right: is it the name that was wrong, or the time? */
static void try_others(struct parent_proof *p, const struct vhd_io *parent)
{
	struct vhd_header name = *p->header, time = *p->header;

	time.parent_timestamp = footer_time_from_unix(parent->mtime);
	if (!header_name_parent(&name, parent->name, NULL) && rebuild_sum_is(&name, &p->sum))
		*p->header = name;
	else if (rebuild_sum_is(&time, &p->sum))
		*p->header = time;
	else
		return;
	p->renewed = true;
}

static bool has_id(void *arg, const struct vhd_image *found)
{
	struct parent_proof *p = arg;
	bool same = !memcmp(found->footer.uuid, p->header->parent_uuid, VHD_UUID_BYTES);

	p->others |= !same;
	if (same)
		try_others(p, found->io);
	return same;
}

static bool id_gives_sum(struct parent_proof *p, const uint8_t id[VHD_UUID_BYTES])
{
	struct vhd_header h = *p->header;
	unsigned wrong = 0;

	for (unsigned i = 0; i < VHD_UUID_BYTES; i++)
		wrong += id[i] != h.parent_uuid[i];
	memcpy(h.parent_uuid, id, VHD_UUID_BYTES);
	if (wrong > ID_DAMAGE_MAX || !rebuild_sum_is(&h, &p->sum))
		return false;
	*p->header = h;
	return true;
}

static bool gives_sum(void *arg, const struct vhd_image *found)
{
	return id_gives_sum(arg, found->footer.uuid);
}

int rebuild_parent(const struct rebuild_spec *spec, struct vhd_header *h, uint32_t sum,
		   enum rebuild_how *how)
{
	static const uint8_t raw_parent[VHD_UUID_BYTES];
	struct vhd_image image = { .io = spec->io,
				   .type = VHD_TYPE_DIFFERENCING,
				   .file_bytes = spec->file_bytes,
				   .size = spec->footer->current_size,
				   .footer = *spec->footer,
				   .header = *h };
	struct parent_proof proof = { .header = h, .sum = sum };
	int rc;

	if (spec->footer->type != VHD_TYPE_DIFFERENCING || image_parent_is_raw(&image))
		return 1;
	rc = parent_named(&image, spec->parents, has_id, &proof);
	if (proof.renewed)
		*how = REBUILD_PARENT;
	if (rc)
		return rc;
	rc = parent_named(&image, spec->parents, gives_sum, &proof);
	if (rc < 0)
		return rc;
	if (rc || id_gives_sum(&proof, raw_parent) ||
	    (spec->parent_id && id_gives_sum(&proof, spec->parent_id))) {
		*how = REBUILD_PARENT;
		return 1;
	}
	if (spec->parent_id) /* the caller knows */
		memcpy(h->parent_uuid, spec->parent_id, VHD_UUID_BYTES);
	/* where the second sector is what was damaged, this one is not suspected for nothing */
	return spec->parent_id || (*how == REBUILD_SECOND && !proof.others);
}
