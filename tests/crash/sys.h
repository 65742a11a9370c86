/* sys.h - the system calls and allocations of libvhd, which can be made to fail
 *
 * The linker sends every call that libvhd makes of the functions in part.mk (--wrap) to sys.c
 * and alloc.c.  They do the real thing, tell power.c, or fail as ordered.
 */
#ifndef TEST_CRASH_SYS_H
#define TEST_CRASH_SYS_H

#include <stdbool.h>

/* Call number @nth from now on (0: the next one) fails with EIO: once, or with @ever and all
 * after it, too.  A write that fails has written half of its sectors. */
void sys_fail(long nth, bool ever);
/* The same with ENOMEM for allocations, and EAGAIN for threads. */
void alloc_fail(long nth, bool ever);
/* For a while no system call is counted: whoever looks at what is going on makes them, too. */
void sys_pause(bool pause);
/* Nor any that power.c makes itself, on this thread. */
extern _Thread_local bool sys_inside;
/* No more.  Did one fail as ordered? */
bool sys_fail_end(void);
/* Was it a sync? */
bool sys_sync_failed(void);
bool alloc_fail_end(void);

/* Allocations not yet freed, and open descriptors. */
long alloc_live(void);
int sys_descriptors(void);

#endif
