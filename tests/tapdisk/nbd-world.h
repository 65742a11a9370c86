/* nbd-world.h - an NBD server over a disk in memory, and clients that speak bytes
 *
 * One thread: whoever waits turns the loop.  The disk can hold its requests back, fail them, and
 * tells what reached it.  Every wait is limited (WORLD_PATIENCE_MS).
 */
#ifndef TEST_NBD_WORLD_H
#define TEST_NBD_WORLD_H

#include "tapdisk/core/host.h"
#include "tapdisk/front/nbd-private.h"

#define WORLD_PATIENCE_MS 10000u
#define WORLD_BYTES	  (70u << 20) /* of the disk: more than any payload */
#define WORLD_CELL	  65536u      /* of its extents */

struct world_disk {
	struct disk disk; /* first */
	uint8_t *memory;
	uint8_t written[WORLD_BYTES / WORLD_CELL]; /* depth of each cell: 0, 1 */
	bool hold;
	struct list held;
	unsigned held_count;
	int fail; /* what to answer, 0: serve */
	unsigned requests, writes, flushes, fua;
	unsigned aborts;     /* of what waits */
	struct request last; /* as it came */
};

struct world {
	struct loop *loop;
	struct engine *engine;
	struct host host;
	struct vbd *vbd;
	struct world_disk *disk;
	struct nbd_server *server;
	struct loop_timer *timer;
	uint64_t allocations; /* while the loop turned */
	struct list wires;    /* open ones */
	char dir[64];	      /* temporary; the socket is dir/s */
};

/* Exports "disk" (the default) and "ro" of the same disk.  @tls: NULL or its parameters. */
void world_open(struct world *w, const struct nbd_params *tls);
void world_close(struct world *w); /* wires too */
/* Turn the loop for @ms. */
void world_run(struct world *w, unsigned ms);
/* Turn it until cond; false: it never came. */
bool world_until(struct world *w, bool (*cond)(void *arg), void *arg);
/* Let what was held go on. */
void world_let_go(struct world *w);
void world_wait_held(struct world *w, unsigned count);
void world_wait_clients(struct world *w, unsigned count);
void world_close_vbd(struct world *w);
/* Ask and wait; the answer. */
int world_pause(struct world *w);
int world_unpause(struct world *w);
int world_try_close(struct world *w); /* not by force */

struct wire {		 /* zeroed, or opened before: a test that failed may have left it open */
	struct world *w; /* NULL: closed */
	struct list link;
	int fd;
	struct loop_fd *watch;
	uint8_t *in;
	size_t have, room;
	bool eof, deaf; /* deaf: reads nothing */
};

/* A new connection, handed to the server by socketpair. */
void wire_open(struct wire *c, struct world *w);
/* To the server's socket. */
void wire_connect(struct wire *c, struct world *w);
void wire_close(struct wire *c); /* twice is fine */
void wire_deaf(struct wire *c, bool deaf);
/* False: the server has closed. */
bool wire_send(struct wire *c, const void *data, size_t length);
/* Exactly @length bytes; false: the connection ended before. */
bool wire_read(struct wire *c, void *data, size_t length);
/* The server closes, having sent nothing more. */
bool wire_ends(struct wire *c);
/* Nothing comes, for a while. */
bool wire_silent(struct wire *c);

/* ── NBD ── */

void wire_greet(struct wire *c, uint32_t flags);
bool wire_option(struct wire *c, uint32_t option, const void *data, size_t length);
/* The next reply to @option: its type, data of at most @room.  0: the connection ended. */
uint32_t wire_option_reply(struct wire *c, uint32_t option, uint8_t *data, size_t room,
			   size_t *length);
/* The reply that ends it, skipping those before. */
uint32_t wire_option_end(struct wire *c, uint32_t option);
/* Name, then @more bytes: data of INFO and GO without information wanted; its length. */
size_t wire_name(uint8_t *p, const char *name);
/* Data of a META option; @queries ends with NULL. */
size_t wire_queries(uint8_t *p, const char *name, const char *const *queries);

enum wire_mode { WIRE_SIMPLE, WIRE_STRUCTURED, WIRE_EXTENDED };
/* From the greeting to GO; selects all contexts if it can.  The transmission flags. */
uint16_t wire_go(struct wire *c, enum wire_mode mode, const char *name);
/* A new connection that has "disk" open, with simple replies. */
void wire_begin(struct wire *c, struct world *w);

struct wire_request {
	uint16_t flags, type;
	uint64_t cookie, offset, length;
};
/* With a cookie of its own. */
struct wire_request wire_make(uint16_t type, uint64_t offset, uint64_t length);
/* Header and payload in one; @payload may be NULL. */
bool wire_request(struct wire *c, enum wire_mode mode, const struct wire_request *r,
		  const void *payload, size_t bytes);
size_t wire_request_put(uint8_t *p, enum wire_mode mode, const struct wire_request *r);

struct wire_chunk {
	bool simple, done;
	uint16_t type;
	uint32_t error; /* of simple replies and error chunks */
	uint64_t cookie, offset, length;
	uint8_t data[2048]; /* of chunks but those with data; its beginning */
};
/* The head of a reply or chunk, and its payload where that is no disk data: OFFSET_DATA has taken
 * the offset only, and length is what follows. */
bool wire_chunk(struct wire *c, enum wire_mode mode, struct wire_chunk *out);
/* Send @r and take its whole reply, of READ into @data; its error. */
uint32_t wire_do(struct wire *c, enum wire_mode mode, const struct wire_request *r,
		 const void *payload, size_t bytes, void *data);

#endif
