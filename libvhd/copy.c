/* copy.c - a pool of jobs and the threads that perform them
 *
 *   idle ─take─► owner ─submit─► queue ─worker─► done ─collect─► owner ─put─► idle
 *
 * One mutex guards the lists and the states.  Jobs are collected in the order
 * they were submitted, so that a cursor moves forward only; those with a place
 * function get their turns in that order too.  A worker that waits for its
 * turn waits for jobs that were taken before its own, so some worker always moves.
 */
#include "copy.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/number.h"
#include "error.h"
#include "layout.h"
#include "zeros.h"

#define THREADS_MIN    2u /* one reads while another writes */
#define THREADS_MAX    4u
#define THREADS_DIRECT 4u /* requests in flight; they cost no processor */

enum job_state { JOB_HELD, JOB_QUEUED, JOB_RUNNING, JOB_DONE };

struct slot {
	struct copy_job job; /* first: a job is its slot */
	enum job_state state;
	uint64_t turn; /* with a place function: among those */
};

struct copier {
	struct slot *slots;
	unsigned jobs, threads;
	pthread_t *thread;
	pthread_mutex_t lock;
	pthread_cond_t work, finished, placed;
	uint64_t turns, turn; /* handed out; whose it is */
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

static int decrypt_all(struct copy_job *job)
{
	uint8_t *at = job->buffer;

	for (unsigned i = 0; i < job->count; i++) {
		const struct copy_segment *s = &job->segment[i];
		int rc = s->from && s->decrypt ? crypt_decrypt(s->decrypt, at, at, s->sector,
							       s->length / VHD_SECTOR) :
						 0;

		if (rc < 0) {
			job->failed = i;
			return rc;
		}
		at += s->length;
	}
	return 0;
}

static int encrypt_all(struct copy_job *job)
{
	uint8_t *at = job->buffer;

	for (unsigned i = 0; i < job->count; i++) {
		const struct copy_segment *s = &job->segment[i];
		int rc = s->to && s->encrypt && !s->skip ?
				 crypt_encrypt(s->encrypt, at, at, s->sector,
					       s->length / VHD_SECTOR) :
				 0;

		if (rc < 0) {
			job->failed = i;
			return rc;
		}
		at += s->length;
	}
	return 0;
}

static bool joins(const struct copy_segment *a, const struct copy_segment *b, uint64_t length)
{
	return !b->skip && b->to == a->to && b->to_offset == a->to_offset + length;
}

/* Segments whose targets follow each other are written at once, the first run with the head
 * before it. */
static int write_all(struct copy_job *job)
{
	uint64_t low = UINT64_MAX, high = 0;
	struct vhd_io *to = NULL;
	uint32_t head = job->head;
	uint8_t *at = job->buffer;

	for (unsigned i = 0, end; i < job->count; i = end) {
		const struct copy_segment *s = &job->segment[i];
		uint32_t length = s->length;
		int rc = 0;

		end = i + 1;
		if (s->to && !s->skip) {
			for (; end < job->count && joins(s, &job->segment[end], length); end++)
				length += job->segment[end].length;
			rc = io_write(s->to, at - head, head + length, s->to_offset - head);
			job->written += length;
			low = number_min(low, s->to_offset);
			high = number_max(high, s->to_offset + length);
			to = s->to;
			head = 0;
		}
		if (rc < 0) {
			job->failed = i;
			return rc;
		}
		at += length;
	}
	if (to && job->push)
		io_push(to, low, high - low);
	return 0;
}

/* The end of the segments that are skipped with segment @from or not at all. */
static unsigned grain_end(const struct copy_job *job, unsigned from)
{
	const struct copy_segment *s = &job->segment[from];
	unsigned end = from + 1;

	while (job->grain && end < job->count && job->segment[end].to == s->to &&
	       job->segment[end].to_offset / job->grain == s->to_offset / job->grain)
		end++;
	return end;
}

static void find_zeros(struct copy_job *job)
{
	const uint8_t *at = job->buffer;

	for (unsigned i = 0, end; i < job->count; i = end) {
		bool zero = true;

		end = grain_end(job, i);
		for (unsigned k = i; k < end; k++) {
			const struct copy_segment *s = &job->segment[k];

			zero = zero && (!s->from || zeros_are(at, s->length));
			at += s->length;
		}
		for (unsigned k = i; k < end; k++)
			job->segment[k].skip = zero;
	}
}

static int fault(struct copy_job *job, enum copy_fault fault, int rc)
{
	if (rc < 0)
		job->fault = fault;
	return rc;
}

/* Every job with a place function takes its turn, whether it got that far or not. */
static int take_turn(struct copier *c, struct slot *slot, int rc)
{
	struct copy_job *job = &slot->job;

	pthread_mutex_lock(&c->lock);
	while (c->turn != slot->turn)
		pthread_cond_wait(&c->placed, &c->lock);
	pthread_mutex_unlock(&c->lock);
	if (!rc)
		rc = fault(job, COPY_FAULT_PLACE, job->place(job, job->place_arg));
	pthread_mutex_lock(&c->lock);
	c->turn++;
	pthread_cond_broadcast(&c->placed);
	pthread_mutex_unlock(&c->lock);
	return rc;
}

static void perform(struct copier *c, struct slot *slot)
{
	struct copy_job *job = &slot->job;
	int rc = 0;

	if (job->step != COPY_WRITE) {
		rc = fault(job, COPY_FAULT_READ, read_all(job));
		if (!rc)
			rc = fault(job, COPY_FAULT_READ, decrypt_all(job));
		if (!rc && job->skip_zeros)
			find_zeros(job);
	}
	if (job->place)
		rc = take_turn(c, slot, rc);
	if (!rc && job->step != COPY_READ)
		rc = fault(job, COPY_FAULT_WRITE, encrypt_all(job));
	if (!rc && job->step != COPY_READ)
		rc = fault(job, COPY_FAULT_WRITE, write_all(job));
	job->err = rc;
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
		perform(c, slot);
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

unsigned copy_threads(const struct vhd_io *to)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	if (to->direct)
		return THREADS_DIRECT;
	if (processors < THREADS_MIN)
		return THREADS_MIN;
	return (unsigned)number_min((uint64_t)processors, THREADS_MAX);
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
	pthread_cond_init(&c->placed, NULL);
	c->slots = calloc(jobs, sizeof(*c->slots));
	if (!c->slots)
		goto fail;
	for (; c->jobs < jobs; c->jobs++) {
		struct copy_job *job = &c->slots[c->jobs].job;

		if (posix_memalign((void **)&job->buffer, 4096, COPY_HEAD + COPY_BUFFER))
			goto fail;
		job->buffer += COPY_HEAD;
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
		free(c->slots[i].job.buffer - COPY_HEAD);
	pthread_cond_destroy(&c->placed);
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
	job->push = false;
	job->skip_zeros = false;
	job->grain = 0;
	job->place = NULL;
	job->place_arg = NULL;
	job->head = 0;
	job->cookie = 0;
	job->err = 0;
	job->fault = COPY_OK;
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
	if (job->place)
		slot->turn = c->turns++;
	if (!c->threads) {
		perform(c, slot);
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

int copy_job_error(const struct copy_job *job, const struct vhd_io *to, struct vhd_error *err)
{
	const struct copy_segment *s = &job->segment[job->failed];
	bool reading = job->fault == COPY_FAULT_READ;

	if (job->err == -VHD_E_TRUNCATED)
		return error_at(
			err, job->err, s->from_offset,
			"cannot read '%s': the file ends before the data at offset %llu that "
			"its block table names",
			s->from->name, (unsigned long long)s->from_offset);
	return error_system(err, job->err, reading ? "read" : "write",
			    reading && s->from ? s->from->name : to->name);
}
