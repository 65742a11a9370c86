/* nbd.h - the NBD front-end: listening sockets and the disks they export
 *
 * All in the loop's thread.  Exports come and go while clients are connected.
 */
#ifndef TAPDISK_NBD_H
#define TAPDISK_NBD_H

#include "tapdisk/core/vbd.h"

struct nbd_server;
struct nbd_memory;

/* Memory for payloads, of all servers that are given it together.  @bytes 0: the default.
 * To be closed after them. */
#define NBD_MEMORY_DEFAULT (512ull << 20)
#define NBD_MEMORY_MIN	   (128ull << 20)
int nbd_memory_open(uint64_t bytes, struct nbd_memory **out);
void nbd_memory_close(struct nbd_memory *memory);	   /* NULL is fine */
uint64_t nbd_memory_used(const struct nbd_memory *memory); /* bytes that are backed by memory now */

enum nbd_tls { NBD_TLS_OFF, NBD_TLS_OFFERED, NBD_TLS_REQUIRED };
struct nbd_params {
	/* "unix:PATH" or "tcp:HOST:PORT" ([v6]:PORT too); or NULL with @fd a listening socket
	 * (socket activation; ownership passes on success) */
	const char *address;
	int fd;
	enum nbd_tls tls;
	const char *tls_certs; /* directory: ca-cert.pem, server-cert.pem, server-key.pem */
	/* Who may come, or NULL: everybody who can show a certificate or key.  User names of keys; of
	 * certificates the common name, or all of the subject as RFC 4514 writes it
	 * ("CN=backup,O=Example").  Ends with NULL; borrowed while the server lives. */
	const char *const *tls_allowed;
	const char *tls_psk;	   /* file of name:hexkey lines */
	unsigned max_clients;	   /* 0: 100 */
	struct nbd_memory *memory; /* borrowed; NULL: the server has its own */
};

/* A Unix socket is made 0600; a dead one in its place is replaced, a live one is
 * -EADDRINUSE; it is removed when the server is freed.  Accepts from the start. */
int nbd_server_open(struct loop *loop, const struct nbd_params *params, struct nbd_server **out,
		    struct vhd_error *err);
/* Stop accepting, answer new requests with ESHUTDOWN, wait for those in flight (at most
 * @timeout_ns), close clients; then done(). */
void nbd_server_stop(struct nbd_server *server, uint64_t timeout_ns, void (*done)(void *arg),
		     void *arg);
void nbd_server_free(struct nbd_server *server); /* at once.  NULL is fine */
const char *nbd_server_address(
	const struct nbd_server *server); /* "unix:/path", "tcp:host:port" as bound */

struct nbd_export_params {
	const char *name;	 /* copied */
	const char *description; /* or NULL */
	bool read_only;
};
/* The first export is the default one too (empty name).  @vbd is watched: its clients are
 * dropped when it closes.  -EEXIST: the name is taken. */
int nbd_export_add(struct nbd_server *server, struct vbd *vbd,
		   const struct nbd_export_params *params);
/* Drops its clients; what is in flight is awaited.  -ENOENT. */
int nbd_export_remove(struct nbd_server *server, const char *name);

struct nbd_client_info {
	const char *peer, *export; /* "" while negotiating */
	uint64_t in_flight, bytes_in, bytes_out, requests;
	bool tls;
};
unsigned nbd_server_clients(const struct nbd_server *server, struct nbd_client_info *out,
			    unsigned max);

#endif
