/* number.c - numbers and sizes as people write and read them */
#include "number.h"

#include <stdio.h>
#include <string.h>

static int digit_value(char c, unsigned radix)
{
	int v = -1;

	if (c >= '0' && c <= '9')
		v = c - '0';
	else if (c >= 'a' && c <= 'f')
		v = c - 'a' + 10;
	else if (c >= 'A' && c <= 'F')
		v = c - 'A' + 10;
	return v < (int)radix ? v : -1;
}

/* Digits from *text on, at least one; *text moves behind them. */
static bool parse_digits(const char **text, unsigned radix, uint64_t *out)
{
	const char *p = *text;
	uint64_t value = 0;
	int digit;

	for (; (digit = digit_value(*p, radix)) >= 0; p++)
		if (!number_mul(value, radix, &value) ||
		    !number_add(value, (uint64_t)digit, &value))
			return false;
	if (p == *text)
		return false;
	*text = p;
	*out = value;
	return true;
}

static bool is_hex(const char *text)
{
	return text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
}

bool number_parse(const char *text, uint64_t *out)
{
	unsigned radix = is_hex(text) ? 16 : 10;
	uint64_t value;

	if (radix == 16)
		text += 2;
	if (!parse_digits(&text, radix, &value) || *text)
		return false;
	*out = value;
	return true;
}

/* What one unit of @suffix is worth in bytes; 0 when it is no suffix. */
static uint64_t suffix_bytes(const char *suffix)
{
	static const char letters[] = "kmgtp";
	const char *found;
	char c = *suffix;

	if (!c || !strcmp(suffix, "b") || !strcmp(suffix, "B"))
		return 1;
	if (!strcmp(suffix, "s"))
		return 512;
	if (c >= 'A' && c <= 'Z')
		c = (char)(c - 'A' + 'a');
	found = strchr(letters, c);
	if (!found || (suffix[1] && strcmp(suffix + 1, "B") && strcmp(suffix + 1, "iB")))
		return 0;
	return 1ull << 10 * (found - letters + 1);
}

/* The digits behind a decimal point, as *fraction / *scale in lowest decimal
 * terms.  18 digits are enough for any size that comes out whole. */
static bool parse_fraction(const char **text, uint64_t *fraction, uint64_t *scale)
{
	const char *p = *text, *end = p, *q;
	uint64_t value = 0, unit = 1;

	while (digit_value(*end, 10) >= 0)
		end++;
	if (end == p)
		return false;
	*text = end;
	while (end > p && end[-1] == '0')
		end--;
	if (end - p > 18)
		return false;
	for (q = p; q < end; q++, unit *= 10)
		value = value * 10 + (uint64_t)digit_value(*q, 10);
	*fraction = value;
	*scale = unit;
	return true;
}

bool number_parse_size(const char *text, uint64_t *out)
{
	uint64_t whole, fraction = 0, scale = 1, unit, bytes;
	unsigned __int128 part;

	if (is_hex(text)) /* "0x1b" ends in a digit, not in a suffix */
		return number_parse(text, out);
	if (!parse_digits(&text, 10, &whole))
		return false;
	if (*text == '.') {
		text++;
		if (!parse_fraction(&text, &fraction, &scale))
			return false;
	}
	unit = suffix_bytes(text);
	if (!unit || !number_mul(whole, unit, &bytes))
		return false;
	part = (unsigned __int128)fraction * unit; /* < 10^18 * 2^50 */
	if (part % scale || !number_add(bytes, (uint64_t)(part / scale), &bytes))
		return false;
	*out = bytes;
	return true;
}

const char *number_format_size(uint64_t bytes, char *buf)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	unsigned k = 0, decimals, i;
	uint64_t ten = 1, scaled;
	unsigned __int128 numerator;
	size_t used;

	while (k < 6 && bytes >> 10 * (k + 1))
		k++;
	if (k == 0) {
		snprintf(buf, 16, "%u B", (unsigned)bytes);
		return buf;
	}
	decimals = bytes >> 10 * k >= 100 ? 0 : bytes >> 10 * k >= 10 ? 1 : 2;
	for (i = 0; i < decimals; i++)
		ten *= 10;
	numerator = (unsigned __int128)bytes * ten;
	scaled = (uint64_t)((numerator + (1ull << (10 * k - 1))) >> 10 * k);
	if (k < 6 && scaled >= 1024 * ten) { /* 1023.9 KiB rounds to 1 MiB */
		scaled = ten;
		k++;
	}
	while (decimals && scaled % 10 == 0) {
		scaled /= 10;
		ten /= 10;
		decimals--;
	}
	used = (size_t)snprintf(buf, 16, "%u", (unsigned)(scaled / ten));
	if (decimals)
		used += (size_t)snprintf(buf + used, 16 - used, ".%0*u", (int)decimals,
					 (unsigned)(scaled % ten));
	snprintf(buf + used, 16 - used, " %s", units[k]);
	return buf;
}

size_t number_hex(const uint8_t *bytes, size_t count, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < count; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * count] = '\0';
	return 2 * count;
}
