/* check_crypt.c - AES-XTS against its standard, keys, and encrypted images against a model */
#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvhd/base/bits.h"
#include "libvhd/base/endian.h"
#include "libvhd/bitmap.h"
#include "libvhd/chain.h"
#include "libvhd/crypt.h"
#include "libvhd/sha256.h"
#include "tests/lib/alloc-count.h"
#include "tests/lib/edit.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"
#include "tests/lib/xts.h"

#define SIZE	(9u << 20)
#define SECTORS (SIZE / 512)

static struct vhd_error err;
static uint8_t model[SIZE], got[SIZE];

static struct vhd_key *key_of(const uint8_t *bytes, size_t length)
{
	struct vhd_key *key = NULL;

	ck_assert_msg(crypt_key_new(bytes, length, &key, &err) == 0, "%s", err.text);
	return key;
}

static struct vhd_key *key_number(unsigned n, size_t length, uint8_t *bytes)
{
	struct rng rng = { n };

	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)rng_next(&rng);
	return key_of(bytes, length);
}

/* ── the cipher ── */

/* IEEE 1619-2007, annex B, vectors 4 and 10: the first 32 bytes of the ciphertext. */
static const struct {
	const char *key;
	uint64_t number;
	const char *cipher;
} vectors[] = {
	{ "27182818284590452353602874713526"
	  "31415926535897932384626433832795",
	  0, "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c" },
	{ "2718281828459045235360287471352662497757247093699959574966967627"
	  "3141592653589793238462643383279502884197169399375105820974944592",
	  0xff, "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b" },
};

static size_t unhex(const char *text, uint8_t *out)
{
	size_t n = strlen(text) / 2;

	for (size_t i = 0; i < n; i++) {
		unsigned byte;

		ck_assert_int_eq(sscanf(text + 2 * i, "%2x", &byte), 1);
		out[i] = (uint8_t)byte;
	}
	return n;
}

START_TEST(standard)
{
	for (size_t v = 0; v < sizeof(vectors) / sizeof(vectors[0]); v++) {
		uint8_t bytes[64], plain[512], want[512], cipher[32];
		size_t length = unhex(vectors[v].key, bytes);
		struct vhd_key *key = key_of(bytes, length);
		struct crypt *crypt;

		for (unsigned i = 0; i < 512; i++)
			plain[i] = (uint8_t)i;
		memcpy(want, plain, sizeof(want));
		xts_sector(bytes, length, true, vectors[v].number, want, 512);
		unhex(vectors[v].cipher, cipher);
		ck_assert_mem_eq(want, cipher, sizeof(cipher));
		ck_assert_int_eq(crypt_open(key, &crypt), 0);
		ck_assert_uint_eq(vhd_key_bits(key), length * 8);
		vhd_key_put(key); /* the cipher has it */
		ck_assert_int_eq(crypt_encrypt(crypt, got, plain, vectors[v].number, 1), 0);
		ck_assert_mem_eq(got, want, 512);
		ck_assert_int_eq(crypt_decrypt(crypt, got, got, vectors[v].number, 1), 0);
		ck_assert_mem_eq(got, plain, 512);
		crypt_put(crypt);
	}
}
END_TEST

/* Any place and number of sectors, in place or not; what is zero on the disk stays zero. */
START_TEST(sectors)
{
	unsigned long long seed = suite_seed(1);
	struct rng rng = { seed };

	for (int round = 0; round < 40; round++) {
		size_t length = rng_chance(&rng, 50) ? 32 : 64, count = 1 + rng_below(&rng, 40);
		uint64_t first = rng_next(&rng) >> (rng_chance(&rng, 30) ? 20 : 33);
		uint8_t bytes[64];
		struct vhd_key *key = key_number((unsigned)rng_next(&rng), length, bytes);
		struct crypt *crypt;

		for (size_t i = 0; i < count * 512; i++)
			model[i] = (uint8_t)rng_next(&rng);
		ck_assert_int_eq(crypt_open(key, &crypt), 0);
		memcpy(got, model, count * 512);
		ck_assert_int_eq(crypt_encrypt(crypt, round % 2 ? got : got + (1 << 20),
					       round % 2 ? got : model, first, count),
				 0);
		if (round % 2 == 0)
			memmove(got, got + (1 << 20), count * 512);
		for (size_t i = 0; i < count; i++) {
			uint8_t want[512];

			memcpy(want, model + i * 512, 512);
			xts_sector(bytes, length, true, first + i, want, 512);
			ck_assert_mem_eq(got + i * 512, want, 512);
		}
		memset(got + (count / 2) * 512, 0, 512);
		memset(model + (count / 2) * 512, 0, 512);
		ck_assert_int_eq(crypt_decrypt(crypt, got, got, first, count), 0);
		ck_assert_mem_eq(got, model, count * 512);
		crypt_put(crypt);
		vhd_key_put(key);
	}
}
END_TEST

/* Nothing is asked of the allocator between a request and its answer. */
START_TEST(no_allocation)
{
	uint8_t bytes[64];
	struct vhd_key *key = key_number(9, 64, bytes);
	struct crypt *crypt;
	uint64_t before;
	bool failed = false;

	ck_assert_int_eq(crypt_open(key, &crypt), 0);
	ck_assert_int_eq(crypt_encrypt(crypt, got, model, 0, 8), 0);
	ck_assert_int_eq(crypt_decrypt(crypt, got, got, 0, 8), 0);
	before = alloc_count();
	for (uint64_t i = 0; i < 1000; i++) /* no asserts: they allocate */
		failed |= crypt_encrypt(crypt, got, model, i, 8) ||
			  crypt_decrypt(crypt, got, got, i, 8);
	ck_assert_uint_eq(alloc_count(), before);
	ck_assert(!failed);
	crypt_put(crypt);
	vhd_key_put(key);
}
END_TEST

struct shared {
	struct crypt *crypt;
	unsigned number;
};

static void *work(void *arg)
{
	const struct shared *s = arg;
	uint8_t plain[4096], cipher[4096];

	for (unsigned round = 0; round < 300; round++) {
		memset(plain, (int)(s->number * 7 + round), sizeof(plain));
		if (crypt_encrypt(s->crypt, cipher, plain, round, 8) ||
		    crypt_decrypt(s->crypt, cipher, cipher, round, 8) ||
		    memcmp(cipher, plain, sizeof(plain)) != 0)
			return (void *)1;
	}
	return NULL;
}

START_TEST(threads)
{
	uint8_t bytes[64];
	struct vhd_key *key = key_number(4, 64, bytes);
	struct shared s[4];
	pthread_t thread[4];
	struct crypt *crypt;

	ck_assert_int_eq(crypt_open(key, &crypt), 0);
	for (unsigned i = 0; i < 4; i++) {
		s[i] = (struct shared){ crypt_get(crypt), i };
		ck_assert_int_eq(pthread_create(&thread[i], NULL, work, &s[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		void *result;

		pthread_join(thread[i], &result);
		ck_assert_ptr_null(result);
		crypt_put(crypt);
	}
	crypt_put(crypt);
	vhd_key_put(key);
}
END_TEST

/* ── keys ── */

START_TEST(lengths)
{
	uint8_t bytes[80];
	struct vhd_key *key = NULL;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 11 + 1);
	for (size_t n = 0; n <= 80; n++) {
		int pipes[2];

		ck_assert_int_eq(pipe(pipes), 0);
		ck_assert_int_eq(write(pipes[1], bytes, n), (ssize_t)n);
		close(pipes[1]);
		if (n == 32 || n == 64) {
			ck_assert_int_eq(vhd_key_read(pipes[0], "pipe", &key, &err), 0);
			vhd_key_put(key);
		} else {
			ck_assert_int_eq(vhd_key_read(pipes[0], "pipe", &key, &err), -VHD_E_KEY);
			ck_assert_ptr_nonnull(strstr(err.text, "'pipe'"));
			ck_assert_ptr_nonnull(strstr(err.text, "32 bytes"));
		}
		close(pipes[0]);
	}
	memcpy(bytes + 16, bytes, 16);
	ck_assert_int_eq(crypt_key_new(bytes, 32, &key, &err), -VHD_E_KEY);
	ck_assert_ptr_nonnull(strstr(err.text, "halves"));
	ck_assert_int_lt(vhd_key_read(-1, "none", &key, &err), 0);
	vhd_key_put(NULL);
	ck_assert_ptr_null(vhd_key_get(NULL));
}
END_TEST

/* SHA-256 of 32 zeros and 32 bytes 0, 1, 2 …: computed with sha256sum. */
START_TEST(hashes)
{
	uint8_t bytes[32], nonce[32] = { 0 }, hash[32], want[32];
	struct vhd_key *key;

	for (unsigned i = 0; i < 32; i++)
		bytes[i] = (uint8_t)i;
	key = key_of(bytes, 32);
	ck_assert_int_eq(vhd_key_hash(key, nonce, hash), 0);
	unhex("bb2275c49f28ad52cae6d55e34a974a58c7a3ba26f976e8ecbbe7a536918dc73", want);
	ck_assert_mem_eq(hash, want, 32);
	ck_assert_int_eq(crypt_matches(key, nonce, hash), 1);
	nonce[31] = 1;
	ck_assert_int_eq(crypt_matches(key, nonce, hash), 0);
	vhd_key_put(key);
}
END_TEST

/* ── images ── */

static void set_key(const char *path, const struct vhd_key *key)
{
	struct vhd_key_options o = { .key = key };

	ck_assert_msg(vhd_key_set(path, &o, &err) == 0, "%s", err.text);
}

static int open_with(const char *path, struct vhd_key *key, unsigned flags, struct vhd_chain **out)
{
	struct vhd_open_options options = { .flags = flags, .key = key };

	return vhd_open(path, &options, out, &err);
}

static struct vhd_chain *must_open(const char *path, struct vhd_key *key, unsigned flags)
{
	struct vhd_chain *chain = NULL;

	ck_assert_msg(open_with(path, key, flags, &chain) == 0, "%s", err.text);
	return chain;
}

static void scribble(const char *path, struct vhd_key *key, struct rng *rng)
{
	struct vhd_chain *chain = must_open(path, key, VHD_OPEN_WRITE);

	for (int i = 0; i < 30; i++) {
		size_t length = 1 + rng_below(rng, i % 8 ? 3000 : 1500000);
		uint64_t offset = rng_below(rng, SIZE - length);

		for (size_t k = 0; k < length; k++)
			model[offset + k] = (uint8_t)rng_next(rng);
		ck_assert_msg(vhd_write(chain, model + offset, length, offset, &err) == 0, "%s",
			      err.text);
	}
	ck_assert_msg(vhd_close(chain, &err) == 0, "%s", err.text);
}

static void compare(const char *path, struct vhd_key *key, struct rng *rng)
{
	struct vhd_chain *chain = must_open(path, key, 0);

	ck_assert_msg(vhd_read(chain, got, SIZE, 0, &err) == 0, "%s", err.text);
	ck_assert_mem_eq(got, model, SIZE);
	for (int i = 0; i < 60; i++) { /* parts of sectors */
		size_t length = 1 + rng_below(rng, 2000);
		uint64_t offset = rng_below(rng, SIZE - length);

		ck_assert_int_eq(vhd_read(chain, got, length, offset, &err), 0);
		ck_assert_mem_eq(got, model + offset, length);
	}
	vhd_close(chain, NULL);
}

/* What is in the one image, by its table and bitmaps alone: each sector present is the model's,
 * encrypted; each absent one is zero on the disk. */
static void look_inside(const char *path, const uint8_t *bytes, size_t length)
{
	struct vhd_chain *chain = must_open(path, NULL, VHD_OPEN_NO_PARENTS | VHD_OPEN_NO_LOCK);
	struct vhd_image *img = chain->images[0];
	uint32_t per = img->block_sectors;
	uint8_t *bits = malloc((size_t)bitmap_sectors(per) * 512);

	for (uint32_t b = 0; b < img->blocks; b++) {
		uint32_t entry = 0;

		ck_assert_int_eq(image_bat_entry(img, b, &entry, &err), 0);
		ck_assert_int_eq(image_bitmap(img, b, bits, &err), 0);
		for (uint32_t k = 0; entry != VHD_BAT_UNUSED && k < per; k++) {
			uint64_t sector = (uint64_t)b * per + k;
			uint64_t at = ((uint64_t)entry + bitmap_sectors(per) + k) * 512;
			uint8_t raw[512], none[512] = { 0 };

			if (sector >= SECTORS)
				break;
			ck_assert_int_eq(io_read(img->io, raw, 512, at), 0);
			if (bits_test(bits, k))
				xts_sector(bytes, length, false, sector, raw, 512);
			ck_assert_mem_eq(raw, bits_test(bits, k) ? model + sector * 512 : none,
					 512);
		}
	}
	free(bits);
	vhd_close(chain, NULL);
}

static void one_world(struct rng *rng, size_t length, unsigned base_kind)
{
	uint8_t bytes[64], other_bytes[64];
	struct vhd_key *key = key_number((unsigned)rng_next(rng), length, bytes);
	struct vhd_key *other = key_number((unsigned)rng_next(rng), length, other_bytes);
	struct vhd_chain *chain = NULL;

	edit_begin("crypt");
	memset(model, 0, sizeof(model));
	edit_create("base.vhd", SIZE);
	if (base_kind == 0) { /* all of the chain is encrypted */
		set_key("base.vhd", key);
		scribble("base.vhd", key, rng);
		look_inside("base.vhd", bytes, length);
		edit_snapshot("mid.vhd", "base.vhd"); /* inherits the hash */
	} else {				      /* over a clear base */
		scribble("base.vhd", NULL, rng);
		edit_snapshot("mid.vhd", "base.vhd");
		set_key("mid.vhd", key);
	}
	scribble("mid.vhd", key, rng);
	look_inside("mid.vhd", bytes, length);
	edit_snapshot("leaf.vhd", "mid.vhd");
	scribble("leaf.vhd", key, rng);
	compare("leaf.vhd", key, rng);
	/* without the key, or with another: nothing is read, nothing written */
	ck_assert_int_eq(open_with("leaf.vhd", NULL, VHD_OPEN_WRITE, &chain), -VHD_E_ENCRYPTED);
	ck_assert_int_eq(open_with("leaf.vhd", other, VHD_OPEN_WRITE, &chain), -VHD_E_KEY);
	chain = must_open("leaf.vhd", other, 0);
	ck_assert_int_eq(vhd_read(chain, got, 1, 0, &err), -VHD_E_KEY);
	vhd_close(chain, NULL);
	if (base_kind)
		ck_assert_int_eq(open_with("base.vhd", key, VHD_OPEN_WRITE, &chain), -VHD_E_KEY);
	ck_assert_int_eq(vhd_key_check("leaf.vhd", key, &err), 0);
	ck_assert_int_eq(vhd_key_check("leaf.vhd", other, &err), -VHD_E_KEY);
	vhd_key_put(key);
	vhd_key_put(other);
	edit_end();
}

START_TEST(images)
{
	unsigned long long seed = suite_seed(7);
	struct rng rng = { seed };

	for (unsigned i = 0; i < 4; i++)
		one_world(&rng, i & 1 ? 64 : 32, i >> 1);
}
END_TEST

/* A clear child would store what its parents keep secret; a damaged header of the batmap does not
 * turn ciphertext into data. */
START_TEST(refusals)
{
	uint8_t bytes[64];
	struct vhd_key *key = key_number(3, 64, bytes);
	struct vhd_key_options set = { .key = key };
	struct vhd_chain *chain;
	uint64_t header;

	edit_begin("crypt-refuse");
	edit_create("base.vhd", SIZE);
	edit_snapshot("leaf.vhd", "base.vhd");
	set_key("base.vhd", key);
	ck_assert_int_eq(open_with("leaf.vhd", key, VHD_OPEN_WRITE, &chain), -VHD_E_KEY);
	ck_assert_int_eq(open_with("leaf.vhd", NULL, VHD_OPEN_WRITE, &chain), -VHD_E_ENCRYPTED);
	edit_create("full.vhd", SIZE);
	chain = must_open("full.vhd", NULL, VHD_OPEN_WRITE);
	ck_assert_int_eq(vhd_write(chain, "x", 1, 0, &err), 0);
	ck_assert_int_eq(vhd_close(chain, &err), 0);
	ck_assert_int_eq(vhd_key_set("full.vhd", &set, &err), -VHD_E_KEY);
	set.hash = bytes;
	ck_assert_int_eq(vhd_key_set("base.vhd", &set, &err), -VHD_E_ARGUMENT);
	/* one byte of the cookie, then of the scheme */
	chain = must_open("base.vhd", NULL, VHD_OPEN_NO_LOCK);
	header = chain->images[0]->batmap_header_at;
	vhd_close(chain, NULL);
	edit_byte("base.vhd", header, 'x');
	ck_assert_int_eq(open_with("base.vhd", NULL, VHD_OPEN_WRITE, &chain), -VHD_E_ENCRYPTED);
	chain = must_open("base.vhd", key, VHD_OPEN_WRITE); /* puts it right, and keeps the hash */
	ck_assert_int_eq(vhd_close(chain, &err), 0);
	ck_assert_int_eq(vhd_key_check("base.vhd", key, &err), 0);
	edit_byte("base.vhd", header + BATMAP_KEYHASH, 2);
	ck_assert_int_eq(open_with("base.vhd", key, VHD_OPEN_WRITE, &chain), -VHD_E_UNSUPPORTED);
	edit_end();
	vhd_key_put(key);
}
END_TEST

/* The examples of the standard, and pieces against the whole. */
START_TEST(sha256)
{
	static const struct {
		const char *text;
		size_t times;
		const char *hash; /* its first bytes */
	} examples[] = {
		{ "", 1, "\xe3\xb0\xc4\x42\x98\xfc\x1c\x14" },
		{ "abc", 1, "\xba\x78\x16\xbf\x8f\x01\xcf\xea" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
		  "\x24\x8d\x6a\x61\xd2\x06\x38\xb8" },
		{ "a", 1000000, "\xcd\xc7\x6e\x5c\x99\x14\xfb\x92" },
	};
	uint8_t data[300], out[SHA256_BYTES], whole[SHA256_BYTES];
	struct rng rng = { suite_seed(3) };
	struct sha256 h, half = { 0 };

	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
		ck_assert_int_eq(sha256_begin(&h), 0);
		for (size_t n = 0; n < examples[i].times; n++)
			sha256_add(&h, examples[i].text, strlen(examples[i].text));
		ck_assert_int_eq(sha256_end(&h, out), 0);
		ck_assert_mem_eq(out, examples[i].hash, 8);
	}
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)rng_next(&rng);
	for (size_t length = 0; length <= sizeof(data); length++) {
		ck_assert_int_eq(sha256_begin(&h), 0);
		sha256_add(&h, data, length);
		ck_assert_int_eq(sha256_end(&h, whole), 0);
		ck_assert_int_eq(sha256_begin(&h), 0);
		for (size_t at = 0; at < length;) {
			size_t n = 1 + rng_below(&rng, length - at);

			sha256_add(&h, data + at, n);
			at += n;
			ck_assert_int_eq(sha256_copy(&half, &h), 0);
		}
		ck_assert_int_eq(sha256_end(&h, out), 0);
		ck_assert_mem_eq(out, whole, sizeof(out));
		if (length) {
			ck_assert_int_eq(sha256_end(&half, out), 0);
			ck_assert_mem_eq(out, whole, sizeof(out));
		}
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { sha256,	standard, sectors, no_allocation, threads,
				       lengths, hashes,	  images,  refusals,	  NULL };

	return suite_run("crypt", tests);
}
