/* nth-change.c - operations that change an image, of which each call fails in turn */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "history.h"
#include "libvhd/cbt.h"
#include "libvhd/error.h"
#include "nth.h"
#include "sys.h"

static struct scene *const s = &nth_scene;
static struct history history;
static uint8_t buf[SCENE_BYTES];

static int write_session(const struct nth_job *j, struct vhd_error *err)
{
	static const uint64_t places[] = { 0, 5000, 700, 30000, 512, 2048 };
	struct vhd_open_options o = { .flags = VHD_OPEN_WRITE };
	struct vhd_error after;
	struct vhd_chain *chain;
	int rc = vhd_open(nth_leaf(), &o, &chain, err), closed;

	(void)j;
	for (unsigned i = 0; !rc && i < 6; i++) {
		uint64_t at = places[i] % s->size, n = 2000 < s->size - at ? 2000 : s->size - at;

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
		uint64_t at = places[i] % s->size, n = 2000 < s->size - at ? 2000 : s->size - at;

		memset(data + at, (int)(i + 1), n);
		if (h)
			history_write(h, data, at / 512, (at + n + 511) / 512 - at / 512);
	}
}

static void look_at_writes(const struct nth_job *j, bool done, const char *when)
{
	static uint8_t data[SCENE_BYTES];
	struct vhd_error err;
	uint64_t sector;

	memcpy(data, s->data[s->depth - 1], s->size);
	history_begin(&history, data, s->size / 512);
	expect_writes(data, &history);
	if (done)
		history_flush(&history);
	scene_must(s, scene_read(s, nth_leaf(), false, buf, &err), &err, when);
	if (!history_allows(&history, buf, &sector))
		scene_die(s, NULL, "%s: %s: sector %llu is neither old nor new", j->name, when,
			  (unsigned long long)sector);
	history_end(&history);
}

static int coalesce(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_coalesce_options o = { 0 };

	(void)j;
	return vhd_coalesce(nth_leaf(), &o, NULL, err);
}

static void look_at_merge(const struct nth_job *j, bool done, const char *when)
{
	const char *parent = scene_level(s->now, s->depth - 2);
	struct vhd_error err;
	int rc;

	scene_expect(s, nth_leaf(), false, s->data[s->depth - 1], when);
	rc = scene_read(s, parent, false, buf, &err);
	if (rc == -VHD_E_COALESCING && !done)
		return;
	scene_must(s, rc, &err, when);
	if (memcmp(buf, s->data[s->depth - 1], s->size) != 0 &&
	    (done || memcmp(buf, s->data[s->depth - 2], s->size) != 0))
		scene_die(s, NULL, "%s: %s: the parent is half merged", j->name, when);
}

static int set(const struct nth_job *j, struct vhd_error *err)
{
	return vhd_set(nth_leaf(), j->over ? VHD_FIELD_MARKER : VHD_FIELD_HIDDEN, 1, err);
}

static int repair(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_repair_options o = { 0 };
	struct vhd_repair_result r;

	(void)j;
	nth_damage_leaf();
	return vhd_repair(nth_leaf(), &o, &r, err);
}

static int reparent(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_modify_options o = { .parent = scene_level(s->now, 0) };

	(void)j;
	return vhd_modify(nth_leaf(), &o, err);
}

/* The chain has lost a level, or not. */
static void look_at_parent(const struct nth_job *j, bool done, const char *when)
{
	struct vhd_open_options o = { 0 };
	struct vhd_chain *chain;
	struct vhd_error err;
	unsigned depth;

	(void)j;
	scene_must(s, vhd_open(nth_leaf(), &o, &chain, &err), &err, when);
	depth = vhd_depth(chain);
	(void)!vhd_close(chain, NULL);
	if (depth == s->depth && !done)
		scene_expect(s, nth_leaf(), false, s->data[s->depth - 1], when);
	else if (depth != 2)
		scene_die(s, NULL, "%s: %u images", when, depth);
	scene_check(s, nth_leaf(), SCENE_CUT, when);
}

static int rebase(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_rebase_options o = { .parent = scene_level(s->now, 0) };

	(void)j;
	return vhd_rebase(nth_leaf(), &o, NULL, err);
}

/* The parent has another name: what the leaf contains can be read only when it is found. */
static int relink(const struct nth_job *j, struct vhd_error *err)
{
	const char *const directories[] = { s->now, NULL };
	struct vhd_relink_options o = { .directories = directories };
	static struct vhd_relink_result r;
	char from[256];

	(void)j;
	snprintf(from, sizeof(from), "%s", scene_level(s->now, s->depth - 2));
	sys_pause(true);
	(void)!rename(from, scene_path(s->now, "moved")); /* once */
	sys_pause(false);
	return vhd_relink(nth_leaf(), &o, &r, err);
}

static void look_at_moved(const struct nth_job *j, bool done, const char *when)
{
	struct vhd_error err;
	int rc = scene_read(s, nth_leaf(), false, buf, &err);

	(void)j;
	if (rc == -VHD_E_PARENT_MISSING && !done)
		return;
	scene_must(s, rc, &err, when);
	if (memcmp(buf, s->data[s->depth - 1], s->size) != 0)
		scene_die(s, NULL, "%s: other contents", when);
}

static int empty(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_modify_options o = { .zero = true };

	(void)j;
	return vhd_modify(nth_leaf(), &o, err);
}

static void look_at_empty(const struct nth_job *j, bool done, const char *when)
{
	if (done)
		scene_expect(s, nth_leaf(), false, s->data[s->depth - 2], when);
	scene_check(s, nth_leaf(), SCENE_CUT, when);
	(void)j;
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

static int logs(const struct nth_job *j, struct vhd_error *err)
{
	const bool yes = true;
	const struct cbt_change change = { .consistent = &yes };
	char older[128], newer[128];
	int rc;

	(void)j;
	snprintf(older, sizeof(older), "%s", scene_path(s->now, "older.log"));
	snprintf(newer, sizeof(newer), "%s", scene_path(s->now, "newer.log"));
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

static void look_at_logs(const struct nth_job *j, bool done, const char *when)
{
	static const char *const names[] = { "older.log", "newer.log" };
	struct vhd_error err;
	struct cbt c;
	uint8_t bit;

	for (int i = 0; i < 2; i++) {
		const char *path = scene_path(s->now, names[i]);

		if (!done && access(path, F_OK))
			continue;
		scene_must(s, cbt_open(path, false, &c, &err), &err, when);
		scene_must(s, cbt_whole(&c, &err), &err, when);
		scene_must(s, cbt_read(&c, &bit, 1, 501, &err), &err, when);
		if (done && (!c.header.consistent || bit != 2))
			scene_die(s, NULL, "%s: %s: %s is not as it should be", j->name, when,
				  names[i]);
		cbt_close(&c);
	}
}

static const struct nth_job jobs[] = {
	{ "write", .run = write_session, .look = look_at_writes },
	{ "coalesce", .run = coalesce, .look = look_at_merge },
	{ "set hidden", .run = set, .look = nth_look_at_leaf },
	{ "set marker", .run = set, .look = nth_look_at_leaf, .over = true },
	{ "another parent", .run = reparent, .look = look_at_parent },
	{ "the same on another parent", .run = rebase, .look = nth_look_at_leaf },
	{ "a parent that moved", .run = relink, .look = look_at_moved },
	{ "no data", .run = empty, .look = look_at_empty },
	{ "repair", .run = repair, .look = nth_look_at_leaf },
	{ "changed-block logs", .run = logs, .look = look_at_logs },
};

const struct nth_jobs nth_change = { jobs, sizeof(jobs) / sizeof(jobs[0]), .threads = true };
