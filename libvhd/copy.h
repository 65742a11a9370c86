/* copy.h - moving data between storages with several threads
 *
 * The owner fills a job with segments and submits it; workers perform it; the
 * owner collects it when done and does the bookkeeping (map_written and so
 * on): only the owner ever touches maps.  With 0 threads a job is performed
 * while it is submitted, which is deterministic.
 *
 * Memory: one buffer of COPY_BUFFER bytes a job; jobs are made once.
 */
#ifndef VHD_COPY_H
#define VHD_COPY_H

#include "io.h"
#include "map.h"

#define COPY_BUFFER   (4u << 20)
#define COPY_SEGMENTS 1024u
#define COPY_THREADS  3u /* a good default */

struct copy_segment {
	struct vhd_io *from; /* borrowed; NULL: zeros */
	uint64_t from_offset;
	struct vhd_io *to; /* borrowed; NULL: only read, into buffer */
	uint64_t to_offset;
	uint32_t length;
	bool skip; /* out: all zeros, and not written because the job skips them */
};

/* A job may be done in two steps, so that the owner decides in between where data goes: submit it
 * to be read, collect it, fill in the targets, submit it to be written. */
enum copy_step { COPY_BOTH, COPY_READ, COPY_WRITE };

struct copy_job {
	/* the owner's, free to fill in while it holds the job */
	struct copy_segment segment[COPY_SEGMENTS];
	unsigned count;
	uint32_t bytes; /* sum of the lengths, at most COPY_BUFFER */
	enum copy_step step;
	bool skip_zeros;		   /* segments that are all zero are not written */
	uint64_t cookie;		   /* as the owner likes */
	struct map_req req[COPY_SEGMENTS]; /* reservations that the job's writes serve */
	unsigned reqs;
	/* results */
	int err;
	unsigned failed; /* segment that failed */
	uint64_t read, written;
	uint8_t *buffer; /* the data, segment after segment; valid while the job is held */
	struct copy_job *next;
};

struct copier;

VHD_MUST int copy_start(unsigned threads, unsigned jobs, struct copier **out);
/* Waits for what is under way and frees everything.  NULL is fine. */
void copy_stop(struct copier *copier);

/* A job to fill, empty.  NULL: all are submitted; collect one first. */
struct copy_job *copy_take(struct copier *copier);
/* Add a segment; false when it does not fit (submit, and take another). */
bool copy_add(struct copy_job *job, const struct copy_segment *segment);
void copy_submit(struct copier *copier, struct copy_job *job);
/* The next finished job, in the order of submission; waits for it.  NULL: none was submitted. */
struct copy_job *copy_collect(struct copier *copier);
/* Give a job back that was taken or collected. */
void copy_put(struct copier *copier, struct copy_job *job);

#endif
