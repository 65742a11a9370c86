/* check_header.c - the 1024 bytes: vectors, impossible fields, where the table may be */
#include <string.h>

#include "decoding.h"
#include "libvhd/base/endian.h"
#include "libvhd/error.h"
#include "libvhd/header.h"
#include "tests/lib/rng.h"
#include "tests/lib/seal.h"
#include "tests/lib/suite.h"
#include "tests/lib/vector.h"

static void good(uint8_t *raw)
{
	vector_header(VECTOR_DYNAMIC, raw);
}

static int decode(const uint8_t *raw, void *out, struct vhd_error *err)
{
	return header_decode(raw, out, err);
}

static const struct decoding header = { sizeof(struct vhd_header), good, seal_header, decode };

static void refuses(const uint8_t *raw, int code, uint64_t offset)
{
	decoding_refuses(&header, raw, code, offset);
}

static struct vhd_header takes(const uint8_t *raw)
{
	struct vhd_header out;

	decoding_takes(&header, raw, &out);
	return out;
}

static void with32(unsigned field, uint32_t value, int code)
{
	decoding_with32(&header, field, value, code);
}

static void with64(unsigned field, uint64_t value, int code)
{
	decoding_with64(&header, field, value, code);
}

START_TEST(vectors)
{
	static const uint32_t codes[] = { 0x57327275, 0x57326b75, 0x4d616358 };
	static const uint32_t lengths[] = { 16, 24, 26 };
	uint8_t raw[VHD_HEADER_BYTES], again[VHD_HEADER_BYTES], id[VHD_UUID_BYTES];
	struct vhd_header h;

	vector_header(VECTOR_DYNAMIC, raw);
	h = takes(raw);
	ck_assert_uint_eq(~h.checksum, 0xb90); /* the sum that doc/format.md names */
	ck_assert(h.table_offset == 1536 && h.max_entries == 8 && h.block_size == 2 << 20);
	header_encode(&h, again);
	ck_assert_mem_eq(again, raw, sizeof(raw));

	vector_header(VECTOR_CHILD, raw);
	h = takes(raw);
	ck_assert_uint_eq(h.checksum, 0xffffe46d);
	vector_hex(id, "00112233445566778899aabbccddeeff");
	ck_assert_mem_eq(h.parent_uuid, id, sizeof(id));
	ck_assert_uint_eq(h.parent_timestamp, 0x2d733674);
	ck_assert_mem_eq(h.parent_name, "\0v\0002\0.\0v\0h\0d\0\0", 14);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(h.locators[i].code, codes[i]);
		ck_assert_uint_eq(h.locators[i].length, lengths[i]);
		ck_assert_uint_eq(h.locators[i].offset, 0x800 + 0x200 * i);
		ck_assert_uint_eq(header_locator_room(&h.locators[i]), 512);
	}
	for (unsigned i = 3; i < VHD_LOCATORS; i++)
		ck_assert(!h.locators[i].code && !h.locators[i].offset);
	header_encode(&h, again);
	ck_assert_mem_eq(again, raw, sizeof(raw));
}
END_TEST

START_TEST(every_bit_counts)
{
	uint8_t raw[VHD_HEADER_BYTES];
	struct vhd_header h;

	vector_header(VECTOR_CHILD, raw);
	for (unsigned bit = 0; bit < 8 * VHD_HEADER_BYTES; bit++) {
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_msg(header_decode(raw, &h, NULL) < 0, "bit %u", bit);
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	takes(raw);
}
END_TEST

/* What is not understood survives: a header that decodes is encoded as it was. */
START_TEST(round_trip)
{
	struct rng rng = { suite_seed(1) };

	for (unsigned i = 0; i < 20000; i++) {
		uint8_t raw[VHD_HEADER_BYTES], again[VHD_HEADER_BYTES];
		struct vhd_header h;

		vector_header(VECTOR_CHILD, raw);
		for (unsigned n = (unsigned)rng_below(&rng, 30); n; n--)
			raw[8 + rng_below(&rng, VHD_HEADER_BYTES - 8)] = (uint8_t)rng_next(&rng);
		seal_header(raw);
		if (header_decode(raw, &h, NULL) < 0)
			continue;
		header_encode(&h, again);
		ck_assert_mem_eq(again, raw, sizeof(raw));
	}
}
END_TEST

START_TEST(fields)
{
	static const uint32_t sizes[] = {
		0,	 1,	   256,	     512,	 2048,	     4095,	     4097,
		3 << 20, 1u << 27, 1u << 31, 0x12345678, UINT32_MAX, 0x00002000 + 1,
	};
	uint8_t raw[VHD_HEADER_BYTES];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		with32(HEADER_BLOCK_SIZE, sizes[i], VHD_E_BLOCK_SIZE);
	for (uint32_t size = 4096; size <= 64 << 20; size *= 2)
		with32(HEADER_BLOCK_SIZE, size, 0);
	with32(HEADER_VERSION, 0x00010007, 0);
	with32(HEADER_VERSION, 0x00020000, VHD_E_UNSUPPORTED);
	with32(HEADER_VERSION, 0x0000ffff, VHD_E_HEADER_FIELD);
	with32(HEADER_MAX_ENTRIES, 0, VHD_E_HEADER_FIELD);
	with32(HEADER_MAX_ENTRIES, UINT32_MAX, 0); /* the file decides: header_fits() */
	with32(HEADER_RESERVED1, 7, 0);
	with64(HEADER_TABLE_OFFSET, 0, VHD_E_HEADER_FIELD);
	with64(HEADER_TABLE_OFFSET, 511, VHD_E_HEADER_FIELD);
	with64(HEADER_TABLE_OFFSET, 1537, VHD_E_HEADER_FIELD);
	with64(HEADER_TABLE_OFFSET, UINT64_MAX, VHD_E_HEADER_FIELD);
	with64(HEADER_TABLE_OFFSET, UINT64_MAX - 511, 0);
	with64(HEADER_DATA_OFFSET, 0, 0);
	vector_header(VECTOR_DYNAMIC, raw);
	raw[0] = 'C';
	seal_header(raw);
	refuses(raw, VHD_E_HEADER_COOKIE, HEADER_COOKIE);
	vector_header(VECTOR_DYNAMIC, raw);
	raw[900] = 1;
	refuses(raw, VHD_E_HEADER_CHECKSUM, HEADER_CHECKSUM);
}
END_TEST

/* A table of @entries at @at in a file of @file_bytes, the header at @header_at. */
static int fits(uint64_t at, uint32_t entries, uint64_t header_at, uint64_t size, uint64_t file)
{
	struct vhd_header h = { .table_offset = at, .max_entries = entries, .block_size = 2 << 20 };
	struct vhd_error err = { 0 };
	int rc = header_fits(&h, header_at, size, file, &err);

	ck_assert_int_eq(err.code, rc);
	return rc;
}

START_TEST(places)
{
	const uint64_t size = 16 << 20, file = 2100224;

	ck_assert_int_eq(fits(1536, 8, 512, size, file), 0);
	ck_assert_int_eq(fits(1536, 8, 512, size, 2560), 0); /* an empty image of qemu */
	ck_assert_int_eq(fits(1536, 9, 512, size, file), 0);
	ck_assert_int_eq(fits(1536, 7, 512, size, file), -VHD_E_HEADER_FIELD);
	ck_assert_int_eq(fits(1536, 8, 512, size + 512, file), -VHD_E_HEADER_FIELD);
	/* up to the end footer and no further */
	ck_assert_int_eq(fits(1536, (file - 512 - 1536) / 4, 512, size, file), 0);
	ck_assert_int_eq(fits(1536, (file - 512 - 1536) / 4 + 1, 512, size, file),
			 -VHD_E_BAT_PLACE);
	ck_assert_int_eq(fits(1536, 0x40000000, 512, size, file), -VHD_E_BAT_PLACE);
	ck_assert_int_eq(fits(1536, UINT32_MAX, 512, size, file), -VHD_E_BAT_PLACE);
	ck_assert_int_eq(fits(1ull << 40, 8, 512, size, file), -VHD_E_BAT_PLACE);
	ck_assert_int_eq(fits(UINT64_MAX - 511, 8, 512, size, file), -VHD_E_BAT_PLACE);
	ck_assert_int_eq(fits(file - 512, 8, 512, size, file), -VHD_E_BAT_PLACE);
	ck_assert_int_eq(fits(512, 8, 512, size, file), -VHD_E_BAT_PLACE);
	ck_assert_int_eq(fits(1024, 8, 512, size, file), -VHD_E_BAT_PLACE);
	ck_assert_int_eq(fits(0, 8, 512, size, file), -VHD_E_BAT_PLACE);
	/* a table before its header */
	ck_assert_int_eq(fits(512, 128, 1024, size, file), 0);
	ck_assert_int_eq(fits(512, 129, 1024, size, file), -VHD_E_BAT_PLACE);
	/* the header's own place */
	ck_assert_int_eq(fits(1536, 8, 0, size, file), -VHD_E_HEADER_FIELD);
	ck_assert_int_eq(fits(1536, 8, file - 512, size, file), -VHD_E_HEADER_FIELD);
	ck_assert_int_eq(fits(1536, 8, file - 1024, size, file), -VHD_E_HEADER_FIELD);
	ck_assert_int_eq(fits(1536, 8, UINT64_MAX - 511, size, file), -VHD_E_HEADER_FIELD);
	ck_assert_int_eq(fits(1536, 8, file - 1536, size, file), 0);
	ck_assert_int_eq(fits(1536, 8, 512, size, 0), -VHD_E_HEADER_FIELD);
	ck_assert_int_eq(fits(1536, 8, 512, size, 511), -VHD_E_HEADER_FIELD);
	/* the largest disk */
	ck_assert_int_eq(fits(1536, 1044480, 512, VHD_SIZE_MAX, 1536 + 4177920 + 512), 0);
	ck_assert_int_eq(fits(1536, 1044479, 512, VHD_SIZE_MAX, 1536 + 4177920 + 512),
			 -VHD_E_HEADER_FIELD);
}
END_TEST

START_TEST(locator_room)
{
	static const struct {
		uint32_t space;
		uint64_t room;
	} rooms[] = { { 0, 0 },		  { 1, 512 },	     { 2, 1024 },
		      { 511, 511 * 512 }, { 512, 512 },	     { 1024, 1024 },
		      { 777, 0 },	  { UINT32_MAX, 0 }, { 0xfffffe00, 0xfffffe00 } };

	for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
		struct vhd_locator_entry e = { .space = rooms[i].space };

		ck_assert_uint_eq(header_locator_room(&e), rooms[i].room);
	}
}
END_TEST

int main(void)
{
	const TTest *tests[] = { vectors, every_bit_counts, round_trip, fields,
				 places,  locator_room,	    NULL };

	return suite_run("header", tests);
}
