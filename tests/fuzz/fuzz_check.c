/* fuzz_check.c - an image in a file: checked in every way, opened as a chain, read
 *
 *   byte 0  bit 0: right checksums; bits 1 to 5: options of the check; then the image
 *
 * The file has no name but one in /proc, so no parent is ever found beside it.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "libvhd/base/number.h"
#include "libvhd/vhd.h"
#include "tests/lib/seal.h"

#define IMAGE_BYTES_MAX (256u << 10)
#define EXTENTS		64

static void hear(void *arg, const struct vhd_finding *f)
{
	unsigned *damages = arg;

	MUST(f->code < 0 && f->text[0] && f->file[0] && !strchr(f->text, '\n'));
	MUST(vhd_error_name(f->code)[0]);
	*damages += f->severity == VHD_DAMAGE;
}

static void check(const char *path, unsigned options)
{
	unsigned damages = 0;
	struct vhd_check_options o = {
		.bitmaps = options & 2,
		.no_overlap = options & 4,
		.ignore_footer = options & 8,
		.parents_too = options & 16,
		.target = options >> 5 & 3,
		.finding = hear,
		.arg = &damages,
	};
	struct vhd_check_result result;
	struct vhd_error err = { 0 };
	int rc = vhd_check(path, &o, &result, &err);

	MUST(rc >= 0 ? result.damages == damages : err.code == rc && err.text[0]);
}

static void read_some(struct vhd_chain *chain)
{
	static uint8_t buf[64 << 10];
	uint64_t size = vhd_size(chain), at = 0;
	struct vhd_extent extents[EXTENTS];
	struct vhd_error err = { 0 };
	struct vhd_info info;

	MUST(size && !vhd_layer_info(chain, 0, &info, &err) && info.size == size);
	if (vhd_read(chain, buf, number_min(size, sizeof(buf)), 0, &err) < 0)
		MUST(err.code < 0 && err.text[0]);
	MUST(vhd_read(chain, buf, 1, size, &err) == -VHD_E_RANGE);
	for (unsigned i = 0; i < 20 && at < size; i++) {
		int n = vhd_extents(chain, at, size - at, extents, EXTENTS, &err);

		if (n < 0)
			return;
		MUST(n > 0);
		for (int k = 0; k < n; k++) {
			MUST(extents[k].offset == at && extents[k].length);
			at += extents[k].length;
		}
		MUST(at <= size);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vhd_open_options o = { .flags = VHD_OPEN_NO_PARENTS };
	struct vhd_error err = { 0 };
	struct vhd_chain *chain;
	char path[64];
	uint8_t *bytes;
	int fd;

	if (size < 2 || size > IMAGE_BYTES_MAX)
		return 0;
	bytes = malloc(size - 1);
	memcpy(bytes, data + 1, size - 1);
	if (data[0] & 1)
		seal_image(bytes, size - 1);
	fd = memfd_create("image.vhd", MFD_CLOEXEC);
	MUST(fd >= 0 && write(fd, bytes, size - 1) == (ssize_t)size - 1);
	free(bytes);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	check(path, data[0]);
	if (vhd_open(path, &o, &chain, &err) < 0) {
		MUST(err.code < 0 && err.text[0]);
	} else {
		read_some(chain);
		MUST(!vhd_close(chain, &err));
	}
	close(fd);
	return 0;
}
