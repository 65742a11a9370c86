/* images.h - chains of images in a store: made, opened as a host does, and looked at */
#ifndef TEST_IMAGES_H
#define TEST_IMAGES_H

#include "drive.h"
#include "store.h"

#define IMAGES_DEPTH_MAX 10u

/* An empty image @name with room in its metadata for @room sectors; a child of @parent unless that is
 * NULL.  Returns its block size in bytes. */
uint32_t images_make(struct store *store, struct rng *rng, const char *name, const char *parent,
		     uint64_t sectors, uint64_t room);
/* A host's way to open images: @spec is "vhd:/NAME"; parents by the names that are stored. */
int images_open(struct store *store, const char *spec, const struct disk_params *params,
		struct disk **out, struct vhd_error *err);
/* How many layers the chain of @leaf has. */
unsigned images_depth(struct store *store, const char *leaf);
bool images_hidden(struct store *store, const char *name);
/* As the next writer leaves it who changes nothing. */
void images_mend(struct store *store, const char *name);
/* The next writer finds the chain of @leaf fit for use, and every sector, by the reader of its own,
 * is one that @drive allows; it holds just that then, and has the size that is there. */
void images_look(struct store *store, const char *leaf, struct drive *drive, const char *when);
/* Is @name one of the chain of @leaf? */
bool images_in_chain(struct store *store, const char *leaf, const char *name);

#endif
