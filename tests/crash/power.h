/* power.h - a directory of real files that can lose power
 *
 * The programs here are linked so that libvhd's system calls pass through sys.c, which tells
 * this journal what they did to the files of one directory: contents (io-mem.h, one disk a
 * file), names, and what was synced.  Everything runs on real files and the real code; a power
 * cut is written out as another directory.
 *
 *  - bytes of a file are durable when it was synced, sector by sector as io-mem.h says
 *  - a name is durable when its directory was synced; until then a cut keeps the first so
 *    many changes of names, as file systems with journals do, whatever it keeps of contents
 *  - other directories are not touched by any of this
 */
#ifndef TEST_CRASH_POWER_H
#define TEST_CRASH_POWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/lib/io-mem.h"

/* From now on; what is there is durable.  An absolute path without links.  No file in it is open. */
void power_begin(const char *directory);
void power_end(void);
/* Call @fn after each change and sync.  The journal does not change meanwhile; what @fn does in
 * other directories is no matter. */
void power_watch(void (*fn)(void));
/* Is anything not durable? */
bool power_pending(void);
/* What a power cut now would leave, as the only contents of @into.  Modification times are kept. */
void power_cut(enum mem_cut how, uint64_t seed, const char *into);

/* ── told by sys.c, after the fact; any descriptor, any path ── */

void power_opened(int fd, int flags);
void power_duplicated(int fd, int copy);
void power_closing(int fd);
void power_wrote(int fd, const void *data, size_t length, uint64_t offset);
void power_zeroed(int fd, uint64_t offset, uint64_t length);
/* Its size is what fstat says. */
void power_resized(int fd);
/* @failed: what was not durable stays so, for good. */
void power_synced(int fd, bool failed);
/* @from has gone, @to is there: NULL for neither.  @fd: the unnamed file that got @to, or -1. */
void power_renamed(const char *from, const char *to, int fd);

#endif
