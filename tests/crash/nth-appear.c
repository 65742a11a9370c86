/* nth-appear.c - operations that make an image, a delta, an archive, of which each call fails in turn */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nth.h"

static struct scene *const s = &nth_scene;
static uint8_t zeros[SCENE_BYTES], old[SCENE_BYTES], buf[SCENE_BYTES];

static int create(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_create_options o = { .type = j->to == VHD_FORMAT_FIXED ? VHD_TYPE_FIXED :
									    VHD_TYPE_DYNAMIC,
					.size = s->size,
					.force = j->over };

	return vhd_create(scene_path(s->now, NTH_TARGET), &o, err);
}

static int snapshot(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_snapshot_options o = { .force = j->over };

	return vhd_snapshot(scene_path(s->now, NTH_TARGET), nth_leaf(), &o, err);
}

static int convert(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_convert_options o = { .to = j->to, .force = j->over, .block_size = 0 };

	return vhd_convert(nth_leaf(), scene_path(s->now, NTH_TARGET), &o, NULL, err);
}

static int copy(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_copy_options o = { .force = j->over };

	return vhd_copy(nth_leaf(), scene_path(s->now, NTH_TARGET), &o, NULL, err);
}

static int delta_create(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_delta_options o = { .force = j->over };

	return vhd_delta_create(scene_level(s->now, 0), nth_leaf(), scene_path(s->now, NTH_TARGET),
				&o, NULL, err);
}

static int delta_apply(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_apply_options o = { .resume = j->over };

	return vhd_delta_apply(scene_path(s->now, "delta"), scene_level(s->now, 0),
			       scene_path(s->now, NTH_TARGET), &o, NULL, err);
}

/* What arrived and is right need not come again, whatever failed since; otherwise all of it does. */
static int delta_resume(const struct nth_job *j, struct vhd_error *err)
{
	bool whole = !access(scene_path(s->now, "." NTH_TARGET ".delta.whole"), F_OK);
	struct vhd_apply_options o = { .resume = true };
	struct vhd_apply_result r;
	uint64_t bytes;
	struct stat st;
	int rc = vhd_delta_arrived(scene_path(s->now, NTH_TARGET), &bytes, err);

	if (rc < 0)
		return rc;
	if (stat(scene_path(s->now, "delta"), &st) < 0 || (whole && bytes != (uint64_t)st.st_size))
		scene_die(s, NULL, "%s: %llu bytes have arrived", j->name,
			  (unsigned long long)bytes);
	rc = vhd_delta_apply(whole ? "/dev/null" : scene_path(s->now, "delta"),
			     scene_level(s->now, 0), scene_path(s->now, NTH_TARGET), &o, &r, err);
	if (!rc && whole && r.resumed_bytes != r.bytes)
		scene_die(s, NULL, "%s: what was here arrived again", j->name);
	return rc;
}

/* ── a chain through an archive ── */

static int export(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_export_options o = { .force = j->over };

	return vhd_export(nth_leaf(), scene_path(s->now, NTH_TARGET), &o, NULL, err);
}

/* Right or not there: what is there goes into a directory, and its leaf is looked at. */
static void look_at_archive(const struct nth_job *j, bool done, const char *when)
{
	struct vhd_import_options o = { 0 };
	struct vhd_import_result r;
	char to[256], path[600];
	struct vhd_error err;
	struct stat st;

	if (stat(scene_path(s->now, NTH_TARGET), &st) < 0) {
		if (done)
			scene_die(s, NULL, "%s: %s: no archive", j->name, when);
		return;
	}
	if (j->over && !done) /* what was there before */
		return;
	snprintf(to, sizeof(to), "%s", scene_path(s->now, "unpacked"));
	scene_must(s, vhd_import(scene_path(s->now, NTH_TARGET), to, &o, &r, &err), &err, when);
	snprintf(path, sizeof(path), "%s/%s", to, r.leaf);
	scene_expect(s, path, false, s->data[s->depth - 1], when);
	scene_remove(to);
}

static int import(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_import_options o = { 0 };
	static struct vhd_import_result r;

	(void)j;
	return vhd_import(scene_path(s->now, "chain.tar"), scene_path(s->now, NTH_TARGET), &o, &r,
			  err);
}

static void look_at_directory(const struct nth_job *j, bool done, const char *when)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/%u.vhd", scene_path(s->now, NTH_TARGET), s->depth - 1);
	if (!access(path, F_OK))
		scene_expect(s, path, false, s->data[s->depth - 1], when);
	else if (done || !access(scene_path(s->now, NTH_TARGET), F_OK))
		scene_die(s, NULL, "%s: %s: no chain", j->name, when);
	if (!done && scene_count(s->now, "." NTH_TARGET "."))
		scene_die(s, NULL, "%s: %s: a directory is left", j->name, when);
	scene_remove(scene_path(s->now, NTH_TARGET));
}

static void look_at_target(const struct nth_job *j, bool done, const char *when)
{
	const uint8_t *wanted = j->run == create ? zeros : s->data[s->depth - 1];
	bool raw = j->run == convert && j->to == VHD_FORMAT_RAW;
	const char *path = scene_path(s->now, NTH_TARGET);
	struct vhd_error err;
	int rc;

	if (access(path, F_OK)) {
		if (done || j->over)
			scene_die(s, NULL, "%s: %s: the target is gone", j->name, when);
		return;
	}
	rc = scene_read(s, path, false, buf, &err);
	if (rc == -VHD_E_NOT_VHD && raw)
		rc = scene_read(s, path, true, buf, &err);
	scene_must(s, rc, &err, when);
	if (memcmp(buf, wanted, s->size) != 0 &&
	    (done || !j->over || memcmp(buf, old, s->size) != 0))
		scene_die(s, NULL, "%s: %s: half a target", j->name, when);
}

/* What cannot be read is lost, and told: the target is there without it. */
static bool some_lost;

static int salvage(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_salvage_options o = { .force = true };
	struct vhd_salvage_result r;
	int rc;

	(void)j;
	nth_damage_leaf();
	rc = vhd_salvage(nth_leaf(), scene_path(s->now, NTH_TARGET), &o, &r, err);
	some_lost = !rc && r.lost_bytes;
	if (!some_lost)
		return rc;
	err->code = -EIO;
	snprintf(err->text, sizeof(err->text), "%llu bytes are lost",
		 (unsigned long long)r.lost_bytes);
	return -EIO;
}

static void look_at_salvage(const struct nth_job *j, bool done, const char *when)
{
	if (some_lost)
		scene_check(s, scene_path(s->now, NTH_TARGET), SCENE_CLEAN, when);
	else
		look_at_target(j, done, when);
}

/* ── the worlds they begin in ── */

/* A target that is there already. */
static void make_old(const struct nth_job *j)
{
	struct vhd_create_options o = { .type = VHD_TYPE_DYNAMIC, .size = s->size };
	struct vhd_open_options w = { .flags = VHD_OPEN_WRITE };
	struct vhd_chain *chain;
	struct vhd_error err;

	(void)j;
	memset(old, 0, sizeof(old));
	scene_must(s, vhd_create(scene_path(s->now, NTH_TARGET), &o, &err), &err, "create");
	scene_must(s, vhd_open(scene_path(s->now, NTH_TARGET), &w, &chain, &err), &err, "open");
	scene_scribble(s, chain, old);
	scene_must(s, vhd_close(chain, &err), &err, "close");
}

static void make_delta(const struct nth_job *j)
{
	struct vhd_delta_options d = { 0 };
	struct vhd_error err;

	(void)j;
	scene_must(s,
		   vhd_delta_create(scene_level(s->now, 0), nth_leaf(), scene_path(s->now, "delta"),
				    &d, NULL, &err),
		   &err, "delta");
}

static void make_archive(const struct nth_job *j)
{
	struct vhd_export_options e = { 0 };
	struct vhd_error err;

	(void)j;
	scene_must(s, vhd_export(nth_leaf(), scene_path(s->now, "chain.tar"), &e, NULL, &err), &err,
		   "export");
}

static const struct nth_job jobs[] = {
	{ "create", .run = create, .look = look_at_target, .to = VHD_FORMAT_DYNAMIC },
	{ "create over", .run = create, .look = look_at_target, .over = true,
	  .to = VHD_FORMAT_DYNAMIC, .prepare = make_old },
	{ "create fixed", .run = create, .look = look_at_target, .to = VHD_FORMAT_FIXED },
	{ "snapshot", .run = snapshot, .look = look_at_target },
	{ "snapshot over", .run = snapshot, .look = look_at_target, .over = true,
	  .prepare = make_old },
	{ "convert to raw", .run = convert, .look = look_at_target, .to = VHD_FORMAT_RAW },
	{ "convert to fixed", .run = convert, .look = look_at_target, .over = true,
	  .to = VHD_FORMAT_FIXED, .prepare = make_old },
	{ "convert to dynamic", .run = convert, .look = look_at_target, .over = true,
	  .to = VHD_FORMAT_DYNAMIC, .prepare = make_old },
	{ "copy", .run = copy, .look = look_at_target },
	{ "copy over", .run = copy, .look = look_at_target, .over = true, .prepare = make_old },
	{ "delta create", .run = delta_create, .look = look_at_target },
	{ "delta create over", .run = delta_create, .look = look_at_target, .over = true,
	  .prepare = make_old },
	{ "delta apply", .run = delta_apply, .look = look_at_target, .prepare = make_delta },
	{ "delta apply, resumed", .run = delta_apply, .look = look_at_target, .prepare = make_delta,
	  .again = delta_resume },
	{ "export", .run = export, .look = look_at_archive },
	{ "import", .run = import, .look = look_at_directory, .prepare = make_archive },
	{ "salvage", .run = salvage, .look = look_at_salvage },
	{ "salvage over", .run = salvage, .look = look_at_salvage, .over = true,
	  .prepare = make_old },
};

const struct nth_jobs nth_appear = { jobs, sizeof(jobs) / sizeof(jobs[0]), .threads = true };
