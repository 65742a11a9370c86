/* served.c - what the tapdisks of some run directories serve, as they said when asked */
#include "served.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "address.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/error.h"
#include "tapdisk/protocol/remote.h"

static const char *text(json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

/* ── asking ── */

static int keep(struct served *served, const char *dir, int pid, json_t *facts,
		struct vhd_error *err)
{
	json_t *disk;
	size_t i;

	json_array_foreach(json_object_get(facts, "disks"), i, disk)
	{
		if (json_array_append_new(served->all, json_pack("{s:s, s:i, s:O}", "dir", dir,
								 "pid", pid, "disk", disk)))
			return error_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}

static int ask(struct served *served, const char *dir, int pid, unsigned wait_ms,
	       struct vhd_error *err)
{
	struct remote remote;
	json_t *facts = NULL;
	int rc = remote_open(dir, pid, &remote, err);

	if (rc < 0) {
		served->silent += rc != -ESRCH;
		return 0;
	}
	rc = remote_call(&remote, "List", NULL, (int)wait_ms, &facts, err);
	remote_close(&remote);
	if (rc < 0) {
		served->silent += rc != -ESRCH;
		return 0;
	}
	rc = keep(served, dir, pid, facts, err);
	json_decref(facts);
	return rc;
}

int served_read(const char *const *dirs, unsigned wait_ms, struct served *out,
		struct vhd_error *err)
{
	int rc = 0;

	*out = (struct served){ .all = json_array() };
	if (!out->all)
		return error_set(err, -ENOMEM, "out of memory");
	for (; *dirs && rc >= 0; dirs++) {
		struct rundir_list list;

		rc = rundir_list(*dirs, &list, err);
		if (rc < 0)
			break;
		for (size_t i = 0; i < list.pid_count && rc >= 0; i++)
			rc = ask(out, *dirs, list.pids[i], wait_ms, err);
		rundir_list_release(&list);
	}
	if (rc < 0)
		served_release(out);
	return rc;
}

void served_release(struct served *served)
{
	json_decref(served->all);
	served->all = NULL;
}

/* ── matching ── */

/* The same inode, or nodes of the same device. */
static bool same_file(const char *a, const char *b)
{
	struct stat x, y;

	if (stat(a, &x) < 0 || stat(b, &y) < 0)
		return false;
	if (S_ISBLK(x.st_mode) && S_ISBLK(y.st_mode))
		return x.st_rdev == y.st_rdev;
	return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* A path that @entry's tapdisk was given, as this process sees it: a relative one is relative to
 * where the tapdisk was started. */
static bool path_of(json_t *entry, const char *given, char *out)
{
	int pid = (int)json_integer_value(json_object_get(entry, "pid"));

	if (*given == '/')
		return snprintf(out, PATH_MAX, "%s", given) < PATH_MAX;
	return *given && snprintf(out, PATH_MAX, "/proc/%d/cwd/%s", pid, given) < PATH_MAX;
}

static bool image_path(json_t *entry, char *out)
{
	const char *path = strchr(text(json_object_get(entry, "disk"), "args"), ':');

	return path && path_of(entry, path + 1, out);
}

static bool same_address(const struct domain_disk *disk, json_t *entry, const char *address)
{
	char path[PATH_MAX];

	if (disk->socket)
		return !strncmp(address, "unix:", 5) && path_of(entry, address + 5, path) &&
		       same_file(path, disk->socket);
	return !strncmp(address, "tcp:", 4) && address_same(disk->host, address + 4);
}

/* Is @entry exported where @disk is to be found?  *named: by the name that @disk has too. */
static bool exported(const struct domain_disk *disk, json_t *entry, bool *named)
{
	json_t *export;
	bool here = false;
	size_t i;

	*named = false;
	json_array_foreach(json_object_get(json_object_get(entry, "disk"), "exports"), i, export)
	{
		if (!same_address(disk, entry, text(export, "address")))
			continue;
		here = true;
		if (!strcmp(text(export, "name"), disk->export))
			*named = true;
	}
	return here;
}

static int of_path(const struct served *served, const struct domain_disk *disk, json_t **out)
{
	char path[PATH_MAX];
	json_t *entry;
	size_t i;

	json_array_foreach(served->all, i, entry)
	{
		if (!image_path(entry, path) || !same_file(path, disk->path))
			continue;
		*out = entry;
		/* readers may be many, the writer is one */
		if (!json_is_true(json_object_get(json_object_get(entry, "disk"), "read_only")))
			break;
	}
	return 0;
}

static int of_export(const struct served *served, const struct domain_disk *disk, json_t **out,
		     struct vhd_error *err)
{
	unsigned here = 0;
	json_t *entry;
	size_t i;

	json_array_foreach(served->all, i, entry)
	{
		bool named;

		if (!exported(disk, entry, &named))
			continue;
		if (named) {
			*out = entry;
			return 0;
		}
		if (*disk->export)
			continue;
		*out = entry;
		here++;
	}
	/* the empty name means the first that was exported there, which nobody tells */
	if (here > 1)
		return error_set(err, -VHD_E_UNSUPPORTED,
				 "cannot snapshot disk '%s': %u disks are exported at %s, and the "
				 "domain names none of them",
				 disk->target, here, domain_disk_source(disk));
	return 0;
}

/* ── can it be snapshotted? ── */

static int refuse_kind(const struct domain_disk *disk, struct vhd_error *err)
{
	if (disk->other)
		return error_set(err, -VHD_E_UNSUPPORTED,
				 "cannot snapshot disk '%s': its source is %s, not a file or NBD",
				 disk->target, disk->other);
	if (disk->shareable)
		return error_set(err, -VHD_E_UNSUPPORTED,
				 "cannot snapshot disk '%s': others write to it too (shareable)",
				 disk->target);
	if (disk->transient)
		return error_set(err, -VHD_E_UNSUPPORTED,
				 "cannot snapshot disk '%s': what is written to it is thrown away "
				 "(transient)",
				 disk->target);
	return 0;
}

static int nobody(const struct served *served, const struct domain_disk *disk,
		  struct vhd_error *err)
{
	struct stat st;
	bool missing = disk->path && stat(disk->path, &st) < 0;

	error_set(err, -ENODEV, "cannot snapshot disk '%s' (%s): no running tapdisk serves it%s%s",
		  disk->target, domain_disk_source(disk), missing ? ": " : "",
		  missing ? strerror(errno) : "");
	if (served->silent)
		error_prefix(err, "%u tapdisks do not answer", served->silent);
	return err->code;
}

static int take(json_t *entry, const struct domain_disk *disk, struct served_match *out,
		struct vhd_error *err)
{
	json_t *d = json_object_get(entry, "disk");
	const char *args = text(d, "args");
	char path[PATH_MAX];
	struct stat st;

	if (strncmp(args, "vhd:", 4) != 0)
		return error_set(err, -VHD_E_UNSUPPORTED,
				 "cannot snapshot disk '%s': it is served as '%s', not as a VHD",
				 disk->target, args);
	if (json_is_true(json_object_get(d, "read_only")))
		return error_set(err, -EROFS,
				 "cannot snapshot disk '%s' (%s): it is served read-only",
				 disk->target, args);
	if (json_integer_value(json_object_get(d, "state")) != 0)
		return error_set(err, -EBUSY, "cannot snapshot disk '%s' (%s): it is %s",
				 disk->target, args, text(d, "status"));
	if (!image_path(entry, path) || !realpath(path, out->leaf) || stat(out->leaf, &st) < 0)
		return error_system(err, errno ? -errno : -ENAMETOOLONG, "find", args);
	if (!S_ISREG(st.st_mode))
		return error_set(
			err, -VHD_E_UNSUPPORTED,
			"cannot snapshot disk '%s' under its name: '%s' is a device, which "
			"cannot be renamed",
			disk->target, out->leaf);
	out->dir = text(entry, "dir");
	out->pid = (int)json_integer_value(json_object_get(entry, "pid"));
	out->minor = (unsigned)json_integer_value(json_object_get(d, "minor"));
	return 0;
}

int served_find(const struct served *served, const struct domain_disk *disk,
		struct served_match *out, struct vhd_error *err)
{
	json_t *entry = NULL;
	int rc = refuse_kind(disk, err);

	if (rc < 0)
		return rc;
	rc = disk->path ? of_path(served, disk, &entry) : of_export(served, disk, &entry, err);
	if (rc < 0)
		return rc;
	return entry ? take(entry, disk, out, err) : nobody(served, disk, err);
}
