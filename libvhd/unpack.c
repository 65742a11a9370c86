/* unpack.c - the archive of a chain, member by member
 *
 *   header ─► records? ─► header ─► map? ─► data ─► … ─► SHA256 ─► blocks of zeros
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "error.h"
#include "export.h"
#include "sha256.h"

#define PIECE_BYTES  (1u << 20)
#define SEGMENTS_MAX (1u << 18)
#define END_MAX	     (64u << 10) /* zeros behind the end: archivers fill their blocks */

struct segment {
	uint64_t offset, length;
};

struct unpacker {
	struct stream *in;
	const char *name;
	const struct unpack_sink *sink;
	const struct vhd_progress *progress;
	struct vhd_error *err;
	struct sha256 hash, before; /* of all bytes; of those before this member */
	uint64_t at, start;	    /* bytes read; before this member */
	unsigned files;
	struct tar_member member;
	uint64_t mtime;
	uint64_t left;		  /* of the member's stored bytes */
	struct segment *segments; /* owned */
	size_t count;
	uint8_t *buf; /* owned: PIECE_BYTES */
};

static int broken(struct unpacker *u, const char *fact)
{
	return error_at(u->err, -VHD_E_ARCHIVE, u->at,
			"cannot import '%s': %s (at byte %llu); have it sent again", u->name, fact,
			(unsigned long long)u->at);
}

/* ── bytes ── */

static int take(struct unpacker *u, void *out, size_t length)
{
	const struct vhd_progress *p = u->progress;
	int n = stream_read(u->in, out, length, u->err);

	if (n < 0)
		return n;
	u->at += (unsigned)n;
	if ((size_t)n < length)
		return broken(u, "it ends too early");
	sha256_add(&u->hash, out, length);
	if (p->step && p->step(p->arg, u->at, 0))
		return error_set(u->err, -VHD_E_CANCELLED, "importing '%s' was interrupted",
				 u->name);
	return 0;
}

static int take_padding(struct unpacker *u)
{
	uint8_t rest[TAR_BLOCK];
	size_t over = u->at % TAR_BLOCK;

	return over ? take(u, rest, TAR_BLOCK - over) : 0;
}

/* Stored bytes of the member. */
static int take_stored(struct unpacker *u, void *out, size_t length)
{
	if (length > u->left)
		return broken(u, "a file is shorter than it says");
	u->left -= length;
	return take(u, out, length);
}

/* ── the map of a sparse file ── */

struct map_text {
	uint8_t block[TAR_BLOCK];
	size_t at;
};

static int map_number(struct unpacker *u, struct map_text *t, uint64_t *out)
{
	char digits[24];
	size_t n = 0;

	for (;;) {
		char c;

		if (t->at == TAR_BLOCK) {
			int rc = take_stored(u, t->block, TAR_BLOCK);

			if (rc < 0)
				return rc;
			t->at = 0;
		}
		c = (char)t->block[t->at++];
		if (c == '\n')
			break;
		if (c < '0' || c > '9' || n == sizeof(digits) - 1)
			return broken(u, "the map of a file is wrong");
		digits[n++] = c;
	}
	digits[n] = 0;
	return n && number_parse(digits, out) ? 0 : broken(u, "the map of a file is wrong");
}

/* Ascending, within the file, and as many bytes as are stored. */
static int take_map(struct unpacker *u)
{
	struct map_text t = { .at = TAR_BLOCK };
	uint64_t count, end = 0, stored = 0;
	int rc = map_number(u, &t, &count);

	if (rc < 0)
		return rc;
	if (count > SEGMENTS_MAX)
		return broken(u, "the map of a file is too long");
	free(u->segments);
	u->count = 0;
	u->segments = calloc(count + 1, sizeof(*u->segments));
	if (!u->segments)
		return error_system(u->err, -ENOMEM, "import", u->name);
	for (uint64_t i = 0; i < count; i++) {
		struct segment *s = &u->segments[i];

		rc = map_number(u, &t, &s->offset);
		if (!rc)
			rc = map_number(u, &t, &s->length);
		if (rc < 0)
			return rc;
		if (s->offset < end || !number_within(s->offset, s->length, u->member.size))
			return broken(u, "the map of a file is wrong");
		end = s->offset + s->length;
		stored += s->length; /* at most the file's size */
	}
	u->count = count;
	return stored == u->left ? 0 : broken(u, "the map of a file is wrong");
}

/* ── members ── */

static int take_data(struct unpacker *u)
{
	const struct unpack_sink *k = u->sink;
	int rc = 0;

	for (size_t i = 0; i < u->count; i++) {
		for (uint64_t at = 0; at < u->segments[i].length && !rc;) {
			size_t n = number_min(u->segments[i].length - at, PIECE_BYTES);

			rc = take_stored(u, u->buf, n);
			if (!rc)
				rc = k->write(k->arg, u->buf, n, u->segments[i].offset + at,
					      u->err);
			at += n;
		}
		if (rc < 0)
			return rc;
	}
	return take_padding(u);
}

static int take_file(struct unpacker *u)
{
	struct tar_member *m = &u->member;
	const struct unpack_sink *k = u->sink;
	int rc = 0;

	if (!tar_name_is_plain(m->name) || m->name[0] == '.')
		return broken(u, "a file in it has a name that is not taken");
	if (u->files++ == EXPORT_FILES_MAX)
		return broken(u, "there are more files in it than a chain has");
	if (!m->sparse)
		m->size = m->stored;
	if (m->size > EXPORT_SIZE_MAX || m->stored > EXPORT_SIZE_MAX)
		return broken(u, "a file in it is too large");
	u->left = m->stored;
	if (m->sparse) {
		rc = take_map(u);
	} else {
		free(u->segments);
		u->segments = calloc(1, sizeof(*u->segments));
		if (!u->segments)
			return error_system(u->err, -ENOMEM, "import", u->name);
		u->segments[0].length = m->size;
		u->count = 1;
	}
	if (!rc)
		rc = k->begin(k->arg, m->name, m->size, u->mtime, u->err);
	if (!rc)
		rc = take_data(u);
	return rc ? rc : k->end(k->arg, u->err);
}

static int take_records(struct unpacker *u, uint64_t length, bool *has_size)
{
	CLEANUP_FREE char *records = NULL;
	int rc;

	if (length > TAR_RECORDS_MAX)
		return broken(u, "a header is too long");
	records = malloc(length + 1);
	if (!records)
		return error_system(u->err, -ENOMEM, "import", u->name);
	rc = take(u, records, length);
	if (!rc)
		rc = take_padding(u);
	if (!rc && tar_records_decode(records, length, &u->member, has_size) < 0)
		rc = broken(u, "a header is wrong, or of a kind that is not read here");
	return rc;
}

/* The headers of the next member; 1: the end. */
static int take_headers(struct unpacker *u)
{
	struct tar_header h = { .size = 0 };
	uint8_t raw[TAR_BLOCK];
	bool has_size = false, records = false;
	int rc;

	memset(&u->member, 0, sizeof(u->member));
	rc = sha256_copy(&u->before, &u->hash);
	if (rc < 0)
		return error_system(u->err, rc, "import", u->name);
	u->start = u->at;
	for (;;) {
		rc = take(u, raw, sizeof(raw));
		if (rc < 0)
			return rc;
		rc = tar_header_decode(raw, &h);
		if (rc == 1 && !records)
			return 1;
		if (rc)
			return broken(u, "it is no archive of a chain, or was corrupted");
		if (h.type == '0')
			break;
		if (h.type != 'x' || records)
			return broken(u, "there is something in it that is no plain file");
		records = true;
		rc = take_records(u, h.size, &has_size);
		if (rc < 0)
			return rc;
	}
	if (!u->member.name[0])
		strcpy(u->member.name, h.name);
	if (!has_size)
		u->member.stored = h.size;
	u->mtime = h.mtime;
	return 0;
}

/* ── the end ── */

static int check_hash(struct unpacker *u)
{
	char wanted[2 * SHA256_BYTES + 32], found[sizeof(wanted)];
	uint8_t hash[SHA256_BYTES];
	int n, rc;

	rc = sha256_end(&u->before, hash);
	if (rc < 0)
		return error_system(u->err, rc, "import", u->name);
	n = (int)number_hex(hash, sizeof(hash), wanted);
	n += sprintf(wanted + n, " %" PRIu64 "\n", u->start);
	if (u->member.sparse || u->member.stored != (uint64_t)n)
		return broken(u, "its checksum is wrong: it was corrupted on its way");
	rc = take(u, found, (size_t)n);
	if (rc < 0)
		return rc;
	if (memcmp(found, wanted, (size_t)n) != 0)
		return broken(u, "its checksum is wrong: it was corrupted on its way");
	return take_padding(u);
}

/* Two blocks of zeros, and no more than zeros after them. */
static int take_end(struct unpacker *u)
{
	int n = stream_read(u->in, u->buf, END_MAX, u->err);

	if (n < 0)
		return n;
	if (n < 2 * (int)TAR_BLOCK)
		return broken(u, "it ends too early");
	for (int i = 0; i < n; i++)
		if (u->buf[i])
			return broken(u, "there are bytes after its end");
	u->at += (unsigned)n;
	if (n == (int)END_MAX && stream_read(u->in, u->buf, 1, u->err) != 0)
		return broken(u, "there are bytes after its end");
	return 0;
}

static int unpack_all(struct unpacker *u)
{
	int rc;

	while (!(rc = take_headers(u))) {
		if (!strcmp(u->member.name, EXPORT_HASH_NAME)) {
			rc = check_hash(u);
			return rc ? rc : take_end(u);
		}
		rc = take_file(u);
		if (rc < 0)
			return rc;
	}
	return rc < 0 ? rc :
			broken(u, "it has no checksum: it was cut off, or is not of this kind");
}

int unpack(struct stream *in, const char *name, const struct unpack_sink *sink,
	   const struct vhd_progress *progress, uint64_t *bytes, struct vhd_error *err)
{
	struct unpacker *u = calloc(1, sizeof(*u));
	int rc;

	if (!u)
		return error_system(err, -ENOMEM, "import", name);
	u->in = in;
	u->name = name;
	u->sink = sink;
	u->progress = progress;
	u->err = err;
	u->buf = malloc(PIECE_BYTES);
	rc = sha256_begin(&u->hash);
	rc = !rc && u->buf ? unpack_all(u) : error_system(err, -ENOMEM, "import", name);
	*bytes = u->at;
	sha256_drop(&u->hash);
	sha256_drop(&u->before);
	free(u->segments);
	free(u->buf);
	free(u);
	return rc;
}
