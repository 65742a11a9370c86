/* changes.h - which blocks of a disk are written: a changed-block log beside a VBD (ORDER 20)
 *
 *   open ──start──► logging: mark, wait ──stop──► end ──► free
 *
 * Bits live in memory, and in the file from the next wait() on.  Writes that fail are tried again
 * with the disk's patience; a log that cannot be written is given up: the disk goes on, and the
 * file, whose flag is 0, vouches for nothing.
 */
#ifndef TAPDISK_CHANGES_H
#define TAPDISK_CHANGES_H

#include "libvhd/vhd.h"
#include "tapdisk/engine/engine.h"

struct changes;

/* Blocking, any thread: open the log @path for a disk of @size bytes, durably not consistent from now
 * on.  A smaller one grows; -VHD_E_ARGUMENT: it is that of a larger disk. */
VHD_MUST int changes_open(const char *path, uint64_t size, struct changes **out,
			  struct vhd_error *err);

/* Loop's thread.  @lost is called when the log cannot be written; text for people. */
VHD_MUST int changes_start(struct changes *changes, struct loop *loop, struct engine *engine,
			   struct retry *retry, void (*lost)(void *owner, const char *text),
			   void *owner);

/* Was it given up? */
bool changes_is_lost(const struct changes *changes);

/* These bytes will be written now.  The range lies inside the disk. */
void changes_mark(struct changes *changes, uint64_t offset, uint64_t length);

struct changes_wait { /* caller's, until done() */
	struct list link;
	void (*done)(struct changes_wait *wait);
	void *owner;
	int err; /* 0, or -ECANCELED: the retry was told to abort, wait again later */
};
/* Until what was marked before is durable.  False: it is, or the log is lost; done() is not called.
 * Else done() is called later, never before this returns. */
bool changes_wait(struct changes *changes, struct changes_wait *wait);

/* The disk has @size bytes now; nobody waits.  The file follows with the next commit, its header soon
 * after, or at the end. */
void changes_grow(struct changes *changes, uint64_t size);

/* The disk is somebody else's, who does not log here: it vouches for nothing any more. */
void changes_distrust(struct changes *changes);
/* Loop's thread, nobody waits; before end, if started. */
void changes_stop(struct changes *changes);
/* Blocking, any thread: write what is left, and the flag as it was before.  Frees.  NULL is fine. */
VHD_MUST int changes_end(struct changes *changes, struct vhd_error *err);

#endif
