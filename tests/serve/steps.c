/* steps.c - xmsnap whose every step can fail, kill it, interrupt it or take long
 *
 * Linked with xmsnap's objects in place of what they call (-Wl,--wrap).  XMSNAP_STEP says what
 * happens at which step, counted from 1:
 *
 *	"fail N [M]"	step N fails, and step M too
 *	"kill N"	SIGKILL before step N
 *	"int N"		SIGINT before step N
 *	"wait N S"	S seconds before step N
 *	"count"		at the end the number of steps is printed on stderr
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvhd/error.h"
#include "tapdisk/protocol/remote.h"

int __real_link(const char *from, const char *to);
int __real_rename(const char *from, const char *to);
int __real_unlink(const char *path);
int __real_io_file_sync_directory(const char *path);
int __real_vhd_snapshot(const char *child, const char *parent,
			const struct vhd_snapshot_options *options, struct vhd_error *err);
int __real_vhd_coalesce(const char *child, const struct vhd_coalesce_options *options,
			struct vhd_coalesce_result *result, struct vhd_error *err);
int __real_remote_ask(struct remote *remote, const char *method, json_t *parameters, bool more,
		      struct vhd_error *err);
int __real_remote_next(struct remote *remote, int wait_ms, json_t **out, struct vhd_error *err);
int __real_remote_call(struct remote *remote, const char *method, json_t *parameters, int wait_ms,
		       json_t **out, struct vhd_error *err);

int __wrap_link(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __wrap_unlink(const char *path);
int __wrap_io_file_sync_directory(const char *path);
int __wrap_vhd_snapshot(const char *child, const char *parent,
			const struct vhd_snapshot_options *options, struct vhd_error *err);
int __wrap_vhd_coalesce(const char *child, const struct vhd_coalesce_options *options,
			struct vhd_coalesce_result *result, struct vhd_error *err);
int __wrap_remote_ask(struct remote *remote, const char *method, json_t *parameters, bool more,
		      struct vhd_error *err);
int __wrap_remote_next(struct remote *remote, int wait_ms, json_t **out, struct vhd_error *err);
int __wrap_remote_call(struct remote *remote, const char *method, json_t *parameters, int wait_ms,
		       json_t **out, struct vhd_error *err);

static unsigned steps;

static void print_count(void)
{
	fprintf(stderr, "%u steps\n", steps);
}

/* Does this step fail? */
static bool fails(const char *what)
{
	const char *plan = getenv("XMSNAP_STEP");
	unsigned at = 0, more = 0;
	char word[8] = "";

	steps++;
	if (!plan || sscanf(plan, "%7s %u %u", word, &at, &more) < 1)
		return false;
	if (!strcmp(word, "count")) {
		if (steps == 1)
			atexit(print_count);
		return false;
	}
	if (steps != at && (strcmp(word, "fail") != 0 || steps != more))
		return false;
	fprintf(stderr, "step %u: %s: %s\n", steps, what, plan);
	if (!strcmp(word, "kill"))
		raise(SIGKILL);
	if (!strcmp(word, "int"))
		raise(SIGINT);
	if (!strcmp(word, "wait"))
		sleep(more);
	return !strcmp(word, "fail");
}

static int refused(struct vhd_error *err, const char *what)
{
	return error_set(err, -EIO, "%s: made to fail", what);
}

static int unanswered(struct vhd_error *err)
{
	return error_set(err, -ETIMEDOUT, "answer: made to fail");
}

static int refused_errno(void)
{
	errno = EIO;
	return -1;
}

int __wrap_link(const char *from, const char *to)
{
	return fails("link") ? refused_errno() : __real_link(from, to);
}

int __wrap_rename(const char *from, const char *to)
{
	return fails("rename") ? refused_errno() : __real_rename(from, to);
}

int __wrap_unlink(const char *path)
{
	return fails("unlink") ? refused_errno() : __real_unlink(path);
}

int __wrap_io_file_sync_directory(const char *path)
{
	return fails("sync") ? -EIO : __real_io_file_sync_directory(path);
}

int __wrap_vhd_snapshot(const char *child, const char *parent,
			const struct vhd_snapshot_options *options, struct vhd_error *err)
{
	return fails("snapshot") ? refused(err, "snapshot") :
				   __real_vhd_snapshot(child, parent, options, err);
}

int __wrap_vhd_coalesce(const char *child, const struct vhd_coalesce_options *options,
			struct vhd_coalesce_result *result, struct vhd_error *err)
{
	return fails("coalesce") ? refused(err, "coalesce") :
				   __real_vhd_coalesce(child, options, result, err);
}

int __wrap_remote_ask(struct remote *remote, const char *method, json_t *parameters, bool more,
		      struct vhd_error *err)
{
	if (!fails(method))
		return __real_remote_ask(remote, method, parameters, more, err);
	json_decref(parameters);
	return refused(err, method);
}

int __wrap_remote_next(struct remote *remote, int wait_ms, json_t **out, struct vhd_error *err)
{
	return fails("answer") ? unanswered(err) : __real_remote_next(remote, wait_ms, out, err);
}

int __wrap_remote_call(struct remote *remote, const char *method, json_t *parameters, int wait_ms,
		       json_t **out, struct vhd_error *err)
{
	if (!fails(method))
		return __real_remote_call(remote, method, parameters, wait_ms, out, err);
	json_decref(parameters);
	return refused(err, method);
}
