/* bits.c - runs of bits, a 64-bit word at a time */
#include "bits.h"

#include <string.h>

#include "endian.h"
#include "number.h"

/* First bit of [from, end) that is not @value; @end if there is none.  Reads
 * only bytes that hold bits of the range. */
static uint64_t find_other(const uint8_t *map, uint64_t from, uint64_t end, bool value)
{
	const uint64_t flip = value ? UINT64_MAX : 0;
	uint64_t pos = from;

	if (pos < end && pos % 8) {
		uint32_t byte = (uint32_t)((map[pos / 8] ^ flip) & 0xff) << (24 + pos % 8);

		if (byte)
			return number_min(pos + (unsigned)__builtin_clz(byte), end);
		pos += 8 - pos % 8;
	}
	for (; pos < end && end - pos >= 64; pos += 64) {
		uint64_t word = be64_load(map + pos / 8) ^ flip;

		if (word)
			return pos + (unsigned)__builtin_clzll(word);
	}
	for (; pos < end; pos += 8) {
		uint32_t byte = (uint32_t)((map[pos / 8] ^ flip) & 0xff) << 24;

		if (byte)
			return number_min(pos + (unsigned)__builtin_clz(byte), end);
	}
	return end;
}

void bits_set_range(uint8_t *map, uint64_t from, uint64_t count)
{
	uint64_t end = from + count;

	for (; from < end && from % 8; from++)
		bits_set(map, from);
	if (end - from >= 8) {
		memset(map + from / 8, 0xff, (end - from) / 8);
		from += (end - from) / 8 * 8;
	}
	for (; from < end; from++)
		bits_set(map, from);
}

bool bits_all_set(const uint8_t *map, uint64_t from, uint64_t count)
{
	return find_other(map, from, from + count, true) == from + count;
}

bool bits_all_clear(const uint8_t *map, uint64_t from, uint64_t count)
{
	return find_other(map, from, from + count, false) == from + count;
}

uint64_t bits_run(const uint8_t *map, uint64_t from, uint64_t end)
{
	return find_other(map, from, end, bits_test(map, from)) - from;
}

uint64_t bits_count(const uint8_t *map, uint64_t count)
{
	uint64_t pos, total = 0;

	for (pos = 0; count - pos >= 64; pos += 64)
		total += (unsigned)__builtin_popcountll(be64_load(map + pos / 8));
	for (; count - pos >= 8; pos += 8)
		total += (unsigned)__builtin_popcount(map[pos / 8]);
	if (pos < count) /* the last byte's bits past @count do not count */
		total += (unsigned)__builtin_popcount(map[pos / 8] >> (8 - (count - pos)));
	return total;
}
