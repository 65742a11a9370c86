/* store.h - a directory of images in memory: names that change, and what a power cut leaves of them
 *
 * The linker sends what libvhd and the VHD driver ask of files (part.mk, --wrap) here.  A store
 * knows the names as they are and what happened to them since the directory was last synced; a power cut
 * keeps the first so many of those changes, as journalling file systems do, and of each file what
 * io-mem.h lets it.  One store is in use at a time.
 */
#ifndef TEST_STORE_H
#define TEST_STORE_H

#include "tests/lib/io-mem.h"
#include "tests/lib/rng.h"

#define STORE_NAME 32u

struct store;

struct store *store_new(void);
/* No io may be open on its files.  NULL is fine. */
void store_free(struct store *store);
/* The one that names are looked up in from now on; @rng, borrowed, for what fails. */
void store_use(struct store *store, struct rng *rng);
/* What a power cut now would leave, as a store of its own; inodes keep their numbers. */
struct store *store_cut(const struct store *store, struct rng *rng);

/* @disk passes; durable at once.  Names are absolute, in one directory: "/a.vhd". */
void store_put(struct store *store, const char *name, struct mem_disk *disk);
struct mem_disk *store_find(const struct store *store, const char *name); /* NULL: none */
/* Remove the name, durably. */
void store_remove(struct store *store, const char *name);
/* Names there are; what libvhd made and did not take away is among them. */
unsigned store_count(const struct store *store);
const char *store_name(const struct store *store, unsigned i);

/* So many of 1000 calls fail. */
void store_faults(unsigned per_mille);
/* The io that engine_file_open's descriptor stands for. */
struct vhd_io *store_io(int fd);

#endif
