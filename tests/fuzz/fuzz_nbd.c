/* fuzz_nbd.c - all that an NBD client may send: a byte for how it is cut into pieces, then the stream
 *
 * The server is the real one, over a disk in memory.  After the stream the client half-closes,
 * and reads: the server must greet, answer in whole messages, and let go by itself.
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "libvhd/base/endian.h"
#include "tapdisk/core/host.h"
#include "tapdisk/front/nbd-private.h"
#include "tapdisk/log/log.h"

#define DISK	    "ram:256k" /* small: a few bytes may ask for all of it many times */
#define PATIENCE_NS (10ull * 1000000000)

static struct loop *loop;
static struct engine *engine;
static struct host host;
static struct vbd *vbd;
static struct nbd_server *server;
static struct loop_timer *patience;
static struct loop_fd *watch;
static int client;
static bool over;
static uint64_t received;
static uint8_t head[NBD_GREETING_BYTES];

static void stop_task(struct loop_task *task)
{
	(void)task;
	loop_stop(loop);
}

static void turn(void)
{
	static struct loop_task stop = { .run = stop_task };

	loop_defer(loop, &stop);
	loop_run(loop);
}

static void opened(struct vbd_op *op)
{
	MUST(op->err.code == 0);
	over = true;
}

static void too_late(void *owner)
{
	(void)owner;
	MUST(!"the server lets go of a client that is done");
}

static void begin(void)
{
	struct nbd_params params = { .address = "tcp:127.0.0.1:0", .fd = -1 };
	struct disk_params disk = { .read_only = false };
	struct vbd_op op = { .done = opened };
	struct vhd_error err;

	log_open("fuzz_nbd", false, LOG_LEVEL_ERROR);
	MUST(!loop_open(&loop) && !engine_open(loop, ENGINE_THREADS, 8, &engine));
	host_init(&host, loop, engine);
	MUST(!vbd_new(&host, &(struct vbd_params){ .name = "d" }, &vbd));
	vbd_open(vbd, DISK, &disk, &op);
	while (!over)
		turn();
	MUST(!nbd_server_open(loop, &params, &server, &err));
	MUST(!nbd_export_add(server, vbd, &(struct nbd_export_params){ .name = "d" }));
	MUST(!nbd_export_add(server, vbd,
			     &(struct nbd_export_params){ .name = "r", .read_only = true }));
	MUST(!loop_timer_open(loop, too_late, NULL, &patience));
}

static void readable(void *owner, unsigned events)
{
	static uint8_t buf[1 << 18];
	ssize_t n = read(client, buf, sizeof(buf));

	(void)owner;
	(void)events;
	if (n > 0) {
		for (ssize_t i = 0; i < n && received + (uint64_t)i < sizeof(head); i++)
			head[received + (uint64_t)i] = buf[i];
		received += (uint64_t)n;
	} else if (n == 0 || errno != EAGAIN) {
		over = true; /* a reset is an end too: it had not read all of ours */
		loop_fd_watch(watch, 0);
	}
}

static void speak(const uint8_t *data, size_t size, size_t piece)
{
	while (size && !over) {
		ssize_t n = send(client, data, size < piece ? size : piece, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			break;
		if (n > 0) {
			data += n;
			size -= (size_t)n;
		}
		turn();
	}
	shutdown(client, SHUT_WR);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t pieces[] = { 1, 3, 16, 20, 28, 33, 100, 4096 };
	int pair[2];

	if (!size)
		return 0;
	if (!server)
		begin();
	over = false;
	received = 0;
	MUST(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
	client = pair[0];
	MUST(!nbd_client_new(server, pair[1]));
	MUST(!loop_fd_open(loop, client, readable, NULL, &watch));
	loop_fd_watch(watch, LOOP_READ);
	loop_timer_set(patience, PATIENCE_NS);
	turn(); /* it greets */
	/* long ones in large pieces: each costs a turn */
	speak(data + 1, size - 1, size > 2000 ? 4096 : pieces[data[0] % 8]);
	while (!over)
		turn();
	loop_timer_cancel(patience);
	MUST(received >= NBD_GREETING_BYTES && be64_load(head) == NBD_MAGIC);
	loop_fd_close(watch);
	close(client);
	while (nbd_server_clients(server, NULL, 0))
		turn();
	return 0;
}
