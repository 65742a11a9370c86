/* vhd-snapshot.c - a new leaf over a running chain, without closing it (ORDER 17)
 *
 *   base form: the name P stays the active one, BASE names the frozen node
 *     prepare   child P.tmp made, its parent called BASE; link(P, BASE); directory synced
 *     commit    (serving), then under hold: commit and final shape of the old leaf
 *     switch    child's parent time; rename(P.tmp, P); directory synced; locks change
 *     apply     child is the leaf, the old one joins the view
 *   new-leaf form: the child is made at its own name; at switch the old leaf is marked hidden
 *
 * A crash before the rename leaves P as it was, with a second name and a temporary file beside it;
 * after it, P is the empty child of BASE, whose data was made durable before.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/atomic.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/confine.h"
#include "libvhd/create.h"
#include "libvhd/error.h"
#include "libvhd/io-file.h"
#include "libvhd/snapshot.h"
#include "vhd-private.h"

struct snapshot_state {
	struct vhd_layer *child; /* owned until applied */
	struct vhd_view *view;	 /* owned: of the layers below the child; applied: the one before */
	char *temp;		 /* owned; the child's name until switched, in the base form */
	char *leaf;		 /* owned: what the active name will be */
	char *base;		 /* owned: what the frozen node will be called */
	char *old_name;		 /* owned: for the frozen node's io */
	bool linked, made, switched, applied;
	void (*done)(void *arg, int err);
	void *arg;
};

static struct snapshot_state *state_of(const struct vhd_snapshot *s)
{
	return s->private;
}

/* @name beside the leaf, or an absolute path beneath the leaf's directory: a server opens
 * parents only there. */
static int full_name(const struct vhd_disk *d, const char *name, char **out, struct vhd_error *err)
{
	const char *slash = strrchr(d->path, '/');
	int directory = (int)(slash - d->path + 1);

	if (!*name)
		return error_set(err, -VHD_E_ARGUMENT, "an empty name is no name");
	if (*name != '/') {
		if (strchr(name, '/'))
			return error_set(err, -VHD_E_ARGUMENT,
					 "'%s': give a bare name, or an absolute path", name);
		return asprintf(out, "%.*s%s", directory, d->path, name) < 0 ? -ENOMEM : 0;
	}
	if (strncmp(name, d->path, (size_t)directory) != 0 || strstr(name, "/../"))
		return error_set(err, -VHD_E_PARENT_DENIED,
				 "cannot use '%s': it is not beneath the directory of '%s', where "
				 "alone a server opens parents",
				 name, d->path);
	*out = strdup(name);
	return *out ? 0 : -ENOMEM;
}

static int names(struct vhd_snapshot *s, struct snapshot_state *st, struct vhd_error *err)
{
	const struct vhd_disk *d = vhd_disk_of(s->disk);
	int rc;

	if (!s->base == !s->new_leaf)
		return error_set(err, -VHD_E_ARGUMENT,
				 "give a name for the frozen node, or one for the new leaf");
	rc = full_name(d, s->base ? s->base : s->new_leaf, s->base ? &st->base : &st->leaf, err);
	if (rc < 0)
		return rc;
	if (s->base)
		st->leaf = strdup(d->path);
	else
		st->base = strdup(d->path);
	st->old_name = st->base ? strdup(st->base) : NULL;
	return st->leaf && st->base && st->old_name ? 0 : -ENOMEM;
}

static int refuse(const struct vhd_disk *d, const struct vhd_snapshot *s, struct vhd_error *err)
{
	const struct vhd_image *leaf = vhd_leaf(d)->img;

	if (d->params.read_only)
		return error_set(err, -EROFS, "cannot snapshot '%s': it is open read-only",
				 d->path);
	if (d->depth >= VHD_CHAIN_MAX)
		return error_set(
			err, -VHD_E_TOO_DEEP,
			"cannot snapshot '%s': its chain is %u images deep, the most there "
			"may be; coalesce some first",
			d->path, d->depth);
	if (s->base && leaf->io->device)
		return error_set(err, -VHD_E_UNSUPPORTED,
				 "cannot snapshot '%s' under its name: a device cannot be renamed; "
				 "give a new leaf instead",
				 d->path);
	return 0;
}

/* The child's file: as its parent's in mode and owner, for the same program shall use it. */
static int make_temp(const struct vhd_disk *d, struct snapshot_state *st, struct vhd_io **io,
		     struct vhd_error *err)
{
	CLEANUP_FD int fd = atomic_temp(st->leaf, &st->temp);
	struct stat old;
	int rc;

	if (fd < 0)
		return error_system(err, fd, "create a file beside", st->leaf);
	if (fstat(io_file_fd(vhd_leaf(d)->img->io), &old) < 0 ||
	    fchmod(fd, old.st_mode & 07777) < 0 ||
	    (fchown(fd, old.st_uid, old.st_gid) < 0 && errno != EPERM))
		return error_system(err, -errno, "set owner and mode of", st->temp);
	rc = io_file_from_fd(fd, st->leaf,
			     IO_FILE_WRITE | (d->params.buffered ? 0 : IO_FILE_DIRECT), io, err);
	if (!rc)
		fd = -1;
	return rc;
}

static int make_child(const struct vhd_disk *d, const struct vhd_snapshot *s,
		      struct snapshot_state *st, struct vhd_io **io, struct vhd_error *err)
{
	CLEANUP_FREE struct plan *plan = malloc(sizeof(*plan));
	int rc;

	if (!plan)
		return -ENOMEM;
	rc = snapshot_plan(st->leaf, st->base, vhd_leaf(d)->img, plan, err);
	if (rc < 0)
		return rc;
	if (s->new_leaf) {
		rc = create_sparse_file(st->leaf, plan, false, err);
		st->made = !rc;
		return rc ? rc :
			    io_file_open(st->leaf,
					 IO_FILE_WRITE | (d->params.buffered ? 0 : IO_FILE_DIRECT),
					 io, err);
	}
	rc = make_temp(d, st, io, err);
	return rc ? rc : create_sparse(*io, plan, plan->metadata_end, err);
}

static int open_child(struct vhd_disk *d, struct snapshot_state *st, struct vhd_io *io,
		      struct vhd_error *err)
{
	struct vhd_image *img;
	int rc = image_open(io, 0, &img, err);

	if (rc < 0) {
		io_close(io);
		return rc;
	}
	img->early_bitmaps = true;
	img->crypt = crypt_get(vhd_leaf(d)->crypt); /* its key hash is its parent's */
	rc = lock_take(io, LOCK_WRITE, NULL, d->params.lock_wait_ms, NULL, err);
	if (!rc)
		rc = image_begin_write(img, d->params.cache_bytes / 2, err);
	if (!rc) {
		st->child = source_layer(img, NULL);
		rc = st->child ? 0 : -ENOMEM;
	}
	if (rc < 0)
		image_close(img);
	return rc;
}

/* Is @path the leaf?  Somebody may have moved files. */
static int check_name(const struct vhd_disk *d, const char *path, struct vhd_error *err)
{
	const struct vhd_io *io = vhd_leaf(d)->img->io;
	struct stat st;

	if (io->device)
		return 0;
	if (stat(path, &st) < 0)
		return error_system(err, -errno, "look at", path);
	if (d->misnamed || st.st_ino != io->inode || st.st_dev != io->device_id)
		return error_set(err, -ESTALE,
				 "cannot snapshot '%s': another file has that name now; pause and "
				 "resume the disk first",
				 d->path);
	return 0;
}

static int link_base(const struct vhd_disk *d, struct snapshot_state *st, struct vhd_error *err)
{
	int rc;

	if (link(d->path, st->base) < 0)
		return error_system(err, -errno, "make the name", st->base);
	st->linked = true;
	rc = check_name(d, st->base, err);
	if (rc < 0)
		return rc;
	rc = io_file_sync_directory(st->base);
	return rc < 0 ? error_system(err, rc, "sync the directory of", st->base) : 0;
}

int vhd_snapshot_prepare(struct vhd_snapshot *s, struct vhd_error *err)
{
	struct vhd_disk *d = vhd_disk_of(s->disk);
	struct snapshot_state *st = calloc(1, sizeof(*st));
	struct vhd_io *io = NULL;
	int rc;

	s->private = st;
	if (!st)
		return error_system(err, -ENOMEM, "snapshot", d->path);
	rc = refuse(d, s, err);
	if (!rc)
		rc = names(s, st, err);
	if (!rc)
		rc = s->base ? link_base(d, st, err) : check_name(d, d->path, err);
	if (!rc) {
		rc = make_child(d, s, st, &io, err);
		if (rc < 0)
			io_close(io);
	}
	if (!rc)
		rc = open_child(d, st, io, err);
	if (rc < 0 && rc != -ENOMEM && st->linked)
		error_prefix(err, "cannot make a child of '%s'", d->path);
	if (rc == -ENOMEM)
		error_system(err, rc, "snapshot", d->path);
	if (rc < 0)
		vhd_snapshot_free(s);
	return rc;
}

/* ── in the loop ── */

static void committed(struct map_req *req)
{
	struct vhd_disk *d = list_entry(req, struct vhd_disk, job);
	struct snapshot_state *st = d->job_owner;

	if (vhd_asks_again(d, req)) {
		map_flush(d->map, &d->job);
		pump_soon(d);
		return;
	}
	d->job_owner = NULL;
	st->done(st->arg, req->err);
}

/* What applying will need, so that it cannot fail. */
static int make_ready(struct vhd_disk *d, struct snapshot_state *st)
{
	struct vhd_layer *layers[VHD_CHAIN_MAX];
	int rc = source_start(d, st->child, false);

	if (rc < 0)
		return rc;
	layers[0] = st->child;
	memcpy(layers + 1, d->layers, d->depth * sizeof(struct vhd_layer *));
	return vhd_make_view(d, layers, d->depth + 1, &st->view);
}

void vhd_snapshot_commit(struct vhd_snapshot *s, void (*done)(void *arg, int err), void *arg)
{
	struct vhd_disk *d = vhd_disk_of(s->disk);
	struct snapshot_state *st = state_of(s);
	int rc;

	if (st->view) { /* under hold: the old leaf gets its final shape */
		d->disk.ops->quiesce(&d->disk, done, arg);
		return;
	}
	rc = make_ready(d, st);
	if (rc < 0 || !d->map) {
		done(arg, rc);
		return;
	}
	st->done = done;
	st->arg = arg;
	d->job_owner = st;
	d->job = (struct map_req){ .ready = committed };
	map_flush(d->map, &d->job);
	pump_soon(d);
}

void vhd_snapshot_apply(struct vhd_snapshot *s, const char **leaf)
{
	struct vhd_disk *d = vhd_disk_of(s->disk);
	struct snapshot_state *st = state_of(s);
	struct vhd_view *old;

	vhd_leaf(d)->img->writing = false;
	old = d->view;
	d->view = NULL;
	vhd_use_view(d, st->view);
	st->view = old; /* closed in a thread: it may be large */
	memmove(d->layers + 1, d->layers, d->depth * sizeof(struct vhd_layer *));
	d->layers[0] = st->child;
	d->depth++;
	st->child = NULL;
	d->map = vhd_leaf(d)->img->map;
	d->has_parent = true;
	vhd_share_cache(d);
	d->disk.block_bytes = vhd_leaf(d)->img->block_sectors * VHD_SECTOR;
	free(d->path);
	d->path = st->leaf;
	st->leaf = NULL;
	st->applied = true;
	*leaf = d->path;
}

/* ── switching ── */

/* The time of the parent, now that it is not written any more: one sector. */
static int store_parent_time(const struct vhd_disk *d, struct vhd_layer *child,
			     struct vhd_error *err)
{
	struct vhd_image *img = child->img;
	uint8_t raw[VHD_HEADER_BYTES];
	struct stat st;
	int rc;

	if (fstat(io_file_fd(vhd_leaf(d)->img->io), &st) < 0)
		return error_system(err, -errno, "look at", d->path);
	img->header.parent_timestamp = footer_time_from_unix(st.st_mtime);
	header_encode(&img->header, raw);
	rc = io_write(img->io, raw, VHD_SECTOR, img->header_offset);
	if (!rc)
		rc = io_sync(img->io);
	return rc < 0 ? error_system(err, rc, "write the header of", img->io->name) : 0;
}

/* A growth that failed may have left another footer than ours with the map (map_resize). */
static int hide(struct vhd_disk *d, bool hidden, struct vhd_error *err)
{
	struct vhd_image *img = vhd_leaf(d)->img;
	uint8_t raw[VHD_FOOTER_BYTES];
	int rc;

	if (img->type == VHD_TYPE_RAW)
		return 0;
	if (img->map)
		img->footer_offset = map_footer_offset(img->map);
	img->footer.hidden = hidden;
	rc = image_store_footers(img, err);
	footer_encode(&img->footer, raw);
	if (img->map)
		map_set_footer(img->map, raw, !rc);
	return rc;
}

static int take_name(struct vhd_disk *d, struct snapshot_state *st, struct vhd_error *err)
{
	int rc;

	if (rename(st->temp, st->leaf) < 0)
		return error_system(err, -errno, "rename to", st->leaf);
	rc = io_file_sync_directory(st->leaf);
	if (!rc)
		return 0;
	/* which of the two has the name after a crash is open: back to the old leaf.  Where that fails
	 * too the base's name is the only one the old leaf has, and the child above it is empty: both
	 * stay, and who opens the leaf by its name reads what is written from now on. */
	st->linked = false;
	d->misnamed = rename(st->base, st->leaf) < 0 || io_file_sync_directory(st->leaf) < 0;
	free(st->temp);
	st->temp = NULL;
	return error_system(err, rc, "sync the directory of", st->leaf);
}

bool vhd_snapshot_is_quick(const struct vhd_snapshot *s)
{
	return engine_file_in_memory(vhd_leaf(vhd_disk_of(s->disk))->file) &&
	       engine_file_in_memory(state_of(s)->child->file);
}

int vhd_snapshot_switch(struct vhd_snapshot *s, struct vhd_error *err)
{
	struct vhd_disk *d = vhd_disk_of(s->disk);
	struct snapshot_state *st = state_of(s);
	struct vhd_io *old = vhd_leaf(d)->img->io;
	const uint8_t *child_id = st->child->img->footer.uuid;
	int rc = lock_take(old, LOCK_READ_THROUGH, child_id, d->params.lock_wait_ms, NULL, err);

	if (rc < 0)
		return rc;
	/* hidden first: it changes the parent's time too */
	if (s->new_leaf)
		rc = hide(d, true, err);
	if (!rc)
		rc = store_parent_time(d, st->child, err);
	if (!rc && s->base)
		rc = take_name(d, st, err);
	if (rc < 0) {
		if (s->new_leaf)
			(void)hide(d, false, NULL);
		lock_drop(old, LOCK_READ_THROUGH, child_id);
		return rc;
	}
	lock_drop(old, LOCK_WRITE, NULL);
	st->switched = true;
	if (s->base) {
		free(st->temp);
		st->temp = NULL;
		io_file_set_name(old, st->old_name);
		st->old_name = NULL;
	}
	return 0;
}

void vhd_snapshot_drop(struct vhd_snapshot *s)
{
	struct snapshot_state *st = state_of(s);

	view_close(st->view);
	st->view = NULL;
	if (st->child)
		source_stop(st->child);
}

void vhd_snapshot_free(struct vhd_snapshot *s)
{
	struct snapshot_state *st = state_of(s);

	if (!st)
		return;
	source_free(st->child);
	view_close(st->view);
	if (!st->switched) {
		if (st->temp)
			unlink(st->temp);
		if (st->made)
			unlink(st->leaf);
		if (st->linked)
			unlink(st->base);
		if (st->linked || st->made)
			(void)io_file_sync_directory(st->base);
	}
	free(st->temp);
	free(st->leaf);
	free(st->base);
	free(st->old_name);
	free(st);
	s->private = NULL;
}
