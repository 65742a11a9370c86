/* crypt.c - AES-XTS by libcrypto
 *
 * A context of libcrypto serves one thread at a time and is made once: a cipher keeps those that
 * are not in use in a list.  Which sector comes next only changes the tweak.
 */
#include "crypt.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/read-all.h"
#include "error.h"
#include "layout.h"
#include "libcrypto.h"
#include "sha256.h"
#include "zeros.h"

#define KEY_SHORT 32u /* bytes: AES-128 twice */
#define KEY_LONG  64u /* AES-256 twice */

struct vhd_key {
	atomic_uint users;
	size_t length;
	uint8_t bytes[KEY_LONG];
};

/* ── keys ── */

/* In the same time wherever they begin to differ. */
static bool same_secret(const uint8_t *a, const uint8_t *b, size_t length)
{
	uint8_t differing = 0;

	for (size_t i = 0; i < length; i++)
		differing |= a[i] ^ b[i];
	return !differing;
}

int crypt_key_new(const void *bytes, size_t length, struct vhd_key **out, struct vhd_error *err)
{
	struct vhd_key *key;

	if (length != KEY_SHORT && length != KEY_LONG)
		return error_set(err, -VHD_E_KEY,
				 "a key has 32 bytes (AES-128) or 64 (AES-256), not %zu%s", length,
				 length > KEY_LONG ? " or more" : "");
	if (same_secret(bytes, (const uint8_t *)bytes + length / 2, length / 2))
		return error_set(err, -VHD_E_KEY,
				 "the two halves of the key are the same: XTS needs two keys");
	key = mmap(NULL, sizeof(*key), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (key == MAP_FAILED)
		return error_system(err, -errno, "keep", "a key");
	/* as far as the system lets us */
	(void)madvise(key, sizeof(*key), MADV_DONTDUMP);
	(void)mlock(key, sizeof(*key));
	atomic_init(&key->users, 1);
	key->length = length;
	memcpy(key->bytes, bytes, length);
	*out = key;
	return 0;
}

struct vhd_key *vhd_key_get(struct vhd_key *key)
{
	if (key)
		atomic_fetch_add(&key->users, 1);
	return key;
}

void vhd_key_put(struct vhd_key *key)
{
	if (!key || atomic_fetch_sub(&key->users, 1) > 1)
		return;
	crypt_wipe(key, sizeof(*key));
	munmap(key, sizeof(*key));
}

unsigned vhd_key_bits(const struct vhd_key *key)
{
	return (unsigned)key->length * 8;
}

int vhd_key_read(int fd, const char *name, struct vhd_key **out, struct vhd_error *err)
{
	uint8_t bytes[KEY_LONG + 1]; /* one more, to see what is too long */
	ssize_t n = read_all(fd, bytes, sizeof(bytes));
	int rc;

	if (n < 0)
		return error_system(err, (int)n, "read", name);
	rc = crypt_key_new(bytes, (size_t)n, out, err);
	crypt_wipe(bytes, sizeof(bytes));
	if (rc < 0)
		error_prefix(err, "cannot use the key in '%s'", name);
	return rc;
}

void crypt_wipe(void *data, size_t length)
{
	explicit_bzero(data, length);
}

int crypt_nonce(uint8_t nonce[VHD_KEY_HASH])
{
	ssize_t n;

	do {
		n = getrandom(nonce, VHD_KEY_HASH, 0);
	} while (n < 0 && errno == EINTR);
	return n == VHD_KEY_HASH ? 0 : -EIO;
}

int vhd_key_hash(const struct vhd_key *key, const uint8_t nonce[VHD_KEY_HASH],
		 uint8_t hash[VHD_KEY_HASH])
{
	struct sha256 h;
	int rc = sha256_begin(&h);

	if (rc < 0)
		return rc;
	sha256_add(&h, nonce, VHD_KEY_HASH);
	sha256_add(&h, key->bytes, key->length);
	return sha256_end(&h, hash);
}

int crypt_matches(const struct vhd_key *key, const uint8_t nonce[VHD_KEY_HASH],
		  const uint8_t hash[VHD_KEY_HASH])
{
	uint8_t own[VHD_KEY_HASH];
	int rc = vhd_key_hash(key, nonce, own);

	return rc < 0 ? rc : same_secret(own, hash, sizeof(own));
}

/* ── ciphers ── */

struct context {
	EVP_CIPHER_CTX *encrypt, *decrypt; /* owned */
	struct context *next;
};

struct crypt {
	atomic_uint users;
	pthread_mutex_t lock;
	struct context *idle; /* under lock; owned */
	struct vhd_key *key;  /* counted */
};

static void context_free(struct context *c)
{
	if (!c)
		return;
	libcrypto()->CIPHER_CTX_free(c->encrypt); /* wipes its schedule */
	libcrypto()->CIPHER_CTX_free(c->decrypt);
	free(c);
}

static struct context *context_make(const struct vhd_key *key)
{
	const struct libcrypto *evp = libcrypto();
	const EVP_CIPHER *cipher = key->length == KEY_LONG ? evp->aes_256_xts() :
							     evp->aes_128_xts();
	struct context *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->encrypt = evp->CIPHER_CTX_new();
	c->decrypt = evp->CIPHER_CTX_new();
	if (c->encrypt && c->decrypt &&
	    evp->CipherInit_ex(c->encrypt, cipher, NULL, key->bytes, NULL, 1) &&
	    evp->CipherInit_ex(c->decrypt, cipher, NULL, key->bytes, NULL, 0))
		return c;
	context_free(c);
	return NULL;
}

int crypt_open(const struct vhd_key *key, struct crypt **out)
{
	struct crypt *crypt = libcrypto() ? calloc(1, sizeof(*crypt)) : NULL;

	if (!crypt)
		return libcrypto() ? -ENOMEM : -ELIBACC;
	pthread_mutex_init(&crypt->lock, NULL);
	atomic_init(&crypt->users, 1);
	crypt->key = vhd_key_get((struct vhd_key *)key);
	crypt->idle = context_make(key);
	if (!crypt->idle) {
		crypt_put(crypt);
		return -ENOMEM;
	}
	*out = crypt;
	return 0;
}

struct crypt *crypt_get(struct crypt *crypt)
{
	if (crypt)
		atomic_fetch_add(&crypt->users, 1);
	return crypt;
}

void crypt_put(struct crypt *crypt)
{
	if (!crypt || atomic_fetch_sub(&crypt->users, 1) > 1)
		return;
	while (crypt->idle) {
		struct context *c = crypt->idle;

		crypt->idle = c->next;
		context_free(c);
	}
	pthread_mutex_destroy(&crypt->lock);
	vhd_key_put(crypt->key);
	free(crypt);
}

static struct context *context_take(struct crypt *crypt)
{
	struct context *c;

	pthread_mutex_lock(&crypt->lock);
	c = crypt->idle;
	if (c)
		crypt->idle = c->next;
	pthread_mutex_unlock(&crypt->lock);
	return c ? c : context_make(crypt->key);
}

static void context_give(struct crypt *crypt, struct context *c)
{
	pthread_mutex_lock(&crypt->lock);
	c->next = crypt->idle;
	crypt->idle = c;
	pthread_mutex_unlock(&crypt->lock);
}

/* The tweak: the sector's number, little-endian.  The format's makers store 32 bits of it; a
 * disk has no sector that needs more. */
static bool one_sector(const struct libcrypto *evp, EVP_CIPHER_CTX *ctx, uint8_t *to,
		       const uint8_t *from, uint64_t sector)
{
	uint8_t tweak[16] = { 0 };
	int length;

	for (unsigned i = 0; i < 8; i++)
		tweak[i] = (uint8_t)(sector >> 8 * i);
	return evp->CipherInit_ex(ctx, NULL, NULL, NULL, tweak, -1) &&
	       evp->CipherUpdate(ctx, to, &length, from, VHD_SECTOR) && length == VHD_SECTOR;
}

int crypt_encrypt(struct crypt *crypt, void *to, const void *from, uint64_t sector, uint64_t count)
{
	const struct libcrypto *evp = libcrypto();
	struct context *c = context_take(crypt);
	bool done = c;

	for (uint64_t i = 0; done && i < count; i++)
		done = one_sector(evp, c->encrypt, (uint8_t *)to + i * VHD_SECTOR,
				  (const uint8_t *)from + i * VHD_SECTOR, sector + i);
	if (c)
		context_give(crypt, c);
	return done ? 0 : c ? -EIO : -ENOMEM;
}

int crypt_decrypt(struct crypt *crypt, void *to, const void *from, uint64_t sector, uint64_t count)
{
	const struct libcrypto *evp = libcrypto();
	struct context *c = context_take(crypt);
	bool done = c;

	for (uint64_t i = 0; done && i < count; i++) {
		const uint8_t *in = (const uint8_t *)from + i * VHD_SECTOR;
		uint8_t *out = (uint8_t *)to + i * VHD_SECTOR;

		if (zeros_are(in, VHD_SECTOR))
			memset(out, 0, VHD_SECTOR);
		else
			done = one_sector(evp, c->decrypt, out, in, sector + i);
	}
	if (c)
		context_give(crypt, c);
	return done ? 0 : c ? -EIO : -ENOMEM;
}
