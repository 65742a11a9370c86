/* lock.h - who may do what beside whom
 *
 * OFD byte-range locks on the image's own inode, by role.  Bytes:
 *   T = 2^62 used as a top, D = T + 1 data writer, H = T + 2 header,
 *   K = T + 3 parked (paused server),
 *   C + (first 48 bits of a child's id), C = 2^62 + 2^52: used through that child.
 * doc/locking.md has the table of roles.
 */
#ifndef VHD_LOCK_H
#define VHD_LOCK_H

#include <fcntl.h>
#undef LOCK_WRITE /* fcntl.h has one, of mandatory locks, which are no more */

#include "io.h"

enum lock_role {
	LOCK_PEEK,	      /* nothing */
	LOCK_READ_TOP,	      /* T shared */
	LOCK_READ_THROUGH,    /* C + child shared */
	LOCK_WRITE,	      /* D exclusive: `write`, a server on its leaf */
	LOCK_PARKED,	      /* K exclusive: a paused server */
	LOCK_COALESCE_INTO,   /* D, T and all C but the child's, exclusive */
	LOCK_COALESCE_SOURCE, /* D shared */
	LOCK_SNAPSHOT_PARENT, /* D shared */
	LOCK_HEADER,	      /* H exclusive */
	LOCK_SET,	      /* H and D exclusive */
	LOCK_MOVE,	      /* all but K, exclusive */
};

/* Take what @role needs on @io, all or nothing; waits up to @wait_ms for
 * conflicting locks of a process that just died (the default of the tools is
 * 0 for live holders: it returns at once when the holder is a living process).
 * @child: first id of the child for LOCK_READ_THROUGH and LOCK_COALESCE_INTO (16 bytes),
 * else NULL.  Locks live until lock_release or the close of @io.
 * ENOLCK (NFS without lockd) and EOPNOTSUPP are taken as "no locks here": 0, with *unsupported
 * set when that pointer is given.
 * Errors: -VHD_E_BUSY with the holder's name: nothing that this call took is kept, but
 * bytes of the role that were held before are let go too.  Exclusive bytes need a writable
 * @io (-EBADF). */
int lock_take(struct vhd_io *io, enum lock_role role, const uint8_t *child, unsigned wait_ms,
	      bool *unsupported, struct vhd_error *err);
void lock_release(struct vhd_io *io);
/* Let the bytes of @role go, keep others. */
void lock_drop(struct vhd_io *io, enum lock_role role, const uint8_t *child);

#endif
