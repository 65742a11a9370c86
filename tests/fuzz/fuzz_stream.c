/* fuzz_stream.c - what comes through a pipe: gzip or not, a footer at its end or not */
#include <unistd.h>

#include "fuzz.h"
#include "libvhd/convert.h"
#include "tests/lib/io-mem.h"

#include <sys/mman.h> /* last: its MAP_SYNC is a macro, map.h has one too */

#define OUTPUT_MAX (16u << 20) /* of a few bytes of gzip */

static int stop(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	(void)total;
	return done > OUTPUT_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct vhd_progress progress = { .step = stop };
	struct mem_disk *disk = mem_disk_new(0, false);
	struct vhd_io *io = mem_disk_open(disk, "target", true);
	int fd = memfd_create("source", MFD_CLOEXEC), rc;
	struct vhd_error err = { 0 };
	struct stream *in;
	uint64_t bytes = 0;

	MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size && !lseek(fd, 0, SEEK_SET));
	MUST(!stream_reader(fd, "source", &in, &err));
	rc = convert_receive(in, size && data[size - 1] & 1, io, &bytes, &progress, &err);
	if (rc < 0)
		MUST(err.code == rc && err.text[0]);
	else
		MUST(mem_disk_size(disk) == (bytes + 511) / 512 * 512);
	stream_close(in, NULL);
	io_close(io);
	mem_disk_free(disk);
	return 0;
}
