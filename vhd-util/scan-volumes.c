/* scan-volumes.c - the logical volumes of a group, as lvs tells them
 *
 * Volumes are read through their nodes, /dev/GROUP/NAME.  Those that are not active, as most of a
 * storage manager's are, have none: where they lie on the physical volumes is asked for then.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvhd/base/number.h"
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

static void forget_segments(struct scan_volume *volume)
{
	for (unsigned k = 0; k < volume->segment_count; k++)
		free(volume->segments[k].device);
	free(volume->segments);
	volume->segments = NULL;
	volume->segment_count = 0;
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
		forget_segments(&v->list[i]);
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

/* ── lines of LVM's programs ── */

static int volume_line(void *arg, char **fields, unsigned count)
{
	char *path = count > 1 ? fields[1] : fields[0] + strcspn(fields[0], " \t");

	/* an lvs that knows no separators puts blanks */
	if (count == 1 && *path) {
		*path++ = '\0';
		path += strspn(path, " \t");
		path[strcspn(path, " \t")] = '\0';
	}
	return name_is_sound(fields[0]) ? add(arg, fields[0], path) : 0;
}

/* "PATH(EXTENT)": the device, and the first extent of the segment on it. */
static bool parse_device(char *text, uint64_t *extent)
{
	char *open = strrchr(text, '('), *end = open ? strchr(open, ')') : NULL;

	if (!end || end[1] || *text != '/')
		return false;
	*end = *open = '\0';
	return number_parse(open + 1, extent);
}

/* Name, type, bytes in the volume before the segment, bytes, bytes of an extent, devices: a segment
 * whose place is counted in extents.  Other types than linear are left alone. */
static int segment_line(void *arg, char **f, unsigned count)
{
	struct scan_volumes *v = arg;
	struct scan_volume *volume = count == 6 ? (struct scan_volume *)scan_volumes_find(v, f[0]) :
						  NULL;
	struct scan_segment *list, new = { 0 };
	uint64_t before, extent_bytes, extent, known = 0;

	if (!volume || access(volume->path, F_OK) == 0)
		return 0;
	for (unsigned i = 0; i < volume->segment_count; i++)
		known += volume->segments[i].length;
	if (strcmp(f[1], "linear") != 0 || !number_parse(f[2], &before) || before != known ||
	    !number_parse(f[3], &new.length) || !number_parse(f[4], &extent_bytes) ||
	    !parse_device(f[5], &extent) || !number_mul(extent, extent_bytes, &new.start) ||
	    !number_add(known, new.length, &known))
		return 0;
	new.device = strdup(f[5]);
	list = realloc(volume->segments, (volume->segment_count + 1) * sizeof(*list));
	if (list)
		volume->segments = list;
	if (!list || !new.device) {
		free(new.device);
		return -ENOMEM;
	}
	list[volume->segment_count++] = new;
	return 0;
}

/* Device, bytes before its first extent. */
static int physical_line(void *arg, char **f, unsigned count)
{
	struct scan_volumes *v = arg;
	uint64_t first;

	if (count != 2 || !number_parse(f[1], &first))
		return 0;
	for (size_t i = 0; i < v->count; i++) {
		for (unsigned k = 0; k < v->list[i].segment_count; k++) {
			struct scan_segment *s = &v->list[i].segments[k];

			/* a second line for it would move it again */
			if (s->placed || strcmp(s->device, f[0]) != 0)
				continue;
			s->placed = number_add(s->start, first, &s->start);
		}
	}
	return 0;
}

static bool is_placed(const struct scan_volume *volume)
{
	for (unsigned k = 0; k < volume->segment_count; k++)
		if (!volume->segments[k].placed)
			return false;
	return true;
}

/* Where volumes without a node lie.  What cannot be found out is left unknown. */
static int locate(struct scan_volumes *v)
{
	const char *const segments[] = {
		"lvs",
		"--noheadings",
		"--separator",
		"|",
		"--units",
		"b",
		"--nosuffix",
		"-o",
		"lv_name,segtype,seg_start,seg_size,vg_extent_size,devices",
		v->group,
		NULL,
	};
	const char *const physical[] = {
		"pvs",	      "--noheadings", "--separator",	  "|",	"--units", "b",
		"--nosuffix", "-o",	      "pv_name,pe_start", NULL,
	};
	bool all = true;
	int rc;

	for (size_t i = 0; i < v->count; i++)
		all = all && access(v->list[i].path, F_OK) == 0;
	if (all)
		return 0;
	rc = scan_lvm(segments, segment_line, v);
	if (rc == 0)
		rc = scan_lvm(physical, physical_line, v);
	for (size_t i = 0; i < v->count; i++)
		if (rc || !is_placed(&v->list[i]))
			forget_segments(&v->list[i]);
	return rc == -ENOMEM ? rc : 0;
}

int scan_volumes_load(const char *group, struct scan_volumes *v, struct vhd_error *err)
{
	const char *const argv[] = {
		"lvs", "--noheadings", "--separator", "|", "-o", "lv_name,lv_path", group, NULL,
	};
	int rc;

	memset(v, 0, sizeof(*v));
	v->group = group;
	if (!name_is_sound(group))
		return error_set(err, -EINVAL,
				 "cannot scan '%s': that is no name of a volume group", group);
	rc = scan_lvm(argv, volume_line, v);
	if (rc == -ENOENT)
		return error_set(err, rc,
				 "cannot list the volumes of '%s': there is no lvs; install lvm2",
				 group);
	if (rc > 0)
		return error_set(
			err, -ENOENT,
			"cannot list the volumes of '%s': lvs failed (status %d); does the "
			"group exist?",
			group, rc);
	if (rc == 0 && v->count)
		qsort(v->list, v->count, sizeof(*v->list), order);
	if (rc == 0)
		rc = locate(v);
	return rc < 0 ? error_system(err, rc, "list the volumes of", group) : 0;
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
