/* check.c - vhd_check: one image, and with parents_too its parents
 *
 * Each image is examined from its bytes (check-*.c), whether or not it could
 * be opened; only the way from a child to its parent needs an open image.
 * All images stay open, and locked against being moved, until the end.
 */
#include "check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "chain.h"
#include "coalesce-state.h"
#include "error.h"
#include "io-file.h"
#include "path.h"

struct walk {
	const struct vhd_check_options *options;
	struct vhd_check_result *result;
	struct vhd_error *err;
	char *directory; /* owned; the leaf's, absolute */
	unsigned depth;
	struct vhd_image *images[VHD_CHAIN_MAX]; /* owned; leaf first */
};

/* ── what the steps use ── */

/* Under a header that cannot be right nothing is mended but footers; while a resize is
 * under way not even those. */
static bool may_be_mended(const struct check *c, int code)
{
	if (c->footer.poisoned)
		return false;
	return !c->header_unsound || code == -VHD_E_FOOTER_MISSING ||
	       code == -VHD_E_FOOTERS_DIFFER || code == -VHD_E_FOOTER_FIELD;
}

void check_report(struct check *c, const struct vhd_finding *what, const char *format, ...)
{
	struct vhd_finding f = *what;
	char text[1024], place[64] = "", block[32] = "", fact[900];
	va_list args;

	f.repairable = f.repairable && may_be_mended(c, f.code);
	if (f.severity == VHD_DAMAGE) {
		c->damages++;
		c->result->damages++;
	} else if (f.severity == VHD_WARNING) {
		c->result->warnings++;
	}
	if (!c->options->finding)
		return;
	va_start(args, format);
	vsnprintf(fact, sizeof(fact), format, args);
	va_end(args);
	if (f.has & VHD_HAS_BLOCK)
		snprintf(block, sizeof(block), "block %llu: ", (unsigned long long)f.block);
	if (f.has & VHD_HAS_OFFSET)
		snprintf(place, sizeof(place), ", at offset %llu", (unsigned long long)f.offset);
	snprintf(text, sizeof(text), "%s%s%s", block, fact, place);
	f.file = c->file;
	f.text = text;
	c->options->finding(c->options->arg, &f);
}

int check_read(struct check *c, void *buf, size_t length, uint64_t offset)
{
	int rc = io_read(c->io, buf, length, offset);

	if (rc == -VHD_E_TRUNCATED)
		return error_at(c->err, rc, offset, "cannot read '%s': it ends before offset %llu",
				c->io->name, (unsigned long long)(offset + length));
	return rc < 0 ? error_system(c->err, rc, "read", c->io->name) : 0;
}

int check_progress(struct check *c, uint64_t done_bytes, uint64_t total_bytes)
{
	const struct vhd_progress *p = &c->options->progress;

	if (p->step && p->step(p->arg, done_bytes, total_bytes))
		return error_set(c->err, -VHD_E_CANCELLED, "checking '%s' was interrupted",
				 c->file);
	return 0;
}

void check_begin(struct check *c, const struct vhd_check_options *options,
		 struct vhd_check_result *result, struct vhd_io *io, const char *file,
		 struct vhd_error *err)
{
	*c = (struct check){ .options = options,
			     .result = result,
			     .err = err,
			     .io = io,
			     .file = file,
			     .found_entry = VHD_BAT_UNUSED };
}

void check_release(struct check *c)
{
	free(steal_ptr(&c->bad));
	free(steal_ptr(&c->damaged));
}

/* ── one image ── */

int check_structures(struct check *c)
{
	int rc = check_footers(c);

	if (rc < 0 || !c->has_footer || !footer_is_sparse(&c->footer))
		return rc;
	rc = check_header(c);
	if (!rc)
		rc = check_sizes(c);
	if (!rc)
		rc = check_blocks(c);
	check_end_footer(c);
	if (!rc && c->options->bitmaps)
		rc = check_bitmaps(c);
	return rc;
}

static void report_coalescing(struct check *c)
{
	struct coalesce_state state = COALESCE_STATE_NONE;
	struct vhd_finding f = { .code = -VHD_E_COALESCING, .severity = VHD_WARNING };

	if (coalesce_state_find(c->io, c->footer.uuid, &state, NULL) != 1)
		return;
	check_report(c, &f,
		     "half merged with '%s': right through that child only; to finish: "
		     "vhd-util coalesce -n '%s' -a '%s'",
		     state.child, state.child, c->io->name);
	coalesce_state_release(&state);
}

static int check_image(struct check *c)
{
	struct vhd_finding f = { .severity = VHD_DAMAGE };
	int rc = io_size(c->io, &c->file_bytes);

	if (rc < 0)
		return error_system(c->err, rc, "check", c->io->name);
	rc = check_structures(c);
	if (rc == -EIO || rc == -VHD_E_TRUNCATED) {
		f.code = rc;
		check_report(c, &f, "%s; nothing beyond that was examined",
			     rc == -EIO ? "part of its metadata cannot be read from the storage" :
					  "the file ends before metadata that it names");
		rc = 0;
	}
	if (!rc && c->has_footer && c->top) {
		report_coalescing(c);
		check_target(c);
	}
	check_release(c);
	return rc;
}

/* ── from child to parent ── */

/* The id that the stored parent really has becomes the one looked for, in memory only. */
static bool adopt_parent_id(struct vhd_image *image)
{
	const char *slash = strrchr(image->io->name, '/');
	CLEANUP_FREE char *path = NULL;
	char stored[PATH_TEXT_MAX];
	struct vhd_image *parent = NULL;
	struct vhd_io *io = NULL;
	bool known;

	if (chain_stored_parent(image, stored, sizeof(stored), NULL) < 0)
		return false;
	if (stored[0] == '/')
		path = strdup(stored);
	else if (!slash || asprintf(&path, "%.*s/%s", (int)(slash - image->io->name),
				    image->io->name, stored) < 0)
		return false;
	if (!path || io_file_open(path, 0, &io, NULL) < 0)
		return false;
	if (image_open(io, IMAGE_ALLOW_POISONED, &parent, NULL) < 0) {
		io_close(io);
		return false;
	}
	known = parent->type != VHD_TYPE_RAW;
	if (known)
		memcpy(image->header.parent_uuid, parent->footer.uuid, VHD_UUID_BYTES);
	image_close(parent);
	return known;
}

static void compare_parent(struct check *c, const struct vhd_image *child,
			   const struct vhd_image *parent)
{
	struct vhd_finding f = { .code = -VHD_E_HEADER_FIELD,
				 .severity = VHD_WARNING,
				 .has = VHD_HAS_OFFSET | VHD_HAS_VALUES,
				 .offset = child->header_offset + HEADER_PARENT_TIMESTAMP,
				 .expected = child->header.parent_timestamp,
				 .found = footer_time_from_unix(parent->io->mtime) };

	if (c->options->parents_too && !c->options->ignore_timestamps && f.expected != f.found &&
	    parent->type != VHD_TYPE_RAW)
		check_report(c, &f,
			     "its parent '%s' was changed, copied or touched since this image "
			     "was made from it; most programs do not mind",
			     parent->io->name);
	if (image_is_encrypted(parent) && !image_is_encrypted(child)) {
		struct vhd_finding clear = { .code = -VHD_E_ENCRYPTED, .severity = VHD_DAMAGE };

		check_report(c, &clear,
			     "its parent '%s' is encrypted and it is not: together they cannot be "
			     "read; put the parent's clear file back, or if this image has no data "
			     "give it the key: vhd-util key -s",
			     parent->io->name);
	}
	f.offset = c->end_offset + FOOTER_CURRENT_SIZE;
	f.expected = parent->size;
	f.found = child->size;
	if (c->top && c->options->target == VHD_FOR_HYPERV && child->size != parent->size) {
		f.code = -VHD_E_AZURE;
		f.severity = VHD_DAMAGE;
		check_report(c, &f,
			     "Hyper-V wants child and parent of one size; this has %llu "
			     "bytes, its parent %llu; flatten it: vhd-util convert --for hyperv",
			     (unsigned long long)child->size, (unsigned long long)parent->size);
	} else if (child->size < parent->size) {
		check_report(c, &f,
			     "the disk has %llu bytes, its parent %llu: the rest is not seen",
			     (unsigned long long)child->size, (unsigned long long)parent->size);
	}
}

/* The parent of the last image of the walk, opened, into *out; NULL when it cannot be had,
 * which was reported. */
static int find_parent(struct walk *w, struct check *c, struct vhd_image **out)
{
	struct vhd_image *image = w->images[w->depth - 1];
	struct vhd_error e = { 0 };
	struct vhd_finding f = { .severity = VHD_DAMAGE };
	int rc;

	*out = NULL;
	rc = chain_find_parent(image, w->directory, &w->options->parents, false, out, &e);
	if (rc == -VHD_E_PARENT_ID && w->options->ignore_parent_id) {
		if (!adopt_parent_id(image))
			return 0;
		rc = chain_find_parent(image, w->directory, &w->options->parents, false, out, &e);
	}
	if (rc == -ENOMEM)
		return error_system(w->err, rc, "check", c->file);
	if (rc < 0) {
		*out = NULL;
		f.code = rc;
		check_report(c, &f, "%s", e.text[0] ? e.text : vhd_strerror(rc));
		return 0;
	}
	compare_parent(c, image, *out);
	return 0;
}

/* Was @image met before, going down?  Reported then. */
static bool closes_cycle(const struct walk *w, struct check *c, const struct vhd_image *image)
{
	struct vhd_finding f = { .code = -VHD_E_CYCLE, .severity = VHD_DAMAGE };

	for (unsigned i = 0; i < w->depth; i++) {
		const struct vhd_image *seen = w->images[i];
		bool file = image->io->inode && seen->io->inode == image->io->inode &&
			    seen->io->device_id == image->io->device_id;
		bool id = image->type != VHD_TYPE_RAW &&
			  !memcmp(seen->footer.uuid, image->footer.uuid, VHD_UUID_BYTES);

		if (file || id) {
			check_report(c, &f,
				     "the chain of parents is a cycle: '%s' is its own ancestor",
				     image->io->name);
			return true;
		}
	}
	f.code = -VHD_E_TOO_DEEP;
	if (w->depth == VHD_CHAIN_MAX) {
		check_report(c, &f, "the chain of parents is longer than %u images", VHD_CHAIN_MAX);
		return true;
	}
	return false;
}

static void begin(struct walk *w, struct check *c, struct vhd_io *io, const char *file)
{
	check_begin(c, w->options, w->result, io, file, w->err);
	c->top = w->depth == 0;
}

/* Go on below the last image of the walk, which @c has examined. */
static int walk_parents(struct walk *w, struct check *c)
{
	while (w->images[w->depth - 1]->type == VHD_TYPE_DIFFERENCING) {
		struct vhd_image *parent, *child = w->images[w->depth - 1];
		int rc = find_parent(w, c, &parent);

		if (rc < 0 || !parent)
			return rc;
		if (closes_cycle(w, c, parent) || !w->options->parents_too ||
		    parent->type == VHD_TYPE_RAW) {
			image_close(parent);
			return 0;
		}
		rc = lock_take(parent->io, LOCK_READ_THROUGH, child->footer.uuid, 0, NULL, w->err);
		if (rc < 0) {
			image_close(parent);
			return rc;
		}
		begin(w, c, parent->io, parent->io->name);
		w->images[w->depth++] = parent;
		rc = check_image(c);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ── the image asked for ── */

/* Absolute, so that parents are found from it; the last part is kept even if it is a
 * link: so do logical volumes call each other. */
static int absolute(const char *path, char **directory, char **name)
{
	const char *slash = strrchr(path, '/');
	const char *base = slash ? slash + 1 : path;
	CLEANUP_FREE char *given =
		slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");

	if (!given)
		return -ENOMEM;
	*directory = realpath(given, NULL);
	if (!*directory)
		return -errno;
	if (asprintf(name, "%s/%s", strcmp(*directory, "/") ? *directory : "", base) < 0) {
		*name = NULL;
		return -ENOMEM;
	}
	return 0;
}

static int check_top(struct walk *w, struct vhd_io *io, const char *path)
{
	struct vhd_finding f = { .severity = VHD_DAMAGE };
	struct vhd_image *image = NULL;
	struct vhd_error e = { 0 };
	struct check c;
	int rc = lock_take(io, LOCK_READ_TOP, NULL, 0, NULL, w->err);

	if (rc < 0) {
		io_close(io);
		return rc;
	}
	begin(w, &c, io, path);
	rc = check_image(&c);
	if (rc < 0) {
		io_close(io);
		return rc;
	}
	rc = image_open(io, IMAGE_ALLOW_POISONED, &image, &e);
	if (rc < 0) {
		io_close(io);
		if (rc == -ENOMEM)
			return error_system(w->err, rc, "check", path);
		f.code = rc;
		if (!c.damages) /* what was found says why, as a rule */
			check_report(&c, &f, "%s", e.text);
		return 0;
	}
	w->images[w->depth++] = image;
	return walk_parents(w, &c);
}

int vhd_check(const char *path, const struct vhd_check_options *options,
	      struct vhd_check_result *result, struct vhd_error *err)
{
	static const struct vhd_check_options none;
	struct vhd_check_result unwanted;
	CLEANUP_FREE struct walk *w = calloc(1, sizeof(*w));
	CLEANUP_FREE char *name = NULL;
	struct vhd_io *io = NULL;
	int rc;

	if (!w)
		return error_system(err, -ENOMEM, "check", path);
	w->options = options ? options : &none;
	w->result = result ? result : &unwanted;
	w->err = err;
	memset(w->result, 0, sizeof(*w->result));
	rc = absolute(path, &w->directory, &name);
	if (rc < 0)
		rc = error_system(err, rc, "open", path);
	else
		rc = io_file_open(name, 0, &io, err);
	if (rc >= 0)
		rc = check_top(w, io, path);
	if (rc == -ENOMEM)
		error_system(err, rc, "check", path);
	while (w->depth)
		image_close(w->images[--w->depth]);
	free(w->directory);
	return rc;
}
