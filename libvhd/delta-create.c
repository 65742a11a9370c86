/* delta-create.c - what changed between two images, sent in one pass
 *
 *   which blocks differ (a block is read up to its first difference)
 *   ─► places ─► metadata ─► each of these blocks compared once more, whole, and sent
 *
 * Both images are kept from being written meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/number.h"
#include "bitmap.h"
#include "confine.h"
#include "crypt.h"
#include "delta-compare.h"
#include "delta.h"
#include "error.h"
#include "io-file.h"
#include "path.h"
#include "snapshot.h"

#define LOCK_WAIT_MS 5000
#define ENTRIES_MANY (256u << 10) /* blocks grow before the table has more entries */
#define BLOCK_SMALL  (64u << 10)
#define GZIP_FIRST   0x1f

struct sender {
	const char *destination;
	const struct vhd_delta_options *o;
	struct vhd_chain *old, *new;
	struct delta_compare compare;
	struct plan plan;
	struct convert_dynamic places;
	struct stream *out;
	int fd; /* what out will write to, as long as that is NULL; owned */
	const char *name;
	bool gzip;
	struct sha256 hash;
	uint64_t at; /* of the delta: bytes sent or skipped */
	struct vhd_delta_result *result;
	struct vhd_error *err;
};

/* ── the two images ── */

static int open_still(const char *path, unsigned flags, const struct vhd_delta_options *o,
		      struct vhd_chain **out, struct vhd_error *err)
{
	struct vhd_open_options open = { .flags = flags, .parents = o->parents, .key = o->key };
	int rc = vhd_open(path, &open, out, err);

	return rc ? rc :
		    lock_take((*out)->images[0]->io, LOCK_SNAPSHOT_PARENT, NULL, LOCK_WAIT_MS, NULL,
			      err);
}

static int judge_images(struct sender *s)
{
	static const uint8_t none[VHD_UUID_BYTES];
	const struct vhd_image *old = s->old->images[0], *new = s->new->images[0];

	if (new->type == VHD_TYPE_RAW || !memcmp(new->footer.uuid, none, sizeof(none)))
		return error_set(s->err, -VHD_E_ARGUMENT,
				 "cannot make a delta to '%s': it has no id, which the delta would "
				 "have",
				 new->io->name);
	if (old->type != VHD_TYPE_RAW && !memcmp(old->footer.uuid, none, sizeof(none)))
		return error_set(
			s->err, -VHD_E_PARENT_ID,
			"cannot make a delta from '%s': its id is zero, which would mean a "
			"raw parent",
			old->io->name);
	if (old->type != VHD_TYPE_RAW &&
	    !memcmp(old->footer.uuid, new->footer.uuid, VHD_UUID_BYTES))
		return error_set(s->err, -VHD_E_CYCLE,
				 "cannot make a delta between '%s' and '%s': they have one id",
				 old->io->name, new->io->name);
	return 0;
}

/* ── the layout ── */

static uint32_t block_size(const struct sender *s, uint64_t size)
{
	uint32_t bytes = s->o->block_size ? s->o->block_size : BLOCK_SMALL;

	while (!s->o->block_size && bytes < VHD_BLOCK_DEFAULT && size / bytes > ENTRIES_MANY)
		bytes *= 2;
	return bytes;
}

/* How the delta names the old image: from where the delta is, or, in a pipe, beside it. */
static int name_parent(struct sender *s, char *out, size_t room)
{
	const char *old = s->old->images[0]->io->name;
	char real[PATH_MAX];
	int rc;

	if (!s->destination) {
		rc = snprintf(out, room, "./%s", path_base_name(old)) < (int)room ? 0 :
										    -ENAMETOOLONG;
		return rc < 0 ? error_system(s->err, rc, "name", old) : 0;
	}
	rc = confine_real_name(old, real);
	if (rc < 0)
		return error_system(s->err, rc, "open", old);
	return snapshot_relative_path(s->destination, real, out, room, s->err);
}

static int plan_delta(struct sender *s)
{
	const struct vhd_image *old = s->old->images[0], *new = s->new->images[0];
	char parent[PATH_TEXT_MAX];
	struct plan_spec spec = { .type = VHD_TYPE_DIFFERENCING,
				  .size = vhd_size(s->new),
				  .timestamp = new->footer.timestamp,
				  .parent_timestamp = footer_time_from_unix(old->io->mtime),
				  .parent_path = parent,
				  .key = image_is_encrypted(new) ? &new->batmap_header : NULL };
	int rc = name_parent(s, parent, sizeof(parent));

	if (rc < 0)
		return rc;
	spec.block_size = block_size(s, spec.size);
	memcpy(spec.id, new->footer.uuid, VHD_UUID_BYTES);
	memcpy(spec.parent_id, old->footer.uuid, VHD_UUID_BYTES); /* zero if raw */
	return plan_make(&spec, &s->plan, s->err);
}

/* ── what differs ── */

static int step(struct sender *s, uint64_t done, uint64_t total)
{
	const struct vhd_progress *p = &s->o->progress;

	if (!p->step || !p->step(p->arg, done, total))
		return 0;
	return error_set(s->err, -VHD_E_CANCELLED, "making the delta to '%s' was interrupted",
			 s->new->images[0]->io->name);
}

static int place_blocks(struct sender *s)
{
	uint64_t size = vhd_size(s->new);
	uint32_t entry;

	for (uint32_t block = 0; block < s->plan.blocks; block++) {
		int rc = delta_compare_block(&s->compare, block, true, s->err);

		if (rc > 0) {
			convert_dynamic_place(&s->places, block, &entry);
			s->result->blocks++;
		}
		if (rc >= 0)
			rc = step(s, 0, size);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ── sending ── */

/* The rest of a delta that begins like gzip would be taken for it: then it is gzip. */
static int begin_stream(struct sender *s, uint8_t first)
{
	int rc = stream_writer(s->fd, s->name, s->gzip || (s->o->skip && first == GZIP_FIRST),
			       &s->out, s->err);

	if (!rc)
		s->fd = -1;
	return rc;
}

/* The next bytes of the delta; the first o->skip of all have arrived already. */
static int put_bytes(struct sender *s, const void *data, size_t length)
{
	uint64_t skip = s->o->skip > s->at ? s->o->skip - s->at : 0;
	const uint8_t *from = data;
	int rc;

	sha256_add(&s->hash, data, length);
	s->at += length;
	if (skip >= length)
		return 0;
	rc = s->out ? 0 : begin_stream(s, from[skip]);
	return rc < 0 ? rc : stream_write(s->out, from + skip, length - skip, s->err);
}

static int put_zeros(struct sender *s, uint64_t length)
{
	static const uint8_t zeros[16384];
	int rc = 0;

	while (!rc && length) {
		size_t n = number_min(length, sizeof(zeros));

		rc = put_bytes(s, zeros, n);
		length -= n;
	}
	return rc;
}

static int put(void *arg, const void *data, size_t length, uint64_t offset)
{
	struct sender *s = arg;
	int rc = put_zeros(s, offset - s->at);

	return rc ? rc : put_bytes(s, data, length);
}

static int send_metadata(struct sender *s)
{
	uint8_t footer[VHD_FOOTER_BYTES], header[VHD_HEADER_BYTES], batmap[VHD_BATMAP_HEADER_BYTES];
	const struct plan *p = &s->plan;
	int rc;

	footer_encode(&p->footer, footer);
	header_encode(&p->header, header);
	plan_batmap_header(p, batmap); /* of no bits: they say only what bitmaps say */
	rc = put(s, footer, sizeof(footer), 0);
	if (!rc)
		rc = put(s, header, sizeof(header), p->footer.data_offset);
	if (!rc)
		rc = convert_dynamic_table(&s->places, p, put, s);
	if (rc == -ENOMEM)
		return error_set(s->err, rc, "cannot make the delta: out of memory");
	if (!rc)
		rc = put(s, batmap, sizeof(batmap), p->batmap_at);
	if (!rc)
		rc = put(s, p->locators, sizeof(p->locators), p->locators_at);
	return rc ? rc : put_zeros(s, p->metadata_end - s->at);
}

/* With the cipher of the new image what changed becomes what its file would have. */
static int encrypt_changed(struct sender *s, uint32_t block)
{
	const struct vhd_image *new = s->new->images[0];
	const uint8_t *bitmap = s->compare.bitmap;
	uint64_t sectors = s->compare.block_sectors, at = 0, run;
	int rc = 0;

	if (!new->crypt)
		return 0;
	for (; !rc && at < sectors; at += run) {
		uint8_t *data = s->compare.data + at * VHD_SECTOR;

		run = bits_run(bitmap, at, sectors);
		if (bits_test(bitmap, at))
			rc = crypt_encrypt(new->crypt, data, data, block * sectors + at, run);
	}
	return rc < 0 ? error_system(s->err, rc, "encrypt", new->io->name) : 0;
}

static int send_block(struct sender *s, uint32_t block, uint32_t entry)
{
	uint64_t data = convert_dynamic_data(&s->places, entry);
	int rc;

	memset(s->places.page, 0, s->places.page_bytes);
	rc = delta_compare_block(&s->compare, block, false, s->err);
	if (rc >= 0)
		rc = encrypt_changed(s, block);
	memcpy(s->places.page + s->places.page_bytes - s->compare.bitmap_bytes, s->compare.bitmap,
	       s->compare.bitmap_bytes);
	if (rc >= 0)
		rc = put(s, s->places.page, s->places.page_bytes, data - s->places.page_bytes);
	return rc ? rc : put(s, s->compare.data, s->plan.header.block_size, data);
}

static int send_end(struct sender *s)
{
	uint8_t record[DELTA_RECORD_BYTES], footer[VHD_FOOTER_BYTES], hash[SHA256_BYTES];
	uint64_t length = s->at;
	int rc;

	rc = sha256_end(&s->hash, hash);
	if (rc < 0)
		return error_system(s->err, rc, "write", s->destination);
	delta_record_encode(length, hash, record);
	footer_encode(&s->plan.footer, footer);
	rc = put_bytes(s, record, sizeof(record));
	return rc ? rc : put_bytes(s, footer, sizeof(footer));
}

static int send_all(struct sender *s)
{
	uint64_t total = delta_bytes(convert_dynamic_end(&s->places));
	struct convert_dynamic_walk walk = { 0 };
	int rc = 0;

	if (s->o->skip > total)
		return error_set(s->err, -VHD_E_ARGUMENT,
				 "cannot leave out %llu bytes: the whole delta has %llu",
				 (unsigned long long)s->o->skip, (unsigned long long)total);
	s->result->bytes = total;
	if (s->o->dry_run)
		return 0;
	rc = sha256_begin(&s->hash);
	if (rc < 0)
		return error_system(s->err, rc, "write", s->destination);
	rc = send_metadata(s);
	for (uint32_t block = 0; block < s->plan.blocks && !rc; block++) {
		uint32_t entry = convert_dynamic_step(&s->places, &walk);

		if (entry == VHD_BAT_UNUSED)
			continue;
		rc = send_block(s, block, entry);
		if (!rc)
			rc = step(s, s->at, total);
	}
	s->result->changed_bytes = s->compare.changed;
	if (!rc)
		rc = send_end(s);
	sha256_drop(&s->hash);
	return rc;
}

/* ── the target ── */

static int send_to(struct sender *s, int fd, const char *name, bool gzip)
{
	int rc, closed;

	if (fd < 0)
		return error_system(s->err, -errno, "open", name);
	s->fd = fd;
	s->name = name;
	s->gzip = gzip;
	rc = send_all(s);
	if (!rc && !s->out) /* all of it has arrived: what there is to send is nothing */
		rc = begin_stream(s, 0);
	if (s->fd >= 0)
		close(s->fd);
	closed = stream_close(s->out, rc ? NULL : s->err);
	return rc ? rc : closed;
}

static bool has_suffix(const char *text, const char *suffix)
{
	size_t n = strlen(text), m = strlen(suffix);

	return n > m && !strcmp(text + n - m, suffix);
}

static int send_to_file(struct sender *s)
{
	bool gzip = s->o->gzip || has_suffix(s->destination, ".gz");
	struct atomic a;
	int rc;

	if (s->o->dry_run) {
		rc = atomic_check(s->destination, s->o->force, s->err);
		return rc ? rc : send_all(s);
	}
	rc = atomic_begin(s->destination, s->o->force ? ATOMIC_FORCE : 0, &a, s->err);
	if (rc < 0)
		return rc;
	rc = send_to(s, dup(io_file_fd(a.io)), s->destination, gzip);
	if (!rc)
		return atomic_commit(&a, true, s->err);
	atomic_abort(&a);
	return rc;
}

static int create(struct sender *s)
{
	int rc = judge_images(s);

	if (!rc)
		rc = plan_delta(s);
	if (rc < 0)
		return rc;
	chain_warn(s->old, &s->o->progress);
	chain_warn(s->new, &s->o->progress);
	rc = delta_compare_init(&s->compare, s->old, s->new, s->plan.header.block_size / VHD_SECTOR,
				s->o->log, s->err);
	if (rc < 0)
		return rc;
	rc = convert_dynamic_init(&s->places, &s->plan, s->plan.metadata_end);
	if (rc < 0)
		return error_system(s->err, -ENOMEM, "make a delta to",
				    s->new->images[0]->io->name);
	rc = place_blocks(s);
	if (rc < 0)
		return rc;
	if (s->destination)
		return send_to_file(s);
	return s->o->dry_run ? send_all(s) :
			       send_to(s, dup(STDOUT_FILENO), "standard output", s->o->gzip);
}

int vhd_delta_create(const char *old, const char *new, const char *destination,
		     const struct vhd_delta_options *o, struct vhd_delta_result *result,
		     struct vhd_error *err)
{
	struct vhd_delta_result own;
	struct sender s = { .o = o, .fd = -1, .err = err, .result = result ? result : &own };
	int rc;

	memset(s.result, 0, sizeof(*s.result));
	if (strcmp(destination, "-") != 0)
		s.destination = destination;
	/* a clear image below an encrypted one is right, the other way round a secret would get out */
	rc = open_still(old, (o->raw_old ? VHD_OPEN_RAW : 0) | CHAIN_KEY_MAYBE, o, &s.old, err);
	if (!rc)
		rc = open_still(new, 0, o, &s.new, err);
	if (!rc)
		rc = create(&s);
	delta_compare_release(&s.compare);
	convert_dynamic_release(&s.places);
	vhd_close(s.new, NULL);
	vhd_close(s.old, NULL);
	return rc;
}
