/* decoding.h - what the tests of footer and header ask of their decoders alike */
#ifndef TESTS_DECODING_H
#define TESTS_DECODING_H

#include <stddef.h>
#include <stdint.h>

#include "libvhd/vhd.h"

#define DECODING_RAW_MAX 1024
#define DECODING_OUT_MAX 4096

struct decoding {
	size_t out_bytes;	    /* of what is decoded */
	void (*good)(uint8_t *raw); /* bytes that decode */
	void (*seal)(uint8_t *raw); /* their checksum anew */
	int (*decode)(const uint8_t *raw, void *out, struct vhd_error *err);
};

/* Decoding fails with @code, says so at @offset, and leaves the output alone. */
void decoding_refuses(const struct decoding *d, const uint8_t *raw, int code, uint64_t offset);
void decoding_takes(const struct decoding *d, const uint8_t *raw, void *out);
/* Good bytes with another value in the field at @offset: refused with @code there, or taken (0). */
void decoding_with32(const struct decoding *d, unsigned offset, uint32_t value, int code);
void decoding_with64(const struct decoding *d, unsigned offset, uint64_t value, int code);

#endif
