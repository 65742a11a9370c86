/* cut-disk.c - see cut-disk.h */
#include "cut-disk.h"

#include <stdlib.h>
#include <string.h>

#define VERSIONS 64u

static const uint8_t zero[512];

void cut_init(struct cut_disk *disk, uint64_t room, struct rng *rng)
{
	memset(disk, 0, sizeof(*disk));
	disk->sector = calloc(room, sizeof(*disk->sector));
	disk->room = room;
	disk->rng = rng;
}

void cut_release(struct cut_disk *disk)
{
	for (uint64_t s = 0; s < disk->room; s++) {
		free(disk->sector[s].version);
		free(disk->sector[s].landed);
	}
	free(disk->sector);
}

const uint8_t *cut_now(const struct cut_disk *disk, uint64_t s)
{
	const struct cut_sector *d = &disk->sector[s];

	return d->count ? d->version[d->count - 1] : zero;
}

/* Forget versions [1, 1 + n). */
static void forget(struct cut_sector *d, unsigned n)
{
	memmove(d->version[1], d->version[1 + n], (size_t)(d->count - 1 - n) * 512);
	memmove(&d->landed[1], &d->landed[1 + n], (d->count - 1 - n) * sizeof(d->landed[0]));
	d->count -= n;
	d->lost = d->lost > n ? d->lost - n : 0;
}

bool cut_store(struct cut_disk *disk, uint64_t s, const uint8_t *bytes, uint64_t when)
{
	struct cut_sector *d;

	if (s >= disk->room)
		return false;
	d = &disk->sector[s];
	if (!d->version) {
		d->version = malloc(VERSIONS * 512);
		d->landed = malloc(VERSIONS * sizeof(*d->landed));
	}
	if (!d->count) { /* durable: zeros */
		memset(d->version[0], 0, 512);
		d->landed[0] = 0;
		d->count = 1;
	}
	if (d->count == VERSIONS)
		forget(d, 1);
	d->landed[d->count] = when;
	memcpy(d->version[d->count++], bytes, 512);
	if (s >= disk->size)
		disk->size = s + 1;
	return true;
}

void cut_truncate(struct cut_disk *disk, uint64_t sectors)
{
	for (uint64_t s = sectors; s < disk->size; s++)
		disk->sector[s].count = disk->sector[s].lost = 0;
	disk->size = sectors;
}

/* The newest version that had landed by @issued. */
static unsigned landed_by(const struct cut_sector *d, uint64_t issued)
{
	unsigned v = 0;

	while (v + 1 < d->count && d->landed[v + 1] <= issued)
		v++;
	return v;
}

void cut_sync(struct cut_disk *disk, uint64_t issued)
{
	for (uint64_t s = 0; s < disk->size; s++) {
		struct cut_sector *d = &disk->sector[s];
		unsigned v = landed_by(d, issued);

		if (v <= d->lost) /* clean in the cache: nothing is written */
			continue;
		memcpy(d->version[0], d->version[v], 512);
		forget(d, v);
		d->lost = 0;
	}
}

void cut_sync_failed(struct cut_disk *disk, uint64_t issued)
{
	unsigned all = (unsigned)rng_below(disk->rng, 3);

	for (uint64_t s = 0; s < disk->size; s++) {
		struct cut_sector *d = &disk->sector[s];
		unsigned v = landed_by(d, issued);

		if (v > d->lost && (all == 0 || (all == 1 && rng_chance(disk->rng, 50))))
			d->lost = v;
	}
}

unsigned cut_versions(const struct cut_disk *disk, uint64_t s)
{
	return disk->sector[s].count ? disk->sector[s].count : 1;
}

const uint8_t *cut_version(const struct cut_disk *disk, uint64_t s, unsigned i)
{
	const struct cut_sector *d = &disk->sector[s];

	if (!d->count)
		return zero;
	return i && i <= d->lost ? NULL : d->version[i];
}

const uint8_t *cut_image(struct cut_disk *disk)
{
	static uint8_t *image;
	static uint64_t bytes, used; /* of it; beyond used all is zero */
	unsigned mode = (unsigned)rng_below(disk->rng, 4);

	if (bytes < disk->room * 512) {
		bytes = disk->room * 512;
		free(image);
		image = calloc(bytes, 1);
		used = 0;
	}
	memset(image, 0, used);
	used = disk->size * 512;
	for (uint64_t s = 0; s < disk->size; s++) {
		unsigned n = disk->sector[s].count, v = 0;
		const uint8_t *from;

		if (!n)
			continue;
		if (mode)
			v = mode == 1 ? n - 1 : (unsigned)rng_below(disk->rng, n);
		from = cut_version(disk, s, v);
		memcpy(image + s * 512, from ? from : cut_version(disk, s, 0), 512);
	}
	return image;
}
