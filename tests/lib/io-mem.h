/* io-mem.h - storage in memory that can lose power and fail
 *
 * A mem_disk is what would be on the shelf; ios opened on it come and go.  It
 * knows two contents: the present one, which reads return, and the durable
 * one, which a sync makes equal to the present.  Between syncs every 512-byte
 * sector written or zeroed and every change of size is an event:
 *
 *   durable content ── event, event, event … ──► present content
 *
 * A power cut keeps of the events what it likes.  Sectors are chosen one by
 * one; sizes as file systems keep them: the first so many changes.
 */
#ifndef TEST_IO_MEM_H
#define TEST_IO_MEM_H

#include "libvhd/io.h"

struct mem_disk;

/* @bytes of zeros.  A device cannot be truncated or extended. */
struct mem_disk *mem_disk_new(uint64_t bytes, bool device);
/* The present content as a disk of its own, all durable. */
struct mem_disk *mem_disk_copy(const struct mem_disk *disk);
/* No io may be open on it.  NULL is fine. */
void mem_disk_free(struct mem_disk *disk);

/* Identity of the io: device 1, inode as the disk was numbered when made. */
struct vhd_io *mem_disk_open(struct mem_disk *disk, const char *name, bool writable);

/* As the io's inode says; a copy and what a cut leaves keep it. */
uint64_t mem_disk_inode(const struct mem_disk *disk);
/* @name passes to the io. */
void mem_io_set_name(struct vhd_io *io, char *name);

enum mem_cut {
	MEM_CUT_NONE,	/* nothing since the last sync survives */
	MEM_CUT_ALL,	/* everything does */
	MEM_CUT_PREFIX, /* the first so many events */
	MEM_CUT_RANDOM, /* each on its own */
};
#define MEM_CUTS 4
/* What a power cut now would leave, as a disk of its own. */
struct mem_disk *mem_disk_cut(const struct mem_disk *disk, enum mem_cut how, uint64_t seed);

/* Events since the last sync. */
uint64_t mem_disk_pending(const struct mem_disk *disk);
/* reads + writes + syncs … so far. */
uint64_t mem_disk_operations(const struct mem_disk *disk);

/* Operation number @nth from now on (0: the next one) fails with @code < 0; @times of them.
 * A write that fails has stored half of its sectors.  After a sync that failed,
 * sectors written before it stay readable and never become durable by a later one. */
void mem_disk_fail(struct mem_disk *disk, uint64_t nth, uint64_t times, int code);
/* The next operation of the disk behind @io, one of these, fails. */
void mem_io_fail(struct vhd_io *io, int code);
/* Did an operation fail as ordered? */
bool mem_disk_failed(const struct mem_disk *disk);
/* The storage is full at this size: extending it beyond is -ENOSPC.  0: no bound. */
void mem_disk_limit(struct mem_disk *disk, uint64_t bytes);

/* Call @fn after each operation that changed something, and after each sync. */
void mem_disk_watch(struct mem_disk *disk, void (*fn)(void *arg), void *arg);

uint64_t mem_disk_size(const struct mem_disk *disk);
/* Bytes as they are now; beyond the end: zeros. */
void mem_disk_peek(const struct mem_disk *disk, void *buf, size_t length, uint64_t offset);
void mem_disk_poke(struct mem_disk *disk, const void *buf, size_t length, uint64_t offset);

#endif
