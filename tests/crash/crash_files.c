/* crash_files.c - power cuts while images are made, linked, converted and marked
 *
 * A target is absent or as it was, or there whole; what was read is untouched; what is left
 * besides is a temporary file, and nobody takes it for an image of that name.  When the call has
 * returned, all of it is durable.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scene.h"

#define TARGET "t.vhd"

enum there { ABSENT, EMPTY, OLD };
static const char *const there_text[] = { "absent", "an empty file", "an image" };

struct job {
	const char *name;
	int (*run)(const struct job *job, struct vhd_error *err);
	enum there there;
	enum vhd_type type;
	enum vhd_format to;
	const char *creator;
};

static struct scene s;
static const struct job *job;
static uint8_t zeros[SCENE_BYTES], old[SCENE_BYTES];
static const uint8_t *wanted; /* what the target will contain */
static bool done;
static unsigned long absent, as_before, whole, linked;

/* ── what is done ── */

static int create(const struct job *j, struct vhd_error *err)
{
	struct vhd_create_options o = { .type = j->type,
					.size = s.size,
					.creator = j->creator,
					.block_size = j->type == VHD_TYPE_FIXED ? 0 : 4096,
					.force = j->there == OLD,
					.reserve = s.seed % 2 };

	wanted = zeros;
	return vhd_create(scene_path(s.now, TARGET), &o, err);
}

static int snapshot(const struct job *j, struct vhd_error *err)
{
	struct vhd_snapshot_options o = { .raw_parent = s.depth == 1 && s.raw_base,
					  .link_empty = true,
					  .block_size = 4096,
					  .force = j->there == OLD };

	wanted = s.data[s.depth - 1];
	return vhd_snapshot(scene_path(s.now, TARGET), scene_level(s.now, s.depth - 1), &o, err);
}

static int convert(const struct job *j, struct vhd_error *err)
{
	struct vhd_convert_options o = { .to = j->to,
					 .from = s.depth == 1 && s.raw_base ? VHD_FORMAT_RAW :
									      VHD_FORMAT_AUTO,
					 .force = j->there == OLD };

	wanted = s.data[s.depth - 1];
	return vhd_convert(scene_level(s.now, s.depth - 1), scene_path(s.now, TARGET), &o, NULL,
			   err);
}

static int copy(const struct job *j, struct vhd_error *err)
{
	struct vhd_convert_options flat = { .to = VHD_FORMAT_FIXED, .force = j->there == OLD };
	struct vhd_copy_options o = { .force = j->there == OLD };

	wanted = s.data[s.depth - 1];
	if (s.depth == 1 && s.raw_base) /* has no footer: is no image to be copied */
		return vhd_convert(scene_level(s.now, 0), scene_path(s.now, TARGET), &flat, NULL,
				   err);
	return vhd_copy(scene_level(s.now, s.depth - 1), scene_path(s.now, TARGET), &o, NULL, err);
}

/* The chain's top against one of its ancestors. */
static int delta(const char *destination, struct vhd_error *err)
{
	struct vhd_delta_options o = { .block_size = 4096u << s.seed % 3,
				       .raw_old = s.raw_base && s.depth == 2,
				       .force = job->there == OLD };
	char old_path[256], new_path[256], to[256];

	snprintf(old_path, sizeof(old_path), "%s", scene_level(s.now, s.depth - 2));
	snprintf(new_path, sizeof(new_path), "%s", scene_level(s.now, s.depth - 1));
	snprintf(to, sizeof(to), "%s", destination);
	return vhd_delta_create(old_path, new_path, to, &o, NULL, err);
}

static int delta_create(const struct job *j, struct vhd_error *err)
{
	(void)j;
	wanted = s.data[s.depth - 1];
	return delta(scene_path(s.now, TARGET), err);
}

static int delta_apply(const struct job *j, struct vhd_error *err)
{
	struct vhd_apply_options o = { .raw_parent = s.raw_base && s.depth == 2,
				       .force = j->there == OLD };
	char parent[256], to[256], from[256];

	wanted = s.data[s.depth - 1];
	snprintf(from, sizeof(from), "%s", scene_path(s.next, "delta"));
	snprintf(parent, sizeof(parent), "%s", scene_level(s.now, s.depth - 2));
	snprintf(to, sizeof(to), "%s", scene_path(s.now, TARGET));
	return vhd_delta_apply(from, parent, to, &o, NULL, err);
}

static int set_hidden(const struct job *j, struct vhd_error *err)
{
	(void)j;
	wanted = old;
	return vhd_set(scene_path(s.now, TARGET), VHD_FIELD_HIDDEN, 1, err);
}

static int set_marker(const struct job *j, struct vhd_error *err)
{
	(void)j;
	wanted = old;
	return vhd_set(scene_path(s.now, TARGET), VHD_FIELD_MARKER, 7, err);
}

static const struct job jobs[] = {
	{ "create dynamic", create, ABSENT, .type = VHD_TYPE_DYNAMIC },
	{ "create dynamic", create, EMPTY, .type = VHD_TYPE_DYNAMIC },
	{ "create dynamic", create, OLD, .type = VHD_TYPE_DYNAMIC },
	{ "create without batmap", create, ABSENT, .type = VHD_TYPE_DYNAMIC, .creator = "win " },
	{ "create fixed", create, ABSENT, .type = VHD_TYPE_FIXED },
	{ "create fixed", create, EMPTY, .type = VHD_TYPE_FIXED },
	{ "create fixed", create, OLD, .type = VHD_TYPE_FIXED },
	{ "snapshot", snapshot, ABSENT, .creator = NULL },
	{ "snapshot", snapshot, EMPTY, .creator = NULL },
	{ "snapshot", snapshot, OLD, .creator = NULL },
	{ "convert to raw", convert, ABSENT, .to = VHD_FORMAT_RAW },
	{ "convert to raw", convert, OLD, .to = VHD_FORMAT_RAW },
	{ "convert to fixed", convert, ABSENT, .to = VHD_FORMAT_FIXED },
	{ "convert to fixed", convert, EMPTY, .to = VHD_FORMAT_FIXED },
	{ "convert to fixed", convert, OLD, .to = VHD_FORMAT_FIXED },
	{ "convert to dynamic", convert, ABSENT, .to = VHD_FORMAT_DYNAMIC },
	{ "convert to dynamic", convert, EMPTY, .to = VHD_FORMAT_DYNAMIC },
	{ "convert to dynamic", convert, OLD, .to = VHD_FORMAT_DYNAMIC },
	{ "copy", copy, ABSENT, .creator = NULL },
	{ "copy", copy, EMPTY, .creator = NULL },
	{ "copy", copy, OLD, .creator = NULL },
	{ "delta create", delta_create, ABSENT, .creator = NULL },
	{ "delta create", delta_create, OLD, .creator = NULL },
	{ "delta apply", delta_apply, ABSENT, .creator = NULL },
	{ "delta apply", delta_apply, OLD, .creator = NULL },
	{ "set hidden", set_hidden, OLD, .creator = NULL },
	{ "set marker", set_marker, OLD, .creator = NULL },
};

/* ── what a cut leaves ── */

static bool is_raw_target(void)
{
	return job->run == convert && job->to == VHD_FORMAT_RAW;
}

/* In place nothing is promised before the end but that nobody takes half of it for a whole. */
static bool in_place(void)
{
	return job->there == EMPTY;
}

static void look_at_target(void)
{
	static uint8_t out[SCENE_BYTES];
	const char *path = scene_path(s.cut, TARGET);
	struct vhd_error err;
	struct stat st;
	int rc;

	if (stat(path, &st) < 0) {
		if (job->there != ABSENT || done)
			scene_die(&s, NULL, "%s over %s: the target is gone", job->name,
				  there_text[job->there]);
		absent++;
		return;
	}
	rc = scene_read(&s, path, false, out, &err);
	if (rc == -VHD_E_NOT_VHD && is_raw_target())
		rc = scene_read(&s, path, true, out, &err);
	if (rc == -VHD_E_NOT_VHD && in_place() && !done) {
		absent++;
		return;
	}
	if (rc < 0)
		scene_die(&s, &err, "%s over %s", job->name, there_text[job->there]);
	if (job->there == OLD && !done && !memcmp(out, old, s.size)) {
		as_before++;
	} else if (!memcmp(out, wanted, s.size)) {
		whole++;
	} else {
		scene_die(&s, NULL, "%s over %s: half a target", job->name, there_text[job->there]);
	}
	if (!is_raw_target())
		scene_check(&s, path, done ? SCENE_CLEAN : SCENE_CUT, job->name);
}

static void look_at_names(void)
{
	DIR *dir = opendir(s.cut);
	struct dirent *e;
	unsigned temporary = 0;

	while ((e = readdir(dir))) {
		const char *name = e->d_name;

		if (!strcmp(name, ".") || !strcmp(name, "..") || !strcmp(name, TARGET) ||
		    (strlen(name) == 5 && !strcmp(name + 1, ".vhd")))
			continue;
		if (strncmp(name, "." TARGET ".", strlen(TARGET) + 2) != 0)
			scene_die(&s, NULL, "%s left '%s'", job->name, name);
		temporary++;
	}
	closedir(dir);
	if (temporary > !done)
		scene_die(&s, NULL, "%s left %u temporary files", job->name, temporary);
}

/* What was found right need not arrive again; of what was not yet, a cut may leave anything: that is
 * found out, and then all of it is received. */
static void resume_delta(void)
{
	struct vhd_apply_options o = { .raw_parent = s.raw_base && s.depth == 2,
				       .force = job->there == OLD,
				       .resume = true };
	char parent[256], to[256], from[256];
	bool linking = !access(scene_path(s.cut, "." TARGET ".delta.whole"), F_OK);
	struct vhd_error err;
	int rc;

	if (job->there == ABSENT && !access(scene_path(s.cut, TARGET), F_OK))
		return; /* it is done */
	snprintf(from, sizeof(from), "%s", linking ? "/dev/null" : scene_path(s.next, "delta"));
	snprintf(parent, sizeof(parent), "%s", scene_level(s.cut, s.depth - 2));
	snprintf(to, sizeof(to), "%s", scene_path(s.cut, TARGET));
	rc = vhd_delta_apply(from, parent, to, &o, NULL, &err);
	if (rc == -VHD_E_DELTA && !linking)
		rc = vhd_delta_apply(from, parent, to, &o, NULL, &err);
	scene_must(&s, rc, &err, "resume");
	scene_expect(&s, to, false, wanted, "resumed");
	scene_check(&s, to, SCENE_CLEAN, "resumed");
	linked += linking;
}

static void look(struct scene *unused)
{
	(void)unused;
	look_at_target();
	look_at_names();
	if (job->run == delta_apply && !done)
		resume_delta();
	for (unsigned i = 0; i < s.depth; i++)
		scene_expect(&s, scene_level(s.cut, i), !i && s.raw_base, s.data[i],
			     "what was read");
}

static void operation(struct scene *unused)
{
	struct vhd_error err;

	(void)unused;
	scene_must(&s, job->run(job, &err), &err, job->name);
}

/* ── the whole ── */

static void make_old(void)
{
	struct vhd_create_options o = { .type = VHD_TYPE_DYNAMIC,
					.size = s.size,
					.block_size = 8192 };
	struct vhd_open_options write = { .flags = VHD_OPEN_WRITE };
	const char *path = scene_path(s.now, TARGET);
	struct vhd_chain *chain;
	struct vhd_error err;
	FILE *f;

	memset(old, 0, sizeof(old));
	if (job->there == EMPTY) {
		f = fopen(path, "we");
		if (!f || fclose(f))
			scene_die(&s, NULL, "cannot make '%s'", path);
	}
	if (job->there != OLD)
		return;
	scene_must(&s, vhd_create(path, &o, &err), &err, "create");
	scene_must(&s, vhd_open(path, &write, &chain, &err), &err, "open");
	for (int i = 0; i < 5; i++)
		scene_scribble(&s, chain, old);
	scene_must(&s, vhd_close(chain, &err), &err, "close");
}

static void play(unsigned long long seed)
{
	struct vhd_error err;
	bool chained;

	scene_begin(&s, seed);
	chained = job->run == delta_create || job->run == delta_apply;
	scene_chain(&s, 1 + chained + (unsigned)scene_below(&s, 3), true);
	make_old();
	if (job->run == delta_apply)
		scene_must(&s, delta(scene_path(s.next, "delta"), &err), &err, "delta");
	done = false;
	wanted = zeros;
	scene_play(&s, operation, look);
	done = true;
	look(&s);
	scene_end(&s);
}

int main(void)
{
	unsigned long long first, count;

	scene_seeds(4, &first, &count);
	for (unsigned long long i = 0; i < count; i++)
		for (job = jobs; job < jobs + sizeof(jobs) / sizeof(jobs[0]); job++)
			play(first + i);
	scene_finish(&s);
	printf("%llu rounds, %lu cuts: no target %lu times, as before %lu, whole %lu, a delta "
	       "linked again "
	       "%lu\n",
	       count, s.cuts, absent, as_before, whole, linked);
	return !absent || !as_before || !whole || !linked;
}
