/* footer.h - the 512 bytes that make a file a VHD
 *
 * Pure: bytes in, struct out.  doc/format.md section "Footer".
 */
#ifndef VHD_FOOTER_H
#define VHD_FOOTER_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"
#include "vhd.h"

struct vhd_footer {
	bool poisoned; /* cookie is v_poison */
	uint32_t features;
	uint32_t version;
	uint64_t data_offset; /* of the header, bytes; VHD_NO_OFFSET if fixed */
	uint32_t timestamp;   /* seconds since VHD_EPOCH */
	uint8_t creator_app[4];
	uint32_t creator_version;
	uint8_t creator_os[4];
	uint64_t original_size; /* bytes */
	uint64_t current_size;	/* bytes */
	uint16_t cylinders;
	uint8_t heads;
	uint8_t sectors_per_track;
	uint32_t type;	   /* enum vhd_type */
	uint32_t checksum; /* as found; footer_encode computes it anew */
	uint8_t uuid[VHD_UUID_BYTES];
	uint8_t saved;
	uint8_t hidden;
	/* what is not understood is kept: bytes 86..511 as found, for rewriting */
	uint8_t reserved[VHD_FOOTER_BYTES - FOOTER_RESERVED];
};

/* Complement of the byte sum of 512 bytes, the checksum field taken as 0. */
uint32_t footer_checksum(const uint8_t raw[VHD_FOOTER_BYTES]);

/* Decode and validate: cookie (conectix or v_poison), checksum (with the
 * byte-85 exception for tap 0.1/1.1), version 1.x, type 2..4, size > 0, a
 * multiple of 512 and <= VHD_SIZE_MAX, sparse data_offset >= 512 and a
 * multiple of 512.  A v_poison footer decodes with poisoned = true.
 * @out is written only on success.  @err's offset is relative to the footer:
 * the caller adds the footer's place with error_place().
 * Errors: VHD_E_NOT_VHD (no cookie), VHD_E_FOOTER_CHECKSUM, VHD_E_FOOTER_FIELD,
 * VHD_E_UNSUPPORTED (file format version major > 1; sparse images of tap 0.1 and
 * after 1.3, whose bitmaps mean something else). */
int footer_decode(const uint8_t raw[VHD_FOOTER_BYTES], struct vhd_footer *out,
		  struct vhd_error *err);

/* Encode with a fresh checksum. */
void footer_encode(const struct vhd_footer *footer, uint8_t raw[VHD_FOOTER_BYTES]);

/* How two valid footers differ: 0 equal; FOOTER_DIFF_BENIGN when only hidden,
 * timestamp, saved, data_offset (hence checksum) differ (ORDER 13);
 * FOOTER_DIFF_SIZE when the disk's size and geometry differ beside; FOOTER_DIFF_SEVERE else. */
enum footer_diff {
	FOOTER_SAME = 0,
	FOOTER_DIFF_BENIGN = 1,
	FOOTER_DIFF_SIZE = 2,
	FOOTER_DIFF_SEVERE = 3
};
enum footer_diff footer_compare(const struct vhd_footer *a, const struct vhd_footer *b);

static inline bool footer_is_sparse(const struct vhd_footer *f)
{
	return f->type == VHD_TYPE_DYNAMIC || f->type == VHD_TYPE_DIFFERENCING;
}

/* Creator app is "tap\0" (first three bytes tap). */
bool footer_is_tap(const struct vhd_footer *footer);

/* Must a batmap be there (tap >= 1.2), or may one be (tap 1.1)? */
bool footer_has_batmap(const struct vhd_footer *footer);
bool footer_may_have_batmap(const struct vhd_footer *footer);

/* Bytes that the geometry fields span: C * H * S * 512; 0 if any is 0. */
uint64_t footer_chs_bytes(const struct vhd_footer *footer);

/* Now, as seconds since VHD_EPOCH, saturating; and back to Unix seconds. */
uint32_t footer_time_from_unix(int64_t unix_seconds);
int64_t footer_time_to_unix(uint32_t vhd_seconds);

#endif
