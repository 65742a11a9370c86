/* scan.h - what the files of the command scan share
 *
 *   cmd-scan.c      options; what is done with each image as it comes
 *   scan-names.c    which images: files, a glob, directories, volumes, parents
 *   scan-volumes.c  the logical volumes of a group, as lvs tells them
 *   scan-lvm.c      what LVM's programs print; volumes read without a node
 *   scan-list.c     all images kept: who is whose parent, and what is odd about it
 *   scan-print.c    one image as a line, in a tree, as JSON
 */
#ifndef VHD_UTIL_SCAN_H
#define VHD_UTIL_SCAN_H

#include "cli/print.h"
#include "libvhd/scan.h"

/* ── volumes ── */

struct scan_segment {		/* a piece of a volume on a physical one */
	char *device;		/* owned */
	uint64_t start, length; /* bytes, on the device */
	bool placed;		/* start is complete */
};
struct scan_volume {
	char *name, *path; /* owned */
	/* of one that has no node: where it lies, in order; 0: not known */
	unsigned segment_count;
	struct scan_segment *segments; /* owned */
};
struct scan_volumes {
	const char *group; /* borrowed */
	size_t count;
	struct scan_volume *list; /* owned; by name */
};
/* Ask lvs for the volumes of @group; and where those that are not active lie. */
VHD_MUST int scan_volumes_load(const char *group, struct scan_volumes *out, struct vhd_error *err);
void scan_volumes_release(struct scan_volumes *volumes);
const struct scan_volume *scan_volumes_find(const struct scan_volumes *volumes, const char *name);
/* The volume that a parent's stored name means: of a path the last part, and the device mapper's
 * spelling (GROUP-NAME with doubled dashes) undone.  @out has PATH_MAX bytes. */
void scan_volumes_parent(const struct scan_volumes *volumes, const char *stored, char *out);
/* Open one for reading: its node, or the physical volumes below; named as the node. */
VHD_MUST int scan_volume_open(const struct scan_volume *volume, struct vhd_io **out,
			      struct vhd_error *err);

/* Run a program of LVM and pass each line of its output on, cut at "|".  Its exit status, or
 * -errno; -ENOENT: there is no such program. */
VHD_MUST int scan_lvm(const char *const *argv,
		      int (*line)(void *arg, char **fields, unsigned count), void *arg);
#define SCAN_LVM_FIELDS 8u

/* ── names ── */

struct scan_wish {
	char **files;
	int count;
	const char *match;		    /* a glob, or NULL */
	bool recursive;			    /* directories are walked */
	bool parents;			    /* scan_names_add_parent will be called */
	const struct scan_volumes *volumes; /* names and globs are of these; NULL: of files */
};
struct scan_names;
VHD_MUST int scan_names_open(const struct scan_wish *wish, struct scan_names **out,
			     struct vhd_error *err);
void scan_names_close(struct scan_names *names);
/* As vhd_scan_options.next. */
bool scan_names_next(struct scan_names *names, struct vhd_scan_name *out);
/* An image was told.  False: it is none, and was named by walking a directory only. */
bool scan_names_told(struct scan_names *names, const struct vhd_scan_image *image);
/* Visit the parent of @image, unless it is or was visited already: 1 when it must be told as
 * failing instead, as it was not found.  0, or -ENOMEM. */
VHD_MUST int scan_names_add_parent(struct scan_names *names, const struct vhd_scan_image *image);

/* ── images kept ── */

enum scan_problem {
	SCAN_PARENT_MISSING = 1 << 0,	/* not where it should be */
	SCAN_PARENT_WRONG = 1 << 1,	/* what is there is another image, or cannot be used */
	SCAN_PARENT_AMBIGUOUS = 1 << 2, /* several images of the scan have the id it must have */
	SCAN_PARENT_OUTSIDE = 1 << 3,	/* sound, but not among the images of the scan */
	SCAN_DUPLICATE_ID = 1 << 4,	/* another image has the same id */
	SCAN_CYCLE = 1 << 5,		/* it is its own ancestor */
};

struct scan_record {
	char *name, *path, *parent; /* owned */
	char *error;		    /* owned; text; NULL: none */
	int error_code;
	enum vhd_type type;
	uint64_t size, file_size;
	bool hidden, has_marker, has_keyhash, has_parent_error;
	uint8_t marker, keyhash[32];
	uint8_t id[16], parent_id[16];
	uint64_t device, inode, parent_device, parent_inode;
	unsigned problems;			 /* enum scan_problem */
	struct scan_record *up;			 /* its parent among the records */
	struct scan_record *child, *next, *last; /* its children; the next of its own parent */
	bool printed;
};
struct scan_list {
	size_t count, room;
	struct scan_record **records; /* owned; in the order of the scan */
	const struct scan_volumes *volumes;
};
/* The image's data as a record whose texts are borrowed. */
struct scan_record scan_record_of(const struct vhd_scan_image *image);
VHD_MUST int scan_list_add(struct scan_list *list, const struct vhd_scan_image *image);
/* Find out who is whose parent and what is odd.  @tree: also order the records by path, and the
 * children of each. */
VHD_MUST int scan_list_link(struct scan_list *list, bool tree);
void scan_list_release(struct scan_list *list);

/* ── printing ── */

struct scan_style {
	bool full_names, markers;
};
/* "vhd=NAME capacity=… parent=NAME", @indent spaces before, @mark behind. */
void scan_print_line(const struct scan_style *style, const struct scan_record *r, unsigned indent,
		     const char *mark);
void scan_print_tree(const struct scan_style *style, struct scan_list *list);
void scan_print_json(const struct scan_style *style, const struct scan_list *list);

#endif
