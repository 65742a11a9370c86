/* relink.c - another parent for a differencing image, at one instant */
#include "relink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "error.h"
#include "footer.h"
#include "locator.h"
#include "plan.h"
#include "relink-place.h"
#include "utf16.h"

#define TEXT_MAX (2u * PATH_TEXT_MAX) /* bytes of the longest text: UTF-16 of a path */

/* ── what the header will say ── */

/* A code that locator_encode() knows. */
static bool is_text(uint32_t code)
{
	return code == LOCATOR_MACX || code == LOCATOR_W2KU || code == LOCATOR_W2RU ||
	       code == LOCATOR_WI2R || code == LOCATOR_WI2K;
}

static bool is_old(uint32_t code)
{
	return code == LOCATOR_WI2R || code == LOCATOR_WI2K;
}

/* Which code each locator has: those there are, and those that must be there. */
static void choose_codes(const struct vhd_image *img, uint32_t codes[VHD_LOCATORS])
{
	static const uint32_t wanted[] = { LOCATOR_W2RU, LOCATOR_MACX, LOCATOR_W2KU };
	unsigned count = footer_is_tap(&img->footer) ? 3 : 1;

	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		uint32_t code = img->header.locators[i].code;

		codes[i] = is_text(code) ? code : 0;
	}
	for (unsigned w = 0; w < count; w++) {
		unsigned place = VHD_LOCATORS;

		for (unsigned i = 0; i < VHD_LOCATORS && place != VHD_LOCATORS + 1; i++) {
			if (codes[i] == wanted[w])
				place = VHD_LOCATORS + 1; /* is there */
			else if (!codes[i] && place == VHD_LOCATORS)
				place = i;
		}
		if (place < VHD_LOCATORS)
			codes[place] = wanted[w];
		else if (place == VHD_LOCATORS) /* eight texts, and not the one everybody reads */
			codes[VHD_LOCATORS - 1] = wanted[w];
	}
}

static int encode_texts(const struct vhd_image *img, const char *path, struct relink *r,
			struct vhd_error *err)
{
	CLEANUP_FREE uint8_t *text = malloc(TEXT_MAX);
	uint32_t codes[VHD_LOCATORS];

	if (!text)
		return error_system(err, -ENOMEM, "change", img->io->name);
	choose_codes(img, codes);
	memset(r->header.locators, 0, sizeof(r->header.locators));
	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		struct vhd_locator_entry *e = &r->header.locators[i];
		int length;

		if (!codes[i])
			continue;
		length = locator_encode(codes[i], path, text, TEXT_MAX, err);
		if (length < 0 && is_old(codes[i])) /* W2ru says it */
			continue;
		if (length < 0)
			return length;
		e->code = codes[i];
		e->length = (uint32_t)length;
		e->space = (uint32_t)number_max(PLAN_LOCATOR_BYTES,
						number_round_up((uint64_t)length, VHD_SECTOR));
		r->text[i] = calloc(1, e->space);
		if (!r->text[i])
			return error_system(err, -ENOMEM, "change", img->io->name);
		memcpy(r->text[i], text, (size_t)length);
	}
	return 0;
}

static int encode_parent(const struct vhd_image *img, const struct relink_parent *parent,
			 struct relink *r, struct vhd_error *err)
{
	struct vhd_header *h = &r->header;
	int rc;

	*h = img->header;
	memcpy(h->parent_uuid, parent->id, VHD_UUID_BYTES);
	h->parent_timestamp = parent->timestamp;
	rc = header_name_parent(h, parent->path, err);
	return rc < 0 ? rc : encode_texts(img, parent->path, r, err);
}

/* Are the locators there already, each with this text? */
static bool texts_same(const struct vhd_image *img, const struct relink *r)
{
	CLEANUP_FREE uint8_t *text = malloc(TEXT_MAX);

	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		const struct vhd_locator_entry *old = &img->header.locators[i];
		const struct vhd_locator_entry *new = &r->header.locators[i];

		if (old->code != new->code || old->length != new->length)
			return false;
		if (old->code &&
		    (!text || !locator_usable(old, img->file_bytes) || old->length > TEXT_MAX ||
		     io_read(img->io, text, old->length, old->offset) < 0 ||
		     memcmp(text, r->text[i], old->length) != 0))
			return false;
	}
	return true;
}

/* ── where it goes ── */

static int place_all(struct vhd_image *img, struct relink *r, struct vhd_error *err)
{
	bool beside = r->how == RELINK_BESIDE, fits;
	struct places p;

	places_begin(&p, img, !beside);
	r->header_at = places_take(&p, VHD_HEADER_BYTES);
	fits = r->header_at != 0;
	for (unsigned i = 0; i < VHD_LOCATORS && fits; i++) {
		struct vhd_locator_entry *e = &r->header.locators[i];

		if (!e->code)
			continue;
		e->offset = places_take(&p, e->space);
		fits = e->offset != 0;
	}
	r->footer_at = p.end;
	if (fits)
		return 0;
	if (beside)
		return error_set(
			err, -VHD_E_BUSY,
			"cannot change the parent of '%s': it is in use, and the room in it "
			"for another parent's path is too small; pause or end that use, then "
			"try again",
			img->io->name);
	return error_system(err, -ENOSPC, "change the parent of", img->io->name);
}

/* Is what differs between two headers within one sector?  Which one: *sector. */
static bool one_sector(const uint8_t *a, const uint8_t *b, unsigned *sector)
{
	bool first = memcmp(a, b, VHD_SECTOR) != 0;
	bool second = memcmp(a + VHD_SECTOR, b + VHD_SECTOR, VHD_SECTOR) != 0;

	*sector = second;
	return !(first && second);
}

/* Can another writer's metadata lie in the sectors that are written? */
static int check_sectors(const struct vhd_image *img, struct vhd_error *err)
{
	if (img->io->sector_bytes <= VHD_SECTOR || (!img->io->device && !img->io->direct))
		return 0;
	return error_set(
		err, -VHD_E_BUSY,
		"cannot change the parent of '%s': it is in use, and its storage writes "
		"%u bytes at a time, header and block table together; pause that use, then "
		"try again",
		img->io->name, img->io->sector_bytes);
}

/* Do with one sector of the header, if it can be: the locators stay what and where they are. */
static bool plan_one_sector(struct vhd_image *img, struct relink *r)
{
	uint8_t old[VHD_HEADER_BYTES], new[VHD_HEADER_BYTES];
	struct vhd_header header = r->header;
	unsigned sector;

	if (!texts_same(img, r))
		return false;
	memcpy(header.locators, img->header.locators, sizeof(header.locators));
	header_encode(&img->header, old);
	header_encode(&header, new);
	if (!one_sector(old, new, &sector))
		return false;
	r->how = memcmp(old, new, sizeof(old)) != 0 ? RELINK_ONE_SECTOR : RELINK_NOTHING;
	r->header = header;
	return true;
}

int relink_plan(struct vhd_image *img, const struct relink_parent *parent, bool beside,
		struct relink *r, struct vhd_error *err)
{
	int rc = 0;

	memset(r, 0, sizeof(*r));
	r->how = beside ? RELINK_BESIDE : RELINK_FLIP;
	r->footer_at = img->footer_offset;
	if (beside)
		rc = check_sectors(img, err);
	if (!rc)
		rc = encode_parent(img, parent, r, err);
	if (!rc && !plan_one_sector(img, r))
		rc = place_all(img, r, err);
	return rc;
}

void relink_release(struct relink *r)
{
	for (unsigned i = 0; i < VHD_LOCATORS; i++)
		free(r->text[i]);
	memset(r, 0, sizeof(*r));
}

/* ── writing ── */

static int write_header(struct vhd_image *img, const struct relink *r, uint64_t at)
{
	uint8_t raw[VHD_HEADER_BYTES];

	header_encode(&r->header, raw);
	return io_write(img->io, raw, sizeof(raw), at);
}

static int write_one_sector(struct vhd_image *img, const struct relink *r)
{
	uint8_t old[VHD_HEADER_BYTES], new[VHD_HEADER_BYTES];
	unsigned sector;
	int rc;

	header_encode(&img->header, old);
	header_encode(&r->header, new);
	one_sector(old, new, &sector);
	rc = io_write(img->io, new + sector *VHD_SECTOR, VHD_SECTOR,
		      img->header_offset + sector * VHD_SECTOR);
	return rc ? rc : io_sync(img->io);
}

/* Texts and the header where nothing refers to yet, durable. */
static int write_second(struct vhd_image *img, const struct relink *r)
{
	int rc = 0;

	for (unsigned i = 0; i < VHD_LOCATORS && !rc; i++)
		if (r->header.locators[i].code)
			rc = io_write(img->io, r->text[i], r->header.locators[i].space,
				      r->header.locators[i].offset);
	if (!rc)
		rc = write_header(img, r, r->header_at);
	return rc ? rc : io_sync(img->io);
}

/* The header is at @at, durable.  ORDER 13: the copy first, so that the one at the end decides. */
static int lead_to(struct vhd_image *img, uint64_t at)
{
	int rc;

	img->footer.data_offset = at;
	rc = image_put_footer(img->io, &img->footer, 0);
	if (!rc)
		rc = image_put_footer(img->io, &img->footer, img->footer_offset);
	if (!rc)
		img->header_offset = at;
	return rc;
}

/* Some programs look for the header nowhere but behind the copy of the footer: it goes back there,
 * where nothing refers to now. */
static int write_home(struct vhd_image *img, const struct relink *r)
{
	int rc;

	if (img->header_offset == VHD_FOOTER_BYTES ||
	    !image_is_free(img, VHD_FOOTER_BYTES, VHD_HEADER_BYTES))
		return 0;
	rc = write_header(img, r, VHD_FOOTER_BYTES);
	if (!rc)
		rc = io_sync(img->io);
	return rc ? rc : lead_to(img, VHD_FOOTER_BYTES);
}

static int write_flip(struct vhd_image *img, const struct relink *r)
{
	uint64_t old_end = img->footer_offset;
	int rc = 0;

	if (r->footer_at != old_end) { /* ORDER 6: room first */
		rc = image_put_footer(img->io, &img->footer, r->footer_at);
		img->footer_offset = r->footer_at;
	}
	if (!rc)
		rc = write_second(img, r);
	if (!rc)
		rc = lead_to(img, r->header_at);
	if (rc)
		return rc;
	img->header = r->header;
	return write_home(img, r);
}

/* The header over the old one, durable.  A server that writes its block table through the page cache
 * may write back a page from before: what is on the storage is looked at. */
static int store_header(struct vhd_image *img, const struct relink *r)
{
	uint8_t wanted[VHD_HEADER_BYTES], found[VHD_HEADER_BYTES];
	int rc = 0;

	header_encode(&r->header, wanted);
	for (int tries = 0; !rc && tries < 5; tries++) {
		rc = write_header(img, r, img->header_offset);
		if (!rc)
			rc = io_sync(img->io);
		if (!rc)
			rc = io_read(img->io, found, sizeof(found), img->header_offset);
		if (!rc && !memcmp(found, wanted, sizeof(found)))
			return 0;
	}
	return rc ? rc : -EIO;
}

/* The end footer is the server's, and leads to the old header's place: so the new one must come
 * to that place, two sectors that a power cut may tear.  Meanwhile the copy leads to a
 * whole one. */
static int write_beside(struct vhd_image *img, const struct relink *r)
{
	struct vhd_footer copy;
	uint8_t raw[VHD_FOOTER_BYTES];
	int rc = io_read(img->io, raw, sizeof(raw), 0);

	if (!rc)
		rc = footer_decode(raw, &copy, NULL);
	if (!rc)
		rc = write_second(img, r);
	if (rc)
		return rc;
	copy.data_offset = r->header_at;
	rc = image_put_footer(img->io, &copy, 0);
	if (!rc)
		rc = store_header(img, r);
	copy.data_offset = img->header_offset;
	return rc ? rc : image_put_footer(img->io, &copy, 0);
}

int relink_write(struct vhd_image *img, const struct relink *r, struct vhd_error *err)
{
	int rc = 0;

	switch (r->how) {
	case RELINK_NOTHING:
		break;
	case RELINK_ONE_SECTOR:
		rc = write_one_sector(img, r);
		break;
	case RELINK_FLIP:
		rc = write_flip(img, r);
		break;
	case RELINK_BESIDE:
		rc = write_beside(img, r);
		break;
	}
	if (rc < 0)
		return error_system(err, rc, "change the parent of", img->io->name);
	img->header = r->header;
	return 0;
}
