/* nbd-private.h - what the files of the NBD front-end share
 *
 *   nbd-server.c     listening, accepting, exports, stopping
 *   nbd-address.c    "unix:PATH", "tcp:HOST:PORT" to a listening socket
 *   nbd-client.c     one connection: its life
 *   nbd-stream.c     its bytes in and out
 *   nbd-negotiate.c  the handshake and its options;  nbd-meta.c  metadata contexts
 *   nbd-request.c    the header of a request, and whether it may be served
 *   nbd-serve.c      requests in;  nbd-reply.c  replies out;  nbd-status.c  block status
 *   nbd-errno.c      errors on the wire
 *   nbd-buffers.c    memory for payloads;  nbd-memory.c  how much of it all may have
 *   nbd-tls.c        TLS; the only one that knows GnuTLS
 *
 * A connection:
 *
 *   GREETING ─► OPTIONS ◄──► TLS handshake
 *                  │ GO, EXPORT_NAME
 *                  ▼
 *               SERVING ──DISC, EOF, error, export gone──► CLOSING ──nothing in flight──► freed
 *
 *  C1  a slot is free, receiving (one at most), with the VBD (in_flight), or in the reply queue
 *  C2  nothing is allocated between GO and CLOSING
 *  C3  a client that is CLOSING has no descriptor watched and gets no reply; what it had in
 *      flight is awaited
 *  C4  before TLS nothing is read ahead of the handshake: the ring is empty when it begins
 */
#ifndef TAPDISK_NBD_PRIVATE_H
#define TAPDISK_NBD_PRIVATE_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "nbd-buffers.h"
#include "nbd-memory.h"
#include "nbd-proto.h"
#include "nbd.h"

#define NBD_SLOTS	   64u
#define NBD_RING_BYTES	   (256u << 10)
#define NBD_RING_SMALL	   (4u << 10)  /* what is read of it among large payloads */
#define NBD_LARGE	   (32u << 10) /* a payload worth receiving straight into its place */
#define NBD_OPTION_PARSED  (64u << 10) /* data of an option that is looked at */
#define NBD_OPTION_DRAINED (32u << 20)
#define NBD_OPTIONS_MAX	   32u
#define NBD_META_QUERIES   64u
#define NBD_NEGOTIATING	   32u /* connections that have not opened an export */
#define NBD_CLIENTS	   100u
#define NBD_DISCARD_MAX	   (64u << 20) /* a payload this long is skipped, not fatal */
#define NBD_EXTENTS	   512u

#define NBD_HANDSHAKE_NS (10ull * 1000000000)
#define NBD_STUCK_NS	 (60ull * 1000000000)
#define NBD_PACE_NS	 (10ull * 1000000000)
#define NBD_PACE_LOOKS	 2u
#define NBD_PACE_BYTES	 (5ull << 20) /* that must move in that time, if others wait for memory */
#define NBD_TRIM_NS	 (5ull * 1000000000)
#define NBD_ACCEPT_NS	 (100ull * 1000000) /* before the next try, when descriptors ran out */

struct nbd_client;
struct nbd_tls_server;
struct nbd_tls_session;

struct nbd_export {
	struct list link;
	struct nbd_server *server; /* borrowed */
	struct vbd *vbd;	   /* borrowed; NULL: closed for good */
	struct vbd_watcher watcher;
	char *name, *description; /* owned */
	bool read_only;
	bool removed;
	unsigned clients; /* that have it open */
};

struct nbd_file_id {
	uint64_t device, inode;
};

struct nbd_server {
	struct loop *loop;
	int fd; /* owned; -1: not accepting */
	struct loop_fd *listener;
	char *address;	 /* owned */
	char *unix_path; /* owned; to be removed, if it is still this file: */
	struct nbd_file_id unix_file;
	struct loop_timer *accept_later;
	struct list exports, clients; /* clients: the oldest first */
	unsigned client_count, negotiating, max_clients;
	bool freed; /* waits for what its last clients have in flight */
	enum nbd_tls tls_mode;
	struct nbd_tls_server *tls; /* owned */
	struct nbd_memory *memory;  /* owned, unless memory_borrowed */
	bool memory_borrowed;
	bool stopping;
	void (*stopped)(void *arg);
	void *stopped_arg;
	struct loop_timer *stop_timer;
	struct loop_task stop_task;
};

/* Contexts offered. */
enum nbd_context {
	NBD_CTX_ALLOCATION = 1 << 0,
	NBD_CTX_QEMU_DEPTH = 1 << 1,
	NBD_CTX_VHD_DEPTH = 1 << 2
};
#define NBD_CONTEXTS 3u

struct nbd_slot {
	struct request req; /* first */
	struct nbd_client *client;
	struct list link; /* free or replies */
	uint64_t cookie;
	uint16_t command;
	uint16_t flags;
	unsigned contexts; /* BLOCK_STATUS: asked for */
	uint8_t *buf;	   /* of the client's buffers, or NULL */
	bool buf_shared;   /* it counts in the part of memory that all share */
	uint32_t error;	   /* on the wire; 0: none */
	uint8_t head[96];
	size_t head_bytes, data_bytes;
	uint8_t *data;
};

enum nbd_client_state {
	NBD_GREETING,
	NBD_OPTION,	 /* reading options */
	NBD_OPTION_SKIP, /* dropping data of one that is too long */
	NBD_TLS_SHAKING,
	NBD_SERVING,
	NBD_CLOSING,
};

enum nbd_deadline {
	NBD_DEADLINE_STUCK, /* it does not read its replies */
	NBD_DEADLINE_PACE,  /* it holds memory that others share: a look now and then */
	NBD_DEADLINE_TRIM,  /* idle memory */
};

struct nbd_client {
	struct nbd_server *server;
	struct list link;
	int fd; /* owned; -1 when closing */
	struct loop_fd *watch;
	enum nbd_client_state state;
	char peer[80];
	bool counted_negotiating;
	struct loop_timer *deadline; /* handshake; later: */
	enum nbd_deadline deadline_for;
	unsigned looks;	       /* NBD_DEADLINE_PACE: in a row that saw nothing move, */
	unsigned slow;	       /* or too little while others waited */
	uint64_t moved;	       /* bytes in and out at the last one */
	struct loop_task work; /* parse on, send */
	bool working;	       /* it runs */
	bool parse_more;       /* a request in the ring waits for a slot or memory */
	bool released;	       /* one came free since it was last tried */
	bool finishing;	       /* close once all replies are out */
	/* in */
	uint8_t *ring;
	size_t in_at, in_end;
	uint64_t skip; /* bytes of payload or option still to be dropped */
	bool readable, eof;
	bool left;    /* it sends nothing more, though not all that it sent was read */
	bool starved; /* serving: the next step needs more bytes */
	bool large;   /* the last payload was: the next is likely to be */
	/* negotiation */
	bool fixed, no_zeroes, structured, extended;
	unsigned options, options_max;
	bool listed;
	uint32_t skipped_option;
	unsigned contexts; /* selected: enum nbd_context */
	struct nbd_export *meta_export;
	uint8_t *out; /* negotiation's replies; owned */
	size_t out_at, out_end, out_room;
	/* TLS */
	struct nbd_tls_session *tls;
	bool tls_on, tls_waiting;
	/* serving */
	struct nbd_export *export;
	struct vbd_client as_client;
	struct nbd_slot *slots; /* owned array */
	struct buffers *buffers;
	struct nbd_holder holder;
	struct list free_slots, replies;
	unsigned in_flight;
	struct nbd_slot *receiving; /* whose payload is coming in; with skip: is being dropped */
	size_t received;
	size_t sent;   /* of the first in replies */
	bool progress; /* something was sent since the deadline was set */
	uint64_t bytes_in, bytes_out, requests;
};

/* ── nbd-address.c ── */
/* A listening, non-blocking socket; *unix_path (owned) is set for Unix sockets; *bound the address
 * as it is. */
int nbd_address_listen(const char *address, int *fd, char **unix_path, char **bound,
		       struct vhd_error *err);
/* Of the file of a Unix socket. */
struct nbd_file_id nbd_address_file(const char *path);

/* Text of a bound socket's address, to be freed; and of any address. */
char *nbd_address_of(int fd);
void nbd_address_text(const struct sockaddr *address, socklen_t length, char *out, size_t room);

/* ── nbd-server.c ── */
struct nbd_export *nbd_export_find(struct nbd_server *server, const char *name, size_t length);
/* Is it open, and of what size? */
bool nbd_export_ready(const struct nbd_export *e);
/* A client that had it open is gone. */
void nbd_export_leave(struct nbd_export *e);
void nbd_server_client_gone(struct nbd_server *server);

/* ── nbd-client.c ── */
int nbd_client_new(struct nbd_server *server, int fd);
/* Drop the connection; what is in flight is awaited. */
void nbd_client_close(struct nbd_client *c);
/* Likewise, and tell the operator why. */
void nbd_client_fail(struct nbd_client *c, const char *why);
/* At once: closed, and nothing in flight. */
void nbd_client_free(struct nbd_client *c);
/* Let it parse and send later in this turn. */
void nbd_client_work(struct nbd_client *c);
/* It has an export open now. */
void nbd_client_negotiated(struct nbd_client *c);

/* ── nbd-stream.c ── */
/* Bytes to the socket or TLS: > 0, -EAGAIN, or another error. */
ssize_t nbd_stream_send(struct nbd_client *c, struct iovec *iov, int count);
/* Fill the ring, the payload that is coming in first.  False: nothing came. */
bool nbd_stream_fill(struct nbd_client *c);
/* Send negotiation's replies.  False: the connection is gone. */
bool nbd_stream_send_out(struct nbd_client *c);

/* ── nbd-negotiate.c ── */
void nbd_negotiate_greet(struct nbd_client *c);
/* Use what is in the ring.  False: more bytes are needed, or it is over. */
bool nbd_negotiate_step(struct nbd_client *c);
/* Queue an option reply. */
void nbd_negotiate_reply(struct nbd_client *c, uint32_t option, uint32_t type, const void *data,
			 size_t length);
void nbd_negotiate_error(struct nbd_client *c, uint32_t option, uint32_t type, const char *text);
uint16_t nbd_transmission_flags(const struct nbd_client *c, const struct nbd_export *e);

/* ── nbd-meta.c ── */
void nbd_meta_option(struct nbd_client *c, uint32_t option, const uint8_t *data, size_t length);

/* ── nbd-request.c ── */
struct nbd_request {
	uint16_t flags, type;
	uint64_t cookie, offset, length;
	uint64_t payload; /* bytes that follow the header and are still to be taken */
	unsigned contexts;
};
/* From the @have bytes at @p.  1: *h is filled in, and *bytes of them belong to it; 0: more are needed;
 * -1: the stream is lost. */
int nbd_request_parse(const struct nbd_client *c, const uint8_t *p, size_t have,
		      struct nbd_request *h, size_t *bytes);
/* 0, or the error to answer with. */
uint32_t nbd_request_check(const struct nbd_client *c, const struct nbd_request *h);

/* ── nbd-serve.c ── */
int nbd_serve_begin(struct nbd_client *c, struct nbd_export *e);
bool nbd_serve_step(struct nbd_client *c);
/* Its reply is out, or nobody wants it. */
void nbd_slot_release(struct nbd_slot *s);

/* ── nbd-reply.c ── */
/* The head of a chunk of @s at @p; *bytes of it. */
void nbd_chunk(const struct nbd_slot *s, uint8_t *p, bool last, uint16_t type, uint64_t length,
	       size_t *bytes);
/* Make the head of the reply and queue it. */
void nbd_reply(struct nbd_slot *s);
/* Send what is queued, as far as the socket takes it. */
void nbd_reply_flush(struct nbd_client *c);

/* ── nbd-status.c ── */
/* The chunks of a BLOCK_STATUS reply into s->buf, from s->req.extents. */
void nbd_status_encode(struct nbd_slot *s);
/* Room it needs at the most. */
size_t nbd_status_room(const struct nbd_client *c, unsigned contexts);

/* ── nbd-errno.c ── */
/* On the wire, for a failure of @req; 0: none. */
uint32_t nbd_errno(int err, const struct request *req);
const char *nbd_errno_text(uint32_t error); /* short, for people */

/* ── nbd-tls.c ── */
int nbd_tls_server_open(const struct nbd_params *params, struct nbd_tls_server **out,
			struct vhd_error *err);
void nbd_tls_server_close(struct nbd_tls_server *tls);
int nbd_tls_session_open(struct nbd_tls_server *tls, int fd, struct nbd_tls_session **out);
/* 0 done; -EAGAIN with *events to wait for; -EACCES: not allowed; else failed. */
int nbd_tls_shake(struct nbd_tls_session *s, unsigned *events);
/* Once that is known: the user's name, or the subject of the certificate; else "". */
const char *nbd_tls_who(const struct nbd_tls_session *s);
ssize_t nbd_tls_recv(struct nbd_tls_session *s, struct iovec *iov, int count);
ssize_t nbd_tls_send(struct nbd_tls_session *s, struct iovec *iov, int count);
/* Decrypted bytes, or the end, wait that no event on the socket will tell of. */
bool nbd_tls_pending(struct nbd_tls_session *s);
void nbd_tls_session_close(struct nbd_tls_session *s);

#endif
