/* findings.h - what check, repair and salvage print alike */
#ifndef VHD_UTIL_FINDINGS_H
#define VHD_UTIL_FINDINGS_H

#include "cli/print.h"

/* A finding as an object in a list of them. */
void finding_print_json(struct print_json *j, const struct vhd_finding *f);

/* Ranges of a disk, kept until it is their turn. */
struct ranges {
	struct vhd_lost *list; /* owned */
	size_t count, room;
	size_t dropped; /* no memory for them */
};
void ranges_add(struct ranges *r, const struct vhd_lost *range);
void ranges_release(struct ranges *r);
/* All of them: a line each, or as list "lost" of @j. */
void ranges_print(const struct ranges *r, const char *path, struct print_json *j);

#endif
