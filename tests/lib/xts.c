/* xts.c - XTS made of the block cipher alone (IEEE 1619), to compare with */
#include "xts.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

static void block(const uint8_t *key, size_t bytes, bool encrypt, const uint8_t *in, uint8_t *out)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	const EVP_CIPHER *cipher = bytes == 16 ? EVP_aes_128_ecb() : EVP_aes_256_ecb();
	int length;

	if (!ctx || !EVP_CipherInit_ex(ctx, cipher, NULL, key, NULL, encrypt) ||
	    !EVP_CIPHER_CTX_set_padding(ctx, 0) || !EVP_CipherUpdate(ctx, out, &length, in, 16))
		abort();
	EVP_CIPHER_CTX_free(ctx);
}

/* Times x in GF(2^128), the first byte the lowest. */
static void twice(uint8_t t[16])
{
	unsigned carry = 0;

	for (unsigned i = 0; i < 16; i++) {
		unsigned next = t[i] >> 7;

		t[i] = (uint8_t)(t[i] << 1 | carry);
		carry = next;
	}
	if (carry)
		t[0] ^= 0x87;
}

void xts_sector(const uint8_t *key, size_t key_bytes, bool encrypt, uint64_t number, uint8_t *data,
		size_t length)
{
	uint8_t tweak[16] = { 0 };

	for (unsigned i = 0; i < 8; i++)
		tweak[i] = (uint8_t)(number >> 8 * i);
	block(key + key_bytes / 2, key_bytes / 2, true, tweak, tweak);
	for (size_t at = 0; at < length; at += 16) {
		uint8_t b[16];

		for (unsigned i = 0; i < 16; i++)
			b[i] = data[at + i] ^ tweak[i];
		block(key, key_bytes / 2, encrypt, b, b);
		for (unsigned i = 0; i < 16; i++)
			data[at + i] = b[i] ^ tweak[i];
		twice(tweak);
	}
}
