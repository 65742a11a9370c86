/* plan.c - laying out a new image */
#include "plan.h"

#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "bitmap.h"
#include "error.h"
#include "geometry.h"
#include "locator.h"
#include "utf16.h"

int plan_too_big(uint64_t bytes, struct vhd_error *err)
{
	error_set(err, -VHD_E_TOO_BIG,
		  "a disk of %llu bytes is more than a VHD can be: the format ends at 2040 GiB "
		  "(%llu bytes); make several disks and join them in the guest (LVM, RAID 0), or "
		  "use VHDX or qcow2 for this one",
		  (unsigned long long)bytes, (unsigned long long)VHD_SIZE_MAX);
	if (err) {
		err->has = VHD_HAS_VALUES;
		err->expected = VHD_SIZE_MAX;
		err->found = bytes;
	}
	return -VHD_E_TOO_BIG;
}

static int check_sizes(const struct plan_spec *s, uint32_t block_size, struct vhd_error *err)
{
	uint64_t most = number_max(s->size, s->max_size);

	if (!s->size || s->size % VHD_SECTOR)
		return error_set(err, -VHD_E_ARGUMENT,
				 "cannot make a disk of %llu bytes: the size must be a multiple of "
				 "512, and not 0",
				 (unsigned long long)s->size);
	if (s->max_size && s->max_size < s->size)
		return error_set(err, -VHD_E_ARGUMENT,
				 "cannot make room for %llu bytes: that is less than the disk's "
				 "%llu",
				 (unsigned long long)s->max_size, (unsigned long long)s->size);
	if (most > VHD_SIZE_MAX)
		return plan_too_big(most, err);
	if (s->type == VHD_TYPE_FIXED)
		return 0;
	if (!number_is_power_of_two(block_size) || block_size < VHD_BLOCK_MIN ||
	    block_size > VHD_BLOCK_MAX)
		return error_set(err, -VHD_E_ARGUMENT,
				 "cannot make blocks of %u bytes: a power of two from 4 KiB to 64 "
				 "MiB is needed",
				 block_size);
	return 0;
}

static int plan_footer(const struct plan_spec *s, struct plan *p, struct vhd_error *err)
{
	struct vhd_geometry g = geometry_for(s->size / VHD_SECTOR);
	struct vhd_footer *f = &p->footer;

	if (s->creator && strlen(s->creator) != 4)
		return error_set(err, -VHD_E_ARGUMENT, "a creator has four characters, not '%s'",
				 s->creator);
	f->features = VHD_FEATURE_RESERVED;
	f->version = VHD_VERSION_1_0;
	f->data_offset = s->type == VHD_TYPE_FIXED ? VHD_NO_OFFSET : VHD_FOOTER_BYTES;
	f->timestamp = s->timestamp;
	memcpy(f->creator_app, s->creator ? s->creator : "tap", 4);
	f->creator_version = s->creator ? 0x000a0000 : VHD_TAP_1_3;
	if (s->creator)
		memcpy(f->creator_os, "Wi2k", 4);
	if (s->creator && !memcmp(s->creator, "vpc ", 4))
		f->creator_version = 0x00050003;
	f->original_size = s->size;
	f->current_size = s->size;
	f->cylinders = g.cylinders;
	f->heads = g.heads;
	f->sectors_per_track = g.sectors_per_track;
	f->type = s->type;
	memcpy(f->uuid, s->id, VHD_UUID_BYTES);
	return 0;
}

static int plan_parent(const struct plan_spec *s, struct plan *p, struct vhd_error *err)
{
	static const uint32_t codes[PLAN_LOCATORS] = { LOCATOR_MACX, LOCATOR_W2KU, LOCATOR_W2RU };
	struct vhd_header *h = &p->header;
	int rc;

	memcpy(h->parent_uuid, s->parent_id, VHD_UUID_BYTES);
	h->parent_timestamp = s->parent_timestamp;
	rc = header_name_parent(h, s->parent_path, err);
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < PLAN_LOCATORS; i++) {
		int length = locator_encode(codes[i], s->parent_path, p->locators[i],
					    PLAN_LOCATOR_BYTES, err);

		if (length < 0)
			return length;
		h->locators[i] = (struct vhd_locator_entry){
			.code = codes[i],
			.space = PLAN_LOCATOR_BYTES,
			.length = (uint32_t)length,
			.offset = p->locators_at + i * PLAN_LOCATOR_BYTES,
		};
	}
	return 0;
}

uint64_t plan_stride(const struct plan *p)
{
	uint32_t sectors = p->header.block_size / VHD_SECTOR;
	uint32_t stride = bitmap_stride(sectors);

	/* from one aligned position to the next: 0 is not one, its successor is */
	return p->align ? bitmap_align(bitmap_align(0, sectors) + stride, sectors) -
				  bitmap_align(0, sectors) :
			  stride;
}

uint64_t plan_first_position(const struct plan *p)
{
	uint64_t end = p->metadata_end / VHD_SECTOR;

	return p->align ? bitmap_align(end, p->header.block_size / VHD_SECTOR) : end;
}

/* Do all blocks of the table fit below the last sector an entry can name? */
static bool reaches(const struct plan *p)
{
	uint32_t stride = bitmap_stride(p->header.block_size / VHD_SECTOR);
	uint64_t last = p->header.max_entries - 1ull;

	return plan_first_position(p) + last * plan_stride(p) + stride <= VHD_BAT_LAST;
}

static int plan_sparse(const struct plan_spec *s, uint32_t block_size, struct plan *p,
		       struct vhd_error *err)
{
	struct vhd_header *h = &p->header;
	uint64_t at;
	int rc = 0;

	h->data_offset = VHD_NO_OFFSET;
	h->table_offset = VHD_FOOTER_BYTES + VHD_HEADER_BYTES;
	h->version = VHD_VERSION_1_0;
	h->max_entries = (uint32_t)number_div_up(number_max(s->size, s->max_size), block_size);
	h->block_size = block_size;
	p->blocks = (uint32_t)number_div_up(s->size, block_size);
	p->bat_bytes = number_round_up(h->max_entries * 4ull, VHD_SECTOR);
	p->batmap = !s->creator;
	at = h->table_offset + p->bat_bytes;
	if (p->batmap) {
		p->batmap_at = at;
		p->batmap_bytes = (uint64_t)batmap_sectors(h->max_entries) * VHD_SECTOR;
		at += VHD_BATMAP_HEADER_BYTES + 2 * p->batmap_bytes;
	}
	if (s->type == VHD_TYPE_DIFFERENCING) {
		p->locators_at = at;
		at += PLAN_LOCATORS * PLAN_LOCATOR_BYTES + PLAN_SLOT_BYTES;
		rc = plan_parent(s, p, err);
	}
	p->metadata_end = at;
	p->align = true;
	p->align = reaches(p);
	if (!rc && !reaches(p))
		rc = error_set(err, -VHD_E_TOO_BIG,
			       "cannot make a disk of %llu bytes with blocks of %u: a block table "
			       "cannot name places beyond 2 TiB; use larger blocks",
			       (unsigned long long)number_max(s->size, s->max_size), block_size);
	return rc;
}

int plan_make(const struct plan_spec *s, struct plan *out, struct vhd_error *err)
{
	uint32_t block_size = s->block_size ? s->block_size : VHD_BLOCK_DEFAULT;
	int rc = check_sizes(s, block_size, err);

	if (rc < 0)
		return rc;
	memset(out, 0, sizeof(*out));
	if (s->key) {
		out->keyhash = s->key->keyhash;
		memcpy(out->nonce, s->key->nonce, sizeof(out->nonce));
		memcpy(out->hash, s->key->hash, sizeof(out->hash));
	}
	rc = plan_footer(s, out, err);
	if (!rc && s->type != VHD_TYPE_FIXED)
		rc = plan_sparse(s, block_size, out, err);
	return rc;
}

void plan_batmap_header(const struct plan *p, uint8_t raw[VHD_BATMAP_HEADER_BYTES])
{
	struct vhd_batmap_header h = {
		.offset = p->batmap_at + VHD_BATMAP_HEADER_BYTES,
		.sectors = (uint32_t)(p->batmap_bytes / VHD_SECTOR),
		.version = 0x00010002,
		.checksum = 0xffffffff,
		.keyhash = p->keyhash,
	};

	memcpy(h.nonce, p->nonce, sizeof(h.nonce));
	memcpy(h.hash, p->hash, sizeof(h.hash));
	memset(raw, 0, VHD_BATMAP_HEADER_BYTES);
	batmap_encode(&h, raw);
}
