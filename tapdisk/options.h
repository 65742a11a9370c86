/* options.h - what a tapdisk was told to do: command line, environment, configuration file */
#ifndef TAPDISK_OPTIONS_H
#define TAPDISK_OPTIONS_H

#include "cli/command.h"
#include "tapdisk/core/vbd.h"
#include "tapdisk/engine/engine.h"
#include "tapdisk/front/nbd.h"
#include "tapdisk/log/log.h"

#define OPTIONS_DISKS_MAX   256u
#define OPTIONS_LISTEN_MAX  8u
#define OPTIONS_ROOTS_MAX   64u
#define OPTIONS_ALLOWED_MAX 256u
#define OPTIONS_CONFIG	    "/etc/tapdisk.conf"

extern const struct option_spec tapdisk_options[];

struct options {
	struct {
		const char *spec, *name; /* borrowed; name may be NULL */
		struct vhd_key *key;	 /* counted; NULL: none */
	} disks[OPTIONS_DISKS_MAX];
	unsigned disk_count;
	struct nbd_params listen[OPTIONS_LISTEN_MAX];
	unsigned listen_count;
	enum nbd_tls tls; /* of each listener */
	const char *tls_certs, *tls_psk;
	const char *tls_allowed[OPTIONS_ALLOWED_MAX + 1];
	struct disk_params disk;
	const char *roots[OPTIONS_ROOTS_MAX + 1];
	struct vbd_limits limits;
	enum engine_kind engine;
	uint64_t retry_ns, spin_ns;
	uint64_t memory_bytes; /* for payloads; 0: the default */
	const char *run_dir, *pid_file;
	bool daemon, empty, to_syslog;
	enum log_level log_level;
	char *config; /* owned: text of the configuration file, into which values point */
};

/* What all listeners have in common, without an address. */
struct nbd_params options_listener(const struct options *options);
/* 0, or an exit status after printing why.  @out borrows from @args; options_release. */
int options_read(const struct arguments *args, struct options *out);
void options_release(struct options *o);

#endif
