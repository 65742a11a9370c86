/* siblings.c - who else has this image as parent */
#include "siblings.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "chain.h"
#include "error.h"
#include "footer.h"
#include "header.h"
#include "io-file.h"

struct search {
	const struct vhd_image *parent, *child;
	bool clear; /* only such that have data, not encrypted */
	struct sibling *out;
};

static void cleanup_dir(DIR **d)
{
	if (*d)
		closedir(*d);
}

static bool read_at(int fd, void *buf, size_t length, uint64_t offset)
{
	return pread(fd, buf, length, (off_t)offset) == (ssize_t)length;
}

bool siblings_read_footer(int fd, uint64_t bytes, struct vhd_footer *footer)
{
	uint8_t raw[VHD_FOOTER_BYTES] = { 0 };
	size_t length = bytes % VHD_SECTOR == VHD_FOOTER_BYTES - 1 ? VHD_FOOTER_BYTES - 1 :
								     VHD_FOOTER_BYTES;

	if (bytes < VHD_FOOTER_BYTES + VHD_HEADER_BYTES)
		return false;
	if (read_at(fd, raw, length, bytes - length) && !footer_decode(raw, footer, NULL))
		return true;
	return read_at(fd, raw, sizeof(raw), 0) && !footer_decode(raw, footer, NULL);
}

/* The image behind @fd; NULL: it cannot be opened. */
static struct vhd_image *open_image(int fd, const char *path)
{
	struct vhd_image *image = NULL;
	struct vhd_io *io = NULL;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		return NULL;
	if (io_file_from_fd(copy, path, 0, &io, NULL) < 0) {
		close(copy);
		return NULL;
	}
	if (image_open(io, IMAGE_ALLOW_POISONED, &image, NULL) < 0) {
		io_close(io);
		return NULL;
	}
	return image;
}

/* Does the child of some raw disk behind @fd store the path of @parent? */
static bool names_raw_parent(int fd, const char *path, const struct vhd_image *parent)
{
	char stored[PATH_MAX], full[2 * PATH_MAX];
	struct vhd_image *image = open_image(fd, path);
	bool same = false;
	struct stat st;

	if (image && !chain_stored_parent(image, stored, sizeof(stored), NULL)) {
		const char *slash = strrchr(path, '/');

		if (stored[0] == '/' || !slash)
			snprintf(full, sizeof(full), "%s", stored);
		else
			snprintf(full, sizeof(full), "%.*s/%s", (int)(slash - path), path, stored);
		same = !stat(full, &st) && st.st_dev == parent->io->device_id &&
		       st.st_ino == parent->io->inode;
	}
	image_close(image);
	return same;
}

static bool is_child_of(int fd, const char *path, uint64_t bytes, const struct vhd_image *parent)
{
	static const uint8_t raw_id[VHD_UUID_BYTES];
	uint8_t raw[VHD_HEADER_BYTES];
	struct vhd_footer footer;
	struct vhd_header header;

	if (!siblings_read_footer(fd, bytes, &footer) || footer.type != VHD_TYPE_DIFFERENCING ||
	    !number_within(footer.data_offset, sizeof(raw), bytes) ||
	    !read_at(fd, raw, sizeof(raw), footer.data_offset) ||
	    header_decode(raw, &header, NULL) < 0)
		return false;
	if (parent->type != VHD_TYPE_RAW)
		return !memcmp(header.parent_uuid, parent->footer.uuid, VHD_UUID_BYTES);
	return !memcmp(header.parent_uuid, raw_id, VHD_UUID_BYTES) &&
	       names_raw_parent(fd, path, parent);
}

static bool is_clear(int fd, const char *path)
{
	struct vhd_image *image = open_image(fd, path);
	bool clear = image && !image_is_encrypted(image) && image_is_empty(image, NULL) == 0;

	image_close(image);
	return clear;
}

/* Whether the directory entry @name is another child. */
static bool look_at(int directory, const char *directory_name, const char *name,
		    const struct search *s)
{
	char path[PATH_MAX];
	CLEANUP_FD int fd = -1;
	struct stat st;

	if (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return false; /* what a link means is looked at where it is */
	if ((st.st_dev == s->child->io->device_id && st.st_ino == s->child->io->inode) ||
	    (st.st_dev == s->parent->io->device_id && st.st_ino == s->parent->io->inode))
		return false;
	if (snprintf(path, sizeof(path), "%s/%s", directory_name, name) >= (int)sizeof(path))
		return false;
	fd = openat(directory, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || !is_child_of(fd, path, (uint64_t)st.st_size, s->parent) ||
	    (s->clear && !is_clear(fd, path)))
		return false;
	memcpy(s->out->path, path, sizeof(path));
	return true;
}

static int search_directory(const char *name, const struct search *s, struct vhd_error *err)
{
	DIR *dir __attribute__((cleanup(cleanup_dir))) = opendir(name);
	unsigned files = 0;
	struct dirent *e;

	if (!dir)
		return error_system(err, -errno, "look for other children in", name);
	while ((errno = 0, e = readdir(dir))) {
		if (e->d_type != DT_REG && e->d_type != DT_UNKNOWN)
			continue;
		if (++files > SIBLINGS_FILES_MAX)
			return error_set(
				err, -VHD_E_SHARED_PARENT,
				"cannot look for other children of '%s': '%s' has more than "
				"%u files; if you know that there are none: --force",
				s->parent->io->name, name, SIBLINGS_FILES_MAX);
		if (look_at(dirfd(dir), name, e->d_name, s))
			return 1;
	}
	return errno ? error_system(err, -errno, "look for other children in", name) : 0;
}

static char *directory_of(const char *path)
{
	char *real = realpath(path, NULL), *slash;

	if (!real)
		return NULL;
	slash = strrchr(real, '/');
	if (slash == real)
		slash++;
	*slash = '\0';
	return real;
}

int siblings_find(const struct vhd_image *parent, const struct vhd_image *child,
		  struct sibling *out, struct vhd_error *err)
{
	const struct search s = { .parent = parent, .child = child, .out = out };
	CLEANUP_FREE char *a = directory_of(parent->io->name);
	CLEANUP_FREE char *b = a ? directory_of(child->io->name) : NULL;
	int rc;

	if (!b)
		return error_system(err, -errno, "look for other children of", parent->io->name);
	rc = search_directory(a, &s, err);
	if (!rc && strcmp(a, b) != 0)
		rc = search_directory(b, &s, err);
	return rc;
}

int siblings_find_clear(const struct vhd_image *parent, struct sibling *out, struct vhd_error *err)
{
	const struct search s = { .parent = parent, .child = parent, .clear = true, .out = out };
	CLEANUP_FREE char *directory = directory_of(parent->io->name);

	if (!directory)
		return error_system(err, -errno, "look for children of", parent->io->name);
	return search_directory(directory, &s, err);
}
