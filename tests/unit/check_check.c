/* check_check.c - vhd_check on images with one thing wrong
 *
 * Each row makes an image byte by byte, damages it, and says what must be found: a code
 * and a severity, or nothing.  More than that may be found only where the row says so.
 */
#include <stdlib.h>
#include <string.h>

#include "wrong.h"

/* ── damage ── */

static struct wrong_image *m;

/* clang-format off */
static void end_bad(void) { m->bytes[m->end + 511] = 1; }
static void both_bad(void) { end_bad(); m->bytes[511] = 1; }
static void end_cut(void) { m->length -= 512; }
static void end_torn(void) { memset(m->bytes + m->end, 0xc7, 512); }
static void trail_sector(void) { m->length += 512; }
static void trail_bytes(void) { m->length += 100; }
static void trail_far(void) { m->length += 40000; }
static void copy_bad(void) { m->bytes[200] = 1; }
static void copy_gone(void) { memset(m->bytes, 0, 512); }
static void hidden_half(void) { m->bytes[m->end + 85] = 1; wrong_sum_footer(m->bytes + m->end); }
static void size_half(void) { wrong_put64(m->bytes + m->end + 48, 8u << 20); wrong_sum_footer(m->bytes + m->end); }
static void size_used(void) { size_half(); wrong_put32(wrong_entry(m, 5), 5000); }
static void poison(void) { memcpy(m->bytes, "v_poison", 8); wrong_copy_footer(m); }
static void footer_reserved(void) { m->bytes[300] = 1; wrong_copy_footer(m); }
static void type_7(void) { wrong_put32(m->bytes + 60, 7); wrong_copy_footer(m); }
static void size_odd(void) { wrong_put64(m->bytes + 48, WRONG_SIZE + 1); wrong_copy_footer(m); }
static void data_offset_far(void) { wrong_put64(m->bytes + 16, 1ull << 40); wrong_copy_footer(m); }
static void saved(void) { m->bytes[84] = 1; wrong_copy_footer(m); }
static void short_footer(void) { m->length -= 1; }
static void qemu_geometry(void) { wrong_put32(m->bytes + 56, 0xffff10ff); wrong_copy_footer(m); }
static void tiny(void) { m->length = 100; }
static void empty(void) { m->length = 0; }
static void header_cookie(void) { m->bytes[512] = 'x'; }
static void header_sum(void) { m->bytes[512 + 36] ^= 1; wrong_put32(wrong_entry(m, 1), 5000); }
static void entries(uint32_t n) { wrong_put32(m->bytes + 512 + 28, n); wrong_sum_header(m); }
static void entries_0(void) { entries(0); }
static void entries_7(void) { entries(7); }
static void entries_9(void) { entries(9); }
static void entries_huge(void) { entries(0x40000000); }
static void entries_all(void) { entries(0xffffffff); }
static void table(uint64_t at) { wrong_put64(m->bytes + 512 + 16, at); wrong_sum_header(m); }
static void table_odd(void) { table(1537); }
static void table_0(void) { table(0); }
static void table_far(void) { table(1ull << 40); }
static void table_wrap(void) { table(UINT64_MAX - 511); }
static void table_over_header(void) { table(1024); }
static void block_bytes(uint32_t n) { wrong_put32(m->bytes + 512 + 32, n); wrong_sum_header(m); }
static void block_0(void) { block_bytes(0); }
static void block_3m(void) { block_bytes(3u << 20); }
static void block_512(void) { block_bytes(512); }
static void bat_0(void) { wrong_put32(wrong_entry(m, 1), 0); }
static void bat_1(void) { wrong_put32(wrong_entry(m, 1), 1); }
static void bat_3(void) { wrong_put32(wrong_entry(m, 1), 3); }
static void bat_4(void) { wrong_put32(wrong_entry(m, 1), 4); }
static void bat_5(void) { wrong_put32(wrong_entry(m, 1), 5); m->end += 1024; m->length += 1024; wrong_copy_footer(m); }
static void bat_5000(void) { wrong_put32(wrong_entry(m, 1), 5000); }
static void bat_last(void) { wrong_put32(wrong_entry(m, 1), 0xfffffffe); }
static void bat_torn(void) { wrong_put32(wrong_entry(m, 1), 3000 + 1101); wrong_put32(wrong_entry(m, 0), UINT32_MAX); m->length = m->end = (4101 + 9) * 512; wrong_copy_footer(m); m->length += 512; }
static void bat_beyond(void) { entries(9); wrong_put32(wrong_entry(m, 8), 4); wrong_put32(wrong_entry(m, 0), UINT32_MAX); }
static void leak(void) { wrong_put32(wrong_entry(m, 0), UINT32_MAX); }
static void unset_data(void) { m->bytes[2048] = 0x80; }
static void map_sum(void) { m->bytes[2048 + 24] ^= 1; }
static void map_zeroed(void) { m->bytes[2560] = 0; }
static void map_stale(void) { m->bytes[2560] |= 0x10; wrong_sum_batmap(m); }
static void map_partial(void) { m->bytes[2560] |= 0x40; wrong_sum_batmap(m); }
static void map_far(void) { wrong_put64(m->bytes + 2056, 1ull << 50); }
static void map_over_bat(void) { wrong_put64(m->bytes + 2056, 1536); }
static void map_short(void) { wrong_put32(m->bytes + 2064, 0); }
static void map_gone(void) { memset(m->bytes + 2048, 0, 8); }
static void bat_on_map(void) { wrong_put32(wrong_entry(m, 0), 5); }
static void fixed_cut(void) { wrong_put64(m->bytes + m->end + 48, 2u << 20); wrong_sum_footer(m->bytes + m->end); }
static void fixed_long(void) { wrong_put64(m->bytes + m->end + 48, 1u << 19); wrong_sum_footer(m->bytes + m->end); }
static void fixed_offset(void) { wrong_put64(m->bytes + m->end + 16, 512); wrong_sum_footer(m->bytes + m->end); }
static void fixed_trail(void) { m->length += 512; }
static void fixed_guest(void) { struct wrong_image *d = calloc(1, sizeof(*d)); wrong_make_dynamic(d); memcpy(m->bytes, d->bytes, 4096); free(d); }
static void locator(size_t at, uint64_t v) { wrong_put32(m->bytes + 512 + 576 + at, (uint32_t)v); wrong_sum_header(m); }
static void locator_long(void) { locator(8, 0x7fffffff); }
static void locator_odd(void) { locator(8, 15); }
static void locator_far(void) { wrong_put64(m->bytes + 512 + 592, (1ull << 63) - 256); wrong_sum_header(m); }
static void locator_kind(void) { locator(0, 0x41424344); }
static void locator_over(void) { wrong_put64(m->bytes + 512 + 592, 1536); wrong_sum_header(m); }
static void nothing(void) { }
/* clang-format on */

static const struct row {
	const char *name;
	void (*make)(struct wrong_image *);
	void (*damage)(void);
	int code;
	enum vhd_severity severity;
	bool others;
	bool bitmaps;
} table_of_rows[] = {
	/* clang-format off */
	{ "sound dynamic", wrong_make_dynamic, nothing, 0, 0, false, true },
	{ "sound tap", wrong_make_tap, nothing, 0, 0, false, true },
	{ "sound fixed", wrong_make_fixed, nothing, 0, 0, false, true },
	{ "end footer bad", wrong_make_dynamic, end_bad, VHD_E_FOOTER_MISSING, VHD_DAMAGE, false, false },
	{ "both bad", wrong_make_dynamic, both_bad, VHD_E_FOOTER_CHECKSUM, VHD_DAMAGE, false, false },
	{ "end footer cut off", wrong_make_dynamic, end_cut, VHD_E_FOOTER_MISSING, VHD_DAMAGE, false, false },
	{ "end footer in use", wrong_make_dynamic, end_torn, VHD_E_FOOTER_MISSING, VHD_DAMAGE, false, false },
	{ "a sector behind", wrong_make_dynamic, trail_sector, VHD_E_TRAILING, VHD_DAMAGE, true, false },
	{ "100 bytes behind", wrong_make_dynamic, trail_bytes, VHD_E_TRAILING, VHD_DAMAGE, true, false },
	{ "40000 bytes behind", wrong_make_dynamic, trail_far, VHD_E_TRAILING, VHD_DAMAGE, true, false },
	{ "copy bad", wrong_make_dynamic, copy_bad, VHD_E_FOOTER_MISSING, VHD_DAMAGE, false, false },
	{ "copy gone", wrong_make_dynamic, copy_gone, VHD_E_FOOTER_MISSING, VHD_DAMAGE, false, false },
	{ "hidden in one footer", wrong_make_dynamic, hidden_half, VHD_E_FOOTERS_DIFFER, VHD_NOTE, false, false },
	{ "size in one footer", wrong_make_dynamic, size_half, VHD_E_FOOTERS_DIFFER, VHD_DAMAGE, false, false },
	{ "and data between", wrong_make_dynamic, size_used, VHD_E_FOOTERS_DIFFER, VHD_DAMAGE, true, false },
	{ "poisoned", wrong_make_dynamic, poison, VHD_E_POISONED, VHD_DAMAGE, false, false },
	{ "reserved bytes", wrong_make_dynamic, footer_reserved, VHD_E_FOOTER_FIELD, VHD_WARNING, false, false },
	{ "type 7", wrong_make_dynamic, type_7, VHD_E_FOOTER_FIELD, VHD_DAMAGE, false, false },
	{ "odd size", wrong_make_dynamic, size_odd, VHD_E_FOOTER_FIELD, VHD_DAMAGE, false, false },
	{ "header far away", wrong_make_dynamic, data_offset_far, VHD_E_HEADER_FIELD, VHD_DAMAGE, false, false },
	{ "saved state", wrong_make_dynamic, saved, VHD_E_FOOTER_FIELD, VHD_NOTE, false, false },
	{ "511-byte footer", wrong_make_dynamic, short_footer, VHD_E_FOOTER_FIELD, VHD_NOTE, false, false },
	{ "geometry by qemu", wrong_make_dynamic, qemu_geometry, 0, 0, false, false },
	{ "100 bytes in all", wrong_make_dynamic, tiny, VHD_E_NOT_VHD, VHD_DAMAGE, false, false },
	{ "an empty file", wrong_make_dynamic, empty, VHD_E_NOT_VHD, VHD_DAMAGE, false, false },
	{ "header cookie", wrong_make_dynamic, header_cookie, VHD_E_HEADER_COOKIE, VHD_DAMAGE, false, false },
	{ "header checksum", wrong_make_dynamic, header_sum, VHD_E_HEADER_CHECKSUM, VHD_DAMAGE, true, false },
	{ "and goes on", wrong_make_dynamic, header_sum, VHD_E_BAT_ENTRY, VHD_DAMAGE, true, false },
	{ "no entries", wrong_make_dynamic, entries_0, VHD_E_HEADER_FIELD, VHD_DAMAGE, false, false },
	{ "7 entries", wrong_make_dynamic, entries_7, VHD_E_HEADER_FIELD, VHD_DAMAGE, false, false },
	{ "9 entries", wrong_make_dynamic, entries_9, 0, 0, false, false },
	{ "2^30 entries", wrong_make_dynamic, entries_huge, VHD_E_BAT_PLACE, VHD_DAMAGE, true, false },
	{ "2^32 - 1 entries", wrong_make_dynamic, entries_all, VHD_E_BAT_PLACE, VHD_DAMAGE, true, false },
	{ "table at 1537", wrong_make_dynamic, table_odd, VHD_E_HEADER_FIELD, VHD_DAMAGE, true, false },
	{ "table at 0", wrong_make_dynamic, table_0, VHD_E_HEADER_FIELD, VHD_DAMAGE, true, false },
	{ "table at 2^40", wrong_make_dynamic, table_far, VHD_E_BAT_PLACE, VHD_DAMAGE, true, false },
	{ "table at 2^64 - 512", wrong_make_dynamic, table_wrap, VHD_E_BAT_PLACE, VHD_DAMAGE, true, false },
	{ "table over header", wrong_make_dynamic, table_over_header, VHD_E_BAT_PLACE, VHD_DAMAGE, true, false },
	{ "block size 0", wrong_make_dynamic, block_0, VHD_E_BLOCK_SIZE, VHD_DAMAGE, false, false },
	{ "block size 3 MiB", wrong_make_dynamic, block_3m, VHD_E_BLOCK_SIZE, VHD_DAMAGE, false, false },
	{ "block size 512", wrong_make_dynamic, block_512, VHD_E_BLOCK_SIZE, VHD_DAMAGE, false, false },
	{ "entry 0", wrong_make_dynamic, bat_0, VHD_E_BAT_ENTRY, VHD_DAMAGE, true, false },
	{ "entry over header", wrong_make_dynamic, bat_1, VHD_E_BAT_ENTRY, VHD_DAMAGE, true, false },
	{ "entry over table", wrong_make_dynamic, bat_3, VHD_E_BAT_ENTRY, VHD_DAMAGE, true, false },
	{ "entry twice", wrong_make_dynamic, bat_4, VHD_E_BAT_OVERLAP, VHD_DAMAGE, true, false },
	{ "blocks overlap", wrong_make_dynamic, bat_5, VHD_E_BAT_OVERLAP, VHD_DAMAGE, true, false },
	{ "entry past the end", wrong_make_dynamic, bat_5000, VHD_E_BAT_ENTRY, VHD_DAMAGE, false, false },
	{ "entry 0xfffffffe", wrong_make_dynamic, bat_last, VHD_E_BAT_ENTRY, VHD_DAMAGE, false, false },
	{ "torn block", wrong_make_dynamic, bat_torn, VHD_E_TRUNCATED, VHD_DAMAGE, true, false },
	{ "block past the disk", wrong_make_dynamic, bat_beyond, VHD_E_BAT_ENTRY, VHD_DAMAGE, true, false },
	{ "leaked block", wrong_make_dynamic, leak, VHD_E_LEAKED, VHD_NOTE, false, false },
	{ "data under a clear bit", wrong_make_dynamic, unset_data, VHD_E_BITMAP, VHD_DAMAGE, false, true },
	{ "the same, not looked for", wrong_make_dynamic, unset_data, 0, 0, false, false },
	{ "batmap checksum", wrong_make_tap, map_sum, VHD_E_BATMAP, VHD_DAMAGE, false, false },
	{ "batmap zeroed", wrong_make_tap, map_zeroed, VHD_E_BATMAP, VHD_NOTE, false, false },
	{ "batmap bit, no block", wrong_make_tap, map_stale, VHD_E_BATMAP, VHD_DAMAGE, false, false },
	{ "batmap bit, partial block", wrong_make_tap, map_partial, VHD_E_BATMAP, VHD_DAMAGE, false, true },
	{ "batmap far away", wrong_make_tap, map_far, VHD_E_BATMAP, VHD_DAMAGE, false, false },
	{ "batmap over table", wrong_make_tap, map_over_bat, VHD_E_BATMAP, VHD_DAMAGE, false, false },
	{ "batmap of no sectors", wrong_make_tap, map_short, VHD_E_BATMAP, VHD_DAMAGE, false, false },
	{ "no batmap", wrong_make_tap, map_gone, VHD_E_BATMAP, VHD_DAMAGE, false, false },
	{ "entry over batmap", wrong_make_tap, bat_on_map, VHD_E_BAT_ENTRY, VHD_DAMAGE, true, false },
	{ "fixed, cut off", wrong_make_fixed, fixed_cut, VHD_E_TRUNCATED, VHD_DAMAGE, false, false },
	{ "fixed, too long", wrong_make_fixed, fixed_long, VHD_E_TRAILING, VHD_WARNING, false, false },
	{ "fixed, names a header", wrong_make_fixed, fixed_offset, VHD_E_FOOTER_FIELD, VHD_WARNING, false, false },
	{ "fixed, a sector behind", wrong_make_fixed, fixed_trail, VHD_E_TRAILING, VHD_DAMAGE, false, false },
	{ "fixed, a VHD in its data", wrong_make_fixed, fixed_guest, 0, 0, false, false },
	{ "sound child", wrong_make_child, nothing, 0, 0, false, true },
	{ "locator length", wrong_make_child, locator_long, VHD_E_LOCATOR, VHD_WARNING, true, false },
	{ "locator odd length", wrong_make_child, locator_odd, VHD_E_LOCATOR, VHD_WARNING, true, false },
	{ "locator far away", wrong_make_child, locator_far, VHD_E_LOCATOR, VHD_WARNING, true, false },
	{ "locator of no known kind", wrong_make_child, locator_kind, VHD_E_LOCATOR, VHD_WARNING, true, false },
	{ "locator over table", wrong_make_child, locator_over, VHD_E_LOCATOR, VHD_DAMAGE, true, false },
	/* clang-format on */
};

static void test_rows(void)
{
	wrong_make_dynamic(m);
	wrong_save(m, "p.vhd");
	for (size_t i = 0; i < sizeof(table_of_rows) / sizeof(table_of_rows[0]); i++) {
		const struct row *row = &table_of_rows[i];
		struct vhd_check_options options = { .bitmaps = row->bitmaps };

		row->make(m);
		row->damage();
		wrong_save(m, "x.vhd");
		wrong_look("x.vhd", options);
		/* without a locator the parent is not found: that is damage of its own */
		if (row->code == VHD_E_LOCATOR && row->severity == VHD_WARNING &&
		    wrong_has(VHD_E_LOCATOR, VHD_WARNING)) {
			wrong_rows++;
			continue;
		}
		wrong_expect(row->name, row->code, row->severity, row->others);
	}
}

static void test_facts(void)
{
	wrong_make_dynamic(m);
	bat_5000();
	wrong_save(m, "x.vhd");
	wrong_look("x.vhd", (struct vhd_check_options){ 0 });
	wrong_rows++;
	if (wrong_found.count != 1 || wrong_found.list[0].block != 1 ||
	    wrong_found.list[0].offset != 1540 || !(wrong_found.list[0].has & VHD_HAS_BLOCK) ||
	    !strstr(wrong_found.list[0].text, "block 1"))
		wrong_fail("place of a wrong entry", "block 1 at offset 1540");
	wrong_make_dynamic(m);
	leak();
	wrong_save(m, "x.vhd");
	wrong_look("x.vhd", (struct vhd_check_options){ 0 });
	wrong_rows++;
	if (wrong_found.result.leaked_bytes < 4096 ||
	    wrong_found.result.leaked_bytes > WRONG_BLOCK + 4096)
		wrong_fail("leaked bytes", "at most the block");
	wrong_make_tap(m);
	wrong_save(m, "x.vhd");
	wrong_look("x.vhd", (struct vhd_check_options){ .bitmaps = true });
	wrong_rows++;
	if (wrong_found.result.allocated_blocks != 2 || wrong_found.result.total_blocks != 8 ||
	    wrong_found.result.present_sectors != 4097 || wrong_found.result.leaked_bytes)
		wrong_fail("statistics", "2 of 8 blocks, 4097 sectors");
	wrong_make_dynamic(m);
	end_bad();
	wrong_save(m, "x.vhd");
	wrong_look("x.vhd", (struct vhd_check_options){ .ignore_footer = true });
	wrong_expect("end footer bad, ignored", VHD_E_FOOTER_MISSING, VHD_NOTE, false);
	wrong_make_dynamic(m);
	bat_4();
	wrong_save(m, "x.vhd");
	wrong_look("x.vhd", (struct vhd_check_options){ .no_overlap = true });
	wrong_expect("entry twice, ignored", 0, 0, false);
}

int main(void)
{
	m = wrong_begin();
	if (!m)
		return 1;
	test_rows();
	test_facts();
	return wrong_end(m, "check_check");
}
