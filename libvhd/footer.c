/* footer.c - decode, judge and encode the 512 bytes at the end of every VHD
 *
 * Every byte is the world's: each field that something else relies on is
 * checked here once.  What nobody relies on (features, geometry, saved,
 * reserved bytes) is kept as found, so that a rewritten footer loses nothing.
 */
#include "footer.h"

#include <string.h>

#include "base/endian.h"
#include "base/number.h"
#include "error.h"

static uint32_t byte_sum(const uint8_t *raw, size_t bytes)
{
	uint32_t sum = 0;
	size_t i;

	for (i = 0; i < bytes; i++)
		sum += raw[i];
	return sum;
}

uint32_t footer_checksum(const uint8_t raw[VHD_FOOTER_BYTES])
{
	return ~(byte_sum(raw, VHD_FOOTER_BYTES) - byte_sum(raw + FOOTER_CHECKSUM, 4));
}

/* Early writers of "tap" set the hidden byte without a new checksum. */
static bool ignores_hidden(const struct vhd_footer *f)
{
	return footer_is_tap(f) &&
	       (f->creator_version == VHD_TAP_0_1 || f->creator_version == VHD_TAP_1_1);
}

static int check_checksum(const uint8_t *raw, const struct vhd_footer *f, struct vhd_error *err)
{
	uint32_t expected = footer_checksum(raw);

	if (f->checksum == expected ||
	    (ignores_hidden(f) && f->checksum == expected + raw[FOOTER_HIDDEN]))
		return 0;
	return error_value(err, -VHD_E_FOOTER_CHECKSUM, FOOTER_CHECKSUM, expected, f->checksum,
			   "footer checksum is 0x%08x, its bytes give 0x%08x", f->checksum,
			   expected);
}

static int check_version(const struct vhd_footer *f, struct vhd_error *err)
{
	uint32_t major = f->version >> 16;

	if (major > 1)
		return error_value(err, -VHD_E_UNSUPPORTED, FOOTER_VERSION, VHD_VERSION_1_0,
				   f->version, "file format version is %u.%u, supported is 1.x",
				   major, f->version & 0xffff);
	if (major < 1)
		return error_value(err, -VHD_E_FOOTER_FIELD, FOOTER_VERSION, VHD_VERSION_1_0,
				   f->version, "file format version is 0x%08x, expected 0x%08x",
				   f->version, VHD_VERSION_1_0);
	return 0;
}

/* Bitmaps of tap 0.1 have another bit order; versions after 1.3 are unknown.
 * Reading either as if it were 1.x would return wrong data. */
static int check_creator(const struct vhd_footer *f, struct vhd_error *err)
{
	uint32_t v = f->creator_version;

	if (!footer_is_tap(f) || !footer_is_sparse(f) || (v >= VHD_TAP_1_1 && v <= VHD_TAP_1_3))
		return 0;
	return error_value(err, -VHD_E_UNSUPPORTED, FOOTER_CREATOR_VERSION, VHD_TAP_1_3, v,
			   "creator is 'tap' %u.%u, supported are 1.1 to 1.3", v >> 16, v & 0xffff);
}

static int check_size(const struct vhd_footer *f, struct vhd_error *err)
{
	unsigned long long size = f->current_size;

	if (!size)
		return error_value(err, -VHD_E_FOOTER_FIELD, FOOTER_CURRENT_SIZE, VHD_SECTOR, 0,
				   "disk size is 0");
	if (size % VHD_SECTOR)
		return error_value(err, -VHD_E_FOOTER_FIELD, FOOTER_CURRENT_SIZE,
				   number_round_down(size, VHD_SECTOR), size,
				   "disk size is %llu, not a multiple of %u", size, VHD_SECTOR);
	if (size > VHD_SIZE_MAX)
		return error_value(err, -VHD_E_FOOTER_FIELD, FOOTER_CURRENT_SIZE, VHD_SIZE_MAX,
				   size, "disk size is %llu, the format ends at %llu", size,
				   VHD_SIZE_MAX);
	return 0;
}

static int check_fields(const struct vhd_footer *f, struct vhd_error *err)
{
	int rc = check_version(f, err);

	if (rc < 0)
		return rc;
	if (f->type != VHD_TYPE_FIXED && !footer_is_sparse(f))
		return error_value(err, -VHD_E_FOOTER_FIELD, FOOTER_TYPE, VHD_TYPE_DYNAMIC, f->type,
				   "disk type is %u, expected 2 (fixed), 3 (dynamic) or 4 "
				   "(differencing)",
				   f->type);
	rc = check_creator(f, err);
	if (rc < 0)
		return rc;
	rc = check_size(f, err);
	if (rc < 0)
		return rc;
	if (footer_is_sparse(f) &&
	    (f->data_offset < VHD_FOOTER_BYTES || f->data_offset % VHD_SECTOR))
		return error_value(
			err, -VHD_E_FOOTER_FIELD, FOOTER_DATA_OFFSET, VHD_FOOTER_BYTES,
			f->data_offset,
			"header offset is 0x%llx, expected a multiple of 512 from 512 on",
			(unsigned long long)f->data_offset);
	return 0;
}

static void load_fields(const uint8_t *raw, struct vhd_footer *f)
{
	f->features = be32_load(raw + FOOTER_FEATURES);
	f->version = be32_load(raw + FOOTER_VERSION);
	f->data_offset = be64_load(raw + FOOTER_DATA_OFFSET);
	f->timestamp = be32_load(raw + FOOTER_TIMESTAMP);
	memcpy(f->creator_app, raw + FOOTER_CREATOR_APP, sizeof(f->creator_app));
	f->creator_version = be32_load(raw + FOOTER_CREATOR_VERSION);
	memcpy(f->creator_os, raw + FOOTER_CREATOR_OS, sizeof(f->creator_os));
	f->original_size = be64_load(raw + FOOTER_ORIGINAL_SIZE);
	f->current_size = be64_load(raw + FOOTER_CURRENT_SIZE);
	f->cylinders = be16_load(raw + FOOTER_GEOMETRY);
	f->heads = raw[FOOTER_GEOMETRY + 2];
	f->sectors_per_track = raw[FOOTER_GEOMETRY + 3];
	f->type = be32_load(raw + FOOTER_TYPE);
	f->checksum = be32_load(raw + FOOTER_CHECKSUM);
	memcpy(f->uuid, raw + FOOTER_UUID, sizeof(f->uuid));
	f->saved = raw[FOOTER_SAVED];
	f->hidden = raw[FOOTER_HIDDEN];
	memcpy(f->reserved, raw + FOOTER_RESERVED, sizeof(f->reserved));
}

int footer_decode(const uint8_t raw[VHD_FOOTER_BYTES], struct vhd_footer *out,
		  struct vhd_error *err)
{
	struct vhd_footer f = { .poisoned = !memcmp(raw, VHD_COOKIE_POISON, 8) };
	int rc;

	if (!f.poisoned && memcmp(raw, VHD_COOKIE, 8))
		return error_at(err, -VHD_E_NOT_VHD, FOOTER_COOKIE, "no footer (cookie '%s')",
				VHD_COOKIE);
	load_fields(raw, &f);
	rc = check_checksum(raw, &f, err);
	if (rc < 0)
		return rc;
	rc = check_fields(&f, err);
	if (rc < 0)
		return rc;
	*out = f;
	return 0;
}

void footer_encode(const struct vhd_footer *f, uint8_t raw[VHD_FOOTER_BYTES])
{
	memcpy(raw, f->poisoned ? VHD_COOKIE_POISON : VHD_COOKIE, 8);
	be32_store(raw + FOOTER_FEATURES, f->features);
	be32_store(raw + FOOTER_VERSION, f->version);
	be64_store(raw + FOOTER_DATA_OFFSET, f->data_offset);
	be32_store(raw + FOOTER_TIMESTAMP, f->timestamp);
	memcpy(raw + FOOTER_CREATOR_APP, f->creator_app, sizeof(f->creator_app));
	be32_store(raw + FOOTER_CREATOR_VERSION, f->creator_version);
	memcpy(raw + FOOTER_CREATOR_OS, f->creator_os, sizeof(f->creator_os));
	be64_store(raw + FOOTER_ORIGINAL_SIZE, f->original_size);
	be64_store(raw + FOOTER_CURRENT_SIZE, f->current_size);
	be16_store(raw + FOOTER_GEOMETRY, f->cylinders);
	raw[FOOTER_GEOMETRY + 2] = f->heads;
	raw[FOOTER_GEOMETRY + 3] = f->sectors_per_track;
	be32_store(raw + FOOTER_TYPE, f->type);
	memcpy(raw + FOOTER_UUID, f->uuid, sizeof(f->uuid));
	raw[FOOTER_SAVED] = f->saved;
	raw[FOOTER_HIDDEN] = f->hidden;
	memcpy(raw + FOOTER_RESERVED, f->reserved, sizeof(f->reserved));
	be32_store(raw + FOOTER_CHECKSUM, footer_checksum(raw));
}

static bool says_batmap(const struct vhd_footer *f)
{
	return footer_has_batmap(f) || footer_may_have_batmap(f);
}

enum footer_diff footer_compare(const struct vhd_footer *a, const struct vhd_footer *b)
{
	uint8_t raw_a[VHD_FOOTER_BYTES], raw_b[VHD_FOOTER_BYTES];
	struct vhd_footer like_a = *b;

	footer_encode(a, raw_a);
	footer_encode(b, raw_b);
	if (!memcmp(raw_a, raw_b, sizeof(raw_a)))
		return FOOTER_SAME;
	like_a.hidden = a->hidden;
	like_a.timestamp = a->timestamp;
	like_a.saved = a->saved;
	like_a.data_offset = a->data_offset;
	if (says_batmap(a) && says_batmap(b)) /* repair was interrupted between the two */
		like_a.creator_version = a->creator_version;
	footer_encode(&like_a, raw_b);
	if (!memcmp(raw_a, raw_b, sizeof(raw_a)))
		return FOOTER_DIFF_BENIGN;
	like_a.current_size = a->current_size;
	like_a.cylinders = a->cylinders;
	like_a.heads = a->heads;
	like_a.sectors_per_track = a->sectors_per_track;
	footer_encode(&like_a, raw_b);
	return memcmp(raw_a, raw_b, sizeof(raw_a)) ? FOOTER_DIFF_SEVERE : FOOTER_DIFF_SIZE;
}

bool footer_is_tap(const struct vhd_footer *footer)
{
	return !memcmp(footer->creator_app, "tap", 3);
}

bool footer_has_batmap(const struct vhd_footer *footer)
{
	return footer_is_tap(footer) && footer_is_sparse(footer) &&
	       footer->creator_version >= VHD_TAP_1_2;
}

bool footer_may_have_batmap(const struct vhd_footer *footer)
{
	return footer_is_tap(footer) && footer_is_sparse(footer) &&
	       footer->creator_version == VHD_TAP_1_1;
}

uint64_t footer_chs_bytes(const struct vhd_footer *footer)
{
	return (uint64_t)footer->cylinders * footer->heads * footer->sectors_per_track * VHD_SECTOR;
}

uint32_t footer_time_from_unix(int64_t unix_seconds)
{
	if (unix_seconds <= VHD_EPOCH)
		return 0;
	return (uint32_t)number_min((uint64_t)unix_seconds - VHD_EPOCH, UINT32_MAX);
}

int64_t footer_time_to_unix(uint32_t vhd_seconds)
{
	return (int64_t)vhd_seconds + VHD_EPOCH;
}
