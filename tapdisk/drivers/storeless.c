/* storeless.c - what disks in memory and null disks have in common */
#include "storeless.h"

void storeless_quiesce(struct disk *disk, void (*done)(void *arg, int err), void *arg)
{
	(void)disk;
	done(arg, 0);
}

int storeless_park(struct disk *disk, struct vhd_error *err)
{
	(void)disk;
	(void)err;
	return 0;
}

void storeless_stop(struct disk *disk)
{
	(void)disk;
}
