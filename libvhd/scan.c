/* scan.c - many images, several at a time, told in the order in which they were named
 *
 *            emitted          taken            fed
 *   ring  -----|----------------|---------------|-----   WINDOW slots, counted without end
 *              | being read, or |   wait for    |
 *              |  done: told in |   a thread    |
 *              |  their order   |               |
 *
 * The caller's thread asks for names and tells results; where the next result is not there yet
 * it reads an image itself, so that a scan without any other thread is no special case.
 *  I1  emitted <= taken <= fed <= emitted + WINDOW
 *  I2  a slot belongs to the thread that took it until it is done, else to the caller's
 */
#include "scan.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "error.h"

#define WINDOW	    256u
#define THREADS_MAX 64u

struct slot {
	struct vhd_scan_name name; /* its text is owned */
	struct vhd_scan_image image;
	bool done;
};

struct scan {
	const struct vhd_scan_options *options;
	const struct scan_opener *opener;
	pthread_mutex_t lock;
	pthread_cond_t fed_more, done_more;
	uint64_t emitted, taken, fed;
	bool ending;
	struct slot ring[WINDOW];
	unsigned thread_count;
	pthread_t threads[THREADS_MAX];
};

/* Take the next name and look at it.  Called and left with the lock held. */
static void work_once(struct scan *s, struct scan_looker *looker)
{
	struct slot *slot = &s->ring[s->taken++ % WINDOW];

	pthread_mutex_unlock(&s->lock);
	scan_look(looker, &slot->name, &slot->image);
	pthread_mutex_lock(&s->lock);
	slot->done = true;
	if (slot == &s->ring[s->emitted % WINDOW])
		pthread_cond_signal(&s->done_more);
}

static struct scan_looker new_looker(const struct scan *s)
{
	return (struct scan_looker){
		.options = s->options,
		.opener = s->opener,
		.patience = SCAN_PATIENCE,
	};
}

static void *run_thread(void *arg)
{
	struct scan *s = arg;
	struct scan_looker looker = new_looker(s);

	pthread_mutex_lock(&s->lock);
	while (!s->ending) {
		if (s->taken == s->fed)
			pthread_cond_wait(&s->fed_more, &s->lock);
		else
			work_once(s, &looker);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static unsigned processors(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : (unsigned)CPU_COUNT(&set);
}

/* Threads beside the caller's; fewer than wanted will do. */
static void start_threads(struct scan *s)
{
	unsigned want = s->options->threads ? s->options->threads : processors();

	want = (unsigned)number_min(want, THREADS_MAX + 1);
	while (s->thread_count + 1 < want &&
	       !pthread_create(&s->threads[s->thread_count], NULL, run_thread, s))
		s->thread_count++;
}

static void stop_threads(struct scan *s)
{
	pthread_mutex_lock(&s->lock);
	s->ending = true;
	pthread_cond_broadcast(&s->fed_more);
	pthread_mutex_unlock(&s->lock);
	for (unsigned i = 0; i < s->thread_count; i++)
		pthread_join(s->threads[i], NULL);
}

/* Fill the free part of the ring.  The lock is not held: only this thread touches those. */
static int feed(struct scan *s, struct vhd_error *err)
{
	uint64_t fed = s->fed;
	int rc = 0;

	while (fed - s->emitted < WINDOW) {
		struct slot *slot = &s->ring[fed % WINDOW];
		struct vhd_scan_name name = { 0 };
		char *copy;

		if (!s->options->next(s->options->arg, &name))
			break;
		copy = strdup(name.name);
		if (!copy) {
			rc = error_system(err, -ENOMEM, "scan", name.name);
			break;
		}
		slot->name = name;
		slot->name.name = copy;
		slot->done = false;
		fed++;
	}
	pthread_mutex_lock(&s->lock);
	s->fed = fed;
	pthread_cond_broadcast(&s->fed_more);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

/* Until the oldest image that was not told is there. */
static struct slot *wait_oldest(struct scan *s, struct scan_looker *looker)
{
	struct slot *slot = &s->ring[s->emitted % WINDOW];

	pthread_mutex_lock(&s->lock);
	while (!slot->done) {
		if (s->taken < s->fed)
			work_once(s, looker);
		else
			pthread_cond_wait(&s->done_more, &s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return slot;
}

static void release_slot(struct slot *slot)
{
	free((void *)slot->name.name);
	slot->name.name = NULL;
	scan_image_release(&slot->image);
}

static int emit(struct scan *s, struct slot *slot)
{
	int rc = s->options->image(s->options->arg, &slot->image);

	release_slot(slot);
	pthread_mutex_lock(&s->lock);
	s->emitted++;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

/* Names are asked for when a quarter of the ring is free, or nothing is left to do. */
static int run(struct scan *s, struct vhd_error *err)
{
	struct scan_looker looker = new_looker(s);
	int rc = feed(s, err);

	while (!rc && s->emitted < s->fed) {
		rc = emit(s, wait_oldest(s, &looker));
		if (!rc && (s->fed - s->emitted <= WINDOW * 3 / 4 || s->emitted == s->fed))
			rc = feed(s, err);
	}
	return rc;
}

int scan_run(const struct vhd_scan_options *options, const struct scan_opener *opener,
	     struct vhd_error *err)
{
	struct scan *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return error_set(err, -ENOMEM, "cannot scan: %s", vhd_strerror(-ENOMEM));
	s->options = options;
	s->opener = opener;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->fed_more, NULL);
	pthread_cond_init(&s->done_more, NULL);
	start_threads(s);
	rc = run(s, err);
	stop_threads(s);
	for (uint64_t i = s->emitted; i < s->fed; i++)
		release_slot(&s->ring[i % WINDOW]);
	pthread_cond_destroy(&s->done_more);
	pthread_cond_destroy(&s->fed_more);
	pthread_mutex_destroy(&s->lock);
	free(s);
	return rc;
}

int vhd_scan(const struct vhd_scan_options *options, struct vhd_error *err)
{
	return scan_run(options, NULL, err);
}
