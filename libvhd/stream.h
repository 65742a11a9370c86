/* stream.h - bytes in order: pipes and gzip files, in and out
 *
 * The only home of zlib's file functions.  Input that is gzip is recognised by
 * its first bytes, whatever its name.
 */
#ifndef VHD_STREAM_H
#define VHD_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "vhd.h"

struct stream;

/* Read from @fd (ownership passes on success), which is called @name in messages. */
VHD_MUST int stream_reader(int fd, const char *name, struct stream **out, struct vhd_error *err);
/* Fill @buf: returns the bytes read, fewer than @length only at the end. */
VHD_MUST int stream_read(struct stream *s, void *buf, size_t length, struct vhd_error *err);

/* Write to @fd (ownership passes on success), compressed or as it is. */
VHD_MUST int stream_writer(int fd, const char *name, bool gzip, struct stream **out,
			   struct vhd_error *err);
VHD_MUST int stream_write(struct stream *s, const void *buf, size_t length, struct vhd_error *err);
VHD_MUST int stream_zeros(struct stream *s, unsigned long long length, struct vhd_error *err);

/* Flushes what is written; the stream is gone whatever is returned.  NULL is fine. */
int stream_close(struct stream *s, struct vhd_error *err);

#endif
