/* set.c - the two bytes that tools may set: hidden in the footers, the marker
 * in the batmap header
 *
 * Each is one sector written whole; the footers one after the other with a
 * sync between, so that a crash leaves two that differ in hidden only, which
 * readers accept (ORDER 13).  The batmap itself is never touched.
 */
#include "set.h"

#include <limits.h>

#include "confine.h"
#include "error.h"
#include "image.h"
#include "io-file.h"
#include "revert.h"

static int set_hidden(struct vhd_image *img, uint8_t value, struct vhd_error *err)
{
	img->footer.hidden = value;
	return image_store_footers(img, err);
}

static int refuse_marker(const struct vhd_image *img, struct vhd_error *err)
{
	if (img->has_batmap && !(img->problems & IMAGE_BATMAP_BAD))
		return 0;
	return error_set(err, -VHD_E_UNSUPPORTED,
			 "cannot set the marker of '%s': it has no sound batmap, whose header "
			 "holds it",
			 img->io->name);
}

static int set_marker(struct vhd_image *img, uint8_t value, struct vhd_error *err)
{
	int rc;

	img->batmap_raw[BATMAP_MARKER] = value;
	rc = io_write(img->io, img->batmap_raw, sizeof(img->batmap_raw), img->batmap_header_at);
	if (!rc)
		rc = io_sync(img->io);
	return rc < 0 ? error_system(err, rc, "write", img->io->name) : 0;
}

/* Like every writer: what must not be written is refused, a missing footer restored; that takes
 * the table, in which the place for one is found. */
static int begin(struct vhd_image *img, bool dry_run, struct vhd_error *err)
{
	if (!img->problems)
		return 0;
	return dry_run ? image_may_write(img, 0, err) : image_begin_write(img, 0, err);
}

int set_field(const char *path, enum vhd_field field, uint8_t value, bool dry_run,
	      struct vhd_error *err)
{
	char name[PATH_MAX];
	struct vhd_image *img;
	int rc = confine_real_name(path, name);

	if (rc < 0)
		return error_system(err, rc, "open", path);
	rc = revert_open(name, IO_FILE_WRITE | (dry_run ? REVERT_NOTHING : 0), LOCK_SET, 0, NULL,
			 &img, err);
	if (rc < 0)
		return rc;
	if (field == VHD_FIELD_MARKER)
		rc = refuse_marker(img, err);
	if (!rc)
		rc = begin(img, dry_run, err);
	if (!rc && !dry_run)
		rc = field == VHD_FIELD_HIDDEN ? set_hidden(img, value, err) :
						 set_marker(img, value, err);
	image_close(img);
	return rc;
}

int vhd_set(const char *path, enum vhd_field field, uint8_t value, struct vhd_error *err)
{
	return set_field(path, field, value, false, err);
}
