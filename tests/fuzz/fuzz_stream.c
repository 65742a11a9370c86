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

/* Raw, or dynamic: the blocks' size in *arg, 0 for raw. */
static int make(void *arg, uint64_t size, struct convert_target *t, struct vhd_error *err)
{
	const uint32_t *block_size = arg;
	struct plan_spec spec = { .type = VHD_TYPE_DYNAMIC,
				  .size = (size + 511) / 512 * 512,
				  .block_size = *block_size };

	t->format = *block_size ? VHD_FORMAT_DYNAMIC : VHD_FORMAT_RAW;
	t->size = spec.size;
	return *block_size ? plan_make(&spec, &t->plan, err) : 0;
}

/* The last byte of the input: is it raw, is the target dynamic, of which blocks. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct vhd_progress progress = { .step = stop };
	struct mem_disk *disk = mem_disk_new(0, false);
	struct vhd_io *io = mem_disk_open(disk, "target", true);
	int fd = memfd_create("source", MFD_CLOEXEC), rc, n;
	uint8_t choice = size ? data[size - 1] : 0;
	uint32_t block_size = choice & 2 ? 65536u << (choice >> 2 & 7) : 0;
	struct convert_maker maker = { make, &block_size };
	struct convert_head head = { .length = 0 };
	struct vhd_convert_result result = { 0 };
	struct vhd_error err = { 0 };
	struct stream *in;

	MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size && !lseek(fd, 0, SEEK_SET));
	MUST(!stream_reader(fd, "source", &in, &err));
	n = stream_read(in, head.bytes, sizeof(head.bytes), &err);
	head.length = n > 0 ? (size_t)n : 0;
	rc = n < 0 ? n :
		     convert_from_pipe(in, &head, choice & 1, io, block_size, &maker, &progress,
				       &result, &err);
	if (rc < 0)
		MUST(err.code == rc && err.text[0]);
	else if (block_size)
		MUST(image_probe(io) == 1);
	else
		MUST(mem_disk_size(disk) == (result.data_bytes + 511) / 512 * 512);
	stream_close(in, NULL);
	io_close(io);
	mem_disk_free(disk);
	return 0;
}
