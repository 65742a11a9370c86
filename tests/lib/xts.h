/* xts.h - AES-XTS as its standard says it, slow and not the library's */
#ifndef TESTS_XTS_H
#define TESTS_XTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* @length: a multiple of 16.  @key_bytes: 32 or 64. */
void xts_sector(const uint8_t *key, size_t key_bytes, bool encrypt, uint64_t number, uint8_t *data,
		size_t length);

#endif
