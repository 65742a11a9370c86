/* work.c - functions that block, run in threads of a pool
 *
 * libuv wants a uv_work_t per piece of work.  Slots are allocated when none is
 * free and kept for the loop's life, so a steady state allocates nothing.
 */
#include <errno.h>
#include <stdlib.h>

#include "loop-private.h"

struct work_slot {
	uv_work_t uv; /* first */
	struct loop *loop;
	struct loop_work *work;
	struct work_slot *next; /* free */
};

static void slot_work(uv_work_t *req)
{
	struct work_slot *slot = (struct work_slot *)req;

	slot->work->work(slot->work);
}

static void slot_done(uv_work_t *req, int status)
{
	struct work_slot *slot = (struct work_slot *)req;
	struct loop_work *work = slot->work;

	(void)status; /* never cancelled */
	loop_event(slot->loop);
	work->private = NULL;
	slot->next = slot->loop->free_slots;
	slot->loop->free_slots = slot;
	work->done(work);
}

int loop_work_start(struct loop *loop, struct loop_work *work)
{
	struct work_slot *slot = loop->free_slots;

	if (slot) {
		loop->free_slots = slot->next;
	} else {
		slot = calloc(1, sizeof(*slot));
		if (!slot)
			return -ENOMEM;
		slot->loop = loop;
	}
	slot->work = work;
	work->private = slot;
	uv_queue_work(&loop->uv, &slot->uv, slot_work, slot_done);
	return 0;
}

void work_release(struct loop *loop)
{
	struct work_slot *slot;

	while ((slot = loop->free_slots)) {
		loop->free_slots = slot->next;
		free(slot);
	}
}
