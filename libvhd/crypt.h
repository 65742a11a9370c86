/* crypt.h - AES-XTS of a disk's sectors, and the hash that says which key it is
 *
 * The only user of libcrypto.  What is on the disk (doc/format.md, "Encryption"): each
 * sector of 512 bytes for itself, its number on the virtual disk as the tweak; the key's hash
 * with a nonce in the batmap header.  A sector that is all zero on the disk is no ciphertext:
 * nobody has written it, and it reads as zeros.
 */
#ifndef VHD_CRYPT_H
#define VHD_CRYPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vhd.h"

/* A key has a page of its own, kept out of core dumps and, where the system lets us, of swap; wiped
 * when the last user lets go.  32 bytes (AES-128) or 64 (AES-256); -VHD_E_KEY for others, and
 * for two equal halves, with which XTS would be no cipher to rely on. */
VHD_MUST int crypt_key_new(const void *bytes, size_t length, struct vhd_key **out,
			   struct vhd_error *err);

/* vhd_key_get, vhd_key_put, vhd_key_read and vhd_key_hash of vhd.h are implemented here. */

/* Is @hash what vhd_key_hash gives?  1, 0, or negative. */
VHD_MUST int crypt_matches(const struct vhd_key *key, const uint8_t nonce[VHD_KEY_HASH],
			   const uint8_t hash[VHD_KEY_HASH]);
/* From the system's best source. */
VHD_MUST int crypt_nonce(uint8_t nonce[VHD_KEY_HASH]);
void crypt_wipe(void *data, size_t length);

/* A cipher ready for use, by several threads at once.  As many run at the same time as once
 * did before, nothing is allocated. */
struct crypt;

VHD_MUST int crypt_open(const struct vhd_key *key, struct crypt **out);
struct crypt *crypt_get(struct crypt *crypt); /* one more user; returns it */
void crypt_put(struct crypt *crypt);	      /* NULL is fine */

/* Whole sectors, from number @sector of the disk on.  @to may be @from, else they do not
 * overlap.  -EIO: libcrypto failed, which only a broken one does. */
VHD_MUST int crypt_encrypt(struct crypt *crypt, void *to, const void *from, uint64_t sector,
			   uint64_t count);
VHD_MUST int crypt_decrypt(struct crypt *crypt, void *to, const void *from, uint64_t sector,
			   uint64_t count);

#endif
