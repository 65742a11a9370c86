/* log.c - a disk that records what is written to it, for replay
 *
 *   log:FILE,TYPE:PATH
 *
 * FILE is a sequence of records, in the order in which requests were answered:
 *
 *   0  "VHDLOG1\n"   8  op: 1 write, 2 flush, 3 trim, 4 zero   12  flags: 1 FUA
 *   16 offset        24 length                                 32  a write's data
 *
 * Integers are big-endian.  Replayed in order up to any flush, the records give what had to be on
 * the disk when that flush was answered.  A request is answered when its record is written.  Memory
 * for a record is taken as it is needed: this disk is for tests.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "filter.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/base/endian.h"
#include "libvhd/error.h"

#define RECORD_BYTES 32u

struct log_disk {
	struct filter filter; /* first */
	int fd;		      /* owned */
	struct engine_file *file;
	uint64_t end;
};

struct record {
	struct engine_io io; /* first */
	struct log_disk *log;
	struct request *req;
	uint8_t bytes[];
};

static unsigned op_of(const struct request *req)
{
	switch (req->op) {
	case REQUEST_WRITE:
		return 1;
	case REQUEST_FLUSH:
		return 2;
	case REQUEST_TRIM:
		return 3;
	case REQUEST_ZERO:
		return 4;
	default:
		return 0;
	}
}

static void recorded(struct engine_io *io)
{
	struct record *r = (struct record *)io;
	struct disk *disk = &r->log->filter.disk;
	struct request *req = r->req;
	int err = io->err;

	free(r);
	disk_complete(disk, req, err);
}

static void answered(struct filter *filter, struct request *req, int err)
{
	struct log_disk *log = (struct log_disk *)filter;
	unsigned op = op_of(req);
	size_t data = op == 1 ? req->length : 0;
	struct record *r;

	if (err || !op) {
		disk_complete(&filter->disk, req, err);
		return;
	}
	r = calloc(1, sizeof(*r) + RECORD_BYTES + data);
	if (!r) {
		disk_complete(&filter->disk, req, -ENOMEM);
		return;
	}
	r->log = log;
	r->req = req;
	memcpy(r->bytes, "VHDLOG1\n", 8);
	be32_store(r->bytes + 8, op);
	be32_store(r->bytes + 12, req->flags & REQUEST_FUA ? 1 : 0);
	be64_store(r->bytes + 16, req->offset);
	be64_store(r->bytes + 24, req->length);
	if (data)
		memcpy(r->bytes + RECORD_BYTES, req->buf, data);
	r->io = (struct engine_io){ .file = log->file,
				    .op = ENGINE_WRITE,
				    .offset = log->end,
				    .length = RECORD_BYTES + data,
				    .buf = r->bytes,
				    .retry = filter->disk.retry,
				    .done = recorded };
	log->end += RECORD_BYTES + data;
	engine_submit(filter->disk.engine, &r->io);
}

static void submit(struct disk *disk, struct request *req)
{
	filter_pass(filter_of(disk), req);
}

static int start(struct disk *disk, struct vhd_error *err)
{
	struct log_disk *log = (struct log_disk *)disk;
	struct engine_file_params p = { .fd = log->fd, .buffered_fd = -1, .writable = true };
	int rc = engine_file_open(disk->engine, &p, &log->file);

	if (rc < 0)
		return error_set(err, rc, "cannot start the log: %s", strerror(-rc));
	return filter_start(disk, err);
}

static void stop(struct disk *disk)
{
	struct log_disk *log = (struct log_disk *)disk;

	engine_file_close(log->file);
	log->file = NULL;
	filter_stop(disk);
}

static void close_disk(struct disk *disk)
{
	struct log_disk *log = (struct log_disk *)disk;

	filter_close(&log->filter);
	if (log->fd >= 0)
		close(log->fd);
	free(log);
}

static const struct disk_ops log_ops = {
	.name = "log",
	.start = start,
	.submit = submit,
	.abort = filter_abort,
	.reopen_begin = filter_reopen_begin,
	.reopen = filter_reopen,
	.reopen_end = filter_reopen_end,
	.is_idle = filter_is_idle,
	.quiesce = filter_quiesce,
	.park = filter_park,
	.stop = stop,
	.close = close_disk,
	.layers = filter_layers,
};

int log_disk_open(const char *argument, const struct disk_params *params, struct disk **out,
		  struct vhd_error *err)
{
	struct log_disk *log = calloc(1, sizeof(*log));
	CLEANUP_FREE char *path = NULL;
	size_t own = 0;
	int rc;

	if (!log)
		return error_system(err, -ENOMEM, "open", argument);
	log->fd = -1;
	log->filter.disk.ops = &log_ops;
	log->filter.answered = answered;
	rc = filter_open(&log->filter, "log", argument, params, &own, err);
	if (!rc) {
		path = strndup(argument, own);
		log->fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
		if (log->fd < 0)
			rc = error_system(err, path ? -errno : -ENOMEM, "open", path ? path : "");
		else
			log->end = (uint64_t)lseek(log->fd, 0, SEEK_END); /* goes on */
	}
	if (rc < 0) {
		close_disk(&log->filter.disk);
		return rc;
	}
	*out = &log->filter.disk;
	return 0;
}
