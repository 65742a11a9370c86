/* export.h - taking the archive of a chain apart, member by member
 *
 * What comes is somebody else's: only plain files with plain names, each once, are taken; every
 * number is checked; the hash at the end must be that of all before it, and must be there.
 */
#ifndef VHD_EXPORT_H
#define VHD_EXPORT_H

#include "stream.h"
#include "tar.h"

#define EXPORT_HASH_NAME "SHA256"
#define EXPORT_FILES_MAX 256u	      /* images of a chain */
#define EXPORT_SIZE_MAX	 (1ull << 42) /* bytes of a file */

/* Where the files go.  Each returns 0, or negative with @err filled. */
struct unpack_sink {
	/* A file of @size bytes, of which nothing but what is written has to be stored. */
	int (*begin)(void *arg, const char *name, uint64_t size, uint64_t mtime,
		     struct vhd_error *err);
	int (*write)(void *arg, const void *data, size_t length, uint64_t offset,
		     struct vhd_error *err);
	int (*end)(void *arg, struct vhd_error *err);
	void *arg;
};

/* Read an archive to its end and verify it.  *bytes: how much came.  Errors: VHD_E_ARCHIVE (not
 * such an archive, cut off or corrupted), VHD_E_CANCELLED, and those of the stream and the sink. */
VHD_MUST int unpack(struct stream *in, const char *name, const struct unpack_sink *sink,
		    const struct vhd_progress *progress, uint64_t *bytes, struct vhd_error *err);

#endif
