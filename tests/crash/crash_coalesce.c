/* crash_coalesce.c - power cuts while an image is merged into a parent
 *
 * At every instant: the child reads as ever; the parent is refused as a top, or reads as
 * before, or as when all is done; `check` finds no damage; the same command finishes the merge, and
 * a second cut while it does is no different.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scene.h"

static struct scene s;
static unsigned target, level_of_cut;
static bool skip_zeros;
static unsigned long resumed, refused, before, after, kept;

static int merge(const char *directory, struct vhd_coalesce_result *result, struct vhd_error *err)
{
	struct vhd_coalesce_options o = { .skip_zeros = skip_zeros };

	if (s.depth - 1 - target > 1)
		o.ancestor = scene_level(directory, target);
	return vhd_coalesce(scene_level(directory, s.depth - 1), &o, result, err);
}

static bool noted(const char *directory)
{
	char note[600];

	snprintf(note, sizeof(note), "%s.coalesce", scene_level(directory, target));
	return !access(note, F_OK);
}

static void look_at_parent(void)
{
	static uint8_t out[SCENE_BYTES];
	bool raw = !target && s.raw_base;
	struct vhd_error err;
	int rc = scene_read(&s, scene_level(s.cut, target), raw, out, &err);

	if (rc == -VHD_E_COALESCING && noted(s.cut)) {
		refused++;
		return;
	}
	scene_must(&s, rc, &err, "the parent after a cut");
	if (!memcmp(out, s.data[target], s.size))
		before++;
	else if (!memcmp(out, s.data[s.depth - 1], s.size))
		after++;
	else
		scene_die(&s, NULL, "the parent is half merged and can be opened");
}

static void finished(const char *directory, enum scene_state state, const char *when)
{
	bool raw = !target && s.raw_base;

	if (noted(directory))
		scene_die(&s, NULL, "%s: the note stays", when);
	scene_expect(&s, scene_level(directory, target), raw, s.data[s.depth - 1], when);
	scene_expect(&s, scene_level(directory, s.depth - 1), false, s.data[s.depth - 1], when);
	scene_check(&s, scene_level(directory, s.depth - 1), state, when);
}

static void look(struct scene *unused)
{
	struct vhd_coalesce_result result;
	struct vhd_error err;

	(void)unused;
	scene_expect(&s, scene_level(s.cut, s.depth - 1), false, s.data[s.depth - 1],
		     "the child after a cut");
	/* what lies between is not changed either */
	scene_check(&s, scene_level(s.cut, s.depth - 1), SCENE_CUT, "after a cut");
	look_at_parent();
	/* one of these will be where the next merge starts from */
	if (!level_of_cut && noted(s.cut) && !scene_below(&s, 1 + kept++))
		scene_copy(s.cut, s.next);
	scene_must(&s, merge(s.cut, &result, &err), &err, "merge after a cut");
	resumed += result.resumed;
	finished(s.cut, SCENE_MENDED, "finished after a cut");
}

static void operation(struct scene *unused)
{
	struct vhd_coalesce_result result;
	struct vhd_error err;

	(void)unused;
	scene_must(&s, merge(s.now, &result, &err), &err, "merge");
	if (level_of_cut && !result.resumed)
		scene_die(&s, NULL, "the note of the first cut was not seen");
}

static void play(unsigned long long seed)
{
	scene_begin(&s, seed);
	scene_chain(&s, 2 + (unsigned)scene_below(&s, SCENE_DEPTH - 1), true);
	target = scene_below(&s, 2) ? s.depth - 2 : (unsigned)scene_below(&s, s.depth - 1);
	skip_zeros = scene_below(&s, 2);
	kept = 0;
	level_of_cut = 0;
	scene_play(&s, operation, look);
	finished(s.cut, SCENE_CLEAN, "after the end");
	if (kept) {
		scene_copy(s.next, s.now);
		level_of_cut = 1;
		scene_play(&s, operation, look);
		finished(s.cut, SCENE_MENDED, "after the second end");
	}
	scene_end(&s);
}

int main(void)
{
	unsigned long long first, count;

	scene_seeds(40, &first, &count);
	for (unsigned long long i = 0; i < count; i++)
		play(first + i);
	scene_finish(&s);
	printf("%llu merges, %lu cuts: %lu resumed; the parent was %lu times untouched, %lu "
	       "refused, "
	       "%lu whole\n",
	       count, s.cuts, resumed, before, refused, after);
	return !resumed || !refused || !after || !before;
}
