/* control.h - the control service of a server: who may ask what of its disks
 *
 *   socket.c     clients: messages in, replies out, limits
 *   service.c    from a message to the method and back; what varlink itself asks
 *   methods.c    the table of methods, and its description as text
 *   slots.c      the disks of this process and what is under way with each
 *   exports.c    NBD listeners and what they export
 *   calls-*.c    the methods
 *   stats.c      numbers as JSON
 *
 * Everything runs in the loop's thread.  A client that vanishes takes nothing with it: what it
 * began goes on, the answer is dropped; only a pause that it asked to hold "while connected" ends.
 */
#ifndef TAPDISK_CONTROL_H
#define TAPDISK_CONTROL_H

#include "tapdisk/core/host.h"
#include "tapdisk/front/nbd.h"

struct control;
struct slot;

struct control_params {
	struct host *host;	 /* borrowed, as all here */
	const char *run_dir;	 /* exists */
	struct disk_params disk; /* what an Open does not say */
	uint64_t retry_ns;
	struct nbd_params nbd; /* TLS of the addresses that an Export names */
	uint64_t memory_bytes; /* of NBD payloads, all listeners together; 0: the default */
	/* The last disk was detached, or Stop was called.  Once. */
	void (*stop)(void *owner);
	void *owner;
};
int control_open(const struct control_params *params, struct control **out, struct vhd_error *err);
/* Serve ctl<pid> in the run directory. */
int control_listen(struct control *control, struct vhd_error *err);
/* Serve at a listening socket that was handed over, too; ownership passes on success. */
int control_listen_fd(struct control *control, int fd, struct vhd_error *err);

/* ── for the start and the end of the server ── */

/* A disk without image; @name as in vbd_params. */
int control_attach(struct control *control, unsigned minor, const char *name, struct vbd **out,
		   struct vhd_error *err);
/* Export all disks that have an image at @params' address. */
int control_export_all(struct control *control, const struct nbd_params *params,
		       struct vhd_error *err);
/* Nothing new is begun; what is under way is awaited, NBD clients are answered, images closed.
 * done() with the first error.  @timeout_ns: what is not durable then is closed by force. */
void control_shutdown(struct control *control, uint64_t timeout_ns,
		      void (*done)(void *owner, const struct vhd_error *err), void *owner);
/* After control_shutdown, or before anything was opened.  NULL is fine. */
void control_close(struct control *control);

#endif
