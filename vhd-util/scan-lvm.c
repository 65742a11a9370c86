/* scan-lvm.c - what LVM's programs print; volumes read without a node
 *
 * A volume that is not active is read from the physical volumes below it, piece by piece, past the
 * page cache: writers of an active one on another host do not know of ours.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libvhd/base/cleanup.h"
#include "libvhd/base/number.h"
#include "libvhd/error.h"
#include "libvhd/io-file.h"
#include "scan.h"

/* ── programs ── */

/* Start it; its standard output at *out. */
static int start(const char *const *argv, pid_t *pid, FILE **out)
{
	extern char **environ;
	posix_spawn_file_actions_t actions;
	int ends[2], rc;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	rc = posix_spawn_file_actions_init(&actions);
	if (!rc) {
		rc = posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
		if (!rc)
			rc = posix_spawnp(pid, argv[0], &actions, NULL, (char *const *)argv,
					  environ);
		posix_spawn_file_actions_destroy(&actions);
	}
	close(ends[1]);
	if (!rc) {
		*out = fdopen(ends[0], "r");
		if (*out)
			return 0;
		rc = errno;
	}
	close(ends[0]);
	return -rc;
}

/* Cut @text at "|", blanks around each piece away. */
static unsigned cut(char *text, char **fields)
{
	unsigned count = 0;

	while (text && count < SCAN_LVM_FIELDS) {
		char *next = strchr(text, '|'), *end;

		if (next)
			*next++ = '\0';
		text += strspn(text, " \t");
		for (end = text + strlen(text); end > text && strchr(" \t\r\n", end[-1]);)
			*--end = '\0';
		fields[count++] = text;
		text = next;
	}
	return count;
}

int scan_lvm(const char *const *argv, int (*line)(void *arg, char **fields, unsigned count),
	     void *arg)
{
	CLEANUP_FREE char *text = NULL;
	char *fields[SCAN_LVM_FIELDS];
	size_t room = 0;
	FILE *from;
	pid_t pid;
	int rc = start(argv, &pid, &from), status = 0;

	if (rc < 0)
		return rc;
	while (!rc && getline(&text, &room, from) > 0) {
		unsigned count = cut(text, fields);

		if (*fields[0])
			rc = line(arg, fields, count);
	}
	fclose(from);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (rc < 0 || (WIFEXITED(status) && !WEXITSTATUS(status)))
		return rc;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* ── volumes ── */

struct volume_io {
	struct vhd_io io; /* first */
	char *name;	  /* owned */
	uint64_t bytes;
	unsigned count;
	struct volume_piece {
		struct vhd_io *device; /* owned */
		uint64_t start, length;
	} pieces[];
};

static int volume_size(struct vhd_io *io, uint64_t *bytes)
{
	*bytes = ((struct volume_io *)io)->bytes;
	return 0;
}

static int volume_read(struct vhd_io *io, void *buf, size_t length, uint64_t offset)
{
	struct volume_io *v = (struct volume_io *)io;
	uint8_t *to = buf;
	int rc = 0;

	if (!number_within(offset, length, v->bytes))
		return -VHD_E_TRUNCATED;
	for (unsigned i = 0; length && !rc; i++) {
		const struct volume_piece *p = &v->pieces[i];
		size_t n;

		if (offset >= p->length) {
			offset -= p->length;
			continue;
		}
		n = number_min(length, p->length - offset);
		rc = io_read(p->device, to, n, p->start + offset);
		to += n;
		length -= n;
		offset = 0;
	}
	return rc;
}

static int no_write(struct vhd_io *io, const void *buf, size_t length, uint64_t offset)
{
	(void)io;
	(void)buf;
	(void)length;
	(void)offset;
	return -EROFS;
}

static int no_range(struct vhd_io *io, uint64_t offset, uint64_t length)
{
	(void)io;
	(void)offset;
	(void)length;
	return -EROFS;
}

static int no_cut(struct vhd_io *io, uint64_t bytes)
{
	(void)io;
	(void)bytes;
	return -EROFS;
}

static int no_sync(struct vhd_io *io)
{
	(void)io;
	return 0;
}

static int all_data(struct vhd_io *io, uint64_t offset, uint64_t *from, uint64_t *to)
{
	*to = ((struct volume_io *)io)->bytes;
	*from = number_min(offset, *to);
	return 0;
}

static void volume_close(struct vhd_io *io)
{
	struct volume_io *v = (struct volume_io *)io;

	for (unsigned i = 0; i < v->count; i++)
		io_close(v->pieces[i].device);
	free(v->name);
	free(v);
}

static const struct vhd_io_ops volume_ops = {
	.size = volume_size,
	.read = volume_read,
	.write = no_write,
	.sync = no_sync,
	.truncate = no_cut,
	.punch = no_range,
	.zero = no_range,
	.data = all_data,
	.close = volume_close,
};

static int open_pieces(const struct scan_volume *volume, struct vhd_io **out, struct vhd_error *err)
{
	struct volume_io *v = calloc(1, sizeof(*v) + volume->segment_count * sizeof(v->pieces[0]));
	int rc = v ? 0 : -ENOMEM;

	if (v) {
		v->io = (struct vhd_io){
			.ops = &volume_ops,
			.device = true,
			.sector_bytes = 512,
			/* no node, so no number of it; but one volume is not another */
			.device_id = UINT64_MAX,
			.inode = (uintptr_t)volume,
		};
		v->io.name = v->name = strdup(volume->path);
		rc = v->name ? 0 : -ENOMEM;
	}
	if (rc < 0)
		error_system(err, rc, "open", volume->path);
	for (unsigned i = 0; !rc && i < volume->segment_count; i++) {
		const struct scan_segment *s = &volume->segments[i];
		struct volume_piece *p = &v->pieces[i];

		rc = io_file_open(s->device, IO_FILE_DIRECT, &p->device, err);
		if (rc < 0)
			break;
		p->start = s->start;
		p->length = s->length;
		v->bytes += s->length; /* their sum was checked when they were told */
		v->count++;
	}
	if (rc < 0) {
		if (v)
			volume_close(&v->io);
		return rc;
	}
	*out = &v->io;
	return 0;
}

int scan_volume_open(const struct scan_volume *volume, struct vhd_io **out, struct vhd_error *err)
{
	int rc = io_file_open(volume->path, 0, out, err);

	if (rc != -ENOENT)
		return rc;
	if (volume->segment_count)
		return open_pieces(volume, out, err);
	return error_set(err, rc,
			 "cannot open '%s': the volume is not active, and it is not known where it "
			 "lies; activate it with lvchange -ay",
			 volume->path);
}
