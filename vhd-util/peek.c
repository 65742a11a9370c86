/* peek.c - looking at one image: no locks, nothing changed, its parents left alone */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/error.h"
#include "libvhd/io-file.h"
#include "peek.h"

/* The directory part is resolved; the name itself is kept, even if it is a link: links in
 * /dev/VG are how logical volumes call each other. */
static int absolute_name(const char *path, char **out)
{
	const char *slash = strrchr(path, '/');
	CLEANUP_FREE char *directory = NULL;
	CLEANUP_FREE char *real = NULL;

	if (!slash)
		directory = strdup(".");
	else
		directory = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	if (!directory)
		return -ENOMEM;
	real = realpath(directory, NULL);
	if (!real)
		return -errno;
	if (asprintf(out, "%s/%s", strcmp(real, "/") ? real : "", slash ? slash + 1 : path) < 0)
		return -ENOMEM;
	return 0;
}

int peek_open(const char *path, unsigned flags, struct vhd_image **out, struct vhd_error *err)
{
	CLEANUP_FREE char *name = NULL;
	struct vhd_io *io = NULL;
	int rc;

	rc = absolute_name(path, &name);
	if (rc < 0)
		return error_system(err, rc, "open", path);
	rc = io_file_open(name, 0, &io, err);
	if (rc < 0)
		return rc;
	rc = image_open(io, flags | IMAGE_PEEK | IMAGE_ALLOW_POISONED, out, err);
	if (rc < 0)
		io_close(io);
	return rc;
}

void peek_close(struct vhd_image **image)
{
	image_close(*image);
	*image = NULL;
}

char *peek_directory(const struct vhd_image *image)
{
	const char *name = image->io->name;
	const char *slash = strrchr(name, '/');

	return slash == name ? strdup("/") : strndup(name, (size_t)(slash - name));
}

static const struct {
	unsigned problem;
	struct peek_problem says;
} problem_table[] = {
	{ IMAGE_POISONED,
	  { -VHD_E_POISONED, VHD_DAMAGE,
	    "a journalled resize is under way or was interrupted; vhd-util revert undoes it" } },
	{ IMAGE_FOOTERS_DIFFER,
	  { -VHD_E_FOOTERS_DIFFER, VHD_DAMAGE,
	    "its two footers contradict each other; the one at the end is used" } },
	{ IMAGE_BAT_FAULTS,
	  { -VHD_E_BAT_ENTRY, VHD_DAMAGE,
	    "some entries of its block table are wrong; vhd-util check lists them" } },
	{ IMAGE_TORN_FOOTER,
	  { -VHD_E_FOOTER_MISSING, VHD_WARNING,
	    "its end footer is marked as open: in use elsewhere, or not closed" } },
	{ IMAGE_END_FOOTER_BAD,
	  { -VHD_E_FOOTER_MISSING, VHD_WARNING,
	    "its footer at the end is missing or damaged; the copy at the start is used" } },
	{ IMAGE_COPY_BAD,
	  { -VHD_E_FOOTER_MISSING, VHD_WARNING,
	    "the copy of its footer at the start is damaged; the one at the end is used" } },
	{ IMAGE_BATMAP_BAD,
	  { -VHD_E_BATMAP, VHD_WARNING, "its batmap is damaged and is ignored" } },
	{ IMAGE_NO_BATMAP,
	  { -VHD_E_BATMAP, VHD_WARNING,
	    "its creator writes a batmap, and another program left it out; the next writer says so "
	    "in its footers" } },
	{ IMAGE_TRAILING_BYTES,
	  { -VHD_E_TRAILING, VHD_WARNING, "there are bytes that belong to nothing in it" } },
	{ IMAGE_GROWTH_HALF,
	  { -VHD_E_FOOTERS_DIFFER, VHD_WARNING,
	    "its two footers differ in the disk's size, a growth stopped between them; the larger "
	    "one is used, the next writer makes them equal" } },
	{ IMAGE_FOOTERS_BENIGN,
	  { -VHD_E_FOOTERS_DIFFER, VHD_NOTE,
	    "its two footers differ in a way that the next writer heals" } },
	{ IMAGE_SHORT_FOOTER,
	  { -VHD_E_FOOTER_FIELD, VHD_NOTE,
	    "its footer has 511 bytes, as very old products wrote it" } },
};

unsigned peek_problems(const struct vhd_image *image, struct peek_problem out[PEEK_PROBLEMS_MAX])
{
	unsigned count = 0;

	_Static_assert(sizeof(problem_table) / sizeof(problem_table[0]) <= PEEK_PROBLEMS_MAX,
		       "room for all problems");
	for (size_t k = 0; k < sizeof(problem_table) / sizeof(problem_table[0]); k++) {
		/* an end footer that is marked is also a bad one: said once */
		if (problem_table[k].problem == IMAGE_END_FOOTER_BAD &&
		    (image->problems & IMAGE_TORN_FOOTER))
			continue;
		/* and so is the difference of footers that a growth left */
		if (problem_table[k].problem == IMAGE_FOOTERS_BENIGN &&
		    (image->problems & IMAGE_GROWTH_HALF))
			continue;
		if (image->problems & problem_table[k].problem)
			out[count++] = problem_table[k].says;
	}
	return count;
}

bool peek_warn(const struct vhd_image *image)
{
	struct peek_problem list[PEEK_PROBLEMS_MAX];
	struct vhd_error warning = { 0 };

	if (!peek_problems(image, list) || list[0].severity == VHD_NOTE)
		return false;
	error_set(&warning, list[0].code, "'%s': %s", image->io->name, list[0].text);
	print_warning(&warning);
	return true;
}

const char *peek_type_name(enum vhd_type type)
{
	switch (type) {
	case VHD_TYPE_FIXED:
		return "fixed";
	case VHD_TYPE_DYNAMIC:
		return "dynamic";
	case VHD_TYPE_DIFFERENCING:
		return "differencing";
	default:
		return "raw";
	}
}
