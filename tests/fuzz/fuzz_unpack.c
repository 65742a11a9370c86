/* fuzz_unpack.c - the archive of a chain comes, and is not believed */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "libvhd/export.h"

#define OUTPUT_MAX (16u << 20) /* of a few bytes of gzip */

struct files {
	unsigned count;
	bool open;
	uint64_t size, end;
};

static int stop(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	(void)total;
	return done > OUTPUT_MAX;
}

static int begin(void *arg, const char *name, uint64_t size, uint64_t mtime, struct vhd_error *err)
{
	struct files *f = arg;

	(void)err;
	(void)mtime;
	MUST(!f->open && f->count++ < EXPORT_FILES_MAX && size <= EXPORT_SIZE_MAX);
	MUST(name[0] && name[0] != '.' && !strchr(name, '/') && strlen(name) <= TAR_NAME_MAX);
	f->open = true;
	f->size = size;
	f->end = 0;
	return 0;
}

/* Ascending, within the file. */
static int store(void *arg, const void *data, size_t length, uint64_t offset, struct vhd_error *err)
{
	struct files *f = arg;

	(void)err;
	(void)data;
	MUST(f->open && length && offset >= f->end && offset + length <= f->size);
	f->end = offset + length;
	return 0;
}

static int end(void *arg, struct vhd_error *err)
{
	struct files *f = arg;

	(void)err;
	MUST(f->open);
	f->open = false;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct vhd_progress progress = { .step = stop };
	int fd = memfd_create("source", MFD_CLOEXEC), rc;
	struct files files = { .count = 0 };
	const struct unpack_sink sink = { begin, store, end, &files };
	struct vhd_error err = { 0 };
	struct stream *in;
	uint64_t bytes;

	MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size && !lseek(fd, 0, SEEK_SET));
	MUST(!stream_reader(fd, "source", &in, &err));
	rc = unpack(in, "source", &sink, &progress, &bytes, &err);
	MUST(rc < 0 ? err.code == rc && err.text[0] : !files.open);
	stream_close(in, NULL);
	return 0;
}
