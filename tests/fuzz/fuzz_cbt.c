/* fuzz_cbt.c - two changed-block logs: opened, read, changed, merged, used by a server
 *
 * The first byte says where the second begins.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "libvhd/base/number.h"
#include "libvhd/cbt.h"

#define LOG_MAX	  8192u
#define SIZE_MAX_ (1ull << 40)

/* A file in memory, and a path to it. */
static int make(const uint8_t *data, size_t size, char *path)
{
	int fd = memfd_create("log", MFD_CLOEXEC);

	MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	sprintf(path, "/proc/self/fd/%d", fd);
	return fd;
}

static void look(const char *path)
{
	struct vhd_error err = { 0 };
	uint8_t bits[512];
	struct cbt c;
	int rc = cbt_open(path, false, &c, &err);

	if (rc < 0) {
		MUST(err.code == rc && err.text[0]);
		return;
	}
	if (!cbt_whole(&c, &err)) {
		uint64_t bytes = cbt_bitmap_bytes(c.header.size);
		size_t n = number_min(bytes, sizeof(bits));

		MUST(!cbt_read(&c, bits, n, bytes - n, &err));
		MUST(cbt_read(&c, bits, n + 1, bytes - n, &err) == -VHD_E_RANGE);
	}
	cbt_close(&c);
}

static void serve(const char *path)
{
	struct vhd_error err = { 0 };
	struct cbt c;
	bool flag;

	if (cbt_open(path, true, &c, &err))
		return;
	flag = c.header.consistent;
	if (c.header.size < SIZE_MAX_ &&
	    !cbt_begin(&c, c.header.size + CBT_BLOCK_BYTES * 9, &err)) {
		MUST(!c.header.consistent);
		MUST(!cbt_end(&c, true, &err));
		MUST(c.header.consistent == flag);
	}
	cbt_close(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vhd_error err = { 0 };
	struct cbt_change change = { 0 };
	uint64_t grown = 1 << 24;
	char first[64], second[64];
	int a, b;
	size_t cut;

	if (!size)
		return 0;
	cut = number_min(data[0] * 4u, size - 1);
	size = number_min(size, LOG_MAX);
	cut = number_min(cut, size - 1);
	a = make(data + 1, cut, first);
	b = make(data + 1 + cut, size - 1 - cut, second);
	look(first);
	look(second);
	if (!cbt_coalesce(first, second, false, &err))
		look(second);
	change.size = &grown;
	if (!cbt_set(first, &change, false, &err))
		look(first);
	serve(second);
	look(second);
	close(a);
	close(b);
	return 0;
}
