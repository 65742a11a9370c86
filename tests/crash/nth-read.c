/* nth-read.c - operations that only read, of which each call fails in turn */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "nth.h"

static struct scene *const s = &nth_scene;
static uint8_t buf[SCENE_BYTES];

static int check(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_check_options o = { .parents_too = true,
				       .bitmaps = true,
				       .ignore_timestamps = true };
	struct vhd_check_result r;
	int rc = vhd_check(nth_leaf(), &o, &r, err);

	(void)j;
	if (!rc && r.damages) {
		/* a parent that cannot be examined is a finding */
		err->code = -EIO;
		snprintf(err->text, sizeof(err->text), "%u findings", r.damages);
		return -EIO;
	}
	return rc;
}

static int compare(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_compare_options o = { 0 };
	uint64_t first = 0;

	(void)j;
	return vhd_compare(nth_leaf(), nth_leaf(), &o, &first, err);
}

static int read_chain(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_open_options o = { 0 };
	struct vhd_extent extents[8];
	struct vhd_chain *chain;
	struct vhd_info info;
	int rc = vhd_open(nth_leaf(), &o, &chain, err);

	(void)j;
	if (rc < 0)
		return rc;
	rc = vhd_read(chain, buf, s->size, 0, err);
	if (!rc && memcmp(buf, s->data[s->depth - 1], s->size) != 0)
		scene_die(s, NULL, "read without an error, and wrong");
	if (!rc)
		rc = vhd_extents(chain, 0, s->size, extents, 8, err);
	if (rc > 0)
		rc = vhd_layer_info(chain, 1, &info, err);
	(void)!vhd_close(chain, NULL);
	return rc < 0 ? rc : 0;
}

struct scanning {
	unsigned asked, told;
	int code;
	struct vhd_error *err;
};

static bool scan_next(void *arg, struct vhd_scan_name *out)
{
	struct scanning *sc = arg;

	if (sc->asked == s->depth)
		return false;
	out->name = scene_level(s->now, sc->asked++);
	return true;
}

static int scan_told(void *arg, const struct vhd_scan_image *image)
{
	struct scanning *sc = arg;
	const struct vhd_error *e = image->error ? image->error : image->parent_error;

	sc->told++;
	if (!e && image->size != s->size)
		scene_die(s, NULL, "scanned without an error, and wrong");
	if (e && !sc->code) {
		sc->code = e->code;
		*sc->err = *e;
	}
	return 0;
}

static int scan(const struct nth_job *j, struct vhd_error *err)
{
	struct scanning sc = { .err = err };
	const struct vhd_scan_options o = {
		.brief = j->over,
		.threads = 1,
		.next = scan_next,
		.image = scan_told,
		.arg = &sc,
	};
	int rc = vhd_scan(&o, err);

	if (!rc && sc.told != s->depth)
		scene_die(s, NULL, "%u of %u images were told", sc.told, s->depth);
	return rc ? rc : sc.code;
}

static const struct nth_job jobs[] = {
	{ "check", .run = check, .look = nth_look_at_leaf },
	{ "compare", .run = compare, .look = nth_look_at_leaf },
	{ "read", .run = read_chain, .look = nth_look_at_leaf },
	{ "scan", .run = scan, .look = nth_look_at_leaf },
	{ "scan, brief", .run = scan, .look = nth_look_at_leaf, .over = true },
};

const struct nth_jobs nth_read = { jobs, sizeof(jobs) / sizeof(jobs[0]), .threads = true };
