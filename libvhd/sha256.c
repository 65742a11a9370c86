/* sha256.c - SHA-256 by libcrypto, which knows the processor's instructions for it */
#include "sha256.h"

#include <errno.h>

#include "libcrypto.h"

int sha256_begin(struct sha256 *h)
{
	const struct libcrypto *evp = libcrypto();

	h->failed = 0;
	h->context = NULL;
	if (!evp)
		return -ELIBACC;
	h->context = evp->MD_CTX_new();
	if (h->context && evp->DigestInit_ex(h->context, evp->sha256(), NULL))
		return 0;
	sha256_drop(h);
	return -ENOMEM;
}

void sha256_add(struct sha256 *h, const void *data, size_t length)
{
	if (h->context && !h->failed && !libcrypto()->DigestUpdate(h->context, data, length))
		h->failed = -EIO;
}

int sha256_copy(struct sha256 *to, const struct sha256 *from)
{
	if (!to->context)
		to->context = libcrypto()->MD_CTX_new();
	if (!to->context || !libcrypto()->MD_CTX_copy_ex(to->context, from->context))
		return -ENOMEM;
	to->failed = from->failed;
	return 0;
}

int sha256_end(struct sha256 *h, uint8_t out[SHA256_BYTES])
{
	int rc = h->failed;

	if (!rc && !libcrypto()->DigestFinal_ex(h->context, out, NULL))
		rc = -EIO;
	sha256_drop(h);
	return rc;
}

void sha256_drop(struct sha256 *h)
{
	if (h->context)
		libcrypto()->MD_CTX_free(h->context);
	h->context = NULL;
}
