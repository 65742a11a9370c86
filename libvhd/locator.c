/* locator.c - parent locator texts, decoded strictly */
#include "locator.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "error.h"
#include "utf16.h"

const char *locator_name(uint32_t code, char *buf)
{
	static const struct {
		uint32_t code;
		const char *name;
	} names[] = {
		{ 0, "none" },
		{ LOCATOR_WI2R, "Wi2r" },
		{ LOCATOR_WI2K, "Wi2k" },
		{ LOCATOR_W2RU, "W2ru" },
		{ LOCATOR_W2KU, "W2ku" },
		{ LOCATOR_MAC, "Mac " },
		{ LOCATOR_MACX, "MacX" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].code == code)
			return names[i].name;
	snprintf(buf, 16, "0x%08x", code);
	return buf;
}

/* 8-bit text without its trailing NULs; valid UTF-8, nothing odd inside. */
static int decode_bytes(const uint8_t *data, size_t bytes, char *out, size_t room)
{
	while (bytes && !data[bytes - 1])
		bytes--;
	if (bytes >= room)
		return -ENAMETOOLONG;
	if (memchr(data, 0, bytes))
		return -EILSEQ;
	memcpy(out, data, bytes);
	out[bytes] = 0;
	return utf16_valid_utf8(out) ? 0 : -EILSEQ;
}

/* Little-endian is the rule; ASCII characters with the zero byte first, and
 * none with it second, mean that a writer had it the other way round. */
static enum utf16_order order_of(const uint8_t *data, size_t units)
{
	size_t low_first = 0, high_first = 0;

	for (size_t i = 0; i < units; i++) {
		low_first += data[2 * i] && !data[2 * i + 1];
		high_first += !data[2 * i] && data[2 * i + 1];
	}
	return high_first > low_first ? UTF16_BE : UTF16_LE;
}

static int decode_units(const uint8_t *data, size_t bytes, char *out, size_t room)
{
	size_t units = bytes / 2;
	int rc;

	while (units && !data[2 * units - 2] && !data[2 * units - 1])
		units--;
	for (size_t i = 0; i < units; i++)
		if (!data[2 * i] && !data[2 * i + 1])
			return -EILSEQ;
	rc = bytes % 2 ? -EILSEQ : utf16_decode(data, units, order_of(data, units), out, room);
	return rc < 0 ? rc : 0;
}

static int decode_windows(const char *text, struct locator_path *out)
{
	bool absolute = false;
	int rc = path_from_windows(text, out->text, sizeof(out->text), &absolute);

	out->windows_absolute = absolute;
	out->relative = !absolute && text[0] != '\\' && text[0] != '/';
	return rc;
}

static int decode_url(const char *text, struct locator_path *out)
{
	bool absolute = false;
	int rc = path_from_url(text, out->text, sizeof(out->text), &absolute);

	out->windows_absolute = false;
	out->relative = !absolute;
	if (!rc && !utf16_valid_utf8(out->text))
		rc = -EILSEQ;
	return rc;
}

int locator_decode(uint32_t code, const uint8_t *data, size_t bytes, struct locator_path *out,
		   struct vhd_error *err)
{
	char text[PATH_TEXT_MAX], name[16];
	struct locator_path path;
	int rc;

	switch (code) {
	case LOCATOR_W2RU:
	case LOCATOR_W2KU:
		rc = decode_units(data, bytes, text, sizeof(text));
		if (!rc)
			rc = decode_windows(text, &path);
		break;
	case LOCATOR_WI2R:
	case LOCATOR_WI2K:
		rc = decode_bytes(data, bytes, text, sizeof(text));
		if (!rc)
			rc = decode_windows(text, &path);
		break;
	case LOCATOR_MACX:
		rc = decode_bytes(data, bytes, text, sizeof(text));
		if (!rc)
			rc = decode_url(text, &path);
		break;
	default:
		rc = -ENOTSUP;
	}
	if (!rc && !path.text[0])
		rc = -EILSEQ;
	if (rc)
		return error_set(err, -VHD_E_LOCATOR, "parent locator %s: %s",
				 locator_name(code, name),
				 rc == -ENOTSUP	     ? "no path that can be read here" :
				 rc == -ENAMETOOLONG ? "its path is too long" :
				 rc == -EREMOTE	     ? "its URL names another host" :
						       "its text is not a valid path");
	*out = path;
	return 0;
}

static int encode(uint32_t code, const char *path, uint8_t *out, size_t room)
{
	char text[PATH_TEXT_MAX];
	int rc;

	if (!utf16_valid_utf8(path))
		return -EILSEQ;
	if (code == LOCATOR_MACX) {
		rc = path_to_url(path, text, sizeof(text));
	} else if (code == LOCATOR_W2RU || code == LOCATOR_W2KU) {
		rc = path_to_windows(path, text, sizeof(text));
		if (rc)
			return rc;
		rc = utf16_encode(text, UTF16_LE, out, room / 2);
		return rc < 0 ? rc : rc * 2;
	} else if (code == LOCATOR_WI2R || code == LOCATOR_WI2K) {
		rc = path_to_windows(path, text, sizeof(text));
		for (const char *p = text; !rc && *p; p++) /* 8 bit, of an unknown code page */
			if ((unsigned char)*p >= 0x80)
				rc = -EILSEQ;
	} else {
		rc = -EILSEQ;
	}
	if (rc)
		return rc;
	if (strlen(text) > room)
		return -ENAMETOOLONG;
	memcpy(out, text, strlen(text));
	return (int)strlen(text);
}

int locator_encode(uint32_t code, const char *path, uint8_t *out, size_t room,
		   struct vhd_error *err)
{
	char name[16], quoted[256];
	int rc = encode(code, path, out, room);

	if (rc >= 0)
		return rc;
	return error_set(err, -VHD_E_NAME, "cannot store '%s' as parent locator %s: %s",
			 path_quote(path, quoted, sizeof(quoted)), locator_name(code, name),
			 rc == -ENAMETOOLONG ?
				 "the path is too long" :
				 "it holds a backslash, a control character or is not UTF-8");
}

bool locator_usable(const struct vhd_locator_entry *e, uint64_t file_bytes)
{
	bool wide = e->code == LOCATOR_W2RU || e->code == LOCATOR_W2KU;
	bool narrow = e->code == LOCATOR_WI2R || e->code == LOCATOR_WI2K || e->code == LOCATOR_MACX;

	return (wide || narrow) && e->length && e->length <= LOCATOR_LENGTH_MAX &&
	       !(wide && e->length % 2) && number_within(e->offset, e->length, file_bytes);
}
