/* crash_resize.c - power cuts while a disk is made larger or smaller
 *
 * At every instant: the image opens; its size is the old one or the new one; what lies before both
 * ends is as ever, and what is new is zero; `check` finds no damage but footers that differ in
 * size; the same command finishes it, or `revert` returns to the old size; children read as ever.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvhd/base/number.h"
#include "scene.h"

#define LARGEST (3u << 20)

static struct scene s;
static uint64_t was, to, others; /* sizes: before, after */
static unsigned level;
static bool with_journal;
static unsigned long undone, finished, reverted, before, after, moved;

static int resize(const char *directory, struct vhd_error *err)
{
	struct vhd_resize_result result;
	struct vhd_resize_options o = { .size = to, .cut_data = true };
	char image[128], journal[128]; /* what is called meanwhile uses the scene's buffers */
	int rc;

	snprintf(image, sizeof(image), "%s", scene_level(directory, level));
	snprintf(journal, sizeof(journal), "%s", scene_path(directory, "j"));
	if (with_journal)
		o.journal = journal;
	rc = vhd_resize(image, &o, &result, err);
	moved += result.moved_blocks;
	return rc;
}

static bool is_zero(const uint8_t *p, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

/* The disk; its size is returned. */
static uint64_t expect(const char *directory, const char *when)
{
	static uint8_t out[LARGEST];
	struct vhd_open_options o = { 0 };
	struct vhd_chain *chain;
	struct vhd_error err;
	uint64_t size, sure;

	scene_must(&s, vhd_open(scene_level(directory, level), &o, &chain, &err), &err, when);
	size = vhd_size(chain);
	if (size != was && size != to)
		scene_die(&s, NULL, "%s: %llu bytes", when, (unsigned long long)size);
	scene_must(&s, vhd_read(chain, out, size, 0, &err), &err, when);
	vhd_close(chain, NULL);
	sure = to < was ? to : was;
	if (memcmp(out, s.data[level], sure) != 0)
		scene_die(&s, NULL, "%s: what was there is not any more", when);
	/* what is to be cut may be gone already; it never becomes something else */
	for (uint64_t i = sure; i < number_min(size, was); i++)
		if (out[i] && out[i] != s.data[level][i])
			scene_die(&s, NULL, "%s: byte %llu was %02x and is %02x", when,
				  (unsigned long long)i, s.data[level][i], out[i]);
	if (size > was && !is_zero(out + was, size - was))
		scene_die(&s, NULL, "%s: what is new is not zero", when);
	return size;
}

static void expect_done(const char *directory, enum scene_state state, const char *when)
{
	if (expect(directory, when) != to)
		scene_die(&s, NULL, "%s: the size is still the old one", when);
	scene_check(&s, scene_level(directory, level), state, when);
	if (with_journal && !access(scene_path(directory, "j"), F_OK))
		scene_die(&s, NULL, "%s: the journal stays", when);
}

static void undo(void)
{
	struct vhd_revert_result result;
	struct vhd_error err;
	uint64_t size = expect(s.cut, "before revert"), left;

	scene_must(&s,
		   vhd_revert(scene_level(s.cut, level), scene_path(s.cut, "j"), false, &result,
			      &err),
		   &err, "revert");
	left = expect(s.cut, "reverted");
	/* what is smaller already, or a fixed image that is whole, stays as it is */
	if (left != (result.reverted ? was : size) ||
	    (!result.reverted && level && to > was && size == to))
		scene_die(&s, NULL, "reverted: %llu bytes, were %llu", (unsigned long long)left,
			  (unsigned long long)size);
	scene_check(&s, scene_level(s.cut, level),
		    level && s.shrunk ? SCENE_REVERTED : SCENE_MENDED, "reverted");
	reverted += result.reverted;
}

/* A fixed image that ends in nothing: readers are told, the next writer knows what to do. */
static bool half_grown(void)
{
	struct vhd_open_options o = { 0 };
	struct vhd_chain *chain;
	char note[32];
	int rc = vhd_open(scene_level(s.cut, level), &o, &chain, NULL);

	snprintf(note, sizeof(note), ".%u.vhd.journal", level);
	if (!rc)
		vhd_close(chain, NULL);
	return rc == -VHD_E_POISONED && !level && !access(scene_path(s.cut, note), F_OK);
}

static void look(struct scene *unused)
{
	struct vhd_error err;

	(void)unused;
	if (half_grown()) {
		scene_must(&s, resize(s.cut, &err), &err, "resize of what ends in nothing");
		expect_done(s.cut, SCENE_MENDED, "grown after all");
		undone++;
		return;
	}
	if (expect(s.cut, "after a cut") == to)
		after++;
	else
		before++;
	scene_check(&s, scene_level(s.cut, level), SCENE_RESIZED, "after a cut");
	for (unsigned i = level + 1; i < s.depth && to >= was; i++)
		scene_expect(&s, scene_level(s.cut, i), false, s.data[i], "a child after a cut");
	if (others++ % 4 == 0 && with_journal && !access(scene_path(s.cut, "j"), F_OK)) {
		undo();
	} else if (others % 3 == 0) {
		scene_must(&s, resize(s.cut, &err), &err, "resize after a cut");
		expect_done(s.cut, SCENE_MENDED, "finished after a cut");
		finished++;
	}
}

static void operation(struct scene *unused)
{
	struct vhd_error err;

	(void)unused;
	scene_must(&s, resize(s.now, &err), &err, "resize");
}

/* The disk has become smaller than its parent's before: what that has there does not come back. */
static void behind_parent(void)
{
	struct vhd_error err;
	uint64_t wanted = to;

	to = 512 * (1 + scene_below(&s, s.size / 512));
	with_journal = false;
	scene_must(&s, resize(s.now, &err), &err, "smaller than its parent");
	was = to;
	to = wanted;
}

static void play(unsigned long long seed)
{
	scene_begin(&s, seed);
	scene_chain(&s, 1 + (unsigned)scene_below(&s, SCENE_DEPTH - 1), true);
	level = scene_below(&s, 3) ? s.depth - 1 : (unsigned)scene_below(&s, s.depth);
	if (level == 0 && s.raw_base)
		level = s.depth - 1;
	if (level == 0 && s.raw_base) {
		scene_end(&s);
		return;
	}
	to = 512 * (1 + scene_below(&s, scene_below(&s, 3) ? LARGEST / 512 : s.size / 512));
	with_journal = scene_below(&s, 2);
	was = s.size;
	if (level && level == s.depth - 1 && !scene_below(&s, 3))
		behind_parent();
	s.shrunk = to < s.size || was < s.size;
	scene_play(&s, operation, look);
	/* a cut writes holes as zeros, which then look leaked */
	expect_done(s.cut, SCENE_MENDED, "after the end");
	/* the edges of blocks that were freed share pages with what is between blocks */
	scene_check(&s, scene_level(s.now, level), s.shrunk ? SCENE_MENDED : SCENE_CLEAN,
		    "after the end");
	scene_end(&s);
}

int main(void)
{
	unsigned long long first, count;

	scene_seeds(40, &first, &count);
	for (unsigned long long i = 0; i < count; i++)
		play(first + i);
	scene_finish(&s);
	printf("%llu disks, %lu cuts: %lu at the old size, %lu at the new, %lu without a footer; "
	       "%lu "
	       "finished, %lu reverted; %lu blocks moved\n",
	       count, s.cuts, before, after, undone, finished, reverted, moved);
	return !before || !after || !finished || !moved;
}
