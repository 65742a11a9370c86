/* check_plan.c - where everything of a new image goes: what may never touch what */
#include <string.h>

#include "libvhd/base/number.h"
#include "libvhd/batmap.h"
#include "libvhd/bitmap.h"
#include "libvhd/error.h"
#include "libvhd/locator.h"
#include "libvhd/plan.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"
#include "tests/lib/vector.h"

#define GIB (1ull << 30)

static struct plan_spec spec(enum vhd_type type, uint64_t size)
{
	struct plan_spec s = { .type = type, .size = size, .timestamp = 0x2d733670 };

	vector_hex(s.id, "00112233445566778899aabbccddeeff");
	return s;
}

static struct plan made(const struct plan_spec *s)
{
	struct plan p;
	struct vhd_error err = { 0 };
	int rc = plan_make(s, &p, &err);

	ck_assert_msg(!rc, "%s", err.text);
	return p;
}

static void refused(const struct plan_spec *s, int code)
{
	struct plan p;
	struct vhd_error err = { 0 };

	ck_assert_int_eq(plan_make(s, &p, &err), -code);
	ck_assert(err.code == -code && err.text[0]);
}

/* The vectors' metadata, byte by byte. */
START_TEST(vectors)
{
	struct plan_spec s = spec(VHD_TYPE_FIXED, 100 << 20);
	uint8_t raw[VHD_FOOTER_BYTES], want[VHD_FOOTER_BYTES];
	uint8_t header[VHD_HEADER_BYTES], want_header[VHD_HEADER_BYTES];
	struct plan p;

	s.creator = "win ";
	p = made(&s);
	footer_encode(&p.footer, raw);
	vector_footer(VECTOR_FIXED, want);
	ck_assert_mem_eq(raw, want, sizeof(raw));

	s = spec(VHD_TYPE_DYNAMIC, 16 << 20);
	s.creator = "win ";
	p = made(&s);
	footer_encode(&p.footer, raw);
	vector_footer(VECTOR_DYNAMIC, want);
	ck_assert_mem_eq(raw, want, sizeof(raw));
	header_encode(&p.header, header);
	vector_header(VECTOR_DYNAMIC, want_header);
	ck_assert_mem_eq(header, want_header, sizeof(header));
	ck_assert(!p.batmap && p.metadata_end == 2048 && p.bat_bytes == 512 && p.blocks == 8);

	s = spec(VHD_TYPE_DYNAMIC, 16 << 20);
	vector_hex(s.id, "5eed5eed000040008000000000000042");
	p = made(&s);
	footer_encode(&p.footer, raw);
	vector_footer(VECTOR_BATMAP, want);
	ck_assert_mem_eq(raw, want, sizeof(raw));
	header_encode(&p.header, header);
	ck_assert_mem_eq(header, want_header, sizeof(header));
	ck_assert(p.batmap && p.batmap_at == 0x800 && p.batmap_bytes == 512);
	ck_assert_uint_eq(plan_first_position(&p) % 8, 7); /* entries as XenServer's */
	ck_assert_uint_eq(plan_stride(&p), 4104);
}
END_TEST

START_TEST(empty_batmap)
{
	struct plan_spec s = spec(VHD_TYPE_DYNAMIC, VHD_SIZE_MAX);
	struct plan p = made(&s);
	uint8_t raw[VHD_BATMAP_HEADER_BYTES];
	struct vhd_batmap_header h;

	memset(raw, 0x5a, sizeof(raw));
	plan_batmap_header(&p, raw);
	ck_assert_int_eq(batmap_decode(raw, &h, NULL), 0);
	ck_assert_uint_eq(h.offset, p.batmap_at + 512);
	ck_assert_uint_eq(h.sectors, 255);
	ck_assert_uint_eq(h.checksum, 0xffffffff);
	ck_assert(!h.marker && !h.keyhash && !raw[511]);
}
END_TEST

START_TEST(child)
{
	static const char *const texts[] = { "./dir/v2.vhd", "./dir/v2.vhd", "./dir/v2.vhd" };
	struct plan_spec s = spec(VHD_TYPE_DIFFERENCING, 16 << 20);
	struct locator_path path;
	struct plan p;

	vector_hex(s.parent_id, "c0ffee0012344abc8def0123456789ab");
	s.parent_timestamp = 7;
	s.parent_path = "./dir/v2.vhd";
	p = made(&s);
	ck_assert_mem_eq(p.header.parent_uuid, s.parent_id, 16);
	ck_assert_uint_eq(p.header.parent_timestamp, 7);
	ck_assert_mem_eq(p.header.parent_name, "\0v\0002\0.\0v\0h\0d\0\0", 14);
	for (unsigned i = 0; i < PLAN_LOCATORS; i++) {
		const struct vhd_locator_entry *e = &p.header.locators[i];

		ck_assert_uint_eq(header_locator_room(e), PLAN_LOCATOR_BYTES);
		ck_assert_uint_eq(e->offset, p.locators_at + i * PLAN_LOCATOR_BYTES);
		ck_assert(locator_usable(e, p.metadata_end));
		ck_assert_int_eq(locator_decode(e->code, p.locators[i], e->length, &path, NULL), 0);
		ck_assert(path.relative);
		ck_assert_str_eq(path.text, texts[i]);
	}
	s.parent_path = "./a\\b.vhd";
	refused(&s, VHD_E_NAME);
	s.parent_path = "./a\xff.vhd";
	refused(&s, VHD_E_NAME);
}
END_TEST

START_TEST(long_names)
{
	struct plan_spec s = spec(VHD_TYPE_DIFFERENCING, 16 << 20);
	char name[600] = "./";

	s.parent_path = name;
	memset(name + 2, 'n', 256);
	(void)made(&s);
	name[258] = 'n'; /* 257 units do not fit the header */
	refused(&s, VHD_E_NAME);
	/* a long way to a short name: 512 units are the locators' room */
	for (unsigned i = 0; i < 127; i++)
		memcpy(name + 2 + 4 * i, "ddd/", 4);
	strcpy(name + 2 + 4 * 127, "p.v");
	ck_assert_uint_gt(strlen(name), 510);
	s.parent_path = name + 2;
	refused(&s, VHD_E_NAME);
	name[2 + 4 * 120] = '\0';
	strcat(name, "p.v");
	s.parent_path = name;
	(void)made(&s);
}
END_TEST

START_TEST(refusals)
{
	struct plan_spec s = spec(VHD_TYPE_DYNAMIC, 0);

	refused(&s, VHD_E_ARGUMENT);
	s.size = 1000;
	refused(&s, VHD_E_ARGUMENT);
	s.size = UINT64_MAX - 511;
	refused(&s, VHD_E_TOO_BIG);
	s.size = VHD_SIZE_MAX + 512;
	refused(&s, VHD_E_TOO_BIG);
	s.type = VHD_TYPE_FIXED;
	refused(&s, VHD_E_TOO_BIG);
	s.size = VHD_SIZE_MAX;
	(void)made(&s);
	s.type = VHD_TYPE_DYNAMIC;
	(void)made(&s);
	s.max_size = VHD_SIZE_MAX - 512;
	refused(&s, VHD_E_ARGUMENT);
	s.size = 512;
	s.max_size = VHD_SIZE_MAX + 512;
	refused(&s, VHD_E_TOO_BIG);
	s.max_size = 0;
	s.creator = "wintoolong";
	refused(&s, VHD_E_ARGUMENT);
	s.creator = NULL;
	for (uint32_t size = 1; size; size *= 2) {
		s.block_size = size;
		if (size >= VHD_BLOCK_MIN && size <= VHD_BLOCK_MAX)
			(void)made(&s);
		else
			refused(&s, VHD_E_ARGUMENT);
		s.block_size = size + 1;
		refused(&s, VHD_E_ARGUMENT);
	}
}
END_TEST

/* The reach of 32-bit entries: doc/format.md; aligned where that fits. */
START_TEST(reach)
{
	struct plan_spec s = spec(VHD_TYPE_DYNAMIC, VHD_SIZE_MAX);
	struct plan p;

	p = made(&s);
	ck_assert(p.align); /* 2 MiB blocks: aligned up to the end */
	s.block_size = 512 << 10;
	p = made(&s);
	ck_assert(!p.align); /* 1032 sectors a block would not fit, 1025 do */
	ck_assert_uint_eq(plan_stride(&p), 1025);
	s.block_size = 4096;
	refused(&s, VHD_E_TOO_BIG);
	s.size = 1024 * GIB;
	p = made(&s);
	ck_assert(p.align || plan_stride(&p) == 9);
	s.size = 1900 * GIB;
	refused(&s, VHD_E_TOO_BIG);
}
END_TEST

/* Nothing over anything else, all within reach, every block by the table's entries. */
static void holds(const struct plan_spec *s, const struct plan *p)
{
	uint64_t table_end = p->header.table_offset + p->bat_bytes, at = table_end, last;
	uint32_t sectors = p->header.block_size / VHD_SECTOR;

	ck_assert_uint_eq(p->header.table_offset, VHD_FOOTER_BYTES + VHD_HEADER_BYTES);
	ck_assert_uint_ge(p->bat_bytes, 4ull * p->header.max_entries);
	ck_assert_uint_ge((uint64_t)p->header.max_entries * p->header.block_size,
			  number_max(s->size, s->max_size));
	ck_assert_uint_lt((p->blocks - 1ull) * p->header.block_size, s->size);
	ck_assert_uint_ge((uint64_t)p->blocks * p->header.block_size, s->size);
	ck_assert_int_eq(header_fits(&p->header, p->footer.data_offset, s->size,
				     p->metadata_end + VHD_FOOTER_BYTES, NULL),
			 0);
	if (p->batmap) {
		ck_assert_uint_eq(p->batmap_at, batmap_header_offset(p->header.table_offset,
								     p->header.max_entries));
		ck_assert_uint_ge(8 * p->batmap_bytes, p->header.max_entries);
		at = p->batmap_at + VHD_BATMAP_HEADER_BYTES + 2 * p->batmap_bytes;
	}
	if (s->type == VHD_TYPE_DIFFERENCING) {
		ck_assert_uint_eq(p->locators_at, at);
		at += PLAN_LOCATORS * PLAN_LOCATOR_BYTES + PLAN_SLOT_BYTES;
	}
	ck_assert_uint_eq(p->metadata_end, at);
	ck_assert_uint_eq(at % VHD_SECTOR, 0);
	ck_assert_uint_ge(plan_first_position(p) * VHD_SECTOR, at);
	ck_assert_uint_ge(plan_stride(p), bitmap_stride(sectors));
	last = plan_first_position(p) + (p->header.max_entries - 1ull) * plan_stride(p);
	ck_assert_uint_le(last + bitmap_stride(sectors), VHD_BAT_LAST);
	if (p->align)
		ck_assert_uint_eq((last + bitmap_sectors(sectors)) % 8, 0);
}

START_TEST(everything_fits)
{
	struct rng rng = { suite_seed(1) };
	unsigned plans = 0;

	for (unsigned i = 0; i < 20000; i++) {
		uint64_t most = 1ull << (1 + rng_below(&rng, 33));
		struct plan_spec s = spec(VHD_TYPE_DYNAMIC, (1 + rng_below(&rng, most)) * 512);
		struct plan p;
		int rc;

		s.block_size = 4096u << rng_below(&rng, 15);
		if (rng_chance(&rng, 30))
			s.max_size = s.size + rng_below(&rng, most) * 512;
		if (rng_chance(&rng, 50))
			s.creator = "win ";
		if (rng_chance(&rng, 50)) {
			s.type = VHD_TYPE_DIFFERENCING;
			s.parent_path = "./p.vhd";
		}
		rc = plan_make(&s, &p, NULL);
		if (rc == -VHD_E_TOO_BIG)
			continue;
		ck_assert_int_eq(rc, 0);
		holds(&s, &p);
		plans++;
	}
	ck_assert_uint_gt(plans, 10000);
}
END_TEST

int main(void)
{
	const TTest *tests[] = { vectors,  empty_batmap, child,		  long_names,
				 refusals, reach,	 everything_fits, NULL };

	return suite_run("plan", tests);
}
