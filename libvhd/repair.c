/* repair.c - vhd_repair: damage that the rest of an image tells how to mend
 *
 *	examine (check.h) ──► plan: edits ──► examine what they would make of it
 *		▲		  ▲			  │
 *		│		  └── more to mend ───────┤
 *		│					  └─► batmap
 *		└── more than fits ◄── write, group by group ◄── side file ──► examine, if it was all
 *
 *  I1  no sector changes that is not durable in the side file
 *  I2  nothing is overwritten that could be data: what would lose some is done with the
 *      caller's consent only, and told
 *  I3  space that nobody names is neither punched nor reused (ORDER 8)
 * A power cut leaves some of the edits, in the order of their groups; the same command
 * finishes the work, vhd_repair_undo takes it back.
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "coalesce-state.h"
#include "confine.h"
#include "error.h"
#include "image.h"
#include "io-file.h"
#include "journal.h"
#include "lock.h"
#include "path.h"
#include "repair-private.h"
#include "saved.h"
#include "state-place.h"

#define LOCK_WAIT_MS 5000
#define FAULTS_MAX   (1u << 20)
#define ROUNDS_MAX   64

/* ── what the steps tell ── */

int repair_note(struct repair *r, uint64_t offset, uint64_t length, const char *format, ...)
{
	struct repair_note note = { .offset = offset, .length = length };
	size_t room = r->note_room ? 2 * r->note_room : 64;
	char text[256];
	va_list args;

	if (r->note_count == r->note_room) {
		struct repair_note *notes = realloc(r->notes, room * sizeof(*notes));

		if (!notes)
			return -ENOMEM;
		r->notes = notes;
		r->note_room = room;
	}
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	note.text = strdup(text);
	if (!note.text)
		return -ENOMEM;
	r->notes[r->note_count++] = note;
	return 0;
}

static int on_fault(void *arg, const struct check_fault *fault)
{
	struct repair *r = arg;
	size_t room = r->fault_room ? 2 * r->fault_room : 64;

	if (r->fault_count == FAULTS_MAX)
		return error_set(r->err, -VHD_E_BAT_ENTRY,
				 "cannot repair '%s': more than %u entries of its block table are "
				 "wrong; get what is left by vhd-util salvage",
				 r->path, FAULTS_MAX);
	if (r->fault_count == r->fault_room) {
		struct repair_fault *faults = realloc(r->faults, room * sizeof(*faults));

		if (!faults)
			return error_system(r->err, -ENOMEM, "repair", r->path);
		r->faults = faults;
		r->fault_room = room;
	}
	r->faults[r->fault_count++] = (struct repair_fault){ *fault, REPAIR_LEAVE };
	return 0;
}

static int on_bitmap(void *arg, struct judge *j, uint32_t block, uint32_t entry, int verdict)
{
	return repair_bitmap(arg, j, block, entry, verdict);
}

static void on_finding(void *arg, const struct vhd_finding *f)
{
	struct repair *r = arg;

	r->batmap_wrong |= f->code == -VHD_E_BATMAP && f->repairable;
}

static void forget(struct repair *r)
{
	for (size_t i = 0; i < r->note_count; i++)
		free(r->notes[i].text);
	r->note_count = r->fault_count = r->range_count = 0;
	r->extended = 0;
	r->full = r->batmap_wrong = r->dropped = false;
	check_release(&r->c);
	io_close(steal_ptr(&r->view));
	edits_release(&r->edits);
}

/* ── one round ── */

/* What a check finds in @io, by @c. */
static int examine(struct repair *r, struct check *c, struct vhd_io *io,
		   const struct check_more *more, const struct vhd_check_options *options,
		   struct vhd_check_result *found)
{
	int rc;

	memset(found, 0, sizeof(*found));
	check_begin(c, options, found, io, r->path, r->err);
	c->top = true;
	c->more = more;
	rc = io_size(io, &c->file_bytes);
	if (!rc)
		rc = check_structures(c);
	if (rc == -VHD_E_TRUNCATED && !c->has_table)
		rc = 0; /* it ends before metadata: found, but not to be mended */
	if (rc < 0 && rc != -VHD_E_CANCELLED && rc != -VHD_E_BAT_ENTRY)
		error_system(r->err, rc, "repair", r->path);
	return rc;
}

/* Can this be repaired at all? */
static int admit(struct repair *r)
{
	const struct check *c = &r->c;

	if (!c->has_footer && journal_waits(r->io))
		return journal_refuse("repair", r->path, r->err);
	if (!c->has_footer)
		return error_set(
			r->err, -VHD_E_NOT_VHD,
			"cannot repair '%s': it has no valid footer, neither at the end nor "
			"at the start; see vhd-util salvage",
			r->path);
	if (c->footer.poisoned)
		return error_set(r->err, -VHD_E_POISONED,
				 "cannot repair '%s': a journalled resize was interrupted; to undo "
				 "it: vhd-util revert -n '%s' -j JOURNAL",
				 r->path, r->path);
	if (r->o->backup_footer &&
	    (c->copy_place == CHECK_PLACE_BAD || c->copy_place == CHECK_PLACE_NONE))
		return error_set(r->err, -VHD_E_FOOTER_MISSING,
				 "cannot repair '%s' by the copy of its footer: there is no valid "
				 "one at the start",
				 r->path);
	return coalesce_state_refuse_top(r->io, c->footer.uuid, r->path, r->err);
}

static void keep_range(void *arg, const struct vhd_lost *range)
{
	struct repair *r = arg;
	size_t room = r->range_room ? 2 * r->range_room : 16;

	if (r->range_count == r->range_room) {
		struct vhd_lost *ranges = realloc(r->ranges, room * sizeof(*ranges));

		if (!ranges) {
			r->ranges_failed = true;
			return;
		}
		r->ranges = ranges;
		r->range_room = room;
	}
	r->ranges[r->range_count++] = *range;
}

/* What the changes cost, as long as the image is as it was. */
static int count_losses(struct repair *r)
{
	struct lost lost = { .tell = keep_range, .arg = r };
	int rc = repair_losses(r, &lost);

	lost_end(&lost);
	if (!rc && r->ranges_failed)
		rc = -ENOMEM;
	return rc < 0 ? error_system(r->err, rc, "repair", r->path) : 0;
}

/* Examine the image, as it is or as the edits make it, and list what is to be edited. */
static int plan_step(struct repair *r, struct vhd_io *io)
{
	const struct vhd_check_options options = {
		.bitmaps = true, .finding = on_finding, .progress = r->o->progress, .arg = r
	};
	struct vhd_check_result found;
	int rc;

	check_release(&r->c);
	r->fault_count = 0;
	rc = examine(r, &r->c, io, &r->more, &options, &found);
	if (!rc)
		rc = admit(r);
	if (rc < 0)
		return rc;
	if (r->c.has_table && !r->c.header_unsound)
		rc = repair_table(r);
	if (!rc && r->c.has_header && !r->c.header_unsound)
		rc = repair_header(r);
	if (!rc && !r->full)
		rc = repair_footers(r);
	for (size_t i = 0; i < r->fault_count; i++)
		r->dropped |= r->faults[i].verdict == REPAIR_DROP;
	return rc < 0 ? error_system(r->err, rc, "repair", r->path) : count_losses(r);
}

/* What is mended may show how to mend the rest: until nothing new is found. */
static int plan(struct repair *r)
{
	size_t notes = 0;
	int rc = edits_init(&r->edits, r->io);

	if (!rc)
		rc = edits_view(&r->edits, &r->view);
	if (rc < 0)
		return error_system(r->err, rc, "repair", r->path);
	rc = plan_step(r, r->io);
	for (unsigned i = 0; !rc && !r->full && r->note_count > notes && i < ROUNDS_MAX; i++) {
		notes = r->note_count;
		rc = plan_step(r, r->view);
	}
	return rc;
}

/* The batmap comes last: it follows from everything else.  Bitmaps of blocks that have just been
 * found, or completed, come before it. */
static int plan_batmap(struct repair *r)
{
	const struct vhd_check_options options = {
		.bitmaps = true, .finding = on_finding, .progress = r->o->progress, .arg = r
	};
	const struct check_more more = { .bitmap = on_bitmap, .arg = r };
	struct vhd_check_result found;
	struct check c;
	int rc;

	/* entries that become unused: the map must not call them complete */
	r->batmap_wrong = r->dropped && footer_has_batmap(&r->c.footer);
	rc = examine(r, &c, r->view, &more, &options, &found);
	if (!rc && r->batmap_wrong && c.has_table && !c.header_unsound) {
		rc = repair_batmap(r, &c);
		if (rc < 0 && rc != -VHD_E_CANCELLED)
			error_system(r->err, rc, "repair", r->path);
	}
	check_release(&c);
	return rc;
}

/* Beside the image as it was named; what is on a device has a place of its own. */
static char *backup_name(struct repair *r)
{
	CLEANUP_FREE char *place = NULL;

	if (r->o->backup && !r->result->changes)
		return strdup(r->o->backup);
	if (!r->io->device)
		return saved_name(r->path);
	if (state_place(r->io, r->c.footer.uuid, &place) < 0)
		return NULL;
	state_place_make(r->io, place);
	return saved_name(place);
}

/* Could what changes be kept?  On a device: as far as the caller named a place. */
static int ask_backup(struct repair *r)
{
	CLEANUP_FREE char *name = NULL;
	int rc;

	if (r->io->device && !r->o->backup)
		return 0;
	name = backup_name(r);
	rc = name ? io_file_may_create(name) : -ENOMEM;
	return rc < 0 ? error_system(r->err, rc, "keep what is to change in",
				     name ? name : r->path) :
			0;
}

static int write_edits(struct repair *r)
{
	CLEANUP_FREE char *name = backup_name(r);
	int rc;

	if (!name)
		return error_system(r->err, -ENOMEM, "repair", r->path);
	rc = saved_store(name, &r->edits, r->err);
	if (rc < 0 && r->io->device && !r->o->backup)
		error_prefix(r->err,
			     "what repair changes is kept first; --backup names another place");
	if (rc < 0)
		return rc;
	if (!r->result->backup[0])
		snprintf(r->result->backup, sizeof(r->result->backup), "%s", name);
	rc = edits_write(&r->edits);
	if (rc < 0) {
		error_system(r->err, rc, "write", r->path);
		error_prefix(r->err, "repair is incomplete; do it again, or undo it from '%s'",
			     name);
	}
	return rc;
}

/* Tell what was done, or would be. */
static void tell(struct repair *r)
{
	for (size_t i = 0; i < r->note_count; i++) {
		const struct repair_note *n = &r->notes[i];
		const struct vhd_change change = { n->offset, n->length, n->text };

		if (r->o->change)
			r->o->change(r->o->arg, &change);
	}
	r->result->changes += r->note_count;
	for (size_t i = 0; i < r->range_count; i++) {
		r->result->lost_bytes += r->ranges[i].length;
		if (r->o->lost)
			r->o->lost(r->o->arg, &r->ranges[i]);
	}
}

/* What a check finds afterwards goes to the caller. */
static int look_again(struct repair *r, struct vhd_io *io)
{
	const struct vhd_check_options options = { .bitmaps = true,
						   .finding = r->o->finding,
						   .progress = r->o->progress,
						   .arg = r->o->arg };
	struct vhd_check_result found;
	struct check c;
	int rc = examine(r, &c, io, NULL, &options, &found);

	check_release(&c);
	r->result->damages = found.damages;
	return rc;
}

/* *@more: there is another round. */
static int round_of(struct repair *r, bool *more)
{
	int rc = plan(r);

	*more = false;
	if (!rc)
		rc = plan_batmap(r);
	if (rc < 0)
		return rc;
	*more = r->full && r->edits.count && !r->o->dry_run;
	if (r->edits.count || r->edits.bytes != r->edits.old_bytes) {
		rc = r->o->dry_run ? ask_backup(r) : write_edits(r);
		if (!rc)
			tell(r);
	}
	if (rc < 0 || *more)
		return rc;
	return look_again(r, r->o->dry_run ? r->view : r->io);
}

/* ── entry ── */

/* The id that a lost header is to name. */
static int learn_parent(struct repair *r, uint8_t id[VHD_UUID_BYTES])
{
	struct vhd_image *parent = NULL;
	struct vhd_io *io = NULL;
	int rc;

	if (!r->o->parent)
		return 0;
	rc = io_file_open(r->o->parent, 0, &io, r->err);
	if (rc < 0)
		return rc;
	rc = image_open(io, IMAGE_ALLOW_POISONED, &parent, r->err);
	if (rc < 0) {
		io_close(io);
		return rc;
	}
	memcpy(id, parent->footer.uuid, VHD_UUID_BYTES);
	r->more.parent_id = id;
	r->more.parent_time = footer_time_from_unix(parent->io->mtime);
	r->more.parent_name = path_base_name(r->o->parent);
	image_close(parent);
	return 0;
}

static int repair_io(struct repair *r)
{
	uint8_t parent_id[VHD_UUID_BYTES];
	bool more = true;
	int rc = lock_take(r->io, LOCK_MOVE, NULL, LOCK_WAIT_MS, NULL, r->err);

	if (!rc)
		rc = learn_parent(r, parent_id);
	for (unsigned i = 0; !rc && more && i < ROUNDS_MAX; i++) {
		forget(r);
		rc = round_of(r, &more);
	}
	return rc;
}

/* A resize that was interrupted is undone first, if its journal is beside the image.  1: done. */
static int undo_resize(struct repair *r)
{
	CLEANUP_FREE char *name = malloc(PATH_MAX), *beside = malloc(PATH_MAX);
	int rc = name && beside ? confine_real_name(r->path, name) : -ENOMEM;

	if (!rc)
		rc = journal_default_path(name, beside);
	if (rc < 0 || access(beside, F_OK) < 0)
		return 0;
	io_close(steal_ptr(&r->io));
	rc = vhd_revert(r->path, NULL, false, NULL, r->err);
	if (!rc)
		rc = io_file_open(r->path, IO_FILE_WRITE, &r->io, r->err);
	return rc < 0 ? rc : 1;
}

int vhd_repair(const char *path, const struct vhd_repair_options *options,
	       struct vhd_repair_result *result, struct vhd_error *err)
{
	static const struct vhd_repair_options none;
	struct vhd_repair_result unwanted;
	struct repair r = { .o = options ? options : &none,
			    .result = result ? result : &unwanted,
			    .err = err,
			    .path = path };
	int rc;

	memset(r.result, 0, sizeof(*r.result));
	if (r.o->backup_footer && r.o->end_footer)
		return error_set(err, -VHD_E_ARGUMENT,
				 "cannot repair '%s' by both of its footers: name one", path);
	rc = io_file_open(path, IO_FILE_WRITE, &r.io, err);
	if (rc < 0)
		return rc;
	r.more = (struct check_more){ .copy_wins = r.o->backup_footer,
				      .end_wins = r.o->end_footer,
				      .fault = on_fault,
				      .bitmap = on_bitmap,
				      .arg = &r };
	rc = repair_io(&r);
	if (rc == -VHD_E_POISONED && !r.o->dry_run) {
		int undone = undo_resize(&r);

		if (undone)
			rc = undone < 0 ? undone : repair_io(&r);
	}
	if (rc == -VHD_E_CANCELLED && !r.result->backup[0])
		error_set(err, rc, "repairing '%s' was interrupted; nothing was changed", path);
	forget(&r);
	free(r.notes);
	free(r.ranges);
	free(r.faults);
	io_close(r.io);
	return rc;
}

int vhd_repair_undo(const char *path, const char *backup, bool dry_run, struct vhd_error *err)
{
	struct vhd_io *io;
	int rc = io_file_open(path, IO_FILE_WRITE, &io, err);

	if (rc < 0)
		return rc;
	rc = lock_take(io, LOCK_MOVE, NULL, LOCK_WAIT_MS, NULL, err);
	if (!rc)
		rc = saved_restore(backup, io, dry_run, err);
	io_close(io);
	return rc;
}
