/* undo.c - from wherever a disk is back to its old leaf
 *
 * As long as the member is held nobody ran on the child: names are enough.  Once it was let go, its
 * tapdisk may run on the child, with writes that a guest was told are durable:
 *
 *   paused again (or its tapdisk is gone) ─► child merged into the old leaf ─► held ─► names
 *
 * If that fails the disk stays on the child: the chain is whole, only a snapshot more.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libvhd/error.h"
#include "member.h"

#define SETTLE_MS 3000

static void hang_up(struct member *m)
{
	if (m->connected)
		remote_close(&m->remote);
	m->connected = m->paused = false;
}

/* Paused by us on this connection, or served by nobody: 1 if that is so since before it was let go,
 * and nobody ran on the child; 0 if somebody may have.  A connection on which an answer is missing
 * is of no use any more; closing it makes the disk go on, which is why it is paused anew. */
static int quiet(struct member *m, struct vhd_error *err)
{
	struct member_state state = { .there = false };
	int rc;

	if (m->paused && m->connected && member_still_paused(m, NULL) >= 0)
		return 1;
	hang_up(m);
	rc = member_connect(m, err);
	if (rc >= 0)
		rc = member_ask_state(m, &state, err);
	if (rc >= 0 && state.there)
		rc = member_ask_pause(m, err);
	if (rc >= 0 && state.there)
		rc = member_await_pause(m, err);
	if (rc >= 0 && state.there)
		return 0;
	hang_up(m);
	if (rc != -ESRCH)
		return rc;
	*err = (struct vhd_error){ .code = 0 };
	return 0;
}

/* What the child got since it was let go. */
static int merge(struct member *m, struct vhd_error *err)
{
	const struct vhd_coalesce_options options = { .parents = *m->parents };
	struct vhd_coalesce_result result;

	return vhd_coalesce(m->at.leaf, &options, &result, err);
}

static int unswitch(struct member *m, struct vhd_error *err)
{
	int rc = 0;

	if (m->let_go) {
		rc = quiet(m, err);
		if (rc == 0)
			rc = merge(m, err);
		if (rc >= 0)
			rc = member_hold(m, err);
	}
	if (rc < 0)
		return rc;
	if (rename(m->base, m->at.leaf) < 0)
		return error_system(err, -errno, "rename back to", m->at.leaf);
	m->linked = m->switched = false;
	return 0;
}

static void go_on(struct member *m, struct vhd_error *err)
{
	struct vhd_error why;

	if (m->asked) /* member_settle */
		return;
	/* whatever it says: it goes on as soon as it can when nobody holds the pause any more */
	if (m->paused && member_still_paused(m, &why) != -ETIMEDOUT &&
	    (member_ask_resume(m, &why) < 0 || member_await_resume(m, &why) < 0) && !err->code)
		*err = why;
	hang_up(m);
}

void member_settle(struct member *m)
{
	json_t *out = NULL;

	if (!m->connected || !m->asked)
		return;
	if (remote_next(&m->remote, SETTLE_MS, &out, NULL) >= 0 &&
	    !json_is_true(json_object_get(out, "already")) && member_ask_resume(m, NULL) >= 0)
		(void)!remote_next(&m->remote, SETTLE_MS, NULL, NULL);
	json_decref(out);
	m->asked = false;
	hang_up(m);
}

void member_undo(struct member *m, struct vhd_error *err)
{
	struct vhd_error why = { .code = 0 };

	*err = (struct vhd_error){ .code = 0 };
	if (m->switched && unswitch(m, err) < 0)
		error_prefix(err, "'%s' stays a child of '%s'", m->at.leaf, m->base);
	if (m->made && unlink(m->temp) < 0 && errno != ENOENT && !err->code)
		error_system(err, -errno, "remove", m->temp);
	if (m->linked && !m->switched && unlink(m->base) < 0 && !err->code)
		error_system(err, -errno, "remove", m->base);
	m->made = false;
	m->linked = m->linked && m->switched;
	if (member_sync(m, &why) < 0 && !err->code)
		*err = why;
	member_let_go(m);
	go_on(m, err);
}
