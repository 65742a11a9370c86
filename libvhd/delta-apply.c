/* delta-apply.c - a delta becomes a child of its parent here
 *
 *   .NAME.delta: what has arrived ─► whole and right: .NAME.delta.whole ─► linked to the parent ─►
 *   synced ─► NAME
 *
 * What was cut off stays under its own name, to be gone on with; what is corrupted goes.  Linked, its
 * end and header are no more what was sent: so it has another name first, by which one knows that
 * it is right, and that linking may be all that is missing.  To link it again does no harm.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic.h"
#include "base/cleanup.h"
#include "base/number.h"
#include "chain.h"
#include "delta.h"
#include "error.h"
#include "image-private.h"
#include "io-file.h"
#include "relink-parent.h"
#include "relink.h"

#include <sys/mman.h> /* last: its MAP_SYNC is a macro, map.h has one too */

#define LOCK_WAIT_MS 5000

struct apply {
	const char *source, *parent_path, *path;
	const struct vhd_apply_options *o;
	struct vhd_chain *parent; /* nobody writes to it */
	struct stream *in;
	struct atomic target;
	bool whole;	       /* all of it has arrived, and is right */
	struct vhd_image *img; /* that is */
	struct vhd_apply_result *result;
	struct vhd_error *err;
};

static int open_parent(struct apply *a)
{
	/* only its headers count: no key is needed */
	struct vhd_open_options open = { .flags = CHAIN_SEALED, .parents = a->o->parents };
	int rc;

	if (a->o->raw_parent)
		open.flags |= VHD_OPEN_RAW;
	rc = vhd_open(a->parent_path, &open, &a->parent, a->err);
	return rc ? rc :
		    lock_take(a->parent->images[0]->io, LOCK_SNAPSHOT_PARENT, NULL, LOCK_WAIT_MS,
			      NULL, a->err);
}

static int open_source(struct apply *a)
{
	bool piped = !strcmp(a->source, "-");
	int fd = piped ? dup(STDIN_FILENO) : open(a->source, O_RDONLY | O_CLOEXEC | O_NOCTTY), rc;

	if (fd < 0)
		return error_system(a->err, -errno, "open", a->source);
	rc = stream_reader(fd, piped ? "standard input" : a->source, &a->in, a->err);
	if (rc < 0)
		close(fd);
	return rc;
}

/* ── what arrives ── */

static int receive(struct apply *a, struct vhd_io *io, uint64_t have, bool metadata_only)
{
	struct delta_receive r = { .in = a->in,
				   .io = io,
				   .name = strcmp(a->source, "-") ? a->source : "standard input",
				   .have = have,
				   .metadata_only = metadata_only,
				   .parent_id = a->parent->images[0]->footer.uuid, /* zero: raw */
				   .progress = &a->o->progress };
	int rc = delta_receive(&r, a->err);
	int sized = metadata_only ? 0 : io_truncate(io, r.at);

	a->result->bytes = r.at;
	a->result->resumed_bytes = have;
	if (!rc && sized < 0)
		rc = error_system(a->err, sized, "write", io->name);
	return rc;
}

/* All checks, and nothing kept but the metadata, in memory. */
static int receive_dry(struct apply *a)
{
	int fd, rc = atomic_check(a->path, a->o->force, a->err);
	struct vhd_io *io;

	if (rc < 0)
		return rc;
	fd = memfd_create("delta", MFD_CLOEXEC);
	if (fd < 0)
		return error_system(a->err, -errno, "apply", a->source);
	rc = io_file_from_fd(fd, a->path, IO_FILE_WRITE, &io, a->err);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	rc = receive(a, io, 0, true);
	io_close(io);
	return rc;
}

/* ── the child ── */

static int link_child(struct apply *a, struct vhd_image *img)
{
	struct relink plan = { .how = RELINK_NOTHING };
	struct adopted parent;
	int rc = image_load(img, 0, a->err);

	if (!rc)
		rc = image_begin_write(img, 0, a->err);
	if (!rc) /* the record goes: it is no part of the image */
		rc = image_move_footer(img, image_end_of_data(img), a->err);
	if (!rc)
		rc = adopt_open(a->path, img, a->parent_path, a->o->raw_parent ? ADOPT_RAW : 0,
				&a->o->parents, &parent, a->err);
	if (rc < 0)
		return rc;
	rc = relink_plan(img, &parent.link, false, &plan, a->err);
	if (!rc)
		rc = relink_write(img, &plan, a->err);
	relink_release(&plan);
	adopt_release(&parent);
	return rc;
}

static int open_image(struct apply *a)
{
	const struct vhd_image *parent = a->parent->images[0];
	int rc = image_open(a->target.io, 0, &a->img, a->err);

	if (rc < 0)
		return rc;
	if (image_is_encrypted(parent) && !image_is_encrypted(a->img))
		rc = error_set(
			a->err, -VHD_E_KEY,
			"cannot apply '%s': '%s' is encrypted, and what the delta has is not",
			a->source, parent->io->name);
	return rc;
}

static void close_image(struct apply *a)
{
	if (a->img)
		a->img->io = NULL; /* the target's */
	image_close(steal_ptr(&a->img));
}

/* All has arrived, and is right. */
static int call_whole(struct apply *a)
{
	char *name = delta_whole(a->path);
	int rc = name ? atomic_rename(&a->target, name, a->err) :
			error_system(a->err, -ENOMEM, "apply", a->source);

	a->whole = !rc;
	return rc;
}

/* ── the whole ── */

/* Is what is there of no use to go on with? */
static bool is_useless(int rc)
{
	return rc == -VHD_E_DELTA || rc == -VHD_E_PARENT_ID || rc == -VHD_E_KEY;
}

/* The file @temp (passes) that has arrived, or a new one. */
static int open_target(struct apply *a, char *temp, uint64_t *have)
{
	int rc;

	*have = 0;
	if (!temp)
		return error_system(a->err, -ENOMEM, "apply", a->source);
	rc = atomic_begin_named(a->path, temp, a->o->force ? ATOMIC_FORCE : 0, &a->target, a->err);
	if (rc < 0)
		return rc;
	rc = io_size(a->target.io, have);
	if (rc < 0) {
		atomic_keep(&a->target);
		return error_system(a->err, rc, "read", a->path);
	}
	return 0;
}

/* Something is there that was not linked any more: it is gone on with, or goes. */
static int begin_whole(struct apply *a)
{
	CLEANUP_FREE char *temp = delta_whole(a->path);
	uint64_t have;
	int rc;

	if (temp && access(temp, F_OK) < 0)
		return 0;
	rc = open_target(a, steal_ptr(&temp), &have);
	a->whole = !rc && have && a->o->resume;
	if (!rc && !a->whole)
		atomic_abort(&a->target);
	return rc;
}

static int begin(struct apply *a, uint64_t *have)
{
	int rc = open_target(a, delta_partial(a->path), have);

	if (!rc && (!a->o->resume || *have < VHD_FOOTER_BYTES)) {
		*have = 0;
		rc = io_truncate(a->target.io, 0);
		if (rc < 0) {
			atomic_keep(&a->target);
			error_system(a->err, rc, "write", a->path);
		}
	}
	return rc;
}

/* The last sector of what is still sent, *got bytes of it; the rest of it is known. */
static int read_tail(struct apply *a, uint8_t tail[VHD_FOOTER_BYTES], size_t *got)
{
	const struct vhd_progress *p = &a->o->progress;
	uint8_t buf[64 * VHD_FOOTER_BYTES];
	int n;

	*got = 0;
	while ((n = stream_read(a->in, buf, sizeof(buf), a->err)) > 0) {
		if (p->step && p->step(p->arg, a->result->bytes, a->result->bytes))
			return error_set(a->err, -VHD_E_CANCELLED,
					 "applying '%s' was interrupted; all of it is here: go on "
					 "with --resume",
					 a->source);
		size_t last = number_min((size_t)n, VHD_FOOTER_BYTES);
		size_t kept = number_min(*got, VHD_FOOTER_BYTES - last);

		memmove(tail, tail + *got - kept, kept);
		memcpy(tail + kept, buf + (size_t)n - last, last);
		*got = kept + last;
	}
	return n;
}

/* Is what is there whole the delta that is sent?  Nothing of it need come any more; what does ends
 * with its footer. */
static int receive_whole(struct apply *a)
{
	uint8_t footer[VHD_FOOTER_BYTES], tail[VHD_FOOTER_BYTES];
	size_t got = 0;
	int rc = open_image(a);

	if (error_is_vhd(rc) && rc != -VHD_E_KEY)
		return error_set(a->err, -VHD_E_DELTA,
				 "cannot apply '%s': what has arrived for '%s' is damaged; have it "
				 "sent again",
				 a->source, a->path);
	if (!rc)
		rc = delta_length(a->img, a->path, a->parent->images[0]->footer.uuid, footer,
				  &a->result->bytes, a->err);
	a->result->resumed_bytes = a->result->bytes;
	if (!rc)
		rc = read_tail(a, tail, &got);
	if (rc < 0)
		return rc;
	if (!memcmp(tail, footer + sizeof(footer) - got, got))
		return 0;
	return error_set(a->err, -VHD_E_TRUNCATED,
			 "'%s' does not end as the delta does that has arrived for '%s': if it was "
			 "cut off, go on with --resume; if it is another one, apply it without",
			 a->source, a->path);
}

static int receive_rest(struct apply *a)
{
	uint64_t have;
	int rc = begin(a, &have);

	if (!rc)
		rc = receive(a, a->target.io, have, false);
	if (!rc)
		rc = open_image(a);
	return rc ? rc : call_whole(a);
}

static int get_child(struct apply *a)
{
	int rc = begin_whole(a);

	if (!rc)
		rc = a->whole ? receive_whole(a) : receive_rest(a);
	if (!rc)
		rc = link_child(a, a->img);
	close_image(a);
	return rc;
}

static int apply(struct apply *a)
{
	int rc = open_parent(a);

	if (!rc)
		rc = open_source(a);
	if (rc < 0)
		return rc;
	if (a->o->dry_run)
		return receive_dry(a);
	rc = get_child(a);
	if (!rc)
		return atomic_commit(&a->target, true, a->err);
	if (is_useless(rc) || (!a->whole && !a->result->bytes))
		atomic_abort(&a->target);
	else
		atomic_keep(&a->target);
	return rc;
}

int vhd_delta_apply(const char *source, const char *parent, const char *path,
		    const struct vhd_apply_options *o, struct vhd_apply_result *result,
		    struct vhd_error *err)
{
	struct vhd_apply_result own;
	struct apply a = { .source = source,
			   .parent_path = parent,
			   .path = path,
			   .o = o,
			   .result = result ? result : &own,
			   .err = err };
	int rc;

	memset(a.result, 0, sizeof(*a.result));
	rc = apply(&a);
	stream_close(a.in, NULL);
	vhd_close(a.parent, NULL);
	return rc;
}

/* Of a file that is whole the length that it had when it arrived. */
static int whole_arrived(const char *path, const char *whole, uint64_t *bytes,
			 struct vhd_error *err)
{
	uint8_t footer[VHD_FOOTER_BYTES];
	struct vhd_image *img;
	struct vhd_io *io;
	int rc = io_file_open(whole, 0, &io, err);

	if (rc < 0)
		return rc;
	rc = image_open(io, IMAGE_PEEK, &img, err);
	if (rc < 0) {
		io_close(io);
		return rc;
	}
	rc = delta_length(img, path, NULL, footer, bytes, err);
	image_close(img);
	return rc;
}

int vhd_delta_arrived(const char *path, uint64_t *bytes, struct vhd_error *err)
{
	CLEANUP_FREE char *temp = delta_partial(path), *whole = delta_whole(path);
	struct stat st;

	*bytes = 0;
	if (!temp || !whole)
		return error_system(err, -ENOMEM, "examine", path);
	if (!access(whole, F_OK))
		return whole_arrived(path, whole, bytes, err);
	if (lstat(temp, &st) < 0)
		return errno == ENOENT ? 0 : error_system(err, -errno, "examine", temp);
	if (S_ISREG(st.st_mode) && st.st_size >= (off_t)VHD_FOOTER_BYTES)
		*bytes = (uint64_t)st.st_size;
	return 0;
}
