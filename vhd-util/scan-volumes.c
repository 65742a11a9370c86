/* scan-volumes.c - the logical volumes of a group, as lvs tells them
 *
 * Volumes are read through their nodes, /dev/GROUP/NAME: those that are not active have none.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libvhd/base/cleanup.h"
#include "libvhd/error.h"
#include "libvhd/path.h"
#include "scan.h"

/* Groups and volumes are named with these; the first is no dash, as that would be an option. */
static bool name_is_sound(const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789+_.-";

	return *name && *name != '-' && strspn(name, letters) == strlen(name) &&
	       strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int order(const void *a, const void *b)
{
	return strcmp(((const struct scan_volume *)a)->name, ((const struct scan_volume *)b)->name);
}

void scan_volumes_release(struct scan_volumes *v)
{
	for (size_t i = 0; i < v->count; i++) {
		free(v->list[i].name);
		free(v->list[i].path);
	}
	free(v->list);
	memset(v, 0, sizeof(*v));
}

static int add(struct scan_volumes *v, const char *name, const char *path)
{
	struct scan_volume new = { .name = strdup(name) };
	struct scan_volume *list;

	if (path && *path == '/')
		new.path = strdup(path);
	else if (asprintf(&new.path, "/dev/%s/%s", v->group, name) < 0)
		new.path = NULL;
	/* room is made for powers of two */
	list = v->list;
	if (!(v->count & (v->count - 1)))
		list = realloc(v->list, (v->count ? v->count * 2 : 1) * sizeof(*list));
	if (list)
		v->list = list;
	if (!new.name || !new.path || !list) {
		free(new.name);
		free(new.path);
		return -ENOMEM;
	}
	v->list[v->count++] = new;
	return 0;
}

/* Lines "  NAME|PATH". */
static int read_volumes(struct scan_volumes *v, FILE *from)
{
	CLEANUP_FREE char *line = NULL;
	size_t room = 0;
	int rc = 0;

	while (!rc && getline(&line, &room, from) > 0) {
		char *name = line + strspn(line, " \t"), *path;

		name[strcspn(name, "\r\n")] = '\0';
		path = strchr(name, '|');
		if (path)
			*path++ = '\0';
		name[strcspn(name, " \t")] = '\0';
		if (path)
			path[strcspn(path, " \t|")] = '\0';
		if (name_is_sound(name))
			rc = add(v, name, path);
	}
	return rc;
}

/* Start lvs; its standard output at *out. */
static int start_lvs(const char *group, pid_t *pid, FILE **out)
{
	char *const argv[] = {
		(char *)"lvs", (char *)"--noheadings",	  (char *)"--separator", (char *)"|",
		(char *)"-o",  (char *)"lv_name,lv_path", (char *)group,	 NULL,
	};
	extern char **environ;
	posix_spawn_file_actions_t actions;
	int ends[2], rc;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	rc = posix_spawn_file_actions_init(&actions);
	if (!rc) {
		rc = posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
		if (!rc)
			rc = posix_spawnp(pid, "lvs", &actions, NULL, argv, environ);
		posix_spawn_file_actions_destroy(&actions);
	}
	close(ends[1]);
	if (!rc) {
		*out = fdopen(ends[0], "r");
		if (*out)
			return 0;
		rc = errno;
		close(ends[0]);
		waitpid(*pid, NULL, 0);
		return -rc;
	}
	close(ends[0]);
	return -rc;
}

int scan_volumes_load(const char *group, struct scan_volumes *v, struct vhd_error *err)
{
	FILE *from;
	pid_t pid;
	int rc, status = 0;

	memset(v, 0, sizeof(*v));
	v->group = group;
	if (!name_is_sound(group))
		return error_set(err, -EINVAL,
				 "cannot scan '%s': that is no name of a volume group", group);
	rc = start_lvs(group, &pid, &from);
	if (rc == -ENOENT)
		return error_set(err, rc,
				 "cannot list the volumes of '%s': there is no lvs; install lvm2",
				 group);
	if (rc < 0)
		return error_system(err, rc, "run lvs for", group);
	rc = read_volumes(v, from);
	fclose(from);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (rc < 0)
		return error_system(err, rc, "list the volumes of", group);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return error_set(
			err, -ENOENT,
			"cannot list the volumes of '%s': lvs failed (status %d); does the "
			"group exist?",
			group, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	if (v->count)
		qsort(v->list, v->count, sizeof(*v->list), order);
	return 0;
}

const struct scan_volume *scan_volumes_find(const struct scan_volumes *v, const char *name)
{
	struct scan_volume key = { .name = (char *)name };

	return v->count ? bsearch(&key, v->list, v->count, sizeof(key), order) : NULL;
}

void scan_volumes_parent(const struct scan_volumes *v, const char *stored, char *out)
{
	const char *from = path_base_name(stored), *group = v->group;
	char *to = out;

	snprintf(out, PATH_MAX, "%s", from);
	if (scan_volumes_find(v, out))
		return;
	for (; *group; group++, from++) {
		if (*from != *group || (*group == '-' && *++from != '-'))
			return; /* spelled otherwise: left as it is */
	}
	if (from[0] != '-' || from[1] == '-')
		return;
	for (from++; *from && to - out < PATH_MAX - 1; from++) {
		*to++ = *from;
		if (from[0] == '-' && from[1] == '-')
			from++;
	}
	*to = '\0';
}
