/* ram.c - a disk in memory, gone when it is closed
 *
 * One anonymous mapping of the whole size; the kernel gives pages as they are
 * written and takes them back at trims.  A bit per CELL tells STATUS what was ever
 * written.  Paused and resumed under its own name it keeps its contents (unpark).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "libvhd/base/number.h"
#include "libvhd/error.h"
#include "storeless.h"
#include "types.h"

#define CELL 65536u

struct ram_disk {
	struct disk disk; /* first */
	uint8_t *memory;  /* owned mapping */
	uint8_t *written; /* owned: bit per CELL */
	uint64_t reads, writes;
};

static struct ram_disk *ram_of(struct disk *disk)
{
	return (struct ram_disk *)disk;
}

static bool is_written(const struct ram_disk *d, uint64_t cell)
{
	return d->written[cell / 8] & 1u << cell % 8;
}

static void set_written(struct ram_disk *d, uint64_t offset, uint64_t length)
{
	for (uint64_t c = offset / CELL; c * CELL < offset + length; c++)
		d->written[c / 8] |= (uint8_t)(1u << c % 8);
}

/* Whole cells go back to the kernel, the rest is cleared. */
static void clear(struct ram_disk *d, uint64_t offset, uint64_t length)
{
	uint64_t end = offset + length;
	uint64_t first = number_round_up(offset, CELL);
	uint64_t last = end == d->disk.size ? end : number_round_down(end, CELL);

	if (first >= last || madvise(d->memory + first, last - first, MADV_DONTNEED) < 0) {
		memset(d->memory + offset, 0, length);
		return;
	}
	memset(d->memory + offset, 0, first - offset);
	memset(d->memory + last, 0, end - last);
	for (uint64_t c = first / CELL; c * CELL < last; c++)
		d->written[c / 8] &= (uint8_t) ~(1u << c % 8);
}

static void status(struct ram_disk *d, struct request *req)
{
	uint64_t at = req->offset, end = req->offset + req->length;

	req->extent_count = 0;
	while (at < end) {
		bool data = is_written(d, at / CELL);
		uint64_t next = at;

		while (next < end && is_written(d, next / CELL) == data)
			next = number_min(end, number_round_down(next, CELL) + CELL);
		if (req->extent_count == req->extent_max)
			return;
		req->extents[req->extent_count++] =
			(struct request_extent){ .length = next - at,
						 .flags = data ? 0 : EXTENT_HOLE | EXTENT_ZERO,
						 .depth = data };
		at = next;
	}
}

static int start(struct disk *disk, struct vhd_error *err)
{
	(void)disk;
	(void)err;
	return 0;
}

static void submit(struct disk *disk, struct request *req)
{
	struct ram_disk *d = ram_of(disk);

	switch (req->op) {
	case REQUEST_READ:
		memcpy(req->buf, d->memory + req->offset, req->length);
		d->reads += req->length / REQUEST_SECTOR;
		break;
	case REQUEST_WRITE:
		memcpy(d->memory + req->offset, req->buf, req->length);
		set_written(d, req->offset, req->length);
		d->writes += req->length / REQUEST_SECTOR;
		break;
	case REQUEST_TRIM:
	case REQUEST_ZERO:
		clear(d, req->offset, req->length);
		break;
	case REQUEST_STATUS:
		status(d, req);
		break;
	case REQUEST_FLUSH:
	case REQUEST_CACHE:
		break;
	}
	disk_complete(disk, req, 0);
}

static unsigned layers(const struct disk *disk, struct disk_layer_info *out, unsigned max)
{
	const struct ram_disk *d = (const struct ram_disk *)disk;

	if (!max)
		return 0;
	out[0] = (struct disk_layer_info){
		.path = "", .type = "ram", .reads = d->reads, .writes = d->writes
	};
	return 1;
}

static void close_disk(struct disk *disk)
{
	struct ram_disk *d = ram_of(disk);

	if (d->memory)
		munmap(d->memory, disk->size);
	free(d->written);
	free(d);
}

static const struct disk_ops ram_ops = {
	.name = "ram",
	.start = start,
	.submit = submit,
	.quiesce = storeless_quiesce,
	.park = storeless_park,
	.unpark = storeless_park,
	.stop = storeless_stop,
	.close = close_disk,
	.layers = layers,
};

int ram_disk_open(const char *size, const struct disk_params *params, struct disk **out,
		  struct vhd_error *err)
{
	struct ram_disk *d = calloc(1, sizeof(*d));
	void *memory;
	int rc;

	if (!d)
		return error_system(err, -ENOMEM, "open", size);
	d->disk.ops = &ram_ops;
	d->disk.read_only = params->read_only;
	d->disk.can_trim = d->disk.fast_zero = !params->read_only;
	d->disk.block_bytes = CELL;
	rc = disk_size_argument(size, &d->disk.size, err);
	if (rc < 0)
		goto fail;
	rc = -ENOMEM;
	d->written = calloc(1, number_div_up(d->disk.size, (uint64_t)CELL * 8));
	memory = mmap(NULL, d->disk.size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	d->memory = memory == MAP_FAILED ? NULL : memory;
	if (!d->written || !d->memory) {
		error_set(err, rc, "cannot open 'ram:%s': not enough memory", size);
		goto fail;
	}
	*out = &d->disk;
	return 0;
fail:
	close_disk(&d->disk);
	return rc;
}
