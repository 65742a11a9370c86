/* storeless.h - life of disks that have no storage: nothing to commit, lock or stop */
#ifndef TAPDISK_STORELESS_H
#define TAPDISK_STORELESS_H

#include "driver.h"

/* Rows of struct disk_ops; storeless_park is unpark too. */
void storeless_quiesce(struct disk *disk, void (*done)(void *arg, int err), void *arg);
int storeless_park(struct disk *disk, struct vhd_error *err);
void storeless_stop(struct disk *disk);

#endif
