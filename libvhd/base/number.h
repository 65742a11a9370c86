/* number.h - arithmetic on sizes and offsets that come from the world
 *
 * Every sum or product of a number found in an image, on a command line or on
 * a wire goes through these: they say so when a result does not fit.
 */
#ifndef BASE_NUMBER_H
#define BASE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* @out = a + b; false (and @out untouched) when that does not fit 64 bits. */
static inline bool number_add(uint64_t a, uint64_t b, uint64_t *out)
{
	uint64_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return false;
	*out = sum;
	return true;
}

static inline bool number_mul(uint64_t a, uint64_t b, uint64_t *out)
{
	uint64_t product;

	if (__builtin_mul_overflow(a, b, &product))
		return false;
	*out = product;
	return true;
}

/* Is [offset, offset + length) within [0, limit)?  No overflow. */
static inline bool number_within(uint64_t offset, uint64_t length, uint64_t limit)
{
	return offset <= limit && length <= limit - offset;
}

/* Do [a, a + alen) and [b, b + blen) share a byte?  The sums must fit. */
static inline bool number_overlap(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
	return alen && blen && a < b + blen && b < a + alen;
}

static inline bool number_is_power_of_two(uint64_t n)
{
	return n && !(n & (n - 1));
}

/* @n rounded up to a multiple of @unit (> 0); the caller knows it fits. */
static inline uint64_t number_round_up(uint64_t n, uint64_t unit)
{
	return (n + unit - 1) / unit * unit;
}

static inline uint64_t number_round_down(uint64_t n, uint64_t unit)
{
	return n / unit * unit;
}

static inline uint64_t number_div_up(uint64_t n, uint64_t unit)
{
	return n / unit + (n % unit != 0);
}

/* Two digits a byte, lower case, into @out of 2 * @count + 1.  The digits written. */
size_t number_hex(const uint8_t *bytes, size_t count, char *out);

static inline uint64_t number_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t number_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Decimal (or 0x…) digits and nothing else.  False on anything else, or when
 * it does not fit. */
bool number_parse(const char *text, uint64_t *out);

/* As number_parse, with an optional suffix: b or B (bytes), s (512), or one of
 * K, M, G, T, P in either case (powers of 1024), optionally followed by "iB" or
 * "B"; "1.5G" is accepted when the result is whole.  0x… takes no suffix.
 * Result in bytes. */
bool number_parse_size(const char *text, uint64_t *out);

/* "1.5 GiB", "512 B": about three significant digits, for people.  @buf has at least
 * 16 bytes; returns it. */
const char *number_format_size(uint64_t bytes, char *buf);

#endif
