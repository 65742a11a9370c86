/* reopen.h - a file opened anew under the descriptor it has, after its storage failed for long
 *
 * A descriptor that lost its state on the server (NFS) never heals; one that is opened by name may.
 * It must be the same file with the same image in it, and its locks are taken again; then the
 * number stands for the new description, and whoever uses it goes on.
 */
#ifndef TAPDISK_REOPEN_H
#define TAPDISK_REOPEN_H

#include "libvhd/io.h"
#include "libvhd/lock.h"
#include "tapdisk/engine/engine.h"

struct reopen_item {
	struct vhd_io *io;	  /* borrowed; its name is its path */
	struct engine_file *file; /* borrowed; NULL: none uses it */
	const uint8_t *id;	  /* borrowed: of the image; NULL: raw */
	bool locked;		  /* by: */
	enum lock_role role;
	const uint8_t *child; /* borrowed; as in lock_take */
	unsigned wait_ms;
};

/* Blocking, any thread; the file may be in use, but nothing that was not acknowledged yet may
 * be written meanwhile.  Devices: nothing to do.  Fails: as it was, unless *@lost: somebody else has
 * locked it since, it must not be written any more. */
int reopen_item(const struct reopen_item *item, bool *lost, struct vhd_error *err);
/* It is somebody else's: nothing that is still under way here reaches it. */
void reopen_disown(const struct reopen_item *item);

#endif
