/* filter.h - what disks over another disk have in common */
#ifndef TAPDISK_FILTER_H
#define TAPDISK_FILTER_H

#include "types.h"

struct filter {
	struct disk disk;   /* first; the core's */
	struct disk *below; /* owned */
	/* An answer of the disk below. */
	void (*answered)(struct filter *f, struct request *req, int err);
};

static inline struct filter *filter_of(struct disk *disk)
{
	return (struct filter *)disk;
}

/* Open what is behind the comma of @argument below @f; *own: length of what is before it. */
VHD_MUST int filter_open(struct filter *f, const char *type, const char *argument,
			 const struct disk_params *params, size_t *own, struct vhd_error *err);
/* The rest of struct disk_ops: passed on to the disk below. */
int filter_start(struct disk *disk, struct vhd_error *err);
void filter_abort(struct disk *disk);
int filter_reopen_begin(struct disk *disk, void **plan);
int filter_reopen(void *plan, bool *lost, struct vhd_error *err);
void filter_reopen_end(void *plan);
bool filter_is_idle(const struct disk *disk);
void filter_quiesce(struct disk *disk, void (*done)(void *arg, int err), void *arg);
int filter_park(struct disk *disk, struct vhd_error *err);
void filter_stop(struct disk *disk);
/* For a filter's own close; before anything was opened below, too. */
void filter_close(struct filter *f);
unsigned filter_layers(const struct disk *disk, struct disk_layer_info *out, unsigned max);
static inline void filter_pass(struct filter *f, struct request *req)
{
	f->below->ops->submit(f->below, req);
}

#endif
