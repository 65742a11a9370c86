/* scan-image.c - one image of a scan: footers, headers, and where its parent is
 *
 * The role is that of peeking: no locks, nothing written.  Metadata caught half written is read
 * again a moment later, but only when the file was changed lately, and not for every one of
 * thousands: who finds a directory full of damage is not to wait for each.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "confine.h"
#include "error.h"
#include "image.h"
#include "io-file.h"
#include "parent.h"
#include "path.h"
#include "scan.h"

#define LATELY_SECONDS 60

/* The error of an image that memory fails for, too. */
static const struct vhd_error no_memory = { .code = -ENOMEM, .text = "out of memory" };

static const struct vhd_error *keep_error(const struct vhd_error *err)
{
	struct vhd_error *copy = malloc(sizeof(*copy));

	if (!copy)
		return &no_memory;
	*copy = *err;
	return copy;
}

static void drop_error(const struct vhd_error *err)
{
	if (err != &no_memory)
		free((void *)err);
}

static void free_text(const char *text)
{
	free((void *)text);
}

void scan_image_release(struct vhd_scan_image *image)
{
	free_text(image->name);
	free_text(image->path);
	free_text(image->parent);
	drop_error(image->error);
	drop_error(image->parent_error);
	memset(image, 0, sizeof(*image));
}

/* Could somebody be writing it just now? */
static bool lately(const struct vhd_io *io)
{
	return io->device || io->mtime + LATELY_SECONDS >= time(NULL);
}

static int open_name(struct scan_looker *l, const char *name, struct vhd_io **out,
		     struct vhd_error *err)
{
	char real[PATH_MAX];
	int rc;

	if (l->opener)
		return l->opener->open(l->opener->arg, name, out, err);
	rc = confine_real_name(name, real);
	if (rc < 0)
		return error_system(err, rc, "open", name);
	return io_file_open(real, 0, out, err);
}

static int open_image(struct scan_looker *l, const struct vhd_scan_name *name,
		      struct vhd_image **out, char **path, struct vhd_error *err)
{
	unsigned flags = IMAGE_ALLOW_POISONED | IMAGE_BRIEF | (name->raw ? IMAGE_RAW : 0);
	struct vhd_io *io = NULL;
	int rc = open_name(l, name->name, &io, err);

	if (rc < 0)
		return rc;
	*path = strdup(io->name);
	rc = *path ? image_open(io, flags, out, err) :
		     error_system(err, -ENOMEM, "open", name->name);
	if (error_is_vhd(rc) && rc != -VHD_E_NOT_VHD && l->patience && lately(io)) {
		l->patience--;
		rc = image_open(io, flags | IMAGE_PEEK, out, err);
	}
	if (rc < 0)
		io_close(io);
	return rc;
}

/* The parent's name without looking for it. */
static int name_parent(struct scan_looker *l, struct vhd_image *image, char *out,
		       struct vhd_error *err)
{
	return l->options->brief ? parent_brief(image, out, PATH_TEXT_MAX, err) :
				   parent_stored(image, out, PATH_TEXT_MAX, err);
}

static int seek_parent(struct scan_looker *l, struct vhd_image *image, char *name,
		       struct vhd_scan_image *out, struct vhd_error *err)
{
	char directory[PATH_MAX];
	struct vhd_image *parent = NULL;
	int rc;

	confine_directory(image->io->name, directory);
	rc = parent_find(image, directory, &l->options->parents, 0, &parent, err);
	if (rc < 0)
		return rc;
	strcpy(name, parent->io->name);
	out->parent_device = parent->io->device_id;
	out->parent_inode = parent->io->inode;
	image_close(parent);
	return 0;
}

/* A parent that is not found leaves its name as stored, and the reason. */
static void look_at_parent(struct scan_looker *l, struct vhd_image *image,
			   struct vhd_scan_image *out)
{
	struct vhd_error err = { 0 }, none = { 0 };
	char name[PATH_TEXT_MAX] = "";
	bool seek = !l->options->brief && !l->opener;
	int rc = seek ? seek_parent(l, image, name, out, &err) : name_parent(l, image, name, &err);

	if (rc < 0) {
		out->parent_error = keep_error(&err);
		if (!seek || name_parent(l, image, name, &none) < 0)
			strcpy(name, "?");
	}
	out->parent = strdup(name);
	if (!out->parent) {
		drop_error(out->error);
		out->error = &no_memory;
	}
}

static void tell(struct scan_looker *l, struct vhd_image *image, struct vhd_scan_image *out)
{
	out->type = image->type;
	out->size = image->size;
	out->file_size = image->file_bytes;
	out->device = image->io->device_id;
	out->inode = image->io->inode;
	if (image->type == VHD_TYPE_RAW) {
		out->hidden = true; /* of use to its children only */
		return;
	}
	out->hidden = image->footer.hidden;
	memcpy(out->id, image->footer.uuid, VHD_UUID_BYTES);
	if (image->has_batmap) {
		out->has_marker = true;
		out->marker = image->batmap_header.marker;
		out->has_keyhash = image->batmap_header.keyhash == 1;
		memcpy(out->keyhash, image->batmap_header.hash, sizeof(out->keyhash));
	}
	if (!image_has_parent(image))
		return;
	memcpy(out->parent_id, image->header.parent_uuid, VHD_UUID_BYTES);
	out->raw_parent = image_parent_is_raw(image);
	look_at_parent(l, image, out);
}

void scan_look(struct scan_looker *l, const struct vhd_scan_name *name, struct vhd_scan_image *out)
{
	struct vhd_image *image = NULL;
	struct vhd_error err = { 0 };
	char *path = NULL;
	int rc;

	memset(out, 0, sizeof(*out));
	out->cookie = name->cookie;
	out->name = strdup(name->name);
	rc = out->name ? open_image(l, name, &image, &path, &err) : -ENOMEM;
	out->path = path;
	if (rc == 0)
		tell(l, image, out);
	else if (out->name)
		out->error = keep_error(&err);
	else
		out->error = &no_memory;
	image_close(image);
}
