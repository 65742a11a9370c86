/* types.h - the types of disks, for the table, filters, and tests */
#ifndef TAPDISK_TYPES_H
#define TAPDISK_TYPES_H

#include "driver.h"

/* ── rows of disk_types: open functions ── */

int raw_disk_open(const char *path, const struct disk_params *params, struct disk **out,
		  struct vhd_error *err);
int ram_disk_open(const char *size, const struct disk_params *params, struct disk **out,
		  struct vhd_error *err);
int null_disk_open(const char *size, const struct disk_params *params, struct disk **out,
		   struct vhd_error *err);
int log_disk_open(const char *argument, const struct disk_params *params, struct disk **out,
		  struct vhd_error *err);
int fault_disk_open(const char *argument, const struct disk_params *params, struct disk **out,
		    struct vhd_error *err);

/* ── from what is open already (tests/sim) ── */

struct vhd_io;
/* A raw disk over @io, which passes on success.  @file: its engine file, borrowed; NULL: of
 * the io's descriptor, at start. */
int raw_disk_wrap(struct vhd_io *io, struct engine_file *file, const struct disk_params *params,
		  struct disk **out, struct vhd_error *err);
/* ── arguments (table.c) ── */

/* "64M" to bytes, a multiple of 512, not 0.  -VHD_E_ARGUMENT. */
int disk_size_argument(const char *text, uint64_t *out, struct vhd_error *err);
/* The spec of the disk below in a filter's @argument; NULL: there is none.  *own: length of what
 * comes before the comma. */
const char *disk_spec_below(const char *argument, size_t *own);

#endif
