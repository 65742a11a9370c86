/* import.c - a chain comes out of its archive into a directory of its own, whole or not at all
 *
 *   .NAME.XXXXXX/: the files ─► hash right ─► each the parent of the next, links included
 *   ─► synced ─► NAME
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "chain.h"
#include "error.h"
#include "export.h"
#include "image-private.h"
#include "io-file.h"
#include "path.h"
#include "relink.h"

#define TRIES 100

struct file {
	char name[TAR_NAME_MAX + 1];
	uint64_t mtime;
};

struct importer {
	const char *source, *directory;
	const struct vhd_import_options *o;
	char *temp;	    /* owned; absolute; NULL: none was made */
	char *target;	    /* owned; absolute */
	int at;		    /* descriptor of temp; owned */
	struct file *files; /* owned; base first */
	unsigned count;
	struct vhd_io *io; /* owned; the file that is written */
	uint64_t size;
	struct vhd_import_result *result;
	struct vhd_error *err;
};

/* ── the directory ── */

/* It must not be there, or be empty: then the rename takes its place. */
static int check_target(struct importer *m)
{
	DIR *dir = opendir(m->target);
	struct dirent *e;
	int entries = 0;

	if (!dir && errno == ENOENT)
		return 0;
	if (!dir && errno != ENOTDIR)
		return error_system(m->err, -errno, "import to", m->target);
	while (dir && (e = readdir(dir)))
		entries += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	if (dir)
		closedir(dir);
	if (dir && !entries)
		return 0;
	return error_set(m->err, -EEXIST,
			 "cannot import to '%s': it exists%s; name a new directory", m->target,
			 dir ? " and is not empty" : "");
}

/* The absolute path that @directory has or will have, without links. */
static int find_target(struct importer *m)
{
	CLEANUP_FREE char *text = strdup(m->directory), *parent = NULL;
	char *slash;

	if (!text)
		return error_system(m->err, -ENOMEM, "import to", m->directory);
	for (size_t n = strlen(text); n > 1 && text[n - 1] == '/'; n--)
		text[n - 1] = '\0';
	slash = strrchr(text, '/');
	if (!tar_name_is_plain(slash ? slash + 1 : text))
		return error_set(m->err, -VHD_E_ARGUMENT,
				 "cannot import to '%s': name the directory that is to be made",
				 m->directory);
	if (slash) {
		*slash = '\0';
		parent = realpath(slash == text ? "/" : text, NULL);
	} else {
		parent = realpath(".", NULL);
	}
	if (!parent)
		return error_system(m->err, -errno, "import to", m->directory);
	if (asprintf(&m->target, "%s/%s", parent[1] ? parent : "", slash ? slash + 1 : text) < 0) {
		m->target = NULL;
		return error_system(m->err, -ENOMEM, "import to", m->directory);
	}
	return 0;
}

static int make_temp(struct importer *m)
{
	const char *name = path_base_name(m->target);
	int rc = -EEXIST;

	for (int i = 0; i < TRIES && rc == -EEXIST; i++) {
		uint32_t random = 0;

		free(steal_ptr(&m->temp));
		if (getrandom(&random, sizeof(random), 0) < 0 ||
		    asprintf(&m->temp, "%.*s.%.200s.%06x", (int)(name - m->target), m->target, name,
			     random & 0xffffff) < 0) {
			m->temp = NULL;
			return error_system(m->err, -ENOMEM, "import to", m->directory);
		}
		rc = mkdir(m->temp, 0777) < 0 ? -errno : 0;
	}
	if (!rc) {
		m->at = open(m->temp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		rc = m->at < 0 ? -errno : 0;
		if (rc < 0)
			rmdir(m->temp);
	}
	if (rc < 0)
		free(steal_ptr(&m->temp));
	return rc < 0 ? error_system(m->err, rc, "import to", m->directory) : 0;
}

static void remove_temp(struct importer *m)
{
	if (!m->temp)
		return;
	for (unsigned i = 0; i < m->count; i++)
		unlinkat(m->at, m->files[i].name, 0);
	rmdir(m->temp);
}

static char *path_of(const struct importer *m, unsigned i)
{
	char *out;

	return asprintf(&out, "%s/%s", m->temp, m->files[i].name) < 0 ? NULL : out;
}

/* ── files as they come ── */

static int begin_file(void *arg, const char *name, uint64_t size, uint64_t mtime,
		      struct vhd_error *err)
{
	struct importer *m = arg;
	struct file *files = realloc(m->files, (m->count + 1) * sizeof(*files));
	CLEANUP_FREE char *path = NULL;
	int fd, rc;

	if (!files)
		return error_system(err, -ENOMEM, "import", m->source);
	m->files = files;
	for (unsigned i = 0; i < m->count; i++)
		if (!strcmp(files[i].name, name))
			return error_set(err, -VHD_E_ARCHIVE,
					 "cannot import '%s': two files in it have one name",
					 m->source);
	strcpy(files[m->count].name, name);
	files[m->count].mtime = mtime;
	m->size = size;
	m->count++;
	if (m->o->dry_run)
		return 0;
	path = path_of(m, m->count - 1);
	if (!path)
		return error_system(err, -ENOMEM, "import", m->source);
	fd = openat(m->at, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (fd < 0)
		return error_system(err, -errno, "create", path);
	rc = io_file_from_fd(fd, path, IO_FILE_WRITE, &m->io, err);
	if (rc < 0)
		close(fd);
	return rc;
}

static int write_file(void *arg, const void *data, size_t length, uint64_t offset,
		      struct vhd_error *err)
{
	struct importer *m = arg;
	int rc = m->o->dry_run ? 0 : io_write(m->io, data, length, offset);

	return rc < 0 ? error_system(err, rc, "write", m->io->name) : 0;
}

static int end_file(void *arg, struct vhd_error *err)
{
	struct importer *m = arg;
	int rc = m->o->dry_run ? 0 : io_truncate(m->io, m->size);

	if (rc < 0)
		return error_system(err, rc, "write", m->io->name);
	io_close(steal_ptr(&m->io));
	return 0;
}

static int receive(struct importer *m)
{
	const struct unpack_sink sink = { begin_file, write_file, end_file, m };
	bool piped = !strcmp(m->source, "-");
	int fd = piped ? dup(STDIN_FILENO) : open(m->source, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stream *in;
	int rc;

	if (fd < 0)
		return error_system(m->err, -errno, "open", m->source);
	rc = stream_reader(fd, piped ? "standard input" : m->source, &in, m->err);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	rc = unpack(in, piped ? "standard input" : m->source, &sink, &m->o->progress,
		    &m->result->bytes, m->err);
	stream_close(in, NULL);
	io_close(steal_ptr(&m->io));
	return rc;
}

/* ── the chain ── */

static int no_chain(struct importer *m, const char *name)
{
	return error_set(
		m->err, -VHD_E_ARCHIVE,
		"cannot import '%s': '%s' in it is no image, or not a child of the one before "
		"it",
		m->source, name);
}

/* Does @child find @parent where it says?  By its names here, beneath the directory; and by the first
 * of them: another would lead later to what still is where the chain came from. */
static bool finds(struct importer *m, struct vhd_image *child, const struct vhd_image *parent)
{
	const struct vhd_parents beneath = { .beneath_only = true };
	CLEANUP_FREE char *first = malloc(PATH_TEXT_MAX);
	struct vhd_image *found;
	const char *name;
	bool same;

	if (!first || chain_stored_parent(child, first, PATH_TEXT_MAX, NULL) < 0)
		return false;
	name = !strncmp(first, "./", 2) ? first + 2 : first;
	if (strcmp(name, path_base_name(parent->io->name)) != 0)
		return false;
	if (chain_find_parent(child, m->temp, &beneath, false, &found, NULL) < 0)
		return false;
	same = found->io->inode == parent->io->inode &&
	       found->io->device_id == parent->io->device_id;
	image_close(found);
	return same;
}

static int link_here(struct importer *m, struct vhd_image *child, const struct vhd_image *parent)
{
	struct relink plan = { .how = RELINK_NOTHING };
	struct relink_parent to = { .timestamp = child->header.parent_timestamp };
	char path[TAR_NAME_MAX + 3];
	int rc = image_load(child, 0, m->err);

	snprintf(path, sizeof(path), "./%s", path_base_name(parent->io->name));
	memcpy(to.id, child->header.parent_uuid, VHD_UUID_BYTES);
	to.path = path;
	if (!rc)
		rc = image_begin_write(child, 0, m->err);
	if (!rc)
		rc = relink_plan(child, &to, false, &plan, m->err);
	if (!rc)
		rc = relink_write(child, &plan, m->err);
	relink_release(&plan);
	m->result->relinked++;
	return rc;
}

static int open_image(struct importer *m, unsigned i, bool raw, struct vhd_image **out)
{
	CLEANUP_FREE char *path = path_of(m, i);
	struct vhd_io *io;
	int rc;

	if (!path)
		return error_system(m->err, -ENOMEM, "import", m->source);
	rc = io_file_open(path, IO_FILE_WRITE, &io, m->err);
	if (rc < 0)
		return rc;
	rc = image_open(io, raw ? IMAGE_RAW : 0, out, m->err);
	if (rc < 0) {
		io_close(io);
		if (error_is_vhd(rc))
			rc = no_chain(m, m->files[i].name);
	}
	return rc;
}

/* File @i over the one before it. */
static int check_link(struct importer *m, unsigned i)
{
	struct vhd_image *child = NULL, *parent = NULL;
	int rc = open_image(m, i, false, &child);

	if (!rc && (child->type != VHD_TYPE_DIFFERENCING) != !i)
		rc = no_chain(m, m->files[i].name);
	if (!rc && i)
		rc = open_image(m, i - 1, image_parent_is_raw(child), &parent);
	if (!rc && i && !image_parent_is_raw(child) &&
	    memcmp(child->header.parent_uuid, parent->footer.uuid, VHD_UUID_BYTES) != 0)
		rc = no_chain(m, m->files[i].name);
	if (!rc && i && !finds(m, child, parent))
		rc = link_here(m, child, parent);
	image_close(parent);
	image_close(child);
	return rc;
}

/* The first may be a raw disk, if the second says so. */
static int check_chain(struct importer *m)
{
	int rc = 0;

	if (!m->count)
		return error_set(m->err, -VHD_E_ARCHIVE, "cannot import '%s': it is empty",
				 m->source);
	for (unsigned i = m->count; i-- > 1 && !rc;)
		rc = check_link(m, i);
	if (!rc && m->count == 1)
		rc = check_link(m, 0);
	return rc;
}

/* A base that has a parent would be caught here, and whatever else keeps the chain from being one. */
static int check_whole(struct importer *m)
{
	struct vhd_open_options open = { .parents = { .beneath_only = true } };
	CLEANUP_FREE char *leaf = path_of(m, m->count - 1);
	struct vhd_chain *chain;
	unsigned depth;
	int rc;

	if (!leaf)
		return error_system(m->err, -ENOMEM, "import", m->source);
	rc = vhd_open(leaf, &open, &chain, m->err);
	if (rc < 0)
		return rc;
	depth = vhd_depth(chain);
	vhd_close(chain, NULL);
	return depth == m->count ? 0 : no_chain(m, m->files[m->count - 1].name);
}

/* ── the end ── */

/* Times as they were: children store their parents'. */
static int settle(struct importer *m, unsigned i)
{
	struct timespec times[2] = { { .tv_sec = (time_t)m->files[i].mtime },
				     { .tv_sec = (time_t)m->files[i].mtime } };
	CLEANUP_FD int fd = openat(m->at, m->files[i].name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || futimens(fd, times) < 0 || fsync(fd) < 0)
		return error_system(m->err, -errno, "write", m->files[i].name);
	return 0;
}

static int appear(struct importer *m)
{
	int rc = 0;

	for (unsigned i = 0; i < m->count && !rc; i++)
		rc = settle(m, i);
	if (rc < 0)
		return rc;
	if (fsync(m->at) < 0 || rename(m->temp, m->target) < 0)
		return error_system(m->err, -errno, "import to", m->directory);
	free(steal_ptr(&m->temp)); /* from here on it is there, and stays */
	rc = io_file_sync_directory(m->target);
	return rc < 0 ? error_system(m->err, rc, "sync the directory of", m->directory) : 0;
}

static int import(struct importer *m)
{
	int rc = find_target(m);

	if (!rc)
		rc = check_target(m);
	if (!rc && !m->o->dry_run)
		rc = make_temp(m);
	if (!rc)
		rc = receive(m);
	if (rc < 0)
		return rc;
	if (m->count)
		strcpy(m->result->leaf, m->files[m->count - 1].name);
	m->result->images = m->count;
	if (m->o->dry_run)
		return 0;
	rc = check_chain(m);
	if (!rc)
		rc = check_whole(m);
	return rc ? rc : appear(m);
}

int vhd_import(const char *source, const char *directory, const struct vhd_import_options *o,
	       struct vhd_import_result *result, struct vhd_error *err)
{
	struct vhd_import_result own;
	struct importer m = { .source = source,
			      .directory = directory,
			      .o = o,
			      .at = -1,
			      .result = result ? result : &own,
			      .err = err };
	int rc;

	memset(m.result, 0, sizeof(*m.result));
	rc = import(&m);
	if (rc < 0)
		remove_temp(&m);
	if (m.at >= 0)
		close(m.at);
	free(m.files);
	free(m.temp);
	free(m.target);
	return rc;
}
