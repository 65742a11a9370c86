/* confine.c - opening files that an image names, beneath allowed directories only */
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "path.h"

void confine_directory(const char *path, char *out)
{
	const char *slash = strrchr(path, '/');
	size_t length = slash ? (size_t)(slash - path) : 0;

	if (length == 0)
		length = 1;
	memcpy(out, slash ? path : ".", length);
	out[length] = '\0';
}

int confine_real_name(const char *path, char *out)
{
	char real[PATH_MAX], directory[PATH_MAX];
	struct stat st;

	if (strlen(path) >= PATH_MAX)
		return -ENAMETOOLONG;
	if (!realpath(path, real) || stat(real, &st) < 0)
		return -errno;
	if (S_ISBLK(st.st_mode)) {
		confine_directory(path, directory);
		if (!realpath(directory, real))
			return -errno;
		if (strlen(real) + strlen(path_base_name(path)) + 2 > PATH_MAX)
			return -ENAMETOOLONG;
		strcat(real, real[1] ? "/" : "");
		strcat(real, path_base_name(path));
	}
	strcpy(out, real);
	return 0;
}

/* Absolute @path without ".", ".." and empty parts, as text: no link is looked at. */
static int normalise(const char *path, char *out)
{
	size_t length = 0;

	if (path[0] != '/')
		return -EINVAL;
	if (strlen(path) >= PATH_MAX)
		return -ENAMETOOLONG;
	while (*path) {
		size_t part = strcspn(path, "/");

		if (part == 2 && path[0] == '.' && path[1] == '.') {
			while (length && out[--length] != '/')
				;
		} else if (part && !(part == 1 && path[0] == '.')) {
			out[length++] = '/';
			memcpy(out + length, path, part);
			length += part;
		}
		path += part;
		path += *path == '/';
	}
	if (!length)
		out[length++] = '/';
	out[length] = '\0';
	return 0;
}

/* What of @path lies beneath @directory: the rest without a leading slash, else NULL. */
static const char *beneath(const char *path, const char *directory)
{
	size_t length = strlen(directory);

	while (length && directory[length - 1] == '/')
		length--;
	if (strncmp(path, directory, length) != 0 || path[length] != '/' || !path[length + 1])
		return NULL;
	return path + length + 1;
}

/* The allowed directory that @path reads as beneath, in either of its spellings: its
 * real name into @root, and what remains; NULL when there is none. */
static const char *allowed(const struct confine *confine, const char *path, char *root)
{
	const char *const none[] = { NULL };
	const char *const *roots = confine->roots ? confine->roots : none;
	const char *leaf = confine->leaf_directory, *rest;

	if (realpath(leaf, root) && strcmp(root, "/") != 0 && strcmp(root, "/dev") != 0) {
		rest = beneath(path, root);
		if (!rest)
			rest = beneath(path, leaf);
		if (rest)
			return rest;
	}
	for (; *roots; roots++) {
		char given[PATH_MAX];

		if (!realpath(*roots, root))
			continue; /* not there: allows nothing */
		rest = beneath(path, root);
		if (!rest && normalise(*roots, given) == 0)
			rest = beneath(path, given);
		if (rest)
			return rest;
	}
	return NULL;
}

/* Open @real, a path without links, at @rest of directory @root, refusing any link. */
static int open_beneath(const char *root, const char *rest, const char *real, int oflags)
{
	struct open_how how = {
		.flags = (uint64_t)oflags,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	char link[64], found[PATH_MAX];
	ssize_t n;

	CLEANUP_FD int directory = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return -errno;
	CLEANUP_FD int fd = (int)syscall(SYS_openat2, directory, rest, &how, sizeof(how));
	if (fd < 0 && (errno == EXDEV || errno == ELOOP))
		return -VHD_E_PARENT_DENIED; /* changed since it was resolved */
	if (fd < 0 && errno != ENOSYS)
		return -errno;
	if (fd >= 0)
		return steal_fd(&fd);
	/* an old kernel, or a sandbox that does not know openat2: see what was opened */
	fd = open(real, oflags | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, found, sizeof(found) - 1);
	if (n < 0)
		return -errno;
	found[n] = '\0';
	return strcmp(found, real) == 0 ? steal_fd(&fd) : -VHD_E_PARENT_DENIED;
}

/* A logical volume's node, reached by a link in an allowed directory below /dev (I2). */
static int open_volume(const char *path, const char *real, int oflags)
{
	struct stat st;

	if (strncmp(path, "/dev/", 5) != 0 || strncmp(real, "/dev/", 5) != 0)
		return -VHD_E_PARENT_DENIED;
	CLEANUP_FD int fd = open(real, oflags | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISBLK(st.st_mode) ? steal_fd(&fd) : -VHD_E_PARENT_DENIED;
}

static int open_confined(const struct confine *confine, const char *path, int oflags)
{
	char text[PATH_MAX], root[PATH_MAX], real[PATH_MAX], directory[PATH_MAX], unused[PATH_MAX];
	const char *rest;
	int rc = normalise(path, text);

	if (rc < 0)
		return rc;
	if (!allowed(confine, text, root))
		return -VHD_E_PARENT_DENIED;
	if (!realpath(text, real))
		return -errno;
	rest = allowed(confine, real, root);
	/* @rest is relative to the real root when @real is beneath it as such */
	if (rest && beneath(real, root))
		return open_beneath(root, beneath(real, root), real, oflags);
	confine_directory(text, directory);
	if (!realpath(directory, unused) || strcmp(unused, directory) != 0)
		return -VHD_E_PARENT_DENIED;
	return open_volume(text, real, oflags);
}

int confine_open(const struct confine *confine, const char *path, bool writable, char *name)
{
	int oflags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, rc;
	struct stat st;
	int fd;

	/* Devices that act when they are opened, and FIFOs, are not worth opening. */
	if (confine->roots || confine->strict)
		fd = open_confined(confine, path, oflags);
	else if (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		fd = -VHD_E_NOT_FILE;
	else if ((fd = open(path, oflags)) < 0)
		fd = -errno;
	if (fd < 0)
		return fd == -EISDIR ? -VHD_E_NOT_FILE : fd;
	rc = confine_real_name(path, name);
	if (rc == 0 && fstat(fd, &st) < 0)
		rc = -errno;
	if (rc == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		rc = -VHD_E_NOT_FILE;
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}
