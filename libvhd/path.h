/* path.h - paths as parent locators write them
 *
 * Pure text: nothing here touches the file system.
 */
#ifndef VHD_PATH_H
#define VHD_PATH_H

#include <stdbool.h>
#include <stddef.h>

/* Longest path text we read from or write into an image, with its NUL. */
#define PATH_TEXT_MAX 4096

/* Relative path from directory @from_dir to file @to, both absolute, without
 * symbolic links, "." or "..".  "./b.vhd", "../x/b.vhd".
 * 0 or -ENAMETOOLONG. */
int path_relative(const char *from_dir, const char *to, char *out, size_t room);

/* POSIX to Windows: '/' becomes '\', a relative path starts with '.\' or
 * '..\'.  -EILSEQ when the name itself contains a '\'. */
int path_to_windows(const char *posix, char *out, size_t room);

/* Windows to POSIX: '\' becomes '/'.  @absolute tells about drive letters,
 * UNC and \\?\ forms, which have no meaning here.  0 or -ENAMETOOLONG. */
int path_from_windows(const char *windows, char *out, size_t room, bool *absolute);

/* file:// URL (RFC 3986 escapes) to a path.  @absolute: the URL names an
 * absolute path; "file://./x" and "file:x" are relative.  A host other than empty,
 * "localhost" or "." is -EREMOTE; bad escapes, %00 are -EILSEQ. */
int path_from_url(const char *url, char *out, size_t room, bool *absolute);
/* Relative paths become file://./x; bytes outside the unreserved set and '/'
 * are escaped. */
int path_to_url(const char *posix, char *out, size_t room);

/* The part after the last '/'; whole text when there is none. */
const char *path_base_name(const char *path);

/* Text quoted for a message: control characters and quotes as \xNN, at most
 * @room - 1 bytes, "…" at the end when cut.  Returns @out. */
const char *path_quote(const char *text, char *out, size_t room);

#endif
