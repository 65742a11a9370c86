/* sha256.h - the hash of FIPS 180-4, of bytes in order, by libcrypto */
#ifndef VHD_SHA256_H
#define VHD_SHA256_H

#include <stddef.h>
#include <stdint.h>

#include "vhd.h"

#define SHA256_BYTES 32u

/* Zeroed: nothing to drop. */
struct sha256 {
	void *context; /* libcrypto's; owned */
	int failed;    /* negative: an addition failed; sha256_end() says so */
};

/* 0 or -ENOMEM.  What was in @h is not looked at. */
VHD_MUST int sha256_begin(struct sha256 *h);
/* After the end: nothing. */
void sha256_add(struct sha256 *h, const void *data, size_t length);
/* @to, begun or zeroed, becomes what @from is now.  0 or -ENOMEM. */
VHD_MUST int sha256_copy(struct sha256 *to, const struct sha256 *from);
/* The hash of all that was added, and @h is dropped.  0, or negative: there is no hash. */
VHD_MUST int sha256_end(struct sha256 *h, uint8_t out[SHA256_BYTES]);
void sha256_drop(struct sha256 *h);

#endif
