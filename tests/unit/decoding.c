/* decoding.c - what the tests of footer and header ask of their decoders alike */
#include "decoding.h"

#include <string.h>

#include "libvhd/base/endian.h"
#include "tests/lib/suite.h"

void decoding_refuses(const struct decoding *d, const uint8_t *raw, int code, uint64_t offset)
{
	_Alignas(16) uint8_t out[DECODING_OUT_MAX];
	uint8_t before[DECODING_OUT_MAX];
	struct vhd_error err = { 0 };
	int rc;

	ck_assert(d->out_bytes <= sizeof(out));
	memset(out, 0x5a, sizeof(out));
	memcpy(before, out, sizeof(out));
	rc = d->decode(raw, out, &err);
	ck_assert_msg(rc == -code, "%s instead of %s", vhd_error_name(rc), vhd_error_name(code));
	ck_assert_int_eq(err.code, -code);
	ck_assert(err.has & VHD_HAS_OFFSET);
	ck_assert_uint_eq(err.offset, offset);
	ck_assert(err.text[0]);
	ck_assert_mem_eq(out, before, sizeof(out));
	ck_assert_int_eq(d->decode(raw, out, NULL), -code);
}

void decoding_takes(const struct decoding *d, const uint8_t *raw, void *out)
{
	struct vhd_error err = { 0 };
	int rc = d->decode(raw, out, &err);

	ck_assert_msg(!rc, "%s", err.text);
}

static void check(const struct decoding *d, uint8_t *raw, unsigned offset, int code)
{
	_Alignas(16) uint8_t out[DECODING_OUT_MAX];

	d->seal(raw);
	if (code)
		decoding_refuses(d, raw, code, offset);
	else
		decoding_takes(d, raw, out);
}

void decoding_with32(const struct decoding *d, unsigned offset, uint32_t value, int code)
{
	uint8_t raw[DECODING_RAW_MAX];

	d->good(raw);
	be32_store(raw + offset, value);
	check(d, raw, offset, code);
}

void decoding_with64(const struct decoding *d, unsigned offset, uint64_t value, int code)
{
	uint8_t raw[DECODING_RAW_MAX];

	d->good(raw);
	be64_store(raw + offset, value);
	check(d, raw, offset, code);
}
