/* crash_nth.c - the Nth allocation and the Nth system call of every operation fail in turn
 *
 * Once, or with all that come after it.  Nothing leaks (memory and descriptors are counted, and a
 * sanitizer build looks, too), nothing crashes; an error has its own code and a text; what was
 * there stays, and the same call works afterwards.  A call that succeeds in spite of it has done
 * its work.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "history.h"
#include "libvhd/cbt.h"
#include "libvhd/error.h"
#include "scene.h"
#include "sys.h"

#define TARGET "t.vhd"
#define CALLS  100000l /* no operation makes more */

struct job {
	const char *name;
	int (*run)(const struct job *job, struct vhd_error *err);
	/* Is the world as it was, or as it is to be (@done)? */
	void (*look)(const struct job *job, bool done, const char *when);
	bool over; /* there is a target already */
	enum vhd_format to;
};

static struct scene s;
static struct history history;
static uint8_t zeros[SCENE_BYTES], old[SCENE_BYTES], buf[SCENE_BYTES];
static unsigned long failures, survived;

static const char *leaf(void)
{
	return scene_level(s.now, s.depth - 1);
}

/* ── images that appear ── */

static int create(const struct job *j, struct vhd_error *err)
{
	struct vhd_create_options o = { .type = j->to == VHD_FORMAT_FIXED ? VHD_TYPE_FIXED :
									    VHD_TYPE_DYNAMIC,
					.size = s.size,
					.force = j->over };

	return vhd_create(scene_path(s.now, TARGET), &o, err);
}

static int snapshot(const struct job *j, struct vhd_error *err)
{
	struct vhd_snapshot_options o = { .force = j->over };

	return vhd_snapshot(scene_path(s.now, TARGET), leaf(), &o, err);
}

static int convert(const struct job *j, struct vhd_error *err)
{
	struct vhd_convert_options o = { .to = j->to, .force = j->over, .block_size = 0 };

	return vhd_convert(leaf(), scene_path(s.now, TARGET), &o, NULL, err);
}

static int copy(const struct job *j, struct vhd_error *err)
{
	struct vhd_copy_options o = { .force = j->over };

	return vhd_copy(leaf(), scene_path(s.now, TARGET), &o, NULL, err);
}

static int delta_create(const struct job *j, struct vhd_error *err)
{
	struct vhd_delta_options o = { .force = j->over };

	return vhd_delta_create(scene_level(s.now, 0), leaf(), scene_path(s.now, TARGET), &o, NULL,
				err);
}

static int delta_apply(const struct job *j, struct vhd_error *err)
{
	struct vhd_apply_options o = { .resume = j->over };

	return vhd_delta_apply(scene_path(s.now, "delta"), scene_level(s.now, 0),
			       scene_path(s.now, TARGET), &o, NULL, err);
}

/* ── a chain through an archive ── */

static int export(const struct job *j, struct vhd_error *err)
{
	struct vhd_export_options o = { .force = j->over };

	return vhd_export(leaf(), scene_path(s.now, TARGET), &o, NULL, err);
}

/* Right or not there: what is there goes into a directory, and its leaf is looked at. */
static void look_at_archive(const struct job *j, bool done, const char *when)
{
	struct vhd_import_options o = { 0 };
	struct vhd_import_result r;
	char to[256], path[600];
	struct vhd_error err;
	struct stat st;

	if (stat(scene_path(s.now, TARGET), &st) < 0) {
		if (done)
			scene_die(&s, NULL, "%s: %s: no archive", j->name, when);
		return;
	}
	if (j->over && !done) /* what was there before */
		return;
	snprintf(to, sizeof(to), "%s", scene_path(s.now, "unpacked"));
	scene_must(&s, vhd_import(scene_path(s.now, TARGET), to, &o, &r, &err), &err, when);
	snprintf(path, sizeof(path), "%s/%s", to, r.leaf);
	scene_expect(&s, path, false, s.data[s.depth - 1], when);
	scene_remove(to);
}

static int import(const struct job *j, struct vhd_error *err)
{
	struct vhd_import_options o = { 0 };
	static struct vhd_import_result r;

	(void)j;
	return vhd_import(scene_path(s.now, "chain.tar"), scene_path(s.now, TARGET), &o, &r, err);
}

static void look_at_directory(const struct job *j, bool done, const char *when)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/%u.vhd", scene_path(s.now, TARGET), s.depth - 1);
	if (!access(path, F_OK))
		scene_expect(&s, path, false, s.data[s.depth - 1], when);
	else if (done || !access(scene_path(s.now, TARGET), F_OK))
		scene_die(&s, NULL, "%s: %s: no chain", j->name, when);
	if (!done && scene_count(s.now, "." TARGET "."))
		scene_die(&s, NULL, "%s: %s: a directory is left", j->name, when);
	scene_remove(scene_path(s.now, TARGET));
}

static void look_at_target(const struct job *j, bool done, const char *when)
{
	const uint8_t *wanted = j->run == create ? zeros : s.data[s.depth - 1];
	bool raw = j->run == convert && j->to == VHD_FORMAT_RAW;
	const char *path = scene_path(s.now, TARGET);
	struct vhd_error err;
	int rc;

	if (access(path, F_OK)) {
		if (done || j->over)
			scene_die(&s, NULL, "%s: %s: the target is gone", j->name, when);
		return;
	}
	rc = scene_read(&s, path, false, buf, &err);
	if (rc == -VHD_E_NOT_VHD && raw)
		rc = scene_read(&s, path, true, buf, &err);
	scene_must(&s, rc, &err, when);
	if (memcmp(buf, wanted, s.size) != 0 && (done || !j->over || memcmp(buf, old, s.size) != 0))
		scene_die(&s, NULL, "%s: %s: half a target", j->name, when);
}

/* ── images that change ── */

static int write_session(const struct job *j, struct vhd_error *err)
{
	static const uint64_t places[] = { 0, 5000, 700, 30000, 512, 2048 };
	struct vhd_open_options o = { .flags = VHD_OPEN_WRITE };
	struct vhd_error after;
	struct vhd_chain *chain;
	int rc = vhd_open(leaf(), &o, &chain, err), closed;

	(void)j;
	for (unsigned i = 0; !rc && i < 6; i++) {
		uint64_t at = places[i] % s.size, n = 2000 < s.size - at ? 2000 : s.size - at;

		memset(buf, (int)(i + 1), n);
		rc = vhd_write(chain, buf, n, at, err);
		if (!rc && i == 3)
			rc = vhd_flush(chain, err);
		if (rc < 0) {
			(void)!vhd_close(chain, &after);
			return rc;
		}
	}
	if (rc < 0)
		return rc;
	closed = vhd_close(chain, err);
	return closed;
}

static void expect_writes(uint8_t *data, struct history *h)
{
	static const uint64_t places[] = { 0, 5000, 700, 30000, 512, 2048 };

	for (unsigned i = 0; i < 6; i++) {
		uint64_t at = places[i] % s.size, n = 2000 < s.size - at ? 2000 : s.size - at;

		memset(data + at, (int)(i + 1), n);
		if (h)
			history_write(h, data, at / 512, (at + n + 511) / 512 - at / 512);
	}
}

static void look_at_writes(const struct job *j, bool done, const char *when)
{
	static uint8_t data[SCENE_BYTES];
	struct vhd_error err;
	uint64_t sector;

	memcpy(data, s.data[s.depth - 1], s.size);
	history_begin(&history, data, s.size / 512);
	expect_writes(data, &history);
	if (done)
		history_flush(&history);
	scene_must(&s, scene_read(&s, leaf(), false, buf, &err), &err, when);
	if (!history_allows(&history, buf, &sector))
		scene_die(&s, NULL, "%s: %s: sector %llu is neither old nor new", j->name, when,
			  (unsigned long long)sector);
	history_end(&history);
}

static int coalesce(const struct job *j, struct vhd_error *err)
{
	struct vhd_coalesce_options o = { 0 };

	(void)j;
	return vhd_coalesce(leaf(), &o, NULL, err);
}

static void look_at_merge(const struct job *j, bool done, const char *when)
{
	const char *parent = scene_level(s.now, s.depth - 2);
	struct vhd_error err;
	int rc;

	scene_expect(&s, leaf(), false, s.data[s.depth - 1], when);
	rc = scene_read(&s, parent, false, buf, &err);
	if (rc == -VHD_E_COALESCING && !done)
		return;
	scene_must(&s, rc, &err, when);
	if (memcmp(buf, s.data[s.depth - 1], s.size) != 0 &&
	    (done || memcmp(buf, s.data[s.depth - 2], s.size) != 0))
		scene_die(&s, NULL, "%s: %s: the parent is half merged", j->name, when);
}

static int set(const struct job *j, struct vhd_error *err)
{
	return vhd_set(leaf(), j->over ? VHD_FIELD_MARKER : VHD_FIELD_HIDDEN, 1, err);
}

/* The copy of the footer is gone: readers work, with a warning. */
static void damage_leaf(void)
{
	static const uint8_t zero[512];
	FILE *f = fopen(leaf(), "r+e");

	if (!f || fwrite(zero, sizeof(zero), 1, f) != 1 || fclose(f))
		scene_die(&s, NULL, "cannot damage '%s'", leaf());
}

static int repair(const struct job *j, struct vhd_error *err)
{
	struct vhd_repair_options o = { 0 };
	struct vhd_repair_result r;

	(void)j;
	damage_leaf();
	return vhd_repair(leaf(), &o, &r, err);
}

/* What cannot be read is lost, and told: the target is there without it. */
static bool some_lost;

static int salvage(const struct job *j, struct vhd_error *err)
{
	struct vhd_salvage_options o = { .force = true };
	struct vhd_salvage_result r;
	int rc;

	(void)j;
	damage_leaf();
	rc = vhd_salvage(leaf(), scene_path(s.now, TARGET), &o, &r, err);
	some_lost = !rc && r.lost_bytes;
	if (!some_lost)
		return rc;
	err->code = -EIO;
	snprintf(err->text, sizeof(err->text), "%llu bytes are lost",
		 (unsigned long long)r.lost_bytes);
	return -EIO;
}

static void look_at_salvage(const struct job *j, bool done, const char *when)
{
	if (some_lost)
		scene_check(&s, scene_path(s.now, TARGET), SCENE_CLEAN, when);
	else
		look_at_target(j, done, when);
}

/* ── images that are only read ── */

static int check(const struct job *j, struct vhd_error *err)
{
	struct vhd_check_options o = { .parents_too = true,
				       .bitmaps = true,
				       .ignore_timestamps = true };
	struct vhd_check_result r;
	int rc = vhd_check(leaf(), &o, &r, err);

	(void)j;
	if (!rc && r.damages) {
		/* a parent that cannot be examined is a finding */
		err->code = -EIO;
		snprintf(err->text, sizeof(err->text), "%u findings", r.damages);
		return -EIO;
	}
	return rc;
}

static int compare(const struct job *j, struct vhd_error *err)
{
	struct vhd_compare_options o = { 0 };
	uint64_t first = 0;

	(void)j;
	return vhd_compare(leaf(), leaf(), &o, &first, err);
}

static int read_chain(const struct job *j, struct vhd_error *err)
{
	struct vhd_open_options o = { 0 };
	struct vhd_extent extents[8];
	struct vhd_chain *chain;
	struct vhd_info info;
	int rc = vhd_open(leaf(), &o, &chain, err);

	(void)j;
	if (rc < 0)
		return rc;
	rc = vhd_read(chain, buf, s.size, 0, err);
	if (!rc && memcmp(buf, s.data[s.depth - 1], s.size) != 0)
		scene_die(&s, NULL, "read without an error, and wrong");
	if (!rc)
		rc = vhd_extents(chain, 0, s.size, extents, 8, err);
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

	if (sc->asked == s.depth)
		return false;
	out->name = scene_level(s.now, sc->asked++);
	return true;
}

static int scan_told(void *arg, const struct vhd_scan_image *image)
{
	struct scanning *sc = arg;
	const struct vhd_error *e = image->error ? image->error : image->parent_error;

	sc->told++;
	if (!e && image->size != s.size)
		scene_die(&s, NULL, "scanned without an error, and wrong");
	if (e && !sc->code) {
		sc->code = e->code;
		*sc->err = *e;
	}
	return 0;
}

static int scan(const struct job *j, struct vhd_error *err)
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

	if (!rc && sc.told != s.depth)
		scene_die(&s, NULL, "%u of %u images were told", sc.told, s.depth);
	return rc ? rc : sc.code;
}

static void look_at_leaf(const struct job *j, bool done, const char *when)
{
	(void)j;
	(void)done;
	scene_expect(&s, leaf(), false, s.data[s.depth - 1], when);
	scene_check(&s, leaf(), SCENE_CUT, when);
}

/* ── changed-block logs ── */

#define LOG_BYTES (600ull << 20)

static int log_session(const char *path, struct vhd_error *err)
{
	static const uint8_t bits[2] = { 1, 2 };
	struct vhd_error after;
	struct cbt c;
	int rc = cbt_open(path, true, &c, err), ended;

	if (rc < 0)
		return rc;
	rc = cbt_begin(&c, LOG_BYTES, err);
	if (!rc) {
		ended = io_write(c.io, bits, sizeof(bits), CBT_HEADER_BYTES + 500);
		if (ended < 0)
			rc = error_system(err, ended, "write", path);
		ended = cbt_end(&c, !rc, rc ? &after : err);
		rc = rc ? rc : ended;
	}
	cbt_close(&c);
	return rc;
}

static int logs(const struct job *j, struct vhd_error *err)
{
	const bool yes = true;
	const struct cbt_change change = { .consistent = &yes };
	char older[128], newer[128];
	int rc;

	(void)j;
	snprintf(older, sizeof(older), "%s", scene_path(s.now, "older.log"));
	snprintf(newer, sizeof(newer), "%s", scene_path(s.now, "newer.log"));
	rc = cbt_create(older, LOG_BYTES / 2, true, false, err);
	if (!rc)
		rc = cbt_create(newer, LOG_BYTES, true, false, err);
	if (!rc)
		rc = cbt_set(older, &change, false, err);
	if (!rc)
		rc = cbt_set(newer, &change, false, err);
	if (!rc)
		rc = log_session(older, err);
	return rc ? rc : cbt_coalesce(older, newer, false, err);
}

static void look_at_logs(const struct job *j, bool done, const char *when)
{
	static const char *const names[] = { "older.log", "newer.log" };
	struct vhd_error err;
	struct cbt c;
	uint8_t bit;

	for (int i = 0; i < 2; i++) {
		const char *path = scene_path(s.now, names[i]);

		if (!done && access(path, F_OK))
			continue;
		scene_must(&s, cbt_open(path, false, &c, &err), &err, when);
		scene_must(&s, cbt_whole(&c, &err), &err, when);
		scene_must(&s, cbt_read(&c, &bit, 1, 501, &err), &err, when);
		if (done && (!c.header.consistent || bit != 2))
			scene_die(&s, NULL, "%s: %s: %s is not as it should be", j->name, when,
				  names[i]);
		cbt_close(&c);
	}
}

static int reparent(const struct job *j, struct vhd_error *err)
{
	struct vhd_modify_options o = { .parent = scene_level(s.now, 0) };

	(void)j;
	return vhd_modify(leaf(), &o, err);
}

/* The chain has lost a level, or not. */
static void look_at_parent(const struct job *j, bool done, const char *when)
{
	struct vhd_open_options o = { 0 };
	struct vhd_chain *chain;
	struct vhd_error err;
	unsigned depth;

	(void)j;
	scene_must(&s, vhd_open(leaf(), &o, &chain, &err), &err, when);
	depth = vhd_depth(chain);
	(void)!vhd_close(chain, NULL);
	if (depth == s.depth && !done)
		scene_expect(&s, leaf(), false, s.data[s.depth - 1], when);
	else if (depth != 2)
		scene_die(&s, NULL, "%s: %u images", when, depth);
	scene_check(&s, leaf(), SCENE_CUT, when);
}

static int rebase(const struct job *j, struct vhd_error *err)
{
	struct vhd_rebase_options o = { .parent = scene_level(s.now, 0) };

	(void)j;
	return vhd_rebase(leaf(), &o, NULL, err);
}

/* The parent has another name: what the leaf contains can be read only when it is found. */
static int relink(const struct job *j, struct vhd_error *err)
{
	const char *const directories[] = { s.now, NULL };
	struct vhd_relink_options o = { .directories = directories };
	static struct vhd_relink_result r;
	char from[256];

	(void)j;
	snprintf(from, sizeof(from), "%s", scene_level(s.now, s.depth - 2));
	sys_pause(true);
	(void)!rename(from, scene_path(s.now, "moved")); /* once */
	sys_pause(false);
	return vhd_relink(leaf(), &o, &r, err);
}

static void look_at_moved(const struct job *j, bool done, const char *when)
{
	struct vhd_error err;
	int rc = scene_read(&s, leaf(), false, buf, &err);

	(void)j;
	if (rc == -VHD_E_PARENT_MISSING && !done)
		return;
	scene_must(&s, rc, &err, when);
	if (memcmp(buf, s.data[s.depth - 1], s.size) != 0)
		scene_die(&s, NULL, "%s: other contents", when);
}

static int empty(const struct job *j, struct vhd_error *err)
{
	struct vhd_modify_options o = { .zero = true };

	(void)j;
	return vhd_modify(leaf(), &o, err);
}

static void look_at_empty(const struct job *j, bool done, const char *when)
{
	if (done)
		scene_expect(&s, leaf(), false, s.data[s.depth - 2], when);
	scene_check(&s, leaf(), SCENE_CUT, when);
	(void)j;
}

static const struct job jobs[] = {
	{ "create", create, look_at_target, false, VHD_FORMAT_DYNAMIC },
	{ "create over", create, look_at_target, true, VHD_FORMAT_DYNAMIC },
	{ "create fixed", create, look_at_target, false, VHD_FORMAT_FIXED },
	{ "snapshot", snapshot, look_at_target, false, VHD_FORMAT_AUTO },
	{ "snapshot over", snapshot, look_at_target, true, VHD_FORMAT_AUTO },
	{ "convert to raw", convert, look_at_target, false, VHD_FORMAT_RAW },
	{ "convert to fixed", convert, look_at_target, true, VHD_FORMAT_FIXED },
	{ "convert to dynamic", convert, look_at_target, true, VHD_FORMAT_DYNAMIC },
	{ "copy", copy, look_at_target, false, VHD_FORMAT_AUTO },
	{ "copy over", copy, look_at_target, true, VHD_FORMAT_AUTO },
	{ "delta create", delta_create, look_at_target, false, VHD_FORMAT_AUTO },
	{ "delta create over", delta_create, look_at_target, true, VHD_FORMAT_AUTO },
	{ "delta apply", delta_apply, look_at_target, false, VHD_FORMAT_AUTO },
	{ "export", export, look_at_archive, false, VHD_FORMAT_AUTO },
	{ "import", import, look_at_directory, false, VHD_FORMAT_AUTO },
	{ "write", write_session, look_at_writes, false, VHD_FORMAT_AUTO },
	{ "coalesce", coalesce, look_at_merge, false, VHD_FORMAT_AUTO },
	{ "set hidden", set, look_at_leaf, false, VHD_FORMAT_AUTO },
	{ "set marker", set, look_at_leaf, true, VHD_FORMAT_AUTO },
	{ "another parent", reparent, look_at_parent, false, VHD_FORMAT_AUTO },
	{ "the same on another parent", rebase, look_at_leaf, false, VHD_FORMAT_AUTO },
	{ "a parent that moved", relink, look_at_moved, false, VHD_FORMAT_AUTO },
	{ "no data", empty, look_at_empty, false, VHD_FORMAT_AUTO },
	{ "repair", repair, look_at_leaf, false, VHD_FORMAT_AUTO },
	{ "salvage", salvage, look_at_salvage, false, VHD_FORMAT_AUTO },
	{ "salvage over", salvage, look_at_salvage, true, VHD_FORMAT_AUTO },
	{ "check", check, look_at_leaf, false, VHD_FORMAT_AUTO },
	{ "compare", compare, look_at_leaf, false, VHD_FORMAT_AUTO },
	{ "read", read_chain, look_at_leaf, false, VHD_FORMAT_AUTO },
	{ "scan", scan, look_at_leaf, false, VHD_FORMAT_AUTO },
	{ "scan, brief", scan, look_at_leaf, true, VHD_FORMAT_AUTO },
	{ "changed-block logs", logs, look_at_logs, false, VHD_FORMAT_AUTO },
};

/* ── one by one ── */

struct kind {
	const char *name;
	void (*fail)(long nth, bool ever);
	bool (*end)(void);
	bool ever;
	int code, other_code;
};

static const struct kind kinds[] = {
	{ "allocation", alloc_fail, alloc_fail_end, false, -ENOMEM, -EAGAIN },
	{ "allocation and all after it", alloc_fail, alloc_fail_end, true, -ENOMEM, -EAGAIN },
	{ "call", sys_fail, sys_fail_end, false, -EIO, -EIO },
	{ "call and all after it", sys_fail, sys_fail_end, true, -EIO, -EIO },
};

static void check_error(const struct job *j, const struct kind *k, int rc,
			const struct vhd_error *err, const char *when)
{
	size_t n = strlen(err->text);

	if (rc != k->code && rc != k->other_code)
		scene_die(&s, err, "%s: %s: code %d (%s)", j->name, when, rc, vhd_error_name(rc));
	if (err->code != rc || !n || err->text[n - 1] == '\n')
		scene_die(&s, err, "%s: %s: returned %d, but the error says %d, '%s'", j->name,
			  when, rc, err->code, err->text);
}

/* False: it made no more calls than @nth. */
static bool fail_one(const struct job *j, const struct kind *k, long nth)
{
	struct vhd_error err = { 0 };
	int descriptors, rc;
	char when[80];
	long live;
	bool failed;

	scene_copy(s.next, s.now);
	snprintf(when, sizeof(when), "failing %s %ld", k->name, nth);
	descriptors = sys_descriptors();
	live = alloc_live();
	k->fail(nth, k->ever);
	rc = j->run(j, &err);
	failed = k->end();
	if (alloc_live() != live)
		scene_die(&s, NULL, "%s: %s: %ld allocations are left", j->name, when,
			  alloc_live() - live);
	if (sys_descriptors() != descriptors)
		scene_die(&s, NULL, "%s: %s: descriptors are left", j->name, when);
	if (rc < 0 && !failed)
		scene_die(&s, &err, "%s: %s: failed by itself", j->name, when);
	if (rc < 0)
		check_error(j, k, rc, &err, when);
	j->look(j, rc == 0, when);
	if (!failed)
		return false;
	failures++;
	survived += rc == 0;
	/* what it left is no obstacle */
	if (rc < 0 && (j->over || access(scene_path(s.now, TARGET), F_OK))) {
		scene_must(&s, j->run(j, &err), &err, when);
		j->look(j, true, "done again");
	}
	return true;
}

static void play(const struct job *j, unsigned long long seed)
{
	struct vhd_create_options o = { .type = VHD_TYPE_DYNAMIC };
	struct vhd_open_options w = { .flags = VHD_OPEN_WRITE };
	struct vhd_chain *chain;
	struct vhd_error err;

	scene_begin(&s, seed);
	scene_chain(&s, 3, false);
	memset(old, 0, sizeof(old));
	o.size = s.size;
	if (j->over) {
		scene_must(&s, vhd_create(scene_path(s.now, TARGET), &o, &err), &err, "create");
		scene_must(&s, vhd_open(scene_path(s.now, TARGET), &w, &chain, &err), &err, "open");
		scene_scribble(&s, chain, old);
		scene_must(&s, vhd_close(chain, &err), &err, "close");
	}
	if (j->run == delta_apply) {
		struct vhd_delta_options d = { 0 };

		scene_must(&s,
			   vhd_delta_create(scene_level(s.now, 0), leaf(),
					    scene_path(s.now, "delta"), &d, NULL, &err),
			   &err, "delta");
	}
	if (j->run == import) {
		struct vhd_export_options e = { 0 };

		scene_must(&s, vhd_export(leaf(), scene_path(s.now, "chain.tar"), &e, NULL, &err),
			   &err, "export");
	}
	scene_copy(s.now, s.next);
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		for (long n = 0; fail_one(j, &kinds[i], n); n++)
			if (n > CALLS)
				scene_die(&s, NULL, "%s does not end", j->name);
	scene_end(&s);
}

int main(void)
{
	const char *only = getenv("JOB"); /* the name of one */
	unsigned long long first, count;

	scene_seeds(3, &first, &count);
	for (unsigned long long i = 0; i < count; i++)
		for (size_t k = 0; k < sizeof(jobs) / sizeof(jobs[0]); k++)
			if (!only || !strcmp(only, jobs[k].name))
				play(&jobs[k], first + i);
	scene_finish(&s);
	printf("%llu rounds of %zu operations: %lu failures, %lu of them without harm\n", count,
	       sizeof(jobs) / sizeof(jobs[0]), failures, survived);
	return !failures;
}
