/* check_duplicate.c - copies of images: the same sectors present, the same contents, sound metadata,
 * whatever the shape and the keys */
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "libvhd/base/number.h"
#include "libvhd/chain.h"
#include "libvhd/crypt.h"
#include "tests/lib/edit.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"

#define MOST (3u << 20)

static struct vhd_error err;
static uint8_t model[MOST], got[MOST];

static void must(int rc, const char *what)
{
	ck_assert_msg(rc == 0, "%s: %s", what, err.text);
}

static struct vhd_chain *open_with(const char *path, struct vhd_key *key, unsigned flags)
{
	struct vhd_open_options o = { .flags = flags, .key = key };
	struct vhd_chain *chain = NULL;

	must(vhd_open(path, &o, &chain, &err), path);
	return chain;
}

static void scribble(const char *path, struct vhd_key *key, struct rng *rng, uint64_t size)
{
	struct vhd_chain *chain = open_with(path, key, VHD_OPEN_WRITE);

	for (uint64_t n = rng_below(rng, 12); n > 0; n--) {
		size_t length = 1 + rng_below(rng, rng_chance(rng, 70) ? 3000 : size / 3);
		uint64_t offset = rng_below(rng, size - number_min(length, size - 1));
		bool zeros = rng_chance(rng, 20);

		length = number_min(length, size - offset);
		for (size_t i = 0; i < length; i++)
			model[offset + i] = zeros ? 0 : (uint8_t)rng_next(rng);
		must(vhd_write(chain, model + offset, length, offset, &err), "write");
	}
	must(vhd_close(chain, &err), "close");
}

/* Sectors that the one image has itself, and the rest. */
static void same_sectors(const char *a, const char *b)
{
	struct vhd_chain *x = open_with(a, NULL, VHD_OPEN_NO_PARENTS | VHD_OPEN_NO_LOCK);
	struct vhd_chain *y = open_with(b, NULL, VHD_OPEN_NO_PARENTS | VHD_OPEN_NO_LOCK);
	uint64_t sectors = vhd_size(x) / 512;

	ck_assert_uint_eq(vhd_size(x), vhd_size(y));
	must(image_load(x->images[0], 0, &err), a);
	must(image_load(y->images[0], 0, &err), b);
	for (uint64_t at = 0; at < sectors; at++) {
		struct map_ext e, f;

		ck_assert_int_eq(image_lookup(x->images[0], at, 1, &e, 1, &err), 1);
		ck_assert_int_eq(image_lookup(y->images[0], at, 1, &f, 1, &err), 1);
		if (e.kind != f.kind)
			ck_abort_msg("sector %llu: %d in %s, %d in %s", (unsigned long long)at,
				     e.kind, a, f.kind, b);
	}
	ck_assert_uint_eq(x->images[0]->totals.allocated, y->images[0]->totals.allocated);
	ck_assert_uint_eq(x->images[0]->header.max_entries, y->images[0]->header.max_entries);
	vhd_close(x, NULL);
	vhd_close(y, NULL);
}

static void contains(const char *path, struct vhd_key *key, uint64_t size)
{
	struct vhd_check_options o = { .parents_too = true, .bitmaps = true };
	struct vhd_check_result r;
	struct vhd_chain *chain = open_with(path, key, 0);

	must(vhd_read(chain, got, size, 0, &err), "read");
	ck_assert_mem_eq(got, model, size);
	vhd_close(chain, NULL);
	must(vhd_check(path, &o, &r, &err), "check");
	ck_assert_uint_eq(r.damages, 0);
}

/* @from, @to: keys of the source and of the copy; NULL: clear.  @as_it_is: no key is given. */
static void copy(const char *source, const char *target, struct vhd_key *from, struct vhd_key *to,
		 bool as_it_is)
{
	struct vhd_copy_options o = { .source_key = as_it_is ? NULL : from,
				      .key = as_it_is ? NULL : to };
	struct vhd_copy_result r;

	must(vhd_copy(source, target, &o, &r, &err), "copy");
	ck_assert(r.encrypted == (to != NULL));
}

static void one_world(struct rng *rng, struct vhd_key *const keys[2])
{
	static const uint32_t blocks[] = { 4096, 16384, 65536, 2u << 20 };
	uint64_t size = (1 + rng_below(rng, MOST / 512)) * 512;
	struct vhd_create_options create = { .type = VHD_TYPE_DYNAMIC,
					     .size = size,
					     .block_size = blocks[rng_below(rng, 4)] };
	bool parent = rng_chance(rng, 60);
	struct vhd_key *key = rng_chance(rng, 50) ? keys[0] : NULL;
	struct vhd_key *parents_key = parent && rng_chance(rng, 50) ? NULL : key;
	struct vhd_key_options set = { .key = key };
	const char *leaf = parent ? "leaf.vhd" : "base.vhd";

	edit_begin("duplicate");
	memset(model, 0, sizeof(model));
	if (rng_chance(rng, 30))
		create.max_size = size + 512 * rng_below(rng, 10000);
	must(vhd_create("base.vhd", &create, &err), "create");
	set.key = parents_key;
	if (parents_key)
		must(vhd_key_set("base.vhd", &set, &err), "key");
	scribble("base.vhd", parents_key, rng, size);
	if (parent) {
		edit_snapshot("leaf.vhd", "base.vhd");
		set.key = key;
		if (key && !parents_key)
			must(vhd_key_set("leaf.vhd", &set, &err), "key");
		scribble("leaf.vhd", key, rng, size);
	}
	copy(leaf, "same.vhd", key, key, true);
	same_sectors(leaf, "same.vhd");
	contains("same.vhd", key, size);
	if (!parent || !parents_key) { /* else the key stays */
		struct vhd_key *other = rng_chance(rng, 70) ? keys[1] : NULL;

		copy(leaf, "other.vhd", key, other, false);
		same_sectors(leaf, "other.vhd");
		contains("other.vhd", other, size);
	}
	edit_end();
}

START_TEST(worlds)
{
	unsigned long long seed = suite_seed(1);
	struct rng rng = { seed };
	struct vhd_key *keys[2];
	uint8_t bytes[64];

	for (unsigned k = 0; k < 2; k++) {
		for (unsigned i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)rng_next(&rng);
		must(crypt_key_new(bytes, k ? 32 : 64, &keys[k], &err), "key");
	}
	for (int i = 0; i < 40; i++)
		one_world(&rng, keys);
	vhd_key_put(keys[0]);
	vhd_key_put(keys[1]);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { worlds, NULL };

	return suite_run("duplicate", tests);
}
