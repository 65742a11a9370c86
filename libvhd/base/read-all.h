/* read-all.h - a descriptor to its end */
#ifndef BASE_READ_ALL_H
#define BASE_READ_ALL_H

#include <stddef.h>
#include <sys/types.h>

/* Up to @room bytes, fewer only at the end; signals do not stop it.  Their number, or -errno. */
ssize_t read_all(int fd, void *buf, size_t room);

#endif
