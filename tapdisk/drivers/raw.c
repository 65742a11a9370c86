/* raw.c - a file or block device as it is
 *
 * Sectors go straight to the engine.  A file whose length is no multiple of 512
 * is a disk of the next multiple: the rest of its last sector reads as zeros, and the file grows
 * when that sector is written.  Nothing is kept in memory about the contents, so that others may
 * change the file while it is paused; that it is still the same file, of the same size, is checked
 * at unpark.
 *
 * STATUS asks the file system (SEEK_DATA) in the loop's thread where that does not wait for
 * a network; elsewhere, and on devices, everything is data.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "libvhd/base/cleanup.h"
#include "libvhd/base/number.h"
#include "libvhd/error.h"
#include "libvhd/io-file.h"
#include "libvhd/lock.h"
#include "reopen.h"
#include "types.h"

#define EXTENTS_MAX 64u /* file system calls for one STATUS */
#define CIFS_MAGIC  0xff534d42u
#define SMB2_MAGIC  0xfe534d42u

struct raw_disk {
	struct disk disk;	  /* first */
	struct vhd_io *io;	  /* owned */
	struct engine_file *file; /* owned, unless file_borrowed */
	bool file_borrowed;
	int buffered_fd; /* owned; -1: none */
	bool seeks;	 /* SEEK_DATA is quick */
	bool writethrough;
	unsigned lock_wait_ms;
	bool changed; /* since the last good sync */
	struct engine_io quiesce;
	void (*quiesced)(void *arg, int err);
	void *quiesced_arg;
	uint64_t reads, writes, read_failures, write_failures;
};

struct raw_req {	     /* in request.state */
	struct engine_io io; /* first */
	struct raw_disk *disk;
	struct request *req;
};
static_assert(sizeof(struct raw_req) <= REQUEST_STATE_BYTES, "REQUEST_STATE_BYTES too small");

static struct raw_disk *raw_of(struct disk *disk)
{
	return (struct raw_disk *)disk;
}

/* ── requests ── */

static void sync_failed(struct raw_disk *d)
{
	disk_lost(&d->disk, d->file);
	if (d->disk.event)
		d->disk.event(&d->disk, "flush-failed",
			      "a flush failed: what was written since the last good one may be "
			      "lost");
}

static void landed(struct engine_io *io)
{
	struct raw_req *r = (struct raw_req *)io;
	struct raw_disk *d = r->disk;
	struct request *req = r->req;
	int err = io->err;

	if (err == -ECANCELED)
		request_note_cancelled(req, io);
	if (io->op == ENGINE_SYNC) {
		if (err)
			sync_failed(d);
	} else if (io->op == ENGINE_READ) {
		d->read_failures += err && err != -ECANCELED;
	} else {
		d->changed = true;
		d->write_failures += err && err != -ECANCELED;
		if (!err && ((req->flags & REQUEST_FUA) || d->writethrough)) {
			io->op = ENGINE_SYNC;
			io->offset = io->length = 0;
			io->retry = NULL; /* ORDER 5 */
			engine_submit(d->disk.engine, io);
			return;
		}
	}
	disk_complete(&d->disk, req, err);
}

static void issue(struct raw_disk *d, struct request *req, enum engine_op op)
{
	struct raw_req *r = (struct raw_req *)(void *)req->state;

	r->disk = d;
	r->req = req;
	r->io = (struct engine_io){
		.file = d->file,
		.op = op,
		.offset = req->offset,
		.length = req->length,
		.buf = req->buf,
		.retry = op == ENGINE_SYNC ? NULL : d->disk.retry, /* ORDER 5 */
		.retry_epoch = retry_epoch(d->disk.retry),
		.failing_ns = req->failing_ns,
		.done = landed,
	};
	engine_submit(d->disk.engine, &r->io);
}

static void status(struct raw_disk *d, struct request *req)
{
	uint64_t at = req->offset, end = req->offset + req->length, data_start, data_end;
	unsigned max = (unsigned)number_min(req->extent_max, EXTENTS_MAX);

	req->extent_count = 0;
	while (at < end && req->extent_count < max) {
		struct request_extent *e = &req->extents[req->extent_count++];

		if (!d->seeks || io_data(d->io, at, &data_start, &data_end) < 0) {
			*e = (struct request_extent){ .length = end - at, .depth = 1 };
			return;
		}
		/* extents end at sectors: half a sector of data is data */
		data_start = number_round_down(data_start, REQUEST_SECTOR);
		data_end = number_round_up(data_end, REQUEST_SECTOR);
		if (data_start > at || data_end <= at) {
			uint64_t next = data_start > at ? number_min(data_start, end) : end;

			*e = (struct request_extent){ .length = next - at,
						      .flags = EXTENT_HOLE | EXTENT_ZERO };
			at = next;
		} else {
			*e = (struct request_extent){ .length = number_min(data_end, end) - at,
						      .depth = 1 };
			at += e->length;
		}
	}
}

static void zero(struct raw_disk *d, struct request *req)
{
	bool keep = req->flags & REQUEST_NO_HOLE;

	/* a hole is quick where the file system makes them; other zeroing may mean writing */
	if ((req->flags & REQUEST_FAST_ZERO) && (keep || !d->disk.fast_zero))
		disk_complete(&d->disk, req, -ENOTSUP);
	else
		issue(d, req, keep || !d->disk.can_trim ? ENGINE_ZERO : ENGINE_PUNCH);
}

static void submit(struct disk *disk, struct request *req)
{
	struct raw_disk *d = raw_of(disk);

	switch (req->op) {
	case REQUEST_READ:
		d->reads += req->length / REQUEST_SECTOR;
		issue(d, req, ENGINE_READ);
		return;
	case REQUEST_WRITE:
		d->writes += req->length / REQUEST_SECTOR;
		issue(d, req, ENGINE_WRITE);
		return;
	case REQUEST_ZERO:
		zero(d, req);
		return;
	case REQUEST_TRIM:
		if (disk->can_trim) {
			issue(d, req, ENGINE_PUNCH);
			return;
		}
		break;
	case REQUEST_FLUSH:
		if (!disk->read_only) {
			issue(d, req, ENGINE_SYNC);
			return;
		}
		break;
	case REQUEST_STATUS:
		status(d, req);
		break;
	case REQUEST_CACHE:
		break;
	}
	disk_complete(disk, req, 0);
}

/* ── life ── */

static int start(struct disk *disk, struct vhd_error *err)
{
	struct raw_disk *d = raw_of(disk);
	struct engine_file_params p = { .fd = io_file_fd(d->io),
					.buffered_fd = d->buffered_fd,
					.device = d->io->device,
					.writable = d->io->writable };
	int rc;

	if (d->file)
		return 0;
	rc = engine_file_open(disk->engine, &p, &d->file);
	return rc < 0 ? error_system(err, rc, "start", d->io->name) : 0;
}

static void quiesce_landed(struct engine_io *io)
{
	struct raw_disk *d = list_entry(io, struct raw_disk, quiesce);

	if (io->err)
		sync_failed(d);
	else
		d->changed = false;
	d->quiesced(d->quiesced_arg, io->err);
}

static void quiesce(struct disk *disk, void (*done)(void *arg, int err), void *arg)
{
	struct raw_disk *d = raw_of(disk);

	if (!d->changed) {
		done(arg, 0);
		return;
	}
	d->quiesced = done;
	d->quiesced_arg = arg;
	d->quiesce =
		(struct engine_io){ .file = d->file, .op = ENGINE_SYNC, .done = quiesce_landed };
	engine_submit(disk->engine, &d->quiesce);
}

static int take_locks(struct raw_disk *d, struct vhd_error *err)
{
	return lock_take(d->io, d->disk.read_only ? LOCK_READ_TOP : LOCK_WRITE, NULL,
			 d->lock_wait_ms, NULL, err);
}

static int park(struct disk *disk, struct vhd_error *err)
{
	struct raw_disk *d = raw_of(disk);

	lock_release(d->io);
	if (disk->read_only)
		return 0;
	return lock_take(d->io, LOCK_PARKED, NULL, d->lock_wait_ms, NULL, err);
}

static int unpark(struct disk *disk, struct vhd_error *err)
{
	struct raw_disk *d = raw_of(disk);
	struct stat st;
	uint64_t size;
	bool same;

	if (stat(d->io->name, &st) < 0)
		return error_system(err, -errno, "open", d->io->name);
	same = d->io->device ? S_ISBLK(st.st_mode) && st.st_rdev == d->io->device_id :
			       st.st_dev == d->io->device_id && st.st_ino == d->io->inode;
	if (!same || io_size(d->io, &size) < 0 ||
	    number_round_up(size, REQUEST_SECTOR) != disk->size)
		return error_set(err, -ESTALE, "'%s' is another file now", d->io->name);
	lock_release(d->io);
	return take_locks(d, err);
}

static void stop(struct disk *disk)
{
	struct raw_disk *d = raw_of(disk);

	if (!d->file_borrowed)
		engine_file_close(d->file);
	if (!d->file_borrowed)
		d->file = NULL;
}

static void close_disk(struct disk *disk)
{
	struct raw_disk *d = raw_of(disk);

	io_close(d->io);
	if (d->buffered_fd >= 0)
		close(d->buffered_fd);
	free(d);
}

static int open_buffered(const struct vhd_io *io)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", io_file_fd(io));
	return open(path, (io->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
}

/* ── files anew ── */

struct raw_reopen {
	struct reopen_item item;
	int buffered_fd; /* borrowed */
};

static int reopen_begin(struct disk *disk, void **plan)
{
	struct raw_disk *d = raw_of(disk);
	struct raw_reopen *r;

	if (d->io->device)
		return -ENOTSUP;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->buffered_fd = d->buffered_fd;
	r->item = (struct reopen_item){ .io = d->io,
					.file = d->file,
					.locked = true,
					.role = d->disk.read_only ? LOCK_READ_TOP : LOCK_WRITE,
					.wait_ms = d->lock_wait_ms };
	*plan = r;
	return 0;
}

static int reopen(void *plan, bool *lost, struct vhd_error *err)
{
	const struct raw_reopen *r = plan;
	int rc = reopen_item(&r->item, lost, err);
	int fd = -1;

	if (*lost)
		reopen_disown(&r->item);
	if (r->buffered_fd >= 0 && (!rc || *lost))
		fd = open_buffered(r->item.io);

	if (fd >= 0) {
		(void)dup3(fd, r->buffered_fd, O_CLOEXEC);
		close(fd);
	}
	return rc;
}

static unsigned layers(const struct disk *disk, struct disk_layer_info *out, unsigned max)
{
	const struct raw_disk *d = (const struct raw_disk *)disk;

	if (!max)
		return 0;
	out[0] = (struct disk_layer_info){ .path = d->io->name,
					   .type = "aio",
					   .reads = d->reads,
					   .writes = d->writes,
					   .read_failures = d->read_failures,
					   .write_failures = d->write_failures };
	return 1;
}

static const struct disk_ops raw_ops = {
	.name = "aio",
	.start = start,
	.submit = submit,
	.quiesce = quiesce,
	.reopen_begin = reopen_begin,
	.reopen = reopen,
	.reopen_end = free,
	.park = park,
	.unpark = unpark,
	.stop = stop,
	.close = close_disk,
	.layers = layers,
};

/* ── opening ── */

/* Can the device make zeros without our writing them? */
static bool device_punches(const struct vhd_io *io)
{
	static const char *const forms[] = {
		"/sys/dev/block/%u:%u/queue/write_zeroes_max_bytes",
		"/sys/dev/block/%u:%u/../queue/write_zeroes_max_bytes", /* of a partition */
	};
	unsigned long long bytes = 0;
	char path[96];

	for (unsigned i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), forms[i], major(io->device_id), minor(io->device_id));
		FILE *f = fopen(path, "re");

		if (!f)
			continue;
		if (fscanf(f, "%llu", &bytes) != 1)
			bytes = 0;
		fclose(f);
		return bytes;
	}
	return false;
}

/* What the storage can do. */
static void probe(struct raw_disk *d, int fd, uint64_t size)
{
	struct statfs fs;
	bool punches;

	d->seeks = !d->io->device;
	if (fd < 0)
		punches = true; /* a test's memory */
	else if (d->io->device)
		punches = device_punches(d->io);
	else
		/* a hole behind the end changes nothing */
		punches = d->io->writable &&
			  fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    (off_t)number_round_up(size, 1u << 20), 4096) == 0;
	d->disk.can_trim = d->disk.fast_zero = punches && !d->disk.read_only;
	if (fd >= 0 && fstatfs(fd, &fs) == 0) {
		unsigned type = (unsigned)fs.f_type;

		if (type == NFS_SUPER_MAGIC || type == SMB_SUPER_MAGIC || type == CIFS_MAGIC ||
		    type == SMB2_MAGIC || type == FUSE_SUPER_MAGIC)
			d->seeks = false;
	}
}

int raw_disk_wrap(struct vhd_io *io, struct engine_file *file, const struct disk_params *params,
		  struct disk **out, struct vhd_error *err)
{
	struct raw_disk *d = calloc(1, sizeof(*d));
	int fd = io_file_fd(io), flags, rc;
	uint64_t size;

	if (!d)
		return error_system(err, -ENOMEM, "open", io->name);
	d->io = io;
	d->buffered_fd = -1;
	d->disk.ops = &raw_ops;
	d->disk.read_only = params->read_only;
	d->writethrough = params->writethrough;
	d->lock_wait_ms = params->lock_wait_ms;
	d->file = file;
	d->file_borrowed = file;
	rc = io_size(io, &size);
	if (rc < 0)
		error_system(err, rc, "examine", io->name);
	else
		rc = take_locks(d, err);
	if (rc < 0) {
		free(d);
		return rc;
	}
	d->disk.size = number_round_up(size, REQUEST_SECTOR);
	probe(d, fd, size);
	flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
	if (flags >= 0 && (flags & O_DIRECT))
		d->buffered_fd = open_buffered(io);
	*out = &d->disk;
	return 0;
}

int raw_disk_open(const char *path, const struct disk_params *params, struct disk **out,
		  struct vhd_error *err)
{
	unsigned flags = (params->read_only ? 0 : IO_FILE_WRITE) |
			 (params->buffered ? 0 : IO_FILE_DIRECT);
	struct vhd_io *io;
	int rc = io_file_open(path, flags, &io, err);

	if (rc < 0)
		return rc;
	rc = raw_disk_wrap(io, NULL, params, out, err);
	if (rc < 0)
		io_close(io);
	return rc;
}
