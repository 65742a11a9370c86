/* bits.h - strings of bits, most significant bit of each byte first
 *
 * The order of VHD sector bitmaps and of the batmap: bit k is in byte k / 8
 * under mask 0x80 >> (k % 8).
 */
#ifndef BASE_BITS_H
#define BASE_BITS_H

#include <stdbool.h>
#include <stdint.h>

static inline bool bits_test(const uint8_t *map, uint64_t k)
{
	return map[k / 8] & (0x80u >> (k % 8));
}

static inline void bits_set(uint8_t *map, uint64_t k)
{
	map[k / 8] = (uint8_t)(map[k / 8] | (0x80u >> (k % 8)));
}

static inline void bits_clear(uint8_t *map, uint64_t k)
{
	map[k / 8] = (uint8_t)(map[k / 8] & ~(0x80u >> (k % 8)));
}

/* Set bits [from, from + count). */
void bits_set_range(uint8_t *map, uint64_t from, uint64_t count);

/* Are all bits of [from, from + count) set?  True when count is 0. */
bool bits_all_set(const uint8_t *map, uint64_t from, uint64_t count);

/* Are all bits of [from, from + count) clear?  True when count is 0. */
bool bits_all_clear(const uint8_t *map, uint64_t from, uint64_t count);

/* Length of the run of bits equal to bit @from, starting at @from, at most
 * @end - @from.  @from < @end.  Examines whole words: cost about (run / 64). */
uint64_t bits_run(const uint8_t *map, uint64_t from, uint64_t end);

/* Number of set bits in [0, count). */
uint64_t bits_count(const uint8_t *map, uint64_t count);

#endif
