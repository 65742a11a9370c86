/* reopen.c - a file opened anew under the descriptor it has */
#include "reopen.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "libvhd/error.h"
#include "libvhd/image.h"
#include "libvhd/io-file.h"

/* Is @fresh what @item has open?  It is closed where that cannot be told or is not so. */
static int check(const struct reopen_item *item, struct vhd_io *fresh, struct vhd_error *err)
{
	struct vhd_image *img;
	bool same = true;
	int rc = 0;

	if (fresh->inode != item->io->inode || fresh->device_id != item->io->device_id) {
		io_close(fresh);
		return error_set(err, -ESTALE, "'%s' is another file now", item->io->name);
	}
	if (!item->id)
		return 0;
	rc = image_open(fresh, 0, &img, err);
	if (rc < 0) {
		io_close(fresh);
		return rc;
	}
	same = !memcmp(img->footer.uuid, item->id, VHD_UUID_BYTES);
	if (same)
		img->io = NULL; /* stays ours */
	image_close(img);
	return same ? 0 :
		      error_set(err, -ESTALE, "'%s' has another image in it now", item->io->name);
}

/* Does the old description still know what it has open, and take the lock again? */
static bool lock_again(const struct reopen_item *item)
{
	struct stat st;

	return fstat(io_file_fd(item->io), &st) == 0 && st.st_ino == item->io->inode &&
	       st.st_dev == item->io->device_id &&
	       !lock_take(item->io, item->role, item->child, 0, NULL, NULL);
}

/* Locks of the old description stand in the way of the new one's. */
static int move_locks(const struct reopen_item *item, struct vhd_io *fresh, bool *lost,
		      struct vhd_error *err)
{
	int rc;

	lock_release(item->io);
	rc = lock_take(fresh, item->role, item->child, item->wait_ms, NULL, err);
	if (rc < 0)
		*lost = !lock_again(item);
	return rc;
}

int reopen_item(const struct reopen_item *item, bool *lost, struct vhd_error *err)
{
	const struct vhd_io *io = item->io;
	struct vhd_io *fresh;
	int rc;

	if (io->device)
		return 0;
	rc = io_file_open(io->name,
			  (io->writable ? IO_FILE_WRITE : 0) | (io->direct ? IO_FILE_DIRECT : 0),
			  &fresh, err);
	if (rc < 0)
		return rc;
	rc = check(item, fresh, err);
	if (rc < 0)
		return rc;
	if (item->locked)
		rc = move_locks(item, fresh, lost, err);
	if (rc < 0) {
		io_close(fresh);
		return rc;
	}
	rc = io_file_replace(item->io, fresh);
	if (rc < 0)
		return error_system(err, rc, "open", io->name);
	if (item->file)
		engine_file_renew(item->file);
	return 0;
}

void reopen_disown(const struct reopen_item *item)
{
	(void)io_file_disown(item->io);
	if (item->file)
		engine_file_renew(item->file);
}
