/* sweep.c - see sweep.h */
#include "sweep.h"

#include "grow.h"
#include "resize-cut.h"

/* How many zeros were left behind @from, up to @to: @from itself where something else is there,
 * which stays. */
static int find_left(struct mover *m, uint64_t from, uint64_t *to, uint64_t *count)
{
	struct vhd_image *img = m->img;
	uint64_t size = img->size, all = (uint64_t)img->header.max_entries * img->header.block_size;
	int rc;

	*to = from;
	*count = 0;
	if (all <= from)
		return 0;
	image_grow(img, all);
	rc = grow_check_spare(img, from, count, m->err);
	image_grow(img, size);
	if (!rc && *count)
		*to = all;
	if (rc != -VHD_E_BAT_ENTRY)
		return rc;
	*count = 0;
	return 0;
}

static int free_up_to(struct mover *m, uint64_t to, uint64_t *freed)
{
	struct vhd_image *img = m->img;
	uint64_t end = img->size;
	int rc;

	image_grow(img, to);
	rc = mover_begin(m, 0);
	if (!rc)
		rc = cut_free(m, end, freed);
	rc = mover_end(m, rc);
	image_grow(img, end);
	return rc;
}

int sweep_behind(struct mover *m, uint64_t old, uint64_t *freed)
{
	uint64_t to, count;
	int rc = find_left(m, old, &to, &count);

	if (rc < 0)
		return rc;
	return to > m->img->size ? free_up_to(m, to, freed) : mover_begin(m, 0);
}

int sweep_count(struct mover *m, uint64_t *count)
{
	uint64_t to;

	return find_left(m, m->img->size, &to, count);
}
