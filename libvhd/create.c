/* create.c - making fixed and dynamic images
 *
 * Files appear by rename after a sync (atomic.c).  On what is written in place
 * the order matters, see create_sparse(): a crash leaves no image, or a whole one.
 */
#include "create.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uuid/uuid.h>

#include "atomic.h"
#include "base/cleanup.h"
#include "base/number.h"
#include "error.h"
#include "io-file.h"

#define PIECE_BYTES (256u << 10)
#define ZERO_BYTES  (64u << 20) /* between two calls of a progress function */

void create_id(uint8_t id[VHD_UUID_BYTES])
{
	uuid_generate(id);
}

uint32_t create_now(void)
{
	return footer_time_from_unix(time(NULL));
}

int create_fill(struct vhd_io *io, uint64_t offset, uint64_t length, uint8_t byte)
{
	CLEANUP_FREE uint8_t *piece = malloc(PIECE_BYTES);

	if (!piece)
		return -ENOMEM;
	memset(piece, byte, PIECE_BYTES);
	while (length) {
		size_t n = number_min(length, PIECE_BYTES);
		int rc = io_write(io, piece, n, offset);

		if (rc < 0)
			return rc;
		offset += n;
		length -= n;
	}
	return 0;
}

static int write_tables(struct vhd_io *io, const struct plan *p)
{
	uint8_t header[VHD_HEADER_BYTES], batmap[VHD_BATMAP_HEADER_BYTES];
	uint64_t after_bat = p->header.table_offset + p->bat_bytes;
	int rc;

	header_encode(&p->header, header);
	rc = io_write(io, header, sizeof(header), p->footer.data_offset);
	if (!rc)
		rc = create_fill(io, p->header.table_offset, p->bat_bytes, 0xff);
	if (!rc) /* batmaps, locators' rests, the slot */
		rc = create_fill(io, after_bat, p->metadata_end - after_bat, 0);
	if (!rc && p->batmap) {
		plan_batmap_header(p, batmap);
		rc = io_write(io, batmap, sizeof(batmap), p->batmap_at);
	}
	if (!rc && p->locators_at)
		rc = io_write(io, p->locators, sizeof(p->locators), p->locators_at);
	return rc;
}

/* A sector at both places of a footer; then a sync, if @sync. */
static int write_footers(struct vhd_io *io, const uint8_t raw[VHD_FOOTER_BYTES], uint64_t end,
			 bool sync)
{
	int rc = io_write(io, raw, VHD_FOOTER_BYTES, end);

	if (!rc)
		rc = io_write(io, raw, VHD_FOOTER_BYTES, 0);
	return rc || !sync ? rc : io_sync(io);
}

/* @in_place: a crash may leave some of the writes since the last sync, under the image's name;
 * else the caller syncs before it has one. */
static int write_sparse(struct vhd_io *io, const struct plan *p, uint64_t end, bool in_place,
			struct vhd_error *err)
{
	static const uint8_t none[VHD_FOOTER_BYTES];
	uint8_t footer[VHD_FOOTER_BYTES];
	int rc = 0;

	footer_encode(&p->footer, footer);
	if (io->device) /* else old footers could lead to new tables */
		rc = write_footers(io, none, end, true);
	if (!rc)
		rc = write_tables(io, p);
	if (!rc && in_place) /* else new footers could lead to tables that are not there */
		rc = io_sync(io);
	if (!rc)
		rc = write_footers(io, footer, end, in_place);
	return rc < 0 ? error_system(err, rc, "create", io->name) : 0;
}

int create_sparse(struct vhd_io *io, const struct plan *p, uint64_t end, struct vhd_error *err)
{
	return write_sparse(io, p, end, true, err);
}

/* Room of a device; a file has as much as is wanted. */
static int device_end(struct vhd_io *io, uint64_t need, uint64_t *end, struct vhd_error *err)
{
	uint64_t bytes;
	int rc = io_size(io, &bytes);

	if (rc < 0)
		return error_system(err, rc, "create", io->name);
	if (bytes < need + VHD_FOOTER_BYTES)
		return error_value(err, -ENOSPC, 0, need + VHD_FOOTER_BYTES, bytes,
				   "cannot create '%s': the device has %llu bytes, %llu are needed",
				   io->name, (unsigned long long)bytes,
				   (unsigned long long)need + VHD_FOOTER_BYTES);
	*end = number_round_down(bytes, VHD_SECTOR) - VHD_FOOTER_BYTES;
	return 0;
}

int create_sparse_file(const char *path, const struct plan *p, bool force, struct vhd_error *err)
{
	uint64_t end = p->metadata_end;
	struct atomic a;
	int rc = atomic_begin(path, force ? ATOMIC_FORCE : 0, &a, err);

	if (rc < 0)
		return rc;
	if (a.io->device)
		rc = device_end(a.io, p->metadata_end, &end, err);
	if (!rc)
		rc = write_sparse(a.io, p, end, !a.temp, err);
	if (!rc)
		return atomic_commit(&a, true, err);
	atomic_abort(&a);
	return rc;
}

/* Write zeros over a whole disk, piece by piece. */
static int zero_all(struct vhd_io *io, uint64_t bytes, const struct vhd_progress *progress)
{
	uint64_t done = 0;
	int rc = 0;

	while (!rc && done < bytes) {
		uint64_t n = number_min(bytes - done, ZERO_BYTES);

		rc = io->device ? io_zero(io, done, n) : create_fill(io, done, n, 0);
		done += n;
		if (!rc && progress->step && progress->step(progress->arg, done, bytes))
			rc = -VHD_E_CANCELLED;
	}
	return rc;
}

/* Every byte of a fixed disk gets its storage now, and reads as zero. */
static int reserve_all(struct vhd_io *io, uint64_t bytes, const struct vhd_progress *progress)
{
	int fd = io_file_fd(io), rc;

	if (io->device)
		return zero_all(io, bytes, progress);
	/* not posix_fallocate(): where the file system cannot, that writes a byte a page */
	while ((rc = fallocate(fd, 0, 0, (off_t)bytes)) < 0 && errno == EINTR)
		if (progress->step && progress->step(progress->arg, 0, bytes))
			return -VHD_E_CANCELLED;
	if (rc < 0 && errno != EOPNOTSUPP && errno != ENOSYS)
		return -errno;
	return rc < 0 ? zero_all(io, bytes, progress) : 0;
}

static int write_fixed(struct atomic *a, const struct plan *p, bool reserve,
		       const struct vhd_progress *progress, struct vhd_error *err)
{
	uint8_t footer[VHD_FOOTER_BYTES];
	uint64_t end = p->footer.current_size;
	int rc = a->io->device ? device_end(a->io, end, &end, err) : 0;

	if (rc < 0)
		return rc;
	footer_encode(&p->footer, footer);
	/* a device has old contents: zeros are not optional there */
	if (reserve || a->io->device) {
		rc = reserve_all(a->io, p->footer.current_size, progress);
		if (rc == -VHD_E_CANCELLED)
			return error_set(err, rc, "creating '%s' was interrupted", a->path);
		if (rc < 0)
			return error_system(err, rc, "reserve the space of", a->path);
	}
	rc = io_write(a->io, footer, sizeof(footer), end);
	return rc < 0 ? error_system(err, rc, "create", a->path) : 0;
}

static int create_fixed(const char *path, const struct plan *p, const struct vhd_create_options *o,
			struct vhd_error *err)
{
	struct atomic a;
	int rc = atomic_begin(path, o->force ? ATOMIC_FORCE : 0, &a, err);

	if (rc < 0)
		return rc;
	rc = write_fixed(&a, p, o->reserve, &o->progress, err);
	if (!rc)
		return atomic_commit(&a, true, err);
	atomic_abort(&a);
	return rc;
}

int vhd_create(const char *path, const struct vhd_create_options *o, struct vhd_error *err)
{
	struct plan_spec spec = {
		.type = o->type,
		.size = o->size,
		.max_size = o->max_size,
		.block_size = o->block_size,
		.creator = o->creator,
		.timestamp = create_now(),
	};
	struct plan plan;
	int rc;

	if (o->type != VHD_TYPE_FIXED && o->type != VHD_TYPE_DYNAMIC)
		return error_set(err, -VHD_E_ARGUMENT,
				 "cannot create '%s': only fixed and dynamic images are created; a "
				 "differencing one is a snapshot",
				 path);
	if (o->id)
		memcpy(spec.id, o->id, VHD_UUID_BYTES);
	else
		create_id(spec.id);
	rc = plan_make(&spec, &plan, err);
	if (rc < 0) {
		error_prefix(err, "cannot create '%s'", path);
		return rc;
	}
	if (o->dry_run)
		return atomic_check(path, o->force, err);
	return o->type == VHD_TYPE_FIXED ? create_fixed(path, &plan, o, err) :
					   create_sparse_file(path, &plan, o->force, err);
}
