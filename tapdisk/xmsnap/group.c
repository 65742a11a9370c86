/* group.c - all disks of a virtual machine, snapshotted at one point */
#include "group.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libvhd/error.h"

#define LIST_MS 5000u

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* ── which disks ── */

static int twice(const struct group *g, const struct member *m, struct vhd_error *err)
{
	for (const struct member *other = g->members; other < m; other++) {
		if (other->problem.code || strcmp(other->at.leaf, m->at.leaf) != 0)
			continue;
		return error_set(err, -VHD_E_ARGUMENT,
				 "cannot snapshot disk '%s': it is disk '%s' once more",
				 m->disk->target, other->disk->target);
	}
	return 0;
}

static void find(struct group *g, const struct domain_disk *disk, struct member *m)
{
	int rc;

	*m = (struct member){ .disk = disk, .parents = &g->parents, .timeout_ms = g->timeout_ms };
	rc = served_find(&g->served, disk, &m->at, &m->problem);
	if (rc >= 0)
		rc = twice(g, m, &m->problem);
	if (rc >= 0)
		rc = member_name(m, g->name, &m->problem);
	if (rc < 0 && !m->problem.code)
		error_set(&m->problem, rc, "cannot snapshot disk '%s'", disk->target);
}

int group_find(struct group *g, struct vhd_error *err)
{
	int rc = served_read(g->dirs, g->timeout_ms < LIST_MS ? g->timeout_ms : LIST_MS, &g->served,
			     err);

	if (rc < 0)
		return rc;
	g->members = calloc(g->domain.count, sizeof(*g->members));
	if (!g->members)
		return error_set(err, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < g->domain.count; i++)
		if (!g->domain.disks[i].read_only) /* nothing changes in those */
			find(g, &g->domain.disks[i], &g->members[g->count++]);
	for (unsigned i = 0; i < g->count; i++) {
		if (!g->members[i].problem.code)
			continue;
		*err = g->members[i].problem;
		return err->code;
	}
	if (!g->count)
		return error_set(err, -VHD_E_ARGUMENT,
				 "no disk of the virtual machine can be written");
	return 0;
}

/* ── the snapshot ── */

typedef int group_step(struct member *m, struct vhd_error *err);

static int interrupted(const struct group *g, struct vhd_error *err)
{
	return *g->interrupted ? error_set(err, -VHD_E_CANCELLED, "interrupted") : 0;
}

static int each(struct group *g, group_step *step, struct vhd_error *err)
{
	int rc = interrupted(g, err);

	for (unsigned i = 0; i < g->count && rc >= 0; i++) {
		rc = step(&g->members[i], err);
		/* a call that a signal ended is no failure of the disk */
		if (interrupted(g, rc < 0 ? err : NULL) < 0)
			rc = interrupted(g, err);
	}
	return rc;
}

static int in_time(const struct group *g, uint64_t begun_us, struct vhd_error *err)
{
	if (now_us() - begun_us < (uint64_t)g->timeout_ms * 1000)
		return 0;
	return error_set(err, -ETIMEDOUT,
			 "pausing and preparing all disks took longer than %u s: nothing was done",
			 g->timeout_ms / 1000);
}

static int up_to_the_switch(struct group *g, struct vhd_error *err)
{
	uint64_t begun = now_us();
	int rc = each(g, member_ask_pause, err);

	if (rc >= 0)
		rc = each(g, member_await_pause, err);
	if (rc >= 0)
		rc = each(g, member_prepare, err);
	if (rc >= 0)
		rc = in_time(g, begun, err);
	if (rc >= 0)
		rc = each(g, member_hold, err);
	if (rc >= 0)
		rc = each(g, member_switch, err);
	if (rc >= 0)
		rc = each(g, member_sync, err);
	return rc;
}

/* All are asked before the first answer is awaited. */
static int resume_all(struct group *g, struct vhd_error *err)
{
	int rc = 0;

	for (unsigned i = 0; i < g->count; i++)
		member_let_go(&g->members[i]);
	for (unsigned i = 0; i < g->count && rc >= 0; i++)
		rc = member_ask_resume(&g->members[i], err);
	for (unsigned i = 0; i < g->count && rc >= 0; i++)
		rc = member_await_resume(&g->members[i], err);
	return rc;
}

static void undo_all(struct group *g, void (*tell)(const struct vhd_error *err))
{
	for (unsigned i = 0; i < g->count; i++) {
		struct vhd_error err;

		member_undo(&g->members[i], &err);
		if (err.code)
			tell(&err);
	}
	for (unsigned i = 0; i < g->count; i++)
		member_settle(&g->members[i]);
}

/* Who is interrupted while going back or going on would leave half of it. */
static void deaf(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
}

int group_snapshot(struct group *g, void (*tell)(const struct vhd_error *err),
		   struct vhd_error *err)
{
	uint64_t begun;
	int rc = 0;

	for (unsigned i = 0; i < g->count && rc >= 0; i++)
		rc = member_connect(&g->members[i], err);
	begun = now_us();
	if (rc >= 0)
		rc = up_to_the_switch(g, err);
	deaf();
	if (rc >= 0)
		rc = resume_all(g, err);
	if (rc < 0)
		undo_all(g, tell);
	g->paused_us = now_us() - begun;
	return rc;
}

void group_release(struct group *g)
{
	for (unsigned i = 0; i < g->count; i++)
		member_close(&g->members[i]);
	free(g->members);
	served_release(&g->served);
	domain_release(&g->domain);
}
