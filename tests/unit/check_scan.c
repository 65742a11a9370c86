/* check_scan.c - many images told in order, whatever threads do; what is told of each */
#include <check.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/locator.h"
#include "libvhd/scan.h"
#include "tests/lib/edit.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"

#define SIZE	   (8u << 20)
#define IMAGES	   40
#define NAMES_MAX  2000
#define STOP	   77
#define NO_PARENT  (-1)
#define MISSING	   (-2) /* parent removed */
#define NOT_AN_IMG (-3)

/* What the scan must say. */
struct expected {
	char name[64];
	int parent; /* index, or one of the above */
	uint8_t id[16];
};

struct world {
	struct rng rng;
	struct expected images[IMAGES];
	int order[NAMES_MAX]; /* names asked for, as indices */
	int named, asked, told;
	int stop_at; /* -1: never */
	bool brief;
};

static void make_images(struct world *w)
{
	char name[64];

	ck_assert_int_eq(mkdir("d", 0755), 0);
	for (int i = 0; i < IMAGES; i++) {
		struct expected *e = &w->images[i];
		int parent = i && rng_chance(&w->rng, 60) ? (int)rng_below(&w->rng, (unsigned)i) :
							    NO_PARENT;

		snprintf(e->name, sizeof(e->name), "%simage%d.vhd",
			 rng_chance(&w->rng, 30) ? "d/" : "", i);
		e->parent = parent;
		if (rng_chance(&w->rng, 10)) {
			edit_file(e->name, 700, 'x');
			e->parent = NOT_AN_IMG;
		} else if (parent >= 0 && w->images[parent].parent != NOT_AN_IMG) {
			edit_snapshot(e->name, w->images[parent].name);
		} else {
			e->parent = NO_PARENT;
			edit_create(e->name, SIZE);
		}
		if (e->parent != NOT_AN_IMG)
			edit_get_id(e->name, e->id);
	}
	/* some parents go away, once all are made */
	for (int i = 0; i < IMAGES; i++) {
		if (!rng_chance(&w->rng, 10))
			continue;
		snprintf(name, sizeof(name), "gone%d", i);
		ck_assert_int_eq(rename(w->images[i].name, name), 0);
		strcpy(w->images[i].name, name);
		for (int k = 0; k < IMAGES; k++)
			if (w->images[k].parent == i)
				w->images[k].parent = MISSING;
	}
}

static bool next(void *arg, struct vhd_scan_name *out)
{
	struct world *w = arg;

	if (w->asked == w->named)
		return false;
	out->name = w->images[w->order[w->asked]].name;
	out->cookie = &w->images[w->order[w->asked]];
	w->asked++;
	return true;
}

static void check_parent(const struct world *w, const struct expected *e,
			 const struct vhd_scan_image *image)
{
	char real[PATH_MAX];
	struct stat st;

	if (e->parent == NO_PARENT) {
		ck_assert_ptr_null(image->parent);
		ck_assert_int_eq(image->type, VHD_TYPE_DYNAMIC);
		return;
	}
	ck_assert_int_eq(image->type, VHD_TYPE_DIFFERENCING);
	ck_assert_ptr_nonnull(image->parent);
	if (w->brief) {
		ck_assert_ptr_null(image->parent_error);
		ck_assert_ptr_null(strchr(image->parent, '/'));
	} else if (e->parent == MISSING) {
		ck_assert_ptr_nonnull(image->parent_error);
		ck_assert_int_eq(image->parent_error->code, -VHD_E_PARENT_MISSING);
		ck_assert(!image->parent_device && !image->parent_inode);
	} else {
		ck_assert_ptr_null(image->parent_error);
		ck_assert_ptr_nonnull(realpath(w->images[e->parent].name, real));
		ck_assert_str_eq(image->parent, real);
		ck_assert_int_eq(stat(real, &st), 0);
		ck_assert_uint_eq(image->parent_inode, st.st_ino);
		ck_assert_mem_eq(image->parent_id, w->images[e->parent].id, 16);
	}
}

static int told(void *arg, const struct vhd_scan_image *image)
{
	struct world *w = arg;
	const struct expected *e = &w->images[w->order[w->told]];
	struct stat st;

	ck_assert_str_eq(image->name, e->name);
	ck_assert_ptr_eq(image->cookie, e);
	ck_assert_int_lt(w->told, w->asked);
	if (e->parent == NOT_AN_IMG) {
		ck_assert_ptr_nonnull(image->error);
		ck_assert_int_eq(image->error->code, -VHD_E_NOT_VHD);
		ck_assert(image->error->text[0]);
	} else {
		ck_assert_msg(!image->error, "%s", image->error ? image->error->text : "");
		ck_assert_int_eq(stat(e->name, &st), 0);
		ck_assert_uint_eq(image->inode, st.st_ino);
		ck_assert_uint_eq(image->file_size, (uint64_t)st.st_size);
		ck_assert_uint_eq(image->size, SIZE);
		ck_assert_mem_eq(image->id, e->id, 16);
		check_parent(w, e, image);
	}
	w->told++;
	return w->told - 1 == w->stop_at ? STOP : 0;
}

START_TEST(any_order)
{
	struct world w = { .rng.state = suite_seed(4711) };
	struct vhd_error err = { 0 };

	edit_begin("check_scan");
	make_images(&w);
	for (int round = 0; round < 60; round++) {
		struct vhd_scan_options o = {
			.threads = (unsigned)rng_below(&w.rng, 6),
			.next = next,
			.image = told,
			.arg = &w,
		};
		int rc;

		w.named = (int)rng_below(&w.rng, round % 6 ? IMAGES : NAMES_MAX);
		for (int i = 0; i < w.named; i++)
			w.order[i] = (int)rng_below(&w.rng, IMAGES);
		w.asked = w.told = 0;
		w.brief = o.brief = rng_chance(&w.rng, 30);
		w.stop_at = w.named && rng_chance(&w.rng, 30) ?
				    (int)rng_below(&w.rng, (unsigned)w.named) :
				    -1;
		rc = vhd_scan(&o, &err);
		ck_assert_int_eq(rc, w.stop_at < 0 ? 0 : STOP);
		ck_assert_int_eq(w.told, w.stop_at < 0 ? w.named : w.stop_at + 1);
	}
	edit_end();
}
END_TEST

/* ── names that come up while it runs ── */

struct growing {
	int left, asked, told;
};

static bool next_growing(void *arg, struct vhd_scan_name *out)
{
	struct growing *g = arg;

	if (g->asked > g->told || g->asked == g->left)
		return false;
	out->name = "one.vhd";
	g->asked++;
	return true;
}

static int told_growing(void *arg, const struct vhd_scan_image *image)
{
	struct growing *g = arg;

	ck_assert_ptr_null(image->error);
	g->told++;
	return 0;
}

START_TEST(names_after_each_image)
{
	struct growing g = { .left = 600 };
	const struct vhd_scan_options o = {
		.threads = 3,
		.next = next_growing,
		.image = told_growing,
		.arg = &g,
	};
	struct vhd_error err = { 0 };

	edit_begin("check_scan");
	edit_create("one.vhd", SIZE);
	ck_assert_int_eq(vhd_scan(&o, &err), 0);
	ck_assert_int_eq(g.told, 600);
	edit_end();
}
END_TEST

/* ── what stands in the way ── */

struct single {
	const char *name;
	bool raw, asked;
	int code, parent_code;
	bool hidden;
	uint64_t size;
	char parent[PATH_MAX];
};

static bool next_single(void *arg, struct vhd_scan_name *out)
{
	struct single *s = arg;

	if (s->asked)
		return false;
	s->asked = true;
	out->name = s->name;
	out->raw = s->raw;
	return true;
}

static int told_single(void *arg, const struct vhd_scan_image *image)
{
	struct single *s = arg;

	s->code = image->error ? image->error->code : 0;
	s->parent_code = image->parent_error ? image->parent_error->code : 0;
	s->hidden = image->hidden;
	s->size = image->size;
	snprintf(s->parent, sizeof(s->parent), "%s", image->parent ? image->parent : "none");
	return 0;
}

static struct single scan_one(const char *name, bool raw)
{
	struct single s = { .name = name, .raw = raw, .code = 1 };
	const struct vhd_scan_options o = {
		.next = next_single,
		.image = told_single,
		.arg = &s,
	};
	struct vhd_error err = { 0 };

	ck_assert_int_eq(vhd_scan(&o, &err), 0);
	ck_assert_int_ne(s.code, 1);
	return s;
}

START_TEST(hostile)
{
	uint8_t id[16] = { 9 };
	struct single s;

	edit_begin("check_scan");
	ck_assert_int_eq(scan_one("missing.vhd", false).code, -ENOENT);
	ck_assert_int_eq(scan_one(".", false).code, -VHD_E_NOT_FILE);
	ck_assert_int_eq(mkfifo("fifo", 0600), 0);
	ck_assert_int_eq(scan_one("fifo", false).code, -VHD_E_NOT_FILE);
	ck_assert_int_eq(scan_one("/dev/null", false).code, -VHD_E_NOT_FILE);
	edit_file("empty", 0, 0);
	ck_assert_int_eq(scan_one("empty", false).code, -VHD_E_NOT_VHD);
	ck_assert_int_eq(symlink("loop", "loop"), 0);
	ck_assert_int_eq(scan_one("loop", false).code, -ELOOP);
	edit_create("base.vhd", SIZE);
	edit_poison("base.vhd");
	ck_assert_int_eq(scan_one("base.vhd", false).code, 0);

	edit_file("disk.raw", 5000, 7);
	s = scan_one("disk.raw", true);
	ck_assert(s.code == 0 && s.hidden && s.size == 5000);
	edit_snapshot_raw("over.vhd", "disk.raw");
	s = scan_one("over.vhd", false);
	ck_assert_int_eq(s.parent_code, 0);
	ck_assert_str_eq(strrchr(s.parent, '/'), "/disk.raw");

	/* another image in the place of the parent */
	edit_create("base.vhd2", SIZE);
	edit_snapshot("child.vhd", "base.vhd2");
	edit_set_parent_id("child.vhd", id);
	s = scan_one("child.vhd", false);
	ck_assert_int_eq(s.code, 0);
	ck_assert_int_eq(s.parent_code, -VHD_E_PARENT_ID);
	ck_assert_str_eq(s.parent, "./base.vhd2");
	edit_end();
}
END_TEST

/* ── files that come and go meanwhile ── */

static atomic_bool ending;

static void *come_and_go(void *arg)
{
	(void)arg;
	while (!atomic_load(&ending)) {
		rename("one.vhd", "two.vhd");
		rename("two.vhd", "one.vhd");
	}
	return NULL;
}

static int told_vanishing(void *arg, const struct vhd_scan_image *image)
{
	struct growing *g = arg;

	ck_assert(!image->error || image->error->code == -ENOENT);
	g->told++;
	return 0;
}

static bool next_vanishing(void *arg, struct vhd_scan_name *out)
{
	struct growing *g = arg;

	out->name = "one.vhd";
	return g->asked++ < g->left;
}

START_TEST(vanishing)
{
	struct growing g = { .left = 3000 };
	const struct vhd_scan_options o = {
		.threads = 4,
		.next = next_vanishing,
		.image = told_vanishing,
		.arg = &g,
	};
	struct vhd_error err = { 0 };
	pthread_t thread;

	edit_begin("check_scan");
	edit_create("one.vhd", SIZE);
	atomic_store(&ending, false);
	ck_assert_int_eq(pthread_create(&thread, NULL, come_and_go, NULL), 0);
	ck_assert_int_eq(vhd_scan(&o, &err), 0);
	ck_assert_int_eq(g.told, 3000);
	atomic_store(&ending, true);
	pthread_join(thread, NULL);
	edit_end();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		any_order, names_after_each_image, hostile, vanishing, NULL,
	};

	return suite_run("scan", tests);
}
