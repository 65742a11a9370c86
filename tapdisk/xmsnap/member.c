/* member.c - pausing, preparing, switching, resuming one disk */
#include "member.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/error.h"
#include "libvhd/io-file.h"
#include "libvhd/lock.h"

#define GRACE_MS  5000 /* beyond what a call may take */
#define LOCK_MS	  2000 /* of somebody who peeks */
#define LEASE(ms) (2 * (ms))

/* ── before ── */

int member_name(struct member *m, const char *name, struct vhd_error *err)
{
	const char *leaf = m->at.leaf;
	size_t length = strlen(leaf);
	char directory[PATH_MAX];
	struct stat there, st;

	if (length > 4 && !strcmp(leaf + length - 4, ".vhd"))
		length -= 4;
	if (snprintf(m->base, PATH_MAX, "%.*s.%s.vhd", (int)length, leaf, name) >= PATH_MAX ||
	    snprintf(m->temp, PATH_MAX, "%.*s.%s.new-%d", (int)length, leaf, name, (int)getpid()) >=
		    PATH_MAX)
		return error_set(err, -ENAMETOOLONG, "the path '%s' is too long", leaf);
	if (lstat(m->base, &there) == 0) {
		bool left = stat(leaf, &st) == 0 && there.st_dev == st.st_dev &&
			    there.st_ino == st.st_ino;

		return error_set(
			err, -EEXIST,
			left ? "cannot snapshot '%s': '%s' is a second name of it, left by "
			       "an interrupted snapshot; remove that name" :
			       "cannot snapshot '%s': '%s' exists; give another --name",
			leaf, m->base);
	}
	snprintf(directory, sizeof(directory), "%.*s", (int)(strrchr(leaf, '/') - leaf + 1), leaf);
	return access(directory, W_OK | X_OK) < 0 ?
		       error_system(err, -errno, "make a snapshot beside", leaf) :
		       0;
}

int member_connect(struct member *m, struct vhd_error *err)
{
	int rc = remote_open(m->at.dir, m->at.pid, &m->remote, err);

	m->connected = rc >= 0;
	return rc;
}

/* ── pausing and resuming ── */

static void in_question(struct member *m, struct vhd_error *err)
{
	error_prefix(err, "disk '%s' (%s)", m->disk->target, m->at.leaf);
}

static int ask(struct member *m, const char *method, json_t *parameters, struct vhd_error *err)
{
	int rc;

	if (parameters)
		json_object_set_new(parameters, "minor", json_integer(m->at.minor));
	rc = remote_ask(&m->remote, method, parameters, false, err);
	if (rc < 0)
		in_question(m, err);
	return rc;
}

int member_ask_pause(struct member *m, struct vhd_error *err)
{
	int rc = ask(m, "Pause",
		     json_pack("{s:I, s:I, s:b}", "timeout_ms", (json_int_t)m->timeout_ms,
			       "lease_ms", (json_int_t)LEASE(m->timeout_ms), "while_connected", 1),
		     err);

	m->asked = rc >= 0;
	m->paused = false;
	return rc;
}

int member_await_pause(struct member *m, struct vhd_error *err)
{
	json_t *out = NULL;
	int rc = remote_next(&m->remote, (int)m->timeout_ms + GRACE_MS, &out, err);

	m->asked = rc == -ETIMEDOUT || rc == -EINTR; /* the answer may come yet */
	if (rc >= 0 && json_is_true(json_object_get(out, "already")))
		rc = error_set(err, -EBUSY, "somebody else has paused it");
	if (rc < 0) {
		in_question(m, err);
	} else {
		m->paused = true;
		m->let_go = false;
		m->pauses = (uint64_t)json_integer_value(json_object_get(out, "pauses"));
	}
	json_decref(out);
	return rc;
}

static bool is(const char *status, const char *word)
{
	return status && !strcmp(status, word);
}

int member_ask_state(struct member *m, struct member_state *out, struct vhd_error *err)
{
	json_t *facts = NULL, *d;
	size_t i;
	int rc = remote_call(&m->remote, "List", NULL, (int)m->timeout_ms + GRACE_MS, &facts, err);

	*out = (struct member_state){ 0 };
	if (rc >= 0 && !json_is_array(json_object_get(facts, "disks")))
		rc = error_set(err, -EPROTO, "tapdisk answered something else");
	if (rc < 0)
		in_question(m, err);
	json_array_foreach(json_object_get(facts, "disks"), i, d)
	{
		const char *status = json_string_value(json_object_get(d, "status"));

		if (json_integer_value(json_object_get(d, "minor")) != (json_int_t)m->at.minor)
			continue;
		out->there = !is(status, "closed");
		out->paused = is(status, "paused");
		out->running = is(status, "running") || is(status, "stalled");
		out->pauses = (uint64_t)json_integer_value(json_object_get(d, "pauses"));
	}
	json_decref(facts);
	return rc;
}

int member_still_paused(struct member *m, struct vhd_error *err)
{
	struct member_state state;
	int rc = member_ask_state(m, &state, err);

	if (rc < 0 || (state.paused && state.pauses == m->pauses))
		return rc;
	return error_set(
		err, -ETIMEDOUT,
		"disk '%s' (%s) went on before all were ready: the storage is too slow for "
		"the lease, or somebody resumed it; give a longer --timeout",
		m->disk->target, m->at.leaf);
}

int member_ask_resume(struct member *m, struct vhd_error *err)
{
	return ask(m, "Unpause", json_object(), err);
}

int member_await_resume(struct member *m, struct vhd_error *err)
{
	int rc = remote_next(&m->remote, (int)m->timeout_ms + GRACE_MS, NULL, err);
	struct member_state state;

	/* its lease may have been faster; since it was let go that is as good */
	if (rc < 0 && member_ask_state(m, &state, NULL) >= 0 && state.running)
		rc = 0;
	if (rc < 0)
		in_question(m, err);
	else
		m->paused = false;
	return rc;
}

/* ── files ── */

/* The same server shall use it as used the leaf. */
static int as_leaf(struct member *m, struct vhd_error *err)
{
	struct stat old;

	if (stat(m->at.leaf, &old) < 0 || chmod(m->temp, old.st_mode & 07777) < 0 ||
	    (chown(m->temp, old.st_uid, old.st_gid) < 0 && errno != EPERM))
		return error_system(err, -errno, "set owner and mode of", m->temp);
	return 0;
}

/* Who is in the way may be its own tapdisk, which went on when the lease ran out. */
static int in_the_way(struct member *m, int rc, struct vhd_error *err)
{
	struct vhd_error over;

	if (rc != -VHD_E_BUSY || !m->paused || member_still_paused(m, &over) != -ETIMEDOUT)
		return rc;
	*err = over;
	return over.code;
}

int member_prepare(struct member *m, struct vhd_error *err)
{
	const struct vhd_snapshot_options options = { .link_empty = true, .parents = *m->parents };
	int rc;

	if (link(m->at.leaf, m->base) < 0)
		return error_system(err, -errno, "make the name", m->base);
	m->linked = true;
	rc = vhd_snapshot(m->temp, m->base, &options, err);
	m->made = rc != -EEXIST; /* a failed sync leaves it */
	if (rc < 0)
		return in_the_way(m, rc, err);
	rc = as_leaf(m, err);
	/* ORDER 17: the frozen node's name is durable before a child of it has the leaf's */
	return rc < 0 ? rc : member_sync(m, err);
}

static int hold_one(const char *path, struct vhd_io **out, struct vhd_error *err)
{
	int rc = io_file_open(path, IO_FILE_WRITE, out, err);

	if (rc < 0)
		return rc;
	/* without locks (NFS) the number of the pause is all there is to go by */
	return lock_take(*out, LOCK_WRITE, NULL, LOCK_MS, NULL, err);
}

int member_hold(struct member *m, struct vhd_error *err)
{
	int rc = hold_one(m->base, &m->held[0], err);

	if (rc >= 0)
		rc = hold_one(m->switched ? m->at.leaf : m->temp, &m->held[1], err);
	if (rc < 0)
		return in_the_way(m, rc, err);
	return m->paused ? member_still_paused(m, err) : 0;
}

int member_switch(struct member *m, struct vhd_error *err)
{
	if (rename(m->temp, m->at.leaf) < 0)
		return error_system(err, -errno, "rename to", m->at.leaf);
	m->switched = true;
	m->made = false;
	return 0;
}

int member_sync(struct member *m, struct vhd_error *err)
{
	int rc = io_file_sync_directory(m->at.leaf);

	return rc < 0 ? error_system(err, rc, "sync the directory of", m->at.leaf) : 0;
}

void member_let_go(struct member *m)
{
	for (unsigned k = 0; k < 2; k++) {
		io_close(m->held[k]);
		m->held[k] = NULL;
	}
	m->let_go = true;
}

void member_close(struct member *m)
{
	member_let_go(m);
	if (m->connected)
		remote_close(&m->remote);
	m->connected = m->paused = false;
}
