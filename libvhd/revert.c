/* revert.c - see revert.h */
#include "revert.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "confine.h"
#include "error.h"
#include "footer.h"
#include "grow.h"
#include "header.h"
#include "io-file.h"
#include "journal-note.h"
#include "journal.h"
#include "spare.h"
#include "sweep.h"
#include "zeros.h"

#define LOCK_WAIT_MS 5000
#define PIECE_BYTES  (64u << 10)

struct revert {
	struct vhd_io *image, *journal; /* borrowed */
	struct journal_header h;
	struct vhd_footer footer; /* the old one */
	uint8_t raw[VHD_FOOTER_BYTES], copy[VHD_FOOTER_BYTES];
	struct vhd_header header;
	bool has_footer, has_copy, has_header;
	uint64_t bytes;
	struct vhd_error *err;
};

static int odd(const struct revert *r, const char *what)
{
	return error_set(r->err, -VHD_E_JOURNAL, "cannot undo the resize of '%s' by '%s': %s",
			 r->image->name, r->journal->name, what);
}

/* ── what the image says ── */

/* Is the image the journal's, and is it poisoned?  One of its footers is whole at every instant. */
static int look_at_image(struct revert *r, bool *poisoned)
{
	uint8_t raw[VHD_FOOTER_BYTES];
	struct vhd_footer f[2];
	bool valid[2] = { false, false };
	uint64_t size;
	int rc = io_size(r->image, &size);

	for (unsigned i = 0; i < 2 && !rc && size >= VHD_FOOTER_BYTES; i++) {
		rc = io_read(r->image, raw, sizeof(raw), i ? 0 : size - VHD_FOOTER_BYTES);
		valid[i] = !rc && footer_decode(raw, &f[i], NULL) == 0 &&
			   !memcmp(f[i].uuid, r->h.id, VHD_UUID_BYTES) &&
			   (!i || footer_is_sparse(&f[i]));
		if (valid[0] && !footer_is_sparse(&f[0])) /* the bytes at 0 are a guest's */
			break;
	}
	if (rc < 0)
		return error_system(r->err, rc, "read", r->image->name);
	if (!valid[0] && !valid[1])
		return odd(r, "the journal is of another image");
	*poisoned = (valid[0] && f[0].poisoned) || (valid[1] && f[1].poisoned);
	return 0;
}

/* ── first pass: is all of it sound? ── */

static int check_entry(void *arg, const struct journal_entry *e, const uint8_t *data)
{
	struct revert *r = arg;

	r->bytes += e->size;
	switch (e->type) {
	case JOURNAL_FOOTER:
		if (e->offset != r->h.footer_offset || e->size != VHD_FOOTER_BYTES ||
		    footer_decode(data, &r->footer, NULL) < 0 || r->footer.poisoned ||
		    memcmp(r->footer.uuid, r->h.id, VHD_UUID_BYTES) != 0)
			return odd(r, "the footer in it is none of this image");
		memcpy(r->raw, data, sizeof(r->raw));
		r->has_footer = true;
		return 0;
	case JOURNAL_COPY:
		if (e->offset || e->size != VHD_FOOTER_BYTES)
			return odd(r, "the copy of the footer in it belongs elsewhere");
		memcpy(r->copy, data, sizeof(r->copy));
		r->has_copy = true;
		return 0;
	case JOURNAL_HEADER:
		if (e->size != VHD_HEADER_BYTES || header_decode(data, &r->header, NULL) < 0)
			return odd(r, "the header in it is damaged");
		r->has_header = true;
		return 0;
	default:
		if (e->offset < VHD_FOOTER_BYTES || e->offset + e->size > r->h.footer_offset)
			return odd(r, "an entry of it belongs over a footer");
		return 0;
	}
}

/* The header must be where the footer says, the table where the header says. */
static int check_places(void *arg, const struct journal_entry *e, const uint8_t *data)
{
	struct revert *r = arg;
	uint64_t table = number_round_up((uint64_t)r->header.max_entries * 4, VHD_SECTOR);

	(void)data;
	if (e->type == JOURNAL_HEADER && e->offset != r->footer.data_offset)
		return odd(r, "the header in it belongs elsewhere");
	if (e->type == JOURNAL_BAT &&
	    (e->offset != r->header.table_offset || (r->has_header && e->size > table)))
		return odd(r, "the block table in it belongs elsewhere");
	return 0;
}

static int check_all(struct revert *r)
{
	struct vhd_footer copy;
	int rc = journal_walk(r->journal, &r->h, check_entry, r, r->err);

	if (rc < 0)
		return rc;
	if (!r->has_footer || !footer_is_sparse(&r->footer))
		return odd(r, "there is no footer in it");
	if (!r->has_header)
		return odd(r, "there is no header in it");
	/* of one written when the other could not be: they were the same */
	if (!r->has_copy || footer_decode(r->copy, &copy, NULL) < 0 || copy.poisoned)
		memcpy(r->copy, r->raw, sizeof(r->copy));
	if (header_fits(&r->header, r->footer.data_offset, r->footer.current_size,
			r->h.footer_offset + VHD_FOOTER_BYTES, NULL) < 0)
		return odd(r, "the header in it does not fit the image");
	return journal_walk(r->journal, &r->h, check_places, r, r->err);
}

/* ── second pass: putting back ── */

static int restore_entry(void *arg, const struct journal_entry *e, const uint8_t *data)
{
	struct revert *r = arg;
	int rc = 0;

	if (e->type != JOURNAL_FOOTER && e->type != JOURNAL_COPY)
		rc = io_write(r->image, data, e->size, e->offset);
	return rc < 0 ? error_system(r->err, rc, "write", r->image->name) : 0;
}

static int restore(struct revert *r)
{
	int rc = journal_walk(r->journal, &r->h, restore_entry, r, r->err);

	if (rc < 0)
		return rc;
	rc = io_sync(r->image);
	if (!rc)
		rc = io_write(r->image, r->raw, sizeof(r->raw), r->h.footer_offset);
	if (!rc)
		rc = io_sync(r->image);
	if (!rc && !r->image->device)
		rc = io_truncate(r->image, r->h.footer_offset + VHD_FOOTER_BYTES);
	if (!rc)
		rc = io_sync(r->image);
	if (!rc) /* ORDER 25: from here on it is an image again */
		rc = io_write(r->image, r->copy, sizeof(r->copy), 0);
	if (!rc)
		rc = io_sync(r->image);
	return rc < 0 ? error_system(r->err, rc, "write", r->image->name) : 0;
}

int revert_apply(struct vhd_io *image, struct vhd_io *journal, bool dry_run,
		 struct vhd_revert_result *result, struct vhd_error *err)
{
	CLEANUP_FREE struct revert *r = calloc(1, sizeof(*r));
	bool poisoned = false;
	int rc;

	if (!r)
		return error_system(err, -ENOMEM, "undo the resize of", image->name);
	r->image = image;
	r->journal = journal;
	r->err = err;
	rc = journal_load(journal, &r->h, err);
	if (!rc)
		rc = look_at_image(r, &poisoned);
	if (rc < 0 || !poisoned)
		return rc;
	rc = check_all(r);
	if (!rc && !dry_run)
		rc = restore(r);
	if (rc < 0)
		return rc;
	result->reverted = true;
	result->old_size = r->footer.current_size;
	result->restored = r->bytes;
	return 1;
}

/* ── our own kind ── */

/* Has anybody written behind the old end?  Zeros are the growth's own: they hide what a parent has
 * there. */
static int check_unused(struct vhd_image *img, uint64_t size, struct vhd_error *err)
{
	for (uint64_t b = number_div_up(size, img->header.block_size); b < img->blocks; b++) {
		uint32_t entry;
		int rc = image_bat_entry(img, (uint32_t)b, &entry, err);

		if (rc < 0)
			return rc;
		if (entry == VHD_BAT_UNUSED)
			continue;
		rc = spare_is_zero(img->io, entry, img->block_sectors, image_has_parent(img));
		if (rc < 0)
			return error_system(err, rc, "read", img->io->name);
		if (!rc)
			return error_set(err, -VHD_E_JOURNAL,
					 "cannot undo the resize of '%s': there is data behind the "
					 "old end at %llu; it was finished and used since",
					 img->io->name, (unsigned long long)size);
	}
	return 0;
}

/* The zeros go, after the size (ORDER 24). */
static int drop_zeros(struct vhd_image **img, uint64_t larger, struct vhd_error *err)
{
	struct mover m = { .img = *img, .verb = "undo the resize of", .err = err };
	uint64_t freed = 0;
	int rc = mover_reopen(&m);

	if (!rc)
		rc = sweep_behind(&m, larger, &freed);
	*img = m.img;
	return rc;
}

/* A fixed image whose footer is not where it was, or is none: to where it ended. */
static int cut_back(struct vhd_io *io, const struct journal_facts *was, bool dry_run,
		    struct vhd_revert_result *result, struct vhd_error *err)
{
	uint8_t raw[VHD_FOOTER_BYTES];
	uint64_t bytes;
	int rc = io_size(io, &bytes);

	if (!rc && bytes < was->place)
		return error_set(err, -VHD_E_TRUNCATED,
				 "cannot undo the resize of '%s': it has %llu bytes only, the "
				 "disk had %llu",
				 io->name, (unsigned long long)bytes,
				 (unsigned long long)was->place);
	result->reverted = true;
	result->old_size = was->footer.current_size;
	footer_encode(&was->footer, raw);
	if (!rc && !dry_run)
		rc = io_write(io, raw, sizeof(raw), was->place);
	if (!rc && !dry_run)
		rc = io_sync(io);
	if (!rc && !dry_run)
		rc = io_truncate(io, was->place + VHD_FOOTER_BYTES);
	if (!rc && !dry_run)
		rc = io_sync(io);
	return rc < 0 ? error_system(err, rc, "restore the footer of", io->name) : 0;
}

/* Back to the size in the note: what was enlarged, and not used since.  What was made smaller
 * is gone, and a fixed image that has its footer is whole: those go on as they are. */
static int apply_note(struct vhd_image **image, const struct journal_facts *was, bool dry_run,
		      struct vhd_revert_result *result, struct vhd_error *err)
{
	struct vhd_image *img = *image;
	uint64_t size = was->footer.current_size, now = img->size;
	int rc;

	result->old_size = img->size;
	if (memcmp(was->footer.uuid, img->footer.uuid, VHD_UUID_BYTES) != 0)
		return error_set(err, -VHD_E_JOURNAL,
				 "cannot undo the resize of '%s': the journal is of another image",
				 img->io->name);
	if (img->size == size && img->type == VHD_TYPE_FIXED && img->footer_offset > was->place)
		return cut_back(img->io, was, dry_run, result, err);
	if (img->size <= size || !footer_is_sparse(&img->footer)) {
		rc = dry_run ? image_may_write(img, 0, err) : image_begin_write(img, 0, err);
		if (!rc && !dry_run && img->type == VHD_TYPE_FIXED && !img->io->device)
			rc = image_move_footer(img, img->size, err);
		return rc < 0 || dry_run || !image_has_parent(img) ? rc :
								     drop_zeros(image, now, err);
	}
	rc = check_unused(img, size, err);
	if (rc < 0)
		return rc;
	result->reverted = true;
	result->old_size = size;
	if (dry_run)
		return image_may_write(img, 0, err);
	rc = image_begin_write(img, 0, err);
	if (rc < 0)
		return rc;
	img->size = size;
	rc = grow_end(img, err);
	return rc < 0 ? rc : drop_zeros(image, now, err);
}

/* What is no image (any more): the old footer is still in its place, or it is another file. */
static int check_cut(struct vhd_io *io, const struct journal_facts *was, struct vhd_error *err)
{
	uint8_t raw[VHD_FOOTER_BYTES];
	struct vhd_footer footer;
	uint64_t bytes;
	int rc = io_size(io, &bytes);

	if (!rc && number_within(was->place, sizeof(raw), bytes))
		rc = io_read(io, raw, sizeof(raw), was->place);
	else if (!rc)
		memset(raw, 0, sizeof(raw));
	if (rc < 0)
		return error_system(err, rc, "read", io->name);
	if (footer_decode(raw, &footer, NULL) == 0 &&
	    !memcmp(footer.uuid, was->footer.uuid, VHD_UUID_BYTES))
		return 0;
	return error_set(err, -VHD_E_JOURNAL,
			 "cannot undo the resize of '%s': the journal is of another image; the "
			 "footer it tells of is not there",
			 io->name);
}

static int revert_note(struct vhd_io **io, const struct journal_facts *was, bool dry_run,
		       struct vhd_revert_result *result, struct vhd_error *err)
{
	struct vhd_image *img;
	int rc = image_open(*io, 0, &img, err);

	if (rc < 0 && error_is_vhd(rc) && was->footer.type == VHD_TYPE_FIXED) {
		rc = check_cut(*io, was, err);
		return rc < 0 ? rc : cut_back(*io, was, dry_run, result, err);
	}
	if (rc < 0)
		return rc;
	*io = NULL;
	rc = apply_note(&img, was, dry_run, result, err);
	image_close(img);
	return rc;
}

/* ── the whole ── */

/* Is all of @journal zero, or a hole? */
static int is_zero(struct vhd_io *journal, uint64_t size, bool *zero)
{
	CLEANUP_FREE uint8_t *piece = malloc(PIECE_BYTES);
	uint64_t start = 0, end = 0;

	if (!piece)
		return -ENOMEM;
	*zero = true;
	for (uint64_t at = 0; at < size && *zero;) {
		size_t n;
		int rc = at >= end ? io_data(journal, at, &start, &end) : 0;

		if (rc < 0)
			return rc;
		if (start >= end || start >= size)
			return 0;
		at = number_max(at, start);
		n = (size_t)number_min(PIECE_BYTES, number_min(end, size) - at);
		rc = io_read(journal, piece, n, at);
		if (rc < 0)
			return rc;
		*zero = zeros_are(piece, n);
		at += n;
	}
	return 0;
}

/* Is @journal, beginning with @raw, what is left where nothing was begun: empty, zeros, or a note that
 * was cut off?  Anything else is somebody's, and would be removed in the end.  Of a device only its
 * beginning would be. */
static int is_blank(struct vhd_io *journal, const uint8_t raw[JOURNAL_NOTE_BYTES], uint64_t size,
		    bool *blank)
{
	*blank = journal_note_torn(raw) || (journal->device && zeros_are(raw, JOURNAL_NOTE_BYTES));
	return *blank || journal->device ? 0 : is_zero(journal, size, blank);
}

/* A journal that is none (a fresh device, an empty file): then nothing was begun. */
static int no_journal(struct vhd_io **io, struct vhd_io *journal, bool blank,
		      struct vhd_revert_result *result, struct vhd_error *err)
{
	struct vhd_image *img;
	int rc = image_probe(journal);

	if (rc < 0)
		return error_system(err, rc, "read", journal->name);
	if (rc || !blank) /* it would be removed in the end */
		return error_set(
			err, -VHD_E_JOURNAL,
			"cannot undo the resize of '%s' by '%s': that is %s; name the right "
			"journal",
			(*io)->name, journal->name, rc ? "a VHD image, no journal" : "no journal");
	rc = image_open(*io, IMAGE_ALLOW_POISONED, &img, err);
	if (rc < 0)
		return rc;
	*io = NULL;
	result->old_size = img->size;
	if (img->problems & IMAGE_POISONED)
		rc = error_set(err, -VHD_E_JOURNAL,
			       "cannot undo the resize of '%s': '%s' is no journal", img->io->name,
			       journal->name);
	image_close(img);
	return rc;
}

static int by_kind(struct vhd_io **io, struct vhd_io *journal, bool dry_run,
		   struct vhd_revert_result *result, struct vhd_error *err)
{
	uint8_t raw[JOURNAL_NOTE_BYTES] = { 0 };
	struct journal_facts was;
	uint64_t size;
	bool blank = false;
	int rc = journal_probe(journal);

	if (rc > 0) {
		rc = revert_apply(*io, journal, dry_run, result, err);
		return rc < 0 ? rc : 0;
	}
	if (!rc)
		rc = io_size(journal, &size);
	if (!rc)
		rc = io_read(journal, raw, number_min(size, sizeof(raw)), 0);
	if (!rc)
		rc = is_blank(journal, raw, size, &blank);
	if (rc < 0)
		return error_system(err, rc, "read", journal->name);
	if (size >= sizeof(raw) && journal_note_decode(raw, &was))
		return revert_note(io, &was, dry_run, result, err);
	return no_journal(io, journal, blank, result, err);
}

/* Durably.  What has the name of a device stays, and says nothing any more. */
static int remove_journal(struct vhd_io *journal, struct vhd_error *err)
{
	static const uint8_t none[JOURNAL_NOTE_BYTES];
	int rc;

	if (journal->device) {
		rc = io_write(journal, none, sizeof(none), 0);
		if (!rc)
			rc = io_sync(journal);
	} else {
		rc = unlink(journal->name) < 0 ? -errno : io_file_sync_directory(journal->name);
	}
	return rc < 0 ? error_system(err, rc, "remove the journal", journal->name) : 0;
}

/* @name: absolute. */
static int revert_file(const char *name, const char *journal, bool dry_run,
		       struct vhd_revert_result *result, struct vhd_error *err)
{
	struct vhd_io *io = NULL, *from = NULL;
	int rc = io_file_open(name, IO_FILE_WRITE, &io, err);

	if (!rc)
		rc = lock_take(io, LOCK_MOVE, NULL, LOCK_WAIT_MS, NULL, err);
	if (!rc)
		rc = io_file_open(journal, IO_FILE_WRITE, &from, err);
	if (!rc)
		rc = by_kind(&io, from, dry_run, result, err);
	if (!rc && !dry_run)
		rc = remove_journal(from, err);
	io_close(io);
	io_close(from);
	return rc;
}

int vhd_revert(const char *path, const char *journal, bool dry_run,
	       struct vhd_revert_result *result, struct vhd_error *err)
{
	char name[PATH_MAX], beside[PATH_MAX];
	struct vhd_revert_result unused;
	int rc = confine_real_name(path, name);

	if (!result)
		result = &unused;
	memset(result, 0, sizeof(*result));
	if (!rc && !journal)
		rc = journal_default_path(name, beside);
	if (rc < 0)
		return error_system(err, rc, "open", path);
	return revert_file(name, journal ? journal : beside, dry_run, result, err);
}

/* 1: done, open it again; 0: there is no such journal. */
static int by_default(const char *path, struct vhd_error *err)
{
	char beside[PATH_MAX];
	struct vhd_revert_result result = { 0 };
	int rc = journal_default_path(path, beside);

	if (rc < 0 || access(beside, F_OK) < 0)
		return 0;
	rc = revert_file(path, beside, false, &result, err);
	return rc < 0 ? rc : 1;
}

static int open_once(const char *path, unsigned io_flags, enum lock_role role, unsigned image_flags,
		     bool *unsupported, struct vhd_image **out, struct vhd_error *err)
{
	struct vhd_io *io = NULL;
	int rc = io_file_open(path, io_flags & ~REVERT_NOTHING, &io, err);

	if (!rc)
		rc = lock_take(io, role, NULL, LOCK_WAIT_MS, unsupported, err);
	if (!rc)
		rc = image_open(io, image_flags, out, err);
	if (rc < 0)
		io_close(io);
	return rc;
}

/* The image is whole: a note beside it is of a resize that is over.  Left there it could be taken
 * for one of a later accident. */
static void drop_note(const char *path, const struct vhd_image *img)
{
	char beside[PATH_MAX];
	uint8_t raw[JOURNAL_NOTE_BYTES];
	struct journal_facts was;
	struct vhd_io *io;

	if (journal_default_path(path, beside) < 0 || access(beside, F_OK) < 0 ||
	    io_file_open(beside, 0, &io, NULL) < 0)
		return;
	if (!io_read(io, raw, sizeof(raw), 0) && journal_note_decode(raw, &was) &&
	    !memcmp(was.footer.uuid, img->footer.uuid, VHD_UUID_BYTES))
		(void)!remove_journal(io, NULL);
	io_close(io);
}

int revert_open(const char *path, unsigned io_flags, enum lock_role role, unsigned image_flags,
		bool *unsupported, struct vhd_image **out, struct vhd_error *err)
{
	bool write = (io_flags & IO_FILE_WRITE) && !(io_flags & REVERT_NOTHING);
	int rc = open_once(path, io_flags, role, image_flags, unsupported, out, err), undone;

	if (!rc && write && !(image_flags & IMAGE_RAW))
		drop_note(path, *out);
	if (rc != -VHD_E_POISONED || !write)
		return rc;
	undone = by_default(path, err);
	if (undone <= 0)
		return undone < 0 ? undone : rc;
	return open_once(path, io_flags, role, image_flags, unsupported, out, err);
}
