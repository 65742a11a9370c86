/* holder.h - which process holds a byte-range lock
 *
 * An OFD lock has no process id: the kernel shows it only in the fdinfo of the
 * descriptors that share it.
 */
#ifndef VHD_HOLDER_H
#define VHD_HOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOLDER_SELF "this process"

/* Look for a process, other than through our own descriptor @fd, that has the file behind
 * @fd open with an OFD lock that shares a byte with [start, start + length) and is
 * exclusive, or @exclusive is.  Writes "NAME (pid N)" into @buf of @room bytes,
 * HOLDER_SELF when there is none but this process through another descriptor, or "" when none is
 * found (another host, no permission to look, or it has just ended). */
void holder_find(int fd, bool exclusive, uint64_t start, uint64_t length, char *buf, size_t room);

#endif
