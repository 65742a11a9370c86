/* headers.c - the text of `read -p`: footer, header, locators and batmap in words
 *
 * The layout is a contract with scripts: a label in 20 columns, ": ", the
 * value.  Labels and their order do not change.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/print.h"
#include "headers.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/base/endian.h"
#include "libvhd/base/number.h"
#include "libvhd/locator.h"
#include "libvhd/utf16.h"

#define MIB	    ((uint64_t)1 << 20)
#define PIECE_BYTES 4096u

__attribute__((format(printf, 2, 3))) static void row(const char *label, const char *format, ...)
{
	va_list ap;

	printf("%-20s: ", label);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
}

static void row_number(const char *label, uint64_t n, bool hex)
{
	if (hex)
		row(label, "0x%" PRIx64, n);
	else
		row(label, "%" PRIu64, n);
}

static void title(const char *text)
{
	puts(text);
	for (size_t k = 0; text[k]; k++)
		putchar('-');
	putchar('\n');
}

/* "0xfound|0xcomputed (Good!)" */
static void row_checksum(uint32_t found, uint32_t computed)
{
	row("Checksum", "0x%x|0x%x (%s)", found, computed, found == computed ? "Good!" : "Bad!");
}

const char *headers_creator(const struct vhd_footer *footer, char *out)
{
	size_t length = 0;

	for (size_t k = 0; k < sizeof(footer->creator_app); k++) {
		uint8_t c = footer->creator_app[k];

		out[k] = (char)(c >= 0x20 && c < 0x7f ? c : c ? '?' : 0);
		if (c && c != ' ')
			length = k + 1;
	}
	out[length] = 0;
	return out;
}

const char *headers_time(uint32_t vhd_seconds, char *out)
{
	time_t t = (time_t)footer_time_to_unix(vhd_seconds);
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
		strcpy(out, "?");
	return out;
}

/* As asctime has it, in UTC. */
static void row_time(const char *label, uint32_t vhd_seconds)
{
	time_t t = (time_t)footer_time_to_unix(vhd_seconds);
	char text[64] = "?";
	struct tm tm;

	if (gmtime_r(&t, &tm))
		strftime(text, sizeof(text), "%a %b %e %H:%M:%S %Y", &tm);
	row(label, "%s", text);
}

static const char *creator_os(const struct vhd_footer *f)
{
	if (!memcmp(f->creator_os, "Wi2k", 4))
		return "Windows";
	if (!memcmp(f->creator_os, "Mac ", 4))
		return "Macintosh";
	return "Unknown!";
}

static const char *disk_type(uint32_t type)
{
	switch (type) {
	case VHD_TYPE_FIXED:
		return "Fixed hard disk";
	case VHD_TYPE_DYNAMIC:
		return "Dynamic hard disk";
	default:
		return "Differencing hard disk";
	}
}

static void row_size(const char *label, uint64_t bytes, bool hex)
{
	if (hex)
		row(label, "0x%" PRIx64 " MB (0x%" PRIx64 " Bytes)", bytes / MIB, bytes);
	else
		row(label, "%" PRIu64 " MB (%" PRIu64 " Bytes)", bytes / MIB, bytes);
}

static void print_footer(const struct vhd_image *image, bool hex)
{
	const struct vhd_footer *f = &image->footer;
	uint8_t raw[VHD_FOOTER_BYTES];
	char text[40];

	footer_encode(f, raw);
	title("VHD Footer Summary:");
	row("Cookie", "%s", f->poisoned ? VHD_COOKIE_POISON : VHD_COOKIE);
	row("Features", "(0x%08x) %s%s", f->features,
	    f->features & VHD_FEATURE_TEMPORARY ? "<TEMP>" : "",
	    f->features & VHD_FEATURE_RESERVED ? "<RESV>" : "");
	row("File format version", "Major: %u, Minor: %u", f->version >> 16, f->version & 0xffff);
	row_number("Data offset", f->data_offset, hex);
	row_time("Timestamp", f->timestamp);
	row("Creator Application", "'%s'", headers_creator(f, text));
	row("Creator version", "Major: %u, Minor: %u", f->creator_version >> 16,
	    f->creator_version & 0xffff);
	row("Creator OS", "%s", creator_os(f));
	row_size("Original disk size", f->original_size, hex);
	row_size("Current disk size", f->current_size, hex);
	row("Geometry", "Cyl: %u, Hds: %u, Sctrs: %u", f->cylinders, f->heads,
	    f->sectors_per_track);
	row_size("", footer_chs_bytes(f), hex);
	row("Disk type", "%s", disk_type(f->type));
	row_checksum(f->checksum, be32_load(raw + FOOTER_CHECKSUM));
	row("UUID", "%s", print_uuid(f->uuid, text));
	row("Saved state", "%s", f->saved ? "Yes" : "No");
	row("Hidden", "%u", f->hidden);
	putchar('\n');
}

static void print_header(const struct vhd_image *image, bool hex)
{
	const struct vhd_header *h = &image->header;
	uint8_t raw[VHD_HEADER_BYTES];
	char name[VHD_NAME_UNITS * 3 + 1];
	char text[40];

	header_encode(h, raw);
	if (utf16_decode(h->parent_name, VHD_NAME_UNITS, UTF16_BE, name, sizeof(name)) < 0)
		strcpy(name, "(not UTF-16)");
	title("VHD Header Summary:");
	row("Cookie", "%s", VHD_HEADER_COOKIE);
	row_number("Data offset", h->data_offset, hex);
	row_number("Table offset", h->table_offset, hex);
	row("Header version", "0x%08x", h->version);
	row_number("Max BAT size", h->max_entries, hex);
	if (h->block_size % MIB)
		row("Block size", "%u (%u KB)", h->block_size, h->block_size >> 10);
	else
		row("Block size", "%u (%u MB)", h->block_size, h->block_size >> 20);
	row("Parent name", "%s", name);
	row("Parent UUID", "%s", print_uuid(h->parent_uuid, text));
	row_time("Parent timestamp", h->parent_timestamp);
	row_checksum(h->checksum, be32_load(raw + HEADER_CHECKSUM));
	putchar('\n');
}

/* The path behind a locator as text, or why there is none. */
static void decoded_name(struct vhd_image *image, const struct vhd_locator_entry *e, char *out,
			 size_t room)
{
	struct locator_path path;
	CLEANUP_FREE uint8_t *data = NULL;

	snprintf(out, room, "(unreadable)");
	if (!locator_usable(e, image->file_bytes))
		return;
	data = malloc(e->length);
	if (!data || io_read(image->io, data, e->length, e->offset) < 0)
		return;
	if (locator_decode(e->code, data, e->length, &path, NULL) < 0)
		return;
	path_quote(path.text, out, room);
}

static void print_locators(struct vhd_image *image, bool hex)
{
	char name[PATH_TEXT_MAX * 4], code[16];

	title("VHD Parent Locators:");
	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		const struct vhd_locator_entry *e = &image->header.locators[i];

		if (!e->code)
			continue;
		decoded_name(image, e, name, sizeof(name));
		printf("locator: %u\n", i);
		row("       code", "%s", locator_name(e->code, code));
		row_number("       data_space", e->space, hex);
		row_number("       data_length", e->length, hex);
		row_number("       data_offset", e->offset, hex);
		row("       decoded name", "%s", name);
		putchar('\n');
	}
}

/* The checksum of the map as it is; a piece at a time: the complement of a sum adds up. */
static uint32_t batmap_computed(struct vhd_image *image)
{
	uint64_t bytes = (uint64_t)batmap_sectors(image->header.max_entries) * VHD_SECTOR;
	uint64_t covered = batmap_covered_bytes(image->size, image->header.block_size, bytes);
	uint8_t piece[PIECE_BYTES];
	uint32_t sum = 0;

	if (image->batmap) /* the image's reader found it right */
		return image->batmap_header.checksum;
	for (uint64_t at = 0; at < covered; at += sizeof(piece)) {
		size_t length = number_min(covered - at, sizeof(piece));

		if (io_read(image->io, piece, length, image->batmap_header.offset + at) < 0)
			return ~image->batmap_header.checksum;
		sum += ~batmap_checksum(piece, length, image->batmap_header.version);
	}
	return ~sum;
}

static void print_batmap(struct vhd_image *image, bool hex)
{
	const struct vhd_batmap_header *b = &image->batmap_header;

	title("VHD Batmap Summary:");
	row_number("Batmap offset", b->offset, hex);
	row_number("Batmap size (secs)", b->sectors, hex);
	row("Batmap version", "0x%08x", b->version);
	row_checksum(b->checksum, batmap_computed(image));
	row("Marker", "%u", b->marker);
	if (b->keyhash == 1) {
		printf("%-20s: ", "Key nonce");
		for (size_t k = 0; k < sizeof(b->nonce); k++)
			printf("%02x", b->nonce[k]);
		printf("\n%-20s: ", "Key hash");
		for (size_t k = 0; k < sizeof(b->hash); k++)
			printf("%02x", b->hash[k]);
		putchar('\n');
	}
	putchar('\n');
}

void headers_print(struct vhd_image *image, bool hex)
{
	print_footer(image, hex);
	if (!footer_is_sparse(&image->footer))
		return;
	print_header(image, hex);
	if (image_has_parent(image))
		print_locators(image, hex);
	if (image->has_batmap && image->batmap_header.sectors)
		print_batmap(image, hex);
}
