/* cut-disk.h - storage in memory that knows what a power cut may leave of it
 *
 * Each sector has what is durable and what was written since, in order; a cut
 * keeps any one of them.  A failed sync may lose what it covered: it stays in
 * the cache, so reads see it, but no later sync makes it durable.
 */
#ifndef TEST_CUT_DISK_H
#define TEST_CUT_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "rng.h"

struct cut_sector { /* [0] is durable, the rest was written since */
	uint8_t (*version)[512];
	uint64_t *landed; /* when */
	unsigned count;
	unsigned lost; /* versions 1 .. lost are in the cache only */
};

struct cut_disk {
	struct cut_sector *sector;
	uint64_t room; /* sectors it may grow to */
	uint64_t size; /* sectors now */
	struct rng *rng;
};

void cut_init(struct cut_disk *disk, uint64_t room, struct rng *rng);
void cut_release(struct cut_disk *disk);

const uint8_t *cut_now(const struct cut_disk *disk, uint64_t s);
/* False: beyond the room. */
bool cut_store(struct cut_disk *disk, uint64_t s, const uint8_t *bytes, uint64_t when);
void cut_truncate(struct cut_disk *disk, uint64_t sectors);
/* All that had landed by @issued is durable; or, of a sync that failed, some of it lost. */
void cut_sync(struct cut_disk *disk, uint64_t issued);
void cut_sync_failed(struct cut_disk *disk, uint64_t issued);

/* What a cut may leave of a sector: versions 0 .. count - 1; NULL: not this one. */
unsigned cut_versions(const struct cut_disk *disk, uint64_t s);
const uint8_t *cut_version(const struct cut_disk *disk, uint64_t s, unsigned i);
/* One whole image that a cut may leave, of @room sectors, valid until the next call. */
const uint8_t *cut_image(struct cut_disk *disk);

#endif
