/* nth.h - the Nth allocation and the Nth system call of an operation fail in turn
 *
 * Once, or with all that come after it.  Nothing leaks (memory and descriptors are counted, and a
 * sanitizer build looks, too), nothing crashes; an error has its own code and a text; what was
 * there stays, and the same call works afterwards.  A call that succeeds in spite of it has done
 * its work.
 */
#ifndef TEST_CRASH_NTH_H
#define TEST_CRASH_NTH_H

#include "scene.h"

#define NTH_TARGET "t.vhd"

struct nth_job {
	const char *name;
	int (*run)(const struct nth_job *job, struct vhd_error *err);
	/* Is the world as it was, or as it is to be (@done)? */
	void (*look)(const struct nth_job *job, bool done, const char *when);
	/* What is there beforehand, besides a chain; may be NULL. */
	void (*prepare)(const struct nth_job *job);
	/* After a failure, instead of run, which is no obstacle to itself; may be NULL. */
	int (*again)(const struct nth_job *job, struct vhd_error *err);
	bool over; /* done again in spite of a target; for run and look */
	enum vhd_format to;
};

struct nth_jobs {
	const struct nth_job *jobs;
	size_t count;
	bool threads; /* they may make some, which is refused in a way of its own */
};

extern const struct nth_jobs nth_appear, nth_change, nth_read, nth_moves;

/* Of the job being played: a chain in "now", copied from "next" before each run. */
extern struct scene nth_scene;
const char *nth_leaf(void);
/* The copy of the footer is gone: readers work, with a warning. */
void nth_damage_leaf(void);
/* The leaf contains what it did, done or not. */
void nth_look_at_leaf(const struct nth_job *job, bool done, const char *when);

/* Play all @sets on chains of @depth for a number of seeds: every call, or with @some the more
 * sparsely the later they are.  JOB: the name of the only one to play.  The exit status. */
int nth_main(const struct nth_jobs *const *sets, size_t count, unsigned depth, bool some,
	     unsigned seeds);

#endif
