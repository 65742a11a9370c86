/* salvage.c - vhd_salvage: a sound image from what can be read of a damaged one
 *
 *	source ──► examination (check.h) ──► plan of the target ──► blocks ──► metadata ──► name
 *	 only read     header rebuilt,          same disk, same       believed
 *		       entries judged		id, same parent       or told as lost
 *
 *  I1  no sector of the target has bytes that the guest did not put there, but for ranges
 *      that are told as guessed
 *  I2  every sector that differs from what the disk contained is in a range that is told
 * The target appears whole or not at all (atomic.h).
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "batmap.h"
#include "coalesce-state.h"
#include "confine.h"
#include "error.h"
#include "image.h"
#include "io-file.h"
#include "journal.h"
#include "lock.h"
#include "parent.h"
#include "path.h"
#include "salvage-private.h"
#include "snapshot.h"

#define OVERLAPS_MAX (1u << 20)

static int failed(struct salvage *s, int rc)
{
	/* the steps of check fill in what they return, but for memory */
	return rc == -ENOMEM ? error_system(s->err, rc, "salvage", s->source) : rc;
}

/* ── the source ── */

/* Who keeps the place is known when all of the table is. */
static int on_fault(void *arg, const struct check_fault *f)
{
	struct salvage *s = arg;
	size_t room = s->overlap_room ? 2 * s->overlap_room : 64;

	if (f->kind != CHECK_OVERLAP)
		return 0;
	if (s->overlap_count == OVERLAPS_MAX)
		return error_set(s->err, -VHD_E_BAT_OVERLAP,
				 "cannot salvage '%s': more than %u blocks claim each other's "
				 "place",
				 s->source, OVERLAPS_MAX);
	if (s->overlap_count == s->overlap_room) {
		struct check_fault *list = realloc(s->overlaps, room * sizeof(*list));

		if (!list)
			return -ENOMEM;
		s->overlaps = list;
		s->overlap_room = room;
	}
	s->overlaps[s->overlap_count++] = *f;
	return 0;
}

static int settle_overlaps(struct salvage *s)
{
	if (!s->overlap_count)
		return 0;
	s->keeps = calloc(1, s->c.entries / 8 + 1);
	if (!s->keeps)
		return -ENOMEM;
	for (size_t i = 0; i < s->overlap_count; i++)
		if (check_overlap_loses(&s->c, &s->overlaps[i]) < 0)
			bits_set(s->keeps, s->overlaps[i].block);
	/* of several others it must win against each */
	for (size_t i = 0; i < s->overlap_count; i++)
		if (check_overlap_loses(&s->c, &s->overlaps[i]) >= 0)
			bits_clear(s->keeps, s->overlaps[i].block);
	return 0;
}

static void on_finding(void *arg, const struct vhd_finding *f)
{
	struct salvage *s = arg;

	if (f->severity == VHD_DAMAGE && !s->finding[0] && !f->repairable)
		snprintf(s->finding, sizeof(s->finding), "%s", f->text);
}

static int examine(struct salvage *s, struct vhd_io *io)
{
	int rc;

	s->options = (struct vhd_check_options){ .progress = s->o->progress,
						 .finding = on_finding,
						 .arg = s };
	s->overlap_count = 0;
	s->finding[0] = '\0';
	memset(&s->found, 0, sizeof(s->found));
	check_begin(&s->c, &s->options, &s->found, io, s->source, s->err);
	s->c.more = &s->more;
	rc = io_size(io, &s->c.file_bytes);
	if (!rc)
		rc = check_structures(&s->c);
	if (rc == -VHD_E_TRUNCATED && !s->c.has_table)
		rc = 0; /* what is not there is lost, and said below */
	if (!rc)
		rc = settle_overlaps(s);
	return failed(s, rc);
}

/* What it has then is neither what it had nor what the child has. */
static int refuse_half_merged(struct salvage *s)
{
	struct coalesce_state state = COALESCE_STATE_NONE;
	int rc = coalesce_state_find(s->io, s->c.footer.uuid, &state, s->err);

	if (rc > 0)
		rc = error_set(
			s->err, -VHD_E_COALESCING,
			"cannot salvage '%s': data of '%s' is half merged into it; finish with: "
			"vhd-util coalesce -n '%s' -a '%s'; if that image is lost, remove '%s', "
			"and the mix is salvaged",
			s->source, state.child, state.child, s->source, state.path);
	coalesce_state_release(&state);
	return rc;
}

/* Is there enough to go by? */
static int admit(struct salvage *s)
{
	const struct check *c = &s->c;

	if (c->footer.poisoned)
		return error_set(
			s->err, -VHD_E_POISONED,
			"cannot salvage '%s': a journalled resize was interrupted; to undo "
			"it: vhd-util revert -n '%s' -j JOURNAL",
			s->source, s->source);
	if (c->copy_place == CHECK_PLACE_DIFFERS && !s->o->end_footer)
		return error_set(s->err, -VHD_E_FOOTERS_DIFFER,
				 "cannot salvage '%s': its two footers contradict each other; say "
				 "which one is right: --end-footer or --backup-footer",
				 s->source);
	if (footer_is_sparse(&c->footer) && (!c->has_table || c->header_unsound) && s->edits.unread)
		return error_system(s->err, -EIO, "read the metadata of", s->source);
	if (footer_is_sparse(&c->footer) && (!c->has_table || c->header_unsound))
		return error_set(s->err, -VHD_E_HEADER_FIELD,
				 "cannot salvage '%s': nothing says where its blocks belong: %s",
				 s->source,
				 s->finding[0] ? s->finding : "its block table cannot be read");
	return refuse_half_merged(s);
}

static int load_source(struct salvage *s)
{
	int rc = edits_init(&s->edits, s->io);

	if (!rc)
		rc = edits_view(&s->edits, &s->view);
	if (rc < 0)
		return error_system(s->err, rc, "salvage", s->source);
	s->edits.forgive = true; /* metadata that cannot be read is damaged metadata */
	rc = examine(s, s->view);
	if (!rc && !s->c.has_footer && journal_waits(s->io))
		return journal_refuse("salvage", s->source, s->err);
	if (!rc && !s->c.has_footer) {
		rc = salvage_assume_footer(s);
		if (rc == -VHD_E_NOT_VHD && s->edits.unread)
			rc = error_system(s->err, -EIO, "read the metadata of", s->source);
		if (!rc) {
			check_release(&s->c);
			rc = examine(s, s->view);
		}
		if (!rc && !s->c.has_footer)
			rc = error_set(s->err, -VHD_E_NOT_VHD,
				       "cannot salvage '%s': no footer, and none can be assumed",
				       s->source);
		s->assumed = true;
	}
	s->edits.forgive = false;
	return rc < 0 ? rc : admit(s);
}

/* The parent that the caller names. */
static int learn_parent(struct salvage *s)
{
	struct vhd_image *parent = NULL;
	struct vhd_io *io = NULL;
	int rc;

	if (!s->o->parent)
		return 0;
	rc = confine_real_name(s->o->parent, s->parent);
	if (rc < 0)
		return error_system(s->err, rc, "open", s->o->parent);
	rc = io_file_open(s->parent, 0, &io, s->err);
	if (rc < 0)
		return rc;
	rc = image_open(io, IMAGE_ALLOW_POISONED, &parent, s->err);
	if (rc < 0) {
		io_close(io);
		return rc;
	}
	memcpy(s->parent_id, parent->footer.uuid, VHD_UUID_BYTES);
	s->more.parent_id = s->parent_id;
	s->more.parent_time = footer_time_from_unix(parent->io->mtime);
	s->more.parent_name = path_base_name(s->parent);
	image_close(parent);
	return 0;
}

/* ── the target ── */

/* A target that is one of its parents would be replaced by a child of itself. */
static int refuse_parent(struct salvage *s, struct vhd_image *image)
{
	struct stat st;
	int rc = stat(s->destination, &st) < 0 ? 0 :
						 parent_among(image, NULL, st.st_dev, st.st_ino);

	if (rc <= 0)
		return rc < 0 ? error_system(s->err, rc, "find the parents of", s->source) : 0;
	return error_set(s->err, -VHD_E_ARGUMENT,
			 "cannot salvage '%s' into '%s', its parent: name another file", s->source,
			 s->destination);
}

/* Path of the parent as the target is to name it. */
static int parent_path(struct salvage *s, char *relative, size_t room)
{
	struct vhd_image image = { .io = s->view,
				   .type = VHD_TYPE_DIFFERENCING,
				   .file_bytes = s->c.file_bytes,
				   .size = s->c.footer.current_size,
				   .footer = s->c.footer,
				   .header = s->c.header };
	struct vhd_image *parent = NULL;
	char directory[PATH_MAX];
	int rc;

	if (s->o->parent) {
		if (memcmp(s->parent_id, s->c.header.parent_uuid, VHD_UUID_BYTES) != 0)
			return error_set(s->err, -VHD_E_PARENT_ID,
					 "cannot salvage '%s' as a child of '%s': it names another "
					 "id than that image has",
					 s->source, s->o->parent);
		return snapshot_relative_path(s->destination, s->parent, relative, room, s->err);
	}
	rc = refuse_parent(s, &image);
	if (rc < 0)
		return rc;
	confine_directory(s->io->name, directory);
	rc = parent_find(&image, directory, NULL, 0, &parent, NULL);
	if (!rc) {
		rc = snapshot_relative_path(s->destination, parent->io->name, relative, room,
					    s->err);
		image_close(parent);
		return rc;
	}
	/* it is not here: what the image says of it goes on */
	rc = parent_stored(&image, relative, room, s->err);
	if (rc < 0)
		error_prefix(s->err, "cannot salvage '%s'; name its parent: --parent FILE",
			     s->source);
	return rc;
}

/* The hash of a key, if the batmap's header has one. */
static const struct vhd_batmap_header *find_key(struct salvage *s, struct vhd_batmap_header *h)
{
	uint64_t at = batmap_header_offset(s->c.header.table_offset, s->c.header.max_entries);
	uint8_t raw[VHD_BATMAP_HEADER_BYTES];

	if (!footer_has_batmap(&s->c.footer))
		return image_key_beside(s->view, h) ? h : NULL;
	if (!number_within(at, sizeof(raw), s->c.file_bytes) ||
	    io_read(s->view, raw, sizeof(raw), at) < 0)
		return NULL;
	if (batmap_decode(raw, h, NULL) < 0)
		return batmap_salvage_key(raw, h) ? h : NULL;
	return h->keyhash == 1 ? h : NULL;
}

/* What the footer says of the disk stays as it is. */
static void keep_identity(struct salvage *s)
{
	struct vhd_footer *to = &s->plan.footer;
	const struct vhd_footer *from = &s->c.footer;

	to->features = from->features;
	to->original_size = from->original_size;
	to->cylinders = from->cylinders;
	to->heads = from->heads;
	to->sectors_per_track = from->sectors_per_track;
	to->saved = from->saved;
	to->hidden = from->hidden;
	if (from->type == VHD_TYPE_DIFFERENCING)
		s->plan.header.parent_timestamp = s->c.header.parent_timestamp;
}

static int make_plan(struct salvage *s)
{
	const struct check *c = &s->c;
	CLEANUP_FREE char *relative = malloc(PATH_TEXT_MAX);
	struct vhd_batmap_header key;
	struct plan_spec spec = { .type = (enum vhd_type)c->footer.type,
				  .size = c->footer.current_size,
				  .timestamp = c->footer.timestamp };
	int rc = relative ? 0 : failed(s, -ENOMEM);

	memcpy(spec.id, c->footer.uuid, VHD_UUID_BYTES);
	if (footer_is_sparse(&c->footer)) {
		spec.block_size = c->header.block_size;
		spec.key = find_key(s, &key);
		s->true_bits = spec.type == VHD_TYPE_DIFFERENCING || spec.key;
	}
	if (!rc && spec.type == VHD_TYPE_DIFFERENCING) {
		rc = parent_path(s, relative, PATH_TEXT_MAX);
		spec.parent_path = relative;
		memcpy(spec.parent_id, c->header.parent_uuid, VHD_UUID_BYTES);
	}
	if (rc < 0)
		return rc;
	/* room to grow stays, as far as the format reaches */
	spec.max_size = number_max(spec.size, number_min((uint64_t)c->header.max_entries *
								 c->header.block_size,
							 VHD_SIZE_MAX));
	if (spec.type == VHD_TYPE_FIXED)
		spec.max_size = 0;
	rc = plan_make(&spec, &s->plan, NULL);
	if (rc < 0) {
		spec.max_size = 0;
		rc = plan_make(&spec, &s->plan, s->err);
	}
	if (rc < 0)
		error_prefix(s->err, "cannot salvage '%s'", s->source);
	keep_identity(s);
	return rc;
}

/* A device may hold an image that is to go: its footers first. */
static int clear_device(struct salvage *s, uint64_t end)
{
	static const uint8_t none[VHD_FOOTER_BYTES];
	struct vhd_io *io = s->target.io;
	int rc = io_write(io, none, sizeof(none), end);

	if (!rc && s->plan.metadata_end)
		rc = io_zero(io, 0, s->plan.metadata_end);
	return rc ? rc : io_sync(io);
}

/* Where the end footer goes on a device; 0: it is too small. */
static int device_end(struct salvage *s, uint64_t *end)
{
	uint64_t bytes, need = number_max(s->plan.metadata_end, s->plan.footer.current_size);
	int rc = io_size(s->target.io, &bytes);

	if (footer_is_sparse(&s->plan.footer))
		need = s->plan.metadata_end;
	if (!rc && bytes < need + VHD_FOOTER_BYTES)
		rc = -ENOSPC;
	*end = rc ? 0 : number_round_down(bytes, VHD_SECTOR) - VHD_FOOTER_BYTES;
	return rc;
}

static int write_metadata(struct salvage *s, uint64_t end)
{
	const struct plan *p = &s->plan;
	struct vhd_io *io = s->target.io;
	uint8_t footer[VHD_FOOTER_BYTES];
	int rc = 0;

	footer_encode(&p->footer, footer);
	if (!footer_is_sparse(&p->footer))
		return io_write(io, footer, sizeof(footer), end);
	s->dynamic.full = s->full;
	rc = convert_dynamic_metadata(&s->dynamic, p, convert_dynamic_put, io);
	if (!rc && p->locators_at)
		rc = io_write(io, p->locators, sizeof(p->locators), p->locators_at);
	return rc ? rc : convert_dynamic_footers(io, footer, end, !s->target.temp);
}

static int fill_target(struct salvage *s)
{
	bool sparse = footer_is_sparse(&s->plan.footer);
	int rc = sparse ? convert_dynamic_init(&s->dynamic, &s->plan, s->plan.metadata_end) : 0;

	if (!rc && s->write && s->target.io->device) {
		rc = device_end(s, &s->device_end);
		if (!rc)
			rc = clear_device(s, s->device_end);
	}
	if (rc < 0)
		return error_system(s->err, rc, "write", s->destination);
	rc = sparse ? salvage_blocks(s) : salvage_flat(s);
	if (rc < 0)
		return failed(s, rc);
	lost_end(&s->lost);
	if (!s->write)
		return 0;
	if (!s->device_end)
		s->device_end = sparse ? convert_dynamic_end(&s->dynamic) :
					 s->plan.footer.current_size;
	rc = write_metadata(s, s->device_end);
	return rc < 0 ? error_system(s->err, rc, "write", s->destination) : 0;
}

static int make_target(struct salvage *s)
{
	int rc;

	s->write = !s->o->dry_run;
	if (!s->write) {
		rc = atomic_check(s->destination, s->o->force, s->err);
		return rc < 0 ? rc : fill_target(s);
	}
	rc = atomic_begin(s->destination, s->o->force ? ATOMIC_FORCE : 0, &s->target, s->err);
	if (rc < 0)
		return rc;
	rc = fill_target(s);
	if (!rc)
		return atomic_commit(&s->target, true, s->err);
	atomic_abort(&s->target);
	return rc;
}

/* ── entry ── */

/* A target that is the source would take its only copy away. */
static int refuse_same(struct salvage *s)
{
	struct stat st;

	if (stat(s->destination, &st) < 0 || s->io->device || st.st_ino != s->io->inode ||
	    st.st_dev != s->io->device_id)
		return 0;
	return error_set(s->err, -VHD_E_ARGUMENT,
			 "cannot salvage '%s' into itself: name another file, or use vhd-util "
			 "repair",
			 s->source);
}

static int open_source(struct salvage *s)
{
	CLEANUP_FREE char *real = malloc(PATH_MAX);
	int rc = real ? confine_real_name(s->source, real) : -ENOMEM;

	if (rc < 0)
		return error_system(s->err, rc, "open", s->source);
	rc = io_file_open(real, 0, &s->io, s->err);
	if (!rc)
		rc = lock_take(s->io, LOCK_READ_TOP, NULL, 0, NULL, s->err);
	/* and nobody may write to it meanwhile */
	if (!rc)
		rc = lock_take(s->io, LOCK_COALESCE_SOURCE, NULL, 0, NULL, s->err);
	return rc < 0 ? rc : refuse_same(s);
}

static void release(struct salvage *s)
{
	judge_end(&s->judge);
	convert_dynamic_release(&s->dynamic);
	check_release(&s->c);
	edits_release(&s->edits);
	io_close(s->view);
	io_close(s->io);
	free(s->overlaps);
	free(s->keeps);
	free(s->given);
	free(s->full);
	free(s->bits);
	free(s->piece);
	free(s);
}

int vhd_salvage(const char *source, const char *destination,
		const struct vhd_salvage_options *options, struct vhd_salvage_result *result,
		struct vhd_error *err)
{
	static const struct vhd_salvage_options none;
	struct vhd_salvage_result unwanted;
	struct salvage *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return error_system(err, -ENOMEM, "salvage", source);
	s->o = options ? options : &none;
	s->result = result ? result : &unwanted;
	s->err = err;
	s->source = source;
	s->destination = destination;
	s->more = (struct check_more){ .copy_wins = s->o->backup_footer,
				       .end_wins = s->o->end_footer,
				       .fault = on_fault,
				       .arg = s };
	s->lost = (struct lost){ .tell = s->o->lost, .arg = s->o->arg };
	memset(s->result, 0, sizeof(*s->result));
	rc = open_source(s);
	if (!rc)
		rc = learn_parent(s);
	if (!rc)
		rc = load_source(s);
	if (!rc)
		rc = make_plan(s);
	if (!rc)
		rc = make_target(s);
	if (rc == -VHD_E_CANCELLED)
		error_set(err, rc, "salvaging '%s' was interrupted; nothing was made", source);
	s->result->size = s->plan.footer.current_size;
	s->result->assumed = s->assumed;
	s->result->lost_bytes = s->lost.bytes;
	s->result->guessed_bytes = s->lost.guessed_bytes;
	release(s);
	return rc;
}
