/* io-file-private.h - what the files of the io-file room share
 *
 *   io-file.c       opening, size, sync, locks
 *   io-file-data.c  reading, writing, clearing, finding data
 */
#ifndef VHD_IO_FILE_PRIVATE_H
#define VHD_IO_FILE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "io-file.h"

#define IO_FILE_ALIGN 4096u /* of direct I/O where nobody tells */

struct io_file {
	struct vhd_io io;
	int fd;		 /* owned */
	char *name;	 /* owned; io.name */
	uint32_t align;	 /* of direct I/O, offset and memory; 1: buffered */
	uint32_t unit;	 /* of fallocate: align; of a device whole pages */
	atomic_bool cut; /* truncated since the last sync */
	pthread_rwlock_t direct_lock;
};

static inline struct io_file *io_file_of(struct vhd_io *io)
{
	return (struct io_file *)io;
}

/* Rows of the table in io.h. */
int io_file_size(struct vhd_io *io, uint64_t *bytes);
int io_file_read(struct vhd_io *io, void *buf, size_t length, uint64_t offset);
int io_file_write(struct vhd_io *io, const void *buf, size_t length, uint64_t offset);
int io_file_punch(struct vhd_io *io, uint64_t offset, uint64_t length);
int io_file_zero(struct vhd_io *io, uint64_t offset, uint64_t length);
int io_file_data(struct vhd_io *io, uint64_t offset, uint64_t *start, uint64_t *end);

#endif
