/* convert.h - what the files of conversion share
 *
 *   convert.c         what is asked: formats, presets, sizes
 *   convert-file.c    a disk that can be read anywhere into a file or device, by several threads
 *   convert-stream.c  pipes and gzip, in order
 */
#ifndef VHD_CONVERT_H
#define VHD_CONVERT_H

#include "chain.h"
#include "plan.h"
#include "stream.h"

struct convert_target {
	enum vhd_format format; /* RAW, FIXED or DYNAMIC */
	uint64_t size;		/* virtual bytes, at least the source's; a multiple of 512 */
	struct plan plan;	/* FIXED: its footer; DYNAMIC: all */
};

/* The whole of @chain into the empty file or the device behind @io.  What lies behind the source's
 * end is zero.  Not synced. */
VHD_MUST int convert_to_file(struct vhd_chain *chain, struct vhd_io *io,
			     struct convert_target *target, const struct vhd_progress *progress,
			     struct vhd_convert_result *result, struct vhd_error *err);

/* The same in order: raw and fixed. */
VHD_MUST int convert_to_stream(struct vhd_chain *chain, struct stream *out,
			       const struct convert_target *target,
			       const struct vhd_progress *progress,
			       struct vhd_convert_result *result, struct vhd_error *err);

/* All bytes of a file into a stream. */
VHD_MUST int convert_send_file(struct vhd_io *io, struct stream *out,
			       const struct vhd_progress *progress, struct vhd_error *err);

/* A stream of unknown length into the empty file behind @io, zeros as holes; *bytes: its
 * length.  A fixed VHD's footer at the end is taken off unless @raw: *bytes is then the
 * disk's. */
VHD_MUST int convert_receive(struct stream *in, bool raw, struct vhd_io *io, uint64_t *bytes,
			     const struct vhd_progress *progress, struct vhd_error *err);

#endif
