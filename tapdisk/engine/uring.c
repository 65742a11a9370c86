/* uring.c - the io_uring back end
 *
 * Everything of a turn goes down in one io_uring_enter; completions that are there when it
 * returns are taken at once.  For the others the loop watches the ring's descriptor, which is
 * readable as long as something is there to be taken: no eventfd, nothing to be read.
 *
 * Completions are worked off when this thread enters the kernel anyway (COOP_TASKRUN), not by
 * interrupting it.  DEFER_TASKRUN would be one step further, but then the descriptor does not
 * become readable (seen with Linux 6.18), and with an eventfd in its place it is no faster.
 *
 * Files are not registered with the ring: kernels before 6.2 let go of a registered file some time
 * after it was unregistered, and with it of its locks, which others wait for.
 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

#include "engine-private.h"
#include "libvhd/base/number.h"

#define LENGTH_MAX (1u << 30) /* of one operation: its field has 32 bits */
#define RETRY_NS   1000000u

struct uring {
	struct io_uring ring;
	bool ready_ring;
	bool ready; /* the descriptor was */
	struct loop_fd *watch;
	struct loop_timer *again;
	struct engine *engine;
};

static void ring_ready(void *owner, unsigned events)
{
	struct uring *u = owner;

	(void)events;
	u->ready = true;
	engine_wake(u->engine); /* with what this turn will submit, in one call */
}

static void try_again(void *owner)
{
	struct uring *u = owner;

	engine_wake(u->engine);
}

static int ring_open(struct uring *u, unsigned entries)
{
	static const unsigned tries[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	int rc = -ENOSYS;

	for (unsigned i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		struct io_uring_params params = { .flags = tries[i] | IORING_SETUP_CLAMP };

		rc = io_uring_queue_init_params(entries, &u->ring, &params);
		if (rc < 0)
			continue;
		u->ready_ring = true;
		return params.sq_entries < entries ? -EINVAL : 0;
	}
	return rc;
}

/* Does it know all we use? */
static int ring_probe(struct uring *u)
{
	static const int wanted[] = { IORING_OP_READ,	IORING_OP_WRITE, IORING_OP_READV,
				      IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE };
	struct io_uring_probe *probe = io_uring_get_probe_ring(&u->ring);
	int rc = probe ? 0 : -ENOSYS;

	for (unsigned i = 0; probe && i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (!io_uring_opcode_supported(probe, wanted[i]))
			rc = -ENOSYS;
	io_uring_free_probe(probe);
	return rc;
}

static int uring_open(struct engine *engine)
{
	struct uring *u = calloc(1, sizeof(*u));
	int rc;

	engine->state = u;
	if (!u)
		return -ENOMEM;
	u->engine = engine;
	rc = ring_open(u, engine_width(engine));
	if (rc == 0)
		rc = ring_probe(u);
	if (rc == 0)
		rc = loop_timer_open(engine->loop, try_again, u, &u->again);
	if (rc == 0)
		rc = loop_fd_open(engine->loop, u->ring.ring_fd, ring_ready, u, &u->watch);
	if (rc < 0)
		return rc;
	io_uring_register_ring_fd(&u->ring); /* a little faster; never mind if refused */
	loop_fd_watch(u->watch, LOOP_READ);
	return 0;
}

static void uring_close(struct engine *engine)
{
	struct uring *u = engine->state;

	if (!u)
		return;
	loop_fd_close(u->watch);
	loop_timer_close(u->again);
	if (u->ready_ring)
		io_uring_queue_exit(&u->ring);
	free(u);
	engine->state = NULL;
}

static void prepare(struct io_uring_sqe *sqe, const struct transfer *t)
{
	unsigned length = (unsigned)number_min(t->iov_count ? t->iov->iov_len : 0, LENGTH_MAX);

	switch (t->op) {
	case ENGINE_READ:
		if (t->iov_count == 1)
			io_uring_prep_read(sqe, t->fd, t->iov->iov_base, length, t->offset);
		else
			io_uring_prep_readv(sqe, t->fd, t->iov, t->iov_count, t->offset);
		break;
	case ENGINE_WRITE:
		if (t->iov_count == 1)
			io_uring_prep_write(sqe, t->fd, t->iov->iov_base, length, t->offset);
		else
			io_uring_prep_writev(sqe, t->fd, t->iov, t->iov_count, t->offset);
		break;
	case ENGINE_SYNC:
		io_uring_prep_fsync(sqe, t->fd, IORING_FSYNC_DATASYNC);
		break;
	default:
		io_uring_prep_fallocate(sqe, t->fd, fallocate_mode(t->op), (off_t)t->offset,
					(off_t)t->length);
	}
}

static void uring_start(struct engine *engine, struct transfer *t)
{
	struct uring *u = engine->state;
	/* never NULL: the ring has a place for every transfer there is */
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	prepare(sqe, t);
	io_uring_sqe_set_data(sqe, t);
}

static void reap(struct uring *u)
{
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
		struct transfer *t = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&u->ring, cqe);
		transfer_result(t, result);
	}
}

static void uring_flush(struct engine *engine)
{
	struct uring *u = engine->state;
	int rc;

	while (io_uring_sq_ready(&u->ring) || u->ready) {
		/* without anything to submit reap() enters the kernel by itself, if there is
		 * work to be done for completions: the ring has a flag for that */
		rc = 0;
		if (io_uring_sq_ready(&u->ring))
			rc = io_uring_submit_and_get_events(&u->ring);
		u->ready = false;
		reap(u);
		if (rc < 0 && rc != -EINTR) {
			/* no memory: what was started stays in the ring until there is */
			loop_timer_set(u->again, RETRY_NS);
			break;
		}
	}
}

const struct engine_backend engine_uring = {
	.name = "io_uring",
	.open = uring_open,
	.close = uring_close,
	.start = uring_start,
	.flush = uring_flush,
};
