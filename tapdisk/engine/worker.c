/* worker.c - a transfer as plain system calls, in a thread */
#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine-private.h"

/* PUNCH and ZERO never change a file's size. */
int fallocate_mode(enum engine_op op)
{
	return FALLOC_FL_KEEP_SIZE |
	       (op == ENGINE_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
}

static int64_t call(const struct transfer *t)
{
	switch (t->op) {
	case ENGINE_READ:
		return preadv(t->fd, t->iov, (int)t->iov_count, (off_t)t->offset);
	case ENGINE_WRITE:
		return pwritev(t->fd, t->iov, (int)t->iov_count, (off_t)t->offset);
	case ENGINE_SYNC:
		return fdatasync(t->fd);
	case ENGINE_PUNCH:
	case ENGINE_ZERO:
		return fallocate(t->fd, fallocate_mode(t->op), (off_t)t->offset, (off_t)t->length);
	case ENGINE_TRUNCATE:
		return ftruncate(t->fd, (off_t)t->offset);
	}
	errno = EINVAL;
	return -1;
}

static void in_thread(struct loop_work *work)
{
	struct transfer *t = work->owner;

	t->result = call(t);
	if (t->result < 0)
		t->result = -errno;
}

static void in_loop(struct loop_work *work)
{
	struct transfer *t = work->owner;

	transfer_result(t, t->result);
}

void worker_start(struct transfer *t)
{
	int rc;

	t->work = (struct loop_work){ .work = in_thread, .done = in_loop, .owner = t };
	rc = loop_work_start(t->file->engine->loop, &t->work);
	if (rc < 0)
		transfer_result(t, rc);
}
