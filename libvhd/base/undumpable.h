/* undumpable.h - a process that holds a secret keeps to itself */
#ifndef BASE_UNDUMPABLE_H
#define BASE_UNDUMPABLE_H

#include <sys/prctl.h>
#include <sys/resource.h>

/* No core dump, and no other process of its user may look into it.  Copies of secrets are where
 * libraries put them, so it is all of the process. */
static inline void process_undumpable(void)
{
	const struct rlimit none = { 0, 0 };

	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_DUMPABLE, 0);
}

#endif
