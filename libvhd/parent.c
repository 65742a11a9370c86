/* parent.c - where the parent of a differencing image is
 *
 * Two steps: collect the candidates (texts only, bounded: eight locators and a
 * name), then open them one after the other as confine.h allows.  When none
 * will do, the reason that the user can act on is told: a file that the system does not let us
 * open, if it comes first; refused by confinement, then damaged or unreadable, then another
 * image's id, then missing.
 */
#include "parent.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "confine.h"
#include "error.h"
#include "io-file.h"
#include "locator.h"
#include "utf16.h"

#define CANDIDATES_MAX (VHD_LOCATORS + 1)

struct candidate {
	const char *origin; /* "locator W2ru", "header" */
	bool windows;	    /* names a place on Windows: not tried */
	bool absolute;
	char text[PATH_TEXT_MAX];
};

struct candidates {
	unsigned count;
	struct candidate at[CANDIDATES_MAX];
};

static void add(struct candidates *c, const char *origin, const struct locator_path *path)
{
	struct candidate *new = &c->at[c->count];

	for (unsigned i = 0; i < c->count; i++)
		if (!strcmp(c->at[i].text, path->text) && c->at[i].absolute == !path->relative)
			return;
	new->origin = origin;
	new->windows = path->windows_absolute;
	new->absolute = !path->relative;
	strcpy(new->text, path->text);
	c->count++;
}

/* Read and decode one locator; false when it says nothing useful. */
static bool load_locator(struct vhd_image *image, const struct vhd_locator_entry *entry,
			 struct locator_path *out)
{
	CLEANUP_FREE uint8_t *data = NULL;

	if (!locator_usable(entry, image->file_bytes))
		return false;
	data = malloc(entry->length);
	return data && io_read(image->io, data, entry->length, entry->offset) == 0 &&
	       locator_decode(entry->code, data, entry->length, out, NULL) == 0 && out->text[0];
}

/* The last part of the name in the header; false when there is none. */
static bool header_name(const struct vhd_image *image, char *out)
{
	static const uint8_t tap[4] = "tap";
	bool host_order = !memcmp(image->footer.creator_app, tap, sizeof(tap)) &&
			  image->footer.creator_version == VHD_TAP_0_1;
	char name[PATH_TEXT_MAX], posix[PATH_TEXT_MAX];
	bool absolute;

	/* the first creator wrote the name in its machine's order, which was little-endian */
	if (utf16_decode(image->header.parent_name, VHD_NAME_UNITS,
			 host_order && image->header.parent_name[0] ? UTF16_LE : UTF16_BE, name,
			 sizeof(name)) <= 0)
		return false;
	if (path_from_windows(name, posix, sizeof(posix), &absolute) < 0)
		return false;
	strcpy(out, path_base_name(posix));
	return out[0] && strcmp(out, ".") != 0 && strcmp(out, "..") != 0;
}

static void add_header_name(struct vhd_image *image, struct candidates *c)
{
	struct locator_path path = { .relative = true };

	if (header_name(image, path.text))
		add(c, "the header", &path);
}

/* All names of the parent that @image holds, in the order in which they are tried. */
static int collect(struct vhd_image *image, struct candidates **out)
{
	static const struct {
		uint32_t code;
		const char *origin;
	} order[2][5] = {
		{ { LOCATOR_W2RU, "locator W2ru" },
		  { LOCATOR_MACX, "locator MacX" },
		  { LOCATOR_WI2R, "locator Wi2r" },
		  { LOCATOR_W2KU, "locator W2ku" },
		  { LOCATOR_WI2K, "locator Wi2k" } },
		{ { LOCATOR_W2KU, "locator W2ku" },
		  { LOCATOR_MACX, "locator MacX" },
		  { LOCATOR_WI2K, "locator Wi2k" },
		  { LOCATOR_W2RU, "locator W2ru" },
		  { LOCATOR_WI2R, "locator Wi2r" } },
	};
	CLEANUP_FREE struct locator_path *paths = calloc(VHD_LOCATORS, sizeof(*paths));
	CLEANUP_FREE struct candidates *c = calloc(1, sizeof(*c));
	bool usable[VHD_LOCATORS];

	if (!paths || !c)
		return -ENOMEM;
	for (unsigned slot = 0; slot < VHD_LOCATORS; slot++)
		usable[slot] = load_locator(image, &image->header.locators[slot], &paths[slot]);
	for (unsigned i = 0; i < 10; i++)
		for (unsigned slot = 0; slot < VHD_LOCATORS; slot++)
			if (usable[slot] && paths[slot].relative == (i < 5) &&
			    image->header.locators[slot].code == order[i / 5][i % 5].code)
				add(c, order[i / 5][i % 5].origin, &paths[slot]);
	add_header_name(image, c);
	*out = steal_ptr(&c);
	return 0;
}

int parent_stored(struct vhd_image *image, char *out, size_t room, struct vhd_error *err)
{
	CLEANUP_FREE struct candidates *c = NULL;
	int rc = collect(image, &c);

	if (rc < 0)
		return error_system(err, rc, "read", image->io->name);
	if (!c->count)
		return error_set(err, -VHD_E_LOCATOR,
				 "cannot find the parent of '%s': it stores no readable name of "
				 "one",
				 image->io->name);
	if (strlen(c->at[0].text) >= room)
		return error_system(err, -ENAMETOOLONG, "tell the parent of", image->io->name);
	strcpy(out, c->at[0].text);
	return 0;
}

int parent_brief(struct vhd_image *image, char *out, size_t room, struct vhd_error *err)
{
	char name[PATH_TEXT_MAX];

	if (!header_name(image, name) || strlen(name) >= room)
		return parent_stored(image, out, room, err);
	strcpy(out, name);
	return 0;
}

/* ── the search ── */

struct search {
	struct vhd_image *image; /* the child */
	parent_fits_fn *fits;
	void *arg;
	char directory[PATH_MAX];
	struct confine confine;
	unsigned flags;
	char tried[512]; /* for the message */
	bool denied, other_id, damaged;
	bool damage_first; /* before anything was denied */
	char denied_name[256], other_name[256];
	struct vhd_error damage; /* of the first candidate that could not be used */
};

static void note_tried(struct search *s, const struct candidate *c, const char *fact)
{
	size_t used = strlen(s->tried);
	char quoted[128];

	snprintf(s->tried + used, sizeof(s->tried) - used, "%s%s '%s' (%s)", used ? ", " : "",
		 c->origin, path_quote(c->text, quoted, sizeof(quoted)), fact);
}

static void note_damage(struct search *s, const struct vhd_error *failure)
{
	if (!s->damaged) {
		s->damage = *failure;
		s->damage_first = !s->denied;
	}
	s->damaged = true;
}

/* Where a candidate would be: a relative one is in the child's directory, whose real name has
 * no links, so that its leading ".." mean what they say. */
static int locate(const struct search *s, const struct candidate *c, char *out)
{
	if (c->absolute) {
		if (strlen(c->text) >= PATH_MAX)
			return -ENAMETOOLONG;
		strcpy(out, c->text);
		return 0;
	}
	return snprintf(out, PATH_MAX, "%s/%s", s->directory, c->text) < PATH_MAX ? 0 :
										    -ENAMETOOLONG;
}

/* Open what is at @fd as the parent: 0, or negative with *failure filled. */
static int open_candidate(struct search *s, int fd, const char *name, struct vhd_image **out,
			  struct vhd_error *failure)
{
	unsigned io_flags = (s->flags & PARENT_WRITE ? IO_FILE_WRITE : 0) |
			    (s->flags & PARENT_DIRECT ? IO_FILE_DIRECT : 0);
	bool raw = image_parent_is_raw(s->image);
	struct vhd_io *io;
	int rc;

	rc = io_file_from_fd(fd, name, io_flags, &io, failure);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	rc = image_open(io, raw ? IMAGE_RAW : IMAGE_ALLOW_POISONED, out, failure);
	if (rc < 0)
		io_close(io);
	return rc;
}

/* One candidate: 1 found, 0 try the next, negative: stop. */
static int try_candidate(struct search *s, const struct candidate *c, struct vhd_image **out)
{
	char path[PATH_MAX], name[PATH_MAX], quoted[200];
	struct vhd_error failure = { 0 };
	struct vhd_image *found;
	int fd = locate(s, c, path);

	if (c->windows) {
		note_tried(s, c, "a Windows path, skipped");
		return 0;
	}
	if (fd == 0)
		fd = confine_open(&s->confine, path, s->flags & PARENT_WRITE, name);
	if (fd == -VHD_E_PARENT_DENIED) {
		if (!s->denied)
			strcpy(s->denied_name, path_quote(path, quoted, sizeof(quoted)));
		s->denied = true;
		note_tried(s, c, "outside the allowed directories");
		return 0;
	}
	if (fd < 0) {
		note_tried(s, c, fd == -VHD_E_NOT_FILE ? vhd_strerror(fd) : strerror(-fd));
		if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM)
			return fd;
		if (fd == -ENOENT || fd == -ENOTDIR)
			return 0;
		error_set(&failure, fd, "cannot open the parent '%s': %s",
			  path_quote(path, quoted, sizeof(quoted)),
			  error_is_vhd(fd) ? vhd_strerror(fd) : strerror(-fd));
		note_damage(s, &failure);
		return 0;
	}
	if (open_candidate(s, fd, name, &found, &failure) < 0) {
		note_tried(s, c, vhd_strerror(failure.code));
		note_damage(s, &failure);
		return 0;
	}
	if (!s->fits(s->arg, found)) {
		note_tried(s, c, "another image");
		if (!s->other_id)
			strcpy(s->other_name, path_quote(name, quoted, sizeof(quoted)));
		s->other_id = true;
		image_close(found);
		return 0;
	}
	*out = found;
	return 1;
}

/* A parent that has moved: the last parts of its names, in each root itself. */
static int search_roots(struct search *s, const struct candidates *c, struct vhd_image **out)
{
	CLEANUP_FREE struct candidates *moved = calloc(1, sizeof(*moved));
	const char *const *root = s->confine.roots;
	struct locator_path path = { .relative = false };
	int rc = 0;

	if (!moved)
		return -ENOMEM;
	for (; root && *root && !rc; root++) {
		char real[PATH_MAX];

		if (!realpath(*root, real))
			continue;
		moved->count = 0;
		for (unsigned i = 0; i < c->count; i++) {
			const char *name = path_base_name(c->at[i].text);

			if (snprintf(path.text, sizeof(path.text), "%s/%s", real, name) <
			    (int)sizeof(path.text))
				add(moved, "parent root", &path);
		}
		for (unsigned i = 0; i < moved->count && !rc; i++)
			rc = try_candidate(s, &moved->at[i], out);
	}
	return rc;
}

/* No candidate will do: say why, the most telling reason first. */
static int explain(const struct search *s, struct vhd_error *err)
{
	const char *child = s->image->io->name;
	/* a better candidate is there, only it cannot be opened */
	bool unopened = s->damaged && s->damage_first && !error_is_vhd(s->damage.code);

	if (s->denied && !unopened)
		return error_set(err, -VHD_E_PARENT_DENIED,
				 "cannot open the parent of '%s': '%s' is outside the allowed "
				 "directories; if you trust it, allow its directory with "
				 "--parent-root DIR",
				 child, s->denied_name);
	if (s->damaged) {
		if (err)
			*err = s->damage;
		error_prefix(err, "parent of '%s'", child);
		return s->damage.code;
	}
	if (s->other_id)
		return error_set(err, -VHD_E_PARENT_ID,
				 "cannot open the parent of '%s': '%s' is another image (its id is "
				 "not the one that the child names); put the right file there, or "
				 "allow its directory with --parent-root DIR",
				 child, s->other_name);
	return error_set(err, -VHD_E_PARENT_MISSING,
			 "cannot find the parent of '%s': tried %s; bring it back to one of these "
			 "places, or allow its directory with --parent-root DIR",
			 child, s->tried[0] ? s->tried : "nothing, as no name of it is stored");
}

static int search_for(struct vhd_image *image, const char *leaf_directory,
		      const struct vhd_parents *parents, unsigned flags, parent_fits_fn *fits,
		      void *arg, struct vhd_image **out, struct vhd_error *err)
{
	CLEANUP_FREE struct candidates *c = NULL;
	CLEANUP_FREE struct search *s = calloc(1, sizeof(*s));
	char name[PATH_MAX];
	int rc = s ? collect(image, &c) : -ENOMEM;

	if (rc == 0)
		rc = confine_real_name(image->io->name, name);
	if (rc < 0)
		return error_system(err, rc, "find the parent of", image->io->name);
	s->image = image;
	s->fits = fits;
	s->arg = arg;
	s->flags = flags;
	confine_directory(name, s->directory);
	s->confine.leaf_directory = leaf_directory;
	if (parents) {
		s->confine.roots = parents->roots;
		s->confine.strict = parents->beneath_only;
	}
	/* A raw parent carries no id that could be checked: the child could name any file. */
	if ((flags & PARENT_WRITE) || image_parent_is_raw(image))
		s->confine.strict = true;
	for (unsigned i = 0; i < c->count && !rc; i++)
		rc = try_candidate(s, &c->at[i], out);
	/* a raw parent has no id that tells it from any other file of its name */
	if (!rc && !image_parent_is_raw(image))
		rc = search_roots(s, c, out);
	if (rc < 0)
		return error_system(err, rc, "open the parent of", image->io->name);
	return rc ? 0 : explain(s, err);
}

static bool has_id(void *arg, const struct vhd_image *found)
{
	const struct vhd_image *child = arg;

	return image_parent_is_raw(child) ||
	       !memcmp(found->footer.uuid, child->header.parent_uuid, VHD_UUID_BYTES);
}

int parent_find(struct vhd_image *image, const char *leaf_directory,
		const struct vhd_parents *parents, unsigned flags, struct vhd_image **out,
		struct vhd_error *err)
{
	return search_for(image, leaf_directory, parents, flags, has_id, image, out, err);
}

int parent_named(struct vhd_image *image, const struct vhd_parents *parents, parent_fits_fn *fits,
		 void *arg)
{
	char name[PATH_MAX], directory[PATH_MAX];
	struct vhd_image *found;
	int rc;

	if (image_parent_is_raw(image) || confine_real_name(image->io->name, name) < 0)
		return 0;
	confine_directory(name, directory);
	rc = search_for(image, directory, parents, 0, fits, arg, &found, NULL);
	if (!rc)
		image_close(found);
	return rc == -ENOMEM ? rc : !rc;
}

/* ── all of them ── */

int parent_each(struct vhd_image *image, const struct vhd_parents *parents,
		int (*look)(void *arg, struct vhd_image *parent), void *arg)
{
	struct vhd_image *child = image, *parent;
	char name[PATH_MAX], directory[PATH_MAX];
	int rc = confine_real_name(image->io->name, name);

	if (rc < 0)
		return rc;
	confine_directory(name, directory);
	for (unsigned depth = 0; !rc && depth < VHD_CHAIN_MAX && image_has_parent(child); depth++) {
		if (parent_find(child, directory, parents, 0, &parent, NULL) < 0)
			break;
		rc = look(arg, parent);
		if (child != image)
			image_close(child);
		child = parent;
	}
	if (child != image)
		image_close(child);
	return rc;
}

struct wanted {
	uint64_t device_id, inode;
};

static int is_wanted(void *arg, struct vhd_image *parent)
{
	const struct wanted *w = arg;

	return parent->io->device_id == w->device_id && parent->io->inode == w->inode;
}

int parent_among(struct vhd_image *image, const struct vhd_parents *parents, uint64_t device_id,
		 uint64_t inode)
{
	struct wanted w = { device_id, inode };

	return parent_each(image, parents, is_wanted, &w);
}
