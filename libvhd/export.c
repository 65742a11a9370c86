/* export.c - a whole chain as one stream: a tar archive of its files
 *
 *   base, …, leaf, each a member with its holes left out; then SHA256: the hash of all bytes before
 *   that member, and their number
 *
 * tar reads it.  Nobody writes to any of the images meanwhile.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "atomic.h"
#include "base/cleanup.h"
#include "base/number.h"
#include "chain.h"
#include "error.h"
#include "export.h"
#include "io-file.h"
#include "path.h"
#include "sha256.h"
#include "stream.h"
#include "tar.h"

#define LOCK_WAIT_MS 5000
#define PIECE_BYTES  (1u << 20)
#define HOLE_BYTES   (64u << 10) /* shorter ones are sent as they are */
#define SEGMENTS     65536u /* of a file, at most about so many: larger files have larger holes */

struct segment {
	uint64_t offset, length;
};

struct exporter {
	struct vhd_chain *chain;
	const struct vhd_export_options *o;
	char (*names)[TAR_NAME_MAX + 1]; /* owned; by layer */
	struct stream *out;
	struct sha256 hash;
	uint64_t at;	      /* bytes sent */
	uint64_t done, total; /* of data, for progress */
	uint8_t *buf;	      /* owned: PIECE_BYTES */
	struct vhd_export_result *result;
	struct vhd_error *err;
};

/* ── bytes ── */

static int put(struct exporter *x, const void *data, size_t length)
{
	sha256_add(&x->hash, data, length);
	x->at += length;
	return stream_write(x->out, data, length, x->err);
}

static int put_padding(struct exporter *x)
{
	static const uint8_t zeros[TAR_BLOCK];
	size_t over = x->at % TAR_BLOCK;

	return over ? put(x, zeros, TAR_BLOCK - over) : 0;
}

static int put_header(struct exporter *x, const char *name, char type, uint64_t size, int64_t mtime)
{
	uint8_t raw[TAR_BLOCK];

	tar_header_encode(name, type, size, mtime, raw);
	return put(x, raw, sizeof(raw));
}

/* ── one file ── */

/* Where @io has data: *segments, *count; the last reaches the file's end, if with no bytes. */
static int find_segments(struct exporter *x, struct vhd_io *io, uint64_t size,
			 struct segment **segments, size_t *count)
{
	uint64_t least = number_max(HOLE_BYTES, number_round_up(size / SEGMENTS, 4096));
	struct segment *s = calloc(SEGMENTS + 2, sizeof(*s));
	uint64_t at = 0;
	size_t n = 0;

	*segments = s;
	if (!s)
		return error_system(x->err, -ENOMEM, "export", io->name);
	while (at < size && n <= SEGMENTS) {
		uint64_t start, end;
		int rc = io_data(io, at, &start, &end);

		if (rc < 0)
			return error_system(x->err, rc, "read", io->name);
		start = number_min(start, size);
		end = number_min(end, size);
		if (start == end)
			break;
		if (n && start - (s[n - 1].offset + s[n - 1].length) < least)
			s[n - 1].length = end - s[n - 1].offset;
		else
			s[n++] = (struct segment){ start, end - start };
		at = end;
	}
	if (at < size && n > SEGMENTS) /* cannot be, with such holes */
		s[n - 1].length = size - s[n - 1].offset;
	if (!n || s[n - 1].offset + s[n - 1].length < size)
		s[n++] = (struct segment){ size, 0 };
	*count = n;
	return 0;
}

static bool is_whole(const struct segment *s, size_t count, uint64_t size)
{
	return count == 1 && s[0].offset == 0 && s[0].length == size;
}

/* The map's text; its length, padded. */
static size_t make_map(const struct segment *s, size_t count, char *map)
{
	size_t n = (size_t)sprintf(map, "%zu\n", count);

	for (size_t i = 0; i < count; i++)
		n += (size_t)sprintf(map + n, "%" PRIu64 "\n%" PRIu64 "\n", s[i].offset,
				     s[i].length);
	while (n % TAR_BLOCK)
		map[n++] = 0;
	return n;
}

/* What does not fit the header, before it. */
static int put_records(struct exporter *x, const char *name, uint64_t stored, bool sparse,
		       uint64_t size, int64_t mtime)
{
	char records[1024], number[24], title[101];
	size_t used = 0;
	int rc;

	if (sparse) {
		used = tar_record(records, sizeof(records), used, "GNU.sparse.major", "1");
		used = tar_record(records, sizeof(records), used, "GNU.sparse.minor", "0");
		used = tar_record(records, sizeof(records), used, "GNU.sparse.name", name);
		snprintf(number, sizeof(number), "%" PRIu64, size);
		used = tar_record(records, sizeof(records), used, "GNU.sparse.realsize", number);
	} else if (strlen(name) > 100) {
		used = tar_record(records, sizeof(records), used, "path", name);
	}
	if (stored > TAR_OCTAL_MAX) {
		snprintf(number, sizeof(number), "%" PRIu64, stored);
		used = tar_record(records, sizeof(records), used, "size", number);
	}
	if (!used)
		return 0;
	snprintf(title, sizeof(title), "pax/%.90s", name);
	rc = put_header(x, title, 'x', used, mtime);
	if (!rc)
		rc = put(x, records, used);
	return rc ? rc : put_padding(x);
}

static int put_data(struct exporter *x, struct vhd_io *io, const struct segment *s, size_t count)
{
	const struct vhd_progress *p = &x->o->progress;
	int rc = 0;

	for (size_t i = 0; i < count; i++) {
		for (uint64_t at = 0; at < s[i].length && !rc;) {
			size_t n = number_min(s[i].length - at, PIECE_BYTES);

			rc = io_read(io, x->buf, n, s[i].offset + at);
			if (rc < 0)
				return error_system(x->err, rc, "read", io->name);
			rc = put(x, x->buf, n);
			at += n;
			x->done += n;
			if (!rc && p->step && p->step(p->arg, x->done, x->total))
				rc = error_set(x->err, -VHD_E_CANCELLED,
					       "exporting '%s' was interrupted",
					       x->chain->images[0]->io->name);
		}
	}
	return rc ? rc : put_padding(x);
}

static int put_member(struct exporter *x, struct vhd_io *io, const char *name,
		      const struct segment *s, size_t count, uint64_t size)
{
	CLEANUP_FREE char *map = NULL;
	bool sparse = !is_whole(s, count, size);
	uint64_t stored = 0;
	size_t map_bytes = 0;
	int rc;

	for (size_t i = 0; i < count; i++)
		stored += s[i].length;
	if (sparse) {
		map = malloc(44 * (count + 1) + TAR_BLOCK);
		if (!map)
			return error_system(x->err, -ENOMEM, "export", io->name);
		map_bytes = make_map(s, count, map);
		stored += map_bytes;
	}
	rc = put_records(x, name, stored, sparse, size, io->mtime);
	if (!rc)
		rc = put_header(x, name, '0', stored, io->mtime);
	if (!rc && sparse)
		rc = put(x, map, map_bytes);
	return rc ? rc : put_data(x, io, s, count);
}

static int put_image(struct exporter *x, unsigned layer)
{
	struct vhd_io *io = x->chain->images[layer]->io;
	CLEANUP_FREE struct segment *segments = NULL;
	uint64_t size;
	size_t count = 0;
	int rc = io_size(io, &size);

	if (rc < 0)
		return error_system(x->err, rc, "read", io->name);
	rc = find_segments(x, io, size, &segments, &count);
	return rc ? rc : put_member(x, io, x->names[layer], segments, count, size);
}

/* ── the chain ── */

/* Names within the archive: the files' own, made different where two are the same. */
static int choose_names(struct exporter *x)
{
	unsigned depth = x->chain->depth;

	x->names = calloc(depth, sizeof(*x->names));
	if (!x->names)
		return error_system(x->err, -ENOMEM, "export", x->chain->images[0]->io->name);
	for (unsigned i = 0; i < depth; i++) {
		const char *name = path_base_name(x->chain->images[i]->io->name);
		bool taken = true;

		snprintf(x->names[i], sizeof(x->names[i]), "%s", name);
		for (unsigned tries = 1; taken; tries++) {
			/* names that begin with a dot are not taken by import */
			taken = !strcmp(x->names[i], EXPORT_HASH_NAME) || x->names[i][0] == '.';
			for (unsigned k = 0; k < i && !taken; k++)
				taken = !strcmp(x->names[i], x->names[k]);
			if (taken)
				snprintf(x->names[i], sizeof(x->names[i]), "%u-%.200s", tries,
					 name);
		}
		if (!tar_name_is_plain(x->names[i]))
			return error_set(x->err, -VHD_E_NAME,
					 "cannot export '%s': its name is no text that prints; "
					 "rename it",
					 x->chain->images[i]->io->name);
	}
	return 0;
}

/* Nobody writes to any of them; what is being merged or moved is not to be copied. */
static int hold_all(struct exporter *x)
{
	int rc = 0;

	for (unsigned i = 0; i < x->chain->depth && !rc; i++) {
		struct vhd_image *img = x->chain->images[i];

		rc = lock_take(img->io, LOCK_SNAPSHOT_PARENT, NULL, LOCK_WAIT_MS, NULL, x->err);
		if (!rc && img->io->device)
			rc = error_set(
				x->err, -VHD_E_NOT_FILE,
				"cannot export '%s': it is a device; copy it to a file first",
				img->io->name);
		x->total += img->file_bytes;
	}
	return rc;
}

static int put_hash(struct exporter *x)
{
	uint8_t hash[SHA256_BYTES];
	char text[2 * SHA256_BYTES + 32];
	uint64_t bytes = x->at;
	int n, rc;

	rc = sha256_end(&x->hash, hash);
	if (rc < 0)
		return error_system(x->err, rc, "export", x->chain->images[0]->io->name);
	n = (int)number_hex(hash, sizeof(hash), text);
	n += sprintf(text + n, " %" PRIu64 "\n", bytes);
	rc = put_header(x, EXPORT_HASH_NAME, '0', (uint64_t)n, time(NULL));
	if (!rc)
		rc = put(x, text, (size_t)n);
	return rc ? rc : put_padding(x);
}

static int send_all(struct exporter *x)
{
	int rc = sha256_begin(&x->hash);

	if (rc < 0)
		return error_system(x->err, rc, "export", x->chain->images[0]->io->name);
	for (unsigned i = x->chain->depth; i-- && !rc;)
		rc = put_image(x, i);
	if (!rc)
		rc = put_hash(x);
	if (!rc)
		rc = stream_zeros(x->out, 2ull * TAR_BLOCK, x->err);
	x->result->bytes = x->at + 2ull * TAR_BLOCK;
	sha256_drop(&x->hash);
	return rc;
}

static int send_to(struct exporter *x, int fd, const char *name, bool gzip)
{
	int rc = fd < 0 ? error_system(x->err, -errno, "open", name) :
			  stream_writer(fd, name, gzip, &x->out, x->err);
	int closed;

	if (rc < 0) {
		if (fd >= 0)
			close(fd);
		return rc;
	}
	rc = send_all(x);
	closed = stream_close(x->out, rc ? NULL : x->err);
	return rc ? rc : closed;
}

static bool is_compressed(const char *name)
{
	size_t n = strlen(name);

	return (n > 3 && !strcmp(name + n - 3, ".gz")) || (n > 4 && !strcmp(name + n - 4, ".tgz"));
}

static int send_to_file(struct exporter *x, const char *destination)
{
	bool gzip = x->o->gzip || is_compressed(destination);
	struct atomic a;
	int rc = atomic_begin(destination, x->o->force ? ATOMIC_FORCE : 0, &a, x->err);

	if (rc < 0)
		return rc;
	rc = send_to(x, dup(io_file_fd(a.io)), destination, gzip);
	if (!rc)
		return atomic_commit(&a, true, x->err);
	atomic_abort(&a);
	return rc;
}

int vhd_export(const char *path, const char *destination, const struct vhd_export_options *o,
	       struct vhd_export_result *result, struct vhd_error *err)
{
	struct vhd_open_options open = { .parents = o->parents };
	struct vhd_export_result own;
	struct exporter x = { .o = o, .err = err, .result = result ? result : &own };
	bool piped = !strcmp(destination, "-");
	int rc;

	memset(x.result, 0, sizeof(*x.result));
	rc = vhd_open(path, &open, &x.chain, err);
	if (rc < 0)
		return rc;
	x.buf = malloc(PIECE_BYTES);
	rc = x.buf ? hold_all(&x) : error_system(err, -ENOMEM, "export", path);
	if (!rc)
		rc = choose_names(&x);
	x.result->images = x.chain->depth;
	chain_warn(x.chain, &o->progress);
	if (!rc && o->dry_run)
		rc = piped ? 0 : atomic_check(destination, o->force, err);
	else if (!rc)
		rc = piped ? send_to(&x, dup(STDOUT_FILENO), "standard output", o->gzip) :
			     send_to_file(&x, destination);
	free(x.buf);
	free(x.names);
	vhd_close(x.chain, NULL);
	return rc;
}
