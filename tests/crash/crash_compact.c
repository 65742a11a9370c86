/* crash_compact.c - power cuts while blocks are dropped, moved, ordered or filled
 *
 * At every instant every image of the chain contains what it did, and `check` finds no damage; the
 * same command finishes it, and then the next one as well.  Now and then a call fails: the image
 * is whole all the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scene.h"
#include "sys.h"

enum what { COMPACT, OPTIMIZE, FILL, FILL_SOME, WHATS };

static struct scene s;
static enum what what;
static unsigned level;
static uint64_t first, last, others;
static unsigned long dropped, moved, filled, finished, failures;

static int work(const char *directory, enum what which, struct vhd_error *err)
{
	struct vhd_compact_options c = { .order = which == OPTIMIZE };
	struct vhd_fill_options f = { .bitmaps = which == FILL_SOME, .first = first, .last = last };
	struct vhd_compact_result cr = { 0 };
	struct vhd_fill_result fr = { 0 };
	char image[128];
	int rc;

	snprintf(image, sizeof(image), "%s", scene_level(directory, level));
	if (which <= OPTIMIZE)
		rc = vhd_compact(image, &c, &cr, err);
	else
		rc = vhd_fill(image, &f, &fr, err);
	dropped += cr.dropped_blocks;
	moved += cr.moved_blocks;
	filled += fr.blocks;
	return rc;
}

static void expect_all(const char *directory, enum scene_state state, const char *when)
{
	for (unsigned i = level; i < s.depth; i++)
		scene_expect(&s, scene_level(directory, i), false, s.data[i], when);
	scene_check(&s, scene_level(directory, s.depth - 1), state, when);
}

static void look(struct scene *unused)
{
	struct vhd_error err;

	(void)unused;
	expect_all(s.cut, SCENE_CUT, "after a cut");
	if (others++ % 5)
		return;
	scene_must(&s, work(s.cut, what, &err), &err, "once more after a cut");
	expect_all(s.cut, SCENE_MENDED, "finished after a cut");
	scene_must(&s, work(s.cut, (enum what)scene_below(&s, WHATS), &err), &err, "another");
	expect_all(s.cut, SCENE_MENDED, "and another");
	finished++;
}

static void operation(struct scene *unused)
{
	struct vhd_error err;
	int rc;

	(void)unused;
	if (s.seed % 3 == 2)
		sys_fail((long)scene_below(&s, 60), false);
	rc = work(s.now, what, &err);
	if (s.seed % 3 == 2 && sys_fail_end())
		failures++;
	else
		scene_must(&s, rc, &err, "work");
}

static void play(unsigned long long seed)
{
	scene_begin(&s, seed);
	scene_chain(&s, 1 + (unsigned)scene_below(&s, SCENE_DEPTH - 1), true);
	level = scene_below(&s, 3) ? s.depth - 1 : (unsigned)scene_below(&s, s.depth);
	if (level == 0 && s.raw_base)
		level = s.depth - 1;
	what = (enum what)scene_below(&s, WHATS);
	first = scene_below(&s, s.size / 512);
	last = first + scene_below(&s, s.size / 512 - first);
	if (level || scene_is_sparse(&s, 0)) {
		scene_play(&s, operation, look);
		expect_all(s.cut, SCENE_CUT, "after the end");
	}
	scene_end(&s);
}

int main(void)
{
	unsigned long long begin, count;

	scene_seeds(60, &begin, &count);
	for (unsigned long long i = 0; i < count; i++)
		play(begin + i);
	scene_finish(&s);
	printf("%llu images, %lu cuts, %lu failed calls; %lu blocks dropped, %lu moved, %lu "
	       "filled; "
	       "%lu finished after a cut\n",
	       count, s.cuts, failures, dropped, moved, filled, finished);
	return !dropped || !moved || !filled || !finished;
}
