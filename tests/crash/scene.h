/* scene.h - chains of images in a directory, for tests that interrupt what is done to them
 *
 * Three directories: "now", where things happen, "cut", what a power cut left of it, and
 * "next".  Images are named by their level, base first: "0.vhd", "1.vhd" ...
 */
#ifndef TEST_CRASH_SCENE_H
#define TEST_CRASH_SCENE_H

#include <stdbool.h>
#include <stdint.h>

#include "libvhd/vhd.h"
#include "power.h"
#include "tests/lib/rng.h"

#define SCENE_DEPTH 5u
#define SCENE_BYTES (512u << 10) /* no disk is larger */

struct scene {
	unsigned long long seed;
	struct rng rng;
	char now[96], cut[96], next[96];
	unsigned depth;
	bool raw_base;
	bool shrunk;		    /* a disk may be smaller than its parent's */
	uint64_t size;		    /* of all disks */
	uint8_t *data[SCENE_DEPTH]; /* owned: what each level contains */
	/* counted over all seeds */
	unsigned long cuts;
};

__attribute__((format(printf, 3, 4), noreturn)) void scene_die(const struct scene *s,
							       const struct vhd_error *err,
							       const char *format, ...);
/* Dies unless @rc is 0. */
void scene_must(const struct scene *s, int rc, const struct vhd_error *err, const char *what);

/* New empty directories; @seed decides everything. */
void scene_begin(struct scene *s, unsigned long long seed);
void scene_end(struct scene *s);
/* The directories go, too. */
void scene_finish(struct scene *s);

static inline uint64_t scene_below(struct scene *s, uint64_t n)
{
	return rng_below(&s->rng, n);
}

/* One of a few static buffers. */
const char *scene_path(const char *directory, const char *name);
/* "LEVEL.vhd" in @directory. */
const char *scene_level(const char *directory, unsigned level);

/* A chain of @depth images in "now", of small blocks, with data here and there.  @fixed: bases
 * may be fixed or raw. */
void scene_chain(struct scene *s, unsigned depth, bool fixed);
/* Is the image of that level a VHD with blocks? */
bool scene_is_sparse(const struct scene *s, unsigned level);
/* Random bytes somewhere into the image at the top of @chain and into @data. */
void scene_scribble(struct scene *s, struct vhd_chain *chain, uint8_t *data);

/* The whole disk; 0 or as vhd_open and vhd_read. */
int scene_read(const struct scene *s, const char *path, bool raw, uint8_t *out,
	       struct vhd_error *err);
/* Dies unless the image contains @data.  @when: for the message. */
void scene_expect(const struct scene *s, const char *path, bool raw, const uint8_t *data,
		  const char *when);
/* What `check` of an image and its parents may find: nothing; leaked space, which a cut may
 * leave for good; and what the next writer mends: footers and batmap caught between two writes. */
enum scene_state {
	SCENE_CLEAN,
	SCENE_MENDED,
	SCENE_REVERTED, /* mended, but for zeros behind the end that hid what is below */
	SCENE_CUT,
	SCENE_RESIZED, /* cut while the size changed: the footers may differ in that */
};
void scene_check(const struct scene *s, const char *path, enum scene_state state, const char *when);

/* A directory of files goes, if it is there; how many entries of @directory begin so. */
void scene_remove(const char *directory);
unsigned scene_count(const char *directory, const char *prefix);
void scene_copy(const char *from, const char *to);

/* Run @operation in "now" under power.h; @look is called for each of a few cuts after each
 * change, with "cut" filled. */
void scene_play(struct scene *s, void (*operation)(struct scene *s), void (*look)(struct scene *s));

/* Number of seeds: @few, ten times as many in a soak, COUNT; the first: SEED or 1. */
void scene_seeds(unsigned few, unsigned long long *first, unsigned long long *count);

#endif
