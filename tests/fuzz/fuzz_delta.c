/* fuzz_delta.c - a delta arrives: whole or cut off, anew or resumed */
#include <unistd.h>

#include "fuzz.h"
#include "libvhd/delta.h"
#include "libvhd/error.h"
#include "libvhd/image.h"
#include "tests/lib/io-mem.h"

#include <sys/mman.h> /* last: its MAP_SYNC is a macro, map.h has one too */

#define OUTPUT_MAX (16u << 20) /* of a few bytes of gzip */

static int stop(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	(void)total;
	return done > OUTPUT_MAX;
}

/* Receive @size bytes onto what is in @disk, of which the first @have count. */
static int receive(struct mem_disk *disk, const uint8_t *data, size_t size, uint64_t have,
		   struct delta_receive *r)
{
	static const struct vhd_progress progress = { .step = stop };
	struct vhd_io *io = mem_disk_open(disk, "target", true);
	int fd = memfd_create("source", MFD_CLOEXEC), rc;
	struct vhd_error err = { 0 };
	struct stream *in;

	MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size && !lseek(fd, 0, SEEK_SET));
	MUST(!stream_reader(fd, "source", &in, &err));
	*r = (struct delta_receive){
		.in = in, .io = io, .name = "source", .have = have, .progress = &progress
	};
	rc = delta_receive(r, &err);
	if (rc < 0)
		MUST(err.code == rc && err.text[0]);
	else
		MUST(r->at == r->total && r->total);
	MUST(!io_truncate(io, r->at));
	stream_close(in, NULL);
	io_close(io);
	return rc;
}

/* Something that is there under the name of a delta that arrived whole. */
static void measure(struct mem_disk *disk)
{
	struct vhd_io *io = mem_disk_open(disk, "whole", true);
	uint8_t footer[VHD_FOOTER_BYTES];
	struct vhd_error err = { 0 };
	struct vhd_image *img;
	uint64_t bytes;
	int rc = image_open(io, 0, &img, &err);

	if (rc < 0) {
		io_close(io);
		return;
	}
	rc = delta_length(img, "whole", NULL, footer, &bytes, &err);
	if (rc < 0)
		MUST(err.code == rc && err.text[0] && !bytes);
	else
		MUST(bytes >= 2 * VHD_FOOTER_BYTES + VHD_HEADER_BYTES);
	image_close(img);
}

/* The last byte of the input: where it is cut in two, in 256ths; 0: not. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mem_disk *disk = mem_disk_new(0, false), *parts = mem_disk_new(0, false);
	uint8_t choice = size ? data[size - 1] : 0;
	size_t cut = size * choice / 256;
	struct delta_receive whole, part;
	int rc = receive(disk, data, size - !!size, 0, &whole), again;

	/* in two parts it is the same, or stops where the first part does */
	/* (a sender makes gzip of a rest that would be taken for it) */
	if (cut >= VHD_FOOTER_BYTES && data[0] != 0x1f && data[cut] != 0x1f) {
		again = receive(parts, data, cut, 0, &part);
		if (again == -VHD_E_TRUNCATED) {
			MUST(part.at == cut);
			again = receive(parts, data + cut, size - 1 - cut, cut, &part);
			MUST(again == rc && part.at == whole.at);
		}
	}
	measure(disk);
	mem_disk_free(parts);
	mem_disk_free(disk);
	return 0;
}
