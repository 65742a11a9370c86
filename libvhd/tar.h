/* tar.h - headers of POSIX archives (ustar, pax), and sparse members as GNU tar 1.0 stores them
 *
 * Pure: bytes in, struct out.  A member is, in blocks of 512 bytes:
 *
 *   | header 'x' | records … | header '0' | data … |            records: size, path, GNU.sparse.*
 *
 * and data of a sparse one begins with a map in decimal lines, padded to a block: how many
 * segments, then offset and length of each.
 */
#ifndef VHD_TAR_H
#define VHD_TAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vhd.h"

#define TAR_BLOCK	512u
#define TAR_NAME_MAX	255u /* of a member; what a file system takes */
#define TAR_RECORDS_MAX (64u << 10)

struct tar_member {
	char name[TAR_NAME_MAX + 1];
	uint64_t stored; /* bytes in the archive, the map included */
	bool sparse;
	uint64_t size; /* of the file */
};

/* One header block.  @size must be below 8 GiB; else 0, and a record says it. */
void tar_header_encode(const char *name, char type, uint64_t size, int64_t mtime,
		       uint8_t raw[TAR_BLOCK]);
#define TAR_OCTAL_MAX ((1ull << 33) - 1)

struct tar_header {
	char name[101];
	char type; /* '0' file, 'x' records for the next */
	uint64_t size;
	uint64_t mtime;
};
/* 0; 1: a block of zeros, the end.  -EUCLEAN: no header, a prefix, or a bad number. */
int tar_header_decode(const uint8_t raw[TAR_BLOCK], struct tar_header *out);

/* Append "LENGTH KEY=VALUE\n" to @out of @room bytes, of which @used are used; the new use.
 * 0: no room. */
size_t tar_record(char *out, size_t room, size_t used, const char *key, const char *value);

/* What @length bytes of records say, put into @out over what is there; *has_size when its size is
 * told.  Unknown keys are passed over.  -EUCLEAN. */
int tar_records_decode(const char *records, size_t length, struct tar_member *out, bool *has_size);

/* May a file of this name be made in a directory of ours: no path, no dots alone, nothing that
 * does not print? */
bool tar_name_is_plain(const char *name);

#endif
