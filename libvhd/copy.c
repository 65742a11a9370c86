/* copy.c - a pool of jobs and the threads that perform them
 *
 *   idle ─take─► owner ─submit─► queue ─worker─► done ─collect─► owner ─put─► idle
 *
 * One mutex guards the lists and the states.  Jobs are collected in the order
 * they were submitted, so that a cursor moves forward only.
 */
#include "copy.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "zeros.h"

enum job_state { JOB_HELD, JOB_QUEUED, JOB_RUNNING, JOB_DONE };

struct slot {
	struct copy_job job; /* first: a job is its slot */
	enum job_state state;
};

struct copier {
	struct slot *slots;
	unsigned jobs, threads;
	pthread_t *thread;
	pthread_mutex_t lock;
	pthread_cond_t work, finished;
	struct copy_job *idle;
	struct copy_job *first, *last; /* submitted, in order */
	bool stop;
};

/* ── performing ── */

/* The run of sources that begins with segment @from. */
static int read_run(struct copy_job *job, unsigned from, uint8_t *at, uint32_t length)
{
	const struct copy_segment *s = &job->segment[from];
	int rc;

	if (!s->from) {
		memset(at, 0, length);
		return 0;
	}
	rc = io_read(s->from, at, length, s->from_offset);
	if (rc < 0) {
		job->failed = from;
		return rc;
	}
	job->read += length;
	return 0;
}

/* Segments whose sources follow each other are read at once. */
static int read_all(struct copy_job *job)
{
	uint8_t *at = job->buffer;

	for (unsigned i = 0, end; i < job->count; i = end) {
		const struct copy_segment *s = &job->segment[i];
		uint32_t length = s->length;
		int rc;

		for (end = i + 1; end < job->count; end++) {
			const struct copy_segment *n = &job->segment[end];

			if (n->from != s->from ||
			    (s->from && n->from_offset != s->from_offset + length))
				break;
			length += n->length;
		}
		rc = read_run(job, i, at, length);
		if (rc < 0)
			return rc;
		at += length;
	}
	return 0;
}

static bool joins(const struct copy_segment *a, const struct copy_segment *b, uint64_t length)
{
	return !b->skip && b->to == a->to && b->to_offset == a->to_offset + length;
}

/* Segments whose targets follow each other are written at once. */
static int write_all(struct copy_job *job)
{
	uint8_t *at = job->buffer;

	for (unsigned i = 0, end; i < job->count; i = end) {
		const struct copy_segment *s = &job->segment[i];
		uint32_t length = s->length;
		int rc = 0;

		end = i + 1;
		if (s->to && !s->skip) {
			for (; end < job->count && joins(s, &job->segment[end], length); end++)
				length += job->segment[end].length;
			rc = io_write(s->to, at, length, s->to_offset);
			job->written += length;
		}
		if (rc < 0) {
			job->failed = i;
			return rc;
		}
		at += length;
	}
	return 0;
}

static void perform(struct copy_job *job)
{
	uint8_t *at = job->buffer;

	bool look = job->skip_zeros && job->step != COPY_WRITE;

	job->err = job->step == COPY_WRITE ? 0 : read_all(job);
	for (unsigned i = 0; !job->err && look && i < job->count; i++) {
		struct copy_segment *s = &job->segment[i];

		s->skip = !s->from || zeros_are(at, s->length);
		at += s->length;
	}
	if (!job->err && job->step != COPY_READ)
		job->err = write_all(job);
}

static struct slot *next_queued(struct copier *c)
{
	for (struct copy_job *j = c->first; j; j = j->next) {
		struct slot *slot = (struct slot *)j;

		if (slot->state == JOB_QUEUED)
			return slot;
	}
	return NULL;
}

static void *worker(void *arg)
{
	struct copier *c = arg;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		struct slot *slot = next_queued(c);

		if (!slot && c->stop)
			break;
		if (!slot) {
			pthread_cond_wait(&c->work, &c->lock);
			continue;
		}
		slot->state = JOB_RUNNING;
		pthread_mutex_unlock(&c->lock);
		perform(&slot->job);
		pthread_mutex_lock(&c->lock);
		slot->state = JOB_DONE;
		pthread_cond_signal(&c->finished);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* ── the owner's side ── */

static int start_threads(struct copier *c, unsigned threads)
{
	c->thread = calloc(threads ? threads : 1, sizeof(*c->thread));
	if (!c->thread)
		return -ENOMEM;
	for (; c->threads < threads; c->threads++) {
		int rc = pthread_create(&c->thread[c->threads], NULL, worker, c);

		if (rc)
			return c->threads ? 0 : -rc; /* fewer are slower, not wrong */
	}
	return 0;
}

int copy_start(unsigned threads, unsigned jobs, struct copier **out)
{
	struct copier *c = calloc(1, sizeof(*c));
	int rc = -ENOMEM;

	if (!c)
		return rc;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->work, NULL);
	pthread_cond_init(&c->finished, NULL);
	c->slots = calloc(jobs, sizeof(*c->slots));
	if (!c->slots)
		goto fail;
	for (; c->jobs < jobs; c->jobs++) {
		struct copy_job *job = &c->slots[c->jobs].job;

		if (posix_memalign((void **)&job->buffer, 4096, COPY_BUFFER))
			goto fail;
		job->next = c->idle;
		c->idle = job;
	}
	rc = start_threads(c, threads);
	if (rc < 0)
		goto fail;
	*out = c;
	return 0;
fail:
	copy_stop(c);
	return rc;
}

void copy_stop(struct copier *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	pthread_cond_broadcast(&c->work);
	pthread_mutex_unlock(&c->lock);
	for (unsigned i = 0; i < c->threads; i++)
		pthread_join(c->thread[i], NULL);
	for (unsigned i = 0; i < c->jobs; i++)
		free(c->slots[i].job.buffer);
	pthread_cond_destroy(&c->finished);
	pthread_cond_destroy(&c->work);
	pthread_mutex_destroy(&c->lock);
	free(c->thread);
	free(c->slots);
	free(c);
}

struct copy_job *copy_take(struct copier *c)
{
	struct copy_job *job = c->idle;

	if (!job)
		return NULL;
	c->idle = job->next;
	job->next = NULL;
	job->count = 0;
	job->bytes = 0;
	job->reqs = 0;
	job->step = COPY_BOTH;
	job->skip_zeros = false;
	job->cookie = 0;
	job->err = 0;
	job->failed = 0;
	job->read = 0;
	job->written = 0;
	((struct slot *)job)->state = JOB_HELD;
	return job;
}

bool copy_add(struct copy_job *job, const struct copy_segment *segment)
{
	if (job->count == COPY_SEGMENTS || segment->length > COPY_BUFFER - job->bytes)
		return false;
	job->segment[job->count] = *segment;
	job->segment[job->count++].skip = false;
	job->bytes += segment->length;
	return true;
}

void copy_submit(struct copier *c, struct copy_job *job)
{
	struct slot *slot = (struct slot *)job;

	job->next = NULL;
	if (!c->threads) {
		perform(job);
		slot->state = JOB_DONE;
	} else {
		slot->state = JOB_QUEUED;
	}
	pthread_mutex_lock(&c->lock);
	if (c->last)
		c->last->next = job;
	else
		c->first = job;
	c->last = job;
	pthread_cond_signal(&c->work);
	pthread_mutex_unlock(&c->lock);
}

struct copy_job *copy_collect(struct copier *c)
{
	struct copy_job *job;

	pthread_mutex_lock(&c->lock);
	job = c->first;
	while (job && ((struct slot *)job)->state != JOB_DONE)
		pthread_cond_wait(&c->finished, &c->lock);
	if (job) {
		c->first = job->next;
		if (!c->first)
			c->last = NULL;
	}
	pthread_mutex_unlock(&c->lock);
	return job;
}

void copy_put(struct copier *c, struct copy_job *job)
{
	job->next = c->idle;
	c->idle = job;
}
