/* vbd-private.h - what the files of the core share
 *
 *   vbd.c        life: open, close, pause, unpause, hold
 *   vbd-work.c   what threads do for it
 *   vbd-reopen.c files anew, when storage has failed for long
 *   vbd-ops.c    changes of life, one after the other, in time
 *   vbd-info.c   what others see: names, state, watchers, numbers, knobs
 *   request.c    a request's way to the disk and back: held, throttled, locked, its turn
 *   partial.c    requests that begin or end inside a sector
 *   vbd-log.c    its log of changed blocks: opened and ended
 *   changes.c    that log while it runs
 *   host.c       all VBDs, and whose turn it is
 *   stats.c throttle.c
 *
 *  V1  a request is in exactly one list: held, returned, throttled, ready, blocked, or, with the
 *      disk (counted in flying), writing or reading
 *  V2  with the gate not GATE_OPEN nothing new goes to the disk
 *  V3  one life change at a time: op; while phase is not PHASE_IDLE none begins
 */
#ifndef TAPDISK_VBD_PRIVATE_H
#define TAPDISK_VBD_PRIVATE_H

#include "changes.h"
#include "host.h"
#include "throttle.h"
#include "vbd.h"

enum vbd_life {
	LIFE_CLOSED,
	LIFE_OPENING,
	LIFE_RUNNING,
	LIFE_HOLDING, /* draining for a job */
	LIFE_HELD,
	LIFE_PAUSING,
	LIFE_PAUSED,
	LIFE_RESUMING,
	LIFE_CLOSING,
};

enum vbd_phase {
	PHASE_IDLE,
	PHASE_DRAIN,   /* until nothing is with the disk */
	PHASE_QUIESCE, /* the disk commits */
	PHASE_WORK,    /* a thread opens, parks or closes */
	PHASE_LOST,    /* until no job uses the disk, which is somebody else's now */
};

enum vbd_gate {
	GATE_SHUT, /* requests fail with -ESHUTDOWN */
	GATE_HOLD,
	GATE_OPEN,
};

enum vbd_op_kind {
	VBD_OP_OPEN,
	VBD_OP_CLOSE,
	VBD_OP_PAUSE,
	VBD_OP_UNPAUSE,
	VBD_OP_HOLD,
	VBD_OP_REOPEN, /* the core's own */
};

struct vbd_step { /* what a thread does for a VBD */
	struct loop_work work;
	struct disk *disk;	    /* to be parked, unparked, closed */
	const char *spec;	    /* to be opened */
	struct disk *opened;	    /* result */
	bool reused;		    /* opened is disk, unparked */
	void *plan;		    /* to be reopened */
	bool lost;		    /* result of that */
	struct changes *changes;    /* to be ended before that */
	const char *log;	    /* to be opened, or NULL */
	char *log_new;		    /* owned; its name from then on, if log_given */
	bool log_given;		    /* it must be there */
	struct changes *log_opened; /* result */
	struct vhd_error log_err;   /* of ending; code 0: fine */
	struct vhd_error err;	    /* code 0: fine */
	void (*then)(struct vbd *vbd);
};

#define VBD_REASON_BYTES 256u
#define VBD_IDLE_NS	 UINT64_C(1000000) /* before looking again whether a disk is idle */

struct vbd {
	struct host *host; /* borrowed */
	struct list link;  /* host->vbds */
	unsigned minor;
	char *name; /* owned; NULL until known */
	bool name_given;
	char *spec;		   /* owned; NULL without image */
	struct disk_params params; /* roots owned */
	struct disk *disk;	   /* owned; running, or parked while paused */
	char *log;		   /* owned; of changed blocks; or NULL */
	struct changes *changes;   /* owned; while the disk runs and there is a log */
	uint64_t size;
	uint64_t size_tried; /* the largest that a growth failed to give it since it was opened */
	bool read_only;

	/* life */
	enum vbd_life life;
	enum vbd_phase phase;
	struct vbd_op *op;     /* the one under way */
	struct list ops;       /* waiting their turn */
	struct loop_task task; /* advances life outside of anybody's calls */
	struct loop_timer *deadline, *lease, *later;
	struct vbd_op lease_op;
	bool lease_busy, leased;
	struct vbd_op reopen_op;
	bool reopen_busy;
	unsigned jobs;	  /* that use the disk while it serves */
	uint64_t pauses;  /* so far */
	bool backing_out; /* op was given up, the disk is still quiescing */
	bool quiesced;	  /* answer of the disk has come */
	int quiesce_err;
	bool closing_told;
	struct vbd_step step;
	bool resume_failed;
	char resume_reason[sizeof(((struct vhd_error *)0)->text)];

	/* requests */
	enum vbd_gate gate;
	struct list held, returned, throttled, ready, blocked;
	struct list writing;	  /* WRITE, ZERO, TRIM with the disk */
	struct list reading;	  /* others with the disk */
	unsigned flying;	  /* requests with the disk */
	unsigned alone;		  /* writers that share no sector with others: writing or blocked */
	uint64_t losses;	  /* syncs that failed, ever */
	uint64_t told;		  /* of them, to the flush of some client that may write */
	uint64_t owed;		  /* of them, to one who has left, and may come again; 0: none */
	uint64_t writes, flushed; /* answered; of them, before the last good flush */
	uint64_t absent;	  /* the last write of those who have left */
	struct loop_timer *withdrawal; /* looks at withdrawn requests with the disk */
	bool quiet;		       /* a stall is interrupted for their sake, which is no news */
	bool unblocking, unblock_again;
	struct loop_task readmit; /* what came back although the gate is open */
	struct throttle throttle;
	struct vbd_limits limits;
	struct loop_timer *tokens;
	struct list partial_free, partial_waiting;
	void *partial_pool; /* owned */
	/* fairness: host.c */
	struct list turn; /* host->waiting */
	uint64_t load;

	/* storage in trouble */
	struct retry *retry; /* owned; with an image */
	uint64_t retry_ns;
	int stalled; /* why, or 0 */
	uint64_t stalled_since_ns;
	char reason[VBD_REASON_BYTES];

	struct list watchers;
	struct list *watch_next; /* while they are told */
	struct vbd_stats stats;
};

static inline uint64_t vbd_now(const struct vbd *vbd)
{
	return loop_now_ns(vbd->host->loop);
}

/* ── vbd-ops.c ── */
/* Let the task look, later in this turn. */
void vbd_again(struct vbd *vbd);
/* The operation under way is over; op->err is filled in, or zero.  The last thing a caller does. */
void vbd_finish(struct vbd *vbd);
void vbd_op_error(struct vbd_op *op, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static inline struct vbd_step *vbd_step_of(struct loop_work *work)
{
	return list_entry(work, struct vbd_step, work);
}

/* ── vbd-work.c: for vbd_step_start ── */
void vbd_work_open(struct loop_work *work);  /* step.spec, or step.disk again if nothing changed */
void vbd_work_close(struct loop_work *work); /* step.disk */
void vbd_work_park(struct loop_work *work);  /* step.disk */

/* ── vbd-reopen.c ── */
bool vbd_can_reopen(const struct vbd *vbd);
/* Nothing is with the disk.  Ends with vbd_finish, or tries later: vbd_again. */
void vbd_reopen(struct vbd *vbd);
/* PHASE_LOST is over: the image is closed. */
void vbd_lost(struct vbd *vbd);

/* ── vbd.c ── */
/* One step at a time: the phase says so. */
void vbd_step_start(struct vbd *vbd, void (*work)(struct loop_work *),
		    void (*then)(struct vbd *vbd));
/* The disk is stopped: everything held fails, and the op ends when it is closed. */
void vbd_close_now(struct vbd *vbd);
/* A struct retry_params.too_long; @owner: the VBD. */
void vbd_too_long(void *owner);
/* Begin vbd->op. */
void vbd_begin(struct vbd *vbd);
/* Nothing is with the disk any more. */
void vbd_drained(struct vbd *vbd);
/* The disk's answer has come. */
void vbd_after_quiesce(struct vbd *vbd);
/* Back to serving, from any state with a disk that runs. */
void vbd_go_on(struct vbd *vbd);
/* Cancel what waits for the storage, and what the kernel has and fails; others may wait on. */
void vbd_cancel_stalled(struct vbd *vbd);
/* Fill in vbd->op->err: it ends with @code; if the state of the disk still allows that: true, and
 * the caller takes the op and ends it. */
bool vbd_give_up(struct vbd *vbd, int code, const char *why);

/* ── vbd-log.c ── */
/* In the step's thread: open s->log for a disk of @size bytes.  One that was not asked for by name and
 * is gone was taken away meanwhile: none is opened then.  What is wrong is in s->err. */
void vbd_log_open(struct vbd_step *step, uint64_t size);
/* What was opened is ended by the next step. */
void vbd_log_drop(struct vbd_step *step);
/* In the step's thread: end what is to be ended. */
void vbd_log_end(struct vbd_step *step);
/* What was opened runs; if that fails, it is ended by the next step. */
VHD_MUST int vbd_log_start(struct vbd *vbd, struct vhd_error *err);
/* The disk is quiet: its log is ended by the next step. */
void vbd_log_stop(struct vbd *vbd);
/* Tell what ending it had to say. */
void vbd_log_tell(struct vbd *vbd);
/* The disk serves again: vbd->log becomes the log that is used now, or none. */
void vbd_log_keep_name(struct vbd *vbd);

/* ── request.c ── */
/* Nothing may be outstanding at init and release. */
void request_init(struct vbd *vbd);
/* A driver's struct disk.completed. */
void request_completed(struct disk *disk, struct request *req, int err);
/* Close the gate: everything not with the disk becomes held, in order. */
void request_hold_all(struct vbd *vbd);
/* Open the gate and admit what was held. */
void request_admit_all(struct vbd *vbd);
/* Close the gate for good: everything held fails with -ESHUTDOWN. */
void request_fail_all(struct vbd *vbd);
/* A timer's: requests that nobody waits for do not wait for the storage. */
void request_withdrawal(void *owner);
/* Tokens may have come, or limits changed. */
void request_tokens(void *owner);
/* host.c: it is @vbd's turn: start the first of its ready ones.  True: more are ready. */
bool request_turn(struct vbd *vbd);
/* partial.c: all of @req is over. */
void request_over(struct vbd *vbd, struct request *req, int err);

/* ── partial.c ── */
int partial_open(struct vbd *vbd);
void partial_close(struct vbd *vbd);
static inline bool partial_is(const struct request *req)
{
	return (req->offset | req->length) % REQUEST_SECTOR;
}
void partial_start(struct vbd *vbd, struct request *req);
/* Is @req one that partial.c made?  Then it is over. */
bool partial_completed(struct request *req, int err);

/* ── host.c ── */
void host_add(struct host *host, struct vbd *vbd);
void host_remove(struct vbd *vbd);
/* May a request of weight @load start now?  True: it counts, until host_leave.  False: @vbd gets
 * its turn: request_turn. */
bool host_enter(struct vbd *vbd, uint64_t load);
/* It starts, whoever waits. */
void host_count(struct vbd *vbd, uint64_t load);
void host_leave(struct vbd *vbd, uint64_t load);
void host_forget_turn(struct vbd *vbd);

/* ── stats.c ── */
void stats_record(struct vbd_stats *stats, const struct request *req, uint64_t now_ns);

/* ── vbd-info.c ── */
int vbd_copy_params(struct disk_params *to, const struct disk_params *from);
void vbd_free_params(struct disk_params *params);
/* The export name that goes with @spec; NULL: no memory. */
char *vbd_name_of(const char *spec);
/* A struct retry_params.stalled; @owner: the VBD. */
void vbd_stalled(void *owner, int err);
/* A struct disk.lost. */
void vbd_disk_lost(struct disk *disk);
/* The log of changed blocks is given up. */
void vbd_changes_lost(void *owner, const char *text);
/* A struct disk.event. */
void vbd_disk_event(struct disk *disk, const char *what, const char *text);
enum vbd_news { VBD_NEWS_OPENED, VBD_NEWS_CLOSING, VBD_NEWS_RESIZED, VBD_NEWS_LOST };
void vbd_tell(struct vbd *vbd, enum vbd_news news);

#endif
