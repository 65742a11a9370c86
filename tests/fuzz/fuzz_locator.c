/* fuzz_locator.c - a byte for the kind, then the text of a parent locator
 *
 * The same bytes are also read as a name of the header, a URL, a path for a message.
 */
#include <errno.h>

#include "fuzz.h"
#include "libvhd/locator.h"
#include "libvhd/utf16.h"

static void locator(uint32_t code, const uint8_t *data, size_t bytes)
{
	uint8_t stored[3 * PATH_TEXT_MAX];
	struct vhd_error err = { 0 };
	struct locator_path p;
	int n;

	if (locator_decode(code, data, bytes, &p, &err) < 0) {
		MUST(err.code == -VHD_E_LOCATOR && err.text[0]);
		return;
	}
	MUST(p.text[0] && strlen(p.text) < PATH_TEXT_MAX && utf16_valid_utf8(p.text));
	MUST(!(p.relative && (p.text[0] == '/' || p.windows_absolute)));
	n = locator_encode(LOCATOR_MACX, p.text, stored, sizeof(stored), NULL);
	if (n > 0 && !p.windows_absolute && n < PATH_TEXT_MAX) {
		struct locator_path again;

		MUST(!locator_decode(LOCATOR_MACX, stored, (size_t)n, &again, NULL));
		MUST(again.relative == p.relative);
		MUST(strstr(again.text, p.text) || !strncmp(p.text, "./", 2));
	}
}

static void name(const uint8_t *data, size_t bytes, enum utf16_order order)
{
	char text[3 * 256 + 1];
	uint8_t units[2 * 256];
	size_t count = bytes / 2 < 256 ? bytes / 2 : 256;
	int n = utf16_decode(data, count, order, text, sizeof(text));

	if (n < 0) {
		MUST(n == -EILSEQ);
		return;
	}
	MUST((size_t)n == strlen(text) && utf16_valid_utf8(text));
	n = utf16_encode(text, order, units, 256);
	MUST(n >= 0 && (size_t)n <= count && !memcmp(units, data, 2 * (size_t)n));
}

static void texts(const uint8_t *data, size_t bytes)
{
	char text[600], out[700], quoted[64];
	bool absolute;

	if (bytes > sizeof(text) - 1)
		bytes = sizeof(text) - 1;
	memcpy(text, data, bytes);
	text[bytes] = '\0';
	(void)path_from_url(text, out, sizeof(out), &absolute);
	(void)path_from_windows(text, out, sizeof(out), &absolute);
	(void)path_to_windows(text, out, sizeof(out));
	(void)path_to_url(text, out, sizeof(out));
	path_quote(text, quoted, sizeof(quoted));
	MUST(strlen(quoted) < sizeof(quoted));
	if (utf16_valid_utf8(text))
		MUST(utf16_valid_utf8(quoted));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint32_t codes[] = { LOCATOR_W2RU, LOCATOR_W2KU, LOCATOR_WI2R,
					  LOCATOR_WI2K, LOCATOR_MACX, LOCATOR_MAC };

	if (!size)
		return 0;
	locator(codes[data[0] % 6], data + 1, size - 1);
	name(data + 1, size - 1, data[0] & 64 ? UTF16_LE : UTF16_BE);
	texts(data + 1, size - 1);
	return 0;
}
