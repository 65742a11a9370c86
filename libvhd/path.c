/* path.c - text of paths: Windows, URL and POSIX forms */
#include "path.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

const char *path_base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Append @length bytes to the text in @out, of @room bytes. */
static int append(char *out, size_t room, const char *text, size_t length)
{
	size_t have = strlen(out);

	if (length >= room - have)
		return -ENAMETOOLONG;
	memcpy(out + have, text, length);
	out[have + length] = 0;
	return 0;
}

int path_relative(const char *from_dir, const char *to, char *out, size_t room)
{
	size_t common = 0, i = 0;
	int rc;

	if (!room)
		return -ENAMETOOLONG;
	/* common: length of the shared directories, up to and without a slash */
	for (;; i++) {
		bool end = !from_dir[i] || from_dir[i] == '/';

		if (end && to[i] == '/')
			common = i;
		if (!from_dir[i] || from_dir[i] != to[i])
			break;
	}
	if (from_dir[i] == 0 && i > 0 && from_dir[i - 1] == '/') /* "/" or "dir/" */
		common = i - 1;
	out[0] = 0;
	rc = 0;
	for (const char *p = from_dir + common; *p && !rc; p++)
		if (*p == '/' && p[1] && p[1] != '/')
			rc = append(out, room, "../", 3);
	if (!rc && !out[0])
		rc = append(out, room, "./", 2);
	to += common;
	while (*to == '/')
		to++;
	return rc ? rc : append(out, room, to, strlen(to));
}

int path_to_windows(const char *posix, char *out, size_t room)
{
	bool dotted = !strncmp(posix, "./", 2) || !strncmp(posix, "../", 3);
	int rc;

	if (strchr(posix, '\\'))
		return -EILSEQ;
	if (!room)
		return -ENAMETOOLONG;
	out[0] = 0;
	rc = posix[0] == '/' || dotted ? 0 : append(out, room, "./", 2);
	if (!rc)
		rc = append(out, room, posix, strlen(posix));
	if (rc)
		return rc;
	for (char *p = out; *p; p++)
		if (*p == '/')
			*p = '\\';
	return 0;
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

int path_from_windows(const char *windows, char *out, size_t room, bool *absolute)
{
	bool drive = is_letter(windows[0]) && windows[1] == ':';
	bool unc = windows[0] == '\\' && windows[1] == '\\';

	if (strlen(windows) >= room)
		return -ENAMETOOLONG;
	strcpy(out, windows);
	for (char *p = out; *p; p++)
		if (*p == '\\')
			*p = '/';
	*absolute = drive || unc;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static int unescape(const char *in, char *out, size_t room)
{
	size_t n = 0;

	for (; *in; in++) {
		char c = *in;

		if (c == '%') {
			int high = hex_digit(in[1]), low = high < 0 ? -1 : hex_digit(in[2]);

			if (low < 0 || (high == 0 && low == 0))
				return -EILSEQ;
			c = (char)(high << 4 | low);
			in += 2;
		}
		if (n + 1 >= room)
			return -ENAMETOOLONG;
		out[n++] = c;
	}
	if (!room)
		return -ENAMETOOLONG;
	out[n] = 0;
	return 0;
}

int path_from_url(const char *url, char *out, size_t room, bool *absolute)
{
	const char *path;
	int rc;

	if (strncasecmp(url, "file:", 5) != 0)
		return -EILSEQ;
	path = url + 5;
	if (!strncmp(path, "//", 2)) {
		size_t host;

		path += 2;
		host = strcspn(path, "/");
		if (host == 1 && path[0] == '.') { /* file://./x: relative */
			rc = unescape(path, out, room);
			*absolute = false;
			return rc;
		}
		if (host && !(host == 9 && !strncasecmp(path, "localhost", 9)))
			return -EREMOTE;
		path += host;
	}
	rc = unescape(path, out, room);
	if (!rc)
		*absolute = out[0] == '/';
	return rc;
}

static bool is_unreserved(char c)
{
	return is_letter(c) || (c >= '0' && c <= '9') || (c && strchr("-._~/", c));
}

int path_to_url(const char *posix, char *out, size_t room)
{
	bool dotted = !strncmp(posix, "./", 2);
	int rc;

	if (!room)
		return -ENAMETOOLONG;
	out[0] = 0;
	rc = append(out, room, "file://", 7);
	if (!rc && posix[0] != '/' && !dotted)
		rc = append(out, room, "./", 2);
	for (; *posix && !rc; posix++) {
		char escape[4];

		if (is_unreserved(*posix)) {
			rc = append(out, room, posix, 1);
		} else {
			snprintf(escape, sizeof(escape), "%%%02X", (unsigned char)*posix);
			rc = append(out, room, escape, 3);
		}
	}
	return rc;
}

/* A byte of a UTF-8 character that is not its first. */
static bool is_continuation(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

const char *path_quote(const char *text, char *out, size_t room)
{
	size_t n = 0;

	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		bool escape = c < 0x20 || c == 0x7f || c == '\'' || c == '\\';
		size_t need = escape ? 4 : 1;

		if (n + need + 4 > room) {	      /* the mark of a cut, three bytes of UTF-8 */
			if (is_continuation(*text)) { /* not in the middle of a character */
				while (n && is_continuation(out[n - 1]))
					n--;
				if (n && (unsigned char)out[n - 1] >= 0xc0)
					n--;
			}
			snprintf(out + n, room - n, "%s", room - n > 3 ? "…" : "");
			return out;
		}
		if (escape)
			n += (size_t)snprintf(out + n, room - n, "\\x%02X", c);
		else
			out[n++] = (char)c;
	}
	out[n] = 0;
	return out;
}
