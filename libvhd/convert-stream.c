/* convert-stream.c - disks into pipes, in order
 *
 * Raw and fixed: byte after byte.  Dynamic: the block table comes before the blocks, so the
 * disk is looked through first: a block that has a byte that is not zero gets its
 * place, and most show one in the first sectors read.  Then everything is sent in the
 * order of the file.  The source is locked: it stays what it was in between.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "convert-dynamic.h"
#include "convert-source.h"
#include "convert.h"
#include "error.h"
#include "zeros.h"

#ifndef PIECE_BYTES /* smaller in tests */
#define PIECE_BYTES (1u << 20)
#endif
#define GRAIN (64u << 10)

static int step(const struct vhd_progress *p, uint64_t done, uint64_t total, const char *name,
		struct vhd_error *err)
{
	if (!p->step || !p->step(p->arg, done, total))
		return 0;
	return error_set(err, -VHD_E_CANCELLED, "conversion of '%s' was interrupted", name);
}

static int send_flat(struct vhd_chain *chain, struct stream *out,
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

/* ── dynamic ── */

struct sender {
	struct vhd_chain *chain;
	struct stream *out;
	const struct convert_target *target;
	const struct vhd_progress *progress;
	struct vhd_error *err;
	struct convert_dynamic dynamic;
	uint64_t at; /* bytes sent */
	uint8_t *buf;
	struct copy_job *job; /* only its segments are used */
};

/* Is there anything but zeros in [at, end) of the disk?  1, 0 or negative. */
static int has_data(struct sender *s, struct convert_source *source, uint64_t at, uint64_t end)
{
	while (at < end) {
		int rc;

		s->job->count = 0;
		s->job->bytes = 0;
		rc = convert_source_fill(source, s->job, NULL, &at,
					 number_min(end, number_round_down(at, PIECE_BYTES) +
								 PIECE_BYTES),
					 s->err);
		if (rc < 0)
			return rc;
		for (unsigned i = 0; i < s->job->count; i++) {
			const struct copy_segment *g = &s->job->segment[i];

			rc = g->from ? io_read(g->from, s->buf, g->length, g->from_offset) : 0;
			if (!rc && g->from && g->decrypt)
				rc = crypt_decrypt(g->decrypt, s->buf, s->buf, g->sector,
						   g->length / VHD_SECTOR);
			if (rc < 0)
				return error_system(s->err, rc, "read", g->from->name);
			if (g->from && !zeros_are(s->buf, g->length))
				return 1;
		}
	}
	return 0;
}

static int place_blocks(struct sender *s)
{
	struct convert_source source = { .chain = s->chain, .grain = GRAIN };
	uint64_t block_size = s->target->plan.header.block_size;
	uint64_t size = number_round_up(vhd_size(s->chain), VHD_SECTOR);
	const char *name = s->chain->images[0]->io->name;

	for (uint64_t at = 0; at < size; at += block_size) {
		uint32_t entry;
		int rc = has_data(s, &source, at, number_min(at + block_size, size));

		if (rc > 0)
			convert_dynamic_place(&s->dynamic, (uint32_t)(at / block_size), &entry);
		if (rc >= 0)
			rc = step(s->progress, 0, size, name, s->err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Sends @data for @offset of the file, zeros up to there. */
static int put(void *arg, const void *data, size_t length, uint64_t offset)
{
	struct sender *s = arg;
	int rc = stream_zeros(s->out, offset - s->at, s->err);

	if (!rc)
		rc = stream_write(s->out, data, length, s->err);
	s->at = offset + length;
	return rc;
}

static int send_block(struct sender *s, uint32_t block, uint32_t entry)
{
	uint64_t block_size = s->target->plan.header.block_size, start = block * block_size;
	uint64_t data = convert_dynamic_data(&s->dynamic, entry), size = vhd_size(s->chain);
	int rc;

	convert_dynamic_page(&s->dynamic, block, s->target->size);
	rc = put(s, s->dynamic.page, s->dynamic.page_bytes, data - s->dynamic.page_bytes);
	for (uint64_t in = 0; in < block_size && start + in < size && !rc; in += PIECE_BYTES) {
		size_t n = number_min(number_min(PIECE_BYTES, block_size - in), size - start - in);

		rc = vhd_read(s->chain, s->buf, n, start + in, s->err);
		if (!rc)
			rc = put(s, s->buf, n, data + in);
	}
	return rc;
}

static int send_blocks(struct sender *s)
{
	const struct plan *p = &s->target->plan;
	struct convert_dynamic_walk walk = { 0 };
	uint64_t size = vhd_size(s->chain);
	uint8_t footer[VHD_FOOTER_BYTES];
	int rc = 0;

	for (uint32_t block = 0; block < p->blocks && !rc; block++) {
		uint32_t entry = convert_dynamic_step(&s->dynamic, &walk);

		if (entry != VHD_BAT_UNUSED)
			rc = send_block(s, block, entry);
		if (!rc)
			rc = step(s->progress,
				  number_min((block + 1ull) * p->header.block_size, size), size,
				  s->chain->images[0]->io->name, s->err);
	}
	footer_encode(&p->footer, footer);
	return rc ? rc : put(s, footer, sizeof(footer), convert_dynamic_end(&s->dynamic));
}

static int send_dynamic(struct vhd_chain *chain, struct stream *out,
			const struct convert_target *target, const struct vhd_progress *progress,
			struct vhd_convert_result *result, struct vhd_error *err)
{
	struct sender s = {
		.chain = chain, .out = out, .target = target, .progress = progress, .err = err
	};
	int rc = convert_dynamic_init(&s.dynamic, &target->plan, target->plan.metadata_end);

	s.buf = malloc(PIECE_BYTES);
	s.job = calloc(1, sizeof(*s.job));
	if (rc < 0 || !s.buf || !s.job)
		rc = error_system(err, -ENOMEM, "convert", chain->images[0]->io->name);
	if (!rc)
		rc = place_blocks(&s);
	if (!rc)
		rc = convert_dynamic_metadata(&s.dynamic, &target->plan, put, &s);
	if (rc == -ENOMEM) /* its own, or told already */
		error_system(err, rc, "convert", chain->images[0]->io->name);
	if (!rc)
		rc = send_blocks(&s);
	result->data_bytes = vhd_size(chain);
	result->file_bytes = s.at;
	convert_dynamic_release(&s.dynamic);
	free(s.buf);
	free(s.job);
	return rc;
}

int convert_to_stream(struct vhd_chain *chain, struct stream *out,
		      const struct convert_target *target, const struct vhd_progress *progress,
		      struct vhd_convert_result *result, struct vhd_error *err)
{
	return (target->format == VHD_FORMAT_DYNAMIC ? send_dynamic : send_flat)(chain, out, target,
										 progress, result,
										 err);
}
