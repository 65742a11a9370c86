/* resize-fixed.c - see resize-fixed.h */
#include "resize-fixed.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/number.h"
#include "error.h"
#include "grow.h"
#include "io-file.h"

static int failed(struct mover *m, int rc)
{
	return rc < 0 ? error_system(m->err, rc, "resize", m->img->io->name) : 0;
}

int fixed_room(struct mover *m, uint64_t size)
{
	const struct vhd_image *img = m->img;

	if (!img->io->device || size <= img->footer_offset)
		return 0;
	return error_value(
		m->err, -ENOSPC, 0, size + VHD_FOOTER_BYTES, img->file_bytes,
		"cannot resize '%s': the device has %llu bytes, %llu are needed; enlarge "
		"it first",
		img->io->name, (unsigned long long)img->file_bytes,
		(unsigned long long)size + VHD_FOOTER_BYTES);
}

/* A disk whose space was reserved when it was made keeps that promise: before anything is written,
 * and without the file becoming longer. */
static int reserve(struct vhd_io *io, uint64_t from, uint64_t to)
{
	int fd = io_file_fd(io), rc;
	struct stat st;

	if (fd < 0 || io->device || fstat(fd, &st) < 0 || (uint64_t)st.st_blocks * 512 < from)
		return 0;
	do {
		rc = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from));
	} while (rc < 0 && errno == EINTR);
	return rc < 0 && errno != EOPNOTSUPP && errno != ENOSYS ? -errno : 0;
}

static int larger(struct mover *m, uint64_t size)
{
	struct vhd_image *img = m->img;
	uint64_t old = img->size, at = img->footer_offset, end = size;
	int rc = reserve(img->io, old, size + VHD_FOOTER_BYTES);

	if (!rc && !img->io->device && at < size) {
		rc = image_put_footer(img->io, &img->footer, size);
		if (!rc)
			img->footer_offset = size;
	}
	/* what becomes part of the disk is zero: the former footer, and what else was there */
	if (!img->io->device && at < size)
		end = number_min(size, at + VHD_FOOTER_BYTES);
	if (!rc)
		rc = io_zero(img->io, old, end - old);
	if (!rc)
		rc = io_sync(img->io);
	if (rc < 0)
		return failed(m, rc);
	img->size = size;
	return grow_end(img, m->err);
}

/* The file ends with the disk: also where that was begun once, and interrupted. */
static int cut(struct mover *m)
{
	struct vhd_image *img = m->img;

	return img->io->device ? 0 : image_move_footer(img, img->size, m->err);
}

int fixed_resize(struct mover *m, uint64_t size)
{
	int rc = mover_begin(m, 0);

	if (!rc && size > m->img->size) {
		rc = larger(m, size);
	} else if (!rc && size < m->img->size) {
		m->img->size = size;
		rc = grow_end(m->img, m->err);
	}
	return rc < 0 ? rc : cut(m);
}
