/* relink-moved.c - a parent that has moved is found by its id, and the image told where it is */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "chain.h"
#include "confine.h"
#include "error.h"
#include "image.h"
#include "io-file.h"
#include "relink-parent.h"
#include "relink-search.h"

#define LOCK_WAIT_MS 5000

struct moved {
	const char *path;
	const struct vhd_relink_options *o;
	struct vhd_image *img;
	struct search_found found;
};

static int open_image(struct moved *m, struct vhd_error *err)
{
	struct vhd_io *io = NULL;
	int rc = io_file_open(m->path, IO_FILE_WRITE, &io, err);

	if (!rc)
		rc = lock_take(io, LOCK_SET, NULL, LOCK_WAIT_MS, NULL, err);
	if (!rc)
		rc = image_open(io, 0, &m->img, err);
	if (rc < 0)
		io_close(io);
	return rc;
}

/* Is the parent where the image says?  Its path: @out. */
static bool is_there(struct moved *m, char *out, size_t room)
{
	char name[PATH_MAX], directory[PATH_MAX];
	struct vhd_image *parent;

	if (confine_real_name(m->path, name) < 0)
		return false;
	confine_directory(name, directory);
	if (chain_find_parent(m->img, directory, &m->o->parents, false, &parent, NULL) < 0)
		return false;
	strncpy(out, parent->io->name, room - 1);
	image_close(parent);
	return true;
}

static int check_kind(const struct moved *m, struct vhd_error *err)
{
	if (!image_has_parent(m->img))
		return error_set(err, -VHD_E_ARGUMENT, "cannot relink '%s': it has no parent",
				 m->path);
	if (image_parent_is_raw(m->img))
		return error_set(err, -VHD_E_ARGUMENT,
				 "cannot relink '%s': its parent is a raw disk, which has no id to "
				 "be found by; name it: vhd-util modify -n '%s' -p PARENT -m",
				 m->path, m->path);
	return 0;
}

static int search(struct moved *m, struct vhd_error *err)
{
	struct search_found *found = &m->found;
	int rc = search_id(m->o->directories, m->img->header.parent_uuid, found, err);

	if (rc < 0 || found->count == 1)
		return rc;
	if (!found->count)
		return error_set(err, -VHD_E_PARENT_MISSING,
				 "cannot relink '%s': no image with its parent's id is in the "
				 "directories searched",
				 m->path);
	return error_set(err, -VHD_E_ARGUMENT,
			 "cannot relink '%s': two images have its parent's id, '%s' and '%s'; name "
			 "one: vhd-util modify -n '%s' -p PARENT",
			 m->path, found->path[0], found->path[1], m->path);
}

static int relink_to(struct moved *m, const char *parent, struct vhd_error *err)
{
	struct relink plan = { .how = RELINK_NOTHING };
	struct adopted a;
	int rc = adopt_open(m->path, m->img, parent, ADOPT_ALONE, &m->o->parents, &a, err);

	if (rc < 0)
		return rc;
	rc = m->o->dry_run ? image_may_write(m->img, 0, err) : image_begin_write(m->img, 0, err);
	/* it may be another file by now */
	if (!rc && memcmp(a.link.id, m->img->header.parent_uuid, VHD_UUID_BYTES) != 0)
		rc = error_set(err, -VHD_E_PARENT_ID,
			       "cannot relink '%s': '%s' has just become another image; try again",
			       m->path, parent);
	if (!rc)
		rc = relink_plan(m->img, &a.link, false, &plan, err);
	if (!rc && !m->o->dry_run)
		rc = relink_write(m->img, &plan, err);
	relink_release(&plan);
	adopt_release(&a);
	return rc;
}

int vhd_relink(const char *path, const struct vhd_relink_options *o,
	       struct vhd_relink_result *result, struct vhd_error *err)
{
	CLEANUP_FREE struct moved *m = calloc(1, sizeof(*m));
	struct vhd_relink_result *r = result;
	int rc;

	if (!m)
		return error_system(err, -ENOMEM, "relink", path);
	memset(r, 0, sizeof(*r));
	m->path = path;
	m->o = o;
	rc = open_image(m, err);
	if (rc < 0)
		return rc;
	rc = check_kind(m, err);
	if (!rc && is_there(m, r->parent, sizeof(r->parent))) {
		r->unchanged = true;
		image_close(m->img);
		return 0;
	}
	if (!rc)
		rc = search(m, err);
	if (!rc)
		rc = relink_to(m, m->found.path[0], err);
	if (!rc)
		strcpy(r->parent, m->found.path[0]);
	image_close(m->img);
	return rc;
}
