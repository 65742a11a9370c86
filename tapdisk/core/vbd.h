/* vbd.h - one virtual block device and its life
 *
 * A slot with a minor number; it is given an image, serves requests of its
 * front-ends, can be paused, resumed on another image, and closed.
 *
 *   CLOSED ──open──► RUNNING ──pause──► PAUSING ──► PAUSED ──unpause──► RUNNING
 *      ▲                │  ▲               │           │ (failed: stays PAUSED)
 *      │                │  └──timed out────┘           │
 *      └── CLOSING ◄────┴──────────────────────────────┘
 *
 * Requests submitted while it is not RUNNING, but not closed either, are held
 * and served later; clients see a slow disk, never an error.  Everything runs in
 * the loop's thread; what blocks is done by loop_work.
 */
#ifndef TAPDISK_VBD_H
#define TAPDISK_VBD_H

#include "tapdisk/drivers/driver.h"

struct vbd;
struct host;

/* Bits that tap-ctl prints. */
enum vbd_state_bits {
	VBD_DEAD = 0x1,
	VBD_CLOSED = 0x2,
	VBD_QUIESCE_REQUESTED = 0x4,
	VBD_QUIESCED = 0x8,
	VBD_PAUSE_REQUESTED = 0x10,
	VBD_PAUSED = 0x20,
	VBD_SHUTDOWN_REQUESTED = 0x40,
	VBD_RESUME_FAILED = 0x200,
};

struct vbd_params {
	const char *name; /* export name; copied; NULL: base name of the image without suffix */
	unsigned minor;
	uint64_t retry_ns; /* see retry.h */
};

/* A life change under way.  Caller's; valid until done(), which is called once, never before
 * the function that took it returned.  @err.code: 0, or why not. */
struct vbd_op {
	void (*done)(struct vbd_op *op);
	struct vhd_error err;
	void *owner;
	/* Of open and unpause: log of changed blocks (cbt.h); borrowed until done().  NULL: none; of
	 * unpause: the same as before, if it is still there.  "": none. */
	const char *log;
	/* the VBD's */
	struct vbd *vbd;
	struct list link;
	unsigned kind;
	bool flag; /* force, grow; of a pause that is done: it was paused before */
	uint64_t deadline_ns, lease_ns;
	char *spec;
	struct disk_params *params;
};

struct vbd_watcher { /* of front-ends and control; owner's memory */
	/* Any may be NULL. */
	void (*opened)(struct vbd_watcher *w);	/* has an image now: size and abilities are known */
	void (*closing)(struct vbd_watcher *w); /* drop clients: no request will be served */
	void (*resized)(struct vbd_watcher *w);
	void (*lost)(struct vbd_watcher
			     *w); /* somebody else has the image: closing() follows, unasked */
	/* "paused", "running", "stalled", "flush-failed", "changes-lost", …; text for people */
	void (*event)(struct vbd_watcher *w, const char *what, const char *text);
	struct list link;
};

/* A VBD without image (CLOSED, attached), in @host. */
int vbd_new(struct host *host, const struct vbd_params *params, struct vbd **out);
void vbd_free(struct vbd *vbd); /* CLOSED.  NULL is fine */

unsigned vbd_minor(const struct vbd *vbd);
const char *vbd_name(const struct vbd *vbd);
const char *vbd_spec(const struct vbd *vbd);	   /* "vhd:/path" of its image, or NULL */
unsigned vbd_state(const struct vbd *vbd);	   /* enum vbd_state_bits */
const char *vbd_state_text(const struct vbd *vbd); /* "running", "stalled", "paused" … */
/* Why it is stalled, or why the last unpause failed; "" if neither. */
const char *vbd_reason(const struct vbd *vbd);
/* How often it was paused so far: as long as it is paused and this stays, the pause is the same
 * one, and nothing was written meanwhile. */
uint64_t vbd_pauses(const struct vbd *vbd);
uint64_t vbd_size(const struct vbd *vbd);     /* bytes; 0 without image */
struct disk *vbd_disk(const struct vbd *vbd); /* borrowed, until paused or closed; may be NULL */
bool vbd_read_only(const struct vbd *vbd);
/* The log of changed blocks that it writes now; NULL: none, or given up. */
const char *vbd_changed_log(const struct vbd *vbd);
void vbd_watch(struct vbd *vbd, struct vbd_watcher *w);
void vbd_unwatch(struct vbd *vbd, struct vbd_watcher *w);
/* Tell all watchers. */
void vbd_event(struct vbd *vbd, const char *what, const char *text);

/* ── life.  Wrong moment: -EINVAL or -EBUSY, in op->err like all failures ──
 *
 * One change at a time: those asked for meanwhile wait their turn, within their own time-out, and
 * while a job holds the VBD.  Only a close does not wait for a pause, a hold or a close without
 * force that cannot get on: that one fails with -ESHUTDOWN. */

/* @params is copied deeply. */
void vbd_open(struct vbd *vbd, const char *spec, const struct disk_params *params,
	      struct vbd_op *op);
/* Drain, commit, final shape, release.  Held and stalled requests fail with -ESHUTDOWN.
 * @timeout_ns 0: none; when it runs out: -ETIMEDOUT, and the VBD goes on.  @force: close even if
 * it cannot be made durable in time. */
void vbd_close(struct vbd *vbd, bool force, uint64_t timeout_ns, struct vbd_op *op);
/* Drain, commit, final shape, locks let go but "parked" on the leaf.  @lease_ns: unpauses by
 * itself after, on the same image, trying until it works (0: never).  Of one that is paused: 0,
 * nothing changes, its lease neither. */
void vbd_pause(struct vbd *vbd, uint64_t timeout_ns, uint64_t lease_ns, struct vbd_op *op);
/* @spec NULL: the same again.  Another size is -EMEDIUMTYPE (124), unless it is larger and
 * @grow.  After a failure it is PAUSED as before, VBD_RESUME_FAILED set. */
void vbd_unpause(struct vbd *vbd, const char *spec, bool grow, struct vbd_op *op);

/* For jobs (snapshot, resize): stop admitting and drain; done() once nothing is in flight, the
 * disk still open and not committed; new requests are held until vbd_release. */
void vbd_hold(struct vbd *vbd, uint64_t timeout_ns, struct vbd_op *op);
void vbd_release(struct vbd *vbd);
/* A job uses the disk (vbd_disk) while it serves: only who asks for it closes it meanwhile. */
void vbd_job_begin(struct vbd *vbd);
void vbd_job_end(struct vbd *vbd);
/* A job changed the disk under hold: its name or its size. */
void vbd_set_spec(struct vbd *vbd, const char *spec);
void vbd_resized(struct vbd *vbd);
/* A growth to @bytes failed, maybe half way: the image may come back with that size from a pause. */
void vbd_resize_failed(struct vbd *vbd, uint64_t bytes);

/* ── requests ── */

/* Who asks: a front-end's connection; its memory.  A sync that failed is told to the first FLUSH of each
 * that was there then, even if that one's own sync succeeds (ORDER 5). */
struct vbd_client {
	uint64_t heard;	     /* of the VBD's losses */
	uint64_t last_write; /* that was answered: its number among all of the VBD's */
	bool reads_only;
	bool inherits; /* what one who has left was not told */
};

/* Any offset, length and buffer inside the disk: whole range checked by the caller
 * (vbd_size).  done() may be called before it returns.  Partial sectors are read, changed and
 * written under range locks (ORDER 12). */
void vbd_submit(struct vbd *vbd, struct request *req);
/* A client's connection comes: it shall hear of what was lost before and no writer was told, or one that
 * has left was not: it may be that one again. */
void vbd_client_init(const struct vbd *vbd, struct vbd_client *client, bool reads_only);
/* It goes; nothing of it is with the VBD but what was withdrawn. */
void vbd_client_left(struct vbd *vbd, const struct vbd_client *client);
/* @client is gone, and waits for no answer to its requests (ORDER 19).  What is held, or
 * comes to be held or to wait for storage in trouble, ends with -ESHUTDOWN and is never carried
 * out; maybe before this returns.  What the kernel has already ends as it may; until then no later
 * write touches its sectors. */
void vbd_withdraw(struct vbd *vbd, const struct vbd_client *client);

/* ── knobs and numbers ── */

struct vbd_limits { /* per second; 0: none.  Burst: how much at once after a pause; 0: one second's */
	uint64_t iops, iops_burst, bytes, bytes_burst;
};
void vbd_throttle(struct vbd *vbd, const struct vbd_limits *limits);
void vbd_get_limits(const struct vbd *vbd, struct vbd_limits *out);
void vbd_retry_now(struct vbd *vbd);
void vbd_retry_time(struct vbd *vbd, uint64_t ns);

#define VBD_LATENCY_BUCKETS 32u /* bucket i: below 2^i microseconds */
struct vbd_op_stats {
	uint64_t count, bytes, errors, total_ns, max_ns;
	uint64_t latency[VBD_LATENCY_BUCKETS];
};
struct vbd_stats {
	struct vbd_op_stats op[REQUEST_CACHE + 1]; /* by enum request_op */
	uint64_t outstanding, held, throttled;	   /* requests, now */
	uint64_t retries, stalls, stalled_ns;	   /* so far */
	uint64_t flush_failures;
};
void vbd_get_stats(const struct vbd *vbd, struct vbd_stats *out);

#endif
