/* create.c - making fixed and dynamic images
 *
 * Files appear by rename after a sync (atomic.c).  On a device the order of
 * writes matters: both footers go last, the copy at 0 after a sync of
 * everything it leads to.
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

#define PIECE_BYTES (1u << 20)

void create_id(uint8_t id[VHD_UUID_BYTES])
{
	uuid_generate(id);
}

uint32_t create_now(void)
{
	return footer_time_from_unix(time(NULL));
}

static int fill(struct vhd_io *io, uint64_t offset, uint64_t length, uint8_t byte)
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
		rc = fill(io, p->header.table_offset, p->bat_bytes, 0xff);
	if (!rc) /* batmaps, locators' rests, the slot */
		rc = fill(io, after_bat, p->metadata_end - after_bat, 0);
	if (!rc && p->batmap) {
		plan_batmap_header(p, batmap);
		rc = io_write(io, batmap, sizeof(batmap), p->batmap_at);
	}
	if (!rc && p->locators_at)
		rc = io_write(io, p->locators, sizeof(p->locators), p->locators_at);
	return rc;
}

int create_sparse(struct vhd_io *io, const struct plan *p, uint64_t end, struct vhd_error *err)
{
	uint8_t footer[VHD_FOOTER_BYTES];
	int rc = write_tables(io, p);

	footer_encode(&p->footer, footer);
	if (!rc)
		rc = io_write(io, footer, sizeof(footer), end);
	if (!rc && io->device)
		rc = io_sync(io);
	if (!rc)
		rc = io_write(io, footer, sizeof(footer), 0);
	if (!rc)
		rc = io_sync(io);
	return rc < 0 ? error_system(err, rc, "create", io->name) : 0;
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
	int rc = atomic_begin(path, force, &a, err);

	if (rc < 0)
		return rc;
	if (a.io->device)
		rc = device_end(a.io, p->metadata_end, &end, err);
	if (!rc)
		rc = create_sparse(a.io, p, end, err);
	if (!rc)
		return atomic_commit(&a, true, err);
	atomic_abort(&a);
	return rc;
}

/* Every byte of a fixed disk gets its storage now, and reads as zero. */
static int reserve_all(struct vhd_io *io, uint64_t bytes)
{
	int rc = posix_fallocate(io_file_fd(io), 0, (off_t)bytes);

	return rc == EOPNOTSUPP || rc == EINVAL ? fill(io, 0, bytes, 0) : -rc;
}

static int create_fixed(const char *path, const struct plan *p, bool force, bool reserve,
			struct vhd_error *err)
{
	uint8_t footer[VHD_FOOTER_BYTES];
	uint64_t end = p->footer.current_size;
	struct atomic a;
	int rc = atomic_begin(path, force, &a, err);

	if (rc < 0)
		return rc;
	footer_encode(&p->footer, footer);
	if (a.io->device) {
		rc = device_end(a.io, end, &end, err);
		if (!rc && (rc = io_zero(a.io, 0, p->footer.current_size)) < 0)
			error_system(err, rc, "create", path);
	} else if (reserve && (rc = reserve_all(a.io, end)) < 0) {
		error_system(err, rc, "reserve the space of", path);
	}
	if (!rc && (rc = io_write(a.io, footer, sizeof(footer), end)) < 0)
		error_system(err, rc, "create", path);
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
	return o->type == VHD_TYPE_FIXED ? create_fixed(path, &plan, o->force, o->reserve, err) :
					   create_sparse_file(path, &plan, o->force, err);
}
