/* modify.c - another parent, another place of the footer, no data any more
 *
 * -z  batmap zero ─sync─► table unused ─sync─► footer behind the metadata ─sync─► cut.  Killed
 *     between, some blocks are gone and some are not: the same command goes on.
 * -p  relink.h; beside a running server only H is locked and only what it leaves alone is written.
 * -s  the footer at its new place ─sync─► cut.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "coalesce-state.h"
#include "confine.h"
#include "error.h"
#include "image-private.h"
#include "io-file.h"
#include "lock.h"
#include "merging.h"
#include "relink-parent.h"
#include "relink.h"
#include "revert.h"

#define LOCK_WAIT_MS 5000
#define TABLE_PIECE  (256u << 10)

struct modify {
	const char *path;
	const struct vhd_modify_options *o;
	struct vhd_image *img;
	bool beside; /* somebody else writes its data */
};

/* ── opening ── */

static int open_locked(struct modify *m, unsigned io_flags, enum lock_role role,
		       struct vhd_error *err)
{
	struct vhd_io *io = NULL;
	int rc = io_file_open(m->path, io_flags, &io, err);

	if (!rc)
		rc = lock_take(io, role, NULL, LOCK_WAIT_MS, NULL, err);
	if (!rc)
		rc = image_open(io, 0, &m->img, err);
	if (rc < 0)
		io_close(io);
	return rc;
}

/* Poisoned: what was interrupted is undone first, where its journal lies beside the image. */
static int open_undone(struct modify *m, enum lock_role role, struct vhd_error *err)
{
	char name[PATH_MAX];
	int rc = confine_real_name(m->path, name);

	if (rc < 0)
		return error_system(err, rc, "open", m->path);
	return revert_open(name, IO_FILE_WRITE, role, 0, NULL, &m->img, err);
}

static int open_image(struct modify *m, struct vhd_error *err)
{
	const struct vhd_modify_options *o = m->o;
	enum lock_role role = o->zero ? LOCK_MOVE : LOCK_SET;
	int rc;

	rc = open_locked(m, IO_FILE_WRITE, role, err);
	if (rc == -VHD_E_POISONED && !o->dry_run)
		rc = open_undone(m, role, err);
	/* a running server holds D: then past the page cache, where it writes to as well */
	if (rc == -VHD_E_BUSY && o->parent && !o->zero && !o->physical_size) {
		m->beside = true;
		rc = open_locked(m, IO_FILE_WRITE | IO_FILE_DIRECT, LOCK_HEADER, err);
	}
	return rc;
}

/* Beside a server nothing is mended: both footers must be there. */
static int prepare(struct modify *m, struct vhd_error *err)
{
	int rc = image_load(m->img, 0, err);

	/* ORDER 14: a merge that goes on begins at its cursor; what it wrote before must still be there */
	if (!rc && m->o->zero)
		rc = coalesce_state_refuse_top(m->img->io, m->img->footer.uuid, m->path, err);
	if (!rc && m->o->zero)
		rc = merging_refuse(m->img, &m->o->parents, "drop the data of", err);
	else if (!rc && m->o->parent)
		rc = merging_refuse(m->img, &m->o->parents, "change the parent of", err);
	if (rc < 0)
		return rc;
	if (!m->beside)
		return m->o->dry_run ? image_may_write(m->img, 0, err) :
				       image_begin_write(m->img, 0, err);
	if (!m->img->problems)
		return 0;
	return error_set(
		err, -VHD_E_BUSY,
		"cannot change the parent of '%s': it is in use, and something about it is "
		"to be mended first; end that use, then see vhd-util check",
		m->path);
}

/* ── no data ── */

static int empty_table(struct vhd_image *img)
{
	CLEANUP_FREE uint8_t *unused = malloc(TABLE_PIECE);
	uint64_t left = img->header.max_entries * 4ull, at = img->header.table_offset;
	int rc = 0;

	if (!unused)
		return -ENOMEM;
	memset(unused, 0xff, TABLE_PIECE);
	while (left && !rc) {
		uint64_t n = number_min(left, TABLE_PIECE);

		rc = io_write(img->io, unused, n, at);
		at += n;
		left -= n;
	}
	return rc ? rc : io_sync(img->io);
}

static int drop_data(struct modify *m, struct vhd_error *err)
{
	struct vhd_image *img = m->img;
	uint64_t end;
	int rc;

	if (!footer_is_sparse(&img->footer))
		return error_set(
			err, -VHD_E_UNSUPPORTED,
			"cannot drop the data of '%s': only dynamic and differencing images "
			"can be without",
			m->path);
	if (m->o->dry_run)
		return 0;
	/* a bit that outlives its block would hide the parent's data */
	img->batmap_lies = true;
	rc = image_begin_write(img, 0, err);
	if (rc < 0)
		return rc;
	rc = empty_table(img);
	if (rc < 0)
		return error_system(err, rc, "empty the block table of", m->path);
	map_close(img->map); /* it remembers where data ended */
	img->map = NULL;
	rc = image_load(img, 0, err);
	if (rc < 0)
		return rc;
	end = image_end_of_data(img);
	if (!img->io->device)
		return image_move_footer(img, end, err);
	rc = io_punch(img->io, end, img->footer_offset - end);
	if (!rc)
		rc = io_sync(img->io);
	return rc < 0 ? error_system(err, rc, "empty", m->path) : 0;
}

/* ── another parent ── */

static int change_parent(struct modify *m, struct vhd_error *err)
{
	const struct vhd_modify_options *o = m->o;
	struct relink plan = { .how = RELINK_NOTHING };
	struct adopted parent;
	int rc;

	if (!image_has_parent(m->img))
		return error_set(
			err, -VHD_E_ARGUMENT,
			"cannot change the parent of '%s': it has none; a child is made with "
			"vhd-util snapshot",
			m->path);
	rc = adopt_open(m->path, m->img, o->parent, o->raw_parent ? ADOPT_RAW : 0, &o->parents,
			&parent, err);
	if (rc < 0)
		return rc;
	if (image_is_encrypted(parent.chain->images[0]) && !image_is_encrypted(m->img))
		rc = error_set(
			err, -VHD_E_KEY,
			"cannot make '%s' the parent of '%s': it is encrypted, and a clear image "
			"over it has no meaning; make an encrypted copy first: vhd-util copy -k",
			o->parent, m->path);
	if (!rc)
		rc = relink_plan(m->img, &parent.link, m->beside, &plan, err);
	if (!rc && !o->dry_run)
		rc = relink_write(m->img, &plan, err);
	relink_release(&plan);
	adopt_release(&parent);
	return rc;
}

/* ── another size of the file ── */

static int check_size(const struct modify *m, struct vhd_error *err)
{
	const struct vhd_image *img = m->img;
	uint64_t need = image_end_of_data(img) + VHD_FOOTER_BYTES, bytes = m->o->physical_size;
	bool fixed = !footer_is_sparse(&img->footer);

	if (bytes % VHD_SECTOR)
		return error_set(err, -VHD_E_ARGUMENT,
				 "cannot make '%s' %llu bytes long: that is no multiple of 512",
				 m->path, (unsigned long long)bytes);
	if (bytes < need)
		return error_value(err, -VHD_E_ARGUMENT, 0, need, bytes,
				   "cannot make '%s' %llu bytes long: %llu are in use", m->path,
				   (unsigned long long)bytes, (unsigned long long)need);
	if (img->io->device && bytes > img->file_bytes)
		return error_value(err, -VHD_E_ARGUMENT, 0, img->file_bytes, bytes,
				   "cannot use %llu bytes of '%s': the device has %llu; enlarge it "
				   "first",
				   (unsigned long long)bytes, m->path,
				   (unsigned long long)img->file_bytes);
	if (fixed && !img->io->device && bytes != need)
		return error_value(
			err, -VHD_E_ARGUMENT, 0, need, bytes,
			"cannot make '%s' %llu bytes long: the footer of a fixed image is "
			"right behind its disk, at %llu",
			m->path, (unsigned long long)bytes,
			(unsigned long long)need - VHD_FOOTER_BYTES);
	return 0;
}

static int move_footer(struct modify *m, struct vhd_error *err)
{
	int rc = check_size(m, err);

	if (rc < 0 || m->o->dry_run)
		return rc;
	return image_move_footer(m->img, m->o->physical_size - VHD_FOOTER_BYTES, err);
}

int vhd_modify(const char *path, const struct vhd_modify_options *o, struct vhd_error *err)
{
	struct modify m = { .path = path, .o = o };
	int rc = open_image(&m, err);

	if (rc < 0)
		return rc;
	rc = prepare(&m, err);
	if (!rc && o->zero)
		rc = drop_data(&m, err);
	if (!rc && o->parent)
		rc = change_parent(&m, err);
	if (!rc && o->physical_size)
		rc = move_footer(&m, err);
	image_close(m.img);
	return rc;
}
