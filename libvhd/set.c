/* set.c - the two bytes that tools may set: hidden in the footers, the marker
 * in the batmap header
 *
 * Each is one sector written whole; the footers one after the other with a
 * sync between, so that a crash leaves two that differ in hidden only, which
 * readers accept (ORDER 13).  The batmap itself is never touched.
 */
#include <string.h>

#include "base/cleanup.h"
#include "error.h"
#include "image.h"
#include "io-file.h"
#include "lock.h"

#define LOCK_WAIT_MS 5000

static int set_hidden(struct vhd_image *img, uint8_t value, struct vhd_error *err)
{
	/* where a footer is missing its place must be found first */
	int rc = img->problems ? image_begin_write(img, 0, err) : 0;

	if (rc < 0)
		return rc;
	img->footer.hidden = value;
	return image_store_footers(img, err);
}

static int set_marker(struct vhd_image *img, uint8_t value, struct vhd_error *err)
{
	const char *name = img->io->name;
	int rc;

	if (!img->has_batmap || (img->problems & IMAGE_BATMAP_BAD))
		return error_set(
			err, -VHD_E_UNSUPPORTED,
			"cannot set the marker of '%s': it has no sound batmap, whose header "
			"holds it",
			name);
	img->batmap_raw[BATMAP_MARKER] = value;
	rc = io_write(img->io, img->batmap_raw, sizeof(img->batmap_raw), img->batmap_header_at);
	if (!rc)
		rc = io_sync(img->io);
	return rc < 0 ? error_system(err, rc, "write", name) : 0;
}

int vhd_set(const char *path, enum vhd_field field, uint8_t value, struct vhd_error *err)
{
	struct vhd_io *io = NULL;
	struct vhd_image *img;
	int rc = io_file_open(path, IO_FILE_WRITE, &io, err);

	if (rc < 0)
		return rc;
	rc = lock_take(io, LOCK_SET, NULL, LOCK_WAIT_MS, NULL, err);
	if (!rc)
		rc = image_open(io, 0, &img, err);
	if (rc < 0) {
		io_close(io);
		return rc;
	}
	if (field == VHD_FIELD_HIDDEN)
		rc = set_hidden(img, value, err);
	else
		rc = set_marker(img, value, err);
	image_close(img);
	return rc;
}
