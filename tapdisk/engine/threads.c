/* threads.c - the back end of last resort: every transfer in a thread of the loop's pool */
#include "engine-private.h"

static int threads_open(struct engine *engine)
{
	(void)engine;
	return 0;
}

static void threads_close(struct engine *engine)
{
	(void)engine;
}

static void threads_start(struct engine *engine, struct transfer *t)
{
	(void)engine;
	worker_start(t);
}

static void threads_flush(struct engine *engine)
{
	(void)engine;
}

const struct engine_backend engine_threads = {
	.name = "threads",
	.open = threads_open,
	.close = threads_close,
	.start = threads_start,
	.flush = threads_flush,
};
