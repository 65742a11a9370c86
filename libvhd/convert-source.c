/* convert-source.c - extents of a chain as segments of jobs */
#include "convert-source.h"

#include <errno.h>

#include "base/number.h"
#include "error.h"

#define EXTENTS 64

/* Take what of [*offset, *offset + *length) of a flat leaf's file may hold data;
 * false: none of it. */
static bool skip_hole(struct convert_source *c, struct vhd_io *io, uint64_t *offset,
		      uint64_t *length)
{
	uint64_t end = *offset + *length;

	/* between asked and data_start nothing is known to be */
	if (*offset >= c->data_end || *offset < c->asked) {
		c->asked = *offset;
		if (io_data(io, *offset, &c->data_start, &c->data_end) < 0) {
			c->data_start = *offset; /* cannot tell: all data */
			c->data_end = UINT64_MAX;
		}
	}
	if (c->data_start >= end || c->data_start == c->data_end)
		return false;
	if (c->data_start > *offset)
		*offset = c->data_start;
	/* data may begin again behind data_end: then the rest is read as well */
	*length = end - *offset;
	return true;
}

/* Cut a stretch at multiples of the grain.  False: the job is full. */
static bool add_cut(const struct convert_source *c, struct copy_job *job, struct copy_segment s,
		    uint64_t length)
{
	while (length) {
		s.length = (uint32_t)number_min(length, c->grain - s.to_offset % c->grain);
		if (!copy_add(job, &s))
			return false;
		s.from_offset += s.length;
		s.to_offset += s.length;
		s.sector += s.length / VHD_SECTOR;
		length -= s.length;
	}
	return true;
}

/* Only the first bytes of a raw file's last sector are there. */
static bool add_data(struct convert_source *c, struct copy_job *job, struct vhd_io *to,
		     const struct chain_ext *e)
{
	struct vhd_image *img = c->chain->images[e->layer];
	uint64_t from = e->file_sector * VHD_SECTOR, length = e->count * VHD_SECTOR;
	bool flat = img->type == VHD_TYPE_RAW || img->type == VHD_TYPE_FIXED;
	struct copy_segment s = { .from = img->io,
				  .from_offset = from,
				  .to = to,
				  .decrypt = img->crypt,
				  .sector = e->sector };

	if (img->type == VHD_TYPE_RAW)
		length = number_min(length, img->file_bytes - from);
	if (flat && e->layer == 0 && !skip_hole(c, img->io, &s.from_offset, &length))
		return true;
	s.to_offset = e->sector * VHD_SECTOR + (s.from_offset - from);
	return add_cut(c, job, s, length);
}

/* Of zeros only the grains that other extents have a part in. */
static bool add_zeros(const struct convert_source *c, struct copy_job *job, struct vhd_io *to,
		      const struct chain_ext *e)
{
	uint64_t start = e->sector * VHD_SECTOR, end = start + e->count * VHD_SECTOR;
	uint64_t head = number_min(number_round_up(start, c->grain), end);
	uint64_t tail = number_max(number_round_down(end, c->grain), head);
	struct copy_segment s = { .to = to, .to_offset = start };

	if (!add_cut(c, job, s, head - start))
		return false;
	s.to_offset = tail;
	return add_cut(c, job, s, end - tail);
}

int convert_source_fill(struct convert_source *c, struct copy_job *job, struct vhd_io *to,
			uint64_t *at, uint64_t end, struct vhd_error *err)
{
	while (*at < end) {
		struct chain_ext ext[EXTENTS];
		int n = chain_lookup(c->chain, *at / VHD_SECTOR, (end - *at) / VHD_SECTOR, ext,
				     EXTENTS, err);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			bool fits;

			if (job->count + ext[i].count * VHD_SECTOR / c->grain + 2 > COPY_SEGMENTS)
				return 0;
			fits = ext[i].zero ? add_zeros(c, job, to, &ext[i]) :
					     add_data(c, job, to, &ext[i]);
			if (!fits)
				return error_set(err, -EINVAL, "a piece is too large to copy");
			*at = (ext[i].sector + ext[i].count) * VHD_SECTOR;
		}
	}
	return 0;
}
