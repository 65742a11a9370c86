/* world.h - a chain of images in files, and what each of them must contain
 *
 * A world is one chain in a directory of its own, made and changed by random plays; a seed
 * decides everything.  Every image remembers its contents as a disk in memory.
 *
 *   world.c     the disks, names, failures
 *   play.c      what is done to the chain, through vhd.h alone
 *   compare.c   what it contains, by libvhd and by readers that share nothing with it
 */
#ifndef TEST_MODEL_WORLD_H
#define TEST_MODEL_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "libvhd/vhd.h"
#include "tests/lib/rng.h"

#define WORLD_DEPTH 64u
#define WORLD_BYTES (3u << 20) /* no disk is larger */

struct disk {
	char name[64]; /* below the directory of the world */
	uint64_t size;
	uint8_t *data; /* owned; WORLD_BYTES, zero behind the end */
	bool raw;
};

/* What was played and compared, over all seeds. */
struct world_counts {
	unsigned snapshots, writes, merges, too_small, shared, converts, moves, deepest;
	unsigned by_own, by_flat, by_7z, by_qemu;
};

struct world {
	unsigned long long seed;
	struct rng rng;
	char base[64]; /* directory of all worlds */
	char dir[96];  /* of this one; changes its name when the chain is moved */
	unsigned dirs, names;
	struct disk chain[WORLD_DEPTH]; /* base first */
	unsigned depth;
	bool plain; /* keep to what 7-Zip takes: it will be asked */
	bool odd;   /* something that 7-Zip refuses */
	bool stray; /* a child that is not of the chain still stands beside a parent */
	struct world_counts counts;
};

/* Says what happened, with the seed, and exits; the images stay.  @err may be NULL. */
__attribute__((format(printf, 3, 4), noreturn)) void world_die(const struct world *w,
							       const struct vhd_error *err,
							       const char *format, ...);

void world_begin(struct world *w, unsigned long long seed, bool plain);
void world_end(struct world *w); /* removes everything */

static inline uint64_t world_below(struct world *w, uint64_t n)
{
	return rng_below(&w->rng, n);
}

/* Path of @name; one of a few static buffers. */
const char *world_path(const struct world *w, const char *name);
struct vhd_parents world_parents(const struct world *w);
static inline struct disk *world_leaf(struct world *w)
{
	return &w->chain[w->depth - 1];
}

/* A new leaf, with what its parent contains.  Its file is the caller's business. */
void world_add(struct world *w, const char *name, uint64_t size, bool raw);
/* The chain goes on without this image; its file goes too, or stays as a stray. */
void world_drop(struct world *w, unsigned index, bool remove);
/* A name not used before. */
void world_new_name(struct world *w, char name[64]);
uint32_t world_block_size(struct world *w);

/* ── play.c: each does one thing of its kind, or nothing where it cannot be done ── */

void play_base(struct world *w);
void play_snapshot(struct world *w);
void play_write(struct world *w);
/* An image into its parent, or the leaf into any ancestor; the chain goes on from there or
 * keeps what was merged. */
void play_merge(struct world *w);
/* The whole directory; or one parent into the directory of its child. */
void play_move(struct world *w);
/* The leaf into a file "converted", compared; by qemu-img too if @others. */
void play_convert(struct world *w, bool others);

/* ── compare.c ── */

/* Every image by libvhd and the independent reader (of deep chains every @step-th from the
 * leaf); `check` finds nothing; by 7-Zip too if @others. */
void compare_chain(struct world *w, unsigned step, bool others);
void compare_own(struct world *w, const struct disk *d);
/* The first bytes of the file @name are the disk. */
void compare_file(struct world *w, const struct disk *d, const char *name, const char *by);
/* What qemu-img makes of the image, which has no parent. */
void compare_qemu(struct world *w, const struct disk *d);

#endif
