/* engine - speed of the loop and the engine alone
 *
 *   engine FILE KIND BYTES DEPTH SECONDS [write] [buffered] [sequential]
 *
 * Operations of BYTES at random places of FILE (which is there, and large), DEPTH at a time,
 * each followed by the next from a task, as a client's would be.  KIND: auto, uring, aio,
 * threads.  Prints operations a second and microseconds of CPU for each.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tapdisk/engine/engine.h"
#include "tests/lib/rng.h"

#define DEPTH_MAX 256u

struct client {
	struct engine_io io;
	struct loop_task next;
};

static struct loop *loop;
static struct engine *engine;
static struct client clients[DEPTH_MAX];
static struct rng rng = { 1 };
static uint64_t places, count, failed, at;
static unsigned running;
static bool sequential, over;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double cpu(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static void next(struct loop_task *task)
{
	struct client *c = list_entry(task, struct client, next);
	uint64_t place = sequential ? at++ % places : rng_below(&rng, places);

	c->io.offset = place * c->io.length;
	engine_submit(engine, &c->io);
}

static void done(struct engine_io *io)
{
	struct client *c = list_entry(io, struct client, io);

	count++;
	failed += io->err != 0;
	if (!over)
		loop_defer(loop, &c->next);
	else if (--running == 0)
		loop_stop(loop);
}

static void end(void *owner)
{
	(void)owner;
	over = true;
}

static enum engine_kind kind_of(const char *name)
{
	static const char *const names[] = {
		[ENGINE_AUTO] = "auto",
		[ENGINE_URING] = "uring",
		[ENGINE_AIO] = "aio",
		[ENGINE_THREADS] = "threads",
	};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return (enum engine_kind)i;
	fprintf(stderr, "engine: unknown kind '%s'\n", name);
	exit(2);
}

static bool has(int argc, char **argv, const char *word)
{
	for (int i = 6; i < argc; i++)
		if (strcmp(argv[i], word) == 0)
			return true;
	return false;
}

static void start(struct engine_file *file, uint64_t bytes, unsigned depth, enum engine_op op)
{
	running = depth;
	for (unsigned i = 0; i < depth; i++) {
		struct client *c = &clients[i];

		c->next.run = next;
		c->io = (struct engine_io){ .file = file, .op = op, .length = bytes, .done = done };
		c->io.buf = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
		if (!c->io.buf)
			exit(1);
		memset(c->io.buf, 0x5a, bytes);
		loop_defer(loop, &c->next);
	}
}

int main(int argc, char **argv)
{
	struct engine_file_params params = { .buffered_fd = -1, .writable = true };
	struct engine_file *file;
	struct loop_timer *timer;
	double seconds, used;
	unsigned depth;
	uint64_t bytes;
	struct stat st;

	if (argc < 6) {
		fprintf(stderr, "usage: engine FILE KIND BYTES DEPTH SECONDS [write] [buffered] "
				"[sequential]\n");
		return 2;
	}
	bytes = strtoull(argv[3], NULL, 0);
	depth = (unsigned)atoi(argv[4]);
	sequential = has(argc, argv, "sequential");
	params.fd = open(argv[1], O_RDWR | (has(argc, argv, "buffered") ? 0 : O_DIRECT));
	if (params.fd < 0 || fstat(params.fd, &st) < 0 || !bytes || depth > DEPTH_MAX) {
		perror(argv[1]);
		return 1;
	}
	places = (uint64_t)st.st_size / bytes;
	if (!places || loop_open(&loop) < 0 ||
	    engine_open(loop, kind_of(argv[2]), depth, &engine) < 0 ||
	    engine_file_open(engine, &params, &file) < 0 ||
	    loop_timer_open(loop, end, NULL, &timer) < 0)
		return 1;
	start(file, bytes, depth, has(argc, argv, "write") ? ENGINE_WRITE : ENGINE_READ);
	loop_timer_set(timer, (uint64_t)(atof(argv[5]) * 1e9));
	seconds = now();
	used = cpu();
	loop_run(loop);
	seconds = now() - seconds;
	used = cpu() - used;
	printf("%s: %.0f per second, %.2f us of CPU each, %llu failed\n", engine_name(engine),
	       (double)count / seconds, used * 1e6 / (double)count, (unsigned long long)failed);
	for (unsigned i = 0; i < depth; i++)
		free(clients[i].io.buf);
	loop_timer_close(timer);
	engine_file_close(file);
	engine_close(engine);
	loop_close(loop);
	close(params.fd);
	return failed != 0;
}
