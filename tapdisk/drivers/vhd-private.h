/* vhd-private.h - what the files of the VHD driver share
 *
 *   vhd-open.c      files, locks, tables; park, close
 *   vhd-source.c    layers and what several disks have in common; start and stop of them
 *   vhd.c           requests in, life in the loop: flush, quiesce, age of dirty metadata
 *   vhd-read.c      reading, and extents
 *   vhd-write.c     writing
 *   vhd-zero.c      zeroes and trim
 *   vhd-secret.c    encrypted images: buffers for ciphertext
 *   vhd-pump.c      operations: of requests (data) and of the maps (metadata)
 *   vhd-snapshot.c, vhd-resize.c   jobs on the running chain
 *   vhd-reopen.c    its files anew, after the storage failed for long
 *
 * The chain is layers[0], the leaf, over the frozen ones; the leaf's map and the
 * view of the others say where data is (libvhd/map.h, view.h) and which metadata
 * I/O may be issued now; the engine performs it.
 *
 *  D1  a request counts in its pending what it waits for: operations in flight, and one
 *      while it is being translated or sleeps; it is completed when that becomes 0
 *  D2  an operation is free, or in flight in the engine
 *  D4  operations of frozen layers' maps, which others share, are in flight only while requests
 *      of this disk wait for that map, or since they did (view.h); those fail at once after an abort
 *  D3  after pump() every operation the maps offered is in flight, or the pool is empty and
 *      pump() is called again when one comes back
 */
#ifndef TAPDISK_VHD_PRIVATE_H
#define TAPDISK_VHD_PRIVATE_H

#include <assert.h>

#include "libvhd/chain.h"
#include "libvhd/crypt.h"
#include "libvhd/layout.h"
#include "vhd.h"

#define VHD_DATA_OPS 256u
#define VHD_META_OPS 96u

/* An open image with its map and its file in the engine: one layer's own, or a frozen parent that
 * several disks of this process have in common.  Counted in the loop's thread. */
struct vhd_source {
	unsigned refs;
	struct vhd_image *img;	  /* owned */
	struct engine_file *file; /* owned, unless file_borrowed; NULL before start */
	bool file_borrowed;
	struct list users; /* running layers: struct vhd_layer.user */
};

struct vhd_layer {
	struct vhd_source *src;	  /* counted; NULL after stop if others still use it */
	struct vhd_image *img;	  /* of src, or what was opened before a common source was found */
	struct vhd_image *own;	  /* owned: holds this disk's locks where src is another's */
	struct engine_file *file; /* of src */
	struct crypt *crypt;	  /* counted; NULL: clear */
	struct vhd_disk *disk;	  /* borrowed; while it runs */
	struct list user;	  /* of src->users, while it runs */
	uint64_t size_sectors;
	uint64_t reads, writes; /* sectors */
	uint64_t read_failures, write_failures;
};

struct vhd_disk;
struct vhd_req;

struct vhd_op {
	struct engine_io io; /* first */
	struct vhd_disk *disk;
	struct vhd_layer *layer;
	uint64_t sector; /* data: on the disk */
	union {
		struct vhd_req *req; /* data; and when free, the next free one: */
		struct vhd_op *next;
	};
	/* metadata */
	bool once; /* errors are reported at once */
	bool of_view;
	unsigned view_layer;
	uint32_t tag;
};

/* A request's state in the driver. */
struct vhd_req {
	struct map_req wait; /* first */
	struct vhd_disk *disk;
	struct request *req;
	struct vhd_req *next; /* waiting for operations */
	void (*step)(struct vhd_req *v);
	void (*landed)(struct vhd_req *v); /* all operations of this step are back */
	uint64_t sector, left;		   /* still to be translated */
	uint64_t piece;			   /* sectors of the step under way, when landed is set */
	unsigned pending;
	int err;
	struct vhd_buffer *buffer; /* with the ciphertext of the piece under way */
	uint64_t seen_bytes;	   /* of a layer that had grown, when it was looked at again */
	bool own_op_busy;
	bool entered; /* map_enter */
	unsigned epoch;
	struct vhd_op own_op;
};
static_assert(sizeof(struct vhd_req) <= REQUEST_STATE_BYTES, "REQUEST_STATE_BYTES too small");

struct vhd_disk {
	struct disk disk; /* first */
	struct disk_params params;
	char *path;				 /* owned: the leaf's */
	struct vhd_layer *layers[VHD_CHAIN_MAX]; /* owned */
	unsigned depth;
	struct vhd_view *view; /* owned; of layers[1..]; NULL: none */
	struct vhd_map *map;   /* the leaf's, borrowed; NULL: flat */
	bool has_parent;
	/* running */
	struct vhd_op *ops; /* owned array: data then metadata */
	struct vhd_op *free_data, *free_meta;
	uint8_t *buffers; /* owned; NULL: nothing is encrypted */
	struct vhd_buffer *free_buffers;
	unsigned meta_flying;
	struct vhd_req *op_waiters, **op_waiters_end;
	struct loop_task pump_task, resume_task, trim_task;
	struct loop_timer *age, *next_turn;
	struct map_req age_flush, quiesce;
	bool age_flushing;
	bool quiesce_over; /* answered by the map, not yet told */
	void (*quiesced)(void *arg, int err);
	void *quiesced_arg;
	struct map_req job; /* of vhd-snapshot or vhd-resize */
	void *job_owner;    /* their state while it runs */
	bool misnamed; /* a snapshot failed half way: the leaf's name leads to an empty child of
			     * it, or may do so after a crash */
};

static inline struct vhd_disk *vhd_disk_of(struct disk *disk)
{
	return (struct vhd_disk *)disk;
}
static inline struct vhd_req *vhd_req_of(struct request *req)
{
	return (struct vhd_req *)(void *)req->state;
}
static inline struct vhd_layer *vhd_leaf(const struct vhd_disk *d)
{
	return d->layers[0];
}

/* ── vhd-pump.c ── */
int pump_start(struct vhd_disk *d);
void pump_stop(struct vhd_disk *d);
/* Let the maps' operations be issued later in this turn. */
void pump_soon(struct vhd_disk *d);
/* How many operations could be taken by @v now. */
unsigned pump_room(const struct vhd_disk *d, const struct vhd_req *v);
/* Issue one data operation of @v, for the disk's sectors from @sector on; false: none is free,
 * v->step is called again when one is. */
bool pump_issue(struct vhd_req *v, struct vhd_layer *layer, enum engine_op op, uint64_t sector,
		uint64_t file_sector, uint64_t sectors, void *buf);
/* @v waits for something that others have: v->step is called again when pump_freed says so. */
void pump_wait(struct vhd_req *v);
void pump_freed(struct vhd_disk *d);
/* Sync a flat leaf, then d->quiesce is ready. */
void pump_sync_flat(struct vhd_disk *d);
/* @v has nothing to wait for but wants its step called again: in the next turn, so that others
 * go first. */
void pump_yield(struct vhd_req *v);
/* One of the things @v waits for is over. */
void pump_unref(struct vhd_req *v);

/* ── vhd-secret.c ── */
int secret_start(struct vhd_disk *d);
void secret_stop(struct vhd_disk *d);
/* A buffer for ciphertext, and how many of *@count sectors it holds; false: none is free, v->step
 * is called again when one is. */
bool secret_take(struct vhd_req *v, uint64_t *count);
void secret_give(struct vhd_req *v); /* that of @v, if it has one */
/* @count sectors for v->sector on, from @from (NULL: zeros) into the buffer: *@out. */
int secret_encrypt(struct vhd_req *v, const uint8_t *from, uint64_t count, uint8_t **out);

/* ── vhd.c ── */
/* Wait for the metadata at v->sector of the leaf, or (@view) of the layers below; then v->step,
 * or the request fails. */
void vhd_want(struct vhd_req *v, bool view);
/* A map_req.ready: what v->wait waited for is over: v->step, or the request fails. */
void vhd_step_again(struct map_req *wait);
/* The leaf's map changed: commit by age, offer what is to be written. */
void vhd_touched(struct vhd_disk *d);
/* All of @v is over but perhaps making it durable. */
void vhd_req_end(struct vhd_req *v);
/* @view (owned from now) instead of the one in use, which is closed. */
void vhd_use_view(struct vhd_disk *d, struct vhd_view *view);
/* Was what the disk wanted for itself cancelled on behalf of others: of a client that vanished (ORDER 19),
 * or by a drain before it?  Then it asks again; while the retry is aborted, it ends. */
bool vhd_asks_again(const struct vhd_disk *d, const struct map_req *req);
/* Tell whoever waits for quiet, if it is. */
void vhd_settled(struct vhd_disk *d);
/* -VHD_E_BAT_ENTRY from layer @index: did its file grow since?  Then look again: true. */
bool vhd_refresh(struct vhd_req *v, unsigned index);
/* Where is [sector, sector + count) in the leaf: as map_lookup; flat images too. */
int vhd_lookup_leaf(struct vhd_disk *d, uint64_t sector, uint64_t count, struct map_ext *out,
		    int max);

/* ── steps of requests ── */
void vhd_read_step(struct vhd_req *v);
void vhd_status_step(struct vhd_req *v);
void vhd_write_step(struct vhd_req *v);
void vhd_zero_step(struct vhd_req *v);
/* Reserve @count sectors at v->sector or the first of them, perform @op on their places, report
 * them written, and step again. */
void vhd_write_piece(struct vhd_req *v, uint64_t count, enum engine_op op, uint8_t *buf);

/* ── vhd-open.c ── */
int vhd_disk_open(const char *path, const struct disk_params *params, struct disk **out,
		  struct vhd_error *err);
/* From images that are open, leaf first, the leaf begun for writing unless @params->read_only,
 * all loaded; @files: their engine files, borrowed, or NULL.  Images pass on success. */
int vhd_disk_wrap(struct vhd_image **images, unsigned depth, struct engine_file **files,
		  const struct disk_params *params, struct disk **out, struct vhd_error *err);
/* A new view of layers[1..depth) of @layers. */
int vhd_make_view(const struct vhd_disk *d, struct vhd_layer *const *layers, unsigned depth,
		  struct vhd_view **out);
/* Loop: divide the memory for metadata among the layers, as they are now. */
void vhd_share_cache(struct vhd_disk *d);

/* ── vhd-source.c ── */
/* A layer over @img, which passes on success; NULL: no memory. */
struct vhd_layer *source_layer(struct vhd_image *img, struct engine_file *file);
/* Loop's thread: its file becomes known to the engine; a frozen one is taken from a peer that
 * has it already. */
int source_start(struct vhd_disk *d, struct vhd_layer *layer, bool frozen);
/* Loop's thread.  The locks of a source that others go on using are let go. */
void source_stop(struct vhd_layer *layer);
/* An operation of @layer's map is over: who shares the map may have waited for room in it. */
void source_kick(struct vhd_layer *layer);
/* Blocking, any thread; never started, or stopped.  NULL is fine. */
void source_free(struct vhd_layer *layer);
extern const struct disk_ops vhd_disk_ops;

/* ── vhd-reopen.c: rows of struct disk_ops ── */
int vhd_reopen_begin(struct disk *disk, void **plan);
int vhd_reopen(void *plan, bool *lost, struct vhd_error *err);
void vhd_reopen_end(void *plan);
bool vhd_is_idle(const struct disk *disk);

#endif
