/* served.h - what the tapdisks of some run directories serve, as they said when asked */
#ifndef XMSNAP_SERVED_H
#define XMSNAP_SERVED_H

#include <jansson.h>
#include <limits.h>

#include "domain.h"

struct served {
	json_t *all;	 /* owned: {"dir", "pid", "disk": what List said} of each disk */
	unsigned silent; /* tapdisks that did not answer */
};

/* Ask the tapdisks of each of @dirs (NULL-terminated). */
VHD_MUST int served_read(const char *const *dirs, unsigned wait_ms, struct served *out,
			 struct vhd_error *err);
void served_release(struct served *served);

struct served_match {
	const char *dir; /* borrowed from the struct served */
	int pid;
	unsigned minor;
	char leaf[PATH_MAX]; /* the image's file: absolute, no symbolic links */
};
/* Who serves @disk, as a VHD that can be snapshotted?  The error is a sentence about the disk:
 *   -ENODEV		  nobody
 *   -VHD_E_UNSUPPORTED	  it is no VHD, is on a device, is shareable or transient; or the export
 *			  is not told where there are several
 *   -EROFS		  served read-only
 *   -EBUSY		  not running */
VHD_MUST int served_find(const struct served *served, const struct domain_disk *disk,
			 struct served_match *out, struct vhd_error *err);

#endif
