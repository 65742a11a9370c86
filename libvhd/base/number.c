/* number.c - numbers and sizes as text */
#include "number.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static int digit_of(char c, unsigned base)
{
	int d = -1;

	if (c >= '0' && c <= '9')
		d = c - '0';
	else if (base == 16 && isxdigit((unsigned char)c))
		d = tolower((unsigned char)c) - 'a' + 10;
	return d;
}

/* Digits from *@text on, at least one; moves *@text behind them. */
static bool digits(const char **text, unsigned base, uint64_t *out)
{
	const char *p = *text;
	uint64_t value = 0;

	if (digit_of(*p, base) < 0)
		return false;
	for (; digit_of(*p, base) >= 0; p++)
		if (!number_mul(value, base, &value) ||
		    !number_add(value, (uint64_t)digit_of(*p, base), &value))
			return false;
	*text = p;
	*out = value;
	return true;
}

static bool whole(const char **text, uint64_t *out)
{
	unsigned base = 10;

	if ((*text)[0] == '0' && ((*text)[1] == 'x' || (*text)[1] == 'X')) {
		*text += 2;
		base = 16;
	}
	return digits(text, base, out);
}

bool number_parse(const char *text, uint64_t *out)
{
	uint64_t value;

	if (!whole(&text, &value) || *text)
		return false;
	*out = value;
	return true;
}

/* The unit a suffix names; 0: none such. */
static uint64_t unit_of(const char *suffix)
{
	static const char letters[] = "KMGTP";
	const char *at;

	if (!*suffix || !strcmp(suffix, "b") || !strcmp(suffix, "B"))
		return 1;
	if (!strcmp(suffix, "s"))
		return 512;
	at = strchr(letters, toupper((unsigned char)*suffix));
	if (!at)
		return 0;
	suffix++;
	if (*suffix && strcmp(suffix, "iB") != 0 && strcmp(suffix, "B") != 0)
		return 0;
	return 1ull << (10 * (at - letters + 1));
}

bool number_parse_size(const char *text, uint64_t *out)
{
	uint64_t value, fraction = 0, scale = 1, unit, part;

	if (!whole(&text, &value))
		return false;
	if (*text == '.') {
		const char *first = ++text;

		if (!digits(&text, 10, &fraction) || text - first > 9)
			return false;
		while (first++ < text)
			scale *= 10;
	}
	unit = unit_of(text);
	if (!unit || !number_mul(value, unit, &value) || !number_mul(fraction, unit, &part) ||
	    part % scale || !number_add(value, part / scale, &value))
		return false;
	*out = value;
	return true;
}

const char *number_format_size(uint64_t bytes, char *buf)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	unsigned u = 0;

	while (value >= 999.5 && u < 6) {
		value /= 1024;
		u++;
	}
	if (u == 0 || value >= 99.95 || value == (double)(uint64_t)value)
		snprintf(buf, 16, "%.0f %s", value, units[u]);
	else
		snprintf(buf, 16, "%.*f %s", value >= 9.995 ? 1 : 2, value, units[u]);
	return buf;
}
