/* file.c - what a descriptor can take: direct or not, in memory or not, which alignment */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "engine-private.h"
#include "libvhd/base/number.h"

#define SECTOR_BYTES 512u

static uint32_t sane(uint32_t align)
{
	return number_is_power_of_two(align) && align <= STEPS_BYTES ?
		       (uint32_t)number_max(align, SECTOR_BYTES) :
		       PAGE_BYTES;
}

/* Does reading tell that sectors of 512 bytes are too small?  (Kernels before 6.1.) */
static bool refuses_sectors(int fd)
{
	_Alignas(4096) uint8_t buf[PAGE_BYTES];

	return pread(fd, buf + SECTOR_BYTES, SECTOR_BYTES, SECTOR_BYTES) < 0 && errno == EINVAL;
}

static void find_align(struct engine_file *file)
{
	struct statx stx;
	int sector;

	file->align = file->memory_align = SECTOR_BYTES;
#ifdef STATX_DIOALIGN
	memset(&stx, 0, sizeof(stx));
	if (statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
	    (stx.stx_mask & STATX_DIOALIGN) && stx.stx_dio_offset_align) {
		file->align = sane(stx.stx_dio_offset_align);
		file->memory_align = sane(stx.stx_dio_mem_align);
		return;
	}
#endif
	(void)stx;
	if (file->device && ioctl(file->fd, BLKSSZGET, &sector) == 0)
		file->align = file->memory_align = sane((uint32_t)sector);
	else if (refuses_sectors(file->fd))
		file->align = file->memory_align = PAGE_BYTES;
}

/* A second descriptor of the same file, through the page cache. */
static int reopen_buffered(int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDWR | O_CLOEXEC);
}

int engine_file_open(struct engine *engine, const struct engine_file_params *params,
		     struct engine_file **out)
{
	struct engine_file *file = calloc(1, sizeof(*file));
	struct statfs fs;
	struct stat st;
	int flags, rc;

	if (!file)
		return -ENOMEM;
	file->engine = engine;
	file->fd = params->fd;
	file->buffered_fd = params->buffered_fd;
	file->own_fd = -1;
	file->device = params->device;
	list_init(&file->spans);
	list_init(&file->blocked);
	list_init(&file->syncs);
	flags = fcntl(file->fd, F_GETFL);
	if (flags < 0 || fstat(file->fd, &st) < 0 || fstatfs(file->fd, &fs) < 0) {
		rc = -errno;
		engine_file_close(file);
		return rc;
	}
	file->size = (uint64_t)st.st_size;
	file->memory = !file->device && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
	/* in memory O_DIRECT means nothing, and takes any alignment */
	file->direct = (flags & O_DIRECT) && !file->memory;
	file->align = file->memory_align = 1;
	if (file->direct)
		find_align(file);
	if (file->direct && !file->device && file->buffered_fd < 0 && params->writable)
		file->buffered_fd = file->own_fd = reopen_buffered(file->fd);
	*out = file;
	return 0;
}

uint64_t engine_file_losses(const struct engine_file *file)
{
	return file->losses;
}

bool engine_file_in_memory(const struct engine_file *file)
{
	return file->memory;
}

void engine_file_renew(struct engine_file *file)
{
	int fd;

	if (file->own_fd < 0)
		return;
	fd = reopen_buffered(file->fd);
	if (fd < 0)
		return; /* as good as it was */
	(void)dup3(fd, file->own_fd, O_CLOEXEC);
	close(fd);
}

void engine_file_close(struct engine_file *file)
{
	if (!file)
		return;
	if (file->own_fd >= 0)
		close(file->own_fd);
	free(file);
}

uint32_t engine_file_align(const struct engine_file *file)
{
	return file->align;
}
