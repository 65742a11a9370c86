/* null.c - a disk that reads as zeros and drops what is written: to measure all the rest */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/error.h"
#include "storeless.h"
#include "types.h"

static int start(struct disk *disk, struct vhd_error *err)
{
	(void)disk;
	(void)err;
	return 0;
}

static void submit(struct disk *disk, struct request *req)
{
	if (req->op == REQUEST_READ) {
		memset(req->buf, 0, req->length);
	} else if (req->op == REQUEST_STATUS) {
		req->extents[0] = (struct request_extent){ .length = req->length,
							   .flags = EXTENT_HOLE | EXTENT_ZERO };
		req->extent_count = 1;
	}
	disk_complete(disk, req, 0);
}

static void close_disk(struct disk *disk)
{
	free(disk);
}

static const struct disk_ops null_ops = {
	.name = "null",
	.start = start,
	.submit = submit,
	.quiesce = storeless_quiesce,
	.park = storeless_park,
	.unpark = storeless_park,
	.stop = storeless_stop,
	.close = close_disk,
};

int null_disk_open(const char *size, const struct disk_params *params, struct disk **out,
		   struct vhd_error *err)
{
	struct disk *disk = calloc(1, sizeof(*disk));
	int rc;

	if (!disk)
		return error_system(err, -ENOMEM, "open", size);
	rc = disk_size_argument(size, &disk->size, err);
	if (rc < 0) {
		free(disk);
		return rc;
	}
	disk->ops = &null_ops;
	disk->read_only = params->read_only;
	disk->can_trim = disk->fast_zero = !params->read_only;
	*out = disk;
	return 0;
}
