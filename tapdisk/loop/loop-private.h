/* loop-private.h - what the files of this room share; the event library is named here only */
#ifndef TAPDISK_LOOP_PRIVATE_H
#define TAPDISK_LOOP_PRIVATE_H

#include <uv.h>

#include "loop.h"
#include "spin.h"

struct work_slot;

struct loop {
	uv_loop_t uv;
	bool uv_ready;
	uv_prepare_t before_sleep; /* runs the tasks; also keeps the loop alive when all is idle */
	uv_idle_t no_sleep;	   /* started while tasks are left over, or an event is near */
	struct loop_task *first, **last;
	bool running;
	uint64_t now_ns; /* of this turn or task; 0: not asked yet */
	struct spin spin;
	struct work_slot *free_slots;
};

/* A descriptor is ready, or work is done. */
void loop_event(struct loop *loop);
/* Free the memory of closed slots. */
void work_release(struct loop *loop);

#endif
