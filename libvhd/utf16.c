/* utf16.c - UTF-16 to and from UTF-8, strictly
 *
 * Refused: unpaired surrogates, overlong or truncated UTF-8, code points above
 * U+10FFFF, and control characters, which have no business in a path.
 */
#include "utf16.h"

#include <errno.h>

#include "base/endian.h"

static bool is_control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0);
}

static uint16_t unit_load(const uint8_t *p, enum utf16_order order)
{
	return order == UTF16_LE ? le16_load(p) : be16_load(p);
}

static size_t put_utf8(uint32_t c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

int utf16_decode(const uint8_t *in, size_t units, enum utf16_order order, char *out, size_t room)
{
	size_t n = 0;

	for (size_t i = 0; i < units; i++) {
		uint32_t c = unit_load(in + i * 2, order);
		char utf8[4];
		size_t length;

		if (!c)
			break;
		if (c >= 0xd800 && c < 0xe000) {
			uint32_t low = i + 1 < units ? unit_load(in + i * 2 + 2, order) : 0;

			if (c >= 0xdc00 || low < 0xdc00 || low >= 0xe000)
				return -EILSEQ;
			c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
			i++;
		}
		if (is_control(c))
			return -EILSEQ;
		length = put_utf8(c, utf8);
		if (n + length >= room)
			return -ENAMETOOLONG;
		for (size_t k = 0; k < length; k++)
			out[n++] = utf8[k];
	}
	if (!room)
		return -ENAMETOOLONG;
	out[n] = 0;
	return (int)n;
}

/* One code point from *@text on; moves it.  False: not valid UTF-8. */
static bool next_utf8(const char **text, uint32_t *out)
{
	static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
	const unsigned char *p = (const unsigned char *)*text;
	uint32_t c = *p;
	unsigned more = c < 0x80 ? 0 :
			c < 0xc0 ? 9 :
			c < 0xe0 ? 1 :
			c < 0xf0 ? 2 :
			c < 0xf8 ? 3 :
				   9;

	if (more == 9)
		return false;
	if (more)
		c &= 0x3fu >> more;
	for (unsigned i = 1; i <= more; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return false;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return false;
	*text += more + 1;
	*out = c;
	return true;
}

static void unit_store(uint8_t *p, enum utf16_order order, uint16_t unit)
{
	if (order == UTF16_LE)
		le16_store(p, unit);
	else
		be16_store(p, unit);
}

int utf16_encode(const char *in, enum utf16_order order, uint8_t *out, size_t max_units)
{
	size_t n = 0;

	while (*in) {
		uint32_t c;

		if (!next_utf8(&in, &c) || is_control(c))
			return -EILSEQ;
		if (n + (c >= 0x10000 ? 2 : 1) > max_units)
			return -ENAMETOOLONG;
		if (c >= 0x10000) {
			c -= 0x10000;
			unit_store(out + 2 * n++, order, (uint16_t)(0xd800 + (c >> 10)));
			c = 0xdc00 + (c & 0x3ff);
		}
		unit_store(out + 2 * n++, order, (uint16_t)c);
	}
	return (int)n;
}

bool utf16_valid_utf8(const char *text)
{
	uint32_t c;

	while (*text)
		if (!next_utf8(&text, &c) || is_control(c))
			return false;
	return true;
}
