/* nth-moves.c - resize, compact, optimize and fill, of which each call fails in turn */
#include <stdio.h>
#include <string.h>

#include "nth.h"

static struct scene *const s = &nth_scene;
static uint64_t size_asked;

static int resize_to(uint64_t size, unsigned level, struct vhd_error *err)
{
	struct vhd_resize_options o = { .size = size, .cut_data = true };

	return vhd_resize(scene_level(s->now, level), &o, NULL, err);
}

/* A table that is longer by several sectors: blocks move. */
static int larger(const struct nth_job *j, struct vhd_error *err)
{
	(void)j;
	return resize_to(size_asked = s->size + (4u << 20), s->depth - 1, err);
}

static int smaller(const struct nth_job *j, struct vhd_error *err)
{
	(void)j;
	return resize_to(size_asked = s->size / 2 / 512 * 512 + 512, s->depth - 1, err);
}

static int with_journal(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_resize_options o = { .size = size_asked = s->size + (1u << 20) };
	char journal[128];

	(void)j;
	snprintf(journal, sizeof(journal), "%s", scene_path(s->now, "j"));
	o.journal = journal;
	return vhd_resize(nth_leaf(), &o, NULL, err);
}

static int compact(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_compact_options o = { .order = false };

	size_asked = 0;
	(void)j;
	return vhd_compact(nth_leaf(), &o, NULL, err);
}

static int optimize(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_compact_options o = { .order = true };

	size_asked = 0;
	(void)j;
	return vhd_compact(nth_leaf(), &o, NULL, err);
}

static int fill(const struct nth_job *j, struct vhd_error *err)
{
	struct vhd_fill_options o = { .bitmaps = false };

	size_asked = 0;
	(void)j;
	return vhd_fill(nth_leaf(), &o, NULL, err);
}

static void look(const struct nth_job *j, bool done, const char *when)
{
	static uint8_t out[SCENE_BYTES];
	struct vhd_open_options o = { 0 };
	uint64_t sure = s->size, size;
	struct vhd_chain *chain;
	struct vhd_error err;

	if (size_asked && size_asked < sure)
		sure = size_asked;
	scene_must(s, vhd_open(nth_leaf(), &o, &chain, &err), &err, when);
	size = vhd_size(chain);
	if (size != s->size && size != size_asked)
		scene_die(s, NULL, "%s: %s: %llu bytes", j->name, when, (unsigned long long)size);
	if (done && size_asked && size != size_asked)
		scene_die(s, NULL, "%s: %s: not the new size", j->name, when);
	scene_must(s, vhd_read(chain, out, sure, 0, &err), &err, when);
	vhd_close(chain, NULL);
	if (memcmp(out, s->data[s->depth - 1], sure) != 0)
		scene_die(s, NULL, "%s: %s: it contains something else", j->name, when);
	scene_check(s, nth_leaf(), SCENE_RESIZED, when);
}

static void may_shrink(const struct nth_job *j)
{
	(void)j;
	s->shrunk = true;
}

static const struct nth_job jobs[] = {
	{ "resize, larger", .run = larger, .look = look, .prepare = may_shrink },
	{ "resize, smaller", .run = smaller, .look = look, .prepare = may_shrink },
	{ "resize -j", .run = with_journal, .look = look, .prepare = may_shrink },
	{ "compact", .run = compact, .look = look, .prepare = may_shrink },
	{ "optimize", .run = optimize, .look = look, .prepare = may_shrink },
	{ "fill", .run = fill, .look = look, .prepare = may_shrink },
};

const struct nth_jobs nth_moves = { jobs, sizeof(jobs) / sizeof(jobs[0]), .threads = false };
