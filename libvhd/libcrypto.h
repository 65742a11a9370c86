/* libcrypto.h - OpenSSL's library, loaded when something is first hashed or encrypted
 *
 * Linked, it would cost every start of every program more than the rest of it: most commands
 * never need it.
 */
#ifndef VHD_LIBCRYPTO_H
#define VHD_LIBCRYPTO_H

#include <openssl/evp.h>

#include "vhd.h"

/* name without its prefix EVP_ */
#define LIBCRYPTO_FUNCTIONS(X) \
	X(MD_CTX_new)          \
	X(MD_CTX_free)         \
	X(MD_CTX_copy_ex)      \
	X(DigestInit_ex)       \
	X(DigestUpdate)        \
	X(DigestFinal_ex)      \
	X(sha256)              \
	X(CIPHER_CTX_new)      \
	X(CIPHER_CTX_free)     \
	X(CipherInit_ex)       \
	X(CipherUpdate)        \
	X(aes_128_xts)         \
	X(aes_256_xts)

struct libcrypto {
#define X(name) __typeof__(EVP_##name) *name;
	LIBCRYPTO_FUNCTIONS(X)
#undef X
};

/* Its functions, the same for all threads and for ever.  NULL: it is not there, errno ELIBACC. */
const struct libcrypto *libcrypto(void);

#endif
