/* wreck.h - images that are damaged on purpose, for the tests of repair and salvage
 *
 * A wreck is an image of 64 MiB with some blocks full and some partly written, as bytes in memory,
 * and what it contains.  Copies of it are damaged, mended and looked at in a directory of their
 * own, made the working directory by edit_begin().
 */
#ifndef TESTS_UNIT_WRECK_H
#define TESTS_UNIT_WRECK_H

#include <stdbool.h>
#include <stdint.h>

#include "libvhd/vhd.h"
#include "tests/lib/rng.h"

#define WRECK_SIZE (64u << 20)
#define WRECK_NAME "t.vhd"

enum wreck_kind {
	WRECK_OURS,  /* creator tap, batmap */
	WRECK_QEMU,  /* creator qem2, packed */
	WRECK_CHILD, /* differencing, on p.vhd */
	WRECK_KINDS
};

struct wreck {
	enum wreck_kind kind;
	uint8_t *bytes; /* owned: the image */
	uint64_t length;
	uint8_t *flat; /* owned: WRECK_SIZE bytes */
	uint32_t blocks, block_size;
	uint32_t *entries;   /* owned */
	uint64_t data_start; /* bytes: the lowest entry */
	struct rng rng;
};

void wreck_make(struct wreck *w, enum wreck_kind kind, uint64_t seed);
void wreck_release(struct wreck *w);

/* Write @length bytes of @bytes as WRECK_NAME; removes what repairs left. */
void wreck_store(const uint8_t *bytes, uint64_t length);
/* The file's bytes; owned by the caller. */
uint8_t *wreck_load(const char *path, uint64_t *length);

/* Ranges told as lost, and blocks that a check has doubts about. */
struct wreck_lost {
	struct vhd_lost list[4096];
	unsigned count;
};
void wreck_on_lost(void *arg, const struct vhd_lost *lost);

/* Does the image at @path read like @w->flat but in @lost?  Bytes that differ, and are not lost;
 * UINT64_MAX: it cannot be opened.  What cannot be read counts as told when @may_fail, else as
 * wrong.  *@at: the first. */
uint64_t wreck_compare(const struct wreck *w, const char *path, const struct wreck_lost *lost,
		       bool may_fail, uint64_t *at);

/* What a check says: damages; of all findings those that are repairable; warnings about bitmaps
 * go to @lost as their blocks (may be NULL). */
struct wreck_verdict {
	unsigned damages, repairable, bitmap_warnings;
	char text[512]; /* of the last repairable one, else of the last damage */
};
void wreck_check(const struct wreck *w, const char *path, struct wreck_verdict *v,
		 struct wreck_lost *lost);

#endif
