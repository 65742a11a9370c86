/* state-place.c - see state-place.h */
#include "state-place.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/number.h"

static bool is_zero_id(const uint8_t *id)
{
	static const uint8_t none[VHD_UUID_BYTES];

	return !memcmp(id, none, sizeof(none));
}

/* For devices. */
static int state_directory(char *out, size_t room)
{
	const char *directory = secure_getenv("VHD_STATE_DIR"), *runtime;
	int n;

	if (!directory)
		directory = secure_getenv("TAPDISK_RUN_DIR");
	runtime = secure_getenv("XDG_RUNTIME_DIR");
	if (directory)
		n = snprintf(out, room, "%s", directory);
	else if (geteuid() && runtime)
		n = snprintf(out, room, "%s/blktap-control", runtime);
	else
		n = snprintf(out, room, "/run/blktap-control");
	return n < 0 || (size_t)n >= room ? -ENAMETOOLONG : 0;
}

static int on_device(const char *name, const uint8_t *id, char *out, size_t room)
{
	char directory[PATH_MAX], leaf[PATH_MAX];
	int rc = state_directory(directory, sizeof(directory)), n;

	if (rc < 0)
		return rc;
	if (is_zero_id(id)) {
		snprintf(leaf, sizeof(leaf), "%s", name[0] == '/' ? name + 1 : name);
		for (char *p = leaf; *p; p++)
			*p = *p == '/' ? '!' : *p;
	} else {
		number_hex(id, VHD_UUID_BYTES, leaf);
	}
	n = snprintf(out, room, "%s/%s", directory, leaf);
	return n < 0 || (size_t)n >= room ? -ENAMETOOLONG : 0;
}

int state_place(const struct vhd_io *image, const uint8_t id[VHD_UUID_BYTES], char **out)
{
	CLEANUP_FREE char *real = realpath(image->name, NULL);
	char path[PATH_MAX];
	int rc;

	if (!real)
		return -errno;
	if (!image->device) {
		*out = steal_ptr(&real);
		return 0;
	}
	rc = on_device(real, id, path, sizeof(path));
	if (rc < 0)
		return rc;
	*out = strdup(path);
	return *out ? 0 : -ENOMEM;
}

void state_place_make(const struct vhd_io *image, const char *path)
{
	char directory[PATH_MAX];
	const char *slash = strrchr(path, '/');

	if (!image->device || !slash)
		return;
	snprintf(directory, sizeof(directory), "%.*s", (int)(slash - path), path);
	(void)!mkdir(directory, 0700);
}
