/* saved.c - keeping what a repair changes, and putting it back */
#include "saved.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "error.h"
#include "io-file.h"
#include "layout.h"

#define PIECE_BYTES   (1u << 20)
#define PIECE_SECTORS (PIECE_BYTES / VHD_SECTOR)
#define RECORD_BYTES  16u
#define NAMES_TRIED   100

struct writer {
	struct vhd_io *io;
	struct edits *e;
	struct vhd_io *view; /* owned: the image as it will be */
	uint8_t *piece;	     /* owned; a record */
	uint64_t at, records;
};

static uint32_t checksum(const uint8_t *bytes, size_t length)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < length; i++)
		sum += bytes[i];
	return ~sum;
}

char *saved_name(const char *image)
{
	time_t now = time(NULL);
	char stamp[32] = "", more[16] = "", *name;
	struct tm tm;

	if (gmtime_r(&now, &tm))
		strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
	for (int i = 1; i <= NAMES_TRIED; i++) {
		if (asprintf(&name, "%s.repair-%s%s", image, stamp, more) < 0)
			return NULL;
		if (access(name, F_OK) < 0)
			break;
		if (i < NAMES_TRIED)
			free(name);
		snprintf(more, sizeof(more), ".%d", i);
	}
	return name;
}

/* ── storing ── */

/* Of the sector at @offset, as it will be and as far as that reaches; edits may overlap. */
static int crc_after(struct writer *w, uint64_t offset, uint32_t *crc)
{
	uint64_t end = w->e->bytes;
	uint8_t sector[VHD_SECTOR];
	size_t n = offset < end ? number_min(VHD_SECTOR, end - offset) : 0;
	int rc = n ? io_read(w->view, sector, n, offset) : 0;

	*crc = n && !rc ? (uint32_t)crc32(0, sector, (unsigned)n) : 0;
	return rc;
}

/* A record of [offset, offset + length), as far as the file has it. */
static int put_record(struct writer *w, uint64_t offset, uint64_t length)
{
	uint64_t here = offset < w->e->old_bytes ? number_min(length, w->e->old_bytes - offset) : 0;
	size_t sectors = (size_t)number_div_up(here, VHD_SECTOR);
	uint8_t *after;
	int rc;

	if (!here)
		return 0;
	rc = io_read(w->e->io, w->piece + RECORD_BYTES, here, offset);
	if (rc < 0)
		return rc;
	be64_store(w->piece, offset);
	be32_store(w->piece + 8, (uint32_t)here);
	be32_store(w->piece + 12, checksum(w->piece + RECORD_BYTES, here));
	after = w->piece + RECORD_BYTES + here;
	for (size_t i = 0; !rc && i < sectors; i++) {
		uint32_t crc;

		rc = crc_after(w, offset + i * VHD_SECTOR, &crc);
		be32_store(after + i * 4, crc);
	}
	here += sectors * 4;
	if (!rc)
		rc = io_write(w->io, w->piece, RECORD_BYTES + here, w->at);
	w->at += RECORD_BYTES + here;
	w->records++;
	return rc;
}

static int put_records(struct writer *w)
{
	const struct edits *e = w->e;
	int rc = 0;

	for (size_t i = 0; !rc && i < e->count;) {
		size_t n = 1;

		while (i + n < e->count && n < PIECE_SECTORS &&
		       e->list[i + n].offset == e->list[i].offset + n * VHD_SECTOR)
			n++;
		rc = put_record(w, e->list[i].offset, (uint64_t)n * VHD_SECTOR);
		i += n;
	}
	for (uint64_t at = e->bytes; !rc && at < e->old_bytes; at += PIECE_BYTES)
		rc = put_record(w, at, PIECE_BYTES);
	return rc;
}

static int write_all(struct writer *w)
{
	char head[VHD_SECTOR] = "";
	int rc;

	w->at = sizeof(head);
	w->piece = malloc(RECORD_BYTES + PIECE_BYTES + PIECE_SECTORS * 4);
	rc = w->piece ? edits_view(w->e, &w->view) : -ENOMEM;
	if (!rc)
		rc = put_records(w);
	io_close(w->view);
	free(w->piece);
	snprintf(head, sizeof(head),
		 "vhd-repair 2\nsize %" PRIu64 "\nrecords %" PRIu64 "\nafter %" PRIu64 "\n",
		 w->e->old_bytes, w->records, w->e->bytes);
	if (!rc)
		rc = io_write(w->io, head, sizeof(head), 0);
	return rc ? rc : io_sync(w->io);
}

int saved_store(const char *path, struct edits *e, struct vhd_error *err)
{
	struct writer w = { .e = e };
	int rc = io_file_open(path, IO_FILE_WRITE | IO_FILE_CREATE, &w.io, err);

	if (rc < 0)
		return rc;
	rc = write_all(&w);
	io_close(w.io);
	if (!rc)
		rc = io_file_sync_directory(path);
	if (rc < 0) {
		unlink(path);
		error_system(err, rc, "keep what is to change in", path);
		error_prefix(err, "nothing was changed");
	}
	return rc;
}

/* ── restoring ── */

struct reader {
	struct vhd_io *from, *to;
	uint8_t *piece; /* owned: of a record: its bytes, CRCs; at NOW what the image has there */
	uint64_t bytes, size, records, after;
	uint64_t now;	  /* bytes of the image */
	const char *what; /* is wrong with the file */
};
#define NOW (PIECE_BYTES + PIECE_SECTORS * 4)

static int read_head(struct reader *r)
{
	char head[VHD_SECTOR];
	int rc = io_size(r->from, &r->bytes);

	r->what = "it is none that a repair left";
	if (!rc && r->bytes < sizeof(head))
		return -VHD_E_ARGUMENT;
	if (!rc)
		rc = io_read(r->from, head, sizeof(head), 0);
	if (rc < 0)
		return rc;
	head[sizeof(head) - 1] = '\0';
	if (sscanf(head, "vhd-repair 2\nsize %" SCNu64 "\nrecords %" SCNu64 "\nafter %" SCNu64 "\n",
		   &r->size, &r->records, &r->after) != 3)
		return -VHD_E_ARGUMENT;
	return 0;
}

/* Who wrote new blocks since would lose them: the old table does not name them. */
static int check_size(struct reader *r)
{
	int rc = io_size(r->to, &r->now);

	r->what = "the image has grown since, and what was written to it would be lost";
	if (!rc && r->now > number_max(r->size, r->after))
		return -VHD_E_ARGUMENT;
	return rc;
}

/* Is what the image has now what it had, or what the repair made of it? */
static int check_unused(struct reader *r, uint64_t offset, uint32_t length)
{
	const uint8_t *now = r->piece + NOW, *after = r->piece + length;
	uint64_t sectors = number_div_up(length, VHD_SECTOR), have;
	int rc;

	have = r->now > offset ? number_min(sectors * VHD_SECTOR, r->now - offset) : 0;
	rc = have ? io_read(r->to, r->piece + NOW, have, offset) : 0;
	for (uint64_t i = 0; !rc && i < sectors; i++) {
		uint64_t at = i * VHD_SECTOR, n = number_min(VHD_SECTOR, length - at);
		uint64_t left = r->after > offset + at ? r->after - offset - at : 0;

		if (at + n <= have ? !memcmp(now + at, r->piece + at, n) : !left)
			continue;
		n = number_min(VHD_SECTOR, left);
		if (n && at + n <= have &&
		    crc32(0, now + at, (unsigned)n) == be32_load(after + i * 4))
			continue;
		r->what = "the image was written to since, and that would be lost";
		rc = -VHD_E_ARGUMENT;
	}
	return rc;
}

/* All records, to be looked at or (@write) to be put back. */
static int walk_records(struct reader *r, bool write)
{
	uint64_t at = VHD_SECTOR;
	int rc = 0;

	r->what = "a record in it is damaged";
	for (uint64_t i = 0; !rc && i < r->records; i++) {
		uint8_t head[RECORD_BYTES];
		uint64_t offset, end, whole;
		uint32_t length;

		if (!number_within(at, sizeof(head), r->bytes))
			return -VHD_E_ARGUMENT;
		rc = io_read(r->from, head, sizeof(head), at);
		if (rc < 0)
			return rc;
		at += sizeof(head);
		offset = be64_load(head);
		length = be32_load(head + 8);
		whole = length + number_div_up(length, VHD_SECTOR) * 4;
		if (!length || length > PIECE_BYTES || !number_within(at, whole, r->bytes) ||
		    !number_add(offset, length, &end) || end > r->size)
			return -VHD_E_ARGUMENT;
		rc = io_read(r->from, r->piece, whole, at);
		at += whole;
		if (!rc && checksum(r->piece, length) != be32_load(head + 12))
			return -VHD_E_ARGUMENT;
		if (!rc)
			rc = write ? io_write(r->to, r->piece, length, offset) :
				     check_unused(r, offset, length);
	}
	return rc;
}

int saved_restore(const char *path, struct vhd_io *io, bool dry_run, struct vhd_error *err)
{
	struct reader r = { .to = io };
	int rc = io_file_open(path, 0, &r.from, err);

	if (rc < 0)
		return rc;
	r.piece = malloc(NOW + PIECE_BYTES);
	rc = r.piece ? read_head(&r) : -ENOMEM;
	if (!rc)
		rc = check_size(&r);
	if (!rc)
		rc = walk_records(&r, false);
	if (rc == -VHD_E_ARGUMENT) {
		error_set(err, rc, "cannot put back what '%s' holds: %s", path, r.what);
	} else if (rc < 0) {
		error_system(err, rc, "read", path);
	} else if (!dry_run) {
		rc = walk_records(&r, true);
		if (!rc)
			rc = io_sync(io);
		if (!rc)
			rc = io_truncate(io, r.size);
		if (!rc)
			rc = io_sync(io);
		if (rc < 0)
			error_system(err, rc, "write", io->name);
	}
	free(r.piece);
	io_close(r.from);
	return rc;
}
