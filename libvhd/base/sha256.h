/* sha256.h - the hash of FIPS 180-4, of bytes in order */
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32u

struct sha256 {
	uint32_t state[8];
	uint64_t length; /* bytes taken */
	uint8_t block[64];
};

void sha256_begin(struct sha256 *h);
void sha256_add(struct sha256 *h, const void *data, size_t length);
/* The hash of all that was added; @h may be added to no more. */
void sha256_end(struct sha256 *h, uint8_t out[SHA256_BYTES]);

#endif
