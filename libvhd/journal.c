/* journal.c - see journal.h */
#include "journal.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "error.h"

#define COOKIE	     "vjournal"
#define COOKIE_BYTES 8u
#define ENTRY_COOKIE 0xaaaa12344321aaaaull

enum header_layout {
	JOURNAL_AT_ID = 8,
	JOURNAL_AT_FOOTER = 24,
	JOURNAL_AT_DATA_COUNT = 32,
	JOURNAL_AT_META_COUNT = 36,
	JOURNAL_AT_DATA = 40,
	JOURNAL_AT_META = 48,
};
enum entry_layout {
	ENTRY_AT_TYPE = 8,
	ENTRY_AT_SIZE = 12,
	ENTRY_AT_OFFSET = 16,
	ENTRY_AT_CHECKSUM = 24,
};

int journal_probe(struct vhd_io *journal)
{
	uint8_t raw[COOKIE_BYTES];
	uint64_t size;
	int rc = io_size(journal, &size);

	if (rc < 0 || size < JOURNAL_HEADER_BYTES)
		return rc;
	rc = io_read(journal, raw, sizeof(raw), 0);
	return rc < 0 ? rc : !memcmp(raw, COOKIE, COOKIE_BYTES);
}

static int damaged(const struct vhd_io *journal, uint64_t at, const char *what,
		   struct vhd_error *err)
{
	return error_at(err, -VHD_E_JOURNAL, at,
			"cannot use the journal '%s': %s (at offset %llu); it is damaged, or no "
			"journal of this image",
			journal->name, what, (unsigned long long)at);
}

int journal_load(struct vhd_io *journal, struct journal_header *out, struct vhd_error *err)
{
	uint8_t raw[JOURNAL_HEADER_BYTES];
	struct journal_header h;
	uint64_t size, most;
	int rc = io_size(journal, &size);

	if (!rc)
		rc = io_read(journal, raw, sizeof(raw), 0);
	if (rc < 0)
		return error_system(err, rc, "read", journal->name);
	if (memcmp(raw, COOKIE, COOKIE_BYTES) != 0)
		return damaged(journal, 0, "it does not begin as one", err);
	memcpy(h.id, raw + JOURNAL_AT_ID, VHD_UUID_BYTES);
	h.footer_offset = be64_load(raw + JOURNAL_AT_FOOTER);
	h.data_count = be32_load(raw + JOURNAL_AT_DATA_COUNT);
	h.metadata_count = be32_load(raw + JOURNAL_AT_META_COUNT);
	h.data_offset = be64_load(raw + JOURNAL_AT_DATA);
	h.metadata_offset = be64_load(raw + JOURNAL_AT_META);
	most = size / (JOURNAL_ENTRY_BYTES + VHD_SECTOR) + 1;
	if (h.footer_offset % VHD_SECTOR ||
	    !number_within(h.footer_offset, VHD_FOOTER_BYTES, INT64_MAX))
		return damaged(journal, JOURNAL_AT_FOOTER, "the image cannot have ended there",
			       err);
	if (h.metadata_count > most || h.data_count > most)
		return damaged(journal, JOURNAL_AT_DATA_COUNT, "it has not that many entries", err);
	if ((h.metadata_count && h.metadata_offset >= size) ||
	    (h.data_count && h.data_offset >= size))
		return damaged(journal, JOURNAL_AT_DATA, "entries lie behind its end", err);
	*out = h;
	return 0;
}

static uint32_t sum(const uint8_t *data, size_t bytes)
{
	uint32_t s = 0;

	for (size_t i = 0; i < bytes; i++)
		s += data[i];
	return s;
}

/* One entry at @at with its bytes in @data, which grows as needed. */
static int load_entry(struct vhd_io *journal, const struct journal_header *h, uint64_t at,
		      struct journal_entry *out, uint8_t **data, size_t *room,
		      struct vhd_error *err)
{
	uint8_t raw[JOURNAL_ENTRY_BYTES];
	struct journal_entry e;
	uint64_t size;
	int rc = io_size(journal, &size);

	if (!rc && !number_within(at, sizeof(raw), size))
		return damaged(journal, at, "an entry lies behind its end", err);
	if (!rc)
		rc = io_read(journal, raw, sizeof(raw), at);
	if (rc < 0)
		return error_system(err, rc, "read", journal->name);
	e.type = (enum journal_type)be32_load(raw + ENTRY_AT_TYPE);
	e.size = be32_load(raw + ENTRY_AT_SIZE);
	e.offset = be64_load(raw + ENTRY_AT_OFFSET);
	e.checksum = be32_load(raw + ENTRY_AT_CHECKSUM);
	e.data_offset = at + sizeof(raw);
	if (be64_load(raw) != ENTRY_COOKIE || e.type < JOURNAL_FOOTER || e.type > JOURNAL_DATA)
		return damaged(journal, at, "there is no entry", err);
	if (!e.size || e.size % VHD_SECTOR || e.size > JOURNAL_DATA_MAX ||
	    !number_within(e.data_offset, e.size, size))
		return damaged(journal, at, "the size of an entry makes no sense", err);
	if (e.offset % VHD_SECTOR ||
	    !number_within(e.offset, e.size, h->footer_offset + VHD_FOOTER_BYTES))
		return damaged(journal, at, "an entry belongs behind the end of the image", err);
	if (e.size > *room) {
		uint8_t *more = realloc(*data, e.size);

		if (!more)
			return error_system(err, -ENOMEM, "read", journal->name);
		*data = more;
		*room = e.size;
	}
	rc = io_read(journal, *data, e.size, e.data_offset);
	if (rc < 0)
		return error_system(err, rc, "read", journal->name);
	memset(raw + ENTRY_AT_CHECKSUM, 0, 4);
	if (~(sum(raw, sizeof(raw)) + sum(*data, e.size)) != e.checksum)
		return damaged(journal, at, "the checksum of an entry is wrong", err);
	*out = e;
	return 0;
}

int journal_walk(struct vhd_io *journal, const struct journal_header *h, journal_fn *fn, void *arg,
		 struct vhd_error *err)
{
	CLEANUP_FREE uint8_t *data = NULL;
	size_t room = 0;
	int rc = 0;

	for (unsigned half = 0; half < 2; half++) {
		uint32_t count = half ? h->data_count : h->metadata_count;
		uint64_t at = half ? h->data_offset : h->metadata_offset;

		for (uint32_t i = 0; i < count && !rc; i++) {
			struct journal_entry e;

			rc = load_entry(journal, h, at, &e, &data, &room, err);
			if (rc < 0)
				return rc;
			if (half != (e.type == JOURNAL_DATA))
				return damaged(journal, at, "an entry is among the wrong ones",
					       err);
			rc = fn(arg, &e, data);
			at = e.data_offset + e.size;
		}
	}
	return rc;
}

bool journal_waits(const struct vhd_io *image)
{
	char name[PATH_MAX], beside[PATH_MAX];

	return !image->device && realpath(image->name, name) &&
	       journal_default_path(name, beside) == 0 && access(beside, F_OK) == 0;
}

int journal_refuse(const char *verb, const char *image, struct vhd_error *err)
{
	return error_set(
		err, -VHD_E_POISONED,
		"cannot %s '%s': a resize was interrupted; to undo it: vhd-util revert -n '%s'",
		verb, image, image);
}

int journal_default_path(const char *image, char *out)
{
	const char *slash = strrchr(image, '/'), *base = slash ? slash + 1 : image;
	int n = snprintf(out, PATH_MAX, "%.*s.%s.journal", (int)(base - image), image, base);

	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}
