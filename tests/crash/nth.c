/* nth.c - see nth.h */
#include "nth.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sys.h"

#define CALLS 100000l /* no operation makes more */

struct scene nth_scene;
static struct scene *const s = &nth_scene;
static unsigned long failures, survived;

/* ── for jobs ── */

const char *nth_leaf(void)
{
	return scene_level(s->now, s->depth - 1);
}

void nth_damage_leaf(void)
{
	static const uint8_t zero[512];
	FILE *f = fopen(nth_leaf(), "r+e");

	if (!f || fwrite(zero, sizeof(zero), 1, f) != 1 || fclose(f))
		scene_die(s, NULL, "cannot damage '%s'", nth_leaf());
}

void nth_look_at_leaf(const struct nth_job *j, bool done, const char *when)
{
	(void)j;
	(void)done;
	scene_expect(s, nth_leaf(), false, s->data[s->depth - 1], when);
	scene_check(s, nth_leaf(), SCENE_CUT, when);
}

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

static void check_error(const struct nth_job *j, const struct kind *k, bool threads, int rc,
			const struct vhd_error *err, const char *when)
{
	size_t n = strlen(err->text);

	if (rc != k->code && !(threads && rc == k->other_code))
		scene_die(s, err, "%s: %s: code %d (%s)", j->name, when, rc, vhd_error_name(rc));
	if (err->code != rc || !n || err->text[n - 1] == '\n')
		scene_die(s, err, "%s: %s: returned %d, but the error says %d, '%s'", j->name, when,
			  rc, err->code, err->text);
}

/* False: it made no more calls than @nth. */
static bool fail_one(const struct nth_job *j, bool threads, const struct kind *k, long nth)
{
	struct vhd_error err = { 0 };
	int descriptors, rc;
	char when[80];
	long live;
	bool failed;

	scene_copy(s->next, s->now);
	snprintf(when, sizeof(when), "failing %s %ld", k->name, nth);
	descriptors = sys_descriptors();
	live = alloc_live();
	k->fail(nth, k->ever);
	rc = j->run(j, &err);
	failed = k->end();
	if (alloc_live() != live)
		scene_die(s, NULL, "%s: %s: %ld allocations are left", j->name, when,
			  alloc_live() - live);
	if (sys_descriptors() != descriptors)
		scene_die(s, NULL, "%s: %s: descriptors are left", j->name, when);
	if (rc < 0 && !failed)
		scene_die(s, &err, "%s: %s: failed by itself", j->name, when);
	if (rc < 0)
		check_error(j, k, threads, rc, &err, when);
	j->look(j, rc == 0, when);
	if (!failed)
		return false;
	failures++;
	survived += rc == 0;
	/* what it left is no obstacle */
	if (rc < 0 && (j->over || access(scene_path(s->now, NTH_TARGET), F_OK))) {
		scene_must(s, j->again ? j->again(j, &err) : j->run(j, &err), &err, when);
		j->look(j, true, "done again");
	}
	return true;
}

static void play(const struct nth_job *j, bool threads, unsigned long long seed, unsigned depth,
		 bool some)
{
	scene_begin(s, seed);
	scene_chain(s, depth, false);
	if (j->prepare)
		j->prepare(j);
	scene_copy(s->now, s->next);
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		for (long n = 0; fail_one(j, threads, &kinds[i], n); n += some ? 1 + n / 24 : 1)
			if (n > CALLS)
				scene_die(s, NULL, "%s does not end", j->name);
	scene_end(s);
}

int nth_main(const struct nth_jobs *const *sets, size_t count, unsigned depth, bool some,
	     unsigned seeds)
{
	const char *only = getenv("JOB");
	unsigned long long first, rounds;
	unsigned long played = 0;

	scene_seeds(seeds, &first, &rounds);
	for (unsigned long long i = 0; i < rounds; i++)
		for (size_t k = 0; k < count; k++)
			for (const struct nth_job *j = sets[k]->jobs;
			     j < sets[k]->jobs + sets[k]->count; j++)
				if (!only || !strcmp(only, j->name)) {
					play(j, sets[k]->threads, first + i, depth, some);
					played++;
				}
	scene_finish(s);
	printf("%llu rounds, %lu operations: %lu failures, %lu of them without harm\n", rounds,
	       played, failures, survived);
	return !failures;
}
