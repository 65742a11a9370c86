/* coalesce-state.c - the note beside an image that is half merged
 *
 *   vhd-util coalesce 1			what and which layout
 *   target 32 hex digits			footer id of the image merged into
 *   child 32 hex digits			of the topmost image merged
 *   sources 16 hex digits			fingerprint
 *   cursor 20 digits, merged 20 digits		sectors
 *   check 8 hex digits				CRC of all before
 *   spaces and a newline up to byte 512, then the child's path
 *
 * Readable by people on purpose: whoever finds the file learns what to do.
 * Written beside the name first (O_TMPFILE) and linked whole; where the file
 * system cannot do that, a kill may leave an empty file, which counts as none.
 */
#include "coalesce-state.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "error.h"
#include "io-file.h"
#include "state-place.h"

#define HEAD_BYTES VHD_SECTOR
#define FILE_MAX   (HEAD_BYTES + 4096)
#define CHECK_TEXT "\ncheck "

/* ── where the file is ── */

static int state_path(struct vhd_io *target, const uint8_t *id, char **out)
{
	CLEANUP_FREE char *place = NULL;
	int rc = state_place(target, id, &place);

	if (rc < 0)
		return rc;
	if (asprintf(out, "%s.coalesce", place) >= 0)
		return 0;
	*out = NULL;
	return -ENOMEM;
}

/* ── its contents ── */

static void encode_head(const struct coalesce_state *s, char head[HEAD_BYTES])
{
	char target[2 * VHD_UUID_BYTES + 1], child[2 * VHD_UUID_BYTES + 1];
	int n;

	number_hex(s->target_id, VHD_UUID_BYTES, target);
	number_hex(s->child_id, VHD_UUID_BYTES, child);
	memset(head, ' ', HEAD_BYTES);
	n = snprintf(head, HEAD_BYTES,
		     "vhd-util coalesce 1\ntarget %s\nchild %s\nsources %016llx\n"
		     "cursor %020llu\nmerged %020llu" CHECK_TEXT,
		     target, child, (unsigned long long)s->fingerprint,
		     (unsigned long long)s->cursor, (unsigned long long)s->merged);
	n += snprintf(head + n, (size_t)(HEAD_BYTES - n), "%08lx\n",
		      crc32(0, (const unsigned char *)head, (unsigned)n));
	head[n] = ' ';
	head[HEAD_BYTES - 1] = '\n';
}

static bool parse_id(const char *hex, uint8_t *id)
{
	for (size_t i = 0; i < VHD_UUID_BYTES; i++) {
		unsigned value;

		if (!isxdigit((unsigned char)hex[2 * i]) ||
		    !isxdigit((unsigned char)hex[2 * i + 1]) ||
		    sscanf(hex + 2 * i, "%2x", &value) != 1)
			return false;
		id[i] = (uint8_t)value;
	}
	return true;
}

bool coalesce_state_decode(const char *text, size_t length, struct coalesce_state *s)
{
	char head[HEAD_BYTES], target[33], child[33];
	unsigned long long fingerprint, cursor, merged;
	size_t name = length - HEAD_BYTES;

	if (length < HEAD_BYTES ||
	    sscanf(text,
		   "vhd-util coalesce 1\ntarget %32[0-9a-f]\nchild %32[0-9a-f]\n"
		   "sources %16llx\ncursor %20llu\nmerged %20llu\n",
		   target, child, &fingerprint, &cursor, &merged) != 5 ||
	    !parse_id(target, s->target_id) || !parse_id(child, s->child_id))
		return false;
	s->fingerprint = fingerprint;
	s->cursor = cursor;
	s->merged = merged;
	encode_head(s, head);
	if (memcmp(head, text, HEAD_BYTES) != 0)
		return false; /* the checksum, or any byte that is not as we write it */
	if (name && text[length - 1] == '\n')
		name--;
	if (name >= sizeof(s->child))
		return false;
	memcpy(s->child, text + HEAD_BYTES, name);
	s->child[name] = '\0';
	return true;
}

/* The whole text; -ENOENT when there is none or it is empty; -VHD_E_COALESCING when
 * it is something else than a plain file of our size. */
static int read_text(const char *path, char *text, size_t room, size_t *length)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	ssize_t got;

	if (fd < 0)
		return errno == ELOOP ? -VHD_E_COALESCING : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (size_t)st.st_size > room)
		return -VHD_E_COALESCING;
	if (!st.st_size)
		return -ENOENT;
	got = pread(fd, text, room - 1, 0);
	if (got < 0)
		return -errno;
	text[got] = '\0';
	*length = (size_t)got;
	return 0;
}

/* ── finding ── */

int coalesce_state_find(struct vhd_io *target, const uint8_t *target_id, struct coalesce_state *out,
			struct vhd_error *err)
{
	static const uint8_t raw_id[VHD_UUID_BYTES];
	const uint8_t *id = target_id ? target_id : raw_id;
	struct coalesce_state s = COALESCE_STATE_NONE;
	CLEANUP_FREE char *path = NULL;
	char text[FILE_MAX + 1];
	size_t length = 0;
	int rc;

	if (io_file_fd(target) < 0)
		return 0;
	rc = state_path(target, id, &path);
	if (!rc)
		rc = read_text(path, text, sizeof(text), &length);
	if (rc == -ENOENT || rc == -ENOTDIR || rc == -ENAMETOOLONG)
		return 0; /* a name that is too long for a file is none */
	if (rc < 0 && !error_is_vhd(rc))
		return error_system(err, rc, "read", path ? path : target->name);
	if (rc < 0 || !coalesce_state_decode(text, length, &s))
		return error_set(err, -VHD_E_COALESCING,
				 "cannot use '%s': '%s' says that it is half merged, but cannot be "
				 "read; merge its child again with vhd-util coalesce --force, or "
				 "remove that file if you know that it means nothing",
				 target->name, path);
	if (memcmp(s.target_id, id, VHD_UUID_BYTES) != 0)
		return 0; /* another image had this name once */
	s.path = steal_ptr(&path);
	*out = s;
	return 1;
}

int coalesce_state_refuse(const struct coalesce_state *s, const char *target, struct vhd_error *err)
{
	return error_set(
		err, -VHD_E_COALESCING,
		"cannot use '%s': data of '%s' is half merged into it, and it is right only "
		"below that image; finish with: vhd-util coalesce -n '%s' -a '%s'",
		target, s->child, s->child, target);
}

int coalesce_state_refuse_top(struct vhd_io *target, const uint8_t *target_id, const char *name,
			      struct vhd_error *err)
{
	struct coalesce_state state = COALESCE_STATE_NONE;
	int rc = coalesce_state_find(target, target_id, &state, err);

	if (rc > 0)
		rc = coalesce_state_refuse(&state, name, err);
	coalesce_state_release(&state);
	return rc;
}

/* ── changing ── */

static int write_whole(int fd, const struct coalesce_state *s)
{
	char text[FILE_MAX + 1];
	size_t length;
	ssize_t n;

	encode_head(s, text);
	length = HEAD_BYTES +
		 (size_t)snprintf(text + HEAD_BYTES, sizeof(text) - HEAD_BYTES, "%s\n", s->child);
	n = pwrite(fd, text, length, 0);
	if (n < 0)
		return -errno;
	if ((size_t)n != length)
		return -ENOSPC;
	return fsync(fd) < 0 ? -errno : 0;
}

/* A whole file or none: written without a name, then linked. */
static int create_unnamed(const struct coalesce_state *s, int *out)
{
	char self[64], directory[PATH_MAX];
	const char *slash = strrchr(s->path, '/');
	CLEANUP_FD int fd = -1;
	int rc;

	snprintf(directory, sizeof(directory), "%.*s", (int)(slash - s->path + 1), s->path);
	fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
	if (fd < 0)
		return -EOPNOTSUPP;
	rc = write_whole(fd, s);
	if (rc < 0)
		return rc;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, self, AT_FDCWD, s->path, AT_SYMLINK_FOLLOW) < 0)
		return errno == EEXIST ? -EEXIST : -EOPNOTSUPP;
	*out = steal_fd(&fd);
	return 0;
}

static int create_named(const struct coalesce_state *s, int *out)
{
	CLEANUP_FD int fd = open(s->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	int rc;

	if (fd < 0)
		return -errno;
	rc = write_whole(fd, s);
	if (rc < 0) {
		unlink(s->path);
		return rc;
	}
	*out = steal_fd(&fd);
	return 0;
}

int coalesce_state_create(struct coalesce_state *s, struct vhd_io *target, struct vhd_error *err)
{
	int rc;

	free(steal_ptr(&s->path));
	rc = state_path(target, s->target_id, &s->path);
	if (rc < 0)
		return error_system(err, rc, "find the place of a merge note for", target->name);
	state_place_make(target, s->path);
	/* empty, or about another image: coalesce_state_find() has looked */
	if (unlink(s->path) < 0 && errno != ENOENT)
		return error_system(err, -errno, "replace", s->path);
	s->cursor = 0;
	s->merged = 0;
	rc = create_unnamed(s, &s->fd);
	if (rc == -EOPNOTSUPP)
		rc = create_named(s, &s->fd);
	if (!rc)
		rc = io_file_sync_directory(s->path); /* ORDER 14: before the first write */
	return rc < 0 ? error_system(err, rc, "make", s->path) : 0;
}

int coalesce_state_resume(struct coalesce_state *s, struct vhd_error *err)
{
	s->fd = open(s->path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	return s->fd < 0 ? error_system(err, -errno, "write", s->path) : 0;
}

int coalesce_state_advance(struct coalesce_state *s, uint64_t cursor, uint64_t merged,
			   struct vhd_error *err)
{
	struct coalesce_state next = { .cursor = cursor, .merged = merged };
	char head[HEAD_BYTES];
	ssize_t n;

	memcpy(next.target_id, s->target_id, VHD_UUID_BYTES);
	memcpy(next.child_id, s->child_id, VHD_UUID_BYTES);
	next.fingerprint = s->fingerprint;
	encode_head(&next, head);
	n = pwrite(s->fd, head, sizeof(head), 0);
	if (n != (ssize_t)sizeof(head) || fdatasync(s->fd) < 0)
		return error_system(err, n >= 0 && !errno ? -EIO : -errno, "write", s->path);
	s->cursor = cursor;
	s->merged = merged;
	return 0;
}

int coalesce_state_remove(struct coalesce_state *s, struct vhd_error *err)
{
	int rc = 0;

	if (unlink(s->path) < 0 && errno != ENOENT)
		rc = -errno;
	if (!rc)
		rc = io_file_sync_directory(s->path);
	return rc < 0 ? error_system(err, rc, "remove", s->path) : 0;
}

void coalesce_state_release(struct coalesce_state *s)
{
	free(s->path);
	s->path = NULL;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}
