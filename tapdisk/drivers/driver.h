/* driver.h - virtual disks and the requests they serve: what a driver promises the core
 *
 * A struct disk is one open virtual disk: a VHD chain, a raw file, memory, or a
 * filter over another disk.  It is opened in two steps: disk_open blocks (files,
 * locks, tables; any thread), disk_start makes it run on a loop.
 *
 *   open ──start──► running ──quiesce──► quiet ──stop──► stopped ──park──► parked ──► close
 *     ▲                ▲                   │                │                │
 *     │                └──── submit ───────┘                └──► close       │
 *     └──────────────────────────────unpark──────────────────────────────────┘
 */
#ifndef TAPDISK_DRIVER_H
#define TAPDISK_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvhd/base/list.h"
#include "libvhd/vhd.h"
#include "tapdisk/engine/engine.h"
#include "tapdisk/engine/retry.h"
#include "tapdisk/loop/loop.h"

#define REQUEST_ALIGN	    4096u
#define REQUEST_STATE_BYTES 512u
#define REQUEST_SECTOR	    512u

enum request_op {
	REQUEST_READ,
	REQUEST_WRITE,
	REQUEST_FLUSH,
	REQUEST_TRIM,	/* a hint; afterwards old contents or zeros */
	REQUEST_ZERO,	/* reads as zeros afterwards */
	REQUEST_STATUS, /* fill extents */
	REQUEST_CACHE,	/* a hint: load metadata */
};

enum request_flags {
	REQUEST_FUA = 1 << 0,	    /* WRITE, ZERO, TRIM: done when durable */
	REQUEST_NO_HOLE = 1 << 1,   /* ZERO: keep the space */
	REQUEST_FAST_ZERO = 1 << 2, /* ZERO: -ENOTSUP at once, nothing changed, not by writing */
	REQUEST_SPARSE = 1 << 3,    /* READ of zeros only: all_zero may be set, buf left alone */
};

enum extent_flags { /* values of NBD's base:allocation */
		    EXTENT_HOLE = 1 << 0,
		    EXTENT_ZERO = 1 << 1,
};
struct request_extent {
	uint64_t length; /* bytes */
	unsigned flags;	 /* enum extent_flags */
	unsigned depth;	 /* 0: in no layer, 1: leaf, 2: its parent … */
};

struct request {
	/* the front-end's; unchanged until done() */
	enum request_op op;
	unsigned flags;		 /* enum request_flags */
	uint64_t offset, length; /* bytes.  To a driver: multiples of 512, inside the disk.
				  * FLUSH: 0, 0 */
	void *buf;		 /* READ, WRITE; any alignment, REQUEST_ALIGN is fastest */
	struct request_extent *extents;
	unsigned extent_max; /* >= 1 */
	void (*done)(struct request *req);
	struct vbd_client *client; /* whose it is (vbd.h); or NULL */
	/* the answer */
	int err;	       /* 0, -errno or -VHD_E_* */
	unsigned extent_count; /* STATUS: from offset on, without gaps, together at most length (at
				* least one sector) */
	bool all_zero;	       /* READ with REQUEST_SPARSE: nothing but zeros, buf is as it was */
	/* the core's */
	struct list link;
	struct vbd *vbd;
	uint64_t started_ns;
	uint64_t core[4];
	uint64_t
		failing_ns; /* since when operations of it fail (engine.h), set with -ECANCELED; or 0 */
	/* the driver's, while the request is with it */
	_Alignas(16) unsigned char state[REQUEST_STATE_BYTES];
};

struct disk;
struct vbd_client;

struct disk_layer_info { /* for statistics; strings are valid until the disk changes */
	const char *path, *type;
	uint64_t reads, writes; /* sectors served from / written to this layer */
	uint64_t read_failures, write_failures;
};

struct disk_ops {
	const char *name; /* "vhd" */
	/* Loop's thread.  Pools are made here. */
	int (*start)(struct disk *disk, struct vhd_error *err);
	/* Any number at a time, any order of completion.  Completes each once by disk_complete(),
	 * possibly before returning.  WRITE, ZERO, TRIM done: seen by any later read; not yet durable
	 * unless FUA.  FLUSH done: everything completed before it was submitted is durable.
	 * -ECANCELED (retry_abort): nothing of it counts, submit it again later. */
	void (*submit)(struct disk *disk, struct request *req);
	/* Right after retry_abort; loop's thread.  Requests that wait for what another disk of the
	 * process is doing complete with -ECANCELED too.  May be NULL. */
	void (*abort)(struct disk *disk);
	/* The storage has failed for long, descriptors may never heal: files are opened anew (reopen.h).
	 * No request is with the disk.  Loop's thread: *plan for reopen, 0, -ENOMEM, or -ENOTSUP: there
	 * are devices only; then reopen,
	 * blocking, any thread; then reopen_end, loop's thread.  All NULL: no files. */
	int (*reopen_begin)(struct disk *disk, void **plan);
	int (*reopen)(void *plan, bool *lost, struct vhd_error *err);
	void (*reopen_end)(void *plan);
	/* Loop's thread, no request is with the disk: does it do nothing by itself either?  NULL: yes. */
	bool (*is_idle)(const struct disk *disk);
	/* Nothing is in flight.  Commit, final shape (ORDER 7).  done() once, maybe at once.  The disk
	 * may be used on. */
	void (*quiesce)(struct disk *disk, void (*done)(void *arg, int err), void *arg);
	/* After quiesce, blocking, any thread but with the loop not using the disk: let every lock go
	 * but "parked" on the leaf (locking.md).  Only unpark or close follows. */
	int (*park)(struct disk *disk, struct vhd_error *err);
	/* Blocking, any thread: take the locks again.  0: nothing on disk has changed meanwhile, size
	 * included, and start follows.  Else (-ESTALE: changed) only close follows, and the disk is
	 * opened anew.  NULL: always opened anew. */
	int (*unpark)(struct disk *disk, struct vhd_error *err);
	/* Stop what runs in the loop (timers, pools); loop's thread; quiet.  Then only park, close. */
	void (*stop)(struct disk *disk);
	/* Blocking, any thread; closes files, frees.  After stop, or never started. */
	void (*close)(struct disk *disk);
	/* Layers, leaf first; their number.  May be NULL. */
	unsigned (*layers)(const struct disk *disk, struct disk_layer_info *out, unsigned max);
};

struct disk {
	const struct disk_ops *ops;
	uint64_t size; /* bytes, a multiple of 512 */
	bool read_only;
	bool can_trim;
	bool fast_zero;	      /* FAST_ZERO is worth offering */
	uint32_t block_bytes; /* preferred granularity of trim; 0: none */
	/* the core's, set before start */
	struct loop *loop;
	struct engine *engine;
	struct retry *retry;
	void (*completed)(struct disk *disk, struct request *req, int err);
	/* Something worth an event happened: "flush-failed"; text for people.  May be NULL. */
	void (*event)(struct disk *disk, const char *what, const char *text);
	/* A sync failed, whoever asked for it: what was written since the last good one may be lost
	 * (ORDER 5).  Before anybody is answered because of it.  May be NULL. */
	void (*lost)(struct disk *disk);
	const struct engine_file *lost_file; /* of the last one, and how many it had then */
	uint64_t lost_count;
	void *owner;
	/* All running disks of the process, or NULL: the driver links itself in while it runs,
	 * so that disks with a parent in common share it. */
	struct list *peers;
	struct list peer;
};

/* An operation of @req was cancelled: it has its patience used up so far when it comes again. */
static inline void request_note_cancelled(struct request *req, const struct engine_io *io)
{
	if (!req->failing_ns || io->since_ns < req->failing_ns)
		req->failing_ns = io->since_ns;
}

static inline void disk_complete(struct disk *disk, struct request *req, int err)
{
	disk->completed(disk, req, err);
}

/* A sync of @file failed; told once for all who shared it. */
static inline void disk_lost(struct disk *disk, const struct engine_file *file)
{
	uint64_t losses = engine_file_losses(file);

	if (disk->lost && (disk->lost_file != file || disk->lost_count != losses))
		disk->lost(disk);
	disk->lost_file = file;
	disk->lost_count = losses;
}

struct disk_params {
	bool read_only;
	bool buffered;	       /* page cache instead of O_DIRECT */
	bool writethrough;     /* commit before each completion, for guests that never flush */
	bool force;	       /* hidden leaf and such: open all the same */
	uint64_t cache_bytes;  /* metadata in memory; 0: 64 MiB */
	uint64_t dirty_age_ns; /* commit by itself after; 0: 1 s */
	unsigned lock_wait_ms; /* for locks of others */
	struct vhd_parents parents;
	struct vhd_key *key; /* of an encrypted image; borrowed */
};

/* @spec: "TYPE:PATH": vhd, aio (= raw), ram:SIZE, null:SIZE; filters take another spec behind
 * theirs: "log:FILE,vhd:/x.vhd", "fault:RULES,vhd:/x.vhd".  Blocking; any thread.
 * Unknown type: -VHD_E_ARGUMENT. */
int disk_open(const char *spec, const struct disk_params *params, struct disk **out,
	      struct vhd_error *err);
/* The path (or size) in @spec, behind its type and the filters; NULL: no known type. */
const char *disk_spec_path(const char *spec);

/* One row per type (drivers/table.c). */
struct disk_type {
	const char *name;
	int (*open)(const char *argument, const struct disk_params *params, struct disk **out,
		    struct vhd_error *err);
	bool filter; /* argument: what it is told, a comma, the spec of the disk below */
};
extern const struct disk_type disk_types[]; /* ends with a NULL name */

#endif
