/* tar.c - headers of POSIX archives */
#include "tar.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "utf16.h"

enum tar_layout {
	TAR_NAME = 0,
	TAR_MODE = 100,
	TAR_UID = 108,
	TAR_GID = 116,
	TAR_SIZE = 124,
	TAR_MTIME = 136,
	TAR_CHECKSUM = 148,
	TAR_TYPE = 156,
	TAR_MAGIC = 257,
	TAR_VERSION = 263,
	TAR_PREFIX = 345,
};

static uint32_t checksum(const uint8_t raw[TAR_BLOCK])
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < TAR_BLOCK; i++)
		sum += i >= TAR_CHECKSUM && i < TAR_CHECKSUM + 8 ? ' ' : raw[i];
	return sum;
}

void tar_header_encode(const char *name, char type, uint64_t size, int64_t mtime,
		       uint8_t raw[TAR_BLOCK])
{
	char *text = (char *)raw;

	memset(raw, 0, TAR_BLOCK);
	snprintf(text + TAR_NAME, 101, "%s", name);
	memcpy(text + TAR_MODE, "0000644", 8);
	memcpy(text + TAR_UID, "0000000", 8);
	memcpy(text + TAR_GID, "0000000", 8);
	snprintf(text + TAR_SIZE, 12, "%011llo",
		 (unsigned long long)(size <= TAR_OCTAL_MAX ? size : 0));
	snprintf(text + TAR_MTIME, 12, "%011llo",
		 (unsigned long long)(mtime > 0 && (uint64_t)mtime <= TAR_OCTAL_MAX ? mtime : 0));
	raw[TAR_TYPE] = (uint8_t)type;
	memcpy(text + TAR_MAGIC, "ustar", 6);
	memcpy(text + TAR_VERSION, "00", 2);
	snprintf(text + TAR_CHECKSUM, 8, "%06o", checksum(raw));
	text[TAR_CHECKSUM + 7] = ' ';
}

/* Octal digits, after blanks and before a blank, NUL or the field's end. */
static bool octal(const uint8_t *field, size_t length, uint64_t *out)
{
	size_t i = 0;

	*out = 0;
	while (i < length && field[i] == ' ')
		i++;
	if (i == length || field[i] < '0' || field[i] > '7')
		return false;
	for (; i < length && field[i] >= '0' && field[i] <= '7'; i++)
		*out = *out << 3 | (field[i] - '0'); /* at most 12 digits */
	for (; i < length; i++)
		if (field[i] != ' ' && field[i] != 0)
			return false;
	return true;
}

int tar_header_decode(const uint8_t raw[TAR_BLOCK], struct tar_header *out)
{
	uint64_t sum;
	size_t i = 0;

	while (i < TAR_BLOCK && !raw[i])
		i++;
	if (i == TAR_BLOCK)
		return 1;
	if (memcmp(raw + TAR_MAGIC, "ustar", 5) != 0 || !octal(raw + TAR_CHECKSUM, 8, &sum) ||
	    sum != checksum(raw) || !octal(raw + TAR_SIZE, 12, &out->size) ||
	    !octal(raw + TAR_MTIME, 12, &out->mtime) || raw[TAR_PREFIX])
		return -EUCLEAN;
	memcpy(out->name, raw + TAR_NAME, 100);
	out->name[100] = 0;
	out->type = raw[TAR_TYPE] ? (char)raw[TAR_TYPE] : '0';
	return 0;
}

static size_t digits(size_t n)
{
	size_t d = 1;

	while (n >= 10) {
		n /= 10;
		d++;
	}
	return d;
}

size_t tar_record(char *out, size_t room, size_t used, const char *key, const char *value)
{
	size_t rest = strlen(key) + strlen(value) + 3; /* blank, '=', newline */
	size_t length = rest + digits(rest);

	if (rest + digits(length) > length) /* the length counts itself */
		length = rest + digits(length);
	if (used > room || length + 1 > room - used)
		return 0;
	snprintf(out + used, room - used, "%zu %s=%s\n", length, key, value);
	return used + length;
}

/* One record's value, @length bytes, is not NUL-terminated. */
static int take_record(const char *key, size_t key_length, const char *value, size_t length,
		       struct tar_member *out, bool *has_size)
{
	char number[24];
	bool name = (key_length == 4 && !memcmp(key, "path", 4)) ||
		    (key_length == 15 && !memcmp(key, "GNU.sparse.name", 15));
	bool size = key_length == 4 && !memcmp(key, "size", 4);
	bool real = key_length == 19 && !memcmp(key, "GNU.sparse.realsize", 19);
	bool major = key_length == 16 && !memcmp(key, "GNU.sparse.major", 16);
	bool minor = key_length == 16 && !memcmp(key, "GNU.sparse.minor", 16);

	if (name) {
		if (!length || length > TAR_NAME_MAX || memchr(value, 0, length))
			return -EUCLEAN;
		memcpy(out->name, value, length);
		out->name[length] = 0;
		return 0;
	}
	if (!size && !real && !major && !minor)
		return key_length >= 10 && !memcmp(key, "GNU.sparse", 10) ? -EUCLEAN : 0;
	if (!length || length >= sizeof(number))
		return -EUCLEAN;
	memcpy(number, value, length);
	number[length] = 0;
	if (major || minor) { /* only this way of theirs is read */
		out->sparse = true;
		return strcmp(number, major ? "1" : "0") != 0 ? -EUCLEAN : 0;
	}
	if (number[0] < '0' || number[0] > '9' || strpbrk(number, "xX") ||
	    !number_parse(number, size ? &out->stored : &out->size))
		return -EUCLEAN;
	*has_size |= size;
	return 0;
}

int tar_records_decode(const char *records, size_t length, struct tar_member *out, bool *has_size)
{
	while (length) {
		size_t n = 0, at = 0;
		const char *equals;
		int rc;

		for (; at < length && at < 6 && records[at] >= '0' && records[at] <= '9'; at++)
			n = n * 10 + (size_t)(records[at] - '0');
		if (!at || at == length || records[at] != ' ' || n < at + 3 || n > length ||
		    records[n - 1] != '\n')
			return -EUCLEAN;
		at++;
		equals = memchr(records + at, '=', n - at);
		if (!equals)
			return -EUCLEAN;
		rc = take_record(records + at, (size_t)(equals - records) - at, equals + 1,
				 (size_t)(records + n - 1 - (equals + 1)), out, has_size);
		if (rc < 0)
			return rc;
		records += n;
		length -= n;
	}
	return 0;
}

bool tar_name_is_plain(const char *name)
{
	size_t n = strlen(name);

	return n && n <= TAR_NAME_MAX && !strchr(name, '/') && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0 && utf16_valid_utf8(name);
}
