/* convert-stream.c - disks through pipes, one piece after the other */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "convert.h"
#include "error.h"
#include "zeros.h"

#define PIECE_BYTES (1u << 20)
#define ZERO_GRAIN  (64u << 10)

static int step(const struct vhd_progress *p, uint64_t done, uint64_t total, const char *name,
		struct vhd_error *err)
{
	if (!p->step || !p->step(p->arg, done, total))
		return 0;
	return error_set(err, -VHD_E_CANCELLED, "conversion of '%s' was interrupted", name);
}

int convert_to_stream(struct vhd_chain *chain, struct stream *out,
		      const struct convert_target *target, const struct vhd_progress *progress,
		      struct vhd_convert_result *result, struct vhd_error *err)
{
	CLEANUP_FREE uint8_t *buf = malloc(PIECE_BYTES);
	uint64_t size = vhd_size(chain), at = 0;
	uint8_t footer[VHD_FOOTER_BYTES];
	int rc = 0;

	if (!buf)
		return error_system(err, -ENOMEM, "convert", chain->images[0]->io->name);
	while (at < size && !rc) {
		size_t n = number_min(size - at, PIECE_BYTES);

		rc = vhd_read(chain, buf, n, at, err);
		if (!rc)
			rc = stream_write(out, buf, n, err);
		at += n;
		if (!rc)
			rc = step(progress, at, size, chain->images[0]->io->name, err);
	}
	if (!rc)
		rc = stream_zeros(out, target->size - size, err);
	if (!rc && target->format == VHD_FORMAT_FIXED) {
		footer_encode(&target->plan.footer, footer);
		rc = stream_write(out, footer, sizeof(footer), err);
	}
	result->data_bytes = size;
	result->file_bytes = target->size +
			     (target->format == VHD_FORMAT_FIXED ? VHD_FOOTER_BYTES : 0);
	return rc;
}

int convert_send_file(struct vhd_io *io, struct stream *out, const struct vhd_progress *progress,
		      struct vhd_error *err)
{
	CLEANUP_FREE uint8_t *buf = malloc(PIECE_BYTES);
	uint64_t size, at = 0;
	int rc = io_size(io, &size);

	if (!buf)
		rc = -ENOMEM;
	while (!rc && at < size) {
		size_t n = number_min(size - at, PIECE_BYTES);

		rc = io_read(io, buf, n, at);
		if (rc < 0)
			break;
		rc = stream_write(out, buf, n, err);
		at += n;
		if (!rc)
			rc = step(progress, at, size, io->name, err);
		if (rc < 0)
			return rc;
	}
	return rc < 0 ? error_system(err, rc, "read", io->name) : 0;
}

/* Write what is not zero; holes stay holes. */
static int write_sparse(struct vhd_io *io, const uint8_t *buf, size_t length, uint64_t at)
{
	while (length) {
		size_t n = number_min(length, ZERO_GRAIN);
		int rc = !io->device && zeros_are(buf, n) ? 0 : io_write(io, buf, n, at);

		if (rc < 0)
			return rc;
		buf += n;
		at += n;
		length -= n;
	}
	return 0;
}

/* Is the end of what came a fixed disk's footer, that says just as much came before it? */
static bool is_fixed_footer(const uint8_t *tail, uint64_t before)
{
	struct vhd_footer f;

	return footer_decode(tail, &f, NULL) == 0 && f.type == VHD_TYPE_FIXED &&
	       f.current_size == before;
}

int convert_receive(struct stream *in, bool raw, struct vhd_io *io, uint64_t *bytes,
		    const struct vhd_progress *progress, struct vhd_error *err)
{
	CLEANUP_FREE uint8_t *buf = malloc(VHD_FOOTER_BYTES + PIECE_BYTES);
	size_t held = 0; /* at the start of buf: it may be a footer */
	uint64_t at = 0;
	int rc = 0;

	if (!buf)
		return error_system(err, -ENOMEM, "write", io->name);
	for (;;) {
		int n = stream_read(in, buf + held, PIECE_BYTES, err);
		size_t have, write;

		if (n < 0)
			return n;
		have = held + (size_t)n;
		write = n && have > VHD_FOOTER_BYTES ? have - VHD_FOOTER_BYTES : 0;
		if (!n && have == VHD_FOOTER_BYTES && !raw && is_fixed_footer(buf, at))
			break;
		if (!n)
			write = have;
		rc = write_sparse(io, buf, write, at);
		if (rc < 0)
			return error_system(err, rc, "write", io->name);
		at += write;
		held = have - write;
		memmove(buf, buf + write, held);
		rc = step(progress, at, 0, io->name, err);
		if (rc < 0)
			return rc;
		if (!n)
			break;
	}
	*bytes = at;
	if (io->device)
		return 0;
	rc = io_truncate(io, number_round_up(at, VHD_SECTOR));
	return rc < 0 ? error_system(err, rc, "write", io->name) : 0;
}
