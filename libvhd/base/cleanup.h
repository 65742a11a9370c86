/* cleanup.h - release local resources when their scope ends
 *
 * CLEANUP_FREE char *p = malloc(n);	freed on every return
 * CLEANUP_FD int fd = open(...);	closed on every return, -1 is ignored
 * return steal_ptr(&p);		hands the resource on: p becomes NULL
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_fd(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define CLEANUP_FREE __attribute__((cleanup(cleanup_free)))
#define CLEANUP_FD   __attribute__((cleanup(cleanup_fd)))
#define CLEANUP(fn)  __attribute__((cleanup(fn)))

#define steal_ptr(pp)                              \
	({                                         \
		__typeof__(*(pp)) stolen_ = *(pp); \
		*(pp) = NULL;                      \
		stolen_;                           \
	})

static inline int steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

#endif
