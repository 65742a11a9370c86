/* bits.c - runs of bits, a word at a time */
#include "bits.h"

#include <stdbool.h>
#include <string.h>

#include "endian.h"

/* The 64 bits from bit 64 * @word on, first bit most significant. */
static uint64_t word_at(const uint8_t *map, uint64_t word)
{
	return be64_load(map + word * 8);
}

void bits_set_range(uint8_t *map, uint64_t from, uint64_t count)
{
	uint64_t end = from + count;

	while (from < end && from % 8)
		bits_set(map, from++);
	if (from < end) {
		memset(map + from / 8, 0xff, (end - from) / 8);
		from += (end - from) / 8 * 8;
	}
	while (from < end)
		bits_set(map, from++);
}

uint64_t bits_run(const uint8_t *map, uint64_t from, uint64_t end)
{
	bool set = bits_test(map, from);
	uint64_t at = from, same = set ? UINT64_MAX : 0;

	while (at < end && at % 64) {
		if (bits_test(map, at) != set)
			return at - from;
		at++;
	}
	/* only whole words that lie within the range are touched */
	while (end - at >= 64) {
		uint64_t differs = word_at(map, at / 64) ^ same;

		if (differs)
			return at + (uint64_t)__builtin_clzll(differs) - from;
		at += 64;
	}
	while (at < end && bits_test(map, at) == set)
		at++;
	return at - from;
}

bool bits_all_set(const uint8_t *map, uint64_t from, uint64_t count)
{
	return !count || (bits_test(map, from) && bits_run(map, from, from + count) == count);
}

bool bits_all_clear(const uint8_t *map, uint64_t from, uint64_t count)
{
	return !count || (!bits_test(map, from) && bits_run(map, from, from + count) == count);
}

uint64_t bits_count(const uint8_t *map, uint64_t count)
{
	uint64_t at = 0, sum = 0;

	for (; count - at >= 64; at += 64)
		sum += (uint64_t)__builtin_popcountll(word_at(map, at / 64));
	for (; at < count; at++)
		sum += bits_test(map, at);
	return sum;
}
