/* member.c - finding, pausing, preparing, switching, resuming one disk */
#include "member.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvhd/base/cleanup.h"
#include "libvhd/error.h"
#include "libvhd/io-file.h"

#define CALL_MS 60000

static const char *text(json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

/* ── finding ── */

static bool same_file(const char *a, const char *b)
{
	CLEANUP_FREE char *x = realpath(a, NULL), *y = realpath(b, NULL);

	return x && y && !strcmp(x, y);
}

static bool export_matches(const struct domain_disk *disk, json_t *export, bool first)
{
	const char *address = text(export, "address");
	bool here = (disk->socket && !strncmp(address, "unix:", 5) &&
		     same_file(address + 5, disk->socket)) ||
		    (disk->host && !strncmp(address, "tcp:", 4) &&
		     !strcmp(address + 4, disk->host));

	/* the empty name is the first disk's */
	return here && (*disk->export ? !strcmp(text(export, "name"), disk->export) : first);
}

static bool matches(const struct domain_disk *disk, json_t *served, bool first)
{
	const char *args = text(served, "args"), *path = strchr(args, ':');
	json_t *export;
	size_t i;

	if (disk->path)
		return path && same_file(path + 1, disk->path);
	json_array_foreach(json_object_get(served, "exports"), i, export)
	{
		if (export_matches(disk, export, first))
			return true;
	}
	return false;
}

static int take(json_t *served, int pid, struct member *out, struct vhd_error *err)
{
	const char *args = text(served, "args");

	out->pid = pid;
	out->minor = (unsigned)json_integer_value(json_object_get(served, "minor"));
	if (strncmp(args, "vhd:", 4) != 0)
		return error_set(err, -VHD_E_UNSUPPORTED,
				 "cannot snapshot disk '%s': it is served as '%s', not as a VHD",
				 out->disk->target, args);
	if (json_integer_value(json_object_get(served, "state")) != 0)
		return error_set(err, -EBUSY, "cannot snapshot disk '%s' (%s): it is %s",
				 out->disk->target, args, text(served, "status"));
	if (strlen(args + 4) >= sizeof(out->leaf))
		return error_set(err, -ENAMETOOLONG, "the path '%s' is too long", args + 4);
	strcpy(out->leaf, args + 4);
	return 0;
}

/* 1: found; 0: not here; negative: here, but it cannot be used. */
static int look(const char *dir, int pid, struct member *m, struct vhd_error *err)
{
	struct remote remote;
	json_t *facts = NULL, *served;
	bool first = true;
	size_t i;
	int rc;

	if (remote_open(dir, pid, &remote, err) < 0)
		return 0;
	rc = remote_call(&remote, "List", NULL, CALL_MS, &facts, err);
	if (rc < 0) {
		remote_close(&remote);
		return 0;
	}
	rc = 0;
	json_array_foreach(json_object_get(facts, "disks"), i, served)
	{
		if (rc)
			break;
		if (matches(m->disk, served, first))
			rc = take(served, pid, m, err) < 0 ? err->code : 1;
		first = false;
	}
	json_decref(facts);
	if (rc == 1) {
		m->remote = remote;
		m->connected = true;
	} else {
		remote_close(&remote);
	}
	return rc;
}

static int look_in(const char *dir, struct member *m, struct vhd_error *err)
{
	struct rundir_list list;
	int rc = rundir_list(dir, &list, err);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < list.pid_count && !rc; i++)
		rc = look(dir, list.pids[i], m, err);
	rundir_list_release(&list);
	return rc;
}

int member_find(const struct domain_disk *disk, const char *const *dirs, struct member *out,
		struct vhd_error *err)
{
	int rc = 0;

	*out = (struct member){ .disk = disk };
	if (disk->other)
		return error_set(err, -VHD_E_UNSUPPORTED,
				 "cannot snapshot disk '%s': its source is %s, not a file or NBD",
				 disk->target, disk->other);
	if (disk->shareable)
		return error_set(err, -VHD_E_UNSUPPORTED,
				 "cannot snapshot disk '%s': others write to it too (shareable)",
				 disk->target);
	for (; *dirs && !rc; dirs++)
		rc = look_in(*dirs, out, err);
	if (rc == 0)
		return error_set(err, -ENODEV,
				 "cannot snapshot disk '%s' (%s): no running tapdisk serves it",
				 disk->target,
				 disk->path   ? disk->path :
				 disk->socket ? disk->socket :
						disk->host);
	return rc < 0 ? rc : 0;
}

int member_name(struct member *m, const char *name, struct vhd_error *err)
{
	size_t length = strlen(m->leaf);

	if (length > 4 && !strcmp(m->leaf + length - 4, ".vhd"))
		length -= 4;
	if (snprintf(m->base, sizeof(m->base), "%.*s.%s.vhd", (int)length, m->leaf, name) >=
		    (int)sizeof(m->base) ||
	    snprintf(m->temp, sizeof(m->temp), "%.*s.%s.new-%d", (int)length, m->leaf, name,
		     (int)getpid()) >= (int)sizeof(m->temp))
		return error_set(err, -ENAMETOOLONG, "the path '%s' is too long", m->leaf);
	if (access(m->base, F_OK) == 0)
		return error_set(err, -EEXIST,
				 "cannot snapshot '%s': '%s' exists; give another --name", m->leaf,
				 m->base);
	return 0;
}

/* ── steps ── */

static int call(struct member *m, const char *method, json_t *parameters, int wait_ms, json_t **out,
		struct vhd_error *err)
{
	int rc;

	json_object_set_new(parameters, "minor", json_integer(m->minor));
	rc = remote_call(&m->remote, method, parameters, wait_ms, out, err);
	if (rc < 0)
		error_prefix(err, "disk '%s' (%s)", m->disk->target, m->leaf);
	return rc;
}

int member_pause(struct member *m, unsigned timeout_ms, unsigned lease_ms, struct vhd_error *err)
{
	int rc = call(m, "Pause",
		      json_pack("{s:i, s:i, s:b}", "timeout_ms", (int)timeout_ms, "lease_ms",
				(int)lease_ms, "while_connected", 1),
		      (int)timeout_ms + CALL_MS, NULL, err);

	m->paused = rc >= 0;
	return rc;
}

int member_still_paused(struct member *m, struct vhd_error *err)
{
	json_t *facts = NULL, *served;
	bool paused = false;
	size_t i;
	int rc = remote_call(&m->remote, "List", NULL, CALL_MS, &facts, err);

	if (rc < 0)
		return rc;
	json_array_foreach(json_object_get(facts, "disks"), i, served)
	{
		if (json_integer_value(json_object_get(served, "minor")) == (json_int_t)m->minor)
			paused = json_integer_value(json_object_get(served, "state")) == 0x28;
	}
	json_decref(facts);
	if (!paused)
		return error_set(
			err, -ETIMEDOUT,
			"disk '%s' (%s) went on before all were ready: the storage is too slow "
			"for the lease; give a longer --timeout",
			m->disk->target, m->leaf);
	return 0;
}

int member_prepare(struct member *m, struct vhd_error *err)
{
	const struct vhd_snapshot_options options = { .link_empty = true,
						      .parents = { .beneath_only = true } };
	int rc;

	if (link(m->leaf, m->base) < 0)
		return error_system(err, -errno, "make the name", m->base);
	m->linked = true;
	rc = vhd_snapshot(m->temp, m->base, &options, err);
	if (rc < 0)
		return rc;
	m->made = true;
	rc = io_file_sync_directory(m->leaf);
	return rc < 0 ? error_system(err, rc, "sync the directory of", m->leaf) : 0;
}

int member_switch(struct member *m, struct vhd_error *err)
{
	int rc;

	if (rename(m->temp, m->leaf) < 0)
		return error_system(err, -errno, "rename to", m->leaf);
	m->switched = true;
	m->made = false;
	rc = io_file_sync_directory(m->leaf);
	return rc < 0 ? error_system(err, rc, "sync the directory of", m->leaf) : 0;
}

int member_resume(struct member *m, struct vhd_error *err)
{
	int rc;

	if (!m->paused)
		return 0;
	rc = call(m, "Unpause", json_object(), CALL_MS, NULL, err);
	if (rc >= 0)
		m->paused = false;
	return rc;
}

void member_undo(struct member *m, struct vhd_error *err)
{
	struct vhd_error again = { .code = 0 };

	*err = again;
	if (m->switched) {
		/* the old leaf back under its name; the child, empty, is gone with that */
		if (rename(m->base, m->leaf) == 0)
			m->linked = m->switched = false;
		else
			error_system(err, -errno, "rename back to", m->leaf);
	}
	if (m->made && unlink(m->temp) < 0)
		error_system(err, -errno, "remove", m->temp);
	if (m->linked && !m->switched && unlink(m->base) < 0)
		error_system(err, -errno, "remove", m->base);
	m->made = m->linked = false;
	(void)io_file_sync_directory(m->leaf);
	if (m->connected && member_resume(m, &again) < 0)
		*err = again;
}

void member_close(struct member *m)
{
	if (m->connected)
		remote_close(&m->remote);
	m->connected = false;
}
