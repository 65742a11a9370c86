/* relink-search.c - an image by its id, somewhere beneath directories */
#include "relink-search.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "error.h"
#include "layout.h"
#include "siblings.h"

struct walk {
	const uint8_t *id;
	struct search_found *out;
	struct stat first; /* of the file found */
	char path[PATH_MAX];
	dev_t device; /* of the directory given */
	unsigned files;
	int failure; /* of the first file that could not be read: -errno */
	char failed[PATH_MAX];
	DIR *open[SEARCH_DEPTH];     /* from the directory given down to the present one */
	size_t length[SEARCH_DEPTH]; /* of their paths */
	unsigned depth;
};

/* The path of the present directory, with @name behind it; false: too long. */
static bool name_entry(struct walk *w, const char *name)
{
	size_t length = w->length[w->depth - 1], n = strlen(name);

	if (length + 1 + n >= sizeof(w->path))
		return false;
	w->path[length] = '/';
	memcpy(w->path + length + 1, name, n + 1);
	return true;
}

/* What cannot be read may be what is sought; what is not for us is not. */
static void note_failure(struct walk *w, int code)
{
	if (w->failure || !code || code == ENOENT || code == EACCES || code == EPERM ||
	    code == ELOOP || code == ENXIO || code == ENOTDIR)
		return;
	w->failure = -code;
	strcpy(w->failed, w->path);
}

static bool is_it(int fd, const struct stat *st, const uint8_t *id)
{
	struct vhd_footer footer;

	return siblings_read_footer(fd, (uint64_t)st->st_size, &footer) &&
	       !memcmp(footer.uuid, id, VHD_UUID_BYTES);
}

static void look_at(struct walk *w, int directory, const char *name)
{
	struct search_found *out = w->out;
	struct stat st;
	CLEANUP_FD int fd = openat(directory, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);

	/* what was a file may be something else by now */
	if (fd < 0 || fstat(fd, &st) < 0) {
		note_failure(w, errno);
		return;
	}
	errno = 0;
	if (!S_ISREG(st.st_mode) || !is_it(fd, &st, w->id)) {
		note_failure(w, errno);
		return;
	}
	if (out->count && w->first.st_dev == st.st_dev && w->first.st_ino == st.st_ino)
		return;
	if (!out->count)
		w->first = st;
	strcpy(out->path[out->count++], w->path);
}

static void enter(struct walk *w, int directory, const char *name)
{
	CLEANUP_FD int fd = -1;
	struct stat st;
	DIR *dir;

	if (w->depth == SEARCH_DEPTH)
		return;
	fd = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_dev != w->device)
		return;
	dir = fdopendir(fd);
	if (!dir)
		return;
	(void)steal_fd(&fd);
	w->open[w->depth] = dir;
	w->length[w->depth] = strlen(w->path);
	w->depth++;
}

/* One entry of the present directory. */
static void take_entry(struct walk *w, const struct dirent *e)
{
	int directory = dirfd(w->open[w->depth - 1]);
	unsigned char type = e->d_type;
	struct stat st;

	if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || !name_entry(w, e->d_name))
		return;
	if (type == DT_UNKNOWN && !fstatat(directory, e->d_name, &st, AT_SYMLINK_NOFOLLOW))
		type = S_ISREG(st.st_mode) ? DT_REG : S_ISDIR(st.st_mode) ? DT_DIR : DT_UNKNOWN;
	if (type == DT_REG)
		look_at(w, directory, e->d_name);
	else if (type == DT_DIR)
		enter(w, directory, e->d_name);
}

static int walk(struct walk *w, const char *given, struct vhd_error *err)
{
	int rc = 0;

	while (w->depth && w->out->count < 2 && !rc) {
		struct dirent *e = readdir(w->open[w->depth - 1]);

		if (!e)
			closedir(w->open[--w->depth]);
		else if (++w->files > SEARCH_FILES)
			rc = error_set(err, -VHD_E_LIMIT,
				       "cannot search '%s': there are more than %u files; name a "
				       "directory nearer to the parent",
				       given, SEARCH_FILES);
		else
			take_entry(w, e);
	}
	while (w->depth)
		closedir(w->open[--w->depth]);
	return rc;
}

static int search_one(struct walk *w, const char *given, struct vhd_error *err)
{
	struct stat st;

	if (!realpath(given, w->path) || stat(w->path, &st) < 0)
		return error_system(err, -errno, "search", given);
	w->open[0] = opendir(w->path);
	if (!w->open[0])
		return error_system(err, -errno, "search", given);
	if (!strcmp(w->path, "/"))
		w->path[0] = '\0';
	w->length[0] = strlen(w->path);
	w->device = st.st_dev;
	w->depth = 1;
	return walk(w, given, err);
}

int search_id(const char *const *directories, const uint8_t id[16], struct search_found *out,
	      struct vhd_error *err)
{
	CLEANUP_FREE struct walk *w = calloc(1, sizeof(*w));
	int rc = 0;

	memset(out, 0, sizeof(*out));
	if (!w)
		return error_system(err, -ENOMEM, "search", directories[0]);
	w->id = id;
	w->out = out;
	for (; *directories && !rc && out->count < 2; directories++)
		rc = search_one(w, *directories, err);
	if (!rc && !out->count && w->failure)
		rc = error_system(err, w->failure, "search", w->failed);
	return rc;
}
