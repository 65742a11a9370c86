/* error.c - what each code means, and filling in struct vhd_error
 *
 * The one table of this library: code, short name, sentence, exit status.
 * Numbers of errno are not in it: the C library has their names and sentences,
 * and their exit status is the number itself.  Scripts retry on 5 (EIO) and 11
 * (EAGAIN), so no code of ours maps to those.
 */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "path.h"

#define EXIT_DIFFERENT 1
#define EXIT_CANCELLED 130

struct error_row {
	const char *name;
	const char *sentence;
	int status;
};

#define ROW(code) [VHD_E_##code - VHD_E_FIRST]

static const struct error_row rows[] = {
	ROW(NOT_VHD) = { "not-vhd", "not a VHD: no footer at either end", EUCLEAN },
	ROW(FOOTER_CHECKSUM) = { "footer-checksum", "footer checksum is wrong", EUCLEAN },
	ROW(FOOTER_FIELD) = { "footer-field", "footer has an impossible value", EUCLEAN },
	ROW(FOOTERS_DIFFER) = { "footers-differ", "the two footers disagree", EUCLEAN },
	ROW(FOOTER_MISSING) = { "footer-missing", "one of the two footers is missing or damaged",
				EUCLEAN },
	ROW(HEADER_COOKIE) = { "header-cookie", "no header where the footer says", EUCLEAN },
	ROW(HEADER_CHECKSUM) = { "header-checksum", "header checksum is wrong", EUCLEAN },
	ROW(HEADER_FIELD) = { "header-field", "header has an impossible value", EUCLEAN },
	ROW(BLOCK_SIZE) = { "block-size", "block size is not a power of two from 4 KiB to 64 MiB",
			    EOPNOTSUPP },
	ROW(BAT_PLACE) = { "bat-place", "block table is outside the file or over other metadata",
			   EUCLEAN },
	ROW(BAT_ENTRY) = { "bat-entry", "block lies outside the data area", EUCLEAN },
	ROW(BAT_OVERLAP) = { "bat-overlap", "two blocks claim the same space", EUCLEAN },
	ROW(BITMAP) = { "bitmap", "sector bitmap is unreadable or contradicts the data", EUCLEAN },
	ROW(BATMAP) = { "batmap", "batmap is damaged", EUCLEAN },
	ROW(LOCATOR) = { "locator", "parent locator is damaged", EUCLEAN },
	ROW(TRUNCATED) = { "truncated", "file ends before data that it names", EUCLEAN },
	ROW(TRAILING) = { "trailing", "bytes after the footer", EUCLEAN },
	ROW(UNSUPPORTED) = { "unsupported", "this kind of image is not supported", EOPNOTSUPP },
	ROW(SPLIT) = { "split", "split images are not supported", EOPNOTSUPP },
	ROW(ENCRYPTED) = { "encrypted", "data is encrypted and no key was given", EOPNOTSUPP },
	ROW(POISONED) = { "poisoned", "a journalled operation is under way or was interrupted",
			  EBUSY },
	ROW(HIDDEN) = { "hidden", "image is hidden: an inner node, not to be used as a disk",
			EBUSY },
	ROW(COALESCING) = { "coalescing", "image is half merged and right only through its child",
			    EBUSY },
	ROW(BUSY) = { "busy", "image is in use", EBUSY },
	ROW(SHARED_PARENT) = { "shared-parent", "another child depends on this parent", EBUSY },
	ROW(PARENT_MISSING) = { "parent-missing", "parent not found", ENOENT },
	ROW(PARENT_ID) = { "parent-id", "parent is another image than the child names", EUCLEAN },
	ROW(PARENT_DENIED) = { "parent-denied", "parent lies outside the allowed directories",
			       EACCES },
	ROW(CYCLE) = { "cycle", "image is its own ancestor", ELOOP },
	ROW(TOO_DEEP) = { "too-deep", "chain is deeper than supported", ELOOP },
	ROW(LIMIT) = { "limit", "chain would be deeper than the limit given", ENOSPC },
	ROW(RANGE) = { "range", "beyond the end of the disk", ERANGE },
	ROW(TOO_BIG) = { "too-big", "beyond what the format reaches", ERANGE },
	ROW(NAME) = { "name", "text cannot be represented", EILSEQ },
	ROW(NOT_FILE) = { "not-file", "neither a regular file nor a block device", EINVAL },
	ROW(ARGUMENT) = { "argument", "argument makes no sense", EINVAL },
	ROW(DIFFERENT) = { "different", "contents differ", EXIT_DIFFERENT },
	ROW(AZURE) = { "azure", "the target platform would refuse this image", EUCLEAN },
	ROW(KEY) = { "key", "the wrong key, or none that can be used", EINVAL },
	ROW(JOURNAL) = { "journal", "journal is damaged, or of another image", EUCLEAN },
	/* space is lost, nothing is wrong: a note */
	ROW(DELTA) = { "delta", "no delta, or corrupted on its way", EUCLEAN },
	ROW(ARCHIVE) = { "archive", "no archive of a chain, or corrupted on its way", EUCLEAN },
	ROW(LEAKED) = { "leaked", "space that nothing refers to", 0 },
	ROW(CANCELLED) = { "cancelled", "cancelled", EXIT_CANCELLED },
};
_Static_assert(sizeof(rows) / sizeof(rows[0]) == VHD_E_LAST - VHD_E_FIRST + 1, "one row per code");

/* Codes are compared without their sign: both -VHD_E_X and VHD_E_X are understood. */
static unsigned magnitude(int code)
{
	return code < 0 ? 0u - (unsigned)code : (unsigned)code;
}

static const struct error_row *find_row(int code)
{
	unsigned n = magnitude(code);

	return n >= VHD_E_FIRST && n <= VHD_E_LAST ? &rows[n - VHD_E_FIRST] : NULL;
}

const char *vhd_strerror(int code)
{
	const struct error_row *row = find_row(code);
	const char *sentence;

	if (row)
		return row->sentence;
	if (magnitude(code) == ELIBACC) /* the only library that is not there from the start */
		return "OpenSSL's libcrypto cannot be loaded; is it installed?";
	sentence = strerrordesc_np((int)magnitude(code));
	return sentence ? sentence : "unknown error";
}

const char *vhd_error_name(int code)
{
	const struct error_row *row = find_row(code);
	const char *name;

	if (row)
		return row->name;
	name = strerrorname_np((int)magnitude(code));
	return name ? name : "unknown";
}

int vhd_exit_status(int code)
{
	const struct error_row *row = find_row(code);
	unsigned n = magnitude(code);

	if (row)
		return row->status;
	/* a status has 8 bits: what is no errno number must not look like success */
	return n < 256 ? (int)n : EINVAL;
}

const char *vhd_version(void)
{
	return VHD_VERSION_TEXT;
}

/* @text becomes err->text: one line, whatever a file name smuggled in. */
static void keep_text(struct vhd_error *err, const char *text)
{
	size_t i;

	for (i = 0; text[i] && i < sizeof(err->text) - 1; i++) {
		unsigned char c = (unsigned char)text[i];

		err->text[i] = c < 0x20 || c == 0x7f ? '?' : text[i];
	}
	err->text[i] = '\0';
}

/* The text is composed aside: arguments may point into the old one. */
static void fill(struct vhd_error *err, int code, const char *format, va_list args)
{
	char text[sizeof(err->text)];

	vsnprintf(text, sizeof(text), format, args);
	err->code = code;
	err->has = 0;
	err->offset = err->expected = err->found = 0;
	keep_text(err, text);
}

int error_set(struct vhd_error *err, int code, const char *format, ...)
{
	va_list args;

	if (!err)
		return code;
	va_start(args, format);
	fill(err, code, format, args);
	va_end(args);
	return code;
}

int error_at(struct vhd_error *err, int code, uint64_t offset, const char *format, ...)
{
	va_list args;

	if (!err)
		return code;
	va_start(args, format);
	fill(err, code, format, args);
	va_end(args);
	err->has = VHD_HAS_OFFSET;
	err->offset = offset;
	return code;
}

int error_value(struct vhd_error *err, int code, uint64_t offset, uint64_t expected, uint64_t found,
		const char *format, ...)
{
	va_list args;

	if (!err)
		return code;
	va_start(args, format);
	fill(err, code, format, args);
	va_end(args);
	err->has = VHD_HAS_OFFSET | VHD_HAS_VALUES;
	err->offset = offset;
	err->expected = expected;
	err->found = found;
	return code;
}

int error_place(struct vhd_error *err, int code, const char *file, uint64_t base)
{
	char quoted[512], text[sizeof(err->text)], place[40] = "";

	if (!err)
		return code;
	if (err->has & VHD_HAS_OFFSET) {
		err->offset += base;
		snprintf(place, sizeof(place), ", at offset %llu", (unsigned long long)err->offset);
	}
	/* a fact too long for the line loses its end, not its place */
	snprintf(text, sizeof(text), "'%s': %.*s%s", path_quote(file, quoted, sizeof(quoted)),
		 (int)(sizeof(text) - sizeof(quoted) - sizeof(place) - 8), err->text, place);
	keep_text(err, text);
	return err->code;
}

int error_system(struct vhd_error *err, int code, const char *verb, const char *file)
{
	char quoted[512];

	return error_set(err, code, "cannot %s '%s': %s", verb,
			 path_quote(file, quoted, sizeof(quoted)), vhd_strerror(code));
}

void error_prefix(struct vhd_error *err, const char *format, ...)
{
	char text[2 * sizeof(err->text)];
	va_list args;
	size_t used;

	if (!err)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	used = strlen(text);
	snprintf(text + used, sizeof(text) - used, ": %s", err->text);
	keep_text(err, text);
}
