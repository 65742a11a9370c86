/* scan.h - one image looked at, for scan.c; and where it is, when not at a path */
#ifndef VHD_SCAN_H
#define VHD_SCAN_H

#include "io.h"

/* Names that are not paths: volumes that have no node. */
struct scan_opener {
	/* As io_file_open for reading; called from several threads. */
	int (*open)(void *arg, const char *name, struct vhd_io **out, struct vhd_error *err);
	void *arg;
};

/* As vhd_scan; @opener may be NULL.  With one, parents are not sought: told as stored, or, if
 * options->brief, by the name in the header. */
VHD_MUST int scan_run(const struct vhd_scan_options *options, const struct scan_opener *opener,
		      struct vhd_error *err);

/* What the threads that look at images share and have. */
struct scan_looker {
	const struct vhd_scan_options *options;
	const struct scan_opener *opener;
	unsigned patience; /* how many images more may be waited for */
};
#define SCAN_PATIENCE 12u

/* Look at one image.  All texts and errors of @out are its own, whatever is found. */
void scan_look(struct scan_looker *looker, const struct vhd_scan_name *name,
	       struct vhd_scan_image *out);
void scan_image_release(struct vhd_scan_image *image);

#endif
