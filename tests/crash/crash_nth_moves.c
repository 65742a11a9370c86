/* crash_nth_moves.c - the Nth allocation and the Nth system call of resize, compact, optimize, fill
 *
 * Once, or with all that come after it; of many, some.  Nothing leaks, nothing crashes; an error has its own code
 * and a text; the images contain what they did, and the same call works afterwards.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scene.h"
#include "sys.h"

#define CALLS 100000l /* no operation makes more */

struct kind {
	const char *name;
	void (*fail)(long nth, bool ever);
	bool (*end)(void);
	bool ever;
	int code;
};

static const struct kind kinds[] = {
	{ "allocation", alloc_fail, alloc_fail_end, false, -ENOMEM },
	{ "allocation and all after it", alloc_fail, alloc_fail_end, true, -ENOMEM },
	{ "call", sys_fail, sys_fail_end, false, -EIO },
	{ "call and all after it", sys_fail, sys_fail_end, true, -EIO },
};

static struct scene s;
static unsigned long failures, survived;
static uint64_t size_asked;

static const char *leaf(void)
{
	return scene_level(s.now, s.depth - 1);
}

static int resize_to(uint64_t size, unsigned level, struct vhd_error *err)
{
	struct vhd_resize_options o = { .size = size, .cut_data = true };

	return vhd_resize(scene_level(s.now, level), &o, NULL, err);
}

/* A table that is longer by several sectors: blocks move. */
static int larger(struct vhd_error *err)
{
	return resize_to(size_asked = s.size + (4u << 20), s.depth - 1, err);
}

static int smaller(struct vhd_error *err)
{
	return resize_to(size_asked = s.size / 2 / 512 * 512 + 512, s.depth - 1, err);
}

static int with_journal(struct vhd_error *err)
{
	struct vhd_resize_options o = { .size = size_asked = s.size + (1u << 20) };
	char journal[128];

	snprintf(journal, sizeof(journal), "%s", scene_path(s.now, "j"));
	o.journal = journal;
	return vhd_resize(leaf(), &o, NULL, err);
}

static int compact(struct vhd_error *err)
{
	struct vhd_compact_options o = { .order = false };

	return vhd_compact(leaf(), &o, NULL, err);
}

static int optimize(struct vhd_error *err)
{
	struct vhd_compact_options o = { .order = true };

	return vhd_compact(leaf(), &o, NULL, err);
}

static int fill(struct vhd_error *err)
{
	struct vhd_fill_options o = { .bitmaps = false };

	return vhd_fill(leaf(), &o, NULL, err);
}

static const struct {
	const char *name;
	int (*run)(struct vhd_error *err);
} jobs[] = {
	{ "resize, larger", larger }, { "resize, smaller", smaller }, { "resize -j", with_journal },
	{ "compact", compact },	      { "optimize", optimize },	      { "fill", fill },
};

static void look(const char *job, bool done, const char *when)
{
	static uint8_t out[SCENE_BYTES];
	struct vhd_open_options o = { 0 };
	uint64_t sure = s.size, size;
	struct vhd_chain *chain;
	struct vhd_error err;

	if (size_asked && size_asked < sure)
		sure = size_asked;
	scene_must(&s, vhd_open(leaf(), &o, &chain, &err), &err, when);
	size = vhd_size(chain);
	if (size != s.size && size != size_asked)
		scene_die(&s, NULL, "%s: %s: %llu bytes", job, when, (unsigned long long)size);
	if (done && size_asked && size != size_asked)
		scene_die(&s, NULL, "%s: %s: not the new size", job, when);
	scene_must(&s, vhd_read(chain, out, sure, 0, &err), &err, when);
	vhd_close(chain, NULL);
	if (memcmp(out, s.data[s.depth - 1], sure) != 0)
		scene_die(&s, NULL, "%s: %s: it contains something else", job, when);
	scene_check(&s, leaf(), SCENE_RESIZED, when);
}

/* False: it made no more calls than @nth. */
static bool fail_one(size_t job, const struct kind *k, long nth)
{
	int descriptors, rc;
	struct vhd_error err = { 0 };
	char when[80];
	long live;
	bool failed;

	scene_copy(s.next, s.now);
	size_asked = 0;
	snprintf(when, sizeof(when), "failing %s %ld", k->name, nth);
	descriptors = sys_descriptors();
	live = alloc_live();
	k->fail(nth, k->ever);
	rc = jobs[job].run(&err);
	failed = k->end();
	if (alloc_live() != live || sys_descriptors() != descriptors)
		scene_die(&s, NULL, "%s: %s: something is left", jobs[job].name, when);
	if (rc < 0 && !failed)
		scene_die(&s, &err, "%s: %s: failed by itself", jobs[job].name, when);
	if (rc < 0 && (rc != k->code || err.code != rc || !err.text[0]))
		scene_die(&s, &err, "%s: %s: code %d, the error says %d", jobs[job].name, when, rc,
			  err.code);
	look(jobs[job].name, rc == 0, when);
	if (!failed)
		return false;
	failures++;
	survived += rc == 0;
	if (rc < 0) { /* what it left is no obstacle */
		scene_must(&s, jobs[job].run(&err), &err, when);
		look(jobs[job].name, true, "done again");
	}
	return true;
}

int main(void)
{
	unsigned long long first, count;

	scene_seeds(1, &first, &count);
	for (unsigned long long i = 0; i < count; i++) {
		scene_begin(&s, first + i);
		scene_chain(&s, 2, false);
		s.shrunk = true;
		scene_copy(s.now, s.next);
		for (size_t j = 0; j < sizeof(jobs) / sizeof(jobs[0]); j++)
			for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
				for (long n = 0; fail_one(j, &kinds[k], n); n += 1 + n / 24)
					if (n > CALLS)
						scene_die(&s, NULL, "%s does not end",
							  jobs[j].name);
		scene_end(&s);
	}
	scene_finish(&s);
	printf("%llu rounds of %zu operations: %lu failures, %lu of them without harm\n", count,
	       sizeof(jobs) / sizeof(jobs[0]), failures, survived);
	return !failures;
}
