/* delta.c - the record of a delta */
#include "delta.h"

#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "path.h"

#define NAME_KEPT 235 /* bytes of the name, so that what is added fits, too */

void delta_record_encode(uint64_t length, const uint8_t hash[SHA256_BYTES],
			 uint8_t raw[DELTA_RECORD_BYTES])
{
	memset(raw, 0, DELTA_RECORD_BYTES);
	memcpy(raw + DELTA_RECORD_COOKIE, DELTA_COOKIE, 8);
	be32_store(raw + DELTA_RECORD_VERSION, 1);
	be64_store(raw + DELTA_RECORD_LENGTH, length);
	memcpy(raw + DELTA_RECORD_HASH, hash, SHA256_BYTES);
}

bool delta_record_is(const uint8_t raw[DELTA_RECORD_BYTES], uint64_t length,
		     const uint8_t hash[SHA256_BYTES])
{
	uint8_t wanted[DELTA_RECORD_BYTES];

	delta_record_encode(length, hash, wanted);
	return !memcmp(raw, wanted, sizeof(wanted));
}

static char *beside(const char *path, const char *suffix)
{
	const char *name = path_base_name(path);
	char *out;

	return asprintf(&out, "%.*s.%.*s.%s", (int)(name - path), path, NAME_KEPT, name, suffix) <
			       0 ?
		       NULL :
		       out;
}

char *delta_partial(const char *path)
{
	return beside(path, "delta");
}

char *delta_whole(const char *path)
{
	return beside(path, "delta.whole");
}
