/* ctl.h - the commands of tap-ctl, and the steps that several of them are made of */
#ifndef TAP_CTL_CTL_H
#define TAP_CTL_CTL_H

#include "target.h"

/* Each in its cmd-*.c. */
extern const struct command command_list, command_allocate, command_free, command_major,
	command_spawn, command_attach, command_detach, command_open, command_close, command_pause,
	command_unpause, command_create, command_destroy, command_stats, command_snapshot,
	command_resize, command_throttle, command_retry, command_export, command_unexport,
	command_events, command_top, command_clients;

/* Start a tapdisk.  0 and its pid, or an exit status after printing why. */
int ctl_spawn(const char *dir, int *pid);

/* What open and create have in common. */
#define OPTIONS_OPEN                                                                      \
	{ 'R', "read-only", NULL, "refuse writes" },                                      \
		{ 'D', "buffered", NULL, "through the page cache instead of O_DIRECT" },  \
		{ 0, "writethrough", NULL, "commit before each answer" },                 \
		{ 0, "force", NULL, "a hidden image too" },                               \
		{ 'r', "read-cache", NULL, "cache reads of parents (always done)" },      \
		{ 'C', "changed-log", "FILE", "log of changed blocks (cbt-util)" },       \
		{ 'E', "key", NULL, "key of an encrypted image on standard input" },      \
		{ 'e', "parent-minor", "N", "read the parents through another tapdisk" }, \
		{ '2', "secondary", "TYPE:PATH", "mirror writes to it" },                 \
	{                                                                                 \
		's', "standby", NULL, "go over to the secondary"                          \
	}
/* The parameters of Open; NULL after printing why not, with the status in *status. */
json_t *ctl_open_parameters(const struct arguments *args, struct target *target, int *status);
/* Call Open with them (taken), and hand over the key.  0, or an exit status after printing why. */
int ctl_call_open(struct target *target, json_t *in, json_t **out);

/* Detach and, if it was the last, wait for the process to end. */
int ctl_detach(struct target *target);

/* All processes of the run directory.  The answer to List of each that answers, as an array; those
 * that do not are told on stderr and stand there with their pid only.  NULL: no memory. */
json_t *ctl_list_all(const char *dir, int only_pid);

/* The Stats of every disk (of @target's pid and minor, where given), with "pid" and "export" in it;
 * an array. */
json_t *ctl_stats_all(const struct target *target);

/* stats-text.c: what ctl_stats_all() found, in the OpenMetrics format. */
void ctl_print_openmetrics(json_t *all);

#endif
