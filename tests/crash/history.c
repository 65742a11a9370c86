/* history.c - hashes of what each sector held since the last flush */
#include "history.h"

#include <stdlib.h>
#include <string.h>

#define SECTOR	  512u
#define FNV_BASIS 0xcbf29ce484222325ull
#define FNV_PRIME 0x100000001b3ull

static uint64_t hash(const uint8_t *sector)
{
	uint64_t h = FNV_BASIS;

	for (unsigned i = 0; i < SECTOR; i += 8) {
		uint64_t word;

		memcpy(&word, sector + i, 8);
		h = (h ^ word) * FNV_PRIME;
		h ^= h >> 29;
	}
	return h;
}

static void push(struct history *h, uint64_t sector, uint64_t value)
{
	if (h->count[sector] == h->room[sector]) {
		h->room[sector] = h->room[sector] ? 2 * h->room[sector] : 4;
		h->hashes[sector] = realloc(h->hashes[sector],
					    h->room[sector] * sizeof(*h->hashes[sector]));
		if (!h->hashes[sector])
			abort();
	}
	h->hashes[sector][h->count[sector]++] = value;
}

void history_begin(struct history *h, const uint8_t *data, uint64_t sectors)
{
	memset(h, 0, sizeof(*h));
	h->sectors = sectors;
	history_write(h, data, 0, sectors);
}

void history_end(struct history *h)
{
	for (uint64_t i = 0; i < h->sectors; i++)
		free(h->hashes[i]);
	h->sectors = 0;
}

void history_write(struct history *h, const uint8_t *data, uint64_t first, uint64_t count)
{
	for (uint64_t i = first; i < first + count; i++)
		push(h, i, hash(data + i * SECTOR));
}

void history_flush(struct history *h)
{
	for (uint64_t i = 0; i < h->sectors; i++) {
		if (h->count[i] == h->doubt[i])
			continue;
		h->hashes[i][0] = h->hashes[i][h->count[i] - 1];
		h->count[i] = 1;
		h->doubt[i] = 0;
		h->lost[i] = false;
	}
}

void history_fail_write(struct history *h, uint64_t first, uint64_t count)
{
	for (uint64_t i = first; i < first + count; i++)
		if (h->count[i] > 1)
			h->doubt[i] = h->count[i];
}

void history_fail_flush(struct history *h)
{
	for (uint64_t i = 0; i < h->sectors; i++)
		if (h->count[i] > 1)
			h->lost[i] = true;
	history_fail_write(h, 0, h->sectors);
}

bool history_allows(const struct history *h, const uint8_t *data, uint64_t *sector)
{
	static const uint8_t zeros[SECTOR];

	for (uint64_t i = 0; i < h->sectors; i++) {
		uint64_t value = hash(data + i * SECTOR);
		unsigned k = 0;

		if (h->lost[i] && !memcmp(data + i * SECTOR, zeros, SECTOR))
			continue;
		while (k < h->count[i] && h->hashes[i][k] != value)
			k++;
		if (k == h->count[i]) {
			*sector = i;
			return false;
		}
	}
	return true;
}
