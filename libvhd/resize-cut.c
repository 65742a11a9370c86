/* resize-cut.c - see resize-cut.h */
#include "resize-cut.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "below.h"
#include "error.h"
#include "zeros.h"

#define EXTENTS	   64
#define READ_BYTES (1u << 20)
#define FREE_STEP  4096u /* blocks between two looks at the time */

struct finder {
	struct mover *m;
	struct below *below; /* NULL: no parent */
	uint8_t *buf;
	uint64_t first; /* byte of the disk that is not zero */
};

/* Where does [buf, n) begin to be something? */
static bool found(struct finder *f, uint64_t n, uint64_t at)
{
	uint64_t i = 0;

	if (zeros_are(f->buf, n))
		return false;
	while (!f->buf[i])
		i++;
	f->first = at + i;
	return true;
}

/* 1: something is there. */
static int look_here(struct finder *f, const struct map_ext *e)
{
	uint64_t at = e->file_sector * VHD_SECTOR, end = at + e->count * VHD_SECTOR, start, stop;
	uint64_t disk = e->sector * VHD_SECTOR - at; /* added to a place in the file */

	end = number_min(end, number_max(f->m->img->file_bytes, at));
	while (at < end) {
		int rc = io_data(f->m->img->io, at, &start, &stop);

		if (rc < 0)
			return error_system(f->m->err, rc, "read", f->m->img->io->name);
		if (start >= stop || start >= end)
			break;
		for (at = number_max(at, start); at < number_min(stop, end);) {
			uint64_t n = number_min(READ_BYTES, number_min(stop, end) - at);

			rc = io_read(f->m->img->io, f->buf, n, at);
			if (rc < 0)
				return error_system(f->m->err, rc, "read", f->m->img->io->name);
			if (found(f, n, disk + at))
				return 1;
			at += n;
			rc = mover_step(f->m, disk + at);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

static int look_below(struct finder *f, const struct map_ext *e)
{
	uint64_t at = e->sector * VHD_SECTOR, end = at + e->count * VHD_SECTOR;

	while (f->below && at < end) {
		uint64_t n = number_min(READ_BYTES, end - at);
		bool zero;
		int rc = below_zero(f->below, at, &n, &zero, f->m->err);

		if (!rc && !zero) {
			n = number_min(n, READ_BYTES);
			rc = below_read(f->below, f->buf, n, at, f->m->err);
			if (!rc && found(f, n, at))
				return 1;
		}
		if (rc < 0)
			return rc;
		at += n;
	}
	return 0;
}

static int look(struct finder *f, uint64_t size)
{
	struct vhd_image *img = f->m->img;
	uint64_t end = img->size / VHD_SECTOR;
	struct map_ext ext[EXTENTS];

	for (uint64_t at = size / VHD_SECTOR; at < end;) {
		int n = image_lookup(img, at, end - at, ext, EXTENTS, f->m->err), rc = 0;

		if (n < 0)
			return n;
		for (int i = 0; i < n && !rc; i++) {
			if (ext[i].kind == EXT_HERE)
				rc = look_here(f, &ext[i]);
			if (!rc && ext[i].kind == EXT_BELOW)
				rc = look_below(f, &ext[i]);
			at = ext[i].sector + ext[i].count;
		}
		if (rc)
			return rc;
	}
	return 0;
}

int cut_check(struct mover *m, uint64_t size, const struct vhd_parents *parents,
	      struct vhd_key *key)
{
	CLEANUP_FREE uint8_t *buf = malloc(READ_BYTES);
	struct finder f = { .m = m, .buf = buf };
	int rc = buf ? 0 : error_system(m->err, -ENOMEM, "resize", m->img->io->name);

	m->total = m->img->size;
	if (!rc)
		rc = image_load(m->img, 0, m->err);
	if (!rc && image_has_parent(m->img))
		rc = below_open(m->img, parents, &f.below, m->err);
	if (!rc && f.below)
		below_unlock(f.below, key);
	if (!rc)
		rc = look(&f, size);
	below_close(f.below);
	if (rc <= 0)
		return rc;
	return error_at(m->err, -VHD_E_RANGE, f.first,
			"cannot make '%s' smaller: there is data at byte %llu of the disk, behind "
			"the new end at %llu; shrink what is inside first, or lose it with "
			"--cut-data",
			m->img->io->name, (unsigned long long)f.first, (unsigned long long)size);
}

int cut_zero(struct mover *m, uint64_t size)
{
	struct vhd_image *img = m->img;
	uint64_t end = img->size / VHD_SECTOR;
	struct map_ext ext[EXTENTS];
	int rc = 0;

	for (uint64_t at = size / VHD_SECTOR; at < end && !rc;) {
		int n = image_lookup(img, at, end - at, ext, EXTENTS, m->err);

		if (n < 0)
			return n;
		for (int i = 0; i < n && !rc; i++) {
			if (ext[i].kind == EXT_HERE)
				rc = io_zero(img->io, ext[i].file_sector * VHD_SECTOR,
					     ext[i].count * VHD_SECTOR);
			at = ext[i].sector + ext[i].count;
		}
	}
	if (!rc)
		rc = io_sync(img->io);
	return rc < 0 ? error_system(m->err, rc, "resize", img->io->name) : 0;
}

int cut_free(struct mover *m, uint64_t size, uint64_t *freed)
{
	struct vhd_image *img = m->img;
	uint64_t first = number_div_up(size, img->header.block_size);

	for (uint64_t block = first; block < img->blocks;) {
		uint32_t n = (uint32_t)number_min(FREE_STEP, img->blocks - block);
		int rc = image_free(img, (uint32_t)block, n, m->err);

		if (rc < 0)
			return rc;
		*freed += (uint64_t)rc;
		block += n;
	}
	return 0;
}
