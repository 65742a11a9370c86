/* copy.h - moving data between storages with several threads
 *
 * The owner fills a job with segments and submits it; workers perform it; the
 * owner collects it when done and does the bookkeeping (map_written and so
 * on): only the owner ever touches maps.  Where the targets depend on what was
 * read (zeros get no place), the worker asks job->place between the two, so
 * that the data need not wait for the owner.  With 0 threads a job is performed while it is
 * submitted, which is deterministic.
 *
 * Memory: one buffer of COPY_BUFFER bytes a job; jobs are made once.
 */
#ifndef VHD_COPY_H
#define VHD_COPY_H

#include "crypt.h"
#include "io.h"
#include "map.h"

#ifndef COPY_BUFFER /* smaller in tests */
#define COPY_BUFFER   (4u << 20)
#define COPY_SEGMENTS 1024u
#endif
#define COPY_HEAD (32u << 10) /* room before the data of a job */

struct copy_segment {
	struct vhd_io *from; /* borrowed; NULL: zeros */
	uint64_t from_offset;
	struct vhd_io *to; /* borrowed; NULL: only read, into buffer */
	uint64_t to_offset;
	uint32_t length;
	/* Whole sectors from number @sector of the disk on: ciphertext where they come from, to be
	 * ciphertext where they go.  Borrowed; NULL: clear. */
	struct crypt *decrypt, *encrypt;
	uint64_t sector;
	bool skip; /* out: all zeros, and not written because the job skips them */
};

/* A job may be done in two steps, so that the owner decides in between where data goes: submit it
 * to be read, collect it, fill in the targets, submit it to be written. */
enum copy_step { COPY_BOTH, COPY_READ, COPY_WRITE };

/* What failed. */
enum copy_fault { COPY_OK, COPY_FAULT_READ, COPY_FAULT_PLACE, COPY_FAULT_WRITE };

struct copy_job {
	/* the owner's, free to fill in while it holds the job */
	struct copy_segment segment[COPY_SEGMENTS];
	unsigned count;
	uint32_t bytes; /* sum of the lengths, at most COPY_BUFFER */
	enum copy_step step;
	bool push;	 /* what is written shall go on to the storage: see io_push */
	bool skip_zeros; /* what is all zero is not written: by grains, if there is one */
	uint32_t grain;	 /* bytes; segments within one multiple of it in the target are skipped
			  * together or not at all; 0: each for itself */
	/* COPY_BOTH: called by the worker when the data is read, for one job at a time and in
	 * the order of submission: fills in targets.  May set head: that many bytes, which
	 * it put before buffer, belong before the first segment that is written.  NULL: the
	 * targets are known.  0, or negative: nothing is written. */
	int (*place)(struct copy_job *job, void *arg);
	void *place_arg;
	uint32_t head;
	uint64_t cookie;		   /* as the owner likes */
	struct map_req req[COPY_SEGMENTS]; /* reservations that the job's writes serve */
	unsigned reqs;
	/* results */
	int err;
	enum copy_fault fault;
	unsigned failed; /* segment that failed */
	uint64_t read, written;
	uint8_t *buffer; /* the data, segment after segment; valid while the job is held.
			  * COPY_HEAD bytes before it may be used too */
	struct copy_job *next;
};

struct copier;

/* How many threads are worth having for writing to @to. */
unsigned copy_threads(const struct vhd_io *to);
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
/* Tell why a job, which writes to @to, failed: its job->err. */
VHD_MUST int copy_job_error(const struct copy_job *job, const struct vhd_io *to,
			    struct vhd_error *err);
/* Give a job back that was taken or collected. */
void copy_put(struct copier *copier, struct copy_job *job);

#endif
