/* delta-receive.c - a delta arrives, in one pass
 *
 *   copy, header ─► judged, layout planned ─► table ─► judged, length known ─► blocks ─► record,
 *   footer
 *
 * Nothing is believed: the layout must be the one that the first sectors lead to, each entry of the
 * table the place that follows from those before it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/number.h"
#include "delta.h"
#include "error.h"
#include "image.h"
#include "zeros.h"

#define PIECE_BYTES (1u << 20)
#define GRAIN	    (64u << 10)
#define HEAD_BYTES  (VHD_FOOTER_BYTES + VHD_HEADER_BYTES)

struct receiver {
	struct delta_receive *r;
	struct plan plan;
	struct sha256 hash;
	uint64_t hashed;		     /* bytes that belong to the hash, once known */
	uint8_t *buf;			     /* owned: PIECE_BYTES */
	uint8_t ahead[VHD_FOOTER_BYTES + 1]; /* read from the stream before it was known what for */
	size_t ahead_at, ahead_end;
	struct vhd_error *err;
};

static int corrupted(struct receiver *x, const char *fact)
{
	return error_set(x->err, -VHD_E_DELTA, "cannot apply '%s': %s; have it sent again",
			 x->r->name, fact);
}

/* ── bytes ── */

/* Zeros are left out behind the metadata; the file gets its length at the end. */
static int store(struct receiver *x, size_t length)
{
	struct vhd_io *io = x->r->io;
	uint64_t at = x->r->at;
	int rc = 0;

	if (at < x->plan.metadata_end)
		rc = io_write(io, x->buf, length, at);
	else if (x->r->metadata_only)
		return 0;
	else
		for (size_t done = 0, n; done < length && !rc; done += n) {
			n = number_min(length - done, GRAIN - (at + done) % GRAIN);
			if (!zeros_are(x->buf + done, n))
				rc = io_write(io, x->buf + done, n, at + done);
		}
	return rc < 0 ? error_system(x->err, rc, "write", io->name) : 0;
}

/* As stream_read. */
static int read_stream(struct receiver *x, size_t length)
{
	size_t n = number_min(length, x->ahead_end - x->ahead_at);
	int more;

	memcpy(x->buf, x->ahead + x->ahead_at, n);
	x->ahead_at += n;
	if (n)
		return (int)n;
	more = stream_read(x->r->in, x->buf, length, x->err);
	return more;
}

/* The next bytes, earlier ones from where they are stored, at most @length. */
static int next(struct receiver *x, size_t length)
{
	struct delta_receive *r = x->r;
	int n, rc;

	if (r->at < r->have) {
		n = (int)number_min(length, r->have - r->at);
		rc = io_read(r->io, x->buf, (size_t)n, r->at);
		return rc < 0 ? error_system(x->err, rc, "read", r->io->name) : n;
	}
	n = read_stream(x, length);
	if (n <= 0)
		return n;
	rc = store(x, (size_t)n);
	return rc < 0 ? rc : n;
}

/* Receive up to @end; into @keep, too, unless that is NULL.  What is read is hashed as far as it
 * belongs to the hash. */
static int receive_to(struct receiver *x, uint64_t end, uint8_t *keep)
{
	struct delta_receive *r = x->r;
	const struct vhd_progress *p = r->progress;

	while (r->at < end) {
		int n = next(x, number_min(end - r->at, PIECE_BYTES));

		if (n < 0)
			return n;
		if (!n)
			return error_value(x->err, -VHD_E_TRUNCATED, r->at, r->total, r->at,
					   "'%s' ends after %llu bytes%s; what arrived is kept: go "
					   "on with --resume",
					   r->name, (unsigned long long)r->at,
					   r->total ? ", before the end of the delta" : "");
		if (r->at < x->hashed)
			sha256_add(&x->hash, x->buf, number_min((size_t)n, x->hashed - r->at));
		if (keep) {
			memcpy(keep, x->buf, (size_t)n);
			keep += n;
		}
		r->at += (unsigned)n;
		if (p->step && p->step(p->arg, r->at, r->total))
			return error_set(x->err, -VHD_E_CANCELLED,
					 "applying '%s' was interrupted; what arrived is kept: go "
					 "on with --resume",
					 r->name);
	}
	return 0;
}

/* ── what the first sectors say ── */

/* The layout of the image that they describe; it must be what the header says. */
static int plan_layout(struct receiver *x)
{
	const struct vhd_footer *f = &x->r->footer;
	const struct vhd_header *h = &x->r->header;
	struct plan_spec spec = { .type = VHD_TYPE_DIFFERENCING,
				  .size = f->current_size,
				  .block_size = h->block_size,
				  .parent_path = "./p" };

	if (!footer_is_tap(f) || f->creator_version != VHD_TAP_1_3 ||
	    f->type != VHD_TYPE_DIFFERENCING || f->data_offset != VHD_FOOTER_BYTES || f->poisoned)
		return corrupted(x, "it is an image, but not a delta");
	if (plan_make(&spec, &x->plan, NULL) < 0 ||
	    h->table_offset != x->plan.header.table_offset ||
	    h->max_entries != x->plan.header.max_entries)
		return corrupted(x, "it is an image, but not a delta");
	return 0;
}

static int judge_layout(struct receiver *x)
{
	const struct delta_receive *r = x->r;
	int rc = plan_layout(x);

	if (rc < 0)
		return rc;
	if (r->parent_id && memcmp(r->parent_id, r->header.parent_uuid, VHD_UUID_BYTES) != 0)
		return error_set(x->err, -VHD_E_PARENT_ID,
				 "cannot apply '%s': it belongs to another parent (the id in it is "
				 "not the one of the image given)",
				 r->name);
	return 0;
}

static int judge_head(struct receiver *x)
{
	struct delta_receive *r = x->r;
	uint8_t raw[HEAD_BYTES];
	int rc = io_read(r->io, raw, sizeof(raw), 0);

	if (rc < 0)
		return error_system(x->err, rc, "read", r->io->name);
	if (footer_decode(raw, &r->footer, NULL) < 0 ||
	    header_decode(raw + VHD_FOOTER_BYTES, &r->header, NULL) < 0)
		return corrupted(x, "it does not begin like a delta, or was corrupted");
	return judge_layout(x);
}

/* Each block follows the one before.  Where the last ends: *end. */
static int judge_table(struct receiver *x, uint64_t *end)
{
	struct convert_dynamic d;
	uint64_t left = x->plan.header.max_entries, at = x->plan.header.table_offset;
	int rc = convert_dynamic_init_growing(&d, &x->plan, x->plan.metadata_end);

	if (rc < 0)
		rc = error_system(x->err, rc, "apply", x->r->name);
	while (!rc && left) {
		uint32_t n = (uint32_t)number_min(left, PIECE_BYTES / 4);

		rc = io_read(x->r->io, x->buf, n * 4ull, at);
		if (rc < 0)
			rc = error_system(x->err, rc, "read", x->r->io->name);
		for (uint32_t i = 0; i < n && !rc; i++) {
			uint32_t found = be32_load(x->buf + i * 4ull);

			if (found == VHD_BAT_UNUSED)
				continue;
			if (found != convert_dynamic_next(&d))
				rc = corrupted(x, "its block table is not that of a delta");
		}
		at += n * 4ull;
		left -= n;
	}
	*end = convert_dynamic_end(&d);
	convert_dynamic_release(&d);
	return rc;
}

/* ── the end ── */

static int judge_end(struct receiver *x)
{
	uint8_t end[DELTA_RECORD_BYTES + VHD_FOOTER_BYTES], hash[SHA256_BYTES];
	uint8_t first[VHD_FOOTER_BYTES];
	struct delta_receive *r = x->r;
	int rc = receive_to(x, r->total, end);

	if (!rc && (rc = io_read(r->io, first, sizeof(first), 0)) < 0)
		error_system(x->err, rc, "read", r->io->name);
	if (rc < 0)
		return rc;
	rc = sha256_end(&x->hash, hash);
	if (rc < 0)
		return error_system(x->err, rc, "apply", r->name);
	if (!delta_record_is(end, x->hashed, hash) ||
	    memcmp(first, end + DELTA_RECORD_BYTES, sizeof(first)) != 0)
		return corrupted(x, "its checksum is wrong: it was corrupted on its way");
	rc = read_stream(x, 1);
	if (rc < 0)
		return rc;
	return rc ? corrupted(x, "there are bytes after its end") : 0;
}

/* Does the stream begin anew, although a part is here?  Then what is here is passed over.  The
 * copy of the footer is at its beginning, and the footer alone may be what is missing. */
static int find_begin(struct receiver *x)
{
	struct delta_receive *r = x->r;
	uint8_t first[VHD_FOOTER_BYTES];
	int n = stream_read(r->in, x->ahead, sizeof(x->ahead), x->err), rc;

	if (n < 0)
		return n;
	x->ahead_end = (size_t)n;
	rc = io_read(r->io, first, sizeof(first), 0);
	if (rc < 0)
		return error_system(x->err, rc, "read", r->io->name);
	if (x->ahead_end < sizeof(x->ahead) || memcmp(first, x->ahead, sizeof(first)) != 0)
		return 0;
	for (uint64_t left = r->have; left; left -= (unsigned)n) {
		n = read_stream(x, number_min(left, PIECE_BYTES));
		if (n <= 0) /* less than is here: its end will be missing */
			return n;
	}
	return 0;
}

static int receive(struct receiver *x)
{
	struct delta_receive *r = x->r;
	uint64_t end = 0;
	int rc = r->have ? find_begin(x) : 0;

	x->hashed = x->plan.metadata_end = UINT64_MAX;
	if (!rc)
		rc = receive_to(x, HEAD_BYTES, NULL);
	if (!rc)
		rc = judge_head(x);
	if (!rc)
		rc = receive_to(x, x->plan.metadata_end, NULL);
	if (!rc)
		rc = judge_table(x, &end);
	if (rc < 0)
		return rc;
	r->total = delta_bytes(end);
	x->hashed = end;
	rc = receive_to(x, end, NULL);
	return rc ? rc : judge_end(x);
}

int delta_receive(struct delta_receive *r, struct vhd_error *err)
{
	struct receiver x = { .r = r, .err = err };
	CLEANUP_FREE uint8_t *buf = malloc(PIECE_BYTES);
	int rc;

	x.buf = buf;
	r->at = r->total = 0;
	rc = buf ? sha256_begin(&x.hash) : -ENOMEM;
	if (rc < 0)
		return error_system(err, rc, "apply", r->name);
	rc = receive(&x);
	sha256_drop(&x.hash);
	return rc;
}

int delta_length(struct vhd_image *img, const char *name, const uint8_t *parent_id,
		 uint8_t footer[VHD_FOOTER_BYTES], uint64_t *bytes, struct vhd_error *err)
{
	struct delta_receive r = { .io = img->io, .name = name, .parent_id = parent_id };
	CLEANUP_FREE uint8_t *buf = malloc(PIECE_BYTES);
	struct receiver x = { .r = &r, .buf = buf, .err = err };
	uint64_t end = 0;
	int rc;

	*bytes = 0;
	if (!buf)
		return error_system(err, -ENOMEM, "apply", name);
	r.header = img->header;
	r.footer = img->footer;
	r.footer.data_offset = VHD_FOOTER_BYTES;
	footer_encode(&r.footer, footer);
	rc = judge_layout(&x);
	if (!rc)
		rc = judge_table(&x, &end);
	if (!rc)
		*bytes = delta_bytes(end);
	return rc;
}
