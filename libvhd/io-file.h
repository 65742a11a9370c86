/* io-file.h - files and block devices as storage of images */
#ifndef VHD_IO_FILE_H
#define VHD_IO_FILE_H

#include "io.h"

enum io_file_flags {
	IO_FILE_WRITE = 1 << 0,
	IO_FILE_CREATE = 1 << 1, /* must not exist: O_EXCL, mode 0666 & ~umask */
	IO_FILE_DIRECT = 1 << 2, /* O_DIRECT; silently buffered where refused */
};

/* What a file adds to the promises of io.h: O_DIRECT takes any alignment (unaligned memory
 * is bounced, partial sectors go through the page cache and are written back at once);
 * sector_bytes is then the alignment direct I/O wants.  A block device cannot be truncated:
 * sizes up to its own are taken and change nothing, larger ones are -ENOSPC.  Of the several
 * nodes a device may have, the kernel's own (/dev/NAME of sysfs) is opened, so that locks of
 * all users meet.  Exclusive locks need io->writable (-EBADF). */

/* Open @path.  Symbolic links are followed.  O_NONBLOCK until it is known to
 * be a regular file or block device: anything else (directory, FIFO, socket, char device)
 * is -VHD_E_NOT_FILE.  O_CLOEXEC always.  @name for messages is a copy of @path.
 * A file opened for writing that is read-only: -EACCES / -EROFS as given. */
int io_file_open(const char *path, unsigned flags, struct vhd_io **out, struct vhd_error *err);

/* Wrap an open descriptor (ownership passes on success only), named @name. */
int io_file_from_fd(int fd, const char *name, unsigned flags, struct vhd_io **out,
		    struct vhd_error *err);

/* The same file once more, with @flags of its own and none of the locks. */
int io_file_again(const struct vhd_io *io, unsigned flags, struct vhd_io **out);

/* The descriptor, borrowed; -1 if @io is not a file. */
int io_file_fd(const struct vhd_io *io);

/* The file was given another name: @name passes to @io. */
void io_file_set_name(struct vhd_io *io, char *name);

/* Nothing reaches the file behind @io's descriptor any more, by whomever: all that is done with it fails. */
int io_file_disown(struct vhd_io *io);

/* The descriptor of @io stands for what @fresh has open from now on, its locks included; @fresh is
 * gone in any case.  What was begun with the old one ends there. */
int io_file_replace(struct vhd_io *io, struct vhd_io *fresh);

/* Could a file be made there?  Nothing is.  0, -EEXIST, or what the directory refuses. */
int io_file_may_create(const char *path);

/* Make the directory entry of @path durable: fsync of its directory. */
int io_file_sync_directory(const char *path);

#endif
