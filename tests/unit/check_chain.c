/* check_chain.c - an image and its parents, read and written as one disk */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvhd/chain.h"
#include "libvhd/locator.h"
#include "tests/lib/edit.h"

#define SIZE  (9u << 20)
#define GROWN (SIZE + (3u << 20))

static uint8_t model[GROWN], got[GROWN];
static struct vhd_error err;

static int try_open(const char *path, unsigned flags, struct vhd_chain **out)
{
	struct vhd_open_options options = { .flags = flags };

	memset(&err, 0, sizeof(err));
	return vhd_open(path, &options, out, &err);
}

static struct vhd_chain *must_open(const char *path, unsigned flags)
{
	struct vhd_chain *chain;

	ck_assert_msg(try_open(path, flags, &chain) == 0, "%s", err.text);
	return chain;
}

static void must_close(struct vhd_chain *chain)
{
	ck_assert_msg(vhd_close(chain, &err) == 0, "%s", err.text);
}

static void refused(const char *path, unsigned flags, int code)
{
	struct vhd_chain *chain = NULL;
	int rc = try_open(path, flags, &chain);

	ck_assert_msg(rc == -code, "'%s' (flags %u): %d, not %d: %s", path, flags, rc, -code,
		      err.text);
	ck_assert_ptr_null(chain);
	ck_assert_int_eq(err.code, rc);
}

/* Bytes of any place and length into the leaf, and into the model. */
static void scribble(const char *path, unsigned seed, uint64_t size)
{
	struct vhd_chain *chain = must_open(path, VHD_OPEN_WRITE);

	srand(seed);
	ck_assert_uint_eq(vhd_size(chain), size);
	for (int i = 0; i < 40; i++) {
		size_t length = (size_t)rand() % (i % 8 ? 3000 : 1500000) + 1;
		uint64_t offset = (uint64_t)rand() % (size - length);

		memset(model + offset, rand() % 255 + 1, length);
		ck_assert_msg(vhd_write(chain, model + offset, length, offset, &err) == 0, "%s",
			      err.text);
		if (i % 10 == 0)
			ck_assert_int_eq(vhd_flush(chain, &err), 0);
		ck_assert_int_eq(vhd_read(chain, got,
					  length + 7 > size - offset ? size - offset : length + 7,
					  offset, &err),
				 0);
		ck_assert(!memcmp(got, model + offset, length));
	}
	must_close(chain);
}

static void compare(const char *path, unsigned flags, uint64_t size, unsigned depth)
{
	struct vhd_chain *chain = must_open(path, flags);

	ck_assert_uint_eq(vhd_size(chain), size);
	ck_assert_uint_eq(vhd_depth(chain), depth);
	ck_assert_msg(vhd_read(chain, got, size, 0, &err) == 0, "%s", err.text);
	ck_assert(!memcmp(got, model, size));
	for (int i = 0; i < 50; i++) {
		size_t length = (size_t)rand() % 5000;
		uint64_t offset = (uint64_t)rand() % (size - length);

		ck_assert_int_eq(vhd_read(chain, got, length, offset, &err), 0);
		ck_assert(!memcmp(got, model + offset, length));
	}
	must_close(chain);
}

static void setup(void)
{
	edit_begin("check_chain");
	memset(model, 0, sizeof(model));
	edit_create("base.vhd", SIZE);
}

START_TEST(written_at_every_level)
{
	struct vhd_snapshot_options grow = { .link_empty = true, .size = GROWN };

	scribble("base.vhd", 1, SIZE);
	compare("base.vhd", 0, SIZE, 1);
	edit_snapshot("c1.vhd", "base.vhd");
	compare("c1.vhd", 0, SIZE, 2);
	scribble("c1.vhd", 2, SIZE);
	edit_snapshot("c2.vhd", "c1.vhd");
	scribble("c2.vhd", 3, SIZE);
	compare("c2.vhd", VHD_OPEN_DIRECT, SIZE, 3);
	/* larger than what is below: the rest is zero, and can be written */
	ck_assert_int_eq(vhd_snapshot("c3.vhd", "c2.vhd", &grow, &err), 0);
	compare("c3.vhd", 0, GROWN, 4);
	scribble("c3.vhd", 4, GROWN);
	edit_snapshot("c4.vhd", "c3.vhd");
	scribble("c4.vhd", 5, GROWN);
	compare("c4.vhd", VHD_OPEN_NO_LOCK, GROWN, 5);
}
END_TEST

START_TEST(raw_base)
{
	edit_file("disk.img", SIZE, 'd');
	memset(model, 'd', SIZE);
	edit_snapshot_raw("c.vhd", "disk.img");
	compare("c.vhd", 0, SIZE, 2);
	scribble("c.vhd", 6, SIZE);
	compare("c.vhd", 0, SIZE, 2);
	memset(model, 'd', SIZE);
	compare("disk.img", VHD_OPEN_RAW, SIZE, 1);
	compare("disk.img", VHD_OPEN_RAW | VHD_OPEN_NO_LOCK, SIZE, 1);
}
END_TEST

START_TEST(ranges_and_modes)
{
	struct vhd_chain *chain;
	struct vhd_extent ext[8];
	uint64_t at = 0;

	scribble("base.vhd", 7, SIZE);
	edit_snapshot("c.vhd", "base.vhd");
	chain = must_open("c.vhd", 0);
	ck_assert_int_eq(vhd_read(chain, got, 2, SIZE - 1, &err), -VHD_E_RANGE);
	ck_assert_int_eq(vhd_read(chain, got, 1, UINT64_MAX, &err), -VHD_E_RANGE);
	ck_assert_int_eq(vhd_read(chain, got, 0, SIZE, &err), 0);
	ck_assert_int_eq(vhd_write(chain, got, 1, 0, &err), -EROFS);
	while (at < SIZE) {
		int n = vhd_extents(chain, at, SIZE - at, ext, 8, &err);

		ck_assert_int_gt(n, 0);
		for (int i = 0; i < n; i++) {
			ck_assert_uint_eq(ext[i].offset, at);
			ck_assert_uint_gt(ext[i].length, 0);
			ck_assert(ext[i].kind == VHD_EXTENT_ZERO || ext[i].depth == 1);
			at += ext[i].length;
		}
	}
	ck_assert_uint_eq(at, SIZE);
	ck_assert_int_eq(vhd_extents(chain, 100, 3, ext, 8, &err), 1);
	ck_assert(ext[0].offset == 100 && ext[0].length == 3);
	must_close(chain);
	chain = must_open("c.vhd", VHD_OPEN_NO_PARENTS);
	ck_assert(!chain->complete && vhd_depth(chain) == 1);
	ck_assert_int_eq(vhd_read(chain, got, 1, 0, &err), -VHD_E_PARENT_MISSING);
	must_close(chain);
	ck_assert_int_eq(vhd_close(NULL, &err), 0);
}
END_TEST

START_TEST(cycles)
{
	uint8_t id[16];

	edit_snapshot("a.vhd", "base.vhd");
	edit_snapshot("b.vhd", "a.vhd");
	edit_get_id("b.vhd", id);
	edit_set_parent_id("a.vhd", id);
	edit_locator("a.vhd", LOCATOR_W2RU, "./b.vhd", NULL);
	refused("a.vhd", 0, VHD_E_CYCLE);
	refused("b.vhd", VHD_OPEN_NO_LOCK, VHD_E_CYCLE);
	edit_snapshot("self.vhd", "base.vhd");
	edit_get_id("self.vhd", id);
	edit_set_parent_id("self.vhd", id);
	edit_locator("self.vhd", LOCATOR_W2RU, "./self.vhd", NULL);
	refused("self.vhd", 0, VHD_E_CYCLE);
	/* a copy under another name has the same id */
	ck_assert_int_eq(system("cp self.vhd copy.vhd"), 0);
	edit_locator("self.vhd", LOCATOR_W2RU, "./copy.vhd", NULL);
	edit_locator("copy.vhd", LOCATOR_W2RU, "./gone.vhd", NULL);
	refused("self.vhd", 0, VHD_E_CYCLE);
}
END_TEST

START_TEST(depth)
{
	char parent[16] = "base.vhd", child[16];
	uint8_t id[16];

	for (int i = 2; i <= 256; i++) {
		snprintf(child, sizeof(child), "%d.vhd", i);
		edit_snapshot(child, parent);
		strcpy(parent, child);
	}
	compare(parent, 0, SIZE, 256);
	edit_snapshot("over.vhd", "base.vhd");
	edit_get_id(parent, id);
	edit_set_parent_id("over.vhd", id);
	edit_locator("over.vhd", LOCATOR_W2RU, "./256.vhd", NULL);
	refused("over.vhd", 0, VHD_E_TOO_DEEP);
}
END_TEST

START_TEST(parents_that_will_not_do)
{
	edit_snapshot("c.vhd", "base.vhd");
	ck_assert_int_eq(rename("base.vhd", "away.vhd"), 0);
	refused("c.vhd", 0, VHD_E_PARENT_MISSING);
	edit_create("base.vhd", SIZE);
	refused("c.vhd", 0, VHD_E_PARENT_ID);
	edit_file("base.vhd", 700, 0);
	refused("c.vhd", 0, VHD_E_NOT_VHD);
	refused("nothing.vhd", 0, ENOENT);
	refused(".", 0, VHD_E_NOT_FILE);
}
END_TEST

START_TEST(hidden_and_poisoned)
{
	edit_snapshot("c.vhd", "base.vhd");
	ck_assert_int_eq(vhd_set("base.vhd", VHD_FIELD_HIDDEN, 1, &err), 0);
	refused("base.vhd", VHD_OPEN_WRITE, VHD_E_HIDDEN);
	must_close(must_open("base.vhd", 0));
	must_close(must_open("base.vhd", VHD_OPEN_WRITE | VHD_OPEN_FORCE));
	must_close(must_open("c.vhd", VHD_OPEN_WRITE));
	edit_poison("base.vhd");
	refused("base.vhd", 0, VHD_E_POISONED);
	refused("base.vhd", VHD_OPEN_WRITE | VHD_OPEN_FORCE, VHD_E_POISONED);
	refused("c.vhd", 0, VHD_E_POISONED);
	must_close(must_open("base.vhd", VHD_OPEN_NO_LOCK));
	must_close(must_open("c.vhd", VHD_OPEN_NO_LOCK));
}
END_TEST

START_TEST(locked)
{
	struct vhd_chain *writer = must_open("base.vhd", VHD_OPEN_WRITE), *child;
	struct vhd_io *parent;

	refused("base.vhd", VHD_OPEN_WRITE, VHD_E_BUSY);
	ck_assert_msg(strstr(err.text, "this process uses it already"), "%s", err.text);
	must_close(must_open("base.vhd", 0));
	must_close(writer);
	edit_snapshot("c.vhd", "base.vhd");
	child = must_open("c.vhd", VHD_OPEN_WRITE);
	parent = child->images[1]->io;
	writer = must_open("base.vhd", VHD_OPEN_WRITE | VHD_OPEN_NO_LOCK);
	ck_assert_int_eq(lock_take(writer->images[0]->io, LOCK_MOVE, NULL, 0, NULL, &err),
			 -VHD_E_BUSY);
	ck_assert_int_eq(lock_take(writer->images[0]->io, LOCK_COALESCE_INTO,
				   child->images[0]->footer.uuid, 0, NULL, &err),
			 0);
	ck_assert_ptr_nonnull(parent);
	must_close(writer);
	must_close(child);
}
END_TEST

START_TEST(one_footer_is_enough)
{
	struct vhd_chain *chain;

	scribble("base.vhd", 8, SIZE);
	edit_byte("base.vhd", 0, 'X');
	chain = must_open("base.vhd", 0);
	ck_assert_int_eq(chain->warning.code, -VHD_E_FOOTER_MISSING);
	must_close(chain);
	compare("base.vhd", 0, SIZE, 1);
	/* a writer restores it, and need not warn */
	chain = must_open("base.vhd", VHD_OPEN_WRITE);
	ck_assert_int_eq(chain->warning.code, 0);
	must_close(chain);
	chain = must_open("base.vhd", 0);
	ck_assert_int_eq(chain->warning.code, 0);
	must_close(chain);
	compare("base.vhd", 0, SIZE, 1);
}
END_TEST

START_TEST(encrypted)
{
	struct vhd_chain *chain;
	struct vhd_info info;
	uint64_t at;

	edit_snapshot("c.vhd", "base.vhd");
	chain = must_open("base.vhd", 0);
	at = chain->images[0]->batmap_header_at;
	ck_assert(chain->images[0]->has_batmap);
	must_close(chain);
	edit_byte("base.vhd", at + BATMAP_KEYHASH, 1);
	chain = must_open("c.vhd", 0);
	ck_assert_int_eq(vhd_read(chain, got, 512, 0, &err), -VHD_E_ENCRYPTED);
	ck_assert_int_eq(vhd_layer_info(chain, 1, &info, &err), 0);
	ck_assert_uint_eq(info.size, SIZE);
	ck_assert_int_eq(vhd_layer_info(chain, 2, &info, &err), -VHD_E_ARGUMENT);
	must_close(chain);
}
END_TEST

START_TEST(information)
{
	struct vhd_chain *chain;
	struct vhd_info info, parent;

	scribble("base.vhd", 9, SIZE);
	edit_snapshot("c.vhd", "base.vhd");
	chain = must_open("c.vhd", 0);
	ck_assert_int_eq(vhd_layer_info(chain, 0, &info, &err), 0);
	ck_assert_int_eq(vhd_layer_info(chain, 1, &parent, &err), 0);
	ck_assert(info.type == VHD_TYPE_DIFFERENCING && parent.type == VHD_TYPE_DYNAMIC);
	ck_assert(!memcmp(info.parent_id, parent.id, 16));
	ck_assert_uint_eq(info.allocated_blocks, 0);
	ck_assert_uint_gt(parent.allocated_blocks, 0);
	ck_assert_uint_eq(parent.total_blocks, 5);
	ck_assert_uint_eq(parent.used_size, parent.file_size);
	ck_assert_str_eq(info.creator, "tap");
	must_close(chain);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("chain");
	TCase *tc = tcase_create("chain");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, edit_end);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, written_at_every_level);
	tcase_add_test(tc, raw_base);
	tcase_add_test(tc, ranges_and_modes);
	tcase_add_test(tc, cycles);
	tcase_add_test(tc, depth);
	tcase_add_test(tc, parents_that_will_not_do);
	tcase_add_test(tc, hidden_and_poisoned);
	tcase_add_test(tc, locked);
	tcase_add_test(tc, one_footer_is_enough);
	tcase_add_test(tc, encrypted);
	tcase_add_test(tc, information);
	suite_add_tcase(suite, tc);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
