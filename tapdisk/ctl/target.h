/* target.h - what a command of tap-ctl is about: a process, one of its disks */
#ifndef TAP_CTL_TARGET_H
#define TAP_CTL_TARGET_H

#include "cli/command.h"
#include "tapdisk/protocol/remote.h"

#define OPTION_PID                                                                 \
	{                                                                          \
		'p', "pid", "PID", "the tapdisk; may be left out if one only fits" \
	}
#define OPTION_MINOR                          \
	{                                     \
		'm', "minor", "N", "the disk" \
	}
#define OPTION_RUN_DIR                                                                     \
	{                                                                                  \
		0, "run-dir", "DIR", "the run directory (TAPDISK_RUN_DIR, else the usual)" \
	}
#define OPTION_TIMEOUT                                                \
	{                                                             \
		't', "timeout", "SECONDS", "give up after (0: never)" \
	}
#define OPTION_ARGS                                                       \
	{                                                                 \
		'a', "args", "TYPE:PATH", "the image: vhd:PATH, aio:PATH" \
	}

enum target_wants {
	TARGET_PID = 1 << 0,
	TARGET_MINOR = 1 << 1,
	TARGET_FIND = 1 << 2, /* the pid may be left out: the only one with that minor */
};

struct target {
	char dir[PATH_MAX];
	int pid;	/* -1: not given */
	unsigned minor; /* valid if has_minor */
	bool has_minor;
	struct remote remote; /* connected if a pid was wanted */
	int key_fd;	      /* owned; what Open hands over; -1: none */
};

/* From the options of @args.  0, or an exit status after printing why. */
int target_open(const struct arguments *args, unsigned wants, struct target *out);
void target_close(struct target *target);

/* {"minor": N} */
json_t *target_parameters(const struct target *target);
/* Call and print a failure.  0, or the exit status. */
int target_call(struct target *target, const char *method, json_t *parameters, int wait_ms,
		json_t **out);

/* The milliseconds of --timeout: 0 when not given; -1 after printing why it is wrong. */
int64_t target_timeout_ms(const struct arguments *args);
/* What to wait for an answer to a call that may take so long. */
int target_wait_ms(int64_t timeout_ms);

/* "vhd:disk.vhd" with the path made absolute; to be freed; NULL after printing why.  The image
 * behind a filter ("log:FILE,vhd:PATH") too. */
char *target_spec(const char *given);
/* A path made absolute; the same. */
char *target_path(const char *given);

/* Print @object behind its schema; it is released. */
void target_print_json(const char *schema, json_t *object);

#endif
