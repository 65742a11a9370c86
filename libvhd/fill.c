/* fill.c - blocks and sectors that become an image's own
 *
 * What the disk contains stays the same: sectors that were the parents' are copied, those that
 * are zero get a place and their bit.  Each commit is one of the map's (ORDER 2): a crash leaves
 * some of it done.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "below.h"
#include "error.h"
#include "io-file.h"
#include "mover.h"
#include "unlock.h"
#include "zeros.h"

#define EXTENTS	   64
#define COPY_BYTES (1u << 20)

struct fill {
	struct mover m;
	const struct vhd_fill_options *o;
	struct vhd_fill_result *result;
	struct below *below; /* NULL: no parent */
	struct crypt *crypt; /* counted; NULL: the image is not encrypted */
	uint8_t *buf;
};

/* Zeros, too: on the disk of an encrypted image they would be no data. */
static int encrypt(struct fill *f, bool zero, uint64_t sector, uint64_t count)
{
	if (zero)
		memset(f->buf, 0, count * VHD_SECTOR);
	return crypt_encrypt(f->crypt, f->buf, f->buf, sector, count);
}

/* A range that is reserved; @data NULL: zeros. */
static int store(struct fill *f, const uint8_t *data, const struct map_ext *ext, int n)
{
	struct vhd_io *io = f->m.img->io;
	uint64_t done = 0;
	int rc = 0;

	for (int i = 0; i < n && !rc; i++) {
		uint64_t at = ext[i].file_sector * VHD_SECTOR, bytes = ext[i].count * VHD_SECTOR;

		/* also where a new block is zero already: there may be old bytes under bits that
		 * were not set */
		rc = data ? io_write(io, data + done, bytes, at) : io_zero(io, at, bytes);
		done += bytes;
	}
	return rc;
}

/* [at, at + length) bytes of the disk, absent so far and within one block. */
static int own(struct fill *f, uint64_t at, uint64_t length)
{
	struct vhd_image *img = f->m.img;
	struct map_req req = { .sector = at / VHD_SECTOR, .count = length / VHD_SECTOR };
	struct map_ext ext[EXTENTS];
	bool zero = true;
	int rc = 0, n;

	if (f->below) {
		rc = below_read(f->below, f->buf, length, at, f->m.err);
		zero = !rc && zeros_are(f->buf, length);
	}
	n = rc < 0 ? rc : image_reserve(img, &req, ext, EXTENTS, f->m.err);
	if (n < 0)
		return n;
	rc = f->crypt ? encrypt(f, zero, req.sector, req.count) : 0;
	if (!rc)
		rc = store(f, zero && !f->crypt ? NULL : f->buf, ext, n);
	if (rc < 0) {
		image_cancel(img, &req);
		return error_system(f->m.err, rc, "fill", img->io->name);
	}
	image_written(img, &req);
	f->result->sectors += req.count;
	return 0;
}

static int fill_all(struct fill *f, uint64_t first, uint64_t end)
{
	struct vhd_image *img = f->m.img;
	int rc = 0;

	f->m.total = (end - first) * VHD_SECTOR;
	for (uint64_t at = first; at < end && !rc;) {
		uint64_t unit = number_min(img->block_sectors, COPY_BYTES / VHD_SECTOR);
		uint64_t n = number_min(end - at, unit - at % unit);
		struct map_ext e;

		rc = image_lookup(img, at, n, &e, 1, f->m.err);
		if (rc < 0)
			return rc;
		n = number_min(n, e.count);
		rc = e.kind == EXT_HERE ? 0 : own(f, at * VHD_SECTOR, n * VHD_SECTOR);
		at += n;
		if (!rc)
			rc = mover_step(&f->m, (at - first) * VHD_SECTOR);
	}
	return rc;
}

/* The file's holes get their storage, too. */
static int reserve_storage(struct fill *f)
{
	const struct vhd_image *img = f->m.img;
	int fd = io_file_fd(img->io), rc;

	if (fd < 0 || img->io->device)
		return 0;
	do {
		rc = fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)img->file_bytes);
	} while (rc < 0 && errno == EINTR);
	if (rc < 0 && errno != EOPNOTSUPP && errno != ENOSYS)
		return error_system(f->m.err, -errno, "reserve the space of", img->io->name);
	return 0;
}

static int check_range(struct fill *f, uint64_t *first, uint64_t *end)
{
	uint64_t size = f->m.img->size / VHD_SECTOR;

	*first = 0;
	*end = size;
	if (!f->o->bitmaps)
		return 0;
	*first = f->o->first;
	if (f->o->last != UINT64_MAX)
		*end = f->o->last + 1;
	if (*first < *end && *end <= size)
		return 0;
	return error_set(
		f->m.err, -VHD_E_RANGE,
		"cannot fill '%s': sectors %llu to %llu are not all of its disk, which has "
		"%llu",
		f->m.img->io->name, (unsigned long long)*first, (unsigned long long)*end - 1,
		(unsigned long long)size);
}

static int unlock(struct fill *f)
{
	int rc = unlock_chain(&f->m.img, 1, f->o->key, 0, f->m.err);

	if (rc < 0)
		return rc;
	f->crypt = crypt_get(f->m.img->crypt);
	if (f->below)
		below_unlock(f->below, f->o->key);
	return 0;
}

static int run(struct fill *f)
{
	struct vhd_image *img = f->m.img;
	uint64_t first, end, before;
	int rc = check_range(f, &first, &end);

	if (!rc && !footer_is_sparse(&img->footer))
		return f->o->dry_run || f->o->bitmaps ? 0 : reserve_storage(f);
	if (!rc && image_has_parent(img))
		rc = below_open(img, &f->o->parents, &f->below, f->m.err);
	if (!rc)
		rc = unlock(f);
	if (!rc)
		rc = f->o->dry_run ? mover_ask(&f->m) : image_load(img, 0, f->m.err);
	if (rc < 0)
		return rc;
	before = img->totals.allocated;
	if (f->o->dry_run) {
		f->result->blocks = img->blocks - before;
		return 0;
	}
	rc = mover_begin(&f->m, 0);
	if (!rc)
		rc = fill_all(f, first, end);
	f->result->blocks = img->map ? (uint64_t)map_new_blocks(img->map) : 0;
	rc = mover_end(&f->m, rc);
	return rc < 0 || f->o->bitmaps ? rc : reserve_storage(f);
}

int vhd_fill(const char *path, const struct vhd_fill_options *o, struct vhd_fill_result *result,
	     struct vhd_error *err)
{
	struct vhd_fill_result unused = { 0 };
	struct fill f = {
		.m = { .verb = "fill",
		       .progress = &o->progress,
		       .err = err,
		       .dry_run = o->dry_run },
		.o = o,
		.result = result ? result : &unused,
	};
	int rc;

	*f.result = unused;
	f.buf = malloc(COPY_BYTES);
	rc = f.buf ? mover_open(&f.m, path, LOCK_MOVE) : error_system(err, -ENOMEM, "fill", path);
	if (!rc)
		rc = run(&f);
	below_close(f.below);
	crypt_put(f.crypt);
	mover_close(&f.m);
	free(f.buf);
	return rc;
}
