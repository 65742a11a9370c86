/* check_check.c - vhd_check on images with one thing wrong
 *
 * Each row makes an image byte by byte (the maker here shares no code with
 * the library), damages it, and says what must be found: a code and a severity, or
 * nothing.  More than that may be found only where the row says so.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "libvhd/vhd.h"

#define BLOCK	 (2u << 20)
#define SIZE	 (16u << 20)
#define ROOM	 (8u << 20) /* no image here is longer */
#define EPOCH	 946684800
#define FINDINGS 64

static char directory[] = "/tmp/check_check.XXXXXX";
static unsigned failures, rows;

struct image {
	uint8_t bytes[ROOM];
	size_t length;
	size_t end; /* place of the end footer */
};

static struct found {
	struct {
		int code;
		enum vhd_severity severity;
		unsigned has;
		uint64_t block, offset;
		bool repairable;
		char text[512];
	} list[FINDINGS];
	unsigned count;
	struct vhd_check_result result;
	int rc;
	struct vhd_error err;
} found;

/* ── making images ── */

static void put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void put64(uint8_t *p, uint64_t v)
{
	put32(p, (uint32_t)(v >> 32));
	put32(p + 4, (uint32_t)v);
}

static void sum(uint8_t *p, size_t length, size_t field)
{
	uint32_t total = 0;

	put32(p + field, 0);
	for (size_t i = 0; i < length; i++)
		total += p[i];
	put32(p + field, ~total);
}

static void sum_footer(uint8_t *p)
{
	sum(p, 512, 64);
}

static void sum_header(struct image *m)
{
	sum(m->bytes + 512, 1024, 36);
}

static void make_footer(uint8_t *p, uint32_t type, uint64_t size)
{
	memset(p, 0, 512);
	memcpy(p, "conectix", 8);
	put32(p + 8, 2);
	put32(p + 12, 0x10000);
	put64(p + 16, type == 2 ? UINT64_MAX : 512);
	put32(p + 24, 0x2d733670);
	memcpy(p + 28, "win ", 4);
	put32(p + 32, 0xa0000);
	memcpy(p + 36, "Wi2k", 4);
	put64(p + 40, size);
	put64(p + 48, size);
	put32(p + 56, 0x01e10411);
	put32(p + 60, type);
	for (uint8_t i = 0; i < 16; i++)
		p[68 + i] = (uint8_t)(0x11 * i);
	sum_footer(p);
}

/* Both footers anew, after a change to the one at 0. */
static void copy_footer(struct image *m)
{
	sum_footer(m->bytes);
	memcpy(m->bytes + m->end, m->bytes, 512);
}

static uint8_t *entry(struct image *m, unsigned block)
{
	return m->bytes + 1536 + 4 * block;
}

/* 16 MiB in 2 MiB blocks; block 0 at sector 4, its sectors 0 and 1 written. */
static void make_dynamic(struct image *m)
{
	uint8_t *header = m->bytes + 512;

	memset(m->bytes, 0, ROOM);
	m->end = 2048 + 512 + BLOCK;
	m->length = m->end + 512;
	make_footer(m->bytes, 3, SIZE);
	memcpy(m->bytes + m->end, m->bytes, 512);
	memcpy(header, "cxsparse", 8);
	put64(header + 8, UINT64_MAX);
	put64(header + 16, 1536);
	put32(header + 24, 0x10000);
	put32(header + 28, SIZE / BLOCK);
	put32(header + 32, BLOCK);
	sum_header(m);
	memset(entry(m, 0), 0xff, 512);
	put32(entry(m, 0), 4);
	m->bytes[2048] = 0xc0;
	memset(m->bytes + 2560, 0x11, 512);
	memset(m->bytes + 3072, 0x22, 512);
}

/* The same with a batmap: header at 2048, map at 2560; blocks 0 and 1 from sector 7 on, all
 * of block 0 written, one sector of block 1. */
static void sum_batmap(struct image *m)
{
	sum(m->bytes + 2560, 512, 512);
	memcpy(m->bytes + 2048 + 24, m->bytes + 3072, 4);
	memset(m->bytes + 3072, 0, 4);
}

static void make_tap(struct image *m)
{
	make_dynamic(m);
	memset(m->bytes + 2048, 0, ROOM - 2048);
	memcpy(m->bytes + 28, "tap\0", 4);
	put32(m->bytes + 32, 0x10003);
	m->end = (7 + 2 * 4104) * 512u;
	m->length = m->end + 512;
	copy_footer(m);
	memcpy(m->bytes + 2048, "tdbatmap", 8);
	put64(m->bytes + 2056, 2560);
	put32(m->bytes + 2064, 1);
	put32(m->bytes + 2068, 0x10002);
	put32(entry(m, 0), 7);
	put32(entry(m, 1), 7 + 4104);
	memset(m->bytes + 7 * 512, 0xff, 512);
	memset(m->bytes + 8 * 512, 0x41, BLOCK);
	m->bytes[(7 + 4104) * 512] = 0x80;
	m->bytes[(8 + 4104) * 512] = 0x42;
	m->bytes[2560] = 0x80;
	sum_batmap(m);
}

static void make_fixed(struct image *m)
{
	memset(m->bytes, 0, ROOM);
	m->end = 1u << 20;
	m->length = m->end + 512;
	make_footer(m->bytes + m->end, 2, 1u << 20);
}

/* A child of "p.vhd" by W2ru locator; nothing of its own. */
static void make_child(struct image *m)
{
	static const char name[] = ".\\p.vhd";
	uint8_t *header = m->bytes + 512;

	make_dynamic(m);
	memset(m->bytes + 2048, 0, ROOM - 2048);
	put32(entry(m, 0), UINT32_MAX);
	memcpy(header + 40, m->bytes + 68, 16); /* the parent's id */
	memcpy(header + 576, "W2ru", 4);
	put32(header + 580, 512);
	put32(header + 584, 2 * (sizeof(name) - 1));
	put64(header + 592, 2048);
	for (size_t i = 0; i + 1 < sizeof(name); i++)
		m->bytes[2048 + 2 * i] = (uint8_t)name[i];
	sum_header(m);
	put32(m->bytes + 60, 4);
	m->bytes[68] = 0xcc;
	m->end = 2560;
	m->length = m->end + 512;
	copy_footer(m);
}

static const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static void save(const struct image *m, const char *name)
{
	int fd = open(path_of(name), O_CREAT | O_TRUNC | O_WRONLY, 0600);

	if (fd < 0 || ftruncate(fd, (off_t)m->length) ||
	    pwrite(fd, m->bytes, m->length, 0) != (ssize_t)m->length) {
		perror(path_of(name));
		exit(1);
	}
	close(fd);
}

/* ── looking ── */

static void keep(void *arg, const struct vhd_finding *f)
{
	struct found *to = arg;

	if (to->count == FINDINGS)
		return;
	to->list[to->count].code = -f->code;
	to->list[to->count].severity = f->severity;
	to->list[to->count].has = f->has;
	to->list[to->count].block = f->block;
	to->list[to->count].offset = f->offset;
	to->list[to->count].repairable = f->repairable;
	snprintf(to->list[to->count].text, sizeof(to->list[0].text), "%s", f->text);
	to->count++;
}

static void look(const char *name, struct vhd_check_options options)
{
	memset(&found, 0, sizeof(found));
	options.finding = keep;
	options.arg = &found;
	found.rc = vhd_check(path_of(name), &options, &found.result, &found.err);
}

static bool has(int code, enum vhd_severity severity)
{
	for (unsigned i = 0; i < found.count; i++)
		if (found.list[i].code == code && found.list[i].severity == severity)
			return true;
	return false;
}

static void fail(const char *row, const char *why)
{
	failures++;
	fprintf(stderr, "%s: %s (rc %d %s)\n", row, why, found.rc, found.err.text);
	for (unsigned i = 0; i < found.count; i++)
		fprintf(stderr, "    found: %s/%d: %s\n", vhd_error_name(-found.list[i].code),
			found.list[i].severity, found.list[i].text);
}

/* @code 0: nothing at all must be found.  @others: besides it, other findings are fine. */
static void expect(const char *row, int code, enum vhd_severity severity, bool others)
{
	unsigned damages = 0;

	rows++;
	for (unsigned i = 0; i < found.count; i++)
		damages += found.list[i].severity == VHD_DAMAGE;
	if (found.rc)
		fail(row, "could not be examined");
	else if (code && !has(code, severity))
		fail(row, vhd_error_name(-code));
	else if (!others && found.count != (code ? 1 : 0))
		fail(row, "more than the damage was found");
	else if (damages != found.result.damages)
		fail(row, "damages are counted wrongly");
	else if (code && severity != VHD_DAMAGE && damages)
		fail(row, "no damage was done");
}

/* ── damage ── */

static struct image *m;

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
static void hidden_half(void) { m->bytes[m->end + 85] = 1; sum_footer(m->bytes + m->end); }
static void size_half(void) { put64(m->bytes + m->end + 48, 8u << 20); sum_footer(m->bytes + m->end); }
static void size_used(void) { size_half(); put32(entry(m, 5), 5000); }
static void poison(void) { memcpy(m->bytes, "v_poison", 8); copy_footer(m); }
static void footer_reserved(void) { m->bytes[300] = 1; copy_footer(m); }
static void type_7(void) { put32(m->bytes + 60, 7); copy_footer(m); }
static void size_odd(void) { put64(m->bytes + 48, SIZE + 1); copy_footer(m); }
static void data_offset_far(void) { put64(m->bytes + 16, 1ull << 40); copy_footer(m); }
static void saved(void) { m->bytes[84] = 1; copy_footer(m); }
static void short_footer(void) { m->length -= 1; }
static void qemu_geometry(void) { put32(m->bytes + 56, 0xffff10ff); copy_footer(m); }
static void tiny(void) { m->length = 100; }
static void empty(void) { m->length = 0; }
static void header_cookie(void) { m->bytes[512] = 'x'; }
static void header_sum(void) { m->bytes[512 + 36] ^= 1; put32(entry(m, 1), 5000); }
static void entries(uint32_t n) { put32(m->bytes + 512 + 28, n); sum_header(m); }
static void entries_0(void) { entries(0); }
static void entries_7(void) { entries(7); }
static void entries_9(void) { entries(9); }
static void entries_huge(void) { entries(0x40000000); }
static void entries_all(void) { entries(0xffffffff); }
static void table(uint64_t at) { put64(m->bytes + 512 + 16, at); sum_header(m); }
static void table_odd(void) { table(1537); }
static void table_0(void) { table(0); }
static void table_far(void) { table(1ull << 40); }
static void table_wrap(void) { table(UINT64_MAX - 511); }
static void table_over_header(void) { table(1024); }
static void block_bytes(uint32_t n) { put32(m->bytes + 512 + 32, n); sum_header(m); }
static void block_0(void) { block_bytes(0); }
static void block_3m(void) { block_bytes(3u << 20); }
static void block_512(void) { block_bytes(512); }
static void bat_0(void) { put32(entry(m, 1), 0); }
static void bat_1(void) { put32(entry(m, 1), 1); }
static void bat_3(void) { put32(entry(m, 1), 3); }
static void bat_4(void) { put32(entry(m, 1), 4); }
static void bat_5(void) { put32(entry(m, 1), 5); m->end += 1024; m->length += 1024; copy_footer(m); }
static void bat_5000(void) { put32(entry(m, 1), 5000); }
static void bat_last(void) { put32(entry(m, 1), 0xfffffffe); }
static void bat_torn(void) { put32(entry(m, 1), 3000 + 1101); put32(entry(m, 0), UINT32_MAX); m->length = m->end = (4101 + 9) * 512; copy_footer(m); m->length += 512; }
static void bat_beyond(void) { entries(9); put32(entry(m, 8), 4); put32(entry(m, 0), UINT32_MAX); }
static void leak(void) { put32(entry(m, 0), UINT32_MAX); }
static void unset_data(void) { m->bytes[2048] = 0x80; }
static void map_sum(void) { m->bytes[2048 + 24] ^= 1; }
static void map_zeroed(void) { m->bytes[2560] = 0; }
static void map_stale(void) { m->bytes[2560] |= 0x10; sum_batmap(m); }
static void map_partial(void) { m->bytes[2560] |= 0x40; sum_batmap(m); }
static void map_far(void) { put64(m->bytes + 2056, 1ull << 50); }
static void map_over_bat(void) { put64(m->bytes + 2056, 1536); }
static void map_short(void) { put32(m->bytes + 2064, 0); }
static void map_gone(void) { memset(m->bytes + 2048, 0, 8); }
static void bat_on_map(void) { put32(entry(m, 0), 5); }
static void fixed_cut(void) { put64(m->bytes + m->end + 48, 2u << 20); sum_footer(m->bytes + m->end); }
static void fixed_long(void) { put64(m->bytes + m->end + 48, 1u << 19); sum_footer(m->bytes + m->end); }
static void fixed_offset(void) { put64(m->bytes + m->end + 16, 512); sum_footer(m->bytes + m->end); }
static void fixed_trail(void) { m->length += 512; }
static void fixed_guest(void) { struct image *d = calloc(1, sizeof(*d)); make_dynamic(d); memcpy(m->bytes, d->bytes, 4096); free(d); }
static void locator(size_t at, uint64_t v) { put32(m->bytes + 512 + 576 + at, (uint32_t)v); sum_header(m); }
static void locator_long(void) { locator(8, 0x7fffffff); }
static void locator_odd(void) { locator(8, 15); }
static void locator_far(void) { put64(m->bytes + 512 + 592, (1ull << 63) - 256); sum_header(m); }
static void locator_kind(void) { locator(0, 0x41424344); }
static void locator_over(void) { put64(m->bytes + 512 + 592, 1536); sum_header(m); }
static void nothing(void) { }
/* clang-format on */

static const struct row {
	const char *name;
	void (*make)(struct image *);
	void (*damage)(void);
	int code;
	enum vhd_severity severity;
	bool others;
	bool bitmaps;
} table_of_rows[] = {
	/* clang-format off */
	{ "sound dynamic", make_dynamic, nothing, 0, 0, false, true },
	{ "sound tap", make_tap, nothing, 0, 0, false, true },
	{ "sound fixed", make_fixed, nothing, 0, 0, false, true },
	{ "end footer bad", make_dynamic, end_bad, VHD_E_FOOTER_MISSING, VHD_DAMAGE, false, false },
	{ "both bad", make_dynamic, both_bad, VHD_E_FOOTER_CHECKSUM, VHD_DAMAGE, false, false },
	{ "end footer cut off", make_dynamic, end_cut, VHD_E_FOOTER_MISSING, VHD_DAMAGE, false, false },
	{ "end footer in use", make_dynamic, end_torn, VHD_E_FOOTER_MISSING, VHD_DAMAGE, false, false },
	{ "a sector behind", make_dynamic, trail_sector, VHD_E_TRAILING, VHD_DAMAGE, true, false },
	{ "100 bytes behind", make_dynamic, trail_bytes, VHD_E_TRAILING, VHD_DAMAGE, true, false },
	{ "40000 bytes behind", make_dynamic, trail_far, VHD_E_TRAILING, VHD_DAMAGE, true, false },
	{ "copy bad", make_dynamic, copy_bad, VHD_E_FOOTER_MISSING, VHD_DAMAGE, false, false },
	{ "copy gone", make_dynamic, copy_gone, VHD_E_FOOTER_MISSING, VHD_DAMAGE, false, false },
	{ "hidden in one footer", make_dynamic, hidden_half, VHD_E_FOOTERS_DIFFER, VHD_NOTE, false, false },
	{ "size in one footer", make_dynamic, size_half, VHD_E_FOOTERS_DIFFER, VHD_NOTE, false, false },
	{ "and data between", make_dynamic, size_used, VHD_E_FOOTERS_DIFFER, VHD_DAMAGE, true, false },
	{ "poisoned", make_dynamic, poison, VHD_E_POISONED, VHD_DAMAGE, false, false },
	{ "reserved bytes", make_dynamic, footer_reserved, VHD_E_FOOTER_FIELD, VHD_WARNING, false, false },
	{ "type 7", make_dynamic, type_7, VHD_E_FOOTER_FIELD, VHD_DAMAGE, false, false },
	{ "odd size", make_dynamic, size_odd, VHD_E_FOOTER_FIELD, VHD_DAMAGE, false, false },
	{ "header far away", make_dynamic, data_offset_far, VHD_E_HEADER_FIELD, VHD_DAMAGE, false, false },
	{ "saved state", make_dynamic, saved, VHD_E_FOOTER_FIELD, VHD_NOTE, false, false },
	{ "511-byte footer", make_dynamic, short_footer, VHD_E_FOOTER_FIELD, VHD_NOTE, false, false },
	{ "geometry by qemu", make_dynamic, qemu_geometry, 0, 0, false, false },
	{ "100 bytes in all", make_dynamic, tiny, VHD_E_NOT_VHD, VHD_DAMAGE, false, false },
	{ "an empty file", make_dynamic, empty, VHD_E_NOT_VHD, VHD_DAMAGE, false, false },
	{ "header cookie", make_dynamic, header_cookie, VHD_E_HEADER_COOKIE, VHD_DAMAGE, false, false },
	{ "header checksum", make_dynamic, header_sum, VHD_E_HEADER_CHECKSUM, VHD_DAMAGE, true, false },
	{ "and goes on", make_dynamic, header_sum, VHD_E_BAT_ENTRY, VHD_DAMAGE, true, false },
	{ "no entries", make_dynamic, entries_0, VHD_E_HEADER_FIELD, VHD_DAMAGE, false, false },
	{ "7 entries", make_dynamic, entries_7, VHD_E_HEADER_FIELD, VHD_DAMAGE, false, false },
	{ "9 entries", make_dynamic, entries_9, 0, 0, false, false },
	{ "2^30 entries", make_dynamic, entries_huge, VHD_E_BAT_PLACE, VHD_DAMAGE, true, false },
	{ "2^32 - 1 entries", make_dynamic, entries_all, VHD_E_BAT_PLACE, VHD_DAMAGE, true, false },
	{ "table at 1537", make_dynamic, table_odd, VHD_E_HEADER_FIELD, VHD_DAMAGE, true, false },
	{ "table at 0", make_dynamic, table_0, VHD_E_HEADER_FIELD, VHD_DAMAGE, true, false },
	{ "table at 2^40", make_dynamic, table_far, VHD_E_BAT_PLACE, VHD_DAMAGE, true, false },
	{ "table at 2^64 - 512", make_dynamic, table_wrap, VHD_E_BAT_PLACE, VHD_DAMAGE, true, false },
	{ "table over header", make_dynamic, table_over_header, VHD_E_BAT_PLACE, VHD_DAMAGE, true, false },
	{ "block size 0", make_dynamic, block_0, VHD_E_BLOCK_SIZE, VHD_DAMAGE, false, false },
	{ "block size 3 MiB", make_dynamic, block_3m, VHD_E_BLOCK_SIZE, VHD_DAMAGE, false, false },
	{ "block size 512", make_dynamic, block_512, VHD_E_BLOCK_SIZE, VHD_DAMAGE, false, false },
	{ "entry 0", make_dynamic, bat_0, VHD_E_BAT_ENTRY, VHD_DAMAGE, true, false },
	{ "entry over header", make_dynamic, bat_1, VHD_E_BAT_ENTRY, VHD_DAMAGE, true, false },
	{ "entry over table", make_dynamic, bat_3, VHD_E_BAT_ENTRY, VHD_DAMAGE, true, false },
	{ "entry twice", make_dynamic, bat_4, VHD_E_BAT_OVERLAP, VHD_DAMAGE, true, false },
	{ "blocks overlap", make_dynamic, bat_5, VHD_E_BAT_OVERLAP, VHD_DAMAGE, true, false },
	{ "entry past the end", make_dynamic, bat_5000, VHD_E_BAT_ENTRY, VHD_DAMAGE, false, false },
	{ "entry 0xfffffffe", make_dynamic, bat_last, VHD_E_BAT_ENTRY, VHD_DAMAGE, false, false },
	{ "torn block", make_dynamic, bat_torn, VHD_E_TRUNCATED, VHD_DAMAGE, true, false },
	{ "block past the disk", make_dynamic, bat_beyond, VHD_E_BAT_ENTRY, VHD_DAMAGE, true, false },
	{ "leaked block", make_dynamic, leak, VHD_E_LEAKED, VHD_NOTE, false, false },
	{ "data under a clear bit", make_dynamic, unset_data, VHD_E_BITMAP, VHD_DAMAGE, false, true },
	{ "the same, not looked for", make_dynamic, unset_data, 0, 0, false, false },
	{ "batmap checksum", make_tap, map_sum, VHD_E_BATMAP, VHD_DAMAGE, false, false },
	{ "batmap zeroed", make_tap, map_zeroed, VHD_E_BATMAP, VHD_NOTE, false, false },
	{ "batmap bit, no block", make_tap, map_stale, VHD_E_BATMAP, VHD_DAMAGE, false, false },
	{ "batmap bit, partial block", make_tap, map_partial, VHD_E_BATMAP, VHD_DAMAGE, false, true },
	{ "batmap far away", make_tap, map_far, VHD_E_BATMAP, VHD_DAMAGE, false, false },
	{ "batmap over table", make_tap, map_over_bat, VHD_E_BATMAP, VHD_DAMAGE, false, false },
	{ "batmap of no sectors", make_tap, map_short, VHD_E_BATMAP, VHD_DAMAGE, false, false },
	{ "no batmap", make_tap, map_gone, VHD_E_BATMAP, VHD_DAMAGE, false, false },
	{ "entry over batmap", make_tap, bat_on_map, VHD_E_BAT_ENTRY, VHD_DAMAGE, true, false },
	{ "fixed, cut off", make_fixed, fixed_cut, VHD_E_TRUNCATED, VHD_DAMAGE, false, false },
	{ "fixed, too long", make_fixed, fixed_long, VHD_E_TRAILING, VHD_WARNING, false, false },
	{ "fixed, names a header", make_fixed, fixed_offset, VHD_E_FOOTER_FIELD, VHD_WARNING, false, false },
	{ "fixed, a sector behind", make_fixed, fixed_trail, VHD_E_TRAILING, VHD_DAMAGE, false, false },
	{ "fixed, a VHD in its data", make_fixed, fixed_guest, 0, 0, false, false },
	{ "sound child", make_child, nothing, 0, 0, false, true },
	{ "locator length", make_child, locator_long, VHD_E_LOCATOR, VHD_WARNING, true, false },
	{ "locator odd length", make_child, locator_odd, VHD_E_LOCATOR, VHD_WARNING, true, false },
	{ "locator far away", make_child, locator_far, VHD_E_LOCATOR, VHD_WARNING, true, false },
	{ "locator of no known kind", make_child, locator_kind, VHD_E_LOCATOR, VHD_WARNING, true, false },
	{ "locator over table", make_child, locator_over, VHD_E_LOCATOR, VHD_DAMAGE, true, false },
	/* clang-format on */
};

static void test_rows(void)
{
	make_dynamic(m);
	save(m, "p.vhd");
	for (size_t i = 0; i < sizeof(table_of_rows) / sizeof(table_of_rows[0]); i++) {
		const struct row *row = &table_of_rows[i];
		struct vhd_check_options options = { .bitmaps = row->bitmaps };

		row->make(m);
		row->damage();
		save(m, "x.vhd");
		look("x.vhd", options);
		/* without a locator the parent is not found: that is damage of its own */
		if (row->code == VHD_E_LOCATOR && row->severity == VHD_WARNING &&
		    has(VHD_E_LOCATOR, VHD_WARNING)) {
			rows++;
			continue;
		}
		expect(row->name, row->code, row->severity, row->others);
	}
}

static void test_facts(void)
{
	make_dynamic(m);
	bat_5000();
	save(m, "x.vhd");
	look("x.vhd", (struct vhd_check_options){ 0 });
	rows++;
	if (found.count != 1 || found.list[0].block != 1 || found.list[0].offset != 1540 ||
	    !(found.list[0].has & VHD_HAS_BLOCK) || !strstr(found.list[0].text, "block 1"))
		fail("place of a wrong entry", "block 1 at offset 1540");
	make_dynamic(m);
	leak();
	save(m, "x.vhd");
	look("x.vhd", (struct vhd_check_options){ 0 });
	rows++;
	if (found.result.leaked_bytes < 4096 || found.result.leaked_bytes > BLOCK + 4096)
		fail("leaked bytes", "at most the block");
	make_tap(m);
	save(m, "x.vhd");
	look("x.vhd", (struct vhd_check_options){ .bitmaps = true });
	rows++;
	if (found.result.allocated_blocks != 2 || found.result.total_blocks != 8 ||
	    found.result.present_sectors != 4097 || found.result.leaked_bytes)
		fail("statistics", "2 of 8 blocks, 4097 sectors");
	make_dynamic(m);
	end_bad();
	save(m, "x.vhd");
	look("x.vhd", (struct vhd_check_options){ .ignore_footer = true });
	expect("end footer bad, ignored", VHD_E_FOOTER_MISSING, VHD_NOTE, false);
	make_dynamic(m);
	bat_4();
	save(m, "x.vhd");
	look("x.vhd", (struct vhd_check_options){ .no_overlap = true });
	expect("entry twice, ignored", 0, 0, false);
}

static void test_parents(void)
{
	struct stat st;
	struct vhd_check_options all = { .parents_too = true };

	make_child(m);
	save(m, "c.vhd");
	unlink(path_of("p.vhd"));
	look("c.vhd", (struct vhd_check_options){ 0 });
	expect("no parent", VHD_E_PARENT_MISSING, VHD_DAMAGE, false);

	make_dynamic(m);
	m->bytes[70] ^= 1;
	copy_footer(m);
	save(m, "p.vhd");
	look("c.vhd", (struct vhd_check_options){ 0 });
	expect("another parent", VHD_E_PARENT_ID, VHD_DAMAGE, false);
	look("c.vhd", (struct vhd_check_options){ .ignore_parent_id = true });
	expect("another parent, ignored", 0, 0, false);

	make_dynamic(m);
	bat_5000();
	save(m, "p.vhd");
	look("c.vhd", (struct vhd_check_options){ 0 });
	expect("parent damaged, not looked at", 0, 0, false);
	look("c.vhd", all);
	expect("parent damaged", VHD_E_BAT_ENTRY, VHD_DAMAGE, true);

	make_dynamic(m);
	save(m, "p.vhd");
	look("c.vhd", all);
	expect("parent touched", VHD_E_HEADER_FIELD, VHD_WARNING, false);
	all.ignore_timestamps = true;
	look("c.vhd", all);
	expect("parent touched, ignored", 0, 0, false);
	all.ignore_timestamps = false;
	if (stat(path_of("p.vhd"), &st))
		exit(1);
	make_child(m);
	put32(m->bytes + 512 + 56, (uint32_t)(st.st_mtime - EPOCH));
	sum_header(m);
	save(m, "c.vhd");
	look("c.vhd", all);
	expect("sound chain", 0, 0, false);

	/* a child that is its own parent */
	make_child(m);
	memcpy(m->bytes + 512 + 40, m->bytes + 68, 16);
	sum_header(m);
	save(m, "p.vhd");
	look("p.vhd", all);
	expect("cycle", VHD_E_CYCLE, VHD_DAMAGE, true);
	look("p.vhd", (struct vhd_check_options){ 0 });
	expect("cycle, seen from one image", VHD_E_CYCLE, VHD_DAMAGE, true);
}

static void test_targets(void)
{
	struct vhd_check_options azure = { .target = VHD_FOR_AZURE };

	make_fixed(m);
	save(m, "x.vhd");
	look("x.vhd", azure);
	expect("azure: 1 MiB", VHD_E_AZURE, VHD_DAMAGE, false);
	/* 20 MiB, sparse */
	make_footer(m->bytes, 2, 20u << 20);
	m->length = 512;
	save(m, "x.vhd");
	{
		int fd = open(path_of("x.vhd"), O_RDWR);

		if (fd < 0 || ftruncate(fd, 0) || pwrite(fd, m->bytes, 512, 20 << 20) != 512)
			exit(1);
		close(fd);
	}
	look("x.vhd", azure);
	expect("azure: 20 MiB", 0, 0, false);
	make_dynamic(m);
	save(m, "x.vhd");
	look("x.vhd", azure);
	expect("azure: dynamic", VHD_E_AZURE, VHD_DAMAGE, true);
	look("x.vhd", (struct vhd_check_options){ .target = VHD_FOR_HYPERV });
	expect("hyperv: dynamic", 0, 0, false);
	look("x.vhd", (struct vhd_check_options){ .target = VHD_FOR_XEN });
	expect("xen: dynamic", 0, 0, false);
	look("x.vhd", (struct vhd_check_options){ .target = VHD_FOR_VPC });
	expect("vpc: size is no product", VHD_E_AZURE, VHD_DAMAGE, false);
	qemu_geometry();
	save(m, "x.vhd");
	look("x.vhd", (struct vhd_check_options){ .target = VHD_FOR_XEN });
	expect("xen: geometry", VHD_E_AZURE, VHD_DAMAGE, false);
	make_dynamic(m);
	entries_9();
	save(m, "x.vhd");
	look("x.vhd", (struct vhd_check_options){ .target = VHD_FOR_HYPERV });
	expect("hyperv: 9 entries", VHD_E_AZURE, VHD_DAMAGE, false);
}

/* A table of a million entries, all wrong: told in few findings, in bounded time. */
static void test_flood(void)
{
	struct timespec begin, now;
	uint8_t *bat = calloc(1044480, 4);
	double seconds;
	int fd;

	make_dynamic(m);
	put64(m->bytes + 48, 2190433320960);
	put32(m->bytes + 512 + 28, 1044480);
	sum_header(m);
	m->end = 8u << 20;
	sum_footer(m->bytes);
	fd = open(path_of("x.vhd"), O_CREAT | O_TRUNC | O_RDWR, 0600);
	if (!bat || fd < 0 || pwrite(fd, m->bytes, 1536, 0) != 1536 ||
	    pwrite(fd, bat, 1044480 * 4, 1536) != 1044480 * 4 ||
	    pwrite(fd, m->bytes, 512, m->end) != 512)
		exit(1);
	look("x.vhd", (struct vhd_check_options){ 0 });
	expect("a table of zeros", VHD_E_BAT_ENTRY, VHD_DAMAGE, true);
	/* and one that is all right: 2040 GiB, every block allocated */
	for (uint32_t i = 0; i < 1044480; i++)
		put32(bat + 4 * i, 8170 + 4097 * i);
	m->end = (8170 + 4097ull * 1044480) * 512;
	if (pwrite(fd, bat, 1044480 * 4, 1536) != 1044480 * 4 || ftruncate(fd, 0x2000))
		exit(1);
	if (pwrite(fd, bat, 1044480 * 4, 1536) != 1044480 * 4 ||
	    pwrite(fd, m->bytes, 512, (off_t)m->end) != 512)
		exit(1);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	look("x.vhd", (struct vhd_check_options){ 0 });
	clock_gettime(CLOCK_MONOTONIC, &now);
	seconds = (double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) / 1e9;
	expect("2040 GiB, all allocated", 0, 0, false);
	rows++;
	if (found.result.allocated_blocks != 1044480)
		fail("2040 GiB, all allocated", "blocks are counted wrongly");
	rows++;
	if (seconds > 2 && !getenv("SLOW"))
		fail("2040 GiB, all allocated", "took more than 2 seconds");
	printf("check_check: 2040 GiB with all blocks checked in %.3f s\n", seconds);
	close(fd);
	free(bat);
}

int main(void)
{
	m = calloc(1, sizeof(*m));
	if (!m || !mkdtemp(directory))
		return 1;
	test_rows();
	test_facts();
	test_parents();
	test_targets();
	test_flood();
	look("absent.vhd", (struct vhd_check_options){ 0 });
	rows++;
	if (found.rc != -ENOENT)
		fail("absent file", "ENOENT");
	unlink(path_of("x.vhd"));
	unlink(path_of("p.vhd"));
	unlink(path_of("c.vhd"));
	rmdir(directory);
	free(m);
	printf("check_check: %u rows, %u failures\n", rows, failures);
	return failures != 0;
}
