/* relink.h - another parent for a differencing image, at one instant
 *
 *   whoever else writes the image is kept out (FLIP):
 *     texts, header at free places ─sync─► header's place in the copy at 0 ─sync─► at the end ─sync─►
 *     and once more, to the place behind the copy, if it is free: some programs look nowhere else
 *   beside a running server, which owns the end footer (BESIDE):
 *     texts, header at free places ─sync─► place in the copy at 0 ─sync─► header over the old one
 *     ─sync─► the copy as it was ─sync─►
 *
 * At every instant one header is whole and found, the old or the new one (ORDER 13).  Where all
 * that changes lies in one sector it is written at once.
 */
#ifndef VHD_RELINK_H
#define VHD_RELINK_H

#include "image.h"

struct relink_parent {
	uint8_t id[VHD_UUID_BYTES]; /* zero: raw */
	uint32_t timestamp;
	const char *path; /* POSIX, relative to the child's directory: "./p.vhd" */
};

enum relink_how { RELINK_NOTHING, RELINK_ONE_SECTOR, RELINK_FLIP, RELINK_BESIDE };

struct relink {
	enum relink_how how;
	struct vhd_header header;    /* the new one */
	uint64_t header_at;	     /* where it goes, or with BESIDE stands meanwhile */
	uint64_t footer_at;	     /* where the end footer goes first */
	uint8_t *text[VHD_LOCATORS]; /* owned; the room of each locator, padded with zeros */
};

/* What has to be written for @img to have this parent.  @img is loaded; with @beside somebody else
 * may be writing its data.  Locators keep their platform codes; those that cannot hold the path
 * (aliases, 8 bit texts) are dropped, and W2ru is always there.
 * Errors: VHD_E_NAME; VHD_E_BUSY (@beside: no room); ENOSPC (a device). */
VHD_MUST int relink_plan(struct vhd_image *img, const struct relink_parent *parent, bool beside,
			 struct relink *out, struct vhd_error *err);
/* After image_begin_write, unless beside. */
VHD_MUST int relink_write(struct vhd_image *img, const struct relink *r, struct vhd_error *err);
void relink_release(struct relink *r);

#endif
