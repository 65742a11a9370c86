/* convert.h - what the files of conversion share
 *
 *   convert.c         what is asked: formats, presets, sizes
 *   convert-file.c    a disk that can be read anywhere into a file or device, by several threads
 *   convert-source.c  what of a disk is to be copied
 *   convert-dynamic.c the table and the bitmaps of a new dynamic image
 *   convert-stream.c  a disk into a pipe, in order
 *   convert-pipe.c    a pipe into a file
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
	bool in_place; /* it has its name already (a device, an empty file): the footers come last,
			* after a sync, so that a crash leaves no image rather than half of one */
};

/* The whole of @chain into the empty file or the device behind @io.  What lies behind the source's
 * end is zero.  Not synced. */
VHD_MUST int convert_to_file(struct vhd_chain *chain, struct vhd_io *io,
			     struct convert_target *target, const struct vhd_progress *progress,
			     struct vhd_convert_result *result, struct vhd_error *err);

/* The same in order.  Dynamic: the disk is looked through before. */
VHD_MUST int convert_to_stream(struct vhd_chain *chain, struct stream *out,
			       const struct convert_target *target,
			       const struct vhd_progress *progress,
			       struct vhd_convert_result *result, struct vhd_error *err);

/* The first bytes of a stream, read already. */
struct convert_head {
	uint8_t bytes[VHD_FOOTER_BYTES];
	size_t length;
};

/* Makes the target for a disk of @size bytes.  Errors are told in @err. */
struct convert_maker {
	int (*make)(void *arg, uint64_t size, struct convert_target *target, struct vhd_error *err);
	void *arg;
};

/* A raw disk of @size bytes was written to a device: an older image's footer in its last sector
 * would make another disk of it. */
VHD_MUST int convert_forget_footer(struct vhd_io *io, uint64_t size);

/* A stream of unknown length into the empty file or the device behind @io, @dynamic or as it
 * comes; zeros become holes.  A fixed VHD's footer at its end is taken off unless @raw.
 * The stream must not be another VHD.  Not synced. */
VHD_MUST int convert_from_pipe(struct stream *in, const struct convert_head *head, bool raw,
			       struct vhd_io *io, bool dynamic, const struct convert_maker *maker,
			       const struct vhd_progress *progress,
			       struct vhd_convert_result *result, struct vhd_error *err);

/* The same into another stream, raw or fixed. */
VHD_MUST int convert_pipe_through(struct stream *in, const struct convert_head *head, bool raw,
				  struct stream *out, const char *name,
				  const struct convert_maker *maker,
				  const struct vhd_progress *progress,
				  struct vhd_convert_result *result, struct vhd_error *err);

/* All bytes of a stream into the empty file behind @io. */
VHD_MUST int convert_to_temp(struct stream *in, const struct convert_head *head, struct vhd_io *io,
			     const struct vhd_progress *progress, struct vhd_error *err);

#endif
