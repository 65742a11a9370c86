/* scan-names.c - which images: files, a glob, directories, volumes, parents
 *
 * Roots are what was named: matches of the glob first, then the operands.  With --recursive a root
 * that is a directory is walked, one directory's entries in memory at a time; links are not
 * followed.  Parents come last, when all that was named has been told: only then is it known who
 * was among them.
 */
#include <errno.h>
#include <fnmatch.h>
#include <fts.h>
#include <glob.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "libvhd/base/cleanup.h"
#include "libvhd/confine.h"
#include "libvhd/error.h"
#include "libvhd/path.h"
#include "scan.h"

/* A file that was told or will be: by identity, or, where that is not known, by path. */
struct known {
	uint64_t device, inode;
	char *path; /* owned; NULL: known by identity */
};

struct waiting {
	char *path;		/* owned */
	uint64_t device, inode; /* of files */
	bool raw;
};

struct scan_names {
	const struct scan_wish *wish; /* borrowed */
	const char *filter;	      /* for what a walk finds */
	size_t root_count, root_room, next_root;
	char **roots; /* owned */
	FTS *walk;
	void *known; /* a tree of struct known */
	size_t waiting_count, next_waiting;
	struct waiting *waiting; /* owned; parents to visit */
	uint64_t fed, told;
};

/* Cookies: found by a walk, and not because its name says that it is an image. */
static char walked_mark;

/* ── what is known ── */

static int compare_known(const void *a, const void *b)
{
	const struct known *x = a, *y = b;

	if (x->path && y->path)
		return strcmp(x->path, y->path);
	if (x->path || y->path)
		return x->path ? 1 : -1;
	if (x->device != y->device)
		return x->device < y->device ? -1 : 1;
	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

static void free_known(void *arg)
{
	struct known *k = arg;

	free(k->path);
	free(k);
}

/* 1 when it is new, 0 when it was known. */
static int remember(struct scan_names *n, uint64_t device, uint64_t inode, const char *path)
{
	struct known *k = calloc(1, sizeof(*k));
	struct known **found;

	if (!k)
		return -ENOMEM;
	*k = (struct known){ device, inode, path ? strdup(path) : NULL };
	found = path && !k->path ? NULL : tsearch(k, &n->known, compare_known);
	if (!found || *found != k)
		free_known(k);
	return !found ? -ENOMEM : *found == k;
}

/* ── roots ── */

static int add_root(struct scan_names *n, const char *name)
{
	char *copy = strdup(name);

	if (n->root_count == n->root_room) {
		size_t room = n->root_room ? n->root_room * 2 : 64;
		char **roots = realloc(n->roots, room * sizeof(*roots));

		if (roots) {
			n->roots = roots;
			n->root_room = room;
		}
	}
	if (!copy || n->root_count == n->root_room) {
		free(copy);
		return -ENOMEM;
	}
	n->roots[n->root_count++] = copy;
	return 0;
}

/* A directory that glob() could not read: it passes no argument to its callback. */
static char unread[PATH_MAX];

static int note_unread(const char *path, int error)
{
	if (error != ENOENT && error != ENOTDIR && error != ELOOP && !unread[0])
		snprintf(unread, sizeof(unread), "%s", path);
	return 0;
}

static int add_matches(struct scan_names *n, const char *pattern)
{
	glob_t g = { 0 };
	int rc;

	unread[0] = '\0';
	rc = glob(pattern, GLOB_BRACE, note_unread, &g);
	rc = rc == GLOB_NOSPACE ? -ENOMEM : 0;
	/* not silently as if it held nothing: its line says why */
	if (!rc && unread[0])
		rc = add_root(n, unread);
	for (size_t i = 0; !rc && i < g.gl_pathc; i++)
		rc = add_root(n, g.gl_pathv[i]);
	globfree(&g);
	return rc;
}

static bool is_pattern(const char *text)
{
	return strpbrk(text, "*?[(") != NULL;
}

/* Volumes that match; an operand that is no pattern is wanted, there or not. */
static int add_volumes(struct scan_names *n, const char *pattern, bool wanted)
{
	const struct scan_volumes *v = n->wish->volumes;
	int rc = 0;

	if (wanted && !is_pattern(pattern))
		return add_root(n, path_base_name(pattern));
	for (size_t i = 0; !rc && i < v->count; i++)
		if (!fnmatch(pattern, v->list[i].name, FNM_PATHNAME | FNM_EXTMATCH))
			rc = add_root(n, v->list[i].name);
	return rc;
}

static int add_roots(struct scan_names *n)
{
	const struct scan_wish *w = n->wish;
	bool filter = w->recursive && w->match && !strchr(w->match, '/');
	int rc = 0;

	if (filter)
		n->filter = w->match;
	if (w->volumes && w->match)
		rc = add_volumes(n, w->match, false);
	else if (w->match && !filter)
		rc = add_matches(n, w->match);
	for (int i = 0; !rc && i < w->count; i++)
		rc = w->volumes ? add_volumes(n, w->files[i], true) : add_root(n, w->files[i]);
	if (!rc && !w->count && w->volumes && !w->match)
		rc = add_volumes(n, "*", false);
	if (!rc && !w->count && !w->volumes && w->recursive && (filter || !w->match))
		rc = add_root(n, ".");
	return rc;
}

int scan_names_open(const struct scan_wish *wish, struct scan_names **out, struct vhd_error *err)
{
	struct scan_names *n = calloc(1, sizeof(*n));
	int rc = n ? 0 : -ENOMEM;

	if (n) {
		n->wish = wish;
		rc = add_roots(n);
	}
	if (rc < 0) {
		scan_names_close(n);
		return error_system(err, rc, "look for", wish->match ? wish->match : "images");
	}
	*out = n;
	return 0;
}

void scan_names_close(struct scan_names *n)
{
	if (!n)
		return;
	if (n->walk)
		fts_close(n->walk);
	for (size_t i = 0; i < n->root_count; i++)
		free(n->roots[i]);
	for (size_t i = 0; i < n->waiting_count; i++)
		free(n->waiting[i].path);
	tdestroy(n->known, free_known);
	free(n->roots);
	free(n->waiting);
	free(n);
}

/* ── walking ── */

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static bool named_as_image(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot && (!strcasecmp(dot, ".vhd") || !strcasecmp(dot, ".avhd"));
}

static bool is_directory(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISDIR(st.st_mode);
}

/* Is this entry of a walk to be told? */
static bool wanted(const struct scan_names *n, const FTSENT *e)
{
	switch (e->fts_info) {
	case FTS_F:
		return !n->filter || !fnmatch(n->filter, e->fts_name, 0);
	case FTS_DNR: /* a directory that cannot be read, or anything that cannot be seen */
	case FTS_ERR:
	case FTS_NS:
		return e->fts_errno != ENOENT;
	default:
		return false;
	}
}

static bool next_walked(struct scan_names *n, struct vhd_scan_name *out)
{
	FTSENT *e;

	while ((e = fts_read(n->walk))) {
		if (!wanted(n, e))
			continue;
		out->name = e->fts_path;
		if (e->fts_info == FTS_F && !n->filter && !named_as_image(e->fts_name))
			out->cookie = &walked_mark;
		return true;
	}
	fts_close(n->walk);
	n->walk = NULL;
	return false;
}

static bool next_root(struct scan_names *n, struct vhd_scan_name *out)
{
	for (;;) {
		char *root;

		if (n->walk && next_walked(n, out))
			return true;
		if (n->next_root == n->root_count)
			return false;
		root = n->roots[n->next_root++];
		if (n->wish->recursive && !n->wish->volumes && is_directory(root)) {
			char *const roots[] = { root, NULL };

			n->walk = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR,
					   by_name);
			if (n->walk)
				continue;
		}
		out->name = root;
		return true;
	}
}

bool scan_names_next(struct scan_names *n, struct vhd_scan_name *out)
{
	if (next_root(n, out)) {
		n->fed++;
		return true;
	}
	if (n->told < n->fed)
		return false;
	while (n->next_waiting < n->waiting_count) {
		struct waiting *w = &n->waiting[n->next_waiting++];

		/* without memory a parent may be visited twice: that does no harm */
		if (!(n->wish->volumes ? remember(n, 0, 0, w->path) :
					 remember(n, w->device, w->inode, NULL)))
			continue;
		out->name = w->path;
		out->raw = w->raw;
		n->fed++;
		return true;
	}
	return false;
}

bool scan_names_told(struct scan_names *n, const struct vhd_scan_image *image)
{
	int code = image->error ? image->error->code : 0;

	n->told++;
	if (n->wish->parents && n->wish->volumes)
		(void)!remember(n, 0, 0, image->name);
	else if (n->wish->parents && !code)
		(void)!remember(n, image->device, image->inode, NULL);
	return !(image->cookie == &walked_mark &&
		 (code == -VHD_E_NOT_VHD || code == -ENOENT || code == -EACCES));
}

/* ── parents ── */

static int wait_for(struct scan_names *n, const struct waiting *new)
{
	const struct waiting *last = n->waiting_count ? &n->waiting[n->waiting_count - 1] : NULL;
	struct waiting *list = n->waiting;
	char *copy;

	if (last && !strcmp(last->path, new->path)) /* many children of one parent */
		return 0;
	copy = strdup(new->path);
	if (copy && !(n->waiting_count & (n->waiting_count - 1)))
		list = realloc(list, (n->waiting_count ? n->waiting_count * 2 : 1) * sizeof(*list));
	if (!list || !copy) {
		free(copy);
		return -ENOMEM;
	}
	n->waiting = list;
	list[n->waiting_count] = *new;
	list[n->waiting_count++].path = copy;
	return 0;
}

/* Where the parent of @image is, into w->path of PATH_MAX bytes.  False: not there. */
static bool place(const struct scan_names *n, const struct vhd_scan_image *image, struct waiting *w)
{
	char directory[PATH_MAX];
	bool absolute = image->parent[0] == '/';
	struct stat st;

	if (n->wish->volumes) {
		scan_volumes_parent(n->wish->volumes, image->parent, w->path);
		return scan_volumes_find(n->wish->volumes, w->path) != NULL;
	}
	w->device = image->parent_device;
	w->inode = image->parent_inode;
	confine_directory(image->path, directory);
	if (snprintf(w->path, PATH_MAX, "%s%s%s", absolute ? "" : directory, absolute ? "" : "/",
		     image->parent) >= PATH_MAX)
		return false;
	if (w->device || w->inode || image->parent_error)
		return !image->parent_error;
	/* the name in the header was not followed yet */
	if (stat(w->path, &st) < 0)
		return false;
	w->device = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	w->inode = S_ISBLK(st.st_mode) ? 0 : st.st_ino;
	return true;
}

int scan_names_add_parent(struct scan_names *n, const struct vhd_scan_image *image)
{
	char path[PATH_MAX] = "";
	struct waiting w = { .path = path, .raw = image->raw_parent };

	if (place(n, image, &w))
		return wait_for(n, &w);
	/* told once, whoever names it */
	return remember(n, 0, 0, path[0] ? path : image->parent);
}
